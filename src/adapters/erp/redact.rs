//! What may be stored of an exchange: no secret, no configured field, no more than a few kilobytes.
//!
//! Used before anything reaches the ledger, a log or a terminal. Works on text, so that it holds
//! for JSON, XML, forms and pages alike, and for bodies that were cut.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest body that is stored, in bytes.
pub const MAX_KEPT: usize = 4096;
/// How much of a body is processed.
const MAX_SEEN: usize = 64 * 1024;
/// Shorter secrets are not looked for: they would be found everywhere.
const SHORTEST_SECRET: usize = 4;
/// The replacement of hidden values.
pub const HIDDEN: &str = "***";

/// Hides secrets and fields.
#[derive(Clone, Default)]
pub struct Mask {
    patterns: Vec<String>,
    fields: Vec<String>,
}

impl Mask {
    /// Hides these secrets, and the values of these fields wherever they are.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>, fields: &[String]) -> Self {
        let mut mask = Self { patterns: Vec::new(), fields: fields.to_vec() };
        secrets.into_iter().for_each(|secret| mask.hide(secret));
        mask
    }

    /// Hides this secret, too, in every encoding that it can have in a request.
    pub fn hide(&mut self, secret: &str) {
        if secret.len() < SHORTEST_SECRET {
            return;
        }
        let json = serde_json::Value::from(secret).to_string();
        let forms = [
            secret.to_owned(),
            json.trim_matches('"').to_owned(),
            utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
            super::recipe::templates::xml_text(secret),
            STANDARD.encode(secret),
        ];
        for form in forms {
            if !self.patterns.contains(&form) {
                self.patterns.push(form);
            }
        }
        // The longest first: a part must not be hidden before the whole.
        self.patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.len()));
    }

    /// `text` as it may be stored.
    pub fn clean(&self, text: &str) -> String {
        let seen = cut(text, MAX_SEEN);
        let mut cleaned = self.hide_in(seen);
        for field in &self.fields {
            cleaned = hide_field(&cleaned, field);
        }
        if cleaned.len() <= MAX_KEPT && seen.len() == text.len() {
            return cleaned;
        }
        format!("{}… ({} bytes in all)", cut(&cleaned, MAX_KEPT), text.len())
    }

    /// `text` without secrets, whole.
    pub fn hide_in(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for pattern in &self.patterns {
            if hidden.contains(pattern.as_str()) {
                hidden = hidden.replace(pattern.as_str(), HIDDEN);
            }
        }
        hidden
    }
}

/// The start of `text`, at most `max` bytes, cut at a character.
fn cut(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Hides the values of `field`: JSON members, XML elements and form fields of that name.
fn hide_field(text: &str, field: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(field) {
        let (before, after) = (&rest[..at], &rest[at + field.len()..]);
        out.push_str(before);
        out.push_str(field);
        let value = match before.chars().next_back() {
            Some('"') => json_value(after),
            Some('<' | ':') if opens_element(before) => xml_value(after),
            None | Some('?' | '&') => form_value(after),
            _ => None,
        };
        match value {
            Some((begin, end)) => {
                out.push_str(&after[..begin]);
                out.push_str(HIDDEN);
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Begin and end of the JSON value that follows `":`; the quotes of a text stay outside.
fn json_value(after: &str) -> Option<(usize, usize)> {
    let colon = after.strip_prefix('"')?.trim_start().strip_prefix(':')?.trim_start();
    let begin = after.len() - colon.len();
    let bytes = colon.as_bytes();
    let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted && depth == 0 => return Some((begin + 1, begin + index)),
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return Some((begin, begin + index)),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some((begin, begin + index + 1));
                }
            }
            b',' if depth == 0 => return Some((begin, begin + index)),
            _ => {}
        }
    }
    Some((begin, after.len()))
}

/// Whether `before` ends within the name of an opening tag.
fn opens_element(before: &str) -> bool {
    let name = before.rsplit('<').next().unwrap_or_default();
    let is_prefix = name.is_empty() || name.ends_with(':');
    before.contains('<') && is_prefix && !name.contains(['/', ' ', '>', '"'])
}

/// Begin and end of an element's text.
fn xml_value(after: &str) -> Option<(usize, usize)> {
    if !after.starts_with(['>', ' ', '\t', '\r', '\n']) {
        return None;
    }
    let begin = after.find('>')? + 1;
    let end = after[begin..].find('<').map_or(after.len(), |end| begin + end);
    (!after[..begin].ends_with("/>")).then_some((begin, end))
}

/// Begin and end of a form field's value.
fn form_value(after: &str) -> Option<(usize, usize)> {
    after.strip_prefix('=')?;
    Some((1, after.find('&').unwrap_or(after.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_it_can_take() {
        let mask = Mask::new(["p\"ss & wörd"], &[]);
        for text in [
            "p\"ss & wörd",
            r#"{"p":"p\"ss & wörd"}"#,
            "a=p%22ss%20%26%20w%C3%B6rd",
            "<p>p&quot;ss &amp; wörd</p>",
        ] {
            let cleaned = mask.clean(text);
            assert!(cleaned.contains(HIDDEN) && !cleaned.contains("ss"), "{cleaned}");
        }
    }

    #[test]
    fn configured_fields_are_hidden_in_json_xml_and_forms() {
        let mask = Mask::new([], &["email".to_owned(), "card".to_owned()]);
        assert_eq!(
            mask.clean(r#"{"email": "a\"b@c", "card":{"n":[1,"}"]},"x":1}"#),
            r#"{"email": "***", "card":***,"x":1}"#
        );
        assert_eq!(
            mask.clean("<cbc:email a='1'>x@y</cbc:email>"),
            "<cbc:email a='1'>***</cbc:email>"
        );
        assert_eq!(mask.clean("email=x%40y&b=1"), "email=***&b=1");
        assert_eq!(mask.clean(r#"{"email": "cut in the mid"#), r#"{"email": ***"#);
    }

    #[test]
    fn a_long_body_is_cut_and_says_so() {
        let kept = Mask::default().clean(&"ü".repeat(100_000));
        assert!(kept.len() < MAX_KEPT + 40);
        assert!(kept.ends_with("(200000 bytes in all)"));
    }

    proptest! {
        #[test]
        fn nothing_that_is_cleaned_holds_the_secret(text in any::<String>(), tail in any::<String>()) {
            let secret = "s3cr3t-of-ours";
            let mask = Mask::new([secret], &["a".to_owned()]);
            let cleaned = mask.clean(&format!("{text}{secret}{tail}"));
            prop_assert!(!cleaned.contains(secret));
        }
    }
}

//! Text from outside, made safe to show on one line.
//!
//! Order data and ERP answers are hostile: they may hold terminal escapes, line breaks that forge a
//! log line or a mail header, and marks that change the reading direction. Everything that shows
//! such text (logs, mails, tables, error messages) cleans it here first. HTML is escaped by the
//! template engine, not here.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that need no encoding in one segment of a URL path (RFC 3986, 3.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Longest error text of an ERP's answer that is stored, in characters (docs/facts/erps.md 1.8).
pub const MAX_ERROR_CHARS: usize = 500;

/// `text` on one line: white space folded, control, direction and invisible characters removed,
/// cut to `max_chars` characters with `…` as the last one when something was cut.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let mut line = String::with_capacity(text.len().min(max_chars * 4));
    let mut chars = 0;
    let mut gap = false;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = !line.is_empty();
            continue;
        }
        if is_unprintable(c) {
            continue;
        }
        let needed = 1 + usize::from(gap);
        if chars + needed > max_chars {
            while chars + 1 > max_chars && line.pop().is_some() {
                chars -= 1;
            }
            line.push('…');
            return line;
        }
        if gap {
            line.push(' ');
            gap = false;
        }
        line.push(c);
        chars += needed;
    }
    line
}

/// `text` cut to `max_chars` characters, with `…` as the last one when something was cut.
pub fn cut(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    text.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect()
}

/// `text` on one line in quotes with what is not seen of it made visible, and the first such character by its name:
/// `` `100042␣` (ends with a space, U+0020) ``.
pub fn quoted(text: &str, max_chars: usize) -> String {
    let is_unseen = |c: char| c.is_whitespace() || is_unprintable(c);
    let told = |what: &str, c: char| format!(" ({what} {})", unseen_name(c));
    let unseen = match (text.chars().next(), text.chars().next_back()) {
        (_, Some(last)) if is_unseen(last) => told("ends with", last),
        (Some(first), _) if is_unseen(first) => told("begins with", first),
        _ => text
            .chars()
            .find(|c| *c != ' ' && is_unseen(*c))
            .map_or_else(String::new, |c| told("contains", c)),
    };
    let end = text.trim_end_matches(is_unseen).len();
    let begin = text.len() - text.trim_start_matches(is_unseen).len();
    let mut shown = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            ' ' if (begin..end).contains(&at) => shown.push(' '),
            ' ' => shown.push('␣'),
            c if is_unseen(c) => shown.push_str(&format!("<U+{:04X}>", u32::from(c))),
            c => shown.push(c),
        }
    }
    format!("`{}`{unseen}", one_line(&shown, max_chars))
}

/// What a character is called that nobody sees, with its code point.
pub fn unseen_name(c: char) -> String {
    let name = match c {
        ' ' => "a space",
        '\t' => "a tab",
        '\n' => "a line feed",
        '\r' => "a carriage return",
        '\0' => "a null character",
        '\u{a0}' => "a no-break space",
        '\u{202f}' => "a narrow no-break space",
        '\u{3000}' => "an ideographic space",
        '\u{ad}' => "a soft hyphen",
        '\u{200b}' => "a zero width space",
        '\u{200c}' => "a zero width non-joiner",
        '\u{200d}' => "a zero width joiner",
        '\u{2060}' => "a word joiner",
        '\u{feff}' => "a byte order mark",
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            "a mark of the reading direction"
        }
        c if c.is_control() => "a control character",
        c if c.is_whitespace() => "a white space",
        _ => "an invisible character",
    };
    format!("{name}, U+{:04X}", u32::from(c))
}

/// Equivalent JSON without invisible characters and terminal controls. Outside of strings only
/// white space can be one, which is allowed; inside strings it is escaped.
pub fn shown_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        match c {
            '\n' => text.push('\n'),
            '\t' | '\r' => text.push(' '),
            c if is_unprintable(c) => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                text.extend(units.map(|unit| format!("\\u{unit:04x}")));
            }
            c => text.push(c),
        }
    }
    text
}

/// `text` as one segment of a URL path or query.
pub fn path_segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Whether `c` must not reach a terminal, a log or a mail as it is.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_line_breaks_and_direction_marks_do_not_survive() {
        assert_eq!(one_line("a\r\nBcc: b\t\u{1b}[31mred\u{202e}x\0", 80), "a Bcc: b [31mredx");
        assert_eq!(one_line("   ", 80), "");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(one_line("äöüß", 3), "äö…");
        assert_eq!(one_line("äöü", 3), "äöü");
        assert_eq!(one_line("ab cd", 3), "ab…");
    }

    #[test]
    fn only_what_is_too_long_is_cut_and_it_is_marked() {
        assert_eq!(cut("a\nö", 3), "a\nö");
        assert_eq!(cut("a\nöü", 3), "a\n…");
        assert_eq!(cut("", 3), "");
    }

    #[test]
    fn a_character_that_nobody_sees_is_shown_and_named() {
        for (text, told) in [
            ("100042", "`100042`"),
            ("a b", "`a b`"),
            ("100042 ", "`100042␣` (ends with a space, U+0020)"),
            (" 100042", "`␣100042` (begins with a space, U+0020)"),
            ("   ", "`␣␣␣` (ends with a space, U+0020)"),
            ("4711\u{a0}", "`4711<U+00A0>` (ends with a no-break space, U+00A0)"),
            ("47\u{200b}11", "`47<U+200B>11` (contains a zero width space, U+200B)"),
            ("\u{feff}4711", "`<U+FEFF>4711` (begins with a byte order mark, U+FEFF)"),
            ("a\u{202e}b", "`a<U+202E>b` (contains a mark of the reading direction, U+202E)"),
            ("a\nb", "`a<U+000A>b` (contains a line feed, U+000A)"),
            ("a\tb", "`a<U+0009>b` (contains a tab, U+0009)"),
            ("4711\0", "`4711<U+0000>` (ends with a null character, U+0000)"),
            ("a\u{1b}[31m", "`a<U+001B>[31m` (contains a control character, U+001B)"),
            ("a\u{2060}b", "`a<U+2060>b` (contains a word joiner, U+2060)"),
        ] {
            assert_eq!(quoted(text, 60), told, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_quoted_text_is_printable(text in ".*") {
            prop_assert!(!quoted(&text, 60).chars().any(|c| is_unprintable(c) || (c.is_whitespace() && c != ' ')));
        }

        #[test]
        fn the_result_is_one_printable_line_within_the_limit(text in "\\PC*|.*", max in 1usize..40) {
            let line = one_line(&text, max);
            prop_assert!(line.chars().count() <= max);
            prop_assert!(!line.chars().any(is_unprintable));
        }
    }
}

//! Pages in English and German. An English sentence is its own key; keys with a dot name words that need one
//! in English, too (`phase.parked`). A sentence of the code that the German catalog lacks does not
//! compile; tests/it/pages.rs looks for those of the templates.

use std::collections::HashMap;
use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT_LANGUAGE;

use crate::domain::language::Language;
use crate::web::auth::access::Access;

/// Cookie that keeps the reader's choice.
pub const LANGUAGE_COOKIE: &str = "order_relay_language";

static ENGLISH: LazyLock<HashMap<String, String>> =
    LazyLock::new(|| catalog(include_str!("../../../templates/web/en.toml")));
static GERMAN: LazyLock<HashMap<String, String>> = LazyLock::new(|| catalog(GERMAN_TEXT));
const GERMAN_TEXT: &str = include_str!("../../../templates/web/de.toml");
/// Where its lines begin.
const GERMAN_LINES: [usize; count_lines(GERMAN_TEXT)] = line_starts(GERMAN_TEXT);

fn catalog(text: &str) -> HashMap<String, String> {
    toml::from_str(text).expect("the catalogs are checked by a test")
}

/// A sentence or word that has a translation; made by [`key!`](crate::key) alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(&'static str);

/// The key of a text; a text without a translation does not compile.
///
/// ```
/// order_relay::key!("Lost orders");
/// ```
///
/// ```compile_fail,E0080
/// order_relay::key!("Nobody has translated this");
/// ```
#[macro_export]
macro_rules! key {
    ($text:literal) => {
        const { $crate::web::html::language::Key::translated($text) }
    };
}

impl Key {
    /// For `key!`, which calls it while compiling.
    #[allow(clippy::panic, reason = "it is evaluated while the program is compiled")]
    pub const fn translated(text: &'static str) -> Self {
        let mut line = 0;
        while line < GERMAN_LINES.len() {
            if is_entry(GERMAN_TEXT.as_bytes(), GERMAN_LINES[line], text.as_bytes()) {
                return Self(text);
            }
            line += 1;
        }
        panic!("this text is not in templates/web/de.toml")
    }

    /// The English sentence, or the name.
    pub fn text(self) -> &'static str {
        self.0
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.to_owned()
    }
}

const fn count_lines(text: &str) -> usize {
    let (mut at, mut lines) = (0, 1);
    while at < text.len() {
        lines += (text.as_bytes()[at] == b'\n') as usize;
        at += 1;
    }
    lines
}

const fn line_starts<const N: usize>(text: &str) -> [usize; N] {
    let (mut starts, mut at, mut line) = ([0; N], 0, 1);
    while at < text.len() {
        if text.as_bytes()[at] == b'\n' {
            starts[line] = at + 1;
            line += 1;
        }
        at += 1;
    }
    starts
}

/// Whether the line that begins at `start` is `"key" = …`.
const fn is_entry(text: &[u8], start: usize, key: &[u8]) -> bool {
    if start + key.len() + 2 > text.len() || text[start] != b'"' {
        return false;
    }
    let mut at = 0;
    while at < key.len() {
        if text[start + 1 + at] != key[at] {
            return false;
        }
        at += 1;
    }
    text[start + 1 + key.len()] == b'"'
}

impl Language {
    /// What the reader chose, else what the browser prefers, else English.
    pub fn of(headers: &HeaderMap, access: &Access) -> Self {
        let chosen = access.cookie(headers, LANGUAGE_COOKIE);
        if let Some(chosen) = chosen.and_then(Self::from_code) {
            return chosen;
        }
        let wanted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let mut wanted: Vec<(f32, &str)> =
            wanted.unwrap_or_default().split(',').map(weighed).collect();
        wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
        let known = |(_, code): (f32, &str)| Self::from_code(code.split('-').next()?);
        wanted.into_iter().find_map(known).unwrap_or(Self::En)
    }

    /// The sentence in this language.
    pub fn t(self, key: Key) -> &'static str {
        self.look_up(key.0).unwrap_or(key.0)
    }

    /// The word for a name in tables, such as `phase` and `parked`.
    pub fn word(self, kind: &str, name: &str) -> String {
        self.look_up(&format!("{kind}.{name}")).unwrap_or(name).to_owned()
    }

    /// A sentence from outside the pages, translated if it is known.
    pub fn said(self, text: &str) -> &str {
        self.look_up(text).unwrap_or(text)
    }

    fn look_up(self, key: &str) -> Option<&'static str> {
        let catalog = match self {
            Self::En => &ENGLISH,
            Self::De => &GERMAN,
        };
        catalog.get(key).map(String::as_str)
    }

    /// The sentence with its `{name}`s filled in.
    pub fn fill(self, key: Key, values: &[(&str, &str)]) -> String {
        fill(self.t(key), values)
    }

    /// The same for a sentence of a template.
    pub fn fill_said(self, text: &str, values: &[(&str, &str)]) -> String {
        fill(self.said(text), values)
    }

    /// The distance from now in seconds; negative for the past.
    pub fn distance(self, seconds: i64) -> String {
        let length = self.length(seconds.unsigned_abs());
        match (self, seconds > 0) {
            (Self::En, true) => format!("in {length}"),
            (Self::En, false) => format!("{length} ago"),
            (Self::De, true) => format!("in {length}"),
            (Self::De, false) => format!("vor {length}"),
        }
    }
}

fn fill(mut rest: &str, values: &[(&str, &str)]) -> String {
    // One pass: a value may itself look like a name.
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        let Some((name, after)) = after.split_once('}') else { break };
        let value = values.iter().find(|(known, _)| *known == name);
        text.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    text + rest
}

fn weighed(part: &str) -> (f32, &str) {
    let (code, weight) = part.trim().split_once(";q=").unwrap_or((part.trim(), "1"));
    (weight.trim().parse().unwrap_or(0.0), code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str, cookie: Option<&str>) -> Language {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
        if let Some(cookie) = cookie {
            headers.insert("cookie", cookie.parse().unwrap());
        }
        Language::of(&headers, &Access::new("http://localhost", 0))
    }

    #[test]
    fn the_readers_choice_goes_before_the_browsers() {
        assert_eq!(of("fr, de-AT;q=0.8, en;q=0.9", None), Language::En);
        assert_eq!(of("de-CH", None), Language::De);
        assert_eq!(of("xx", None), Language::En);
        assert_eq!(of("en", Some("a=b; order_relay_language=de")), Language::De);
    }

    #[test]
    fn values_are_filled_in_once() {
        let text = fill("{a} and {b}", &[("a", "{b}"), ("b", "x")]);
        assert_eq!(text, "{b} and x");
    }
}

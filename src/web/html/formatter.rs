//! How amounts, times and names are written for one reader.

use std::time::Duration;

use jiff::Timestamp;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use crate::domain::language::Language;
use crate::domain::money::Money;
use crate::domain::text::is_unprintable;
use crate::key;

/// Most of a document or of a message to an ERP that a page shows, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Formats times and numbers for a reader.
#[derive(Debug, Clone, Copy)]
pub struct Formatter {
    /// In which language.
    pub language: Language,
    /// Seen from when.
    pub now: Timestamp,
}

impl Formatter {
    /// A relative time with the exact one as an attribute; the script converts it to the reader's
    /// time zone.
    pub fn time(&self, at: Timestamp) -> Value {
        Value::from_safe_string(self.time_html(at))
    }

    /// The same, or nothing.
    pub fn time_or_none(&self, at: Option<Timestamp>) -> Value {
        at.map_or(Value::from(()), |at| self.time(at))
    }

    /// The same as text of a page.
    pub fn time_html(&self, at: Timestamp) -> String {
        let relative = self.language.distance(at.as_second() - self.now.as_second());
        let exact = at.strftime("%Y-%m-%d %H:%M:%S UTC");
        format!(r#"<time datetime="{at}" title="{exact}">{relative}</time>"#)
    }

    /// How long ago: "19 min".
    pub fn length(&self, since: Timestamp) -> String {
        let seconds = self.now.as_second() - since.as_second();
        self.language.duration(Duration::from_secs(seconds.max(0).unsigned_abs()))
    }

    /// A count.
    pub fn count(&self, number: u64) -> String {
        self.language.number(number)
    }

    /// Sums, one a currency.
    pub fn money(&self, money: &[Money]) -> Value {
        let sums = money.iter().map(|sum| {
            let unsummed = (sum.unsummed > 0).then(|| self.count(sum.unsummed));
            context! { amount => apart(&sum.amount), currency => &sum.currency, unsummed }
        });
        sums.collect()
    }
}

/// An exact decimal with thousands separated by a space, which no language reads as a decimal
/// point.
pub fn apart(amount: &str) -> String {
    let (whole, rest) = amount.split_at(amount.find('.').unwrap_or(amount.len()));
    let mut text = String::with_capacity(amount.len() + whole.len());
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text + rest
}

/// How a phase is coloured; never by colour alone.
pub fn tone_of_phase(phase: &str) -> &'static str {
    match phase {
        "transferred" => "good",
        "parked" => "bad",
        "retrying" | "outcome_unknown" | "held" => "wait",
        _ => "",
    }
}

/// A serialisable value, as a value of a template.
pub fn view(value: &impl Serialize) -> Value {
    Value::from(Serde(value))
}

/// A text of several lines without invisible characters and direction marks.
pub fn printable(text: &str) -> String {
    let keep = |c: char| c == '\n' || c == '\t' || !is_unprintable(c);
    text.chars().map(|c| if keep(c) { c } else { '\u{fffd}' }).collect()
}

/// The same of a long text: its beginning, and how much more there is.
pub fn beginning(language: Language, text: &str) -> String {
    let shown = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    match text.len() - shown.len() {
        0 => printable(text),
        rest => {
            let more = u64::try_from(rest.div_ceil(1_000)).unwrap_or(u64::MAX);
            let more = language.number(more);
            let more = language.fill(key!("… {n} kB more"), &[("n", more.as_str())]);
            format!("{}\n{more}", printable(shown))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_how_much_is_left() {
        assert_eq!(beginning(Language::En, "short"), "short");
        let long = "ä".repeat(MAX_TEXT_BYTES);
        let shown = beginning(Language::En, &long);
        assert!(shown.ends_with("ä\n… 66 kB more"), "{}", &shown[shown.len() - 40..]);
    }

    #[test]
    fn a_sum_has_its_thousands_apart_and_every_digit() {
        for (amount, shown) in [
            ("2292668.90", "2\u{202f}292\u{202f}668.90"),
            ("999.123456789", "999.123456789"),
            ("1000", "1\u{202f}000"),
            ("0", "0"),
        ] {
            assert_eq!(apart(amount), shown);
        }
    }
}

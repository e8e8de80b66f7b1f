//! English and German as a reader writes them: numbers, money, times and lengths of time.
//!
//! Two languages with the same plural rule and four formats need no Unicode database; the forms are those of CLDR.
//! Amounts are exact: digits are grouped and filled up, never rounded.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A language of pages and mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    En,
    De,
}

/// Currencies whose smallest unit is not a hundredth (ISO 4217).
const WITHOUT_HUNDREDTHS: [(&str, usize); 22] = [
    ("BIF", 0),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("ISK", 0),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("PYG", 0),
    ("RWF", 0),
    ("UGX", 0),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
    ("BHD", 3),
    ("JOD", 3),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("TND", 3),
];
/// Symbols that mean one currency in both languages.
const SYMBOLS: [(&str, &str); 3] = [("EUR", "€"), ("GBP", "£"), ("USD", "$")];

impl Language {
    pub const ALL: [Self; 2] = [Self::En, Self::De];

    /// Its ISO 639-1 code.
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.code() == code)
    }

    /// The language of a locale such as `de-AT`, `de_CH` or `DE`; English if it is none of ours.
    pub fn of_locale(locale: &str) -> Self {
        let language = locale.split(['-', '_']).next().unwrap_or_default();
        Self::from_code(&language.to_ascii_lowercase()).unwrap_or(Self::En)
    }

    /// Whether a number of things has the singular: the rule of both languages for whole numbers (CLDR, "one").
    pub fn is_singular(self, number: u64) -> bool {
        number == 1
    }

    /// A count with thousands separated.
    pub fn number(self, number: impl Into<i128>) -> String {
        let number: i128 = number.into();
        let sign = if number < 0 { "-" } else { "" };
        format!("{sign}{}", self.grouped(&number.unsigned_abs().to_string()))
    }

    fn grouped(self, digits: &str) -> String {
        let separator = match self {
            Self::En => ',',
            Self::De => '.',
        };
        let mut text = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(separator);
            }
            text.push(digit);
        }
        text
    }

    /// An exact amount: "€1,299.90" and "1.299,90 €". What is no plain decimal is shown as it is.
    pub fn amount(self, amount: &str, currency: &str) -> String {
        let (sign, digits) = amount.strip_prefix('-').map_or(("", amount), |digits| ("-", digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return format!("{amount} {currency}");
        }
        let known = WITHOUT_HUNDREDTHS.iter().find(|(code, _)| *code == currency);
        let places = known.map_or(2, |(_, places)| *places);
        // Zeros that say nothing are left out, digits that say something never.
        let fraction = fraction.trim_end_matches('0');
        let fraction = format!("{fraction:0<places$}");
        let point = match (fraction.is_empty(), self) {
            (true, _) => "",
            (false, Self::En) => ".",
            (false, Self::De) => ",",
        };
        let number = format!("{}{point}{fraction}", self.grouped(whole));
        let symbol = SYMBOLS.iter().find(|(code, _)| *code == currency).map(|(_, symbol)| *symbol);
        match (self, symbol) {
            (Self::En, Some(symbol)) => format!("{sign}{symbol}{number}"),
            (Self::En, None) => format!("{sign}{currency} {number}"),
            (Self::De, symbol) => format!("{sign}{number} {}", symbol.unwrap_or(currency)),
        }
    }

    /// How long something takes, in its largest unit.
    pub fn length(self, seconds: u64) -> String {
        let (number, unit) = measured(seconds);
        format!("{number} {}", unit[usize::from(self == Self::De)])
    }

    /// How long something took, in its two largest units: "1 h 42 min".
    pub fn duration(self, time: Duration) -> String {
        let seconds = time.as_secs();
        let size = match seconds {
            0..60 => 1,
            60..3_600 => 60,
            3_600..86_400 => 3_600,
            _ => 86_400,
        };
        let rest = seconds % size;
        let largest = self.length(seconds - rest);
        // Minutes and seconds are more exact than anybody needs.
        match size > 60 && rest >= 60 {
            true => format!("{largest} {}", self.length(rest)),
            false => largest,
        }
    }

    /// A moment in a time zone, to the minute.
    pub fn moment(self, at: Timestamp, zone: &TimeZone) -> String {
        let form = match self {
            Self::En => "%-d %b %Y, %H:%M (%Z)",
            Self::De => "%d.%m.%Y, %H:%M Uhr (%Z)",
        };
        at.to_zoned(zone.clone()).strftime(form).to_string()
    }
}

/// In the largest unit that is not more, with its name in English and German.
fn measured(seconds: u64) -> (u64, [&'static str; 2]) {
    match seconds {
        0..60 => (seconds, ["s", "Sek."]),
        60..3_600 => (seconds / 60, ["min", "Min."]),
        3_600..86_400 => (seconds / 3_600, ["h", "Std."]),
        _ => (seconds / 86_400, ["d", "Tg."]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use Language::{De, En};

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(En.number(1_234_567u64), "1,234,567");
        assert_eq!(De.number(-1_234i64), "-1.234");
        assert_eq!(En.number(12u64), "12");
    }

    #[test]
    fn money_is_written_as_the_reader_writes_it() {
        for (amount, currency, english, german) in [
            ("129.90", "EUR", "€129.90", "129,90 €"),
            ("129.9", "EUR", "€129.90", "129,90 €"),
            ("1234567", "EUR", "€1,234,567.00", "1.234.567,00 €"),
            ("0.5", "GBP", "£0.50", "0,50 £"),
            ("1299.9", "CHF", "CHF 1,299.90", "1.299,90 CHF"),
            ("1000", "JPY", "JPY 1,000", "1.000 JPY"),
            ("1.5", "KWD", "KWD 1.500", "1,500 KWD"),
            ("10.12345", "USD", "$10.12345", "10,12345 $"),
            ("-5", "EUR", "-€5.00", "-5,00 €"),
            ("1e3", "EUR", "1e3 EUR", "1e3 EUR"),
            ("", "EUR", " EUR", " EUR"),
        ] {
            assert_eq!(En.amount(amount, currency), english, "{amount} {currency}");
            assert_eq!(De.amount(amount, currency), german, "{amount} {currency}");
        }
    }

    #[test]
    fn times_are_written_as_the_reader_writes_them() {
        let at: Timestamp = "2026-07-05T09:07:08Z".parse().unwrap();
        let vienna = TimeZone::get("Europe/Vienna").unwrap();
        assert_eq!(En.moment(at, &vienna), "5 Jul 2026, 11:07 (CEST)");
        assert_eq!(De.moment(at, &vienna), "05.07.2026, 11:07 Uhr (CEST)");
        assert_eq!(De.moment(at, &TimeZone::UTC), "05.07.2026, 09:07 Uhr (UTC)");
    }

    #[test]
    fn lengths_are_told_in_their_two_largest_units() {
        for (seconds, english, german) in [
            (0, "0 s", "0 Sek."),
            (59, "59 s", "59 Sek."),
            (42 * 60 + 59, "42 min", "42 Min."),
            (3_600, "1 h", "1 Std."),
            (6_120, "1 h 42 min", "1 Std. 42 Min."),
            (90_000, "1 d 1 h", "1 Tg. 1 Std."),
        ] {
            let time = Duration::from_secs(seconds);
            assert_eq!((En.duration(time), De.duration(time)), (english.into(), german.into()));
        }
    }

    #[test]
    fn a_locale_says_the_language() {
        for (locale, language) in
            [("de", De), ("DE-at", De), ("de_CH", De), ("den", En), ("fr", En), ("", En)]
        {
            assert_eq!(Language::of_locale(locale), language, "{locale}");
        }
    }

    proptest! {
        #[test]
        fn no_digit_of_an_amount_is_lost(whole in "[1-9][0-9]{0,11}", fraction in "[0-9]{0,9}") {
            let amount = format!("{whole}.{fraction}");
            for language in Language::ALL {
                let shown = language.amount(&amount, "EUR");
                let digits: String = shown.chars().filter(char::is_ascii_digit).collect();
                let told = format!("{whole}{fraction}");
                prop_assert_eq!(digits.trim_end_matches('0'), told.trim_end_matches('0'));
            }
        }
    }
}

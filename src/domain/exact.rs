//! Decimal numbers with every digit, for sums and comparisons of money.
//!
//! Never a float, and no limit of digits but one that keeps a hostile number from filling the memory.

use bigdecimal::BigDecimal;

/// Longest number that is calculated with, in characters.
const MAX_CHARS: usize = 200;
/// Most places by which an exponent moves the point.
const MAX_PLACES: i64 = 200;

/// The number that `text` writes as JSON does; `None` if it is none, or longer than anything that is counted.
pub fn exact(text: &str) -> Option<BigDecimal> {
    let is_written = text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b".-+eE".contains(&b));
    if !is_written || text.len() > MAX_CHARS {
        return None;
    }
    let number: BigDecimal = text.parse().ok()?;
    let (_, places) = number.as_bigint_and_exponent();
    (-MAX_PLACES..=MAX_PLACES).contains(&places).then_some(number)
}

/// The digits of a number, without an exponent.
pub fn digits(number: &BigDecimal) -> String {
    number.to_plain_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_digit_counts() {
        let sum = |texts: &[&str]| digits(&texts.iter().map(|text| exact(text).unwrap()).sum());
        assert_eq!(sum(&["0.1", "0.2"]), "0.3");
        assert_eq!(sum(&["49.95", "49.95", "30.00"]), "129.90");
        assert_eq!(sum(&["1e3", "0.005", "-1000"]), "0.005");
        let long = "123456789012345678901234567890.123456789";
        assert_eq!(sum(&[long, "0"]), long);
    }

    #[test]
    fn what_is_no_number_or_would_fill_the_memory_is_none() {
        for text in
            ["", "-", "x", "1,5", "1_0", "NaN", "1.", ".5", "+1", "1e999999999", "1e-999999999"]
        {
            assert_eq!(exact(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,40}", number in "-?[0-9]{1,30}(\\.[0-9]{1,12})?") {
            drop(exact(&text));
            let read = exact(&number).unwrap();
            prop_assert_eq!(exact(&digits(&read)), Some(read));
        }
    }
}

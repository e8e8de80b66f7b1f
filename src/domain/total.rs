//! What was paid against what the ERP has booked.
//!
//! An order that is in the ERP with another sum is worse than one that is not there: it is a lost order with a
//! decision to make, and its draft stays a draft.

use bigdecimal::{BigDecimal, Zero};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::exact::exact;
use crate::domain::text::one_line;

/// The code of a failure that says so.
pub const TOTAL_DIFFERS: &str = "total_differs";
/// Most lines of a difference that are kept.
const MAX_LINES: usize = 50;
/// Most lines that a sentence names.
const NAMED_LINES: usize = 3;
/// Longest text that is kept of one value, in characters.
const MAX_CHARS: usize = 100;

/// A sum of money with its digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Amount {
    /// A decimal, as it was written.
    pub amount: String,
    /// ISO 4217, where it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
}

/// The sum that was paid and the one that the ERP has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TotalDifference {
    /// What the customer paid.
    pub paid: Amount,
    /// What the ERP has.
    pub found: Amount,
    /// The ERP's number of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub erp_order_id: Option<String>,
    /// The lines that differ, where the ERP shows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<LineDifference>,
}

/// A line that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineDifference {
    /// Its number from 1, and what it is.
    pub name: String,
    /// What was paid for it; nothing for a line that only the ERP has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<String>,
    /// What the ERP has for it; nothing for a line that the ERP does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

impl Amount {
    /// Whether both are the same sum, up to `tolerance`; `None` if one of them is no number. A currency counts
    /// where both name one.
    pub fn is_same(&self, other: &Self, tolerance: &BigDecimal) -> Option<bool> {
        let gap = exact(&self.amount)? - exact(&other.amount)?;
        let currencies = self.currency.as_ref().zip(other.currency.as_ref());
        Some(gap.abs() <= *tolerance && currencies.is_none_or(|(own, other)| own == other))
    }

    /// Whether the ERP's sum is what was `paid`, up to `tolerance`, or exactly what a person has accepted; `None` if
    /// neither can be said.
    pub fn is_right(
        &self,
        paid: &Self,
        accepted: Option<&Self>,
        tolerance: &BigDecimal,
    ) -> Option<bool> {
        let exactly = BigDecimal::zero();
        if accepted.and_then(|accepted| self.is_same(accepted, &exactly)) == Some(true) {
            return Some(true);
        }
        self.is_same(paid, tolerance)
    }

    fn cleaned(&self) -> Self {
        let cut = |text: &String| one_line(text, MAX_CHARS);
        Self { amount: cut(&self.amount), currency: self.currency.as_ref().map(cut) }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.currency {
            Some(currency) => write!(f, "{} {currency}", self.amount),
            None => f.write_str(&self.amount),
        }
    }
}

impl TotalDifference {
    /// The same with its texts cleaned and cut.
    pub fn cleaned(&self) -> Self {
        let cut = |text: &String| one_line(text, MAX_CHARS);
        let line = |line: &LineDifference| LineDifference {
            name: cut(&line.name),
            paid: line.paid.as_ref().map(cut),
            found: line.found.as_ref().map(cut),
        };
        Self {
            paid: self.paid.cleaned(),
            found: self.found.cleaned(),
            erp_order_id: self.erp_order_id.as_ref().map(cut),
            lines: self.lines.iter().take(MAX_LINES).map(line).collect(),
        }
    }

    /// Both sums and the first lines that differ.
    pub fn sentence(&self) -> String {
        let number = match &self.erp_order_id {
            Some(number) => format!(" as {number}"),
            None => String::new(),
        };
        let mut text = format!("paid {}, but in the ERP{number} it is {}", self.paid, self.found);
        let lines: Vec<String> =
            self.lines.iter().take(NAMED_LINES).map(LineDifference::sentence).collect();
        if !lines.is_empty() {
            text.push_str(": ");
            text.push_str(&lines.join("; "));
        }
        if self.lines.len() > NAMED_LINES {
            text.push_str(&format!("; and {} more lines", self.lines.len() - NAMED_LINES));
        }
        text
    }
}

impl LineDifference {
    fn sentence(&self) -> String {
        let Self { name, paid, found } = self;
        match (paid, found) {
            (Some(paid), Some(found)) => format!("{name}: {paid} paid, {found} there"),
            (Some(paid), None) => format!("{name}: {paid} paid, not there"),
            (None, Some(found)) => format!("{name}: {found} there, not paid"),
            (None, None) => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(amount: &str, currency: Option<&str>) -> Amount {
        Amount { amount: amount.to_owned(), currency: currency.map(str::to_owned) }
    }

    #[test]
    fn a_sum_is_the_same_by_its_worth_and_its_currency() {
        let same = |a: &Amount, b: &Amount, by: &str| a.is_same(b, &exact(by).unwrap());
        let paid = amount("119.00", Some("EUR"));
        assert_eq!(same(&paid, &amount("119", Some("EUR")), "0"), Some(true));
        assert_eq!(same(&paid, &amount("119", None), "0"), Some(true));
        assert_eq!(same(&paid, &amount("119.00", Some("USD")), "0"), Some(false));
        assert_eq!(same(&paid, &amount("119.01", Some("EUR")), "0"), Some(false));
        assert_eq!(same(&paid, &amount("118.99", Some("EUR")), "0.01"), Some(true));
        assert_eq!(same(&paid, &amount("118.98", Some("EUR")), "0.01"), Some(false));
        assert_eq!(same(&paid, &amount("free", Some("EUR")), "0"), None);
    }

    #[test]
    fn a_difference_says_both_sums_and_the_lines() {
        let line = |name: &str, paid: Option<&str>, found: Option<&str>| LineDifference {
            name: name.to_owned(),
            paid: paid.map(str::to_owned),
            found: found.map(str::to_owned),
        };
        let difference = TotalDifference {
            paid: amount("119.00", Some("EUR")),
            found: amount("141.61", Some("EUR")),
            erp_order_id: Some("S00042".to_owned()),
            lines: vec![
                line("line 1, SKU-1", Some("119.00"), Some("141.61")),
                line("line 2, SKU-2", Some("5"), None),
                line("Delivery", None, Some("4.90")),
                line("line 4, SKU-4", Some("1"), Some("2")),
            ],
        };
        assert_eq!(
            difference.sentence(),
            "paid 119.00 EUR, but in the ERP as S00042 it is 141.61 EUR: line 1, SKU-1: 119.00 paid, \
             141.61 there; line 2, SKU-2: 5 paid, not there; Delivery: 4.90 there, not paid; and 1 more lines"
        );
    }
}

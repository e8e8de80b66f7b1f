//! Sums of totals, exact to the last digit: whole units and billionths are counted separately, as
//! integers.
//!
//! The migrations (`total_units`) define which totals are summed: at most 12 digits before and 9
//! after the point, no sign, no exponent. All others are counted and reported.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NANOS_PER_UNIT: i128 = 1_000_000_000;

/// The exact sum of some orders in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// ISO 4217.
    pub currency: String,
    /// Exact decimal, e.g. `12990.50`.
    pub amount: String,
    /// Orders in this currency.
    pub orders: u64,
    /// How many of them are not in the sum: their total has more than 12 digits before or 9 after
    /// the point, a sign or an exponent.
    pub unsummed: u64,
}

/// A sum in progress, by currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purse(BTreeMap<String, Sum>);

/// Part of a sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Orders.
    pub orders: i64,
    /// Whole units of the currency.
    pub units: i64,
    /// Billionths of it; may be more than a whole.
    pub nanos: i64,
    /// Orders that are not in the sum.
    pub unsummed: i64,
}

impl Sum {
    /// One order with that total, by the same rule as the databases'.
    pub fn of_total(total: &str) -> Self {
        let (whole, fraction) = total.split_once('.').unwrap_or((total, ""));
        let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let fits = (1..=12).contains(&whole.len())
            && fraction.len() <= 9
            && is_digits(whole)
            && is_digits(fraction);
        let parsed = || Some((whole.parse().ok()?, format!("{fraction:0<9}").parse().ok()?));
        match parsed().filter(|_| fits) {
            Some((units, nanos)) => Self { orders: 1, units, nanos, unsummed: 0 },
            None => Self { orders: 1, units: 0, nanos: 0, unsummed: 1 },
        }
    }
}

impl Purse {
    /// Adds a part.
    pub fn add(&mut self, currency: &str, part: Sum) {
        let sum = self.0.entry(currency.to_owned()).or_default();
        sum.orders = sum.orders.saturating_add(part.orders);
        sum.units = sum.units.saturating_add(part.units);
        sum.nanos = sum.nanos.saturating_add(part.nanos);
        sum.unsummed = sum.unsummed.saturating_add(part.unsummed);
    }

    /// Adds a finished sum.
    pub fn add_money(&mut self, money: &Money) {
        let (units, fraction) = money.amount.split_once('.').unwrap_or((&money.amount, ""));
        // What `decimal` wrote: at most nine digits after the point.
        let part = Sum {
            orders: i64::try_from(money.orders).unwrap_or(i64::MAX),
            units: units.parse().unwrap_or(i64::MAX),
            nanos: format!("{fraction:0<9}").parse().unwrap_or(0),
            unsummed: i64::try_from(money.unsummed).unwrap_or(i64::MAX),
        };
        self.add(&money.currency, part);
    }

    /// Orders in all currencies.
    pub fn orders(&self) -> u64 {
        self.0.values().map(|sum| count(sum.orders)).sum()
    }

    /// The sums, by the name of their currency; those without an order are left out.
    pub fn into_money(self) -> Vec<Money> {
        let some = self.0.into_iter().filter(|(_, sum)| sum.orders > 0);
        some.map(|(currency, sum)| {
            let nanos = i128::from(sum.units) * NANOS_PER_UNIT + i128::from(sum.nanos);
            let amount = decimal(nanos, minor_digits(&currency));
            let (orders, unsummed) = (count(sum.orders), count(sum.unsummed));
            Money { currency, amount, orders, unsummed }
        })
        .collect()
    }
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Billionths as a decimal with at least `digits` digits after the point.
fn decimal(nanos: i128, digits: usize) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let per_unit = NANOS_PER_UNIT.unsigned_abs();
    let fraction = format!("{:09}", nanos % per_unit);
    let kept = fraction.trim_end_matches('0').len().max(digits);
    let point = if kept == 0 { "" } else { "." };
    let kept = fraction.get(..kept).unwrap_or(&fraction);
    format!("{sign}{}{point}{kept}", nanos / per_unit)
}

/// Digits after the point of a currency's smallest coin (ISO 4217 list one, "Mnr unts").
fn minor_digits(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(units: i64, nanos: i64) -> Sum {
        Sum { orders: 1, units, nanos, unsummed: 0 }
    }

    fn amount(currency: &str, parts: &[Sum]) -> String {
        let mut purse = Purse::default();
        parts.iter().for_each(|part| purse.add(currency, *part));
        purse.into_money().remove(0).amount
    }

    #[test]
    fn a_sum_keeps_every_digit_and_shows_at_least_the_smallest_coin() {
        assert_eq!(amount("EUR", &[sum(12_990, 500_000_000)]), "12990.50");
        assert_eq!(amount("EUR", &[sum(0, 999_999_999), sum(0, 1)]), "1.00");
        assert_eq!(amount("EUR", &[sum(0, 1)]), "0.000000001");
        assert_eq!(amount("JPY", &[sum(1200, 0)]), "1200");
        assert_eq!(amount("JPY", &[sum(1200, 500_000_000)]), "1200.5");
        assert_eq!(amount("KWD", &[sum(7, 250_000_000)]), "7.250");
    }

    #[test]
    fn a_total_is_one_part_when_it_is_plain() {
        assert_eq!(Sum::of_total("129.90"), sum(129, 900_000_000));
        assert_eq!(Sum::of_total("0"), sum(0, 0));
        assert_eq!(Sum::of_total("999999999999.999999999"), sum(999_999_999_999, 999_999_999));
        for odd in ["-1", "1e3", "1000000000000", "1.0000000001", "", ".5"] {
            assert_eq!(Sum::of_total(odd).unsummed, 1, "{odd}");
        }
    }

    #[test]
    fn currencies_are_never_added_to_each_other() {
        let mut purse = Purse::default();
        purse.add("EUR", sum(1, 0));
        purse.add("CHF", sum(2, 0));
        purse.add("USD", Sum { orders: 1, unsummed: 1, ..Sum::default() });
        purse.add("SEK", Sum::default());
        assert_eq!(purse.orders(), 3);
        let money = purse.into_money();
        let told: Vec<_> = money.iter().map(|m| (&*m.currency, &*m.amount, m.unsummed)).collect();
        assert_eq!(told, [("CHF", "2.00", 0), ("EUR", "1.00", 0), ("USD", "0.00", 1)]);
    }

    proptest! {
        #[test]
        fn the_order_of_the_parts_does_not_matter(
            mut parts in prop::collection::vec((0i64..1_000_000_000_000, 0i64..1_000_000_000), 1..50)
        ) {
            let of = |parts: &[(i64, i64)]| {
                amount("EUR", &parts.iter().map(|(u, n)| sum(*u, *n)).collect::<Vec<_>>())
            };
            let forward = of(&parts);
            parts.reverse();
            prop_assert_eq!(&forward, &of(&parts));
            let cents: i128 = parts.iter().map(|(u, n)| i128::from(*u) * NANOS_PER_UNIT + i128::from(*n)).sum();
            prop_assert_eq!(forward.split('.').next().unwrap(), (cents / NANOS_PER_UNIT).to_string());
        }
    }
}

//! Calculating in recipes: exact decimals, never floats.

use bigdecimal::{BigDecimal, RoundingMode, Zero};
use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use crate::domain::exact::{digits, exact};
use crate::domain::text::quoted;

use super::values::{self, Placeholder};

/// Digits behind the point that a division gives, before it is rounded.
const DIVISION_DIGITS: i64 = 40;
/// Most digits behind the point that are asked for.
const MAX_DIGITS: i64 = 40;

/// Adds the filters that calculate.
pub fn install(env: &mut Environment<'_>) {
    env.add_filter("round", |value: &Value, places: Option<i64>, mode: Option<&str>| {
        let (places, mode) = (places.unwrap_or(0), mode.unwrap_or("half_up"));
        Ok::<_, Error>(value_of(&rounded(&number(value)?, places, mode)?))
    });
    env.add_filter("sum", |value: &Value, named: Kwargs| {
        let attribute: Option<String> = named.get("attribute")?;
        named.assert_all_used()?;
        sum(value, attribute.as_deref())
    });
    env.add_filter("format", format);
    env.add_filter("abs", |value: &Value| Ok::<_, Error>(value_of(&number(value)?.abs())));
}

/// `left` and `right`, calculated by `sign`.
pub fn calculate(left: &Value, sign: &str, right: &Value) -> Result<Value, Error> {
    let (left, right) = (number(left)?, number(right)?);
    let made = match sign {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ if right.is_zero() => return Err(wrong("division by zero".to_owned())),
        _ => rounded(&(left / right), DIVISION_DIGITS, "half_even")?.normalized(),
    };
    Ok(value_of(&made))
}

/// The number that a value is or writes.
fn number(value: &Value) -> Result<BigDecimal, Error> {
    if values::is_missing(value) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let is_placeholder = value.downcast_object_ref::<Placeholder>().is_some();
    let is_number = is_placeholder || values::is_number(value) || value.as_str().is_some();
    let text = value.to_string();
    let number = is_number.then(|| exact(text.trim())).flatten();
    number.ok_or_else(|| wrong(format!("{} is not a number", quoted(&text, 60))))
}

fn value_of(number: &BigDecimal) -> Value {
    values::of_digits(&digits(number))
}

fn rounded(number: &BigDecimal, places: i64, mode: &str) -> Result<BigDecimal, Error> {
    let mode = match mode {
        "half_up" => RoundingMode::HalfUp,
        "half_even" => RoundingMode::HalfEven,
        "half_down" => RoundingMode::HalfDown,
        "up" => RoundingMode::Up,
        "down" => RoundingMode::Down,
        _ => {
            let modes = "half_up, half_even, half_down, up, down";
            return Err(wrong(format!("round: {} is not one of {modes}", quoted(mode, 20))));
        }
    };
    checked(places)?;
    Ok(number.with_scale_round(places, mode))
}

fn checked(places: i64) -> Result<(), Error> {
    match (0..=MAX_DIGITS).contains(&places) {
        true => Ok(()),
        false => Err(wrong(format!("{places} digits: expected 0 to {MAX_DIGITS}"))),
    }
}

/// The sum of a list, or of one field of each of its items; items without the field count as nothing.
fn sum(value: &Value, attribute: Option<&str>) -> Result<Value, Error> {
    if values::is_missing(value) {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let mut total = BigDecimal::zero();
    for item in value.try_iter()? {
        let item = match attribute {
            None => item,
            Some(name) => item.get_attr(name)?,
        };
        if attribute.is_none() || !(values::is_missing(&item) || item.is_none()) {
            total += number(&item)?;
        }
    }
    Ok(value_of(&total))
}

/// Exactly `places` digits behind the point, as a text. More digits than that are an error: `round` first.
fn format(value: &Value, places: i64) -> Result<String, Error> {
    checked(places)?;
    let number = number(value)?;
    let made = number.with_scale_round(places, RoundingMode::Down);
    match made == number {
        true => Ok(digits(&made)),
        false => Err(wrong(format!("`{number}` has more than {places} digits: round it first"))),
    }
}

fn wrong(detail: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(number: &str, places: i64, mode: &str) -> String {
        digits(&rounded(&exact(number).unwrap(), places, mode).unwrap())
    }

    #[test]
    fn rounding_says_how() {
        assert_eq!(told("1.005", 2, "half_up"), "1.01");
        assert_eq!(told("1.005", 2, "half_even"), "1.00");
        assert_eq!(told("1.005", 2, "half_down"), "1.00");
        assert_eq!(told("-1.005", 2, "half_up"), "-1.01");
        assert_eq!(told("1.001", 2, "up"), "1.01");
        assert_eq!(told("1.009", 2, "down"), "1.00");
        assert!(rounded(&exact("1").unwrap(), 2, "near").is_err());
        assert!(rounded(&exact("1").unwrap(), 1_000_000, "up").is_err());
    }

    #[test]
    fn a_format_loses_no_digit() {
        assert_eq!(format(&Value::from("9.5"), 2).unwrap(), "9.50");
        assert_eq!(format(&Value::from(3), 0).unwrap(), "3");
        assert!(
            format(&Value::from("9.505"), 2).unwrap_err().to_string().contains("round it first")
        );
    }

    #[test]
    fn a_sum_takes_a_field_of_each_item() {
        let lines = |json| values::of_json(&serde_json::from_str(json).unwrap());
        let all = lines(r#"[{"n": "0.1"}, {"n": 0.20}, {"m": 1}, {"n": null}]"#);
        assert_eq!(sum(&all, Some("n")).unwrap().to_string(), "0.30");
        assert_eq!(sum(&lines("[1, 2.5]"), None).unwrap().to_string(), "3.5");
        assert!(sum(&lines("[\"x\"]"), None).is_err());
    }
}

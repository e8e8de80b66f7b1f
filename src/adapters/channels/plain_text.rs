//! A message as plain text, for channels that take nothing else and for those that need a fallback.

use crate::domain::money::Money;
use crate::ports::channels::{FailedOrder, FailureDigest, MessageContent};

/// Sums in one line.
pub fn money(sums: &[Money]) -> String {
    let sum = |money: &Money| match money.unsummed {
        0 => format!("{} {}", money.amount, money.currency),
        unsummed => format!("{} {} (without {unsummed})", money.amount, money.currency),
    };
    sums.iter().map(sum).collect::<Vec<_>>().join(", ")
}

/// `422 rejected: text`
pub fn reason(class: &str, code: &str, message: &str) -> String {
    let mut reason =
        [class, code].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    if !message.is_empty() {
        reason =
            if reason.is_empty() { message.to_owned() } else { format!("{reason}: {message}") };
    }
    reason
}

/// A failed order in one line.
pub fn order_line(order: &FailedOrder) -> String {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let price = match (&order.total, &order.currency) {
        (Some(total), Some(currency)) => format!(", {total} {currency}"),
        _ => String::new(),
    };
    let why = reason(&text(&order.class), &text(&order.code), &text(&order.message));
    format!("{}/{}{price}: {why}", order.shop, order.order_id)
}

/// The lines of a message after its title, the most important first.
pub fn lines(content: &MessageContent) -> Vec<String> {
    let mut lines: Vec<String> = content.events.iter().map(|event| event.text.clone()).collect();
    if let Some(failures) = &content.failures {
        lines.extend(type_lines(failures));
        // One failure is its own list.
        if failures.count > 1 {
            lines.extend(failures.orders.iter().map(order_line));
            if failures.more_orders > 0 {
                lines.push(format!("and {} more", failures.more_orders));
            }
        }
    }
    lines
}

/// Each type of failure in one line.
pub fn type_lines(failures: &FailureDigest) -> Vec<String> {
    let line = |kind: &crate::ports::channels::FailureType| {
        let why = reason(&kind.class, &kind.code, &kind.message);
        match money(&kind.money) {
            sums if sums.is_empty() => format!("{} x {why}", kind.count),
            sums => format!("{} x {why} ({sums})", kind.count),
        }
    };
    let mut lines: Vec<String> = failures.types.iter().map(line).collect();
    if failures.more_types > 0 {
        lines.push(format!("and {} more types of failures", failures.more_types));
    }
    lines
}

/// As much of a text as fits into `max_bytes`, whole lines of it.
pub fn fitting(lines: &[String], max_bytes: usize) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() + 1 + "…".len() > max_bytes {
            text.push('…');
            return text;
        }
        text.push_str(line);
        text.push('\n');
    }
    text.trim_end().to_owned()
}

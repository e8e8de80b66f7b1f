//! Exchanges with an ERP for people: as lines, and as curl commands to repeat them by hand.

use std::io::{self, Write};

use crate::cli::output::local;
use crate::domain::text::{is_unprintable, one_line};
use crate::ports::erp::Exchange;
use crate::ports::order_desk::StoredExchange;

/// The request as a curl command. Secrets are not in it: put your own in place of `***`.
pub fn curl(exchange: &Exchange) -> String {
    let mut parts = vec![format!("curl -X {} {}", exchange.method, quoted(&exchange.url))];
    let headers = exchange.request_headers.lines();
    parts.extend(headers.map(|header| format!("-H {}", quoted(header))));
    if !exchange.request_body.is_empty() {
        parts.push(format!("--data-raw {}", quoted(&exchange.request_body)));
    }
    parts.join(" \\\n  ")
}

/// `text` as one shell word, without terminal controls.
fn quoted(text: &str) -> String {
    let safe: String = text
        .chars()
        .map(|c| if is_unprintable(c) && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c })
        .collect();
    format!("'{}'", safe.replace('\'', "'\\''"))
}

/// One exchange: what it was, what came back, and how to repeat it.
pub fn write_exchange(out: &mut dyn Write, exchange: &Exchange) -> io::Result<()> {
    let status = exchange.status.map(|status| format!("HTTP {status}, ")).unwrap_or_default();
    let message = exchange.message.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
    writeln!(
        out,
        "# {}: {status}{} after {} ms{}",
        one_line(&exchange.step, 60),
        one_line(&exchange.meaning, 60),
        exchange.duration_ms,
        one_line(&message, 510)
    )?;
    writeln!(out, "{}", curl(exchange))?;
    for line in exchange.reply.lines() {
        writeln!(out, "#< {}", one_line(line, 4_200))?;
    }
    writeln!(out)
}

/// Exchanges of an order by attempt.
pub fn write_stored(out: &mut dyn Write, stored: &[StoredExchange]) -> io::Result<()> {
    let mut last = None;
    for one in stored {
        if last != Some((one.attempt, one.at)) {
            writeln!(
                out,
                "\nExchanged with the ERP in attempt {} ({})",
                one.attempt,
                local(one.at)
            )?;
            last = Some((one.attempt, one.at));
        }
        write_exchange(out, &one.exchange)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Stage;

    #[test]
    fn a_request_can_be_pasted_into_a_shell() {
        let exchange = Exchange {
            step: "commit".to_owned(),
            question: false,
            method: "POST".to_owned(),
            url: "http://erp/orders?a=1".to_owned(),
            request_headers: "content-type: application/json\nauthorization: ***".to_owned(),
            request_body: "{\"name\": \"O'Neil\"}".to_owned(),
            status: None,
            stage: Stage::Before,
            meaning: "not sent".to_owned(),
            message: None,
            reply: String::new(),
            duration_ms: 0,
        };
        assert_eq!(
            curl(&exchange),
            "curl -X POST 'http://erp/orders?a=1' \\\n  -H 'content-type: application/json' \\\n  \
             -H 'authorization: ***' \\\n  --data-raw '{\"name\": \"O'\\''Neil\"}'"
        );
    }
}

//! The demo's narrator: the log events of the workers, printed for a person line by line.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::domain::text::one_line;

/// Prints events on standard output from now on.
pub fn start() {
    let color = std::io::stdout().is_terminal();
    drop(tracing_subscriber::registry().with(Narrator { color }).try_init());
}

/// One line about an order.
pub fn tell(order_id: &str, what: &str) {
    println!("{:>8}  {what}", one_line(order_id, 40));
}

struct Narrator {
    color: bool,
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Narrator {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if !event.metadata().target().starts_with("order_relay") {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let fields = fields.0;
        let get = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if let Some((mark, text)) = narrate(get) {
            let order = get("order_id");
            match (self.color, mark) {
                (true, Mark::Good) => tell(order, &format!("\u{1b}[32m{text}\u{1b}[0m")),
                (true, Mark::Bad) => tell(order, &format!("\u{1b}[31m{text}\u{1b}[0m")),
                _ => tell(order, &text),
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Plain,
    Good,
    Bad,
}

fn narrate<'a>(get: impl Fn(&str) -> &'a str) -> Option<(Mark, String)> {
    Some(match get("message") {
        "order.submitted" if get("found") == "true" => (
            Mark::Good,
            format!(
                "was in the ERP already: found by asking, not sent twice (attempt {})",
                get("attempt")
            ),
        ),
        "order.submitted" => (Mark::Good, format!("is in the ERP (attempt {})", get("attempt"))),
        "order.failed" => {
            let next = match (get("phase"), get("next_attempt_in_s")) {
                ("retrying", seconds) => format!("retried in {seconds} s"),
                ("outcome_unknown", _) => {
                    "outcome unknown: the ERP is asked before anything is sent again".to_owned()
                }
                _ => "parked: a lost order, waits for a person".to_owned(),
            };
            let text = format!(
                "failed with {} ({}), failure {} of {}; {next}",
                get("code"),
                get("class"),
                get("fail_count"),
                get("max")
            );
            (Mark::Bad, one_line(&text, 300))
        }
        "mail.composed" => {
            let what = match (get("kind"), get("notices")) {
                ("customer_confirmation", _) => "to a customer: the order is in the ERP".to_owned(),
                ("entered_twice", _) => {
                    "to the administrators: the ERP has an order twice".to_owned()
                }
                ("circuit_opened", _) => "to the administrators: the ERP is not usable".to_owned(),
                ("circuit_closed", _) => {
                    "to the administrators: the ERP is usable again".to_owned()
                }
                ("circuit_unstable", _) => "to the administrators: the ERP is unstable".to_owned(),
                ("failure_type_new", _) => {
                    "to the administrators: new types of failures".to_owned()
                }
                ("failure_type_back", _) => {
                    "to the administrators: types of failures that have come back".to_owned()
                }
                ("failure_type_unstable", _) => {
                    "to the administrators: types of failures that come and go".to_owned()
                }
                ("failure_type_ended", _) => {
                    "to the administrators: types of failures that have ended".to_owned()
                }
                (_, "1") => "to the administrators: one failed order".to_owned(),
                (_, many) => format!("to the administrators: one digest of {many} failures"),
            };
            (Mark::Plain, format!("mail kept, {what}"))
        }
        "circuit.opened" => (
            Mark::Bad,
            format!("the ERP is not usable, work pauses: {}", one_line(get("code"), 200)),
        ),
        "circuit.trial" => (Mark::Plain, "the ERP is tested with one order".to_owned()),
        "circuit.closed" => (Mark::Good, "the ERP is back, work continues".to_owned()),
        "dead_letter.kept" => {
            (Mark::Bad, format!("a message could not be accepted: {}", get("reason")))
        }
        _ => return None,
    })
}

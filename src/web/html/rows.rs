//! The template values of orders, exchanges, differences and groups.

use std::collections::BTreeMap;

use minijinja::{Value, context};

use crate::domain::edit::Difference;
use crate::domain::language::Language;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::{OrderState, Phase};
use crate::domain::text::one_line;
use crate::ports::erp::Exchange;
use crate::ports::failure_groups::Group;
use crate::web::html::charts::sparkline;
use crate::web::html::formatter::{Formatter, beginning, printable, tone_of_phase};
use crate::web::html::forms::order_address;

/// Longest text in a cell of a table, in characters.
const MAX_CELL: usize = 300;

/// An order in a list or at the head of its page.
pub fn order(formatter: &Formatter, order: &OrderRecord) -> Value {
    let (facts, failure) = (&order.facts, order.last_failure.as_ref());
    let state = order.phase.state();
    let is_open = state != OrderState::Confirmed;
    let is_lost = state == OrderState::OrderedFailed;
    let unknown = matches!(order.phase, Phase::OutcomeUnknown { .. });
    let failed = match order.max_count {
        Some(max) => format!("{}/{max}", order.fail_count),
        None => order.fail_count.to_string(),
    };
    let customer = match (&facts.customer.name, &facts.customer.number) {
        (Some(name), _) => one_line(name, 80),
        (None, Some(number)) => one_line(number, 80),
        (None, None) => {
            facts.customer.email.as_ref().map_or_else(String::new, |e| one_line(e.as_str(), 80))
        }
    };
    let erp_order_id = match &order.phase {
        Phase::Transferred { erp_order_id } => erp_order_id.as_deref().map(|id| one_line(id, 80)),
        _ => None,
    };
    context! {
        name => order.key.to_string(),
        href => order_address(&order.key),
        state => state.as_str(),
        phase => order.phase.name(),
        tone => tone_of_phase(order.phase.name()),
        failed,
        next => order.phase.due_at().map(|at| formatter.time(at)),
        class => failure.map(|f| f.summary.class.as_str()),
        code => failure.map(|f| one_line(&f.summary.code, 80)),
        message => failure.map(|f| one_line(&f.summary.message, MAX_CELL)),
        fingerprint => failure.map(|f| f.summary.fingerprint.clone()),
        customer,
        total => format!("{} {}", facts.total, facts.currency),
        received => formatter.time(order.received_at),
        erp_order_id,
        revision => &order.revision,
        transferring => order.claim.is_some(),
        may_transfer => is_open && !unknown,
        may_edit => is_lost && !unknown,
        may_remove => is_lost || order.phase == Phase::Held,
    }
}

/// What was typed into the fields of a form, which shows it again.
pub fn by_name<'a>(typed: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let typed: BTreeMap<String, String> =
        typed.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Value::from(typed)
}

/// A request and its answer.
pub fn exchange(language: Language, exchange: &Exchange) -> Value {
    let tone = match exchange.meaning.as_str() {
        "ok" | "found" | "accepted" => "good",
        "absent" => "",
        _ => "bad",
    };
    context! {
        method => &exchange.method,
        url => one_line(&exchange.url, 2_000),
        status => &exchange.status,
        stage => exchange.stage.as_str(),
        step => &exchange.step,
        meaning => &exchange.meaning,
        message => exchange.message.as_deref().map(|text| one_line(text, 500)),
        request_headers => printable(&exchange.request_headers),
        request_body => beginning(language, &exchange.request_body),
        reply => beginning(language, &exchange.reply),
        duration_ms => &exchange.duration_ms,
        tone,
    }
}

/// Where two documents differ.
pub fn differences(list: &[Difference]) -> Value {
    let shown = |text: &Option<String>| text.as_deref().map(|text| one_line(text, MAX_CELL));
    list.iter()
        .map(|d| {
            context! {
                place => one_line(&d.place, MAX_CELL),
                before => shown(&d.before),
                after => shown(&d.after),
                locked => &d.locked,
            }
        })
        .collect()
}

/// A group of equal failures.
pub fn group(formatter: &Formatter, group: &Group) -> Value {
    context! {
        fingerprint => &group.fingerprint,
        class => &group.class,
        code => one_line(&group.code, 80),
        message => one_line(&group.message, MAX_CELL),
        orders => formatter.count(group.orders),
        any => group.orders > 0,
        money => formatter.money(&group.money),
        shops => one_line(&group.shops.join(", "), MAX_CELL),
        first_seen => formatter.time(group.first_seen),
        last_seen => formatter.time(group.last_seen),
        spark => Value::from_safe_string(sparkline(formatter.language, &group.failures)),
        is_new => &group.is_new,
        note => &group.note,
        runbook => &group.runbook,
        noted_by => &group.noted_by,
        noted_at => formatter.time_or_none(group.noted_at),
    }
}

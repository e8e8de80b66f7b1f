//! Which orders a form means: a filter, a group, or those that were picked.

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::OrderFilter;
use crate::key;
use crate::ports::redrives::Selection;
use crate::web::html::context::{Failure, PageContext, unprocessable};
use crate::web::html::forms::{Fields, field};

/// The filter that the fields of an address or a form name.
pub fn filter_of(
    ctx: &PageContext,
    fields: &Fields,
    state: Option<OrderState>,
) -> Result<OrderFilter, String> {
    let pairs = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let now = ctx.web.ops.now();
    let filter = OrderFilter::from_pairs(pairs, now).map_err(|fault| fault.to_string())?;
    Ok(OrderFilter { state: state.or(filter.state), shops: ctx.shops(), ..filter })
}

/// Before the name of a filter's part in a form.
pub const FILTER: &str = "f.";

/// The separator between the previewed revision and the order, in a form.
pub const SEEN: char = ' ';

/// The orders of a form: those that were picked, or all that match its filter.
pub fn selection_of(form: &Fields) -> Result<Selection, Failure> {
    if let Some(id) = field(form, "failed_of") {
        let id = id.parse().map_err(|_| Failure::missing(key!("There is no such redrive.")))?;
        return Ok(Selection::FailedOf(id));
    }
    if field(form, "all").is_some() {
        let parts = filter_parts(form);
        let only = |name: &str| parts.len() == 1 && parts[0].0 == name;
        return Ok(match only("fingerprint") {
            true => Selection::Group(parts[0].1.clone()),
            false => Selection::Filter(parts.into_iter().collect()),
        });
    }
    let keys = picked(form);
    match keys.is_empty() {
        true => Err(unprocessable(key!("Pick at least one order."))),
        false => Ok(Selection::Orders(keys)),
    }
}

pub fn filter_parts(form: &Fields) -> Fields {
    let parts = form.iter().filter_map(|(name, value)| Some((name.strip_prefix(FILTER)?, value)));
    parts.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

pub fn picked(form: &Fields) -> Vec<OrderKey> {
    let names = form.iter().filter(|(name, _)| name == "order");
    names
        .filter_map(|(_, order)| {
            let (shop, order_id) = order.split_once('/')?;
            OrderKey::new(shop, order_id).ok()
        })
        .collect()
}

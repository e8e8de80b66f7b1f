//! A filter of orders as the API and the command line take it: a struct whose fields have the names of
//! the parts of [`OrderFilter`]; its other fields mean nothing here.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::order_filter::{OrderFilter, ValueFault};

/// The filter that the named texts of `query` mean, with times relative to `now`.
pub fn order_filter(query: &impl Serialize, now: Timestamp) -> Result<OrderFilter, ValueFault> {
    let fields = serde_json::to_value(query)
        .map_err(|error| ValueFault { field: "filter", detail: error.to_string() })?;
    let fields = fields.as_object().into_iter().flatten();
    let texts = fields.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    OrderFilter::from_pairs(texts, now)
}

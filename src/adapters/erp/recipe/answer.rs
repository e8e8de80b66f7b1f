//! An answer of the ERP as steps see it.

use std::sync::Arc;

use minijinja::value::Value;

use crate::adapters::erp::recipe::model::Outcome;
use crate::adapters::erp::recipe::reply::Read;

/// A reply and what it means.
#[derive(Clone)]
pub struct Reply {
    pub read: Arc<Read>,
    /// What it means.
    pub outcome: Outcome,
    /// Method and address.
    pub request: String,
}

/// A step that is done.
pub struct Done {
    /// Method and address.
    pub request: String,
    /// What it took out of the answer.
    pub taken: Vec<(String, Value)>,
}

//! An answer of the ERP as steps see it.

use std::sync::Arc;

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

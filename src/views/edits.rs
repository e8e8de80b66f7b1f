//! What an edit of an order changed, and the same change in many orders.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::edit::Difference;
use crate::views::orders::OrderView;

/// A stored edit.
#[derive(Serialize, JsonSchema)]
pub struct EditedView {
    /// Its number; also the ETag.
    pub revision: u32,
    /// Where it differs from the revision before.
    pub differences: Vec<Difference>,
    pub order: OrderView,
}

/// The same change in many orders.
#[derive(Serialize, JsonSchema)]
pub struct PatchedView {
    /// Whether it was only a preview.
    pub dry_run: bool,
    /// Orders that were changed, or would be.
    pub changed: usize,
    /// Orders that stay as they are; each says why.
    pub refused: usize,
    pub items: Vec<PatchedOrder>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
pub struct PatchedOrder {
    pub shop: String,
    pub order_id: String,
    /// Its newest revision afterwards; in a dry run the one that would be changed.
    pub revision: u32,
    /// What differs.
    pub differences: Vec<Difference>,
    /// Why it stays as it is.
    pub refused: Option<String>,
}

//! What people make of an order that came wrong: revisions beside the original, which stays.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;

use super::store::{Act, StoreError};
use crate::domain::order::{Order, OrderKey};
use crate::domain::state::{InvalidTransition, OrderRecord};

/// Editing in the ledger.
#[async_trait]
pub trait RevisionStore: Send + Sync {
    /// Makes a new revision of a lost order, with its audit row; what is sent from now on. The
    /// original stays what duplicates are compared with.
    async fn edit_order(
        &self,
        edit: EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError>;
    /// Those of these orders that the ledger has, each with the document that would be sent.
    async fn current(&self, keys: &[OrderKey]) -> Result<Vec<(OrderRecord, Arc<str>)>, StoreError>;
    /// The revisions of an order, oldest first.
    async fn revisions(&self, key: &OrderKey) -> Result<Vec<Revision>, StoreError>;
}

/// A document that a person made of an order.
#[derive(Debug, Clone, Serialize)]
pub struct Revision {
    /// From 1; 0 is what came.
    pub revision: u32,
    /// The document.
    pub document: Arc<str>,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// A document to be stored.
#[derive(Debug, Clone)]
pub struct EditRequest {
    /// The order; its document may not name another.
    pub key: OrderKey,
    /// The revision that was edited.
    pub base_revision: u32,
    /// What was made of it.
    pub edited: Arc<Order>,
    /// The places that differ, for the audit: never the values.
    pub places: String,
    /// Who, why, when.
    pub act: Act,
}

/// Why nothing was changed.
#[derive(Debug, Clone)]
pub enum NotEdited {
    /// There is no such order.
    Unknown,
    /// Its state does not allow it.
    Invalid(InvalidTransition),
    /// It has another revision by now; this one.
    Newer(Revision),
}

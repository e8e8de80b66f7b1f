//! One order as people see it, and what they do with it: remove, restore, edit, declare absent.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::ports::audit::{Act, AuditEntry};
use crate::ports::erp::Exchange;
use crate::ports::notices::StoredMail;
use crate::ports::second_entries::SecondEntry;
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::FoundTotal;

/// Rows of orders, without what happened to them.
#[async_trait]
pub trait OrderRecords: Send + Sync {
    /// Those of these orders that the ledger has, in whatever order.
    async fn records(&self, keys: &[OrderKey]) -> Result<Vec<OrderRecord>, StoreError>;
    /// One order's row.
    async fn record(&self, key: &OrderKey) -> Result<Option<OrderRecord>, StoreError> {
        Ok(self.records(std::slice::from_ref(key)).await?.pop())
    }
    /// One attempt of an order, once it has ended.
    async fn attempt(&self, key: &OrderKey, number: u32) -> Result<Option<Attempt>, StoreError>;
}

/// What people see of one order and do with it.
#[async_trait]
pub trait OrderDesk: Send + Sync {
    /// One order with its history.
    async fn order(&self, key: &OrderKey) -> Result<Option<OrderDetail>, StoreError>;
    /// Orders with this number, in whatever shop; at most 20.
    async fn find_orders(&self, order_id: &str) -> Result<Vec<OrderKey>, StoreError>;
    /// Takes an order off the list.
    async fn remove_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// Restores it.
    async fn restore_order(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// A person says that the ERP does not have an order whose outcome is unclear.
    async fn declare_absent(
        &self,
        key: &OrderKey,
        act: &Act,
    ) -> Result<Result<OrderRecord, InvalidTransition>, StoreError>;
    /// Writes an audit row about something that a person requests and a worker will do.
    async fn audit_order(&self, act: &Act, action: &str, key: &OrderKey) -> Result<(), StoreError>;
}

/// Edits of orders: revisions beside the original, which stays.
#[async_trait]
pub trait Revisions: Send + Sync {
    /// Stores a new revision of a lost order, with its audit row; it is sent from now on.
    /// Duplicates are still compared with the original.
    async fn edit_order(
        &self,
        edit: EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError>;
    /// Those of these orders that the ledger has, each with the document that would be sent.
    async fn current(&self, keys: &[OrderKey]) -> Result<Vec<(OrderRecord, Arc<str>)>, StoreError>;
    /// The revisions of an order, oldest first.
    async fn revisions(&self, key: &OrderKey) -> Result<Vec<Revision>, StoreError>;
}

/// An order with its history.
#[derive(Debug, Clone)]
pub struct OrderDetail {
    /// The order.
    pub record: OrderRecord,
    /// The original document.
    pub document: Arc<str>,
    /// Its revisions, oldest first.
    pub revisions: Vec<Revision>,
    /// How it was received.
    pub source: String,
    /// Its attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Further numbers that the ERP gave it, oldest first.
    pub second_entries: Vec<SecondEntry>,
    /// Sums in the ERP that differ from what was paid, oldest first.
    pub total_differences: Vec<FoundTotal>,
    /// Its exchanges with the ERP, oldest first.
    pub exchanges: Vec<StoredExchange>,
    /// Different payloads that arrived under its number.
    pub conflicts: Vec<Conflict>,
    /// Its mails.
    pub mails: Vec<StoredMail>,
    /// Actions of people on it.
    pub audit: Vec<AuditEntry>,
}

impl OrderDetail {
    /// The document that would be sent now: the newest revision, otherwise the original.
    pub fn current(&self) -> &Arc<str> {
        self.revisions.last().map_or(&self.document, |newest| &newest.document)
    }
}

/// One stored attempt.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Attempt {
    /// Its number.
    pub attempt: u32,
    /// `failed` or `succeeded`.
    pub outcome: String,
    /// What triggered it.
    pub trigger: String,
    /// The process that made it.
    pub worker: Option<String>,
    /// Error class.
    pub class: Option<String>,
    /// Error code.
    pub code: Option<String>,
    /// The ERP's text.
    pub message: Option<String>,
    /// How far the request got.
    pub stage: Option<String>,
    /// Method and address that were called.
    pub request: Option<String>,
    /// HTTP status.
    pub status: Option<u16>,
    /// When it ended.
    #[schemars(with = "String")]
    pub occurred_at: Timestamp,
    /// How long it took.
    pub duration_ms: u64,
    /// The ERP's number.
    pub erp_order_id: Option<String>,
    /// Whether the order was found by asking, not sent by this attempt.
    pub found: bool,
}

/// A stored exchange.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StoredExchange {
    /// The attempt it belongs to.
    pub attempt: u32,
    /// When that ended.
    #[schemars(with = "String")]
    pub at: Timestamp,
    #[serde(flatten)]
    pub exchange: Exchange,
}

/// A different payload that arrived under the number of a known order.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Conflict {
    /// The document.
    pub document: String,
    /// When it came.
    #[schemars(with = "String")]
    pub received_at: Timestamp,
    /// How it was received.
    pub source: String,
}

/// An edited document of an order.
#[derive(Debug, Clone)]
pub struct Revision {
    /// From 1; 0 is the original.
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
    /// The edited document.
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

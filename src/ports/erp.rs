//! The ERP as we need it: send one order, ask about one order.
//!
//! The answer to "did it happen?" is the point of this port: a [`Failure`] carries how far the call
//! got, and [`Answer::Absent`] is only said when the ERP itself said so.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::failure::Failure;
use crate::domain::order::OrderKey;

/// An order on its way to the ERP.
#[derive(Debug, Clone)]
pub struct OrderForErp {
    /// Who; also the idempotency key.
    pub key: OrderKey,
    /// The document.
    pub document: Arc<str>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Its vendor part.
    pub tracestate: Option<String>,
}

/// The ERP has the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The ERP's number of it, if it gave one.
    pub erp_order_id: Option<String>,
    /// Method and address that were called.
    pub request: String,
    /// Status of the answer.
    pub status: u16,
}

/// What the ERP said when it was asked about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Found(Receipt),
    /// It is certainly not there now.
    Absent,
    /// No usable answer; the order stays unsure.
    Unclear(Failure),
}

/// One ERP. Calls are bounded by [`Erp::call_budget`] and never retried inside.
#[async_trait]
pub trait Erp: Send + Sync {
    /// Sends one order, once.
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure>;
    /// Asks whether it is there.
    async fn ask(&self, order: &OrderForErp) -> Answer;
    /// Whether [`Erp::ask`] can answer at all.
    fn can_ask(&self) -> bool;
    /// Longest time one call can take.
    fn call_budget(&self) -> Duration;
}

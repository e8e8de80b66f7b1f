//! The right to be forgotten: what is personal goes, what proves that nothing was lost stays.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::order::values::OrderKey;
use crate::ports::audit::Act;
use crate::ports::store_error::StoreError;

/// What the ledger does to forget a customer.
#[async_trait]
pub trait Erasure: Send + Sync {
    /// Orders of a customer: by number, or by mail address.
    async fn orders_of_customer(&self, customer: &str) -> Result<Vec<OrderKey>, StoreError>;
    /// Why an order, or a text in these spellings, cannot be erased now.
    async fn hindrance(
        &self,
        order: Option<&OrderKey>,
        spellings: &[String],
    ) -> Result<Option<Hindrance>, StoreError>;
    /// Takes these spellings out of everything that is not an order; the number of rows that had one.
    async fn erase_texts(&self, spellings: &[String], now: Timestamp) -> Result<u64, StoreError>;
    /// Takes the order out of mails, channels and the audit, and notes it as erased: its own rows go as those of old
    /// orders do (`Retention::delete_noted_orders`). `false`: it changed, and is not finished any more.
    async fn erase_order(&self, order: &OrderKey, act: &Act) -> Result<bool, StoreError>;
}

/// What has to be dealt with first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// Somebody still has to be told about the order.
    WaitingMail,
    /// The ERP has it twice, and no person has settled that.
    EnteredTwice,
    /// A message that could not be accepted waits for a person.
    OpenDeadLetter(String),
}

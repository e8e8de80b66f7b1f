//! The ERPs of all shops, as operations of people need them: which one has a shop, which requests an order
//! would cause, and what its ERP says about it. Sending orders is not here: that is the submitter's.

use async_trait::async_trait;

use crate::ports::erp::{Exchange, OrderForErp, ProbeAnswer};

/// Name of the ERP of every shop without one of its own.
pub const DEFAULT_ERP: &str = "default";

/// Why an ERP could not be used for an order, in a sentence; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ErpUnusable(pub String);

/// The ERPs of all shops.
#[async_trait]
pub trait Erps: Send + Sync {
    /// The names of all ERPs, sorted, each once.
    fn names(&self) -> Vec<&str>;
    /// The name of the ERP that has the shop.
    fn erp_of_shop(&self, shop: &str) -> &str;
    /// The shop that has the ERP alone; none for the one that all others share.
    fn shop_of_erp(&self, erp: &str) -> Option<&str>;
    /// The requests that would be sent for an order now. Sends nothing.
    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, ErpUnusable>;
    /// Asks the order's ERP about it. Changes nothing.
    async fn ask(&self, order: &OrderForErp) -> Result<ProbeAnswer, ErpUnusable>;
}

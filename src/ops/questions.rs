//! Questions about an order's way to its ERP that change nothing: what would be sent, and what the ERP says.

use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::erp::{CommitPermit, Exchange, Journal, OrderForErp, ProbeAnswer};

impl Ops {
    /// The requests that would be sent for an order now. Sends nothing.
    pub async fn rehearse(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<Vec<Exchange>, Refusal> {
        let order = self.order_for_erp(person, key).await?;
        Ok(self.erps.rehearse(&order)?)
    }

    /// What the ERP says about an order, and every exchange that this took.
    pub async fn ask_erp(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<(ProbeAnswer, Vec<Exchange>), Refusal> {
        let order = self.order_for_erp(person, key).await?;
        person.authorize(Permission::Process, Some(key.shop.as_str()))?;
        let answer = self.erps.ask(&order).await?;
        Ok((answer, order.journal.take()))
    }

    async fn order_for_erp(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<OrderForErp, Refusal> {
        person.see(key)?;
        let mut current = self.store.current(std::slice::from_ref(key)).await?;
        let (record, document) = current.pop().ok_or_else(|| Refusal::not_found("order", key))?;
        Ok(OrderForErp {
            key: record.key,
            document,
            received_at: record.received_at,
            trace: record.trace,
            journal: Journal::of_everything(),
            permit: CommitPermit::default(),
            accepted: None,
            settled_from: None,
        })
    }
}

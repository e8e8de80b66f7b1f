//! Taking an order off the list of lost orders, and putting it back. Nothing is deleted.

use std::time::Duration;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::message::{EventKind, OrderEvent};
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ops::principal::authorize_order;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;

/// How long a person waits for an event that only others want.
const EVENT_PATIENCE: Duration = Duration::from_secs(2);

impl Ops {
    /// Removes an order from the list of lost orders, with a reason.
    pub async fn remove(&self, key: &OrderKey, act: &Act) -> Result<OrderRecord, Refusal> {
        authorize_order(act, Permission::Remove, key)?;
        self.record(key).await?;
        let record = self.store.remove_order(key, act).await?;
        let record = record.map_err(|invalid| Refusal::Invalid { key: key.clone(), invalid })?;
        self.tell(EventKind::Removed, &record, act).await;
        Ok(record)
    }

    /// Restores a removed order.
    pub async fn restore(&self, key: &OrderKey, act: &Act) -> Result<OrderRecord, Refusal> {
        authorize_order(act, Permission::Remove, key)?;
        self.record(key).await?;
        let record = self.store.restore_order(key, act).await?;
        let record = record.map_err(|invalid| Refusal::Invalid { key: key.clone(), invalid })?;
        self.tell(EventKind::Restored, &record, act).await;
        Ok(record)
    }

    /// The ledger already has it; a lost event is only logged.
    async fn tell(&self, kind: EventKind, record: &OrderRecord, act: &Act) {
        let mut event = OrderEvent::new(kind, &record.key, act.now);
        event.fail_count = record.fail_count;
        event.actor = Some(act.actor.clone());
        event.reason.clone_from(&act.reason);
        let trace = record.trace.clone();
        let message = self.outbound(&trace).event(&event);
        if let Err(error) = self.broker.publish(message, EVENT_PATIENCE).await {
            tracing::warn!(%error, event = kind.routing_key(), "event.not_published");
        }
    }
}

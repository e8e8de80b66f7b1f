//! Keeps messages that cannot be accepted as dead letters in the ledger.

use std::sync::Arc;

use crate::domain::order::fault::Fault;
use crate::ports::broker::Delivery;
use crate::ports::clock::Clock;
use crate::ports::dead_letters::{DeadLetterIntake, NewDeadLetter};
use crate::ports::store_error::StoreError;
use crate::telemetry::{Metrics, ReasonLabel};
use crate::workers::availability::Availability;

/// Stores dead letters for the workers of one process.
pub struct DeadLetterKeeper {
    pub(super) intake: Arc<dyn DeadLetterIntake>,
    pub(super) availability: Arc<Availability>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

impl DeadLetterKeeper {
    /// Stores a message with its fault; `source` is the queue it came from.
    pub async fn keep(
        &self,
        source: &str,
        delivery: &Delivery,
        fault: &Fault,
    ) -> Result<(), StoreError> {
        let id = self.clock.unique_id();
        self.availability
            .retry_until_available(|| {
                self.intake.record_dead_letter(NewDeadLetter {
                    id,
                    source: source.to_owned(),
                    fault: fault.clone(),
                    body: delivery.body.clone(),
                    headers: delivery.headers.clone(),
                    exchange: delivery.exchange.clone(),
                    routing_key: delivery.routing_key.clone(),
                    now: self.clock.now(),
                })
            })
            .await?;
        self.metrics.dead_letters.get_or_create(&ReasonLabel::new(fault.reason.as_str())).inc();
        let (reason, place) = (fault.reason.as_str(), fault.place.as_deref());
        tracing::warn!(source, reason, place, bytes = delivery.body.len(), "dead_letter.kept");
        Ok(())
    }
}

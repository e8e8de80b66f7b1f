//! The sweeper: finds in the ledger what lies about although something is due, and makes the message
//! for it again (DESIGN 3, row 12).
//!
//! It needs to know nothing about how a message got lost. One process sweeps at a time; should two
//! ever do, claims and try numbers make the second message a stale one.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::retry::later;
use crate::domain::state::{OrderState, Trigger};
use crate::ports::store::{ShopFilter, StoreError, Sweep};
use crate::telemetry::{PhaseLabels, StateLabel, WhatLabel};

use super::gate::Flow;
use super::relay::Relay;
use crate::ports::letters::Trace;

/// Most orders nudged in one round; the next round takes the next ones.
const MAX_ORDERS: u32 = 500;

/// `sweeper.*` of the settings.
#[derive(Debug, Clone, Copy)]
pub struct SweepRule {
    /// Pause between rounds.
    pub every: Duration,
    /// How long something may be overdue before it is made again.
    pub grace: Duration,
    /// How long an order that was swept is left alone.
    pub again_after: Duration,
}

/// The role.
pub struct Sweeper {
    relay: Arc<Relay>,
    rule: SweepRule,
}

impl Sweeper {
    /// The role over `relay`.
    pub fn new(relay: Arc<Relay>, rule: SweepRule) -> Self {
        Self { relay, rule }
    }

    /// Sweeps until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut first = true;
        while !stop.is_cancelled() {
            match self.round(first).await {
                Ok(()) => first = false,
                Err(error) if error.is_unavailable() => {
                    tracing::debug!(%error, "sweeper.skipped");
                }
                Err(error) => tracing::error!(%error, "sweeper.failed"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.rule.every) => {}
            }
        }
    }

    async fn round(&self, first: bool) -> Result<(), StoreError> {
        let relay = &self.relay;
        let now = relay.now();
        self.show_levels().await?;
        let lease = later(now, self.rule.every * 3 + Duration::from_secs(5));
        if !relay.store.lead("sweeper", &relay.worker, lease, now).await? {
            return Ok(());
        }
        if relay.store.has_due_mail(now).await? {
            relay.notices_wait();
            relay.metrics.sweeper_remade.get_or_create(&WhatLabel::new("notices")).inc();
        }
        // A transport without memory has forgotten everything that was under way at the start.
        let forgot = first && !relay.broker.is_durable();
        loop {
            let sweep = Sweep {
                now,
                grace: if forgot { Duration::ZERO } else { self.rule.grace },
                again_after: if forgot { Duration::ZERO } else { self.rule.again_after },
                shops: self.reachable_shops(),
                limit: MAX_ORDERS,
            };
            let overdue = relay.store.take_overdue(sweep).await?;
            let taken = overdue.len();
            if taken > 0 {
                reach(CrashPoint::Swept);
            }
            for order in overdue {
                let trace = Trace { parent: order.traceparent, state: None };
                let nudged = relay.nudge(&order.key, order.attempt, Trigger::Sweeper, &trace).await;
                if let Err(error) = nudged {
                    tracing::debug!(%error, "sweeper.not_published");
                    return Ok(());
                }
                let what = WhatLabel::new(&order.phase);
                relay.metrics.sweeper_remade.get_or_create(&what).inc();
            }
            // With `forgot` every order would be taken again and again.
            if forgot || taken < usize::try_from(MAX_ORDERS).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    /// Shops whose orders could be sent now; the others wait for their circuit.
    fn reachable_shops(&self) -> ShopFilter {
        let policies = &self.relay.policies;
        let stopped = |flow| flow == Flow::Stopped;
        let (closed, open): (Vec<_>, Vec<_>) =
            policies.shops.iter().partition(|(_, policy)| stopped(policy.gate.flow()));
        let names =
            |shops: Vec<(&String, _)>| shops.into_iter().map(|(name, _)| name.clone()).collect();
        if stopped(policies.default.gate.flow()) {
            ShopFilter::Only(names(open))
        } else {
            ShopFilter::Except(names(closed))
        }
    }

    /// Gauges that only the ledger knows.
    async fn show_levels(&self) -> Result<(), StoreError> {
        let (store, metrics) = (&self.relay.store, &self.relay.metrics);
        let counts = store.count_open().await?;
        let now = self.relay.now();
        metrics.orders_open.clear();
        for count in &counts {
            let labels = PhaseLabels::new(count.state.as_str(), &count.phase);
            metrics
                .orders_open
                .get_or_create(&labels)
                .set(i64::try_from(count.orders).unwrap_or(i64::MAX));
        }
        for state in [OrderState::Payed, OrderState::OrderedFailed] {
            let oldest = counts.iter().filter(|c| c.state == state).filter_map(|c| c.oldest).min();
            let age = oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs());
            metrics
                .orders_oldest_open_seconds
                .get_or_create(&StateLabel::new(state.as_str()))
                .set(age);
        }
        let mails = store.count_mails().await?;
        metrics.notices_waiting.set(i64::try_from(mails.waiting).unwrap_or(i64::MAX));
        Ok(())
    }
}

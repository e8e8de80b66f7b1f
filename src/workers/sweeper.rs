//! The sweeper: finds overdue orders, claims and notices in the ledger, and publishes their
//! messages again (docs/architecture.md, row 12).
//!
//! How a message got lost does not matter. One process sweeps at a time; if two do, claims and
//! attempt numbers make the second message stale.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::circuit::CircuitState;
use crate::domain::lifecycle::vocabulary::{OrderState, Trigger};
use crate::domain::order_filter::ShopFilter;
use crate::domain::retry::later;
use crate::ports::circuits::Circuits;
use crate::ports::clock::Stopwatch;
use crate::ports::ledger::LedgerProof;
use crate::ports::notices::{MailLevels, REFUSED_FOR};
use crate::ports::orders::{Overdue, OverdueOrders, Sweep};
use crate::ports::statistics::StatisticsFolding;
use crate::ports::store_error::StoreError;
use crate::ports::workers::{DeadProcesses, Leases};
use crate::telemetry::{PhaseLabels, StateLabel, WhatLabel};
use crate::workers::alarm_watcher::{AlarmLedger, AlarmWatcher};
use crate::workers::context::WorkerContext;
use crate::workers::dead_processes::HeartbeatWatch;
use crate::workers::policies::ShopPolicy;

/// What [`SweepRule::enough_waiting`] is in a service.
pub const ENOUGH_WAITING: u32 = 100;
/// How often a sweep that has more looks whether the queue has room again.
const REFILL_EVERY: Duration = Duration::from_millis(250);
/// Nudges in progress at the same time: one by one, each would wait for the confirm of the one
/// before.
const NUDGES_AT_ONCE: usize = 100;
/// How often the one process that sweeps compares all rows with the tally: that reads an index of all orders.
const COUNT_EVERY: Duration = Duration::from_mins(10);

/// `sweeper.*` of the settings.
#[derive(Debug, Clone, Copy)]
pub struct SweepRule {
    /// Pause between two sweeps.
    pub every: Duration,
    /// How long something may be overdue before its message is published again.
    pub grace: Duration,
    /// How long a swept order is not returned again.
    pub again_after: Duration,
    /// Messages in the submitter's queue beside which nothing is nudged: what waits there already is enough
    /// work, and new orders do not wait behind repeated ones.
    pub enough_waiting: u32,
}

crate::combined_port! {
    /// What the sweeper asks of the ledger.
    pub trait SweeperLedger: OverdueOrders, Leases, StatisticsFolding, LedgerProof, MailLevels, Circuits,
        DeadProcesses, AlarmLedger
}

/// The worker.
pub struct Sweeper {
    context: Arc<WorkerContext>,
    ledger: Arc<dyn SweeperLedger>,
    alarms: AlarmWatcher,
    rule: SweepRule,
}

impl Sweeper {
    /// A worker over `context`.
    pub fn new(
        context: Arc<WorkerContext>,
        ledger: Arc<dyn SweeperLedger>,
        rule: SweepRule,
    ) -> Self {
        let alarms = AlarmWatcher::new(context.clone());
        Self { context, ledger, alarms, rule }
    }

    /// Sweeps until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        // No other process can sweep for an in-process transport, and it has lost all messages when the process
        // started: what was swept before that is swept again.
        let started = self.context.now();
        let mut forgot = !self.context.broker.is_durable();
        let mut counted: Option<Stopwatch> = None;
        let mut dead = HeartbeatWatch::default();
        while !stop.is_cancelled() {
            match self.round(forgot.then_some(started), &mut dead, &mut counted, &stop).await {
                Ok(all) => forgot = forgot && !all,
                Err(error) => {
                    dead.start_again();
                    tell(&error);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.rule.every) => {}
            }
        }
    }

    /// One sweep; returns whether everything that is overdue was nudged.
    async fn round(
        &self,
        forgotten_since: Option<Timestamp>,
        dead: &mut HeartbeatWatch,
        counted: &mut Option<Stopwatch>,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let context = &self.context;
        let now = context.now();
        self.show_levels().await?;
        let lease = later(now, self.rule.every * 3 + Duration::from_secs(5));
        if context.broker.is_durable()
            && !self.ledger.acquire_lease("sweeper", &context.worker, lease, now).await?
        {
            dead.start_again();
            // Another process counts now.
            *counted = None;
            self.context.metrics.ledger_difference.set(0);
            return Ok(false);
        }
        for process in dead.observe(self.ledger.heartbeats().await?) {
            self.free_claims_of(&process).await?;
        }
        self.remake_notices(now).await?;
        self.ledger.fold_statistics(now).await?;
        if counted.as_ref().is_none_or(|since| since.elapsed() >= COUNT_EVERY) {
            self.show_difference().await?;
            *counted = Some(Stopwatch::start());
        }
        // What cannot be told now keeps no order from being sent.
        if let Err(error) = self.alarms.round(&*self.ledger).await {
            tell(&error);
        }
        let watch = Stopwatch::start();
        loop {
            let room = self.room_for_nudges().await;
            if room > 0 && self.nudge_overdue(forgotten_since, room).await? {
                return Ok(true);
            }
            if watch.elapsed() >= self.rule.every || stop.is_cancelled() {
                return Ok(false);
            }
            tokio::time::sleep(REFILL_EVERY).await;
        }
    }

    /// Ends the claims of a process that is gone.
    async fn free_claims_of(&self, process: &str) -> Result<(), StoreError> {
        if process == self.context.worker {
            return Ok(());
        }
        let claims = self.ledger.abandon_claims(process, self.context.now()).await?;
        if claims > 0 {
            tracing::warn!(process, claims, "process.died");
            self.context
                .metrics
                .sweeper_remade
                .get_or_create(&WhatLabel::new("claims"))
                .inc_by(claims);
        }
        Ok(())
    }

    /// Publishes the messages of up to `room` overdue orders again; returns whether there are no more.
    async fn nudge_overdue(
        &self,
        forgotten_since: Option<Timestamp>,
        room: u32,
    ) -> Result<bool, StoreError> {
        let now = self.context.now();
        let (grace, again_after) = match forgotten_since {
            Some(start) => (Duration::ZERO, now.duration_since(start).unsigned_abs()),
            None => (self.rule.grace, self.rule.again_after),
        };
        let shops = self.reachable_shops().await?;
        let sweep = Sweep { now, grace, again_after, shops, fresh_first: false, limit: room };
        let overdue = self.ledger.take_overdue(sweep).await?;
        let taken = u32::try_from(overdue.len()).unwrap_or(u32::MAX);
        if taken > 0 {
            reach(CrashPoint::Swept);
        }
        self.nudge_all(overdue).await;
        Ok(taken < room)
    }

    /// How many nudges the submitter's queue has room for; none while the broker does not say.
    async fn room_for_nudges(&self) -> u32 {
        let queue = self.context.broker.topology().names.submit();
        match self.context.broker.queue_status(&queue).await {
            Ok(status) => self.rule.enough_waiting.saturating_sub(status.ready),
            Err(error) => {
                tracing::debug!(%error, "sweeper.no_broker");
                0
            }
        }
    }

    /// Nudges the notifier when something is due and no nudge is waiting for it already.
    async fn remake_notices(&self, now: Timestamp) -> Result<(), StoreError> {
        let context = &self.context;
        if !self.ledger.has_due_mail(now).await? {
            return Ok(());
        }
        let queue = context.broker.topology().names.notify();
        let waiting = context.broker.queue_status(&queue).await.map_or(0, |status| status.ready);
        if waiting == 0 {
            context.publisher.notices_wait();
            context.metrics.sweeper_remade.get_or_create(&WhatLabel::new("notices")).inc();
        }
        Ok(())
    }

    /// Publishes the messages of overdue orders again, many at a time.
    async fn nudge_all(&self, overdue: Vec<Overdue>) {
        let context = &self.context;
        let nudges = stream::iter(overdue).map(|order| async move {
            let trace = order.trace;
            context.publisher.nudge(&order.key, order.attempt, Trigger::Sweeper, &trace).await.map(
                |()| {
                    let what = WhatLabel::new(&order.phase);
                    context.metrics.sweeper_remade.get_or_create(&what).inc();
                },
            )
        });
        let mut nudges = nudges.buffer_unordered(NUDGES_AT_ONCE);
        while let Some(nudged) = nudges.next().await {
            if let Err(error) = nudged {
                tracing::debug!(%error, "sweeper.not_published");
            }
        }
    }

    /// Shops whose orders could be sent now; the others wait for their circuit, and the trial of a
    /// half-open one fetches the order that it needs. Circuits are read from the ledger: this
    /// process may have no submitter that watches them.
    async fn reachable_shops(&self) -> Result<ShopFilter, StoreError> {
        let policies = &self.context.policies;
        let circuits = self.ledger.circuits().await?;
        let is_closed = |policy: &ShopPolicy| {
            let erp = policy.gate.erp_name();
            let circuit = circuits.iter().find(|circuit| circuit.erp == erp);
            circuit.is_none_or(|circuit| circuit.state == CircuitState::Closed)
        };
        let (reachable, waiting): (Vec<_>, Vec<_>) =
            policies.shops.iter().partition(|(_, policy)| is_closed(policy));
        let names =
            |shops: Vec<(&String, _)>| shops.into_iter().map(|(name, _)| name.clone()).collect();
        Ok(match is_closed(&policies.default) {
            true => ShopFilter::Except(names(waiting)),
            false => ShopFilter::Only(names(reachable)),
        })
    }

    /// Whether every received order still has its row.
    async fn show_difference(&self) -> Result<(), StoreError> {
        let difference = self.ledger.count_difference().await?;
        self.context.metrics.ledger_difference.set(difference);
        if difference != 0 {
            tracing::error!(difference, "ledger.difference: see `order-relay ledger check`");
        }
        Ok(())
    }

    /// Gauges that are read from the ledger.
    async fn show_levels(&self) -> Result<(), StoreError> {
        let (store, metrics) = (&self.ledger, &self.context.metrics);
        let counts = store.count_open().await?;
        let now = self.context.now();
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
        metrics.alerts_unheard.set(i64::try_from(mails.unheard).unwrap_or(i64::MAX));
        let since = now.checked_sub(REFUSED_FOR).unwrap_or(Timestamp::MIN);
        let refused = store.refused_receivers(since).await?.len();
        metrics.mail_receivers_refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
        Ok(())
    }
}

fn tell(error: &StoreError) {
    if error.is_unavailable() {
        tracing::debug!(%error, "sweeper.skipped");
    } else {
        tracing::error!(%error, "sweeper.failed");
    }
}

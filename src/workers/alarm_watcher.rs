//! The alarm watcher: tells the administrators that an ERP is usable again, and which types of failures are new, have
//! come back or have ended. It runs with the sweeper.
//!
//! The rule is in the domain (`domain/alarm.rs`). What is told is written together with the alarm, over the version
//! that was read: if this dies before that, the next round tells it; of two processes one does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::domain::alarm::{Alarm, Beginning};
use crate::domain::circuit::CircuitState;
use crate::domain::notice::{NoticeKind, failure_type_notice_id};
use crate::domain::retry::later;
use crate::ports::alarms::{Alarms, SeenFailureType, StoredAlarm, Subject, SubjectKind};
use crate::ports::circuits::Circuits;
use crate::ports::failure_groups::FailureGroups;
use crate::ports::mail::{NoticeDetail, Trouble};
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;
use crate::workers::context::WorkerContext;
use crate::workers::policies::AlarmPolicy;

/// Alarms, and types of failures, that are looked at in one round.
const MAX_LOOKS: u32 = 200;
/// A type of failures whose orders are lost is looked at again after this part of `mail.unstable_window`.
const LOOKS_IN_A_WINDOW: u32 = 4;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

crate::combined_port! {
    /// What the alarm watcher asks of the ledger.
    pub trait AlarmLedger: Alarms, Circuits, FailureGroups
}

/// The worker.
pub struct AlarmWatcher {
    context: Arc<WorkerContext>,
}

impl AlarmWatcher {
    /// A worker over `context`.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        Self { context }
    }

    /// Tells what has changed since the last round.
    pub async fn round<L: AlarmLedger + ?Sized>(&self, ledger: &L) -> Result<(), StoreError> {
        let now = self.context.now();
        // Alarms before circuits: one that opens in between is not taken for closed.
        let alarms = ledger.due_alarms(SubjectKind::Circuit, now, MAX_LOOKS).await?;
        for alarm in alarms {
            self.look_at_circuit(ledger, alarm, now).await?;
        }
        for seen in ledger.seen_failure_types(MAX_LOOKS).await? {
            self.look_at_failures(ledger, seen, now).await?;
        }
        for alarm in ledger.due_alarms(SubjectKind::FailureType, now, MAX_LOOKS).await? {
            self.look_for_an_end(ledger, alarm, now).await?;
        }
        Ok(())
    }

    async fn write<L: AlarmLedger + ?Sized>(
        &self,
        ledger: &L,
        alarm: StoredAlarm,
        notice: Option<Notice>,
    ) -> Result<bool, StoreError> {
        let kind = notice.as_ref().map(|notice| notice.kind.as_str());
        let written = ledger.write_alarm(alarm, notice).await?;
        if let Some(kind) = kind.filter(|_| written) {
            tracing::info!(kind, "alarm.changed");
            self.context.publisher.notices_wait();
        }
        Ok(written)
    }

    /// An ERP that is usable again is told when the orders that waited are through, or after a while.
    async fn look_at_circuit<L: AlarmLedger + ?Sized>(
        &self,
        ledger: &L,
        mut stored: StoredAlarm,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Subject::Circuit { erp } = stored.subject.clone() else { return Ok(()) };
        let shops = self.context.policies.shops_of_erp(&erp);
        let circuit = ledger.circuits().await?.into_iter().find(|circuit| circuit.erp == erp);
        let not_closed = circuit.filter(|circuit| circuit.state != CircuitState::Closed);
        let alarm = &stored.alarm;
        let Some(off_at) = alarm.off_at.filter(|_| alarm.on_since.is_none()) else {
            if not_closed.is_none() {
                // A process of the release before has closed it.
                let left = ledger.unfinished_orders(&shops, now, now).await?;
                stored.closes(left.waiting, now);
                self.write(ledger, stored, None).await?;
            }
            return Ok(());
        };
        let policy = &self.context.policies.named(&stored.shop).alarms;
        if !alarm.may_end(now, policy.damping) {
            return Ok(());
        }
        let left = ledger.unfinished_orders(&shops, alarm.began_at, off_at).await?;
        let is_through = left.waiting == 0 && left.unclear == 0;
        if !is_through && now < later(off_at, policy.back_within) {
            return Ok(());
        }
        stored.alarm.ends();
        // A person holds it by now.
        let held = not_closed.and_then(|circuit| circuit.reason).unwrap_or_default();
        let mut notice = stored.notice_of_circuit(NoticeKind::CircuitClosed, &erp, &held, now);
        if let Some(trouble) = &mut notice.detail.trouble {
            trouble.waiting = left.waiting;
            trouble.undecided = left.parked + left.unclear;
        }
        self.write(ledger, stored, Some(notice)).await.map(drop)
    }

    /// A type of failures that was seen: is it new, has it come back, does it come and go?
    async fn look_at_failures<L: AlarmLedger + ?Sized>(
        &self,
        ledger: &L,
        seen: SeenFailureType,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let policy = &self.context.policies.named(&seen.shop).alarms;
        if policy.failure_types {
            let (audience, fingerprint) = (policy.audience.clone(), seen.fingerprint.clone());
            let subject = Subject::FailureType { audience, fingerprint };
            let before = ledger.alarm(&subject).await?;
            let (stored, told) = see(policy, subject, before, &seen);
            let notice = match told {
                Some(kind) => Some(self.notice(ledger, kind, &stored, &seen, now).await?),
                None => None,
            };
            if !self.write(ledger, stored, notice).await? {
                // Another process looks at it, too; the next round sees what is left.
                return Ok(());
            }
        }
        ledger.note_failure_type(&seen.shop, &seen.fingerprint, seen.last_seen).await
    }

    /// A type of failures has ended when no order is lost by it any more, or when none failed for a while.
    async fn look_for_an_end<L: AlarmLedger + ?Sized>(
        &self,
        ledger: &L,
        mut stored: StoredAlarm,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Subject::FailureType { audience, fingerprint } = stored.subject.clone() else {
            return Ok(());
        };
        let policies = &self.context.policies;
        let policy = &policies.named(&stored.shop).alarms;
        if !policy.failure_types || policy.audience != audience {
            // Nobody wants to know any more.
            stored.alarm.ends();
            return self.write(ledger, stored, None).await.map(drop);
        }
        let shops = policies.shops_of_audience(&audience);
        let groups = ledger.failure_groups(&shops, Some(&fingerprint), now).await?;
        let lost = groups.first().map_or(0, |group| group.orders);
        let last = stored.alarm.off_at.unwrap_or(stored.alarm.began_at);
        let is_quiet = now >= later(last, policy.ends_after);
        let is_gone = lost == 0 && now >= later(last, policy.damping.window);
        let may_end = stored.alarm.may_end(now, policy.damping_of_failure_types());
        if !may_end || !(is_quiet || is_gone) {
            let pause = policy.damping.window / LOOKS_IN_A_WINDOW;
            stored.look_at = later(now, pause.max(SHORTEST_PAUSE));
            return self.write(ledger, stored, None).await.map(drop);
        }
        stored.alarm.ends();
        let seen = SeenFailureType {
            shop: stored.shop.clone(),
            class: groups.first().map(|group| group.class.clone()).unwrap_or_default(),
            code: groups.first().map(|group| group.code.clone()).unwrap_or_default(),
            first_seen: stored.alarm.began_at,
            last_seen: last,
            fingerprint,
            is_known: true,
        };
        let kind = NoticeKind::FailureTypeEnded;
        let notice = self.notice(ledger, kind, &stored, &seen, now).await?;
        self.write(ledger, stored, Some(notice)).await.map(drop)
    }

    async fn notice<L: AlarmLedger + ?Sized>(
        &self,
        ledger: &L,
        kind: NoticeKind,
        stored: &StoredAlarm,
        seen: &SeenFailureType,
        now: Timestamp,
    ) -> Result<Notice, StoreError> {
        let policies = &self.context.policies;
        let audience = &policies.named(&stored.shop).alarms.audience;
        let (fingerprint, shops) = (&seen.fingerprint, policies.shops_of_audience(audience));
        let groups = ledger.failure_groups(&shops, Some(fingerprint), now).await?;
        let group = groups.into_iter().next();
        let trouble = Trouble {
            fingerprint: Some(fingerprint.clone()),
            lost: group.as_ref().map_or(0, |group| group.orders),
            money: group.as_ref().map(|group| group.money.clone()).unwrap_or_default(),
            ..stored.trouble()
        };
        let (class, code) = (&seen.class, &seen.code);
        let detail = NoticeDetail::of_failure_type(&stored.shop, class, code, trouble, now);
        let message = group.map(|group| group.message).filter(|message| !message.is_empty());
        let id = failure_type_notice_id(kind, audience, fingerprint, stored.alarm.began_at);
        Ok(Notice { id, kind, detail: NoticeDetail { message, ..detail }, created_at: now })
    }
}

/// The alarm after a type of failures was seen, and what is told of that.
fn see(
    policy: &AlarmPolicy,
    subject: Subject,
    before: Option<StoredAlarm>,
    seen: &SeenFailureType,
) -> (StoredAlarm, Option<NoticeKind>) {
    let (gap, damping) = (policy.damping.window, policy.damping_of_failure_types());
    let (version, shop, known) = match before {
        Some(stored) => (stored.version, stored.shop, Some(stored.alarm)),
        None => (0, seen.shop.clone(), None),
    };
    let is_back = known.is_some();
    let (alarm, told) = match known {
        None if seen.is_known => (Alarm::known(seen.last_seen), None),
        None => {
            let (alarm, told) = Alarm::is_seen(None, seen.first_seen, gap, damping);
            (Alarm::is_seen(Some(alarm), seen.last_seen, gap, damping).0, told)
        }
        known => Alarm::is_seen(known, seen.last_seen, gap, damping),
    };
    let told = told.map(|beginning| match beginning {
        Beginning::Unstable => NoticeKind::FailureTypeUnstable,
        Beginning::Plain if is_back => NoticeKind::FailureTypeBack,
        Beginning::Plain => NoticeKind::FailureTypeNew,
    });
    let look_at = later(seen.last_seen, gap);
    (StoredAlarm { subject, shop, alarm, look_at, version }, told)
}

//! Alarms: what people are told of an ERP that is not usable and of types of failures, and what the ledger knows
//! about both.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::alarm::{Alarm, Beginning};
use crate::domain::notice::{NoticeKind, circuit_alarm_id};
use crate::domain::order_filter::ShopFilter;
use crate::ports::circuits::CircuitTelling;
use crate::ports::mail::{NoticeDetail, Trouble};
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;

/// Alarms, shared by all workers. Each change is written over the version that was read, together with its notice: of
/// several workers exactly one tells it.
#[async_trait]
pub trait Alarms: Send + Sync {
    async fn alarm(&self, subject: &Subject) -> Result<Option<StoredAlarm>, StoreError>;
    /// Alarms whose end is not told and that are to be looked at by now, those due first.
    async fn due_alarms(
        &self,
        kind: SubjectKind,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredAlarm>, StoreError>;
    /// Writes an alarm over the version that was read (0: there was none), and its notice; `false` when somebody else
    /// has changed it since.
    async fn write_alarm(
        &self,
        alarm: StoredAlarm,
        notice: Option<Notice>,
    ) -> Result<bool, StoreError>;
    /// Types of failures that were seen since they were noted.
    async fn seen_failure_types(&self, limit: u32) -> Result<Vec<SeenFailureType>, StoreError>;
    /// What was seen until then needs no further look.
    async fn note_failure_type(
        &self,
        shop: &str,
        fingerprint: &str,
        until: Timestamp,
    ) -> Result<(), StoreError>;
    /// Orders of these shops that were received by `until` and are not through, and those that failed since `since`
    /// and that nobody retries.
    async fn unfinished_orders(
        &self,
        shops: &ShopFilter,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<UnfinishedOrders, StoreError>;
}

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An ERP that is not usable.
    Circuit {
        /// Its name.
        erp: String,
    },
    /// A type of failures, for one group of receivers.
    FailureType { audience: String, fingerprint: String },
}

/// The kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    Circuit,
    FailureType,
}

crate::names!(SubjectKind {
    Circuit = "circuit",
    FailureType = "failure_type",
});

impl Subject {
    pub fn kind(&self) -> SubjectKind {
        match self {
            Self::Circuit { .. } => SubjectKind::Circuit,
            Self::FailureType { .. } => SubjectKind::FailureType,
        }
    }

    /// Its name among those of its kind.
    pub fn name(&self) -> String {
        match self {
            Self::Circuit { erp } => erp.clone(),
            // A fingerprint has no slash.
            Self::FailureType { audience, fingerprint } => format!("{fingerprint}/{audience}"),
        }
    }

    /// The subject of that kind and name; `None` if it is no such name.
    pub fn of(kind: SubjectKind, name: &str) -> Option<Self> {
        Some(match kind {
            SubjectKind::Circuit => Self::Circuit { erp: name.to_owned() },
            SubjectKind::FailureType => {
                let (fingerprint, audience) = name.split_once('/')?;
                let (audience, fingerprint) = (audience.to_owned(), fingerprint.to_owned());
                Self::FailureType { audience, fingerprint }
            }
        })
    }
}

/// An alarm in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAlarm {
    pub subject: Subject,
    /// Whose administrators are told.
    pub shop: String,
    pub alarm: Alarm,
    /// When to look at it next.
    pub look_at: Timestamp,
    /// How often it was written; 0: never.
    pub version: u64,
}

impl StoredAlarm {
    /// The circuit of an ERP opens: what is to be written, and what is to be told.
    pub fn opens(
        before: Option<Self>,
        erp: &str,
        telling: &CircuitTelling,
        reason: &str,
        now: Timestamp,
    ) -> (Self, Option<Notice>) {
        let now = whole_milliseconds(now);
        let (version, known) = match before {
            Some(before) => (before.version, Some((before.shop, before.alarm))),
            None => (0, None),
        };
        let (shop, known) = known.unzip();
        let (alarm, told) = Alarm::begins(known, now, telling.damping);
        // Those who were told of the beginning are told of the rest.
        let shop = shop.filter(|_| alarm.times > 1).unwrap_or_else(|| telling.shop.clone());
        let subject = Subject::Circuit { erp: erp.to_owned() };
        let stored = Self { subject, shop, alarm, look_at: now, version };
        let notice = told.map(|beginning| {
            let kind = match beginning {
                Beginning::Plain => NoticeKind::CircuitOpened,
                Beginning::Unstable => NoticeKind::CircuitUnstable,
            };
            stored.notice_of_circuit(kind, erp, reason, now)
        });
        (stored, notice)
    }

    /// The circuit closes while so many orders wait for that.
    pub fn closes(&mut self, waiting: u64, now: Timestamp) {
        let now = whole_milliseconds(now);
        self.alarm.stops(now, waiting);
        self.look_at = now;
    }

    /// A notice about the circuit of this ERP.
    pub fn notice_of_circuit(
        &self,
        kind: NoticeKind,
        erp: &str,
        reason: &str,
        now: Timestamp,
    ) -> Notice {
        let detail = NoticeDetail {
            trouble: Some(self.trouble()),
            ..NoticeDetail::of_erp(erp, &self.shop, reason, now)
        };
        let id = circuit_alarm_id(kind, erp, self.alarm.began_at);
        Notice { id, kind, detail, created_at: now }
    }

    /// What a notice says of it.
    pub fn trouble(&self) -> Trouble {
        let alarm = &self.alarm;
        let recent = u32::try_from(alarm.recent.len()).unwrap_or(u32::MAX);
        Trouble {
            began_at: alarm.began_at,
            until: alarm.off_at.filter(|_| alarm.on_since.is_none()),
            lasted_ms: u64::try_from(alarm.lasted.as_millis()).unwrap_or(u64::MAX),
            times: alarm.times,
            recent_times: recent,
            recent_since: alarm.recent.first().copied(),
            waited: alarm.waited,
            ..Trouble::default()
        }
    }
}

/// A time as the ledger keeps it.
fn whole_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// A type of failures, as a shop has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFailureType {
    pub shop: String,
    pub fingerprint: String,
    /// Class and code.
    pub class: String,
    pub code: String,
    /// When it was seen first and last.
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Whether it was noted before.
    pub is_known: bool,
}

/// Orders that are not through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnfinishedOrders {
    /// They wait for an attempt.
    pub waiting: u64,
    /// Their outcome is unknown.
    pub unclear: u64,
    /// A person has to decide about them.
    pub parked: u64,
}

//! All tables with their rows, in the words of the migrations, and the transaction over them.
//!
//! The files beside this one hold what each port does with them.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::table::Table;
use crate::domain::channel::ChannelWindow;
use crate::domain::circuit::Circuit;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::notice::DigestWindow;
use crate::domain::order::values::OrderKey;
use crate::ports::alarms::StoredAlarm;
use crate::ports::audit::AuditEntry;
use crate::ports::channels::{StoredChannel, StoredMessage};
use crate::ports::dead_letters::DeadLetter;
use crate::ports::notices::{Notice, StoredMail};
use crate::ports::order_desk::{Attempt, Conflict, Revision, StoredExchange};
use crate::ports::orders::OrderSource;
use crate::ports::people::{ApiToken, KeptAnswer, OidcLogin, SessionRecord, User};
use crate::ports::redrives::{Redrive, RedriveItem};
use crate::ports::refresh_tokens::KeptToken;
use crate::ports::retention::GoneOrder;
use crate::ports::second_entries::SecondEntry;
use crate::ports::store_error::StoreError;
use crate::ports::total_differences::FoundTotal;
use crate::ports::workers::Worker;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident: $key:ty => $row:ty),+ $(,)?) => {
        /// The tables of a ledger.
        #[derive(Default)]
        pub(super) struct Tables {
            $($(#[$doc])* pub(super) $name: Table<$key, $row>),+
        }

        impl Tables {
            fn commit(&mut self) {
                $(self.$name.commit();)+
            }

            /// Undoes everything since the transaction began.
            pub(super) fn roll_back(&mut self) {
                $(self.$name.roll_back();)+
            }
        }
    };
}

tables! {
    orders: OrderKey => OrderRow,
    /// Index: orders that become overdue, by what they wait for and since or until when.
    waiting: (Waits, i64) => BTreeSet<OrderKey>,
    /// Index: orders by their number in the ERP.
    in_erp: String => BTreeSet<OrderKey>,
    attempts: (OrderKey, u32, Outcome) => Attempt,
    /// By the second number.
    second_entries: (OrderKey, String) => SecondEntry,
    /// By the attempt that found it.
    total_differences: (OrderKey, u32) => FoundTotal,
    /// By worker and the place among its exchanges.
    exchanges: (OrderKey, String, usize) => StoredExchange,
    /// By the digest of the other payload.
    conflicts: (OrderKey, [u8; 32]) => Conflict,
    revisions: (OrderKey, u32) => Revision,
    /// What is left of orders that are gone.
    gone_orders: OrderKey => GoneRow,
    /// How many were taken out, by kind, and when last.
    removals: String => (u64, Timestamp),
    /// Orders that came in, by shop: counted apart from their rows.
    received: String => u64,
    activity: (i64, i64, String, Happening, String) => Bucket,
    failure_groups: String => GroupRow,
    notices: String => NoticeRow,
    /// Index: notices in no mail yet, by the time at which they were made.
    loose_notices: (i64, String) => (),
    mails: Uuid => MailRow,
    /// Notices in a mail that is a part of another one.
    mail_parts: (Uuid, String) => (),
    /// Index: mails by their Message-ID.
    message_ids: String => Uuid,
    /// Index: deliveries to be sent, by the time at which they are due and the place of the receiver.
    waiting_deliveries: (i64, Uuid, usize) => (),
    mail_windows: String => DigestWindow,
    /// Index: notices that were not given to the channels yet, by the time at which they were made.
    notices_for_channels: (i64, String) => (),
    /// By channel and notice.
    channel_notices: (String, String) => ChannelNoticeRow,
    channel_messages: Uuid => MessageRow,
    channel_states: String => ChannelStateRow,
    channels: String => StoredChannel,
    dead_letters: Uuid => DeadLetter,
    /// Index: open dead letters by their queue and the digest of their body.
    open_dead_letters: (String, [u8; 32]) => Uuid,
    circuits: String => CircuitRow,
    /// How often a circuit was opened: the SQL ledger keeps no such account, the promises need it.
    openings: String => u32,
    alarms: (&'static str, String) => StoredAlarm,
    /// When each shop saw each type of failures, and until when that was noted.
    failure_types: (String, String) => SeenRow,
    leases: String => Lease,
    workers: String => Worker,
    redrives: Uuid => Redrive,
    redrive_items: (Uuid, u64) => ItemRow,
    audit: Uuid => AuditFact,
    users: String => UserRow,
    sessions: Vec<u8> => SessionRow,
    login_failures: Vec<u8> => LoginRow,
    oidc_logins: Vec<u8> => OidcLogin,
    tokens: String => TokenRow,
    request_keys: (String, String) => KeyRow,
    refresh_tokens: String => RefreshRow,
}

#[derive(Debug, Clone, Default)]
pub(super) struct RefreshRow {
    pub(super) kept: Option<KeptToken>,
    /// Who may use it, until when.
    pub(super) held: Option<(String, Timestamp)>,
}

impl Tables {
    /// Runs a transaction: what it changed is kept if it succeeds, and undone otherwise.
    pub(super) fn transact<T>(
        &mut self,
        transaction: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = transaction(self);
        match &answer {
            Ok(_) => self.commit(),
            Err(_) => self.roll_back(),
        }
        answer
    }
}

/// An order with what no record holds.
#[derive(Clone)]
pub(super) struct OrderRow {
    pub(super) record: OrderRecord,
    /// When the sweeper took it last, unless it changed since.
    pub(super) swept_at: Option<Timestamp>,
    pub(super) source: OrderSource,
    pub(super) digest: [u8; 32],
    /// As it came.
    pub(super) document: Arc<str>,
    /// The newest revision, when it was edited.
    pub(super) edited: Option<Arc<str>>,
    /// The article numbers, each between line breaks.
    pub(super) skus: String,
}

impl OrderRow {
    /// What would be sent now.
    pub(super) fn current_document(&self) -> &Arc<str> {
        self.edited.as_ref().unwrap_or(&self.document)
    }
}

/// An order that is noted as gone.
#[derive(Clone)]
pub(super) struct GoneRow {
    pub(super) left: GoneOrder,
    /// The version of its state when it was noted.
    pub(super) version: i64,
}

/// What an order waits for that can become overdue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// For the worker that claimed it, until the claim ends.
    Claimed,
    /// For a look at what a process that is gone has left.
    Abandoned,
    /// For its first attempt, since it came.
    Queued,
    /// For the circuit, since it came.
    Held,
    /// For a retry that is due then.
    Retrying,
    /// For a question that is due then.
    Unclear,
}

/// How an attempt ended; one may have both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Failed,
    Succeeded,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
        }
    }
}

/// What the statistics count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    Received,
    Confirmed,
    Failed,
}

/// How often something happened within a bucket of time, and when last.
#[derive(Clone, Copy)]
pub(super) struct Bucket {
    pub(super) orders: u64,
    pub(super) last_ms: i64,
}

/// A kind of failure.
#[derive(Clone)]
pub(super) struct GroupRow {
    pub(super) class: String,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) first_seen: Timestamp,
    pub(super) note: Option<String>,
    pub(super) runbook: Option<String>,
    pub(super) noted_by: Option<String>,
    pub(super) noted_at: Option<Timestamp>,
}

/// When a shop saw a type of failures.
#[derive(Clone)]
pub(super) struct SeenRow {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) noted: Option<Timestamp>,
}

#[derive(Clone)]
pub(super) struct NoticeRow {
    pub(super) notice: Notice,
    pub(super) due_at: Timestamp,
    pub(super) mail: Option<Uuid>,
}

/// A notice that was given to a channel.
#[derive(Clone)]
pub(super) struct ChannelNoticeRow {
    pub(super) due_at: Timestamp,
    pub(super) message: Option<Uuid>,
    /// Below the threshold: never sent.
    pub(super) is_below: bool,
}

#[derive(Clone)]
pub(super) struct MessageRow {
    pub(super) message: StoredMessage,
    pub(super) queued_at: Timestamp,
    pub(super) claimed_until: Option<Timestamp>,
}

/// What a channel was told recently, and how it is doing.
#[derive(Clone, Default)]
pub(super) struct ChannelStateRow {
    pub(super) window: ChannelWindow,
    pub(super) delivered: u64,
    pub(super) below: u64,
    pub(super) delivered_at: Option<Timestamp>,
    pub(super) refused_at: Option<Timestamp>,
    pub(super) error: Option<String>,
}

#[derive(Clone)]
pub(super) struct MailRow {
    pub(super) mail: StoredMail,
    /// One for each of its deliveries.
    pub(super) accounts: Vec<DeliveryAccount>,
}

/// When a delivery is to be sent.
#[derive(Clone)]
pub(super) struct DeliveryAccount {
    pub(super) queued_at: Timestamp,
    pub(super) due_at: Timestamp,
    pub(super) claimed_until: Option<Timestamp>,
    pub(super) settled_at: Option<Timestamp>,
}

#[derive(Clone)]
pub(super) struct CircuitRow {
    pub(super) circuit: Circuit,
    /// Who tries it, and until when nobody else may.
    pub(super) trial: Option<(String, Timestamp)>,
}

#[derive(Clone)]
pub(super) struct Lease {
    pub(super) worker: String,
    pub(super) until: Timestamp,
}

#[derive(Clone)]
pub(super) struct ItemRow {
    pub(super) item: RedriveItem,
    pub(super) wave: Option<u32>,
    pub(super) sent_version: Option<i64>,
}

#[derive(Clone)]
pub(super) struct AuditFact {
    pub(super) entry: AuditEntry,
    pub(super) order: Option<OrderKey>,
}

#[derive(Clone)]
pub(super) struct UserRow {
    pub(super) user: User,
    pub(super) hash: String,
}

#[derive(Clone)]
pub(super) struct SessionRow {
    pub(super) session: SessionRecord,
    pub(super) seen_at: Timestamp,
}

#[derive(Clone)]
pub(super) struct LoginRow {
    pub(super) failures: u32,
    pub(super) failed_at: Timestamp,
    pub(super) blocked_until: Option<Timestamp>,
}

#[derive(Clone)]
pub(super) struct TokenRow {
    pub(super) token: ApiToken,
    pub(super) hash: Vec<u8>,
}

#[derive(Clone)]
pub(super) struct KeyRow {
    pub(super) digest: [u8; 32],
    pub(super) answer: Option<KeptAnswer>,
    pub(super) created_at: Timestamp,
}

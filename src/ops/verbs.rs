//! What people may do, for pages, API and command line alike: [`Ops`], whose verbs stand in the files beside it.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::outbound_messages::{OutboundMessages, Outgoing};
use crate::domain::retention::RetentionRule;
use crate::domain::text::cut;
use crate::domain::trace::Trace;
use crate::ops::login_config::LoginConfig;
use crate::ops::mail_receivers::MailReceivers;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ports::audit::{Act, AuditTrail};
use crate::ports::broker::Broker;
use crate::ports::channel_book::ChannelAccess;
use crate::ports::channels::{ChannelArchive, ChannelDesk, ChannelLevels, ChannelOutbox};
use crate::ports::circuits::{CircuitDesk, Circuits};
use crate::ports::clock::Clock;
use crate::ports::dead_letters::{DeadLetterDesk, DeadLetterIntake};
use crate::ports::erasure::Erasure;
use crate::ports::erps::Erps;
use crate::ports::failure_groups::FailureGroups;
use crate::ports::ledger::{LedgerHealth, LedgerProof};
use crate::ports::notices::{MailArchive, MailDesk, MailLevels};
use crate::ports::order_desk::{OrderDesk, OrderRecords, Revisions};
use crate::ports::order_lists::OrderLists;
use crate::ports::orders::OrderIntake;
use crate::ports::people::{RequestKeys, Sessions, Tokens, Users};
use crate::ports::redrives::RedriveDesk;
use crate::ports::retention::Retention;
use crate::ports::second_entries::SecondEntries;
use crate::ports::statistics::Statistics;
use crate::ports::total_differences::TotalDifferences;
use crate::ports::workers::WorkerList;
use jiff::Timestamp;

/// Longest reason of an action that is stored, in characters.
const MAX_REASON_CHARS: usize = 2_000;
/// How long one publish may take.
pub(super) const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);
/// How long the ledger may take when somebody asks whether this process can work.
const LEDGER_PATIENCE: Duration = Duration::from_secs(3);

crate::combined_port! {
    /// What the operations of people need from the ledger.
    pub trait OpsLedger: OrderIntake, OrderLists, OrderDesk, OrderRecords, SecondEntries, TotalDifferences, Revisions, LedgerProof,
        LedgerHealth, MailArchive, MailLevels, MailDesk, ChannelOutbox, ChannelLevels, ChannelArchive,
        ChannelDesk, Circuits,
        CircuitDesk, DeadLetterDesk, DeadLetterIntake, RedriveDesk, Statistics, FailureGroups, WorkerList, Users, Sessions,
        Tokens, RequestKeys, AuditTrail, Retention, Erasure
}

/// The operations.
pub struct Ops {
    pub(super) store: Arc<dyn OpsLedger>,
    pub(super) broker: Arc<dyn Broker>,
    /// Time and randomness.
    pub(super) clock: Arc<dyn Clock>,
    pub(super) erps: Arc<dyn Erps>,
    /// What applies to every order that comes in.
    pub(super) intake: IntakeRules,
    /// How long a transfer is waited for.
    pub(super) transfer_patience: Duration,
    /// Logins.
    pub(super) login: LoginConfig,
    /// Who gets mails.
    pub(super) receivers: MailReceivers,
    /// Channels beside mail.
    pub(super) channels: ChannelAccess,
    /// How long what is finished is kept.
    pub(super) retention: RetentionRule,
}

/// What [`Ops`] stands on.
pub struct OpsParts {
    /// The ledger.
    pub store: Arc<dyn OpsLedger>,
    /// The broker.
    pub broker: Arc<dyn Broker>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The ERPs of all shops.
    pub erps: Arc<dyn Erps>,
    /// What applies to every order that comes in.
    pub intake: IntakeRules,
    /// How long a transfer is waited for.
    pub transfer_patience: Duration,
    /// How people log in.
    pub login: LoginConfig,
    /// Who gets mails.
    pub receivers: MailReceivers,
    /// Channels beside mail.
    pub channels: ChannelAccess,
    /// How long what is finished is kept.
    pub retention: RetentionRule,
}

impl Ops {
    /// The verbs over these parts.
    pub fn new(parts: OpsParts) -> Self {
        let OpsParts { store, broker, clock, erps, intake, transfer_patience, login, .. } = parts;
        let (receivers, channels, retention) = (parts.receivers, parts.channels, parts.retention);
        Self {
            store,
            broker,
            clock,
            erps,
            intake,
            transfer_patience,
            login,
            receivers,
            channels,
            retention,
        }
    }

    /// The time, as every face has it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What applies to every order that comes in.
    pub fn intake(&self) -> &IntakeRules {
        &self.intake
    }

    /// How long a transfer is waited for.
    pub fn transfer_patience(&self) -> Duration {
        self.transfer_patience
    }

    /// Whether people may log in at an identity provider.
    pub fn has_identity_provider(&self) -> bool {
        self.login.oidc.is_some()
    }

    /// How long a session lasts at most.
    pub fn session_lifetime(&self) -> Duration {
        self.login.lifetime
    }

    /// Why this process cannot work now; it needs the broker if `with_broker`.
    pub async fn obstacle(&self, with_broker: bool) -> Option<String> {
        match tokio::time::timeout(LEDGER_PATIENCE, self.store.circuits()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Some(error.to_string()),
            Err(_) => return Some("the database does not answer".to_owned()),
        }
        if let Some(fault) = self.store.fault() {
            return Some(fault.to_string());
        }
        if with_broker { self.broker.obstacle() } else { None }
    }

    /// The name of the queue that the submitter reads.
    pub fn submit_queue(&self) -> String {
        self.broker.topology().names.submit()
    }

    /// An action of `person`.
    pub fn act(&self, person: &Principal, reason: Option<&str>) -> Act {
        Act {
            id: self.unique_id(),
            actor: person.name.clone(),
            from: person.from.clone(),
            grants: person.grants.clone(),
            reason: reason.map(|reason| cut(reason, MAX_REASON_CHARS)),
            now: self.clock.now(),
        }
    }

    pub(crate) fn unique_id(&self) -> Uuid {
        self.clock.unique_id()
    }

    pub(super) async fn publish(&self, message: Outgoing) -> Result<(), Refusal> {
        Ok(self.broker.publish(message, PUBLISH_PATIENCE).await?)
    }

    pub(super) fn outbound<'a>(&'a self, trace: &'a Trace) -> OutboundMessages<'a> {
        OutboundMessages { topology: self.broker.topology(), origin: "operator", trace }
    }
}

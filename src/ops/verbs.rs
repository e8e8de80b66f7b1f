//! What people may do, for pages, API and command line alike: [`Ops`], whose verbs stand in the files beside it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::outbound_messages::{OutboundMessages, Outgoing};
use crate::domain::trace::Trace;
use crate::ops::login_config::LoginConfig;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ports::audit::{Act, AuditTrail};
use crate::ports::broker::Broker;
use crate::ports::circuits::{CircuitDesk, Circuits};
use crate::ports::clock::Clock;
use crate::ports::dead_letters::{DeadLetterDesk, DeadLetterIntake};
use crate::ports::ledger::LedgerProof;
use crate::ports::notices::{MailArchive, MailLevels};
use crate::ports::order_desk::{OrderDesk, OrderRecords, Revisions};
use crate::ports::order_lists::OrderLists;
use crate::ports::orders::OrderIntake;
use crate::ports::people::{RequestKeys, Sessions, Tokens, Users};
use crate::ports::redrives::RedriveDesk;
use crate::ports::statistics::Statistics;
use crate::ports::workers::WorkerList;

/// How long one publish may take.
pub(super) const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);

crate::combined_port! {
    /// What the operations of people need from the ledger.
    pub trait OpsLedger: OrderIntake, OrderLists, OrderDesk, OrderRecords, Revisions, LedgerProof, MailArchive, MailLevels, Circuits,
        CircuitDesk, DeadLetterDesk, DeadLetterIntake, RedriveDesk, Statistics, WorkerList, Users, Sessions,
        Tokens, RequestKeys, AuditTrail
}

/// The operations.
pub struct Ops {
    pub store: Arc<dyn OpsLedger>,
    pub broker: Arc<dyn Broker>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// Which ERP a shop sends to, for shops with one of their own.
    pub erps: HashMap<String, String>,
    /// `intake.max_bytes`.
    pub max_bytes: usize,
    /// How long a transfer is waited for.
    pub transfer_patience: Duration,
    /// Logins.
    pub login: LoginConfig,
}

/// Name of the ERP of every shop without one of its own.
pub const DEFAULT_ERP: &str = "default";

impl Ops {
    /// An action of `person`.
    pub fn act(&self, person: &Principal, reason: Option<&str>) -> Act {
        Act {
            id: self.unique_id(),
            actor: person.name.clone(),
            from: person.from.clone(),
            grants: person.grants.clone(),
            reason: reason.map(str::to_owned),
            now: self.clock.now(),
        }
    }

    pub(crate) fn unique_id(&self) -> Uuid {
        self.clock.unique_id()
    }

    pub(super) async fn publish(&self, message: Outgoing) -> Result<(), Refusal> {
        let published = self.broker.publish(message, PUBLISH_PATIENCE).await;
        published.map_err(|error| Refusal::NobodyThere(error.to_string()))
    }

    pub(super) fn outbound<'a>(&'a self, trace: &'a Trace) -> OutboundMessages<'a> {
        OutboundMessages { topology: self.broker.topology(), origin: "operator", trace }
    }
}

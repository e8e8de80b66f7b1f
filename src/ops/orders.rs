//! What people do with orders: find, show, transfer to the ERP, remove, restore.
//!
//! One set of operations for pages, API and command line. A transfer takes the path of every order,
//! through the queue to the submitter, and waits for its outcome: one code path talks to the ERP.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::domain::circuit::{Circuit, CircuitState};
use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::lifecycle::vocabulary::{OrderState, Phase, Trigger};
use crate::domain::message::{EventKind, OrderEvent};
use crate::domain::order::fault::Fault;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, Mark, OrderFilter, ShopFilter, Sort, ValueFault};
use crate::domain::outbound_messages::{OutboundMessages, Outgoing};
use crate::domain::permission::{Grants, Permission};
use crate::domain::trace::Trace;
use crate::ports::audit::{Act, AuditTrail};
use crate::ports::broker::Broker;
use crate::ports::circuits::{CircuitDesk, Circuits};
use crate::ports::clock::{Clock, Stopwatch};
use crate::ports::dead_letters::{DeadLetterDesk, DeadLetterIntake};
use crate::ports::ledger::LedgerProof;
use crate::ports::notices::{MailArchive, MailLevels};
use crate::ports::order_desk::{Attempt, OrderDesk, OrderDetail, OrderRecords, Revisions};
use crate::ports::order_lists::OrderLists;
use crate::ports::orders::OrderIntake;
use crate::ports::people::{RequestKeys, Sessions, Tokens, Users};
use crate::ports::redrives::RedriveDesk;
use crate::ports::statistics::Statistics;
use crate::ports::store_error::StoreError;
use crate::ports::workers::WorkerList;

use super::logins::LoginConfig;

/// How long one publish may take.
pub(super) const PUBLISH_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);

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

/// The caller of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// As the audit names them: `user:erika`, `token:checkout`, `cli:root`.
    pub name: String,
    /// From which address, where that is known.
    pub from: Option<String>,
    /// What they may do.
    pub grants: Grants,
}

impl Principal {
    /// Whether they may do it in that shop; without a shop, to what belongs to none.
    pub fn may(&self, permission: Permission, shop: Option<&str>) -> bool {
        self.grants.allows(permission, shop)
    }

    /// The shops whose orders they may see.
    pub fn readable(&self) -> ShopFilter {
        match self.grants.shops_allowing(Permission::Read) {
            None => ShopFilter::default(),
            Some(shops) => ShopFilter::Only(shops),
        }
    }

    /// Refuses callers without the permission.
    pub fn authorize(&self, permission: Permission, shop: Option<&str>) -> Result<(), Refusal> {
        authorize_grants(&self.grants, permission, shop)
    }
}

fn authorize_grants(
    grants: &Grants,
    permission: Permission,
    shop: Option<&str>,
) -> Result<(), Refusal> {
    if grants.allows(permission, shop) {
        return Ok(());
    }
    Err(Refusal::Forbidden { permission, shop: shop.map(str::to_owned) })
}

/// Refuses what `act` may not do in that shop; without a shop, for what belongs to none.
pub(super) fn authorize(
    act: &Act,
    permission: Permission,
    shop: Option<&str>,
) -> Result<(), Refusal> {
    authorize_grants(&act.grants, permission, shop)
}

/// Why an operation was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller lacks the permission.
    #[error(
        "this needs the permission {}{}",
        .permission.as_str(),
        .shop.as_deref().map(|shop| format!(" for shop {shop}")).unwrap_or_default()
    )]
    Forbidden {
        /// What is missing.
        permission: Permission,
        shop: Option<String>,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It was changed by somebody else, or exists already; nothing was changed.
    #[error("{0}")]
    Conflict(String),
    /// The content cannot be accepted.
    #[error("{0}")]
    Unacceptable(String),
    /// Its state does not allow it; nothing was changed.
    #[error("{key}: {invalid}")]
    Invalid { key: OrderKey, invalid: InvalidTransition },
    /// The circuit is open: nothing is sent now.
    #[error(
        "ERP {erp} is not usable ({reason}); the order waits for it. Repeat it when the ERP is back"
    )]
    CircuitOpen { erp: String, reason: String },
    /// No process is running that can do it.
    #[error("{0}")]
    NobodyThere(String),
    /// A value cannot be used; nothing was changed.
    #[error(transparent)]
    Value(#[from] ValueFault),
    /// The content cannot be accepted; each fault at its place.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unprocessable(Vec<Fault>),
    /// The ledger failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The outcome of a transfer.
#[derive(Debug, Clone)]
pub enum Transferred {
    /// It is in the ERP.
    Done {
        /// The ERP's number.
        erp_order_id: Option<String>,
    },
    /// The ERP's error.
    Failed {
        attempt: Box<Attempt>,
        /// The order now.
        record: Box<OrderRecord>,
    },
    /// Its outcome is unclear: the ERP was asked, and gave no usable answer or does not have it
    /// yet.
    Unclear {
        /// The order now.
        record: Box<OrderRecord>,
    },
    /// It is held: the circuit opened in the meantime.
    Held,
    /// No result in time; it continues automatically.
    StillWaiting,
}

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

    /// The order that `text` means: `ORDER_ID` if only one shop has it, else `SHOP/ORDER_ID`.
    pub async fn find(&self, text: &str) -> Result<OrderKey, Refusal> {
        if let Some((shop, order_id)) = text.split_once('/')
            && let Ok(key) = OrderKey::new(shop, order_id)
            && self.store.order(&key).await?.is_some()
        {
            return Ok(key);
        }
        let mut keys = self.store.find_orders(text).await?;
        match (keys.len(), keys.pop()) {
            (1, Some(key)) => Ok(key),
            (0, _) | (_, None) => Err(Refusal::NotFound(format!("there is no order {text}"))),
            (_, Some(last)) => {
                keys.push(last);
                let all = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Err(Refusal::NotFound(format!(
                    "several shops have an order {text}: choose one of {all}"
                )))
            }
        }
    }

    /// One order with its history.
    pub async fn show(&self, key: &OrderKey) -> Result<OrderDetail, Refusal> {
        let order = self.store.order(key).await?;
        order.ok_or_else(|| Refusal::NotFound(format!("there is no order {key}")))
    }

    /// One order for a caller who may not see every shop: other orders do not exist for them.
    pub async fn show_to(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<OrderDetail, Refusal> {
        if !person.readable().contains(key.shop.as_str()) {
            return Err(Refusal::NotFound(format!("there is no order {key}")));
        }
        self.show(key).await
    }

    /// Orders that match, newest first; as many pages as it takes to get `limit` of them.
    pub async fn list(
        &self,
        filter: &OrderFilter,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        self.list_sorted(filter, Sort::default(), limit).await
    }

    /// The same in another order.
    pub async fn list_sorted(
        &self,
        filter: &OrderFilter,
        sort: Sort,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Refusal> {
        let mut orders: Vec<OrderRecord> = Vec::new();
        loop {
            let left = limit.saturating_sub(u32::try_from(orders.len()).unwrap_or(u32::MAX));
            let size = left.min(MAX_PAGE);
            if size == 0 {
                return Ok(orders);
            }
            let after = orders.last().map(|last| Mark::of(last, sort));
            let page = self.store.page_orders(filter, sort, after.as_ref(), size).await?;
            let is_last = page.len() < usize::try_from(size).unwrap_or(usize::MAX);
            orders.extend(page);
            if is_last {
                return Ok(orders);
            }
        }
    }

    /// Transfers one order to the ERP now, whatever its count of failures; one attempt.
    pub async fn transfer(&self, key: &OrderKey, act: &Act) -> Result<Transferred, Refusal> {
        authorize(act, Permission::Process, Some(key.shop.as_str()))?;
        let before = self.show(key).await?.record;
        if before.phase.state() == OrderState::Confirmed {
            return Err(invalid(&before));
        }
        self.ask_for(&before, act, "order.transfer", Trigger::Operator).await?;
        self.wait_for(&before).await
    }

    /// Nudges the submitter, with an audit row of who requested it.
    pub(super) async fn ask_for(
        &self,
        before: &OrderRecord,
        act: &Act,
        action: &str,
        trigger: Trigger,
    ) -> Result<(), Refusal> {
        self.refuse_when_stopped(before).await?;
        self.refuse_when_nobody_reads().await?;
        self.store.audit_order(act, action, &before.key).await?;
        let trace = Trace { parent: before.traceparent.clone(), state: before.tracestate.clone() };
        let nudge = self.outbound(&trace).nudge(&before.key, before.next_attempt(), trigger);
        self.publish(nudge).await
    }

    /// Waits until the attempt that follows `before` has ended.
    pub(super) async fn wait_for(&self, before: &OrderRecord) -> Result<Transferred, Refusal> {
        let watch = Stopwatch::start();
        while watch.elapsed() < self.transfer_patience {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.show(&before.key).await?;
            let record = now.record;
            if let Phase::Transferred { erp_order_id } = record.phase {
                return Ok(Transferred::Done { erp_order_id });
            }
            if record.last_attempt > before.last_attempt {
                let mut attempts = now.attempts.into_iter();
                let of_ours = attempts.rfind(|attempt| attempt.attempt == record.last_attempt);
                return Ok(match of_ours {
                    Some(attempt) => {
                        Transferred::Failed { attempt: Box::new(attempt), record: Box::new(record) }
                    }
                    None => Transferred::StillWaiting,
                });
            }
            // Claimed and handed back without an attempt.
            if record.version > before.version && record.claim.is_none() {
                let in_doubt = record.last_failure.as_ref().is_some_and(|last| last.in_doubt);
                return Ok(match record.phase {
                    Phase::OutcomeUnknown { .. } => {
                        Transferred::Unclear { record: Box::new(record) }
                    }
                    Phase::Retrying { .. } | Phase::Parked if in_doubt => {
                        Transferred::Unclear { record: Box::new(record) }
                    }
                    _ => Transferred::Held,
                });
            }
        }
        Ok(Transferred::StillWaiting)
    }

    /// The ERPs of all shops with their circuits, also those that were never opened.
    pub async fn circuits(&self) -> Result<Vec<Circuit>, Refusal> {
        let known = self.store.circuits().await?;
        let mut names: Vec<&str> =
            self.erps.values().map(String::as_str).chain([DEFAULT_ERP]).collect();
        names.sort_unstable();
        names.dedup();
        let circuit = |name: &str| known.iter().find(|circuit| circuit.erp == name).cloned();
        Ok(names.into_iter().map(|n| circuit(n).unwrap_or_else(|| Circuit::closed(n))).collect())
    }

    /// Stops the transfer to an ERP until it is released: orders are received and held.
    pub async fn hold(&self, erp: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Process, self.shop_of_erp(erp))?;
        self.require_erp(erp).await?;
        let reason = act.reason.as_deref().unwrap_or("no reason given");
        let reason = format!("held by {}: {reason}", act.actor);
        Ok(self.store.hold_circuit(erp, &reason, act).await?)
    }

    /// Resumes the transfer to an ERP, starting with one order; also before the pause of an outage
    /// is over.
    pub async fn release(&self, erp: &str, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Process, self.shop_of_erp(erp))?;
        self.require_erp(erp).await?;
        match self.store.release_circuit(erp, act).await? {
            true => Ok(()),
            false => Err(Refusal::NotFound(format!("transfer to ERP {erp} is not stopped"))),
        }
    }

    async fn require_erp(&self, erp: &str) -> Result<(), Refusal> {
        let circuits = self.circuits().await?;
        if circuits.iter().any(|circuit| circuit.erp == erp) {
            return Ok(());
        }
        let names: Vec<&str> = circuits.iter().map(|circuit| circuit.erp.as_str()).collect();
        let names = names.join(", ");
        Err(Refusal::NotFound(format!("there is no ERP {erp}; there is: {names}")))
    }

    /// The shop that an ERP belongs to alone; none for the one that all others share.
    pub fn shop_of_erp<'a>(&'a self, erp: &str) -> Option<&'a str> {
        self.erps.iter().find(|(_, own)| *own == erp).map(|(shop, _)| shop.as_str())
    }

    /// The name of the ERP that an order goes to.
    pub fn erp_of(&self, key: &OrderKey) -> &str {
        self.erp_of_shop(key.shop.as_str())
    }

    pub(super) fn erp_of_shop(&self, shop: &str) -> &str {
        self.erps.get(shop).map_or(DEFAULT_ERP, String::as_str)
    }

    pub(super) async fn refuse_when_stopped(&self, record: &OrderRecord) -> Result<(), Refusal> {
        let erp = self.erp_of(&record.key);
        let circuits = self.store.circuits().await?;
        match circuits.into_iter().find(|circuit| circuit.erp == erp) {
            Some(Circuit { state: CircuitState::Open, reason, .. }) => Err(Refusal::CircuitOpen {
                erp: erp.to_owned(),
                reason: reason.unwrap_or_default(),
            }),
            _ => Ok(()),
        }
    }

    pub(super) async fn refuse_when_nobody_reads(&self) -> Result<(), Refusal> {
        let queue = self.broker.topology().names.submit();
        match self.broker.queue_status(&queue).await {
            Ok(status) if status.consumers == 0 => Err(Refusal::NobodyThere(format!(
                "no submitter reads {queue}: start one with `order-relay serve --roles submitter,error-handler`"
            ))),
            Ok(_) => Ok(()),
            Err(error) => Err(Refusal::NobodyThere(error.to_string())),
        }
    }

    /// Removes an order from the list of lost orders, with a reason.
    pub async fn remove(&self, key: &OrderKey, act: &Act) -> Result<OrderRecord, Refusal> {
        authorize(act, Permission::Remove, Some(key.shop.as_str()))?;
        self.show(key).await?;
        let record = self.store.remove_order(key, act).await?;
        let record = record.map_err(|invalid| Refusal::Invalid { key: key.clone(), invalid })?;
        self.tell(EventKind::Removed, &record, act).await;
        Ok(record)
    }

    /// Restores a removed order.
    pub async fn restore(&self, key: &OrderKey, act: &Act) -> Result<OrderRecord, Refusal> {
        authorize(act, Permission::Remove, Some(key.shop.as_str()))?;
        self.show(key).await?;
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
        let trace = Trace { parent: record.traceparent.clone(), state: record.tracestate.clone() };
        let message = self.outbound(&trace).event(&event);
        if let Err(error) = self.broker.publish(message, PUBLISH_PATIENCE).await {
            tracing::warn!(%error, event = kind.routing_key(), "event.not_published");
        }
    }

    pub(super) async fn publish(&self, message: Outgoing) -> Result<(), Refusal> {
        let published = self.broker.publish(message, PUBLISH_PATIENCE).await;
        published.map_err(|error| Refusal::NobodyThere(error.to_string()))
    }

    pub(super) fn outbound<'a>(&'a self, trace: &'a Trace) -> OutboundMessages<'a> {
        OutboundMessages { topology: self.broker.topology(), origin: "operator", trace }
    }
}

pub(super) fn invalid(record: &OrderRecord) -> Refusal {
    let (state, phase) = (record.phase.state(), record.phase.name());
    let invalid = InvalidTransition::InvalidState { state, phase };
    Refusal::Invalid { key: record.key.clone(), invalid }
}

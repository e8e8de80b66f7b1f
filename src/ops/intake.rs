//! Receiving orders: from the API, from the command line, and by replaying dead letters.

use std::sync::Arc;

use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::message::OrderFailed;
use crate::domain::order::document::Order;
use crate::domain::order::fault::Fault;
use crate::domain::order::values::Email;
use crate::domain::outbound_messages::Outgoing;
use crate::domain::permission::Permission;
use crate::domain::topology::ORDER_FAILED;
use crate::domain::trace::Trace;
use crate::ports::audit::Act;
use crate::ports::dead_letters::{DeadLetter, NewDeadLetter, Resolution};
use crate::ports::orders::{Accepted, OrderSource, Placed};

use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;

/// The result of submitting an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is durable, in the ledger or with the broker.
    Accepted,
    /// The ledger already had it.
    Duplicate,
    /// The ledger has different content under its number, which stays; this one is stored beside
    /// it.
    Conflict,
    /// Its number belongs to an order with different content that is finished and gone; it is not stored.
    NumberTaken,
}

impl Ops {
    /// Stores an order in the ledger; it is durable when this returns.
    pub async fn accept(
        &self,
        person: &Principal,
        order: Order,
        source: OrderSource,
        trace: &Trace,
    ) -> Result<Taken, Refusal> {
        person.authorize(Permission::Publish, Some(order.key.shop.as_str()))?;
        self.store_order(order, source, trace).await
    }

    async fn store_order(
        &self,
        order: Order,
        source: OrderSource,
        trace: &Trace,
    ) -> Result<Taken, Refusal> {
        let key = order.key.clone();
        let unseen = order.facts.customer.email.as_ref().and_then(Email::unseen);
        let placed = Placed { order: Arc::new(order), source, trace: trace.clone() };
        let taken = match self.store.accept(placed, self.clock.now()).await? {
            Accepted::New => Taken::Accepted,
            Accepted::Duplicate => return Ok(Taken::Duplicate),
            Accepted::Conflict => return Ok(Taken::Conflict),
            Accepted::NumberTaken => return Ok(Taken::NumberTaken),
        };
        if let Some(unseen) = unseen {
            let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
            let unseen = format!("U+{:04X}", u32::from(unseen));
            tracing::warn!(shop, order_id, unseen, "order.address_unusable");
        }
        // Only a nudge: if it gets lost, the sweeper finds the queued order.
        self.broker.offer(self.outbound(trace).nudge(&key, 1, Trigger::Checkout)).await;
        Ok(taken)
    }

    /// Submits an order like a checkout: to the broker if there is a durable one, otherwise to the
    /// ledger.
    pub async fn publish_order(&self, person: &Principal, order: Order) -> Result<Taken, Refusal> {
        person.authorize(Permission::Publish, Some(order.key.shop.as_str()))?;
        if !self.broker.is_durable() {
            return self.store_order(order, OrderSource::CommandLine, &Trace::default()).await;
        }
        let trace = Trace::default();
        let message = self.outbound(&trace).placed(&order);
        self.publish(message).await?;
        Ok(Taken::Accepted)
    }

    /// Stores a document that was refused at intake, so that a paid order cannot vanish there.
    pub async fn keep_refused(
        &self,
        person: &Principal,
        source: &str,
        body: &[u8],
        fault: &Fault,
    ) -> Result<(), Refusal> {
        person.authorize_somewhere(Permission::Publish)?;
        let letter = NewDeadLetter {
            id: self.unique_id(),
            source: source.to_owned(),
            fault: fault.clone(),
            body: body.to_vec(),
            headers: Default::default(),
            exchange: String::new(),
            routing_key: String::new(),
            now: self.clock.now(),
        };
        Ok(self.store.record_dead_letter(letter).await?)
    }

    /// Replays a dead letter, with other bytes if they were fixed.
    pub async fn replay(
        &self,
        letter: &DeadLetter,
        fixed: Option<Vec<u8>>,
        act: &Act,
    ) -> Result<Replayed, Refusal> {
        authorize(act, Permission::Process, None)?;
        if letter.status != "open" {
            return Err(Refusal::Settled {
                what: "dead letter",
                name: letter.id.to_string(),
                status: letter.status.clone(),
            });
        }
        let body = match fixed {
            Some(fixed) => fixed,
            None if letter.body.len() == letter.size => letter.body.clone(),
            // It comes out of a list.
            None => self.whole(letter).await?,
        };
        let trace = Trace::of(&letter.headers);
        let replayed = match self.replay_as_order(&body, &trace).await? {
            Ok(taken) => Replayed::Order(taken),
            Err(as_order) => match OrderFailed::parse(&body, &self.intake) {
                Ok((event, _)) => {
                    // Not under the name of the worker that sent it first: its claim ended long
                    // ago.
                    let message = self.outbound(&trace).failed(&event, "replay");
                    let message = Outgoing { body, ..message };
                    self.publish(message).await?;
                    Replayed::Failure
                }
                Err(as_failure) => {
                    let is_failure = letter.routing_key == ORDER_FAILED;
                    return Ok(Replayed::Refused(if is_failure { as_failure } else { as_order }));
                }
            },
        };
        self.store.resolve_dead_letter(letter.id, Resolution::Replayed, act).await?;
        Ok(replayed)
    }

    async fn whole(&self, letter: &DeadLetter) -> Result<Vec<u8>, Refusal> {
        let missing = || Refusal::not_found("dead letter", letter.id.to_string());
        Ok(self.store.dead_letter(letter.id).await?.ok_or_else(missing)?.body)
    }

    async fn replay_as_order(
        &self,
        body: &[u8],
        trace: &Trace,
    ) -> Result<Result<Taken, Fault>, Refusal> {
        match Order::parse(body, &self.intake) {
            Ok(order) => {
                let key = order.key.clone();
                Ok(match self.store_order(order, OrderSource::DeadLetter, trace).await? {
                    Taken::NumberTaken => Err(Fault::number_taken(&key)),
                    taken => Ok(taken),
                })
            }
            Err(fault) => Ok(Err(fault)),
        }
    }

    /// Decides that a dead letter is not needed; it stays readable.
    pub async fn discard(&self, letter: &DeadLetter, act: &Act) -> Result<(), Refusal> {
        authorize(act, Permission::Remove, None)?;
        let done = self.store.resolve_dead_letter(letter.id, Resolution::Discarded, act).await?;
        if done {
            return Ok(());
        }
        Err(Refusal::Settled {
            what: "dead letter",
            name: letter.id.to_string(),
            status: letter.status.clone(),
        })
    }
}

/// The result of replaying a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It was an order.
    Order(Taken),
    /// It was a failure, and went to the error handler.
    Failure,
    /// It is still not acceptable, and stays a dead letter.
    Refused(Fault),
}

impl Replayed {
    /// One sentence for people.
    pub fn sentence(&self) -> String {
        match self {
            Self::Order(Taken::Accepted) => "accepted as an order".to_owned(),
            Self::Order(Taken::Duplicate) => "the ledger has this order already".to_owned(),
            Self::Order(Taken::Conflict) => {
                "the ledger has different content under this number; stored beside it".to_owned()
            }
            Self::Order(Taken::NumberTaken) => {
                "its number belongs to a finished order that is no longer in the ledger; not stored"
                    .to_owned()
            }
            Self::Failure => "handed to the error handler".to_owned(),
            Self::Refused(fault) => format!("still not acceptable: {fault}"),
        }
    }

    /// The place that is still wrong.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Refused(fault) => fault.place.as_deref(),
            Self::Order(_) | Self::Failure => None,
        }
    }

    /// Whether it is settled now.
    pub fn is_settled(&self) -> bool {
        !matches!(self, Self::Refused(_))
    }
}

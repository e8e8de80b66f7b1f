//! Who sends orders: checkout, the API, another service that reports a failure, and mistakes. What
//! was confirmed to them is remembered: it is what the product has promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::devtools::simulation::broker::client::BrokerClient;
use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::ledger::values::UNSTORABLE;
use crate::devtools::simulation::people::erika;
use crate::devtools::simulation::schedule::{Placement, Way};
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::devtools::simulation::wiring::{MAX_BYTES, Parts};
use crate::domain::message::OrderFailed;
use crate::domain::order::document::Order;
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::order::values::OrderKey;
use crate::domain::outbound_messages::{Audience, Outgoing};
use crate::domain::topology::{ORDER_FAILED, ORDER_PLACED, Topology};
use crate::domain::trace::Trace;
use crate::ops::verbs::Ops;
use crate::ports::broker::Broker;
use crate::ports::orders::OrderSource;

const PATIENCE: Duration = Duration::from_secs(20);
/// A routing key that nothing is bound to.
const WRONG_KEY: &str = "order.palced";

/// Sends orders.
pub struct Checkout {
    broker: BrokerClient,
    ops: Arc<Ops>,
    story: Arc<Story>,
    max_count: Option<u32>,
    dice: Shared<Dice>,
    promised: Shared<Promised>,
}

/// What was confirmed.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    pub orders: BTreeSet<OrderKey>,
    /// Messages that are no orders, by their bytes.
    pub others: BTreeSet<Vec<u8>>,
}

impl Checkout {
    /// A checkout of `parts`, and an API over `ops`.
    pub fn new(parts: &Parts, ops: Arc<Ops>, seed: u64) -> Self {
        Self {
            broker: parts.checkout(),
            ops,
            story: parts.story.clone(),
            max_count: parts.setup.max_count,
            dice: Shared::new(Dice::new(seed, "checkout")),
            promised: Shared::default(),
        }
    }

    /// What was confirmed so far.
    pub fn promised(&self) -> Promised {
        self.promised.get().clone()
    }

    /// Sends one order until it is confirmed.
    pub async fn place(&self, placement: &Placement) {
        let key = key_of(placement);
        let body = document(placement, "").into_bytes();
        match placement.way {
            Way::Checkout => self.publish(ORDER_PLACED, &body).await,
            Way::CheckoutTwice => {
                self.publish(ORDER_PLACED, &body).await;
                self.pause(1_000, 60_000).await;
                self.publish(ORDER_PLACED, &body).await;
            }
            Way::CheckoutChanged => {
                self.publish(ORDER_PLACED, &body).await;
                self.pause(1_000, 60_000).await;
                let changed = document(placement, "leave it at the door");
                self.publish(ORDER_PLACED, changed.as_bytes()).await;
            }
            Way::Api => self.post(&body).await,
            Way::ForeignFailure => self.report_failure(placement).await,
            Way::Garbage => return self.send_garbage(placement).await,
            Way::Misrouted => {
                self.publish(WRONG_KEY, &body).await;
                self.promised.get().others.insert(body);
                return;
            }
            Way::Unstorable => {
                let body = document(placement, UNSTORABLE).into_bytes();
                self.publish(ORDER_PLACED, &body).await;
                self.promised.get().others.insert(body);
                return;
            }
        }
        self.story.tell("checkout", format_args!("has it confirmed that {key} is taken"));
        self.promised.get().orders.insert(key);
    }

    async fn send_garbage(&self, placement: &Placement) {
        let body = format!("{{\"order_id\": \"{}\", \"lines\": [", placement.number).into_bytes();
        self.publish(ORDER_PLACED, &body).await;
        self.promised.get().others.insert(body);
    }

    async fn post(&self, body: &[u8]) {
        loop {
            let order =
                Order::parse(body, &IntakeRules::of_bytes(MAX_BYTES)).expect("a good order");
            match self.ops.accept(&erika(), order, OrderSource::Api, &Trace::default()).await {
                Ok(_) => return,
                Err(_) => self.pause(500, 10_000).await,
            }
        }
    }

    /// Another service tried it before us, and reports its failure with the order.
    async fn report_failure(&self, placement: &Placement) {
        let class = self.dice.get().pick(&["unavailable", "rejected", "unknown_outcome"]);
        let document: serde_json::Value =
            serde_json::from_str(&document(placement, "")).expect("a good order");
        let event = json!({
            "order_id": placement.number.to_string(),
            "shop": placement.shop,
            // Services number their attempts as they like.
            "attempt": self.dice.get().number(1, 3),
            "max_count": self.max_count,
            "error": {"class": class, "code": "http_503", "message": "maintenance"},
            "order": document,
        });
        let body = event.to_string();
        debug_assert!(
            OrderFailed::parse(body.as_bytes(), &IntakeRules::of_bytes(MAX_BYTES)).is_ok(),
            "{body}"
        );
        let exchange = exchange_of_failures(self.broker.topology());
        self.publish_to(&exchange, ORDER_FAILED, body.as_bytes()).await;
    }

    async fn publish(&self, routing_key: &str, body: &[u8]) {
        let exchange = self.broker.topology().names.orders();
        self.publish_to(&exchange, routing_key, body).await;
    }

    async fn publish_to(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let number = self.dice.get().number(0, u32::MAX);
        let message = Outgoing {
            exchange: exchange.to_owned(),
            routing_key: routing_key.to_owned(),
            headers: BTreeMap::new(),
            body: body.to_vec(),
            message_id: format!("{routing_key}:{number}"),
            audience: Audience::Required,
        };
        while self.broker.publish(message.clone(), PATIENCE).await.is_err() {
            self.pause(500, 10_000).await;
        }
    }

    async fn pause(&self, from_ms: u64, to_ms: u64) {
        let pause = self.dice.get().millis(from_ms, to_ms);
        tokio::time::sleep(pause).await;
    }
}

/// Where other services publish failures.
fn exchange_of_failures(topology: &Topology) -> String {
    let mut bindings = topology.bindings.iter();
    bindings
        .find(|binding| binding.routing_key == ORDER_FAILED)
        .map_or_else(|| topology.names.events(), |binding| binding.exchange.clone())
}

/// The order that a placement is about.
pub fn key_of(placement: &Placement) -> OrderKey {
    OrderKey::new(placement.shop, &placement.number.to_string()).expect("a good key")
}

fn document(placement: &Placement, remark: &str) -> String {
    json!({
        "order_id": placement.number.to_string(),
        "shop": placement.shop,
        "currency": "EUR",
        "total": format!("{}.90", placement.number),
        "customer": {"number": "C-1", "name": "Erika Muster", "email": "erika@example.com"},
        "lines": [{"sku": "4711", "name": "Lamp", "quantity": "2", "unit_price": "49.95"}],
        "remark": remark,
    })
    .to_string()
}

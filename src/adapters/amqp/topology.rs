//! Declaring and checking what must exist on the broker.
//!
//! A worker needs no configure permission: what it may not declare it checks, and it refuses to
//! start only if something is missing. Each step uses a channel of its own where the broker may
//! close it (404, 403, 406: AMQP 0-9-1, 1.2).

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind as LapinKind};

use crate::domain::text::one_line;
use crate::domain::topology::{Binding, ExchangeKind, ExchangeSpec, Queue, Target, Topology};
use crate::ports::broker::BrokerError;

use super::connection::{Address, PATIENCE, close, open_channel};

/// Deliveries after which a message of a queue without a dead-letter route is dropped. RabbitMQ 4
/// would take 20, and a few reads by hand would lose a dead letter; "unlimited" is written in ways
/// that 3.x and 4.x understand differently (docs/facts/rabbitmq.md 1.5, 2).
const NEVER: i64 = 1_000_000;

/// One exchange, queue or binding, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// E.g. `queue orders.submit`.
    pub what: String,
    /// `None`: as it should be.
    pub fault: Option<String>,
}

/// Declares everything, and removes the bindings of earlier releases; repeating it changes nothing.
pub async fn declare(address: &Address, topology: &Topology) -> Result<(), BrokerError> {
    let connection = address.connect("topology").await?;
    let declared = async {
        declare_all(&connection, topology).await?;
        let channel = open_channel(&connection).await?;
        for binding in &topology.retired {
            unbind(&channel, binding).await.map_err(BrokerError)?;
        }
        Ok(())
    };
    let declared = declared.await;
    close(&connection).await;
    declared
}

async fn declare_what_is_missing(
    address: &Address,
    topology: &Topology,
) -> Result<(), BrokerError> {
    let connection = address.connect("topology").await?;
    let declared = declare_all(&connection, topology).await;
    close(&connection).await;
    declared
}

/// What is missing or different, without changing anything.
pub async fn check(address: &Address, topology: &Topology) -> Result<Vec<Finding>, BrokerError> {
    let connection = address.connect("topology").await?;
    let findings = check_all(&connection, topology).await;
    close(&connection).await;
    findings
}

/// For a worker at start: declares what it may, and requires that the rest exists.
pub async fn ensure(address: &Address, topology: &Topology) -> Result<(), BrokerError> {
    match declare_what_is_missing(address, topology).await {
        Ok(()) => Ok(()),
        Err(error) if is_refused(&error.0) => {
            let findings = check(address, topology).await?;
            let faults: Vec<String> = findings
                .into_iter()
                .filter_map(|f| Some(format!("{}: {}", f.what, f.fault?)))
                .collect();
            if faults.is_empty() {
                tracing::info!(
                    "broker.topology_checked (no right to declare it, and none is needed)"
                );
                return Ok(());
            }
            Err(BrokerError(format!(
                "{}; this user may not declare it: run `order-relay topology declare` with one that may",
                faults.join("; ")
            )))
        }
        Err(error) => Err(error),
    }
}

async fn declare_all(connection: &Connection, topology: &Topology) -> Result<(), BrokerError> {
    let channel = open_channel(connection).await?;
    for exchange in &topology.exchanges {
        declare_exchange(&channel, exchange, Way::Active).await.map_err(BrokerError)?;
    }
    for queue in &topology.queues {
        declare_queue(&channel, queue, Way::Active).await.map_err(BrokerError)?;
    }
    for binding in &topology.bindings {
        bind(&channel, binding).await.map_err(BrokerError)?;
    }
    Ok(())
}

/// Checks first and compares afterwards: declaring something that exists changes nothing, and is
/// refused when it is different.
async fn check_all(
    connection: &Connection,
    topology: &Topology,
) -> Result<Vec<Finding>, BrokerError> {
    let mut findings = Vec::new();
    for exchange in &topology.exchanges {
        let mut fault = None;
        for way in [Way::Passive, Way::Active] {
            let channel = open_channel(connection).await?;
            fault = fault.or(declare_exchange(&channel, exchange, way).await.err());
            if fault.is_some() {
                break;
            }
        }
        let fault = fault.filter(|fault| !is_refused(fault));
        findings.push(Finding { what: format!("exchange {}", exchange.name), fault });
    }
    for queue in &topology.queues {
        let mut fault = None;
        for way in [Way::Passive, Way::Active] {
            let channel = open_channel(connection).await?;
            fault = fault.or(declare_queue(&channel, queue, way).await.err());
            if fault.is_some() {
                break;
            }
        }
        let fault = fault.filter(|fault| !is_refused(fault));
        findings.push(Finding { what: format!("queue {}", queue.name), fault });
    }
    Ok(findings)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Active,
    Passive,
}

async fn declare_exchange(
    channel: &Channel,
    exchange: &ExchangeSpec,
    way: Way,
) -> Result<(), String> {
    let options = ExchangeDeclareOptions {
        durable: true,
        passive: way == Way::Passive,
        ..Default::default()
    };
    let kind = match exchange.kind {
        ExchangeKind::Topic => LapinKind::Topic,
        ExchangeKind::Direct => LapinKind::Direct,
        ExchangeKind::Fanout => LapinKind::Fanout,
    };
    let mut arguments = FieldTable::default();
    if let Some(alternate) = &exchange.alternate {
        text_argument(&mut arguments, "alternate-exchange", alternate);
    }
    let name = exchange.name.as_str();
    let declare = channel.exchange_declare(name.into(), kind, options, arguments);
    told(&format!("exchange {name}"), declare).await
}

async fn declare_queue(channel: &Channel, queue: &Queue, way: Way) -> Result<(), String> {
    let options =
        QueueDeclareOptions { durable: true, passive: way == Way::Passive, ..Default::default() };
    let name = queue.name.as_str();
    let declare = channel.queue_declare(name.into(), options, queue_arguments(queue));
    told(&format!("queue {name}"), async { declare.await.map(|_| ()) }).await
}

/// What safety needs is set by arguments: an operator's policy cannot override it
/// (docs/facts/rabbitmq.md 1.6).
fn queue_arguments(queue: &Queue) -> FieldTable {
    let mut arguments = FieldTable::default();
    text_argument(&mut arguments, "x-queue-type", "quorum");
    text_argument(&mut arguments, "x-overflow", "reject-publish");
    if let Some(ttl) = queue.ttl {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(ttl));
    }
    match &queue.dead_letter {
        Some(route) => {
            text_argument(&mut arguments, "x-dead-letter-exchange", &route.exchange);
            text_argument(&mut arguments, "x-dead-letter-strategy", "at-least-once");
            if let Some(key) = &route.routing_key {
                text_argument(&mut arguments, "x-dead-letter-routing-key", key);
            }
        }
        None => {
            let never = AMQPValue::LongLongInt(NEVER);
            arguments.insert("x-delivery-limit".into(), never);
        }
    }
    arguments
}

async fn bind(channel: &Channel, binding: &Binding) -> Result<(), String> {
    let (exchange, key) = (binding.exchange.as_str(), binding.routing_key.as_str());
    let nothing = FieldTable::default();
    match &binding.target {
        Target::Queue(queue) => {
            let options = QueueBindOptions::default();
            let bind = channel.queue_bind(
                queue.as_str().into(),
                exchange.into(),
                key.into(),
                options,
                nothing,
            );
            told(&format!("binding {exchange} / {key} to queue {queue}"), bind).await
        }
        Target::Exchange(to) => {
            let options = ExchangeBindOptions::default();
            let bind = channel.exchange_bind(
                to.as_str().into(),
                exchange.into(),
                key.into(),
                options,
                nothing,
            );
            told(&format!("binding {exchange} / {key} to exchange {to}"), bind).await
        }
    }
}

/// What is not bound is no error.
async fn unbind(channel: &Channel, binding: &Binding) -> Result<(), String> {
    let Target::Queue(queue) = &binding.target else { return Ok(()) };
    let (exchange, key) = (binding.exchange.as_str(), binding.routing_key.as_str());
    let nothing = FieldTable::default();
    let unbind = channel.queue_unbind(queue.as_str().into(), exchange.into(), key.into(), nothing);
    told(&format!("binding {exchange} / {key} to queue {queue}"), unbind).await
}

/// The broker's refusal in one sentence with the fix.
async fn told(
    what: &str,
    call: impl Future<Output = Result<(), lapin::Error>>,
) -> Result<(), String> {
    let error = match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => one_line(&error.to_string(), 300),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    Err(if error.contains("NOT-FOUND") || error.contains("NOT_FOUND") {
        format!("{what} is missing: run `order-relay topology declare`")
    } else if error.contains("PRECONDITION") {
        format!(
            "{what} exists with other arguments ({error}): delete it once it is empty, or choose \
             another amqp.prefix"
        )
    } else if is_refused(&error) {
        format!("{what}: the broker refuses it to this user ({error})")
    } else {
        format!("{what}: {error}")
    })
}

fn is_refused(text: &str) -> bool {
    text.contains("ACCESS-REFUSED") || text.contains("ACCESS_REFUSED")
}

fn text_argument(table: &mut FieldTable, name: &str, value: &str) {
    table.insert(name.into(), AMQPValue::LongString(value.into()));
}

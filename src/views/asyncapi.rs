//! The exchanges and messages as an AsyncAPI 3 document, made from the topology and the types that are on the wire.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::domain::message::{EventKind, OrderEvent, OrderFailed};
use crate::domain::order::document::OrderDocument;
use crate::domain::topology::{ExchangeKind, ORDER_FAILED, ORDER_PLACED, Topology};

const SCHEMAS: &str = "/components/schemas";

/// The document for this topology.
pub fn asyncapi(topology: &Topology) -> Value {
    // The dialect that AsyncAPI 3 assumes.
    let settings = SchemaSettings::draft07().with(|s| s.definitions_path = SCHEMAS.into());
    let mut schemas = settings.into_generator();
    let names = &topology.names;
    let mut document =
        Document { topology, channels: Map::new(), operations: Map::new(), messages: Map::new() };
    document.channel(Channel {
        name: "orderPlaced",
        exchange: names.orders(),
        key: ORDER_PLACED,
        action: "receive",
        summary: "Checkout hands over a paid order: with publisher confirms, mandatory and persistent.",
        message: message::<OrderDocument>("A paid order", &mut schemas),
    });
    document.channel(Channel {
        name: "orderFailed",
        exchange: names.failures(),
        key: ORDER_FAILED,
        action: "receive",
        summary: "An attempt to transfer an order failed. Other ERP services publish it, too.",
        message: message::<OrderFailed>("A failed attempt", &mut schemas),
    });
    document.channel(Channel {
        name: "orderFailedEvent",
        exchange: names.events(),
        key: ORDER_FAILED,
        action: "send",
        summary: "A failed attempt was counted.",
        message: message::<OrderFailed>("A failed attempt", &mut schemas),
    });
    for kind in EventKind::ALL {
        document.channel(Channel {
            name: event_name(kind),
            exchange: names.events(),
            key: kind.routing_key(),
            action: "send",
            summary: summary(kind),
            message: message::<OrderEvent>(summary(kind), &mut schemas),
        });
    }
    let Document { channels, operations, messages, .. } = document;
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "order-relay",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What goes over RabbitMQ between checkout, order-relay and other services. Queues are in docs/broker.md.",
            "license": {"name": env!("CARGO_PKG_LICENSE")}
        },
        "servers": {
            "rabbitmq": {
                "host": "{host}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "variables": {"host": {"default": "localhost:5672", "description": "amqp.url"}}
            }
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas.take_definitions(true)}
    })
}

struct Document<'a> {
    topology: &'a Topology,
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

struct Channel<'a> {
    name: &'a str,
    exchange: String,
    key: &'a str,
    /// What order-relay does there.
    action: &'a str,
    summary: &'a str,
    message: Value,
}

impl Document<'_> {
    fn channel(&mut self, channel: Channel<'_>) {
        let Channel { name, exchange, key, action, summary, message } = channel;
        let kind = self.topology.exchanges.iter().find(|spec| spec.name == exchange);
        let kind = kind.map_or(ExchangeKind::Topic, |spec| spec.kind).as_str();
        self.channels.insert(
            name.to_owned(),
            json!({
                "address": key,
                "description": summary,
                "messages": {name: {"$ref": format!("#/components/messages/{name}")}},
                "bindings": {"amqp": {
                    "is": "routingKey",
                    "exchange": {"name": exchange, "type": kind, "durable": true, "autoDelete": false},
                    "bindingVersion": "0.3.0"
                }}
            }),
        );
        self.operations.insert(
            format!("{action}{}{}", name[..1].to_uppercase(), &name[1..]),
            json!({
                "action": action,
                "channel": {"$ref": format!("#/channels/{name}")},
                "summary": summary,
                "messages": [{"$ref": format!("#/channels/{name}/messages/{name}")}],
                "bindings": {"amqp": {
                    "deliveryMode": 2, "mandatory": action == "receive", "bindingVersion": "0.3.0"
                }}
            }),
        );
        self.messages.insert(name.to_owned(), message);
    }
}

fn message<T: JsonSchema>(title: &str, schemas: &mut SchemaGenerator) -> Value {
    json!({
        "title": title,
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {
                "traceparent": {"type": "string", "description": "W3C Trace Context, passed on to the ERP"},
                "tracestate": {"type": "string", "description": "W3C Trace Context, passed on to the ERP"}
            }
        },
        "payload": schemas.subschema_for::<T>()
    })
}

fn event_name(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Confirmed => "orderConfirmed",
        EventKind::Parked => "orderParked",
        EventKind::Removed => "orderRemoved",
        EventKind::Restored => "orderRestored",
        EventKind::OutcomeUnknown => "orderOutcomeUnknown",
    }
}

fn summary(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Confirmed => "An order is in the ERP.",
        EventKind::Parked => "No automatic retry of an order is left: a person decides.",
        EventKind::Removed => "A person removed a lost order.",
        EventKind::Restored => "A person restored a removed order.",
        EventKind::OutcomeUnknown => {
            "An order was sent and the answer never came: the ERP is asked about it."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::topology::Names;

    #[test]
    fn every_message_for_others_is_in_it_and_every_reference_leads_somewhere() {
        let document = asyncapi(&Topology::new(Names::new("shop"), &[]));
        let channels = document["channels"].as_object().unwrap();
        assert_eq!(channels.len(), 3 + EventKind::ALL.len());
        let placed = &channels["orderPlaced"]["bindings"]["amqp"]["exchange"];
        assert_eq!((&placed["name"], &placed["type"]), (&json!("shop"), &json!("topic")));
        let text = document.to_string();
        let places =
            text.split(r##""$ref":"#"##).skip(1).map(|rest| rest.split('"').next().unwrap());
        let missing: Vec<&str> = places.filter(|place| document.pointer(place).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        let event =
            document.pointer("/components/schemas/OrderEvent/properties/occurred_at/format");
        assert_eq!(event, Some(&json!("date-time")));
    }
}

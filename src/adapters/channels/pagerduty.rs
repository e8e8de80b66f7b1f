//! PagerDuty Events API v2: an alert is triggered, and resolved when what it is about is over
//! (<https://developer.pagerduty.com/docs/events-api-v2-overview>).
//!
//! The key of the alert is that of the incident: a second trigger joins the open alert, and `resolve` ends it.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use uuid::Uuid;

use super::plain_text::lines;
use crate::domain::text::cut;
use crate::ports::channels::MessageContent;

/// The address unless the settings name another one, such as that of the EU.
pub const PAGERDUTY_URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// Limits of the API: the summary in characters, the key of an alert in bytes.
const MAX_SUMMARY: usize = 1_024;
const MAX_KEY: usize = 255;
/// Lines in the details; an event has at most 512 KB.
const MAX_LINES: usize = 100;

/// What is sent for a message: a test resolves the alert that it triggers.
pub fn bodies(id: Uuid, content: &MessageContent, key: Option<&SecretString>) -> Vec<Value> {
    let is_over = content.incident.as_ref().is_some_and(|incident| incident.is_over);
    let is_test = content.kind == "test";
    let mut bodies = Vec::new();
    if !is_over {
        bodies.push(event("trigger", id, content, key));
    }
    if is_over || is_test {
        bodies.push(event("resolve", id, content, key));
    }
    bodies
}

fn event(action: &str, id: Uuid, content: &MessageContent, key: Option<&SecretString>) -> Value {
    let incident = content.incident.as_ref().map(|incident| incident.key.clone());
    let mut alert = incident.unwrap_or_else(|| format!("order-relay/{id}"));
    while alert.len() > MAX_KEY {
        alert.pop();
    }
    let mut event = json!({
        "routing_key": key.map(ExposeSecret::expose_secret),
        "event_action": action,
        "dedup_key": alert,
    });
    if action == "trigger" {
        let lines = lines(content);
        let details: Vec<&str> = lines.iter().take(MAX_LINES).map(String::as_str).collect();
        event["client"] = json!("order-relay");
        event["client_url"] = json!(content.link);
        event["links"] = json!([{"href": content.link, "text": "Open in order-relay"}]);
        event["payload"] = json!({
            "summary": cut(&content.title, MAX_SUMMARY),
            "source": "order-relay",
            "severity": content.severity.as_str(),
            "timestamp": content.occurred_at.to_string(),
            "class": content.kind,
            "custom_details": {"details": details},
        });
    }
    event
}

#[cfg(test)]
mod tests {
    use super::super::samples::{circuit, digest};
    use super::*;
    use crate::ports::channels::Incident;

    #[test]
    fn an_alert_is_triggered_and_resolved_under_one_key() {
        let key = SecretString::from("routing");
        let began = circuit();
        let triggered = bodies(Uuid::nil(), &began, Some(&key));
        assert_eq!(triggered.len(), 1);
        assert_eq!(triggered[0]["event_action"], "trigger");
        assert_eq!(triggered[0]["payload"]["severity"], "critical");
        assert_eq!(triggered[0]["routing_key"], "routing");
        let incident =
            began.incident.clone().map(|incident| Incident { is_over: true, ..incident });
        let resolved = bodies(Uuid::max(), &MessageContent { incident, ..began }, Some(&key));
        assert_eq!(resolved.len(), 1);
        assert_eq!(resolved[0]["event_action"], "resolve");
        assert_eq!(resolved[0]["dedup_key"], triggered[0]["dedup_key"]);
    }

    #[test]
    fn a_digest_keeps_the_limits_of_pagerduty() {
        let mut content = digest(5_000);
        content.title = "x".repeat(5_000);
        content.incident = Some(Incident { key: "ä".repeat(400), is_over: false });
        let body = &bodies(Uuid::nil(), &content, None)[0];
        assert!(body.to_string().len() < 512 * 1024);
        assert!(body["payload"]["summary"].as_str().unwrap().chars().count() <= MAX_SUMMARY);
        assert!(body["dedup_key"].as_str().unwrap().len() <= MAX_KEY);
    }
}

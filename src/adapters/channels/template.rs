//! Bodies by a template of the settings, for whatever takes a webhook and is not known here: ntfy, Gotify, Mattermost.
//!
//! The engine is minijinja. `{{ title|tojson }}` is a JSON string with its quotes, so that no order data can end it.

use jiff::Timestamp;
use minijinja::{Environment, context};
use uuid::Uuid;

use super::plain_text::{fitting, lines};
use crate::ports::channels::{MessageContent, Severity};

/// Longest text, in bytes: ntfy makes a file of a message of more than 4,096.
const MAX_TEXT_BYTES: usize = 3_000;
/// Limit of a template's work, so that none runs for ever (minijinja `fuel`).
const FUEL: u64 = 1_000_000;
const NAME: &str = "body";

/// Checks a template without using it, with a message that has everything.
pub fn check(source: &str, sample: &MessageContent) -> Result<(), String> {
    render(source, Uuid::nil(), sample).map(|_| ())
}

/// The body of a message.
pub fn render(source: &str, id: Uuid, content: &MessageContent) -> Result<String, String> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
    let failed = |error: minijinja::Error| format!("the template of the body: {error}");
    environment.add_template(NAME, source).map_err(failed)?;
    let values = context! {
        id => id.to_string(),
        kind => &content.kind,
        severity => content.severity.as_str(),
        // 1 to 5 as ntfy counts; Gotify counts to 10.
        priority => priority(content.severity),
        title => &content.title,
        text => fitting(&lines(content), MAX_TEXT_BYTES),
        link => &content.link,
        count => content.failures.as_ref().map_or(0, |failures| failures.count),
        events => content.events.len(),
        occurred_at => content.occurred_at.to_string(),
    };
    environment.get_template(NAME).and_then(|template| template.render(values)).map_err(failed)
}

/// A message to check a template with.
pub fn sample() -> MessageContent {
    MessageContent {
        kind: "test".to_owned(),
        severity: Severity::Info,
        title: "A \"title\"".to_owned(),
        link: "https://relay.example.com".to_owned(),
        incident: None,
        events: Vec::new(),
        failures: None,
        occurred_at: Timestamp::UNIX_EPOCH,
    }
}

fn priority(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 2,
        Severity::Warning => 3,
        Severity::Error => 4,
        Severity::Critical => 5,
    }
}

/// Whether a body is JSON, which decides about its content type.
pub fn is_json(body: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::samples::{digest, one};
    use super::*;

    const NTFY: &str = r#"{"topic": "orders", "title": {{ title|tojson }}, "message": {{ text|tojson }}, "priority": {{ priority }}, "click": {{ link|tojson }}}"#;

    #[test]
    fn a_template_makes_json_that_no_order_data_can_break() {
        let mut content = one();
        content.title = "\"}, \"topic\": \"other".to_owned();
        let body: serde_json::Value =
            serde_json::from_str(&render(NTFY, Uuid::nil(), &content).unwrap()).unwrap();
        assert_eq!(body["title"], content.title.as_str());
        assert_eq!(body["topic"], "orders");
        assert_eq!(body["priority"], 4);
    }

    #[test]
    fn the_text_of_a_large_digest_is_short_enough_for_ntfy() {
        let body = render("{{ text }}", Uuid::nil(), &digest(5_000)).unwrap();
        assert!(body.len() <= MAX_TEXT_BYTES && body.contains("5000 x rejected"), "{body}");
    }

    #[test]
    fn a_broken_template_says_what_is_wrong() {
        for bad in ["{{ titel }}", "{{ title", "{% for x in range(100000000) %}{% endfor %}"] {
            let told = check(bad, &one()).unwrap_err();
            assert!(told.starts_with("the template of the body:"), "{told}");
        }
    }
}

//! Workflows webhooks of Microsoft Teams: a message with one Adaptive Card
//! (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>).
//!
//! Order data stands in text runs, which show Markdown as it is; a `TextBlock` would make links of it.

use serde_json::{Value, json};

use super::plain_text::{fitting, lines};
use crate::domain::text::cut;
use crate::ports::channels::{MessageContent, Severity};

/// A message of Teams has at most 28 KB, and JSON makes a text longer.
const MAX_TEXT_BYTES: usize = 10_000;
const MAX_TITLE: usize = 200;

/// The body of a message.
pub fn body(content: &MessageContent) -> Value {
    let mut parts = vec![run(&cut(&content.title, MAX_TITLE), "Bolder", color(content.severity))];
    let text = fitting(&lines(content), MAX_TEXT_BYTES);
    parts.extend(text.lines().map(|line| run(line, "Default", "Default")));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": parts,
        "actions": [{"type": "Action.OpenUrl", "title": "Open in order-relay", "url": content.link}],
    });
    json!({
        "type": "message",
        "summary": cut(&content.title, MAX_TITLE),
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

fn run(text: &str, weight: &str, color: &str) -> Value {
    let run = json!({"type": "TextRun", "text": text, "weight": weight, "color": color});
    json!({"type": "RichTextBlock", "inlines": [run]})
}

fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "Accent",
        Severity::Warning => "Warning",
        Severity::Error | Severity::Critical => "Attention",
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{digest, one};
    use super::*;

    #[test]
    fn hostile_order_data_stands_in_text_runs_only() {
        let mut content = one();
        content.title = "[pay](https://evil.example)".to_owned();
        let body = body(&content);
        let card = &body["attachments"][0]["content"];
        for part in card["body"].as_array().unwrap() {
            assert_eq!(part["type"], "RichTextBlock");
            assert_eq!(part["inlines"][0]["type"], "TextRun");
        }
        assert_eq!(card["body"][0]["inlines"][0]["text"], "[pay](https://evil.example)");
        assert_eq!(card["actions"][0]["url"], content.link);
    }

    #[test]
    fn a_digest_keeps_the_limit_of_teams() {
        let body = body(&digest(5_000));
        assert!(body.to_string().len() < 28_000, "{}", body.to_string().len());
        assert!(body.to_string().contains("5000 x rejected"));
    }
}

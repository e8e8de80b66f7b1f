//! Incoming webhooks of Slack: blocks, and a text for notifications
//! (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
//!
//! Order data is hostile: `&`, `<` and `>` are escaped, so that none of it becomes a link or calls a whole channel.

use serde_json::{Value, json};

use super::plain_text::{fitting, lines};
use crate::domain::text::cut;
use crate::ports::channels::{MessageContent, Severity};

/// Limits of Block Kit, in characters: a header, a section.
const MAX_HEADER: usize = 150;
const MAX_SECTION: usize = 3_000;

/// The body of a message.
pub fn body(content: &MessageContent) -> Value {
    let title = format!("{} {}", sign(content.severity), content.title);
    let mut blocks = vec![json!({
        "type": "header",
        "text": {"type": "plain_text", "text": cut(&title, MAX_HEADER), "emoji": true},
    })];
    let escaped: Vec<String> = lines(content).iter().map(|line| escape(line)).collect();
    // In bytes, which are never fewer than characters.
    let text = fitting(&escaped, MAX_SECTION);
    if !text.is_empty() {
        blocks.push(section(&text));
    }
    blocks.push(section(&format!("<{}|Open in order-relay>", escape_url(&content.link))));
    json!({"text": escape(&cut(&title, MAX_SECTION / 5)), "blocks": blocks})
}

fn section(text: &str) -> Value {
    // `verbatim`: Slack makes no links and no mentions out of the text by itself.
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": true}})
}

fn sign(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => ":information_source:",
        Severity::Warning => ":warning:",
        Severity::Error => ":red_circle:",
        Severity::Critical => ":rotating_light:",
    }
}

/// The three characters that Slack gives a meaning.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The same in the address of a link, where `|` begins its text.
fn escape_url(url: &str) -> String {
    escape(url).replace('|', "%7C")
}

#[cfg(test)]
mod tests {
    use super::super::samples::{digest, one};
    use super::*;

    #[test]
    fn hostile_order_data_becomes_no_mention_and_no_link() {
        let mut content = one();
        content.title = "<!channel> & <https://evil.example|pay>".to_owned();
        content.failures.as_mut().unwrap().types[0].message = "<@U1> & co".to_owned();
        let body = body(&content);
        let text = body["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(text.contains("&lt;@U1&gt; &amp; co"), "{text}");
        assert!(body["text"].as_str().unwrap().contains("&lt;!channel&gt;"));
        // A plain text is shown as it is.
        assert_eq!(body["blocks"][0]["text"]["type"], "plain_text");
        assert_eq!(body["blocks"][1]["text"]["verbatim"], true);
    }

    #[test]
    fn a_digest_keeps_the_limits_of_slack() {
        let body = body(&digest(5_000));
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50);
        let longest = |block: &Value| block["text"]["text"].as_str().unwrap().chars().count();
        assert!(blocks.iter().all(|block| longest(block) <= MAX_SECTION));
        assert!(longest(&blocks[0]) <= MAX_HEADER);
        assert!(blocks[1]["text"]["text"].as_str().unwrap().contains("5000 x rejected"));
        assert!(body.to_string().contains("/channel-messages/"));
    }
}

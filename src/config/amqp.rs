//! `amqp.*`: RabbitMQ.

use secrecy::SecretString;

use super::reader::Reader;

/// `amqp.*`
#[derive(Debug, Clone)]
pub struct AmqpSettings {
    /// The nodes of one cluster; none: the in-process broker.
    pub nodes: Vec<SecretString>,
    /// Prefix of every name.
    pub prefix: String,
    /// Unsettled messages per queue and process.
    pub prefetch: u16,
}

impl AmqpSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            nodes: r.servers("amqp.url"),
            prefix: r.checked_text("amqp.prefix", prefix),
            prefetch: r.number("amqp.prefetch", 1..=10_000),
        }
    }
}

fn prefix(text: &str) -> Result<(), String> {
    let good = (1..=60).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good { Ok(()) } else { Err(format!("`{text}`: expected 1 to 60 of A-Z a-z 0-9 . _ -")) }
}

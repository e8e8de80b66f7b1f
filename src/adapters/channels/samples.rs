//! Channels, notices and messages for the tests beside this file.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

use super::compose::MessageComposer;
use crate::domain::channel::{Channel, ChannelRule, ChannelTarget, ChannelType};
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::domain::quiet_times::QuietTimes;
use crate::ports::channels::{ChannelComposer, MessageContent, NewMessage};
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(super) fn channel(channel_type: ChannelType) -> Channel {
    Channel {
        name: "ops".to_owned(),
        target: ChannelTarget {
            channel_type,
            url: SecretString::from("https://hooks.example.com/services/T0/s3cret-part"),
            secrets: Vec::new(),
            key: None,
            authorization: None,
            body: None,
            allow_private: false,
            patience: Duration::from_secs(10),
            max_bytes: 256 * 1024,
        },
        rule: ChannelRule {
            enabled: true,
            kinds: NoticeKind::ALL.to_vec(),
            shops: Vec::new(),
            threshold: None,
            digest: DigestRule { after: 3, every: Duration::from_mins(5) },
            quiet: QuietTimes::default(),
        },
        is_stored: false,
    }
}

/// A failure of the order with this number, for this reason.
pub(super) fn failure(number: usize, reason: &str) -> Notice {
    let seconds = i64::try_from(number).unwrap_or_default();
    let detail = NoticeDetail {
        order_id: Some(number.to_string()),
        currency: Some("EUR".to_owned()),
        total: Some("10.00".to_owned()),
        attempt: 1,
        fail_count: 1,
        phase: "parked".to_owned(),
        class: Some("rejected".to_owned()),
        code: Some("http_422".to_owned()),
        erp: None,
        ..NoticeDetail::of_erp(
            "default",
            "de",
            reason,
            Timestamp::from_second(seconds).unwrap_or(NOW),
        )
    };
    let id = format!("order_failed:de/{number}#1");
    Notice { id, kind: NoticeKind::OrderFailed, detail, created_at: NOW }
}

pub(super) fn composed(channel: &Channel, notices: &[Notice]) -> Vec<NewMessage> {
    let next = Cell::new(1);
    let ids = || {
        next.set(next.get() + 1);
        Uuid::from_u128(next.get())
    };
    MessageComposer::new("https://relay.example.com").compose(channel, notices, NOW, &ids)
}

fn message(notices: &[Notice]) -> MessageContent {
    composed(&channel(ChannelType::Slack), notices).remove(0).content
}

/// One failed order.
pub(super) fn one() -> MessageContent {
    message(&[failure(1, "no such article")])
}

/// That many failed orders.
pub(super) fn digest(orders: usize) -> MessageContent {
    message(&(0..orders).map(|number| failure(number, "no such article")).collect::<Vec<_>>())
}

/// An ERP that is not usable.
pub(super) fn circuit() -> MessageContent {
    let detail = NoticeDetail::of_erp("default", "de", "5 of 6 requests failed", NOW);
    let id = "circuit_opened:default@0".to_owned();
    message(&[Notice { id, kind: NoticeKind::CircuitOpened, detail, created_at: NOW }])
}

//! `channels.*`: channels beside mail. The page reads what it stores through the same functions.

use std::time::Duration;

use config::{Map, Value, ValueKind};
use jiff::tz::TimeZone;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::channel::{Channel, ChannelRule, ChannelTarget, ChannelType};
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::domain::quiet_times::{QuietTimes, QuietTimesError};
use crate::domain::webhook_secret::signing_key;

use super::reader::{Fault, ONE_DAY, ONE_MS, Reader};

const TYPES: [&str; 4] = ["webhook", "slack", "teams", "pagerduty"];
const MAX_NAME: usize = 40;

/// Every channel of the settings. The defaults of all channels are read first, also when there is none.
pub(super) fn read_all(r: &mut Reader) -> Vec<Channel> {
    drop(read(r, ""));
    let mut channels = Vec::new();
    for name in r.channels() {
        if !is_name(&name) {
            r.fault(&format!("channels.{name}"), NAME_EXPECTED);
        }
        r.enter_channel(Some(&name));
        let channel = read(r, &name);
        check(r, &channel);
        channels.push(channel);
    }
    r.enter_channel(None);
    channels
}

/// What is said of a name that is none.
pub const NAME_EXPECTED: &str =
    "expected a name of 1 to 40 small letters, digits, - and _, beginning with a letter or digit";

/// Whether a channel may be called so.
pub fn is_name(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|b| is_plain(b) || b == b'-' || b == b'_')
        && name.bytes().next().is_some_and(is_plain)
}

/// What applies to channels that do not say otherwise: of the settings, for those that are made on the page.
#[derive(Debug, Clone)]
pub struct ChannelDefaults {
    /// Keys below `channels.NAME`.
    values: Map<String, Value>,
    zone: String,
}

impl ChannelDefaults {
    pub(super) fn read_of(r: &Reader, zone: &TimeZone) -> Self {
        Self { values: r.any_channel(), zone: zone.iana_name().unwrap_or("UTC").to_owned() }
    }

    /// A channel that was made on the page, out of its JSON.
    pub fn read(&self, name: &str, definition: &str) -> Result<Channel, Vec<Fault>> {
        let fault =
            |detail: String| vec![Fault { key: format!("channels.{name}"), detail, origin: None }];
        if !is_name(name) {
            return Err(fault(NAME_EXPECTED.to_owned()));
        }
        let own: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(definition).map_err(|error| fault(error.to_string()))?;
        if own.contains_key("allow_private") {
            // Whoever reaches the page must not reach the network behind it.
            return Err(fault("allow_private can only be set in the settings".to_owned()));
        }
        let own = own.into_iter().map(|(key, value)| (key, value_of(value))).collect();
        let table = |entries: Map<String, Value>| Value::new(None, ValueKind::Table(entries));
        let of_all = |channels: Map<String, Value>| {
            Map::from_iter([
                ("channels".to_owned(), table(channels)),
                ("time_zone".to_owned(), Value::new(None, self.zone.clone())),
            ])
        };
        let any = || ("NAME".to_owned(), table(self.values.clone()));
        let values = of_all(Map::from_iter([any(), (name.to_owned(), table(own))]));
        let mut r = Reader::new(values, of_all(Map::from_iter([any()])));
        drop(read(&mut r, ""));
        r.enter_channel(Some(name));
        let channel = read(&mut r, name);
        check(&mut r, &channel);
        r.finish()?;
        Ok(Channel { is_stored: true, ..channel })
    }
}

fn value_of(value: serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Bool(flag) => ValueKind::Boolean(flag),
        serde_json::Value::String(text) => ValueKind::String(text),
        serde_json::Value::Array(items) => {
            ValueKind::Array(items.into_iter().map(value_of).collect())
        }
        serde_json::Value::Null => ValueKind::Nil,
        other => ValueKind::String(other.to_string()),
    };
    Value::new(None, kind)
}

fn read(r: &mut Reader, name: &str) -> Channel {
    let (target, mut rule) = (read_target(r), read_rule(r));
    if target.channel_type == ChannelType::Pagerduty {
        rule.kinds.extend(ends_of(&rule.kinds));
    }
    Channel { name: name.to_owned(), target, rule, is_stored: false }
}

/// Who is told that an incident has begun is told that it is over: an alert would stay open for ever.
fn ends_of(kinds: &[NoticeKind]) -> Vec<NoticeKind> {
    use NoticeKind as K;
    let has = |some: &[NoticeKind]| some.iter().any(|kind| kinds.contains(kind));
    let of_types = [K::OrderFailed, K::FailureTypeNew, K::FailureTypeBack, K::FailureTypeUnstable];
    [
        (has(&[K::CircuitOpened, K::CircuitUnstable]), K::CircuitClosed),
        (has(&of_types), K::FailureTypeEnded),
    ]
    .into_iter()
    .filter(|(begins, end)| *begins && !kinds.contains(end))
    .map(|(_, end)| end)
    .collect()
}

fn read_target(r: &mut Reader) -> ChannelTarget {
    let body = r.text("channels.NAME.body");
    ChannelTarget {
        channel_type: r.choice("channels.NAME.type", &TYPES),
        url: r
            .hidden("channels.NAME.url")
            .unwrap_or_else(|| SecretString::from(String::new())),
        secrets: r.hidden_list("channels.NAME.secret", |secret| match signing_key(secret) {
            Some(_) => Ok(()),
            // Without the text: it is a secret.
            None => Err("expected \"whsec_\" and 24 to 64 bytes in base64, such as `openssl rand -base64 32` makes".to_owned()),
        }),
        key: r.hidden("channels.NAME.key"),
        authorization: r.hidden("channels.NAME.authorization"),
        body: (!body.trim().is_empty()).then_some(body),
        allow_private: r.flag("channels.NAME.allow_private"),
        patience: r.duration("channels.NAME.patience", ONE_MS..=Duration::from_mins(2)),
        max_bytes: r.bytes("channels.NAME.max_bytes", 16 * 1024..=16 * 1024 * 1024),
    }
}

fn read_rule(r: &mut Reader) -> ChannelRule {
    let kinds = r.texts("channels.NAME.kinds", |name| kind(name).map(|_| ()));
    let kinds: Vec<NoticeKind> = kinds.iter().filter_map(|name| kind(name).ok()).collect();
    let threshold = r.text("channels.NAME.threshold");
    let threshold = match threshold.trim() {
        "" => None,
        text => text.parse().map_err(|error| fault(r, "threshold", &error)).ok(),
    };
    ChannelRule {
        enabled: r.flag("channels.NAME.enabled"),
        kinds: if kinds.is_empty() { NoticeKind::ALL.to_vec() } else { kinds },
        shops: r.texts("channels.NAME.shops", |_| Ok(())),
        threshold,
        digest: DigestRule {
            after: r.number("channels.NAME.digest_after", 1..=1_000),
            every: r.duration("channels.NAME.digest_every", ONE_MS..=ONE_DAY),
        },
        quiet: read_quiet(r),
    }
}

fn read_quiet(r: &mut Reader) -> QuietTimes {
    let hours = r.texts("channels.NAME.quiet_hours", |_| Ok(()));
    let maintenance = r.texts("channels.NAME.maintenance", |_| Ok(()));
    let of_shops = r.time_zone("time_zone");
    let zone = r.time_zone_or_none("channels.NAME.time_zone").unwrap_or(of_shops);
    QuietTimes::parse(&hours, &maintenance, zone).unwrap_or_else(|error| {
        let key = match error {
            QuietTimesError::Window(_) => "maintenance",
            QuietTimesError::Hours(_) | QuietTimesError::Always => "quiet_hours",
        };
        fault(r, key, &error);
        QuietTimes::default()
    })
}

fn fault(r: &mut Reader, name: &str, error: &dyn std::fmt::Display) {
    r.fault(&format!("channels.NAME.{name}"), error.to_string());
}

/// A kind that channels can be told.
fn kind(name: &str) -> Result<NoticeKind, String> {
    let known = || NoticeKind::ALL.into_iter().filter(|kind| kind.is_for_channels());
    known().find(|kind| kind.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = known().map(NoticeKind::as_str).collect();
        let name = crate::domain::text::one_line(name, 40);
        format!("`{name}` is not one of {}", names.join(", "))
    })
}

/// What a channel of its type needs.
fn check(r: &mut Reader, channel: &Channel) {
    let target = &channel.target;
    let is_pagerduty = target.channel_type == ChannelType::Pagerduty;
    let missing = |name: &str| format!("channels.{}.{name}", channel.name);
    if is_pagerduty && target.key.is_none() {
        r.fault(&missing("key"), "missing: PagerDuty needs the integration key of a service");
    }
    if !is_pagerduty && target.url.expose_secret().is_empty() {
        r.fault(&missing("url"), "missing: where are messages sent to?");
    }
    if target.channel_type != ChannelType::Webhook {
        let set = [
            ("secret", !target.secrets.is_empty()),
            ("authorization", target.authorization.is_some()),
            ("body", target.body.is_some()),
        ];
        for (name, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            fault(r, name, &"only a channel of the type webhook has this");
        }
    }
}

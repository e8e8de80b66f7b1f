//! Reading settings one by one, so that every fault is found at once, with its place.
//!
//! Each key is read by name with its kind and range. A key that was never read is unknown; a value
//! that cannot be read is replaced by the default, so that reading continues. The list of what was
//! read is also the source of `config schema`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use config::{Map, Value, ValueKind};
use jiff::tz::TimeZone;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::config::addresses::{self, mask};
use crate::config::fault_reader::{self, Faults, unknown_key};
use crate::domain::text::quoted;

pub(super) const ONE_MS: Duration = Duration::from_millis(1);
pub(super) const ONE_DAY: Duration = Duration::from_hours(24);

/// Something wrong with the settings: where, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub key: String,
    /// What is wrong and what is expected.
    pub detail: String,
    /// The file or the environment, where it is known.
    pub origin: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.detail)?;
        match &self.origin {
            Some(origin) => write!(f, " (in {origin})"),
            None => Ok(()),
        }
    }
}

/// A key that was read.
#[derive(Debug, Clone)]
pub struct Known {
    /// JSON Schema of its value.
    pub schema: serde_json::Value,
    /// Its value as text, secrets masked.
    pub shown: String,
    /// Where the value comes from; `None`: built in.
    pub origin: Option<String>,
}

/// Reads settings out of merged sources.
pub struct Reader {
    values: BTreeMap<String, Value>,
    defaults: BTreeMap<String, Value>,
    known: BTreeMap<String, Known>,
    faults: Faults<Fault>,
    shop: Option<String>,
    channel: Option<String>,
}

/// How the defaults of all channels are written: `channels.NAME.type`.
const ANY_CHANNEL: &str = "channels.NAME.";

impl Reader {
    /// A reader of `values` over `defaults`.
    pub fn new(values: Map<String, Value>, defaults: Map<String, Value>) -> Self {
        Self {
            values: flatten(values),
            defaults: flatten(defaults),
            known: BTreeMap::new(),
            faults: Faults::default(),
            shop: None,
            channel: None,
        }
    }

    /// Shops with a table of their own.
    pub fn shops(&self) -> BTreeSet<String> {
        let below = self.values.keys().filter_map(|key| key.strip_prefix("shops."));
        below.filter_map(|rest| Some(rest.split_once('.')?.0.to_owned())).collect()
    }

    /// From now on, keys are looked for in this shop's table first.
    pub fn enter_shop(&mut self, shop: Option<&str>) {
        self.shop = shop.map(str::to_owned);
    }

    /// Channels with a table of their own.
    pub fn channels(&self) -> BTreeSet<String> {
        let below = self.values.keys().filter_map(|key| key.strip_prefix("channels."));
        let names = below.filter_map(|rest| Some(rest.split_once('.')?.0));
        names.filter(|name| *name != "NAME").map(str::to_owned).collect()
    }

    /// What stands below `channels.NAME`.
    pub fn any_channel(&self) -> Map<String, Value> {
        let all = self.values.iter();
        let own = |key: &str| key.strip_prefix(ANY_CHANNEL).map(str::to_owned);
        all.filter_map(|(key, value)| Some((own(key)?, value.clone()))).collect()
    }

    /// From now on, `channels.NAME.…` is that of this channel first.
    pub fn enter_channel(&mut self, channel: Option<&str>) {
        self.channel = channel.map(str::to_owned);
    }

    /// Whether the shop has any key of its own below `section`.
    pub fn shop_has(&self, section: &str) -> bool {
        let Some(shop) = &self.shop else { return false };
        let prefix = format!("shops.{shop}.{section}.");
        self.values.keys().any(|key| key.starts_with(&prefix))
    }

    /// Adds a fault of the caller's own.
    pub fn fault(&mut self, key: &str, detail: impl Into<String>) {
        let (key, value) = self.find(key);
        let origin = value.as_ref().and_then(origin);
        self.faults.add(Fault { key, detail: detail.into(), origin });
    }

    /// What was read, or every fault.
    pub fn finish(self) -> Result<BTreeMap<String, Known>, Vec<Fault>> {
        for (key, value) in self.values.iter().filter(|(key, _)| !self.known.contains_key(*key)) {
            let of_channel = key.strip_prefix("channels.");
            let below = key.strip_prefix("shops.").or(of_channel);
            let below = below.and_then(|rest| rest.split_once('.'));
            let name = below.map_or(key.as_str(), |(_, name)| name);
            let prefix = key.strip_suffix(name).unwrap_or_default();
            let known = self.defaults.keys().map(String::as_str);
            let detail = match of_channel {
                None => unknown_key(name, known, prefix),
                Some(_) => {
                    let known = known.filter_map(|known| known.strip_prefix(ANY_CHANNEL));
                    unknown_key(name, known, prefix)
                }
            };
            self.faults.add(Fault { key: key.clone(), detail, origin: origin(value) });
        }
        self.faults.none_or_all(self.known)
    }

    /// The full key and its value: the shop's, otherwise the general one.
    fn find(&self, key: &str) -> (String, Option<Value>) {
        if let Some(shop) = &self.shop {
            let own = format!("shops.{shop}.{key}");
            if let Some(value) = self.values.get(&own) {
                return (own, Some(value.clone()));
            }
        }
        if let (Some(channel), Some(name)) = (&self.channel, key.strip_prefix(ANY_CHANNEL)) {
            let own = format!("channels.{channel}.{name}");
            if let Some(value) = self.values.get(&own) {
                return (own, Some(value.clone()));
            }
        }
        (key.to_owned(), self.values.get(key).cloned())
    }

    /// Reads `key` with `parse`; its fault is noted and the default taken instead.
    fn read<T>(
        &mut self,
        key: &str,
        schema: serde_json::Value,
        show: fn(&str) -> String,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> T {
        self.read_own(key, schema, show, &parse).unwrap_or_else(|| {
            let default = self.defaults.get(key).and_then(|value| parse(value).ok());
            default.expect("config.default.toml holds a good value for every key")
        })
    }

    /// The same for a key that may have no default.
    fn read_own<T>(
        &mut self,
        key: &str,
        schema: serde_json::Value,
        show: fn(&str) -> String,
        parse: impl Fn(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let (full, value) = self.find(key);
        let value = value.unwrap_or_else(|| Value::new(None, ValueKind::Nil));
        let known = Known { schema, shown: show(&display(&value)), origin: origin(&value) };
        self.known.insert(full.clone(), known);
        let fault = |detail| Fault { key: full, detail, origin: origin(&value) };
        self.faults.keep(parse(&value).map_err(fault))
    }

    /// Any text.
    pub fn text(&mut self, key: &str) -> String {
        self.read(key, json!({"type": "string"}), str::to_owned, text)
    }

    /// Text that `check` accepts.
    pub fn checked_text(&mut self, key: &str, check: fn(&str) -> Result<(), String>) -> String {
        let parse = |value: &Value| {
            let text = text(value)?;
            check(&text).map(|()| text)
        };
        self.read(key, json!({"type": "string"}), str::to_owned, parse)
    }

    /// Text that is never shown; `None` when empty.
    pub fn secret(&mut self, key: &str) -> Option<SecretString> {
        let schema = json!({"type": "string", "writeOnly": true});
        let text = self.read(key, schema, mask, text);
        (!text.is_empty()).then(|| SecretString::from(text))
    }

    /// Addresses of servers, which are never shown with their passwords; empty when none is set.
    pub fn servers(&mut self, key: &str) -> Vec<SecretString> {
        let schema =
            json!({"type": ["string", "array"], "items": {"type": "string"}, "writeOnly": true});
        self.read(key, schema, mask, |value| {
            let texts = match &value.kind {
                ValueKind::Array(items) => items.iter().map(text).collect::<Result<_, _>>()?,
                _ => vec![text(value)?],
            };
            let texts = texts.iter().filter(|text| !text.is_empty());
            Ok(texts.map(|text| addresses::servers(text)).collect::<Result<Vec<_>, _>>()?.concat())
        })
    }

    /// The same for text of which nothing may be shown, such as an address that is itself a secret.
    pub fn hidden(&mut self, key: &str) -> Option<SecretString> {
        let schema = json!({"type": "string", "writeOnly": true});
        let text = self.read(key, schema, mask_all, text);
        (!text.is_empty()).then(|| SecretString::from(text))
    }

    /// A list of secrets that `check` accepts.
    pub fn hidden_list(
        &mut self,
        key: &str,
        check: fn(&str) -> Result<(), String>,
    ) -> Vec<SecretString> {
        let schema =
            json!({"type": ["array", "string"], "items": {"type": "string"}, "writeOnly": true});
        let texts = self.read(key, schema, mask_all, |value| {
            let items = list(value)?;
            items.iter().try_for_each(|item| check(item))?;
            Ok(items)
        });
        texts.into_iter().map(SecretString::from).collect()
    }

    /// Whether somebody set `key`, other than by default.
    pub fn is_set(&self, key: &str) -> bool {
        self.find(key).1.is_some_and(|value| origin(&value).is_some())
    }

    /// Names below `table` that are the user's own choice: the shop's and everybody's.
    fn names_below(&self, table: &str) -> BTreeSet<String> {
        let shop = self.shop.as_ref().map(|shop| format!("shops.{shop}.{table}."));
        let prefixes = [Some(format!("{table}.")), shop];
        let below = prefixes.iter().flatten().flat_map(|prefix| {
            self.values.keys().filter_map(|key| key.strip_prefix(prefix.as_str()))
        });
        below.map(str::to_owned).collect()
    }

    /// Texts under names of the user's own choice.
    pub fn texts_below(&mut self, table: &str) -> BTreeMap<String, String> {
        self.below(table, str::to_owned)
    }

    /// Secrets under names of the user's own choice.
    pub fn secrets_below(&mut self, table: &str) -> BTreeMap<String, SecretString> {
        let texts = self.below(table, mask_all).into_iter();
        texts.map(|(name, text)| (name, SecretString::from(text))).collect()
    }

    /// Values below `table` that are not empty.
    fn below(&mut self, table: &str, show: fn(&str) -> String) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for name in self.names_below(table) {
            let schema = json!({"type": ["string", "number", "boolean"]});
            let read = self.read_own(&format!("{table}.{name}"), schema, show, text);
            texts.extend(read.filter(|text| !text.is_empty()).map(|text| (name, text)));
        }
        texts
    }

    /// A whole number.
    pub fn number<T: TryFrom<i64>>(&mut self, key: &str, range: RangeInclusive<i64>) -> T {
        let schema = json!({"type": "integer", "minimum": range.start(), "maximum": range.end()});
        let number = self.read(key, schema, str::to_owned, |value| whole(value, &range));
        T::try_from(number).ok().expect("the range fits the type")
    }

    /// A size in bytes: a whole number, also one with KiB or MiB.
    pub fn bytes(&mut self, key: &str, range: RangeInclusive<usize>) -> usize {
        let schema =
            json!({"type": ["integer", "string"], "examples": [1_048_576, "512KiB", "1MiB"]});
        self.read(key, schema, str::to_owned, |value| size(&text(value)?, &range))
    }

    /// A whole number or `"none"`.
    pub fn number_or_none(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<u32> {
        let schema = json!({"anyOf": [
            {"type": "integer", "minimum": range.start(), "maximum": range.end()},
            {"const": "none"}
        ]});
        let number = self.read(key, schema, str::to_owned, |value| match text(value) {
            Ok(text) if text == "none" => Ok(None),
            _ => whole(value, &range).map(Some).map_err(|error| format!("{error}, or \"none\"")),
        });
        number.map(|number| u32::try_from(number).expect("the range fits the type"))
    }

    /// A time.
    pub fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Duration {
        let schema = json!({"type": "string", "examples": ["500ms", "30s", "5m", "2h"]});
        self.read(key, schema, str::to_owned, |value| time(&text(value)?, &range))
    }

    /// A time in days, such as "400d", or any other time; `None` when empty.
    pub fn age_or_none(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let schema = json!({"type": "string", "examples": ["", "90d", "400d"]});
        self.read(key, schema, str::to_owned, |value| match text(value)?.as_str() {
            "" => Ok(None),
            text => age(text, &range).map(Some),
        })
    }

    /// The IANA name of a time zone.
    pub fn time_zone(&mut self, key: &str) -> TimeZone {
        let schema = json!({"type": "string", "examples": ["UTC", "Europe/Berlin"]});
        self.read(key, schema, str::to_owned, |value| time_zone(&text(value)?))
    }

    /// The same; `None` when empty.
    pub fn time_zone_or_none(&mut self, key: &str) -> Option<TimeZone> {
        let schema = json!({"type": "string", "examples": ["", "UTC", "Europe/Berlin"]});
        self.read(key, schema, str::to_owned, |value| match text(value)?.trim() {
            "" => Ok(None),
            name => time_zone(name).map(Some),
        })
    }

    /// A list of times, at least one.
    pub fn durations(&mut self, key: &str, range: RangeInclusive<Duration>) -> Vec<Duration> {
        let schema = json!({"type": "array", "items": {"type": "string"}, "minItems": 1});
        self.read(key, schema, str::to_owned, |value| {
            let items = list(value)?;
            if items.is_empty() || items.len() > 20 {
                return Err("expected 1 to 20 times such as \"30s\"".to_owned());
            }
            items.iter().map(|item| time(item, &range)).collect()
        })
    }

    /// A list of texts that `check` accepts.
    pub fn texts(&mut self, key: &str, check: fn(&str) -> Result<(), String>) -> Vec<String> {
        let schema = json!({"type": ["array", "string"], "items": {"type": "string"}});
        self.read(key, schema, str::to_owned, |value| {
            let items = list(value)?;
            items.iter().try_for_each(|item| check(item))?;
            Ok(items)
        })
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &str) -> bool {
        self.read(key, json!({"type": "boolean"}), str::to_owned, |value| {
            let text = text(value)?;
            text.parse().map_err(|_| format!("{}: expected true or false", quoted(&text, 40)))
        })
    }

    /// One of the names of `T`.
    pub fn choice<T: DeserializeOwned>(&mut self, key: &str, names: &[&str]) -> T {
        let schema = json!({"enum": names});
        let expected = names.join(", ");
        self.read(key, schema, str::to_owned, |value| {
            let text = text(value)?;
            serde_json::from_value(json!(text))
                .map_err(|_| format!("{} is not one of {expected}", quoted(&text, 40)))
        })
    }
}

fn flatten(table: Map<String, Value>) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in table {
        match value.kind {
            ValueKind::Table(table) => {
                for (below, value) in flatten(table) {
                    flat.insert(format!("{key}.{below}"), value);
                }
            }
            _ => drop(flat.insert(key, value)),
        }
    }
    flat
}

fn origin(value: &Value) -> Option<String> {
    value.origin().map(str::to_owned)
}

fn display(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => text.clone(),
        ValueKind::Array(items) => items.iter().map(display).collect::<Vec<_>>().join(", "),
        ValueKind::Nil => String::new(),
        _ => value.clone().into_string().unwrap_or_default(),
    }
}

fn text(value: &Value) -> Result<String, String> {
    match &value.kind {
        ValueKind::Array(_) | ValueKind::Table(_) => Err("expected text".to_owned()),
        ValueKind::Nil => Err("missing".to_owned()),
        _ => value.clone().into_string().map_err(|error| error.to_string()),
    }
}

/// UTC needs no table of time zones.
fn time_zone(name: &str) -> Result<TimeZone, String> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(name).map_err(|_| {
        format!(
            "{} is no time zone that this machine knows: expected an IANA name such as \
             \"Europe/Berlin\" or \"UTC\"; the names come from the package tzdata (TZDIR)",
            quoted(name, 60)
        )
    })
}

fn mask_all(secret: &str) -> String {
    if secret.is_empty() { String::new() } else { "***".to_owned() }
}

/// A list, or text with commas as it comes from the environment.
fn list(value: &Value) -> Result<Vec<String>, String> {
    match &value.kind {
        ValueKind::Array(items) => items.iter().map(text).collect(),
        _ => Ok(text(value)?
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect()),
    }
}

fn whole(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, String> {
    let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
    let text = text(value)?;
    match text.parse::<i64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => Err(format!("{}: {expected}", quoted(&text, 40))),
    }
}

fn size(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let units = [("MiB", 1024 * 1024), ("KiB", 1024)];
    let in_unit = |(name, factor): (&str, usize)| Some((text.strip_suffix(name)?, factor));
    let (digits, factor) = units.into_iter().find_map(in_unit).unwrap_or((text, 1));
    let size = digits.trim().parse::<usize>().ok().and_then(|n| n.checked_mul(factor));
    size.filter(|size| range.contains(size)).ok_or_else(|| {
        format!(
            "{}: expected a size from {} to {} bytes, such as 1048576, \"512KiB\" or \"1MiB\"",
            quoted(text, 40),
            range.start(),
            range.end()
        )
    })
}

fn age(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok());
    let age = days.map(|days| ONE_DAY * days).or_else(|| fault_reader::time(text));
    let in_days = |time: &Duration| time.as_secs() / ONE_DAY.as_secs();
    age.filter(|age| range.contains(age)).ok_or_else(|| {
        let (from, to) = (in_days(range.start()), in_days(range.end()));
        format!(
            "{}: expected days from {from}d to {to}d, such as \"400d\", or \"\"",
            quoted(text, 40)
        )
    })
}

fn time(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, String> {
    match fault_reader::time(text) {
        Some(time) if range.contains(&time) => Ok(time),
        Some(_) => Err(format!(
            "{}: expected a time from {:?} to {:?}",
            quoted(text, 40),
            range.start(),
            range.end()
        )),
        None => Err(format!(
            "{}: expected a time such as \"500ms\", \"30s\" or \"5m\"",
            quoted(text, 40)
        )),
    }
}

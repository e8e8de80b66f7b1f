//! The settings of docs/settings.md as types; each section is read by the file of its name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::channel::Channel;
use crate::domain::circuit::CircuitRule;
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::retention::RetentionRule;
use crate::telemetry::LogFormat;

use super::amqp::AmqpSettings;
use super::auth::AuthSettings;
use super::channels::{self, ChannelDefaults};
use super::circuit;
use super::database::DatabaseSettings;
use super::reader::{Fault, Known, ONE_DAY, ONE_MS, Reader};
use super::retention;
use super::shops::ShopSettings;
use super::sources::{SettingsFile, Sources};
use super::sweeper::SweeperSettings;
use super::web::WebSettings;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `database.*`
    pub database: DatabaseSettings,
    /// `amqp.*`; `None`: the in-process broker.
    pub amqp: AmqpSettings,
    /// What applies to shops without settings of their own.
    pub default_shop: ShopSettings,
    /// Shops with settings of their own.
    pub shops: BTreeMap<String, ShopSettings>,
    /// `channels.*`
    pub channels: Vec<Channel>,
    /// What applies to channels that are made on the page.
    pub channel_defaults: ChannelDefaults,
    /// `circuit.*`
    pub circuit: CircuitRule,
    /// `intake.max_bytes`
    pub max_bytes: usize,
    /// `events.confirmed`
    pub confirmed_events: bool,
    /// `mail.templates`
    pub mail_templates: Option<PathBuf>,
    /// `web.*`
    pub web: WebSettings,
    /// `auth.*`
    pub auth: AuthSettings,
    /// `sweeper.*`
    pub sweeper: SweeperSettings,
    /// `retention.*`
    pub retention: RetentionRule,
    /// `shutdown.patience`
    pub shutdown_patience: Duration,
    /// `log.format`
    pub log_format: LogFormat,
    /// Every key with its value for people, secrets masked.
    pub known: BTreeMap<String, Known>,
    sources: Sources,
}

impl Settings {
    /// Reads defaults, then `file`, then `environment`, then `overrides` of the command line. All
    /// faults are returned at once.
    pub fn load(
        file: SettingsFile<'_>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: &[(&str, &str)],
    ) -> Result<Self, Vec<Fault>> {
        Self::load_from(Sources::new(file, overrides), environment)
    }

    /// Reads the same sources again: files may say something else by now.
    pub fn reload(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        Self::load_from(self.sources.clone(), environment)
    }

    fn load_from(
        sources: Sources,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        let (reader, mut faults) = sources.open(environment)?;
        match Self::read(reader, sources) {
            Ok(settings) if faults.is_empty() => Ok(settings),
            read => {
                faults.extend(read.err().into_iter().flatten());
                Err(faults)
            }
        }
    }

    fn read(mut r: Reader, sources: Sources) -> Result<Self, Vec<Fault>> {
        let templates = r.text("mail.templates");
        let default_shop = ShopSettings::read(&mut r);
        Ok(Self {
            database: DatabaseSettings::read(&mut r),
            amqp: AmqpSettings::read(&mut r),
            shops: ShopSettings::read_all(&mut r),
            channels: channels::read_all(&mut r),
            channel_defaults: ChannelDefaults::read_of(&r, &default_shop.time_zone),
            default_shop,
            circuit: circuit::read(&mut r),
            max_bytes: r.number("intake.max_bytes", 1_024..=16 * 1024 * 1024),
            confirmed_events: r.flag("events.confirmed"),
            mail_templates: (!templates.is_empty()).then(|| PathBuf::from(templates)),
            web: WebSettings::read(&mut r),
            auth: AuthSettings::read(&mut r),
            sweeper: SweeperSettings::read(&mut r),
            retention: retention::read(&mut r),
            shutdown_patience: r.duration("shutdown.patience", ONE_MS..=ONE_DAY),
            log_format: r.choice("log.format", &["auto", "json", "pretty"]),
            known: r.finish()?,
            sources,
        })
    }

    /// What applies to `shop`.
    pub fn shop(&self, shop: &str) -> &ShopSettings {
        self.shops.get(shop).unwrap_or(&self.default_shop)
    }

    /// What applies to every order that comes in.
    pub fn intake(&self) -> IntakeRules {
        let zones = self.shops.iter().map(|(name, shop)| (name.clone(), shop.time_zone.clone()));
        let of_others = self.default_shop.time_zone.clone();
        IntakeRules::of_bytes(self.max_bytes).with_zones(zones.collect(), of_others)
    }

    /// Every delay that any shop's schedule uses.
    pub fn delays(&self) -> Vec<Duration> {
        let shops = self.shops.values().chain([&self.default_shop]);
        shops.flat_map(|shop| shop.schedule.iter().copied()).collect()
    }

    /// JSON Schema of the settings.
    pub fn schema(&self) -> serde_json::Value {
        let properties: serde_json::Map<String, serde_json::Value> = self
            .known
            .iter()
            .filter(|(key, _)| !key.starts_with("shops.") && !is_of_one_channel(key))
            .map(|(key, known)| (key.clone(), known.schema.clone()))
            .collect();
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "order-relay settings",
            "description": "Keys are written with dots; in TOML a dot is a table. [shops.NAME] \
                may hold any max_failed_order, time_zone, retry.*, erp.* and mail.* key; NAME of channels.NAME is \
                the name of a channel.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

/// Whether a key is set for one channel, not for all.
fn is_of_one_channel(key: &str) -> bool {
    key.starts_with("channels.") && !key.starts_with("channels.NAME.")
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::channel::ChannelType;
    use crate::domain::notice::NoticeKind;

    fn load(env: &[(&str, &str)]) -> Result<Settings, Vec<Fault>> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(SettingsFile::None, env, &[])
    }

    #[test]
    fn what_a_recipe_calls_const_and_secret_is_set_by_name_for_all_or_one_shop() {
        let settings = load(&[
            ("ORDER_RELAY__ERP__CONST__COMPANY", "1"),
            ("ORDER_RELAY__ERP__SECRET__KEY", "s3cret"),
            ("ORDER_RELAY__SHOPS__AT__ERP__CONST__COMPANY", "2"),
            ("ORDER_RELAY__ERP__SETTLE", "90s"),
        ])
        .unwrap();
        let (all, at) = (&settings.default_shop.erp, &settings.shops["at"].erp);
        assert_eq!((&*all.consts["company"], &*at.consts["company"]), ("1", "2"));
        assert_eq!(at.secrets["key"].expose_secret(), "s3cret");
        assert!(settings.shops["at"].has_own_erp);
        assert_eq!(settings.known["erp.secret.key"].shown, "***");
        assert_eq!(all.set.iter().copied().collect::<Vec<_>>(), ["settle"]);
        assert!(load(&[("ORDER_RELAY__ERP__CONSTS__A", "1")]).is_err());
    }

    #[test]
    fn a_channel_is_read_with_the_defaults_of_all_channels() {
        let settings = load(&[
            ("ORDER_RELAY__CHANNELS__OPS__TYPE", "slack"),
            ("ORDER_RELAY__CHANNELS__OPS__URL", "https://hooks.slack.com/services/T0/B0/s3cret"),
            ("ORDER_RELAY__CHANNELS__OPS__THRESHOLD", ">= 10 orders or 5,000 EUR in 15 min"),
            ("ORDER_RELAY__CHANNELS__OPS__QUIET_HOURS", "22:00-07:00, Sat-Sun 00:00-24:00"),
            ("ORDER_RELAY__CHANNELS__OPS__TIME_ZONE", "Europe/Berlin"),
        ])
        .unwrap();
        let ops = &settings.channels[0];
        assert_eq!((&*ops.name, ops.target.channel_type), ("ops", ChannelType::Slack));
        assert_eq!(ops.rule.digest.after, 3);
        assert!(ops.rule.threshold.is_some());
        assert!(ops.rule.quiet.contains("2026-11-27T23:00:00Z".parse().unwrap()));
        assert_eq!(settings.known["channels.ops.url"].shown, "***");
        assert!(!format!("{:?}", settings.channels).contains("s3cret"));
    }

    #[test]
    fn pagerduty_is_told_that_an_incident_is_over_when_it_is_told_that_it_began() {
        use NoticeKind::{CircuitClosed, CircuitOpened};
        let settings = load(&[
            ("ORDER_RELAY__CHANNELS__PAGER__TYPE", "pagerduty"),
            ("ORDER_RELAY__CHANNELS__PAGER__KEY", "routing"),
            ("ORDER_RELAY__CHANNELS__PAGER__KINDS", "circuit_opened"),
        ])
        .unwrap();
        assert_eq!(settings.channels[0].rule.kinds, [CircuitOpened, CircuitClosed]);
    }

    #[test]
    fn what_is_wrong_with_a_channel_is_told_with_its_key() {
        let faults = load(&[
            ("ORDER_RELAY__CHANNELS__OPS__TYPE", "pagerduty"),
            ("ORDER_RELAY__CHANNELS__OPS__THRESHOLD", "many"),
            ("ORDER_RELAY__CHANNELS__OPS__QUIET_HOURS", "at night"),
            ("ORDER_RELAY__CHANNELS__OPS__KINDS", "order_faild"),
            ("ORDER_RELAY__CHANNELS__OPS__DIGEST_EVRY", "5m"),
            ("ORDER_RELAY__CHANNELS__HOOK__SECRET", "whsec_short"),
        ])
        .unwrap_err();
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        for part in [
            "channels.ops.threshold: `many`: expected a threshold such as",
            "channels.ops.quiet_hours: `at night`: expected hours such as",
            "channels.ops.kinds: `order_faild` is not one of order_failed,",
            "channels.ops.digest_evry: unknown key; did you mean channels.ops.digest_every?",
            "channels.ops.key: missing",
            "channels.hook.url: missing",
            "channels.hook.secret: ",
        ] {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        assert!(!told.contains("whsec_short"), "{told}");
    }

    #[test]
    fn what_is_finished_is_kept_for_ever_or_for_days() {
        let settings = load(&[("ORDER_RELAY__RETENTION__CONFIRMED", "400d")]).unwrap();
        let kept: Vec<_> =
            settings.retention.0.iter().map(|(kind, age)| (kind.as_str(), *age)).collect();
        assert_eq!(kept, [("confirmed", Duration::from_hours(24 * 400))]);
        assert!(load(&[]).unwrap().retention.is_off());
        for (key, value, told) in [
            ("CONFIRMED", "6d", "retention.confirmed: `6d`: expected days from 7d to 36500d"),
            ("AUDIT", "soon", "retention.audit: `soon`: expected days from 1d to 36500d"),
        ] {
            let faults = load(&[(&format!("ORDER_RELAY__RETENTION__{key}"), value)]).unwrap_err();
            assert!(faults[0].to_string().starts_with(told), "{}", faults[0]);
        }
    }

    #[test]
    fn a_time_without_a_zone_is_taken_in_the_zone_of_the_shop() {
        let settings = load(&[
            ("ORDER_RELAY__TIME_ZONE", "Europe/Berlin"),
            ("ORDER_RELAY__SHOPS__US__TIME_ZONE", "America/New_York"),
        ])
        .unwrap();
        let intake = settings.intake();
        let of = |shop: &str| intake.moment(shop, "2026-11-22T10:00:00".parse().unwrap()).unwrap();
        assert_eq!(of("us").to_string(), "2026-11-22T15:00:00Z");
        assert_eq!(of("other").to_string(), "2026-11-22T09:00:00Z");
        let faults = load(&[("ORDER_RELAY__SHOPS__US__TIME_ZONE", "Europe/Berln")]).unwrap_err();
        let told = faults[0].to_string();
        assert!(
            told.starts_with(
                "shops.us.time_zone: `Europe/Berln` is no time zone that this machine knows"
            ),
            "{told}"
        );
        assert!(
            told.contains("such as \"Europe/Berlin\"") && told.contains("TIME_ZONE)"),
            "{told}"
        );
    }
}

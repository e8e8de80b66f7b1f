//! The settings of docs/settings.md as types; each section is read by the file of its name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::domain::circuit::CircuitRule;
use crate::domain::order::intake_rules::IntakeRules;
use crate::telemetry::LogFormat;

use super::amqp::AmqpSettings;
use super::auth::AuthSettings;
use super::circuit;
use super::database::DatabaseSettings;
use super::reader::{Fault, Known, ONE_DAY, ONE_MS, Reader};
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
        Ok(Self {
            database: DatabaseSettings::read(&mut r),
            amqp: AmqpSettings::read(&mut r),
            default_shop: ShopSettings::read(&mut r),
            shops: ShopSettings::read_all(&mut r),
            circuit: circuit::read(&mut r),
            max_bytes: r.number("intake.max_bytes", 1_024..=16 * 1024 * 1024),
            confirmed_events: r.flag("events.confirmed"),
            mail_templates: (!templates.is_empty()).then(|| PathBuf::from(templates)),
            web: WebSettings::read(&mut r),
            auth: AuthSettings::read(&mut r),
            sweeper: SweeperSettings::read(&mut r),
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
            .filter(|(key, _)| !key.starts_with("shops."))
            .map(|(key, known)| (key.clone(), known.schema.clone()))
            .collect();
        serde_json::json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "order-relay settings",
            "description": "Keys are written with dots; in TOML a dot is a table. [shops.NAME] \
                may hold any max_failed_order, time_zone, retry.*, erp.* and mail.* key.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

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

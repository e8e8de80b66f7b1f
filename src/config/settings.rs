//! The settings of docs/settings.md as types, and where they come from: built-in defaults, a file, the
//! environment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, File, FileFormat, Map, Value};
use secrecy::SecretString;

use crate::domain::circuit::CircuitRule;
use crate::domain::notice::{CustomerConfirmation, DigestRule};
use crate::domain::order::values::Shop;
use crate::domain::permission::{Role, RoleGrant};
use crate::domain::retry::{FIRST_ASK, OnRejected, RetryPolicy};
use crate::telemetry::LogFormat;

use super::reader::{Fault, Known, Reader};

/// The commented defaults of all settings.
pub const DEFAULTS: &str = include_str!("../config.default.toml");
/// The file that is read when `--config` names none.
pub const DEFAULT_FILE: &str = "order-relay.toml";
/// Shipped recipes (docs/erp-recipes.md).
pub const RECIPES: [&str; 11] = [
    "json",
    "business-central",
    "dolibarr",
    "erpnext",
    "netsuite",
    "odoo",
    "odoo-jsonrpc",
    "sap-s4",
    "tryton-jsonrpc",
    "tryton-rest",
    "ubl-soap",
];
const ENV_PREFIX: &str = "ORDER_RELAY__";
const FILE_SUFFIX: &str = "_FILE";
const ONE_MS: Duration = Duration::from_millis(1);
const ONE_DAY: Duration = Duration::from_hours(24);

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
    /// Where they were read from, to read them again.
    pub sources: Sources,
}

/// Where settings were read from besides the environment.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    overrides: Vec<(String, String)>,
}

/// `database.*`
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `sqlite://…` or `postgres://…`
    pub url: SecretString,
    /// Connections of one process.
    pub max_connections: u32,
    /// How long to wait for one.
    pub patience: Duration,
}

/// `amqp.*`
#[derive(Debug, Clone)]
pub struct AmqpSettings {
    /// `None`: the in-process broker.
    pub url: Option<SecretString>,
    /// Prefix of every name.
    pub prefix: String,
    /// Unsettled messages per queue and process.
    pub prefetch: u16,
}

/// What can differ from shop to shop.
#[derive(Debug, Clone)]
pub struct ShopSettings {
    /// `max_failed_order`; `None`: never parked by the count.
    pub max_failed_order: Option<u32>,
    /// `retry.schedule`
    pub schedule: Vec<Duration>,
    /// `erp.*`
    pub erp: ErpSettings,
    /// `mail.*`
    pub mail: MailSettings,
    /// Whether the shop has an ERP of its own.
    pub has_own_erp: bool,
    /// Whether the shop has mail settings of its own.
    pub has_own_mail: bool,
}

impl ShopSettings {
    /// What follows a failed attempt.
    pub fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            schedule: self.schedule.clone(),
            on_rejected: self.erp.on_rejected,
            settle: self.erp.settle,
            ask_every: FIRST_ASK,
        }
    }
}

/// `erp.*`
#[derive(Debug, Clone)]
pub struct ErpSettings {
    /// Where orders are sent to; `None`: not set.
    pub url: Option<String>,
    /// Name of a shipped recipe, or a file.
    pub recipe: String,
    /// `erp.const.*`: what the recipe's constants are here.
    pub consts: BTreeMap<String, String>,
    /// `erp.secret.*`: what the recipe's secrets are here.
    pub secrets: BTreeMap<String, SecretString>,
    /// Which exchanges are stored.
    pub exchanges: KeepExchanges,
    /// Fields that are hidden in stored exchanges.
    pub redact: Vec<String>,
    /// Keys below `erp` that are set; only these override a recipe's own value.
    pub set: BTreeSet<&'static str>,
    /// Value of the Authorization header.
    pub authorization: Option<SecretString>,
    /// For a whole request.
    pub timeout: Duration,
    /// To connect.
    pub connect_timeout: Duration,
    /// Most concurrent requests.
    pub max_in_flight: u32,
    /// Requests per second.
    pub rate_limit: Option<NonZeroU32>,
    /// How long "not there" does not count after an unclear send.
    pub settle: Duration,
    /// What follows a refusal.
    pub on_rejected: OnRejected,
}

/// `erp.exchanges`
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepExchanges {
    None,
    /// All but those that have nothing to show beyond the attempt itself.
    Auto,
    All,
}

/// `mail.*`
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The server; `None`: mails are only stored.
    pub smtp_url: Option<SecretString>,
    /// From.
    pub sender: String,
    /// Administrators.
    pub receivers: Vec<String>,
    /// Template of the subject of a failure mail.
    pub order_failed_subject: String,
    /// When a customer gets a confirmation.
    pub customer_confirmation: CustomerConfirmation,
    /// When single failures become a digest.
    pub digest: DigestRule,
    /// How long the server may take for one mail.
    pub patience: Duration,
}

/// `web.*`
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Its public address, without a slash at the end.
    pub public_url: String,
    /// The number of our own proxies in front.
    pub proxies: usize,
}

/// `auth.*`
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How long an idle session lasts.
    pub session_idle: Duration,
    /// How long a session lasts at most.
    pub session_lifetime: Duration,
    /// `auth.oidc.*`; `None`: no identity provider.
    pub oidc: Option<OidcSettings>,
}

/// `auth.oidc.*`
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// The provider's issuer.
    pub issuer: String,
    /// Our client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Option<SecretString>,
    /// The requested scopes.
    pub scopes: String,
    /// The claim of the ID token that holds the roles.
    pub role_claim: String,
    /// Roles by value of that claim.
    pub roles: BTreeMap<String, Vec<RoleGrant>>,
    /// The claim that holds the name.
    pub name_claim: String,
}

/// `sweeper.*`
#[derive(Debug, Clone, Copy)]
pub struct SweeperSettings {
    /// Pause between two sweeps.
    pub every: Duration,
    /// How long something may be overdue.
    pub grace: Duration,
    /// How long a swept order is left alone.
    pub again_after: Duration,
}

/// Which file is read.
#[derive(Debug, Clone, Copy)]
pub enum SettingsFile<'a> {
    /// This one; it must be there.
    Named(&'a Path),
    /// `order-relay.toml`, if there is one.
    IfThere,
    None,
}

impl Settings {
    /// Reads defaults, then `file`, then `environment`, then `overrides` of the command line. All
    /// faults are returned at once.
    pub fn load(
        file: SettingsFile<'_>,
        environment: impl Iterator<Item = (String, String)>,
        overrides: &[(&str, &str)],
    ) -> Result<Self, Vec<Fault>> {
        let defaults = collect(Config::builder().add_source(built_in()), "config.default.toml")?;
        let mut builder = Config::builder().add_source(built_in());
        let path = match file {
            SettingsFile::Named(path) => Some(path),
            SettingsFile::IfThere => Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()),
            SettingsFile::None => None,
        };
        if let Some(path) = path {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml).required(true));
        }
        let name = path.unwrap_or(Path::new(DEFAULT_FILE)).display().to_string();
        let (values, mut faults) = from_environment(environment, &defaults);
        let mut merged = collect(builder, &name)?;
        for (key, value) in values {
            set(&mut merged, &key, value);
        }
        for (key, value) in overrides {
            let origin = "the command line".to_owned();
            set(&mut merged, key, Value::new(Some(&origin), (*value).to_owned()));
        }
        match read(Reader::new(merged, defaults)) {
            Ok(settings) if faults.is_empty() => {
                let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
                let overrides = overrides.iter().map(owned).collect();
                let sources = Sources { file: path.map(Path::to_owned), overrides };
                Ok(Self { sources, ..settings })
            }
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// Reads the same sources again: files may say something else by now.
    pub fn reload(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        let Sources { file, overrides } = &self.sources;
        let overrides: Vec<(&str, &str)> =
            overrides.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let file = file.as_deref().map_or(SettingsFile::None, SettingsFile::Named);
        Self::load(file, environment, &overrides)
    }

    /// What applies to `shop`.
    pub fn shop(&self, shop: &str) -> &ShopSettings {
        self.shops.get(shop).unwrap_or(&self.default_shop)
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
                may hold any max_failed_order, retry.*, erp.* and mail.* key.",
            "type": "object",
            "properties": properties,
            "additionalProperties": false,
        })
    }
}

fn built_in() -> File<config::FileSourceString, FileFormat> {
    File::from_str(DEFAULTS, FileFormat::Toml)
}

fn collect(
    builder: config::ConfigBuilder<config::builder::DefaultState>,
    name: &str,
) -> Result<Map<String, Value>, Vec<Fault>> {
    use config::Source;
    builder.build().and_then(|config| config.collect()).map_err(|error| {
        vec![Fault {
            key: name.to_owned(),
            detail: error.to_string().trim().to_owned(),
            origin: None,
        }]
    })
}

/// Sets `key` (with dots) in nested tables.
fn set(table: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key.to_owned(), value);
        return;
    };
    let below = table
        .entry(first.to_owned())
        .or_insert_with(|| Value::new(None, config::ValueKind::Table(Map::new())));
    if !matches!(below.kind, config::ValueKind::Table(_)) {
        // A key below one that holds a value: it stays visible, and is reported as unknown.
        below.kind = config::ValueKind::Table(Map::new());
    }
    if let config::ValueKind::Table(below) = &mut below.kind {
        set(below, rest, value);
    }
}

/// `ORDER_RELAY__A__B=x` sets `a.b`; `ORDER_RELAY__A__B_FILE=path` sets it to what the file holds.
fn from_environment(
    environment: impl Iterator<Item = (String, String)>,
    defaults: &Map<String, Value>,
) -> (Vec<(String, Value)>, Vec<Fault>) {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (name, text) in environment {
        let Some(path) = name.strip_prefix(ENV_PREFIX) else { continue };
        let origin = Some(format!("the environment, {name}"));
        let key = |path: &str| path.replace("__", ".").to_ascii_lowercase();
        let file = path.strip_suffix(FILE_SUFFIX).filter(|_| !has(defaults, &key(path)));
        match file {
            None => values.push((key(path), Value::new(origin.as_ref(), text))),
            Some(path) => match std::fs::read_to_string(&text) {
                Ok(secret) => {
                    let secret = secret.trim_end_matches(['\r', '\n']).to_owned();
                    values.push((key(path), Value::new(origin.as_ref(), secret)));
                }
                Err(error) => faults.push(Fault {
                    key: key(path),
                    detail: format!("{text} cannot be read: {error}"),
                    origin,
                }),
            },
        }
    }
    (values, faults)
}

fn has(table: &Map<String, Value>, key: &str) -> bool {
    match key.split_once('.') {
        None => table.contains_key(key),
        Some((first, rest)) => match table.get(first).map(|value| &value.kind) {
            Some(config::ValueKind::Table(below)) => has(below, rest),
            _ => false,
        },
    }
}

fn read(mut r: Reader) -> Result<Settings, Vec<Fault>> {
    let database = DatabaseSettings {
        url: r.secret("database.url").unwrap_or_default(),
        max_connections: r.number("database.max_connections", 2..=500),
        patience: r.duration("database.patience", Duration::from_millis(100)..=ONE_DAY),
    };
    let amqp = AmqpSettings {
        url: r.secret("amqp.url"),
        prefix: r.checked_text("amqp.prefix", prefix),
        prefetch: r.number("amqp.prefetch", 1..=10_000),
    };
    let default_shop = read_shop(&mut r);
    let mut shops = BTreeMap::new();
    for shop in r.shops() {
        if let Err(error) = Shop::try_from(shop.clone()) {
            r.fault(&format!("shops.{shop}"), error);
        }
        r.enter_shop(Some(&shop));
        shops.insert(shop, read_shop(&mut r));
    }
    r.enter_shop(None);
    let circuit = CircuitRule {
        suspect_after: r.number("circuit.suspect_after", 1..=1_000),
        open_after: r.number("circuit.open_after", 1..=10_000),
        pause: r.duration("circuit.pause", ONE_MS..=ONE_DAY),
        longest_pause: r.duration("circuit.longest_pause", ONE_MS..=ONE_DAY),
    };
    let max_bytes = r.number("intake.max_bytes", 1_024..=16 * 1024 * 1024);
    let templates = r.text("mail.templates");
    let web = read_web(&mut r);
    let auth = read_auth(&mut r);
    let sweeper = SweeperSettings {
        every: r.duration("sweeper.every", Duration::from_millis(50)..=Duration::from_hours(1)),
        grace: r.duration("sweeper.grace", ONE_MS..=ONE_DAY),
        again_after: r.duration("sweeper.again_after", ONE_MS..=ONE_DAY),
    };
    let shutdown_patience = r.duration("shutdown.patience", ONE_MS..=ONE_DAY);
    let log_format = r.choice("log.format", &["auto", "json", "pretty"]);
    Ok(Settings {
        database,
        amqp,
        default_shop,
        shops,
        circuit,
        max_bytes,
        mail_templates: (!templates.is_empty()).then(|| PathBuf::from(templates)),
        web,
        auth,
        sweeper,
        shutdown_patience,
        log_format,
        known: r.finish()?,
        sources: Sources::default(),
    })
}

fn read_shop(r: &mut Reader) -> ShopSettings {
    let url = r.text("erp.url");
    let erp = ErpSettings {
        url: (!url.is_empty()).then_some(url),
        recipe: r.checked_text("erp.recipe", recipe),
        consts: r.texts_below("erp.const"),
        secrets: r.secrets_below("erp.secret"),
        exchanges: r.choice("erp.exchanges", &["none", "auto", "all"]),
        redact: r.texts("erp.redact", |_| Ok(())),
        set: ["timeout", "connect_timeout", "max_in_flight", "settle"]
            .into_iter()
            .filter(|name| r.is_set(&format!("erp.{name}")))
            .collect(),
        authorization: r.secret("erp.authorization"),
        timeout: r.duration("erp.timeout", ONE_MS..=Duration::from_hours(1)),
        connect_timeout: r.duration("erp.connect_timeout", ONE_MS..=Duration::from_hours(1)),
        max_in_flight: r.number("erp.max_in_flight", 1..=1_000),
        rate_limit: r.number_or_none("erp.rate_limit", 1..=100_000).and_then(NonZeroU32::new),
        settle: r.duration("erp.settle", ONE_MS..=ONE_DAY),
        on_rejected: r.choice("erp.rejected", &["park", "retry"]),
    };
    ShopSettings {
        max_failed_order: r.number_or_none("max_failed_order", 1..=1_000_000),
        schedule: r.durations("retry.schedule", ONE_MS..=ONE_DAY * 30),
        has_own_erp: r.shop_has("erp"),
        has_own_mail: r.shop_has("mail"),
        erp,
        mail: read_mail(r),
    }
}

fn read_mail(r: &mut Reader) -> MailSettings {
    let mail = MailSettings {
        smtp_url: r.secret("mail.smtp_url"),
        sender: r.text("mail.sender"),
        receivers: r.texts("mail.receiver", |_| Ok(())),
        order_failed_subject: r.text("mail.order_failed.subject"),
        customer_confirmation: r
            .choice("mail.customer_confirmation", &["never", "after_failure", "always"]),
        digest: DigestRule {
            after: r.number("mail.digest_after", 1..=1_000),
            every: r.duration("mail.digest_every", ONE_MS..=ONE_DAY),
        },
        patience: r.duration("mail.patience", ONE_MS..=Duration::from_mins(10)),
    };
    if mail.smtp_url.is_some() && mail.sender.is_empty() {
        r.fault("mail.sender", "missing: with mail.smtp_url set, mails need a sender");
    }
    if mail.smtp_url.is_some() && mail.receivers.is_empty() {
        r.fault(
            "mail.receiver",
            "missing: with mail.smtp_url set, failure mails need an administrator",
        );
    }
    mail
}

fn read_web(r: &mut Reader) -> WebSettings {
    let listen = r.checked_text("web.listen", |text| {
        text.parse::<SocketAddr>()
            .map(|_| ())
            .map_err(|_| format!("`{text}`: expected an address and a port such as 127.0.0.1:8080"))
    });
    let listen: SocketAddr = listen.parse().expect("it was checked");
    let public_url = r.checked_text("web.public_url", |text| {
        if text.is_empty() || text.starts_with("http://") || text.starts_with("https://") {
            Ok(())
        } else {
            Err(format!("`{text}`: expected an address such as https://orders.example.com"))
        }
    });
    let public_url = match public_url.trim_end_matches('/') {
        "" => format!("http://{listen}"),
        url => url.to_owned(),
    };
    WebSettings { listen, public_url, proxies: r.number("web.proxies", 0..=10) }
}

fn read_auth(r: &mut Reader) -> AuthSettings {
    let one_minute = Duration::from_mins(1);
    let issuer = r.checked_text("auth.oidc.issuer", |text| {
        if text.is_empty() || text.starts_with("https://") || text.starts_with("http://") {
            return Ok(());
        }
        Err(format!("`{text}`: expected an address such as https://login.example.com/realms/shop"))
    });
    let check = |text: &str| role_mapping(text).map(|_| ());
    let mut roles = BTreeMap::<String, Vec<RoleGrant>>::new();
    for mapping in r.texts("auth.oidc.roles", check) {
        if let Ok((value, grant)) = role_mapping(&mapping) {
            roles.entry(value).or_default().push(grant);
        }
    }
    let oidc = OidcSettings {
        client_id: r.text("auth.oidc.client_id"),
        client_secret: r.secret("auth.oidc.client_secret"),
        scopes: r.text("auth.oidc.scopes"),
        role_claim: r.text("auth.oidc.role_claim"),
        roles,
        name_claim: r.text("auth.oidc.name_claim"),
        issuer,
    };
    let is_set = !oidc.issuer.is_empty();
    if is_set && oidc.client_id.is_empty() {
        r.fault("auth.oidc.client_id", "missing: required with auth.oidc.issuer");
    }
    AuthSettings {
        session_idle: r.duration("auth.session_idle", one_minute..=ONE_DAY * 30),
        session_lifetime: r.duration("auth.session_lifetime", one_minute..=ONE_DAY * 90),
        oidc: is_set.then_some(oidc),
    }
}

/// `VALUE=ROLE` or `VALUE=ROLE:SHOP`; the value may hold `=` itself.
fn role_mapping(text: &str) -> Result<(String, RoleGrant), String> {
    let expected = || {
        let roles = Role::ALL.map(Role::as_str).join(", ");
        format!("`{text}`: expected VALUE=ROLE or VALUE=ROLE:SHOP, with a role of {roles}")
    };
    let (value, grant) = text.rsplit_once('=').ok_or_else(expected)?;
    let (role, shop) = match grant.split_once(':') {
        Some((role, shop)) => (role, Some(shop.trim().to_owned())),
        None => (grant, None),
    };
    let role = Role::from_name(role.trim()).ok_or_else(expected)?;
    Ok((value.trim().to_owned(), RoleGrant { role, shop }))
}

fn prefix(text: &str) -> Result<(), String> {
    let good = (1..=60).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if good { Ok(()) } else { Err(format!("`{text}`: expected 1 to 60 of A-Z a-z 0-9 . _ -")) }
}

/// A known name, or a file; what is wrong in the file is found when it is read.
fn recipe(text: &str) -> Result<(), String> {
    if RECIPES.contains(&text) || Path::new(text).is_file() {
        return Ok(());
    }
    Err(format!(
        "`{text}` is not a known recipe, nor an existing file; known are {}",
        RECIPES.join(", ")
    ))
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
}

//! Putting the parts together: from settings to a ledger, a transport, ERPs, mail and the
//! operations.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::adapters::amqp::broker::AmqpBroker;
use crate::adapters::amqp::connection::Address;
use crate::adapters::erp::unset::UnsetErp;
use crate::adapters::in_process::{InProcess, InProcessBroker};
use crate::adapters::mail::smtp::{Smtp, check_mailbox};
use crate::adapters::mail::templates::{AudienceSettings, DEFAULT_AUDIENCE, Templates};
use crate::adapters::oidc;
use crate::adapters::oidc::provider::OidcProvider;
use crate::adapters::store::connections::PoolRule;
use crate::adapters::store::ledger::SqlStore;
use crate::adapters::store::postgres::PostgresDb;
use crate::adapters::store::sqlite::SqliteDb;
use crate::app::channels;
use crate::app::erps::{self, Loaded, Tokens};
use crate::app::open_erps::{OpenErp, OpenErps};
use crate::app::store::Store;
use crate::config::auth::OidcSettings;
use crate::config::mail::MailSettings;
use crate::config::settings::Settings;
use crate::config::shops::ShopSettings;
use crate::domain::failure::ErrorClass;
use crate::domain::notice::NoticeKind;
use crate::domain::order::fault::Reason;
use crate::domain::topology::{Names, Topology};
use crate::ops::login_config::{LoginConfig, OidcDoor};
use crate::ops::mail_receivers::MailReceivers;
use crate::ops::passwords::Passwords;
use crate::ops::verbs::{Ops, OpsParts};
use crate::ports::broker::Broker;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::refresh_tokens::RefreshTokens;
use crate::telemetry::{ClassLabel, KindLabel, Metrics, ReasonLabel, WhatLabel};
use crate::workers::context::{ContextParts, WorkerContext};
use crate::workers::erp_gate::Gate;
use crate::workers::ledger_clock::LedgerClock;
use crate::workers::policies::{AlarmPolicy, Policies, ShopPolicy};

/// How much longer than the calls themselves a person waits for a transfer.
const TRANSFER_MARGIN: Duration = Duration::from_secs(10);

/// A task of the infrastructure, to be started under a supervisor.
pub type Task = (&'static str, BoxFuture<'static, ()>);

/// The transport, and the tasks that it needs.
pub struct Transport {
    pub broker: Arc<dyn Broker>,
    /// What has to run for it.
    pub tasks: Vec<Task>,
}

/// Commit that this was built from, when the build says so.
pub const COMMIT: &str = match option_env!("ORDER_RELAY_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// A unique name of this process.
pub fn worker_name(clock: &dyn Clock) -> String {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
    let host: String = host.chars().filter(char::is_ascii_alphanumeric).take(30).collect();
    let unique = clock.unique_id().simple().to_string();
    format!("{host}-{}-{}", std::process::id(), &unique[24..])
}

/// How long a read of a command may take: checking a large ledger takes minutes.
pub const READS_OF_COMMANDS: Duration = Duration::from_hours(1);

/// Opens the ledger of a command. Nothing is connected yet.
pub fn open_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    open_ledger(settings, READS_OF_COMMANDS)
}

/// The same, if there is one: looking at a file of SQLite that is not there would create it.
pub fn open_existing(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let is_missing = settings.database.servers.iter().any(|url| {
        let file = url.expose_secret().strip_prefix("sqlite://");
        let file = file.and_then(|file| file.split('?').next());
        file.is_some_and(|file| !file.is_empty() && file != ":memory:" && !Path::new(file).exists())
    });
    if is_missing { Ok(None) } else { open_store(settings).map(Some) }
}

fn open_ledger(settings: &Settings, reads: Duration) -> anyhow::Result<Arc<dyn Store>> {
    let database = &settings.database;
    let urls: Vec<&str> = database.servers.iter().map(ExposeSecret::expose_secret).collect();
    let is_postgres =
        |url: &&str| url.starts_with("postgres://") || url.starts_with("postgresql://");
    match urls.as_slice() {
        [url] if url.starts_with("sqlite://") => {
            let db = SqliteDb::open(url, database.max_connections, database.patience);
            Ok(Arc::new(SqlStore::new(db.context("database.url")?)))
        }
        [_, ..] if urls.iter().all(is_postgres) => {
            // Lists and searches get a quarter.
            let reading = (database.max_connections / 4).max(1);
            let rule = PoolRule {
                // A transaction may need another one for what it looks up.
                connections: (database.max_connections - reading).max(2),
                patience: database.patience,
                deadline: database.deadline,
                ends_statements: false,
            };
            let reading =
                PoolRule { connections: reading, deadline: reads, ends_statements: true, ..rule };
            let db = PostgresDb::open(&urls, rule, reading).context("database.url")?;
            Ok(Arc::new(SqlStore::new(db)))
        }
        _ => bail!("database.url begins with neither postgres:// nor sqlite://"),
    }
}

/// Opens the ledger of a command and requires the tables of this release.
pub async fn open_ready_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    require_tables(open_store(settings)?).await
}

/// Opens the ledger of a service and requires the tables of this release.
pub async fn open_service_store(settings: &Settings) -> anyhow::Result<Arc<dyn Store>> {
    require_tables(open_ledger(settings, settings.database.read_deadline)?).await
}

async fn require_tables(store: Arc<dyn Store>) -> anyhow::Result<Arc<dyn Store>> {
    let unreachable = "the database cannot be used: is it running, is database.url right?";
    let status = store.schema_status().await.context(unreachable)?;
    if status.is_newer {
        tracing::warn!("the database belongs to a newer release; continuing with what both know");
    }
    if status.pending.is_empty() {
        return Ok(store);
    }
    if status.migrates_itself {
        store
            .migrate(&|_, _| {})
            .await
            .context("the database could not be migrated to this release")?;
        return Ok(store);
    }
    bail!(
        "the database lacks {}: run `order-relay migrate`, then start again",
        status.pending.join(", ")
    )
}

/// Exchanges and queues under the settings' prefix, with a queue for each delay of any shop.
pub fn topology(settings: &Settings) -> Topology {
    Topology::new(Names::new(&settings.amqp.prefix), &settings.delays())
}

/// Where refresh tokens are kept, for a command that can do without.
pub fn tokens(settings: &Settings) -> Tokens {
    let store = open_existing(settings).ok().flatten();
    store.map(|store| -> Arc<dyn RefreshTokens> { store })
}

/// Where RabbitMQ is; `None`: the in-process broker.
pub fn amqp_address(settings: &Settings, worker: &str) -> anyhow::Result<Option<Address>> {
    let nodes = &settings.amqp.nodes;
    if nodes.is_empty() {
        return Ok(None);
    }
    let address = Address::parse(nodes, format!("order-relay {worker}"));
    address.map(Some).map_err(|error| anyhow!(error))
}

/// The transport that the settings name.
pub fn open_transport(settings: &Settings, worker: &str) -> anyhow::Result<Transport> {
    let topology = topology(settings);
    Ok(match amqp_address(settings, worker)? {
        Some(address) => {
            let (broker, publisher) = AmqpBroker::new(address, topology);
            Transport { broker: Arc::new(broker), tasks: vec![("publisher", publisher.boxed())] }
        }
        None => in_process(topology),
    })
}

/// The in-process transport.
pub fn in_process(topology: Topology) -> Transport {
    let broker = InProcessBroker::new(topology);
    let delays = broker.clone().run_delays().boxed();
    Transport { broker: Arc::new(InProcess(broker)), tasks: vec![("delays", delays)] }
}

/// Whether a process sends orders, and so needs its ERPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// It does.
    Yes,
    /// It never will.
    No,
}

/// The clock that all processes share: the ledger's.
pub async fn ledger_clock(store: &dyn Store) -> anyhow::Result<Arc<LedgerClock>> {
    let clock = LedgerClock::new(Arc::new(SystemClock));
    clock.synchronise(store).await.context("the time of the database cannot be read")?;
    Ok(Arc::new(clock))
}

/// What all workers share.
pub fn context(
    settings: &Settings,
    erps: &OpenErps,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    broker: Arc<dyn Broker>,
    worker: &str,
    sending: Sending,
) -> anyhow::Result<Arc<WorkerContext>> {
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), COMMIT));
    begin_at_zero(&metrics);
    let policies = policies(settings, erps, sending)?;
    Ok(Arc::new(WorkerContext::new(ContextParts {
        dead_letters: store,
        broker,
        clock,
        metrics,
        policies,
        worker: worker.to_owned(),
        intake: settings.intake(),
        with_confirmed: settings.confirmed_events,
    })))
}

/// A counter that appears with its first event hides that event from rates: those with known labels
/// exist from the start.
fn begin_at_zero(metrics: &Metrics) {
    for class in ErrorClass::ALL {
        drop(metrics.orders_failed.get_or_create(&ClassLabel::new(class.as_str())));
    }
    for reason in Reason::ALL {
        drop(metrics.dead_letters.get_or_create(&ReasonLabel::new(reason.as_str())));
    }
    for kind in NoticeKind::ALL {
        let kind = KindLabel::new(kind.as_str());
        drop(metrics.notices_sent.get_or_create(&kind));
        drop(metrics.notices_failed.get_or_create(&kind));
    }
    for what in ["queued", "held", "retrying", "outcome_unknown", "notices"] {
        drop(metrics.sweeper_remade.get_or_create(&WhatLabel::new(what)));
    }
}

fn policies(settings: &Settings, erps: &OpenErps, sending: Sending) -> anyhow::Result<Policies> {
    let shared = gate(settings, erps.shared(), sending)?;
    type Behind = (Arc<Gate>, Option<Loaded>);
    let policy = |name: &str, shop: &ShopSettings, (gate, recipe): &Behind| ShopPolicy {
        gate: gate.clone(),
        max_count: shop.max_failed_order,
        retry: erps::retry_policy(shop, recipe.as_ref()),
        asks_first: shop.erp.ask_before_first_send,
        customer: shop.mail.customer_confirmation,
        alarms: alarm_policy(name, shop),
    };
    let mut shops = HashMap::new();
    for (name, shop) in &settings.shops {
        let own = erps.own(name).map(|own| gate(settings, own, sending)).transpose()?;
        shops.insert(name.clone(), policy(name, shop, own.as_ref().unwrap_or(&shared)));
    }
    Ok(Policies { default: policy(DEFAULT_AUDIENCE, &settings.default_shop, &shared), shops })
}

fn alarm_policy(name: &str, shop: &ShopSettings) -> AlarmPolicy {
    let mail = &shop.mail;
    AlarmPolicy {
        audience: if shop.has_own_mail { name } else { DEFAULT_AUDIENCE }.to_owned(),
        damping: mail.damping,
        back_within: mail.erp_back_within,
        failure_types: mail.failure_types,
        ends_after: mail.failure_type_ends_after,
    }
}

/// The gate in front of an ERP, and the recipe behind it.
fn gate(
    settings: &Settings,
    erp: &Arc<OpenErp>,
    sending: Sending,
) -> anyhow::Result<(Arc<Gate>, Option<Loaded>)> {
    let recipe = erp.recipe()?;
    let own = erp.settings();
    let max = erps::max_in_flight(own, recipe.as_ref());
    let gate = |client| Gate::new(erp.name(), client, max, own.rate_limit, settings.circuit);
    let gate = match sending {
        Sending::Yes => {
            let again = erp.clone();
            let client = erp.client()?;
            if let Some(why) = client.why_totals_are_not_compared() {
                tracing::warn!(erp = erp.name(), why, "erp.totals_not_compared");
            }
            gate(client).reopened_by(Box::new(move || again.reopen()))
        }
        Sending::No => gate(Arc::new(UnsetErp)),
    };
    Ok((Arc::new(gate), recipe))
}

/// The operations, over these ports.
pub fn ops(
    settings: &Settings,
    erps: Arc<OpenErps>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    broker: Arc<dyn Broker>,
) -> anyhow::Result<Arc<Ops>> {
    let slowest = erps.all().map(|erp| erps::longest_call(erp.settings())).max();
    let channels = channels::open(settings, clock.clone())?;
    Ok(Arc::new(Ops::new(OpsParts {
        store,
        broker,
        clock,
        erps,
        intake: settings.intake(),
        // A question, the transfer, and the steps before it.
        transfer_patience: slowest.unwrap_or_default() * 2 + TRANSFER_MARGIN,
        login: doors(settings),
        receivers: mail_receivers(settings),
        channels,
        retention: settings.retention.clone(),
    })))
}

/// Logins, by the settings.
fn doors(settings: &Settings) -> LoginConfig {
    let auth = &settings.auth;
    let door = |oidc: &OidcSettings| {
        let provider = OidcProvider::new(oidc::provider::OidcSettings {
            issuer: oidc.issuer.clone(),
            client_id: oidc.client_id.clone(),
            client_secret: oidc.client_secret.clone(),
            scopes: oidc.scopes.clone(),
        });
        let told = |error| tracing::error!(error, "oidc.not_usable");
        Some(OidcDoor {
            provider: Arc::new(provider.map_err(told).ok()?),
            callback: format!("{}/login/oidc/callback", settings.web.public_url),
            role_claim: oidc.role_claim.clone(),
            roles: oidc.roles.clone(),
            name_claim: oidc.name_claim.clone(),
        })
    };
    LoginConfig {
        passwords: Passwords::default(),
        idle: auth.session_idle,
        lifetime: auth.session_lifetime,
        oidc: auth.oidc.as_ref().and_then(door),
    }
}

/// Composing and sending mails.
pub struct Post {
    /// Composes.
    pub templates: Arc<Templates>,
    /// Sends.
    pub smtp: Arc<Smtp>,
    /// Audiences that have a mail server.
    pub audiences: Vec<String>,
}

/// An address that no server can accept would make every mail to it fail.
fn check_addresses(mail: &MailSettings) -> anyhow::Result<()> {
    if mail.smtp_url.is_none() {
        return Ok(());
    }
    check_mailbox(&mail.sender).map_err(|error| anyhow!("mail.sender: {error}"))?;
    for receiver in &mail.receivers {
        check_mailbox(receiver).map_err(|error| anyhow!("mail.receiver: {error}"))?;
    }
    Ok(())
}

/// Who gets mails, as the settings say.
fn mail_receivers(settings: &Settings) -> MailReceivers {
    let of = |mail: &MailSettings| mail.smtp_url.is_some().then(|| mail.receivers.clone());
    let own = settings.shops.iter().filter(|(_, shop)| shop.has_own_mail);
    MailReceivers {
        default: of(&settings.default_shop.mail),
        audiences: own.map(|(name, shop)| (name.clone(), of(&shop.mail))).collect(),
    }
}

/// Mail as the settings say.
pub fn post(settings: &Settings) -> anyhow::Result<Post> {
    let audience = |shop: &ShopSettings| AudienceSettings {
        sender: shop.mail.sender.clone(),
        receivers: shop.mail.receivers.clone(),
        language: shop.mail.language,
        zone: shop.time_zone.clone(),
        subject: shop.mail.order_failed_subject.clone(),
        digest: shop.mail.digest,
        max_bytes: shop.mail.max_bytes,
        keep_only: shop.mail.smtp_url.is_none(),
    };
    let own = || settings.shops.iter().filter(|(_, shop)| shop.has_own_mail);
    for shop in own().map(|(_, shop)| shop).chain([&settings.default_shop]) {
        check_addresses(&shop.mail)?;
    }
    let shops = own().map(|(name, shop)| (name.clone(), audience(shop))).collect();
    let templates = Templates::new(
        settings.mail_templates.as_deref(),
        &settings.web.public_url,
        audience(&settings.default_shop),
        shops,
    );
    let named = own().map(|(name, shop)| (name.as_str(), &shop.mail));
    let all = named.chain([(DEFAULT_AUDIENCE, &settings.default_shop.mail)]);
    let servers: BTreeMap<String, SecretString> =
        all.filter_map(|(name, mail)| Some((name.to_owned(), mail.smtp_url.clone()?))).collect();
    let patience = settings.shops.values().chain([&settings.default_shop]);
    let patience = patience.map(|shop| shop.mail.patience).max().unwrap_or_default();
    let smtp = Smtp::new(&servers, patience).map_err(|error| anyhow!("mail.smtp_url: {error}"))?;
    Ok(Post {
        templates: Arc::new(templates.map_err(|error| anyhow!(error))?),
        smtp: Arc::new(smtp),
        audiences: servers.into_keys().collect(),
    })
}

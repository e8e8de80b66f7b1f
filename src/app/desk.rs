//! The operations for one command, and the workers that it needs in its own process with the in-process
//! transport.

use std::sync::Arc;

use anyhow::bail;
use secrecy::ExposeSecret;

use crate::app::inline::Inline;
use crate::app::open_erps::OpenErps;
use crate::app::store::Store;
use crate::app::supervisor::Supervisor;
use crate::app::wiring::{self, Sending};
use crate::config::settings::Settings;
use crate::ops::verbs::Ops;
use crate::ports::clock::{Clock, SystemClock};

/// Which workers a command needs in its own process with the in-process transport.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Helpers {
    None,
    ErrorHandler,
    Workers,
}

/// The operations for a command.
pub struct Desk {
    pub ops: Arc<Ops>,
    inline: Option<Inline>,
    _tasks: Supervisor,
}

impl Desk {
    /// With an existing ledger: a command that reads one must not create an empty one.
    pub async fn open(settings: &Settings, helpers: Helpers) -> anyhow::Result<Self> {
        require_ledger(settings)?;
        let worker = wiring::worker_name(&SystemClock);
        let store = wiring::open_ready_store(settings).await?;
        let clock = wiring::ledger_clock(&*store).await?;
        Self::over(settings, helpers, store, clock, worker).await
    }

    /// For commands that may be the first one: the ledger is created if it is missing.
    pub async fn open_or_make(settings: &Settings) -> anyhow::Result<Self> {
        let worker = wiring::worker_name(&SystemClock);
        let store = wiring::open_ready_store(settings).await?;
        let clock = wiring::ledger_clock(&*store).await?;
        Self::over(settings, Helpers::None, store, clock, worker).await
    }

    /// For `publish`: publishing to RabbitMQ, or a dry run, needs no ledger.
    pub async fn open_for_publishing(settings: &Settings, dry_run: bool) -> anyhow::Result<Self> {
        if settings.amqp.nodes.is_empty() && !dry_run {
            return Self::open_or_make(settings).await;
        }
        let worker = wiring::worker_name(&SystemClock);
        let store = wiring::open_store(settings)?;
        Self::over(settings, Helpers::None, store, Arc::new(SystemClock), worker).await
    }

    async fn over(
        settings: &Settings,
        helpers: Helpers,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        worker: String,
    ) -> anyhow::Result<Self> {
        let transport = wiring::open_transport(settings, &worker)?;
        let mut tasks = Supervisor::default();
        for (name, task) in transport.tasks {
            tasks.start(name, task);
        }
        let erps = OpenErps::new(settings, &Some(store.clone()));
        let ops = wiring::ops(
            settings,
            erps.clone(),
            store.clone(),
            clock.clone(),
            transport.broker.clone(),
        )?;
        // With RabbitMQ the running service does the work; the in-process transport has only this
        // process.
        let inline = match helpers {
            Helpers::None => None,
            _ if transport.broker.is_durable() => None,
            helpers => {
                let sending = match helpers {
                    Helpers::Workers => Sending::Yes,
                    _ => Sending::No,
                };
                Some(
                    Inline::start(
                        settings,
                        &erps,
                        store,
                        clock,
                        transport.broker,
                        &worker,
                        sending,
                    )
                    .await?,
                )
            }
        };
        Ok(Self { ops, inline, _tasks: tasks })
    }

    pub async fn close(self) {
        if let Some(inline) = self.inline {
            inline.finish().await;
        }
    }
}

fn require_ledger(settings: &Settings) -> anyhow::Result<()> {
    let Some(url) = settings.database.servers.first() else { return Ok(()) };
    let Some(rest) = url.expose_secret().strip_prefix("sqlite://") else { return Ok(()) };
    let path = rest.split('?').next().unwrap_or(rest);
    if std::path::Path::new(path).exists() {
        return Ok(());
    }
    bail!(
        "there is no ledger at {path}: change to the folder of the service, set database.url, or create a new one with `order-relay migrate`"
    )
}

//! `serve`: workers under a supervisor, and how they end.
//!
//! First signal: take no new work, finish the work in progress, exit 0. Second signal or
//! `shutdown.patience`: abort. A worker that ends unexpectedly ends the process with a failing exit
//! code and its name.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::adapters::amqp;
use crate::cli::exit::Exit;
use crate::config::settings::Settings;
use crate::ops::verbs::Ops;
use crate::ports::clock::SystemClock;
use crate::ports::workers::WorkerKind;
use crate::web::auth::access::Access;
use crate::web::html::templates::Pages;
use crate::web::router::{metrics_router, router};
use crate::web::server::{Limits, serve};
use crate::web::state::{Check, Web};
use crate::workers::channel_notifier::ChannelNotifier;
use crate::workers::circuit_watcher::CircuitWatcher;
use crate::workers::consume::{ReadMode, Reading, consume, until_drained};
use crate::workers::context::WorkerContext;
use crate::workers::error_handler::{DeadLetterCollector, ErrorHandler};
use crate::workers::failure_counter::FailureCounter;
use crate::workers::heartbeat::Heartbeat;
use crate::workers::notifier::Notifier;
use crate::workers::redriver::Redriver;
use crate::workers::retention::RetentionKeeper;
use crate::workers::submitter::admit::Submitter;
use crate::workers::sweeper::{ENOUGH_WAITING, SweepRule, Sweeper};

use super::heartbeat::Heart;
use super::open_erps::OpenErps;
use super::store::Store;
use super::supervisor::Supervisor;
use super::{channels, check};
use crate::app::wiring::{self, Sending, Task};

/// How long the end waits for events that others may want.
const EVENTS_PATIENCE: Duration = Duration::from_secs(2);

/// A running service.
pub struct Service {
    /// The operations, for code that runs beside it.
    pub ops: Arc<Ops>,
    /// Where the web port listens, if it does.
    pub web: Option<SocketAddr>,
    context: Arc<WorkerContext>,
    store: Arc<dyn Store>,
    roles: Supervisor,
    infrastructure: Supervisor,
    heart: Heart,
    stop: CancellationToken,
    /// Stops the error handler: after the submitter, whose last failures it has to count.
    stop_counting: CancellationToken,
    draining: Arc<AtomicBool>,
    interrupt: Signal,
    terminate: Signal,
}

/// `serve`
pub async fn run(settings: &Settings, roles: &[WorkerKind]) -> anyhow::Result<Exit> {
    let listener = match roles.contains(&WorkerKind::Web) {
        true => {
            let listen = settings.web.listen;
            let bound = TcpListener::bind(listen).await;
            Some(bound.with_context(|| {
                format!("cannot listen on {listen}: is the port in use? (web.listen)")
            })?)
        }
        false => None,
    };
    let service = Service::start(settings, roles, listener).await?;
    service.run(settings).await
}

impl Service {
    /// Checks what it needs, then starts the workers of `roles`.
    pub async fn start(
        settings: &Settings,
        roles: &[WorkerKind],
        listener: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let worker = wiring::worker_name(&SystemClock);
        let store = wiring::open_service_store(settings).await?;
        if let Some(address) = wiring::amqp_address(settings, &worker)? {
            amqp::topology::ensure(&address, &wiring::topology(settings)).await?;
        }
        let transport = wiring::open_transport(settings, &worker)?;
        let sending =
            if roles.contains(&WorkerKind::Submitter) { Sending::Yes } else { Sending::No };
        let broker = transport.broker.clone();
        let erps = OpenErps::new(settings, &Some(store.clone()));
        let clock = wiring::ledger_clock(&*store).await?;
        let context = wiring::context(
            settings,
            &erps,
            store.clone(),
            clock.clone(),
            broker,
            &worker,
            sending,
        )?;
        let stop = CancellationToken::new();
        // The error handler counts the submitter's last failures.
        let stop_counting = match sending {
            Sending::Yes => CancellationToken::new(),
            Sending::No => stop.clone(),
        };
        let mut heartbeat = Heartbeat::new(context.clone(), clock.clone(), store.clone(), roles);
        // Before the first order is sent: others may send already.
        if let Err(error) = heartbeat.beat().await {
            tracing::warn!(%error, "heartbeat.skipped");
        }
        let mut service = Self {
            ops: wiring::ops(settings, erps, store.clone(), clock.clone(), transport.broker)?,
            web: None,
            // Before any work starts: a signal during the start must not abort it.
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            heart: Heart::start(heartbeat),
            context,
            store,
            roles: Supervisor::default(),
            infrastructure: Supervisor::default(),
            stop,
            stop_counting,
            draining: Arc::new(AtomicBool::new(false)),
        };
        service.start_infrastructure(transport.tasks);
        for role in roles {
            service.start_role(*role, roles, settings).await?;
        }
        let web = service.web_state(roles, settings)?;
        if let Some(listen) = settings.web.metrics {
            service.start_metrics(listen, web.clone()).await?;
        }
        if let Some(listener) = listener {
            service.start_web(listener, web)?;
        }
        tell_start(settings, roles, &worker, service.web);
        Ok(service)
    }

    fn start_infrastructure(&mut self, tasks: Vec<Task>) {
        for (name, task) in tasks {
            self.infrastructure.start(name, task);
        }
        let context = self.context.clone();
        self.infrastructure.start("nudges", async move { context.publisher.run_nudges().await });
        let context = self.context.clone();
        self.infrastructure.start("events", async move { context.publisher.run_events().await });
    }

    async fn start_role(
        &mut self,
        role: WorkerKind,
        roles: &[WorkerKind],
        settings: &Settings,
    ) -> anyhow::Result<()> {
        let context = self.context.clone();
        let permits = settings.amqp.prefetch;
        match role {
            WorkerKind::Submitter => {
                let counts = roles.contains(&WorkerKind::ErrorHandler);
                self.start_submitter(permits, counts.then(|| self.counter())).await?;
            }
            WorkerKind::ErrorHandler => self.start_error_handler(permits),
            WorkerKind::Notifier => {
                let post = wiring::post(settings)?;
                let notifier = Notifier::new(
                    context.clone(),
                    self.store.clone(),
                    post.templates,
                    post.smtp,
                    self.stop.clone(),
                );
                let reading =
                    self.reading(context.broker.topology().names.notify(), permits.min(10));
                let access = channels::channels(settings, context.clock.clone())?;
                let (store, stop) = (self.store.clone(), self.stop.clone());
                let channels = ChannelNotifier::new(context.clone(), store, access, stop);
                self.roles
                    .start("notifier", async move { consume(&context, &notifier, reading).await });
                self.roles.start("channels", async move { channels.run().await });
            }
            WorkerKind::Sweeper => {
                let s = settings.sweeper;
                let rule = SweepRule {
                    every: s.every,
                    grace: s.grace,
                    again_after: s.again_after,
                    enough_waiting: ENOUGH_WAITING,
                };
                let redriver = Redriver::new(context.clone(), self.store.clone());
                let kept = settings.retention.clone();
                let keeper = RetentionKeeper::new(context.clone(), self.store.clone(), kept);
                let keeper_stop = self.stop.clone();
                self.roles.start("retention", async move { keeper.run(keeper_stop).await });
                let (sweeper, stop) =
                    (Sweeper::new(context, self.store.clone(), rule), self.stop.clone());
                let redriver_stop = stop.clone();
                self.roles.start("sweeper", async move { sweeper.run(stop).await });
                self.roles.start("redriver", async move { redriver.run(redriver_stop).await });
            }
            // Started with its listener, after everything else.
            WorkerKind::Web => {}
        }
        Ok(())
    }

    fn counter(&self) -> Arc<FailureCounter> {
        Arc::new(FailureCounter::new(self.context.clone(), self.store.clone()))
    }

    async fn start_submitter(
        &mut self,
        permits: u16,
        counter: Option<Arc<FailureCounter>>,
    ) -> anyhow::Result<()> {
        let context = self.context.clone();
        let submitter = Arc::new(Submitter::new(context.clone(), self.store.clone(), counter));
        let (circuit_watcher, read_mode) =
            CircuitWatcher::new(context.clone(), self.store.clone(), submitter.clone());
        let unreadable = "the circuits could not be read";
        circuit_watcher.welcome_new_secrets().await.context(unreadable)?;
        circuit_watcher.round().await.context(unreadable)?;
        let reading = Reading {
            read_mode,
            ..self.reading(context.broker.topology().names.submit(), permits)
        };
        // Circuits are obeyed until the last order in progress is done.
        let ended = CancellationToken::new();
        let (gates_stop, stop_counting) = (ended.clone(), self.stop_counting.clone());
        self.infrastructure.start("circuit_watcher", async move {
            circuit_watcher.run(gates_stop).await;
            std::future::pending::<()>().await;
        });
        self.roles.start("submitter", async move {
            consume(&context, &*submitter, reading).await;
            ended.cancel();
            // What an in-process broker still holds would be gone with it.
            if !context.broker.is_durable() {
                until_drained(&*context.broker, &context.broker.topology().names.failed()).await;
            }
            stop_counting.cancel();
        });
        Ok(())
    }

    fn start_error_handler(&mut self, permits: u16) {
        let context = self.context.clone();
        let names = &context.broker.topology().names;
        let failed =
            Reading { stop: self.stop_counting.clone(), ..self.reading(names.failed(), permits) };
        let dead = self.reading(names.dead(), permits.min(50));
        let unrouted = self.reading(names.unrouted(), permits.min(50));
        let handler = ErrorHandler::new(context.clone(), self.counter());
        let of_dead = DeadLetterCollector::of_dead(context.clone());
        let of_unrouted = DeadLetterCollector::of_unrouted(context.clone(), self.store.clone());
        self.roles.start("error-handler", async move {
            tokio::join!(
                consume(&context, &handler, failed),
                consume(&context, &of_dead, dead),
                consume(&context, &of_unrouted, unrouted),
            );
        });
    }

    /// A queue that is read without restriction until the service stops.
    fn reading(&self, queue: String, permits: u16) -> Reading {
        let (always, read_mode) = watch::channel(ReadMode::Full);
        // The sender is dropped: nothing changes this read mode.
        drop(always);
        Reading { queue, permits, read_mode, stop: self.stop.clone() }
    }

    fn start_web(&mut self, listener: TcpListener, web: Web) -> anyhow::Result<()> {
        self.web = Some(listener.local_addr()?);
        let stop = self.stop.clone();
        self.roles.start("web", serve(listener, router(web), Limits::default(), stop));
        Ok(())
    }

    /// Health and metrics, for as long as the process runs.
    async fn start_metrics(&mut self, listen: SocketAddr, web: Web) -> anyhow::Result<()> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}: is the port in use? (metrics.listen)")
        })?;
        tracing::info!(listen = %listener.local_addr()?, "metrics.listening");
        let never = CancellationToken::new();
        let task = serve(listener, metrics_router(web), Limits::default(), never);
        self.infrastructure.start("metrics", task);
        Ok(())
    }

    fn web_state(&self, roles: &[WorkerKind], settings: &Settings) -> anyhow::Result<Web> {
        let pages = Pages::new().map_err(|error| anyhow::anyhow!(error))?;
        Ok(Web {
            ops: self.ops.clone(),
            metrics: self.context.metrics.clone(),
            pages: Arc::new(pages),
            counts: Arc::default(),
            check: check_of(settings),
            previews: wiring::post(settings)?.templates,
            draining: self.draining.clone(),
            access: Arc::new(Access::new(&settings.web.public_url, settings.web.proxies)),
            needs_broker: roles
                .iter()
                .any(|role| *role != WorkerKind::Web && *role != WorkerKind::Sweeper),
        })
    }

    /// Runs until a signal, and says how it ended.
    pub async fn run(mut self, settings: &Settings) -> anyhow::Result<Exit> {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            ended = self.roles.next_end() => bail!(ended_by_itself(ended.name, ended.panicked)),
            ended = self.infrastructure.next_end() => {
                bail!(ended_by_itself(ended.name, ended.panicked))
            }
            ended = self.heart.next_end() => bail!(ended_by_itself(ended.name, ended.panicked)),
        }
        tracing::info!(patience_s = settings.shutdown_patience.as_secs(), "service.draining");
        self.begin_drain();
        let (interrupt, terminate) = (&mut self.interrupt, &mut self.terminate);
        let again = async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        };
        tokio::select! {
            () = self.roles.all_ended() => {
                self.context.publisher.flush_events(EVENTS_PATIENCE).await;
                self.heart.stop().await;
                tracing::info!("service.ended");
                Ok(Exit::Done)
            }
            () = again => bail!("aborted by a second signal; work in progress is continued at the next start"),
            () = tokio::time::sleep(settings.shutdown_patience) => bail!(
                "{} did not finish within shutdown.patience; work in progress is continued at the next start",
                self.roles.running().join(", ")
            ),
        }
    }

    /// The ledger that it works on.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Stops taking new work.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Stops taking new work and waits until the work in progress is done.
    pub async fn drain(mut self) {
        self.begin_drain();
        self.roles.all_ended().await;
        self.context.publisher.flush_events(EVENTS_PATIENCE).await;
        self.heart.stop().await;
    }
}

/// What `order-relay check` says, for the page of the same name.
fn check_of(settings: &Settings) -> Arc<Check> {
    let settings = settings.clone();
    Arc::new(move || {
        let settings = settings.clone();
        async move { check::look(&settings).await }.boxed()
    })
}

fn ended_by_itself(name: &str, panicked: bool) -> String {
    let how = if panicked { "broke" } else { "ended unexpectedly" };
    format!("{name} {how}; the process ends so that it can be restarted")
}

/// Logged at start.
fn tell_start(settings: &Settings, roles: &[WorkerKind], worker: &str, web: Option<SocketAddr>) {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        worker,
        roles = names.join(","),
        web = web.map(|address| address.to_string()),
        "service.started"
    );
    let all = settings.shops.iter().map(|(name, shop)| (name.as_str(), shop));
    for (shop, s) in all.chain([("(every other)", &settings.default_shop)]) {
        let window = s.retry_policy().worst_case_window(s.max_failed_order);
        tracing::info!(
            shop,
            max_failed_order = s.max_failed_order,
            worst_case_window_s = window.map(|window| window.as_secs()),
            "retry.window: a failing order is parked this long after its first attempt"
        );
        if s.mail.smtp_url.is_none() {
            tracing::warn!(shop, "mail.smtp_url is not set: mails are only stored in the database");
        }
    }
    if settings.amqp.nodes.is_empty() {
        tracing::info!("amqp.url is not set: orders come in over POST /api/v1/orders only");
        if !roles.contains(&WorkerKind::Submitter) {
            tracing::warn!(
                "no role of this process transfers orders, and amqp.url is not set: what comes in waits in the database until a \
                 process with the roles submitter and sweeper uses the same one"
            );
        }
    }
}

/// Returns at the first interrupt or termination signal.
pub async fn end_signal() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}

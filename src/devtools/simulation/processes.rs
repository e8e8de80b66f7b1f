//! The processes of a run: the real workers of each, which can stop being scheduled, die at any
//! `await`, or be drained.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::devtools::simulation::ledger::memory::MemoryLedger;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::wiring::{Parts, process_of};
use crate::ports::workers::{WorkerKind, WorkerRegistry};
use crate::workers::channel_notifier::ChannelNotifier;
use crate::workers::circuit_watcher::CircuitWatcher;
use crate::workers::consume::{ReadMode, Reading, consume};
use crate::workers::context::WorkerContext;
use crate::workers::error_handler::{DeadLetterCollector, ErrorHandler};
use crate::workers::failure_counter::FailureCounter;
use crate::workers::heartbeat::{HEARTBEAT, Heartbeat};
use crate::workers::notifier::Notifier;
use crate::workers::redriver::Redriver;
use crate::workers::submitter::admit::Submitter;
use crate::workers::sweeper::{SweepRule, Sweeper};

/// How long a process may take to end when it is asked to.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
/// Pause before a process that could not start is started again.
const START_AGAIN: Duration = Duration::from_secs(1);

const SWEEP: SweepRule = SweepRule {
    every: Duration::from_secs(5),
    grace: Duration::from_secs(30),
    again_after: Duration::from_mins(1),
    enough_waiting: ENOUGH_WAITING,
};
/// As few as make a difference to the few orders of a run.
pub const ENOUGH_WAITING: u32 = 5;

/// Whether a process is scheduled.
#[derive(Default)]
struct Schedulable {
    is_asleep: AtomicBool,
    waiting: Shared<Vec<Waker>>,
}

/// A task of a process: it is not polled while the process is not scheduled.
struct Task {
    process: Arc<Schedulable>,
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.process.is_asleep.load(Ordering::Relaxed) {
            self.process.waiting.get().push(context.waker().clone());
            return Poll::Pending;
        }
        self.work.as_mut().poll(context)
    }
}

/// A process with every worker. Dropped, it dies where it stands.
pub struct Process {
    scheduling: Arc<Schedulable>,
    stop: CancellationToken,
    /// Workers, which end when they are asked to.
    workers: JoinSet<()>,
    /// What runs as long as the process.
    others: JoinSet<()>,
    /// The clock follows the ledger; nothing is done before.
    is_in_time: CancellationToken,
    name: String,
    registry: Arc<MemoryLedger>,
}

impl Process {
    /// Starts a process over these parts.
    pub fn start(parts: &Parts, name: &str) -> Self {
        let mut process = Self {
            scheduling: Arc::default(),
            stop: CancellationToken::new(),
            workers: JoinSet::new(),
            others: JoinSet::new(),
            is_in_time: CancellationToken::new(),
            name: name.to_owned(),
            registry: parts.store(process_of(name)),
        };
        let clock = parts.clock(process_of(name));
        let (store, is_in_time) = (parts.store(process_of(name)), process.is_in_time.clone());
        let context = parts.context(name, clock.clone());
        let mut heartbeat = Heartbeat::new(context.clone(), clock, store, &[WorkerKind::Submitter]);
        process.other(async move {
            loop {
                if heartbeat.beat().await.is_ok() {
                    is_in_time.cancel();
                }
                let pause = if is_in_time.is_cancelled() { HEARTBEAT } else { START_AGAIN };
                tokio::time::sleep(pause).await;
            }
        });
        process.start_submitter(parts, &context);
        process.start_readers(parts, &context);
        process.start_loops(parts, &context);
        process
    }

    /// It is not scheduled until it is woken.
    pub fn sleep(&self) {
        self.scheduling.is_asleep.store(true, Ordering::Relaxed);
    }

    /// It is scheduled again.
    pub fn wake(&self) {
        self.scheduling.is_asleep.store(false, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *self.scheduling.waiting.get());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Finishes what it has in hand, as far as that is possible in time.
    pub async fn drain(mut self) {
        self.stop.cancel();
        let ended = async { while self.workers.join_next().await.is_some() {} };
        drop(tokio::time::timeout(DRAIN_PATIENCE, ended).await);
        self.others.shutdown().await;
        drop(self.registry.deregister(&self.name).await);
    }

    fn worker(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let process = self.scheduling.clone();
        let (stop, is_in_time) = (self.stop.clone(), self.is_in_time.clone());
        let work = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = is_in_time.cancelled() => work.await,
            }
        };
        self.workers.spawn(Task { process, work: Box::pin(work) });
    }

    fn other(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        let process = self.scheduling.clone();
        self.others.spawn(Task { process, work: Box::pin(work) });
    }

    fn reading(
        &self,
        queue: String,
        permits: u16,
        read_mode: watch::Receiver<ReadMode>,
    ) -> Reading {
        Reading { queue, permits, read_mode, stop: self.stop.clone() }
    }

    fn start_submitter(&mut self, parts: &Parts, context: &Arc<WorkerContext>) {
        let store = parts.store(process_of(&context.worker));
        let counter = Arc::new(FailureCounter::new(context.clone(), store.clone()));
        let counts = (!parts.setup.counts_apart).then_some(counter);
        let submitter = Arc::new(Submitter::new(context.clone(), store.clone(), counts));
        let (watcher, read_mode) =
            CircuitWatcher::new(context.clone(), store.clone(), submitter.clone());
        let queue = context.broker.topology().names.submit();
        let reading = self.reading(queue, parts.setup.permits, read_mode);
        let (context, stop) = (context.clone(), self.stop.clone());
        let is_ready = CancellationToken::new();
        let watched = is_ready.clone();
        self.other(async move {
            while watcher.welcome_new_secrets().await.is_err() || watcher.round().await.is_err() {
                tokio::time::sleep(START_AGAIN).await;
            }
            watched.cancel();
            watcher.run(CancellationToken::new()).await;
        });
        self.worker(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = is_ready.cancelled() => consume(&context, &*submitter, reading).await,
            }
        });
    }

    fn start_readers(&mut self, parts: &Parts, context: &Arc<WorkerContext>) {
        let store = parts.store(process_of(&context.worker));
        let names = context.broker.topology().names.clone();
        let always = watch::channel(ReadMode::Full).1;
        let permits = parts.setup.permits;
        let counter = Arc::new(FailureCounter::new(context.clone(), store.clone()));
        let handler = ErrorHandler::new(context.clone(), counter);
        let reading = self.reading(names.failed(), permits, always.clone());
        let of = context.clone();
        self.worker(async move { consume(&of, &handler, reading).await });
        for (queue, collector) in [
            (names.dead(), DeadLetterCollector::of_dead(context.clone())),
            (names.unrouted(), DeadLetterCollector::of_unrouted(context.clone(), store.clone())),
        ] {
            let (of, reading) = (context.clone(), self.reading(queue, permits, always.clone()));
            self.worker(async move { consume(&of, &collector, reading).await });
        }
        let notifier = Notifier::new(
            context.clone(),
            store.clone(),
            parts.composer.clone(),
            parts.post.clone(),
            self.stop.clone(),
        );
        let reading = self.reading(names.notify(), permits.min(10), always);
        let of = context.clone();
        self.worker(async move { consume(&of, &notifier, reading).await });
        let (access, stop) = (parts.channels(), self.stop.clone());
        let channels = ChannelNotifier::new(context.clone(), store, access, stop);
        self.worker(async move { channels.run().await });
    }

    fn start_loops(&mut self, parts: &Parts, context: &Arc<WorkerContext>) {
        let store = parts.store(process_of(&context.worker));
        let sweeper = Sweeper::new(context.clone(), store.clone(), SWEEP);
        let stop = self.stop.clone();
        self.worker(async move { sweeper.run(stop).await });
        let redriver = Redriver::new(context.clone(), store.clone());
        let stop = self.stop.clone();
        self.worker(async move { redriver.run(stop).await });
        let (nudging, telling) = (context.clone(), context.clone());
        self.other(async move { nudging.publisher.run_nudges().await });
        self.other(async move { telling.publisher.run_events().await });
    }
}

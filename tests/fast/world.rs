//! One process's workers, wired as `app` wires them, over fakes.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use order_relay::adapters::channels::compose::MessageComposer;
use order_relay::adapters::mail::templates::{AudienceSettings, Templates};
use order_relay::adapters::store::ledger::SqlStore;
use order_relay::app::store::Store;
use order_relay::app::supervisor::Supervisor;
use order_relay::domain::alarm::Damping;
use order_relay::domain::channel::Channel;
use order_relay::domain::circuit::CircuitRule;
use order_relay::domain::language::Language;
use order_relay::domain::lifecycle::claim::Intent;
use order_relay::domain::lifecycle::transitions::OrderRecord;
use order_relay::domain::lifecycle::vocabulary::{OrderState, Phase, Trigger};
use order_relay::domain::message::OrderFailed;
use order_relay::domain::notice::{CustomerConfirmation, DigestRule};
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::{OrderFilter, Sort};
use order_relay::domain::outbound_messages::{Audience, Outgoing};
use order_relay::domain::permission::Grants;
use order_relay::domain::retention::RetentionRule;
use order_relay::domain::retry::{OnRejected, RetryPolicy};
use order_relay::domain::topology::{Names, ORDER_FAILED, ORDER_PLACED, Topology};
use order_relay::ops::login_config::LoginConfig;
use order_relay::ops::mail_receivers::MailReceivers;
use order_relay::ops::passwords::Passwords;
use order_relay::ops::principal::Principal;
use order_relay::ops::verbs::{Ops, OpsParts};
use order_relay::ports::audit::Act;
use order_relay::ports::broker::{Broker, Delivery, Settle, Settler};
use order_relay::ports::channel_book::{ChannelAccess, ChannelBook};
use order_relay::ports::clock::{Clock, Stopwatch};
use order_relay::ports::dead_letters::DeadLetter;
use order_relay::ports::notices::StoredMail;
use order_relay::ports::order_desk::OrderDetail;
use order_relay::ports::orders::{AdmitRequest, Incoming};
use order_relay::ports::workers::WorkerKind;
use order_relay::telemetry::Metrics;
use order_relay::workers::channel_notifier::ChannelNotifier;
use order_relay::workers::circuit_watcher::CircuitWatcher;
use order_relay::workers::consume::{ReadMode, Reading, consume};
use order_relay::workers::context::{ContextParts, WorkerContext};
use order_relay::workers::erp_gate::Gate;
use order_relay::workers::error_handler::{DeadLetterCollector, ErrorHandler};
use order_relay::workers::failure_counter::FailureCounter;
use order_relay::workers::heartbeat::{HEARTBEAT, Heartbeat};
use order_relay::workers::ledger_clock::LedgerClock;
use order_relay::workers::notifier::Notifier;
use order_relay::workers::policies::{AlarmPolicy, Policies, ShopPolicy};
use order_relay::workers::redriver::Redriver;
use order_relay::workers::submitter::admit::Submitter;
use order_relay::workers::sweeper::{ENOUGH_WAITING, SweepRule, Sweeper};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::VirtualClock;
use crate::db::{Faults, SteadyDb, folder};
use crate::erp::{FakeErp, FakeErps};
use crate::post::FakePost;
use crate::receivers::{AnyStored, FakeReceivers};
use crate::wire::Wire;

/// How long anything may take, in virtual time.
const PATIENCE: Duration = Duration::from_hours(12);

/// How a world differs from the usual one.
pub struct Setup {
    pub max_count: Option<u32>,
    pub schedule: Vec<Duration>,
    pub on_rejected: OnRejected,
    pub customer: CustomerConfirmation,
    pub digest: DigestRule,
    pub can_ask: bool,
    pub is_idempotent: bool,
    /// `erp.ask_before_first_send`
    pub asks_first: bool,
    pub max_in_flight: u32,
    pub rate: Option<NonZeroU32>,
    pub circuit: CircuitRule,
    pub permits: u16,
    pub keep_only: bool,
    /// What is told of the ERP and of types of failures.
    pub alarms: AlarmPolicy,
    /// Administrators.
    pub receivers: Vec<String>,
    /// `mail.max_bytes`
    pub max_bytes: usize,
    /// Channels beside mail.
    pub channels: Vec<Channel>,
    /// `events.confirmed`
    pub with_confirmed: bool,
    /// Another ERP for the shop `at`.
    pub second_erp: bool,
    /// Submitters leave the counting to error handlers elsewhere.
    pub counts_apart: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            max_count: Some(3),
            schedule: [30, 120, 600].map(Duration::from_secs).into(),
            on_rejected: OnRejected::Park,
            customer: CustomerConfirmation::AfterFailure,
            digest: DigestRule { after: 10, every: Duration::from_mins(5) },
            can_ask: true,
            is_idempotent: false,
            asks_first: false,
            max_in_flight: 8,
            rate: None,
            circuit: CircuitRule {
                suspect_after: 3,
                open_after: 20,
                pause: Duration::from_secs(5),
                longest_pause: Duration::from_mins(5),
            },
            permits: 50,
            keep_only: false,
            alarms: AlarmPolicy {
                audience: "default".to_owned(),
                damping: Damping { unstable_after: 3, window: Duration::from_hours(1) },
                back_within: Duration::from_mins(30),
                failure_types: false,
                ends_after: Duration::from_hours(24),
            },
            receivers: vec!["admin@example.com".to_owned()],
            max_bytes: 1 << 20,
            channels: Vec::new(),
            with_confirmed: true,
            second_erp: false,
            counts_apart: false,
        }
    }
}

pub struct World {
    pub erp: Arc<FakeErp>,
    /// The ERP of the shop `at`, if it has one of its own.
    pub second: Arc<FakeErp>,
    pub post: Arc<FakePost>,
    pub receivers: Arc<FakeReceivers>,
    pub ops: Arc<Ops>,
    pub store: Arc<dyn Store>,
    pub clock: Arc<VirtualClock>,
    pub setup: Setup,
    pub metrics: Arc<Metrics>,
    pub wire: Wire,
    pub database: Arc<Faults>,
    processes: Vec<Process>,
    since: Stopwatch,
    _folder: TempDir,
}

struct Process {
    tasks: Supervisor,
    stop: CancellationToken,
}

impl World {
    /// The usual world, with its one process.
    pub async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let mut world = Self::without_workers(setup);
        world.start("w1").await;
        world
    }

    /// A ledger and a broker; nobody works.
    pub fn without_workers(setup: Setup) -> Self {
        let folder = folder();
        let database = Arc::new(Faults::default());
        let db = SteadyDb::new(folder.path(), database.clone());
        let store: Arc<dyn Store> = Arc::new(SqlStore::new(db));
        let topology = Topology::new(Names::new("orders"), &setup.schedule);
        let wire = Wire::new(topology);
        let clock = Arc::new(VirtualClock::new());
        let (erp, second) =
            (FakeErp::new(setup.can_ask, setup.is_idempotent), FakeErp::new(true, false));
        let receivers = FakeReceivers::new(clock.clone());
        let own = setup.second_erp.then(|| second.clone());
        let ops = Ops::new(OpsParts {
            store: store.clone(),
            broker: Arc::new(wire.clone()),
            clock: clock.clone(),
            erps: Arc::new(FakeErps { default: erp.clone(), at: own }),
            retention: RetentionRule::default(),
            intake: IntakeRules::of_bytes(1 << 20),
            transfer_patience: Duration::from_secs(60),
            login: LoginConfig {
                passwords: Passwords::default(),
                idle: Duration::from_hours(1),
                lifetime: Duration::from_hours(12),
                oidc: None,
            },
            receivers: MailReceivers {
                default: (!setup.keep_only).then(|| setup.receivers.clone()),
                ..MailReceivers::default()
            },
            channels: access(&setup, &receivers),
        });
        let mut world = Self {
            erp,
            second,
            post: FakePost::new(),
            receivers,
            ops: Arc::new(ops),
            store,
            clock,
            setup,
            metrics: Arc::new(Metrics::new("test", "test")),
            wire,
            database,
            processes: Vec::new(),
            since: Stopwatch::start(),
            _folder: folder,
        };
        let mut transport = Supervisor::default();
        transport.start("delays", world.wire.broker().0.run_delays());
        world.processes.push(Process { tasks: transport, stop: CancellationToken::new() });
        world
    }

    fn policy(&self, gate: Arc<Gate>) -> ShopPolicy {
        ShopPolicy {
            gate,
            max_count: self.setup.max_count,
            retry: RetryPolicy {
                schedule: self.setup.schedule.clone(),
                on_rejected: self.setup.on_rejected,
                settle: Duration::from_secs(20),
                ask_every: Duration::from_secs(2),
            },
            asks_first: self.setup.asks_first,
            customer: self.setup.customer,
            alarms: self.setup.alarms.clone(),
        }
    }

    fn policies(&self) -> Policies {
        let gate = |name: &str, erp: &Arc<FakeErp>| {
            let (max, rate, rule) = (self.setup.max_in_flight, self.setup.rate, self.setup.circuit);
            Arc::new(Gate::new(name, erp.clone(), max, rate, rule))
        };
        let mut shops = HashMap::new();
        if self.setup.second_erp {
            shops.insert("at".to_owned(), self.policy(gate("at", &self.second)));
        }
        Policies { default: self.policy(gate("default", &self.erp)), shops }
    }

    pub fn templates(&self) -> Templates {
        let audience = AudienceSettings {
            sender: "shop@example.com".to_owned(),
            receivers: self.setup.receivers.clone(),
            language: Language::En,
            zone: TimeZone::UTC,
            subject: "Order {{ n.order_id }} failed ({{ n.fail_count }})".to_owned(),
            digest: self.setup.digest,
            max_bytes: self.setup.max_bytes,
            keep_only: self.setup.keep_only,
        };
        Templates::new(None, "https://relay.example.com", audience, BTreeMap::new())
            .expect("good templates")
    }

    /// An order as the broker delivers it, for the first time or again.
    pub fn delivery(&self, order_id: &str, redelivered: bool) -> Delivery {
        Delivery {
            exchange: self.names().orders(),
            routing_key: "order.placed".to_owned(),
            headers: BTreeMap::new(),
            body: document(order_id, &json!({})).into_bytes(),
            redelivered,
            died: None,
            settler: Arc::new(NoSettler),
        }
    }

    /// What the workers of a process share.
    pub fn context(&self, name: &str) -> Arc<WorkerContext> {
        Arc::new(WorkerContext::new(ContextParts {
            dead_letters: self.store.clone(),
            broker: Arc::new(self.wire.clone()),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            policies: self.policies(),
            worker: name.to_owned(),
            intake: IntakeRules::of_bytes(1 << 20),
            with_confirmed: self.setup.with_confirmed,
        }))
    }

    /// Starts a process with every worker.
    pub async fn start(&mut self, name: &str) {
        let stop = CancellationToken::new();
        let context = self.context(name);
        let mut tasks = Supervisor::default();
        let names = context.broker.topology().names.clone();
        let always = watch::channel(ReadMode::Full).1;
        let permits = self.setup.permits;
        let reading = |queue, read_mode| Reading { queue, permits, read_mode, stop: stop.clone() };

        let counter = Arc::new(FailureCounter::new(context.clone(), self.store.clone()));
        let counts = (!self.setup.counts_apart).then(|| counter.clone());
        let submitter = Arc::new(Submitter::new(context.clone(), self.store.clone(), counts));
        let (watcher, read_mode) =
            CircuitWatcher::new(context.clone(), self.store.clone(), submitter.clone());
        watcher.welcome_new_secrets().await.expect("the ledger answers");
        watcher.round().await.expect("the ledger answers");
        let until = stop.clone();
        tasks.start("circuit watcher", async move { watcher.run(until).await });
        let (of, submit) = (context.clone(), reading(names.submit(), read_mode));
        tasks.start("submitter", async move { consume(&of, &*submitter, submit).await });
        let handler = ErrorHandler::new(context.clone(), counter);
        let (of, failed) = (context.clone(), reading(names.failed(), always.clone()));
        tasks.start("error handler", async move { consume(&of, &handler, failed).await });
        for (queue, collector) in [
            (names.dead(), DeadLetterCollector::of_dead(context.clone())),
            (
                names.unrouted(),
                DeadLetterCollector::of_unrouted(context.clone(), self.store.clone()),
            ),
        ] {
            let (of, dead) = (context.clone(), reading(queue, always.clone()));
            tasks.start("collector", async move { consume(&of, &collector, dead).await });
        }
        let notifier = Notifier::new(
            context.clone(),
            self.store.clone(),
            Arc::new(self.templates()),
            self.post.clone(),
            stop.clone(),
        );
        let (of, notify) = (context.clone(), reading(names.notify(), always));
        tasks.start("notifier", async move { consume(&of, &notifier, notify).await });
        // Most tests have no channel; what looks for them would only pass time.
        if !self.setup.channels.is_empty() {
            let (access, store) = (access(&self.setup, &self.receivers), self.store.clone());
            let channels = ChannelNotifier::new(context.clone(), store, access, stop.clone());
            tasks.start("channels", async move { channels.run().await });
        }
        let rule = SweepRule {
            every: Duration::from_secs(5),
            grace: Duration::from_secs(30),
            again_after: Duration::from_mins(1),
            enough_waiting: ENOUGH_WAITING,
        };
        let sweeper = Sweeper::new(context.clone(), self.store.clone(), rule);
        let until = stop.clone();
        tasks.start("sweeper", async move { sweeper.run(until).await });
        let redriver = Redriver::new(context.clone(), self.store.clone());
        let until = stop.clone();
        tasks.start("redriver", async move { redriver.run(until).await });
        let clock = Arc::new(LedgerClock::new(self.clock.clone()));
        let roles = [WorkerKind::Submitter];
        let mut heartbeat = Heartbeat::new(context.clone(), clock, self.store.clone(), &roles);
        heartbeat.beat().await.expect("the ledger answers");
        let until = stop.clone();
        tasks.start("heartbeat", async move {
            while !until.is_cancelled() {
                until.run_until_cancelled(tokio::time::sleep(HEARTBEAT)).await;
                drop(heartbeat.beat().await);
            }
            drop(heartbeat.deregister().await);
        });
        let of_events = context.clone();
        tasks.start("events", async move { of_events.publisher.run_events().await });
        tasks.start("nudges", async move { context.publisher.run_nudges().await });
        self.processes.push(Process { tasks, stop });
    }

    /// Another process, which is not there, claims the next attempt of this order.
    pub async fn claim_elsewhere(&self, key: &OrderKey) {
        let record = self.store.record(key).await.expect("the ledger answers").expect("it exists");
        let (now, attempt) = (self.clock.now(), record.next_attempt());
        let incoming = Incoming::Again { key: key.clone(), attempt, trigger: Trigger::Retry };
        let until = now + SignedDuration::from_mins(2);
        let intent = Intent::Claim { worker: "elsewhere.1".to_owned(), until, begins: true };
        let admitted = self.store.admit(AdmitRequest { incoming, intent, now }).await;
        admitted.expect("the ledger answers");
    }

    /// The newest process dies, wherever it stands.
    pub fn kill(&mut self) {
        drop(self.processes.pop());
    }

    /// The newest process finishes what it has in progress.
    pub async fn drain(&mut self) {
        let mut process = self.processes.pop().expect("a process");
        process.stop.cancel();
        let submitters = async {
            while process.tasks.running().len() > 1 {
                process.tasks.next_end().await;
            }
        };
        drop(tokio::time::timeout(Duration::from_mins(2), submitters).await);
    }

    /// The broker loses everything that it holds, as an in-process one does when its process ends. To be
    /// called between two processes.
    pub fn forget_messages(&mut self) {
        self.wire.forget();
        let mut transport = Supervisor::default();
        transport.start("delays", self.wire.broker().0.run_delays());
        self.processes.push(Process { tasks: transport, stop: CancellationToken::new() });
    }

    /// From now on the database cannot be reached, or can again.
    pub fn database_is_away(&self, away: bool) {
        self.database.is_away(away);
    }

    /// Seconds since the begin.
    pub fn now_s(&self) -> u64 {
        self.since.elapsed().as_secs()
    }

    /// The names on the broker.
    pub fn names(&self) -> Names {
        self.wire.topology().names.clone()
    }

    // What checkout and others send.

    pub async fn place(&self, order_id: &str) {
        self.place_with(order_id, &json!({})).await;
    }

    /// An order with some fields set or replaced.
    pub async fn place_with(&self, order_id: &str, changes: &serde_json::Value) {
        self.send(ORDER_PLACED, document(order_id, changes).as_bytes()).await;
    }

    /// Any bytes on the exchange of orders.
    pub async fn send(&self, routing_key: &str, body: &[u8]) {
        let exchange = self.wire.topology().names.orders();
        self.publish_bytes(exchange, routing_key, body).await;
    }

    /// A failure that another service reports.
    pub async fn report(&self, failure: &serde_json::Value) {
        let exchange = self.names().failures();
        let body = failure.to_string();
        assert!(
            OrderFailed::parse(body.as_bytes(), &IntakeRules::of_bytes(1 << 20)).is_ok(),
            "{body}"
        );
        self.publish_bytes(exchange, ORDER_FAILED, body.as_bytes()).await;
    }

    async fn publish_bytes(&self, exchange: String, routing_key: &str, body: &[u8]) {
        self.publish(Outgoing {
            exchange,
            routing_key: routing_key.to_owned(),
            headers: BTreeMap::new(),
            body: body.to_vec(),
            message_id: String::new(),
            audience: Audience::Optional,
        })
        .await;
    }

    /// Any message.
    pub async fn publish(&self, message: Outgoing) {
        let published = self.wire.publish(message, Duration::from_secs(1)).await;
        published.expect("the broker takes it");
    }

    // What is looked at.

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub async fn seconds(&self, seconds: u64) {
        self.pass(Duration::from_secs(seconds)).await;
    }

    pub async fn order(&self, order_id: &str) -> OrderDetail {
        self.order_of(&key(order_id)).await
    }

    pub async fn order_of(&self, key: &OrderKey) -> OrderDetail {
        let found = self.store.order(key).await.expect("the ledger answers");
        found.unwrap_or_else(|| panic!("there is no order {key}"))
    }

    /// Its phase; `unknown` while it is only a message.
    pub async fn phase(&self, order_id: &str) -> &'static str {
        let record = self.store.record(&key(order_id)).await.expect("the ledger answers");
        record.map_or("unknown", |record| record.phase.name())
    }

    pub async fn fail_count(&self, order_id: &str) -> u32 {
        self.order(order_id).await.record.fail_count
    }

    pub async fn records(&self) -> Vec<OrderRecord> {
        let all =
            self.store.page_orders(&OrderFilter::default(), Sort::default(), None, 1_000).await;
        let mut all = all.expect("the ledger answers");
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    pub async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.store.list_dead_letters(true, 1_000).await.expect("the ledger answers")
    }

    pub async fn stored_mails(&self) -> Vec<StoredMail> {
        let mut mails = self.store.list_mails(None, 1_000).await.expect("the ledger answers");
        mails.reverse();
        mails
    }

    /// Waits until `order_id` is in that phase.
    pub async fn until(&self, order_id: &str, phase: &str) {
        self.wait(&format!("{order_id} is {phase}"), async || self.phase(order_id).await == phase)
            .await;
    }

    /// Waits until every order is in the ERP, parked or removed, and every mail has gone.
    pub async fn settle(&self) {
        self.wait("everything is settled", async || {
            let is_settled = |record: &OrderRecord| {
                let phase = &record.phase;
                record.claim.is_none()
                    && (phase.state() == OrderState::Confirmed || *phase == Phase::Parked)
            };
            let mails = self.store.count_mails().await.expect("the ledger answers");
            self.records().await.iter().all(is_settled) && mails.waiting == 0
        })
        .await;
    }

    pub async fn wait(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let begin = Stopwatch::start();
        // What was published last is taken first.
        self.pass(Duration::from_millis(20)).await;
        let mut step = Duration::from_millis(100);
        while !is_so().await {
            if begin.elapsed() > PATIENCE {
                panic!("never: {what}\n{}", self.story().await);
            }
            self.pass(step).await;
            step = (step * 5 / 4).min(Duration::from_secs(20));
        }
    }

    /// Every order in one line.
    pub async fn story(&self) -> String {
        let mut text = String::new();
        for record in self.records().await {
            let order = self.order_of(&record.key).await;
            let attempts: Vec<String> = order
                .attempts
                .iter()
                .map(|a| match (&a.class, &a.code, a.found) {
                    (Some(class), code, _) => {
                        format!("{} {class} {}", a.attempt, code.as_deref().unwrap_or("-"))
                    }
                    (None, _, true) => format!("{} found", a.attempt),
                    (None, _, false) => format!("{} ok", a.attempt),
                })
                .collect();
            let erp = if record.key.shop.as_str() == "at" { &self.second } else { &self.erp };
            let erp = if self.setup.second_erp { erp } else { &self.erp };
            writeln!(
                text,
                "{}: {}, failed {}, attempts [{}], in the ERP {}",
                record.key,
                record.phase.name(),
                record.fail_count,
                attempts.join("; "),
                erp.has(&record.key),
            )
            .expect("text grows");
        }
        text
    }

    /// Settles, and checks what always holds: the ledger is sound, nothing is in the ERP twice, failures are
    /// counted once each.
    pub async fn end(self) -> String {
        self.settle().await;
        let report = self.store.check_ledger(None).await.expect("the ledger answers");
        assert_eq!((report.difference, report.violations), (0, Vec::new()));
        for record in self.records().await {
            let times = self.erp.has(&record.key) + self.second.has(&record.key);
            assert!(times <= 1, "{} is in the ERP {times} times", record.key);
            let order = self.order_of(&record.key).await;
            let failed = order.attempts.iter().filter(|attempt| attempt.class.is_some()).count();
            assert_eq!(usize::try_from(record.fail_count), Ok(failed), "{}", record.key);
        }
        self.story().await
    }

    /// A person with every permission.
    pub fn act(&self, reason: &str) -> Act {
        self.ops.act(&operator(), Some(reason))
    }
}

/// Nothing is settled: the handler only says how.
struct NoSettler;

#[async_trait]
impl Settler for NoSettler {
    async fn settle(&self, _: Settle) {}
}

/// The channels of a world, and how they are reached.
fn access(setup: &Setup, receivers: &Arc<FakeReceivers>) -> ChannelAccess {
    ChannelAccess {
        book: ChannelBook::new(setup.channels.clone(), Arc::new(AnyStored)),
        composer: Arc::new(MessageComposer::new("https://relay.example.com")),
        sender: receivers.clone(),
    }
}

pub fn operator() -> Principal {
    Principal { name: "user:erika".to_owned(), from: None, grants: Grants::all() }
}

pub fn key(order_id: &str) -> OrderKey {
    let (shop, order_id) = order_id.split_once('/').unwrap_or(("default", order_id));
    OrderKey::new(shop, order_id).expect("a good key")
}

/// The message of an order.
pub fn document(order_id: &str, changes: &serde_json::Value) -> String {
    let mut document = json!({
        "order_id": order_id,
        "currency": "EUR",
        "total": "129.90",
        "customer": {
            "number": "C-1001", "name": "Erika Muster", "email": "erika@example.com", "locale": "de"
        },
        "lines": [{"sku": "4711", "name": "Lamp", "quantity": "2", "unit_price": "49.95"}],
    });
    let fields = changes.as_object().expect("changes are an object");
    fields.iter().for_each(|(name, value)| document[name] = value.clone());
    document.to_string()
}

pub fn parsed(document: &str) -> Order {
    Order::parse(document.as_bytes(), &IntakeRules::of_bytes(1 << 20)).expect("a good order")
}

/// Each test on its own paused runtime.
#[macro_export]
macro_rules! paused {
    ($($(#[$meta:meta])* async fn $name:ident($world:ident) $body:block)+) => {$(
        $(#[$meta])*
        #[tokio::test(start_paused = true)]
        async fn $name() {
            #[allow(unused_mut, reason = "not every test changes its world")]
            let mut $world = $crate::world::World::new().await;
            $body
        }
    )+};
}

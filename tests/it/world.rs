//! An environment for each test: a database, exchanges and queues under a prefix, a stub ERP, a
//! mail server, and processes of ours that can be killed.
//!
//! [`World::end`] stops every process and then checks what must never happen: an order entered
//! twice, a tally that does not add up, a failure that no mail names, a message left in a queue.
//! Dropping a world without ending it is a fault of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use order_relay::app::store::Store;
use order_relay::app::wiring as app;
use order_relay::config::settings::Settings;
use order_relay::config::sources::SettingsFile;
use order_relay::devtools::erp_stub::{ErpStub, StubSettings};
use order_relay::domain::lifecycle::vocabulary::{OrderState, Phase};
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::{OrderFilter, Sort};
use order_relay::domain::topology::Topology;
use order_relay::ports::clock::{Clock, Stopwatch, SystemClock};
use order_relay::ports::notices::{MailStatus, StoredMail};
use order_relay::ports::order_desk::OrderDetail;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::smtp::{MailServer, Security};

/// The program.
pub const RELAY: &str = env!("CARGO_BIN_EXE_order-relay");
/// The time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(180);

/// What the service runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// SQLite and the in-process broker.
    Embedded,
    /// RabbitMQ and PostgreSQL.
    Services,
}

/// Makes two tests of each function that takes a [`Place`]: embedded, and on services.
macro_rules! in_both_places {
    ($($test:ident),+ $(,)?) => {
        mod embedded {
            use crate::world::Place;
            $(#[tokio::test] async fn $test() { super::$test(Place::Embedded).await; })+
        }
        mod on_services {
            use crate::world::Place;
            $(#[tokio::test] async fn $test() { super::$test(Place::Services).await; })+
        }
    };
}
pub(crate) use in_both_places;

/// RabbitMQ for tests.
pub fn amqp_url() -> String {
    let named = std::env::var("ORDER_RELAY_TEST_AMQP");
    named.unwrap_or_else(|_| "amqp://guest:guest@127.0.0.1:5672/%2f".to_owned())
}

/// PostgreSQL for tests.
pub fn postgres_url() -> String {
    let named = std::env::var("ORDER_RELAY_TEST_POSTGRES");
    named.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned())
}

/// A name that is unique among all test runs.
pub fn unique_name() -> String {
    format!("t{}", &SystemClock.unique_id().simple().to_string()[16..])
}

/// An empty PostgreSQL schema of that name in the database at `base`, and the address that leads to
/// it.
pub async fn postgres_schema(base: &str, name: &str) -> String {
    let pool = PgPoolOptions::new().max_connections(1).connect(base).await;
    let pool = pool
        .unwrap_or_else(|error| panic!("PostgreSQL at {base}: {error}; `scripts/test` starts one"));
    sqlx::query(&format!("CREATE SCHEMA {name}")).execute(&pool).await.expect("a fresh schema");
    let sign = if base.contains('?') { '&' } else { '?' };
    format!("{base}{sign}options=-csearch_path%3D{name}")
}

/// Forgets such a schema.
pub async fn drop_postgres_schema(base: &str, name: &str) {
    let pool = PgPoolOptions::new().max_connections(1).connect(base).await.expect("PostgreSQL");
    let drop = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
    sqlx::query(&drop).execute(&pool).await.expect("the schema goes");
}

/// A process of ours.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where its web port listens.
    pub web: Option<SocketAddr>,
}

impl Process {
    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How often its threads have gone to sleep or were put to sleep (proc(5), `status`).
    pub fn context_switches(&self) -> u64 {
        let id = self.child.id().expect("it runs");
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("Linux");
        let of_task = |task: std::fs::DirEntry| -> u64 {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
            lines.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum()
        };
        tasks.flatten().map(of_task).sum()
    }

    /// Sends a signal.
    pub async fn signal(&self, name: &str) {
        let Some(id) = self.child.id() else { return };
        let sent = Command::new("kill").args([format!("-{name}"), id.to_string()]).status().await;
        sent.expect("kill is there");
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end:\n{}", self.log()))
            .expect("it can be waited for")
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

/// A world for one test.
pub struct World {
    pub place: Place,
    /// The ERP.
    pub stub: ErpStub,
    /// Its address.
    pub erp: SocketAddr,
    /// The mail server.
    pub post: MailServer,
    /// Processes, started and not ended yet.
    pub processes: Vec<Process>,
    /// Every file that belongs to it.
    pub folder: TempDir,
    /// Begin of every name on the broker, and the schema in PostgreSQL.
    pub name: String,
    /// The broker that is used.
    pub amqp: String,
    /// The PostgreSQL that is used.
    pub postgres: String,
    env: BTreeMap<String, String>,
    store: Option<Arc<dyn Store>>,
    started: usize,
    tasks: JoinSet<()>,
    ended: bool,
}

impl World {
    /// A world with quick retries.
    pub async fn new(place: Place) -> Self {
        Self::with(place, amqp_url(), postgres_url()).await
    }

    /// A world on a broker and a database of its own.
    pub async fn with(place: Place, amqp: String, postgres: String) -> Self {
        order_relay::app::commands::install_tls();
        let mut tasks = JoinSet::new();
        let stub = ErpStub::new(StubSettings::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let erp = listener.local_addr().expect("a bound port");
        tasks.spawn(stub.clone().serve(listener));
        let post = MailServer::start(&mut tasks, Security::None).await;
        let folder = tempfile::tempdir().expect("a folder");
        let name = unique_name();
        let mut world = Self {
            place,
            stub,
            erp,
            post,
            processes: Vec::new(),
            folder,
            name,
            amqp,
            postgres,
            env: BTreeMap::new(),
            store: None,
            started: 0,
            tasks,
            ended: false,
        };
        world.set_usual().await;
        world
    }

    async fn set_usual(&mut self) {
        let database = match self.place {
            Place::Embedded => {
                format!("sqlite://{}", self.folder.path().join("ledger.db").display())
            }
            Place::Services => postgres_schema(&self.postgres, &self.name).await,
        };
        let (erp, post) =
            (format!("http://{}/orders", self.erp), format!("smtp://{}", self.post.address));
        for (key, value) in [
            ("database.url", database.as_str()),
            // PostgreSQL takes 100 in all, and many tests run at once.
            ("database.max_connections", "3"),
            ("erp.url", &erp),
            // Longer than any pause of a loaded machine; shorter in tests that wait for a lease to end.
            ("erp.timeout", "10s"),
            ("erp.connect_timeout", "1s"),
            ("erp.settle", "1s"),
            ("retry.schedule", "200ms, 400ms"),
            ("circuit.pause", "300ms"),
            ("sweeper.every", "200ms"),
            ("sweeper.grace", "1s"),
            ("sweeper.again_after", "1s"),
            ("mail.smtp_url", &post),
            ("mail.sender", "Shop <shop@example.com>"),
            ("mail.receiver", "admin@example.com"),
            ("mail.digest_after", "1000"),
            ("mail.digest_every", "2s"),
            ("mail.patience", "10s"),
            ("web.listen", "127.0.0.1:0"),
            ("web.public_url", "https://relay.example.com"),
            ("shutdown.patience", "20s"),
        ] {
            self.set(key, value);
        }
        if self.place == Place::Services {
            let (amqp, name) = (self.amqp.clone(), self.name.clone());
            self.set("amqp.url", &amqp);
            self.set("amqp.prefix", &name);
        }
    }

    /// Runs something of the test's own until the world is gone.
    pub fn run_beside(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// The lease of an order is short, so that the orders of a killed process are soon taken over.
    pub fn set_short_leases(&mut self) {
        self.set("erp.timeout", "1500ms");
    }

    /// Changes a setting for what is started from now on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.env.insert(variable(key), value.to_owned());
    }

    /// Sets a variable of the environment for what is started from now on; an empty one goes.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            self.env.remove(name);
        } else {
            self.env.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The address of the ledger.
    pub fn database(&self) -> String {
        self.env[&variable("database.url")].clone()
    }

    /// Changes rows of the ledger directly; returns how many.
    pub async fn tamper(&self, sql: &str) -> u64 {
        if self.place == Place::Services {
            let pool = sqlx::PgPool::connect(&self.database()).await.expect("PostgreSQL");
            let done = sqlx::query(sql).execute(&pool).await.expect("it can be changed");
            pool.close().await;
            return done.rows_affected();
        }
        let pool = sqlx::SqlitePool::connect(&self.database()).await.expect("the file opens");
        let done = sqlx::query(sql).execute(&pool).await.expect("it can be changed");
        pool.close().await;
        done.rows_affected()
    }

    /// Closes the test's own connection to the ledger, which is replaced.
    pub fn forget_store(&mut self) {
        self.store = None;
    }

    /// The settings as a process of ours reads them.
    pub fn settings(&self) -> Settings {
        let env = self.env.clone().into_iter();
        Settings::load(SettingsFile::None, env, &[]).expect("the settings of a test are right")
    }

    /// The program with these arguments, in this world, quiet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(RELAY);
        command
            .args(arguments)
            .env_clear()
            .envs(
                std::env::vars()
                    .filter(|(name, _)| !name.starts_with("ORDER_RELAY__") && name != "RUST_LOG"),
            )
            .envs(&self.env)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let ran = tokio::time::timeout(PATIENCE, self.command(arguments).output()).await;
        ran.unwrap_or_else(|_| panic!("{arguments:?} does not end"))
            .expect("the program can be run")
    }

    /// Runs a command that must succeed; what it printed.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{arguments:?}: {}\n{out}\n{err}", output.status);
        out
    }

    /// Starts the service with all roles, after making ready what it needs.
    pub async fn serve(&mut self) -> usize {
        self.make_ready().await;
        self.start(&["serve"]).await
    }

    /// Migrates the database and declares the topology, where that is not done by itself.
    pub async fn make_ready(&self) {
        if self.place == Place::Services {
            self.ok(&["migrate"]).await;
            self.ok(&["topology", "declare"]).await;
        }
    }

    /// Starts a process and waits until it says that it has started.
    pub async fn start(&mut self, arguments: &[&str]) -> usize {
        let at = self.launch(arguments);
        let process = &mut self.processes[at];
        let watch = Stopwatch::start();
        let line = loop {
            let log = process.log();
            if let Some(line) = log.lines().find(|line| line.contains("service.started")) {
                break line.to_owned();
            }
            if let Ok(Some(status)) = process.child.try_wait() {
                panic!("{arguments:?} ended with {status}:\n{log}");
            }
            assert!(watch.elapsed() < PATIENCE, "{arguments:?} does not start:\n{log}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let line: serde_json::Value = serde_json::from_str(&line).expect("log lines are JSON");
        process.web = line["web"].as_str().map(|text| text.parse().expect("an address"));
        at
    }

    /// Starts a process without waiting for anything.
    pub fn launch(&mut self, arguments: &[&str]) -> usize {
        self.started += 1;
        let log = self.folder.path().join(format!("process-{}.log", self.started));
        let file = std::fs::File::create(&log).expect("a log file");
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(file);
        let child = command.spawn().expect("the program can be started");
        self.processes.push(Process { child, log, web: None });
        self.processes.len() - 1
    }

    /// Kills the last process that was started.
    pub async fn kill(&mut self) {
        let mut process = self.processes.pop().expect("a process runs");
        process.kill().await;
    }

    /// Waits until the last process that was started dies by itself.
    pub async fn dies(&mut self) -> ExitStatus {
        let mut process = self.processes.pop().expect("a process runs");
        process.ended().await
    }

    /// Stops the last started process by a signal, and checks that it exits with 0.
    pub async fn stop(&mut self) {
        let mut process = self.processes.pop().expect("a process runs");
        process.signal("TERM").await;
        let status = process.ended().await;
        assert!(status.success(), "ended with {status}:\n{}", process.log());
    }

    /// The ledger, opened by the test itself.
    pub async fn store(&mut self) -> Arc<dyn Store> {
        if let Some(store) = &self.store {
            return store.clone();
        }
        let store = app::open_ready_store(&self.settings()).await.expect("the ledger opens");
        self.store = Some(store.clone());
        store
    }

    /// Submits orders like a checkout: published with confirms, or posted.
    pub async fn place(&mut self, documents: &[String]) {
        match self.place {
            Place::Services => self.publish(documents).await,
            Place::Embedded => self.post_orders(documents).await,
        }
    }

    /// Publishes orders and checks that the broker confirms each.
    pub async fn publish(&self, documents: &[String]) {
        let exchange = self.settings().amqp.prefix;
        let bodies = documents.iter().map(|document| document.as_bytes().to_vec());
        self.publish_bytes(&exchange, "order.placed", bodies.collect(), &[]).await;
    }

    /// Publishes messages and checks that the broker confirms each.
    pub async fn publish_bytes(
        &self,
        exchange: &str,
        key: &str,
        bodies: Vec<Vec<u8>>,
        headers: &[(&str, &str)],
    ) {
        let connection = self.connection().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), AMQPValue::LongString((*value).into()));
        }
        let mut confirms = FuturesUnordered::new();
        for body in bodies {
            let properties =
                BasicProperties::default().with_delivery_mode(2).with_headers(table.clone());
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let confirm = channel
                .basic_publish(exchange.into(), key.into(), options, &body, properties)
                .await
                .expect("it is sent");
            confirms.push(confirm);
            if confirms.len() >= 300 {
                confirmed(confirms.next().await);
            }
        }
        while let Some(confirm) = confirms.next().await {
            confirmed(Some(confirm));
        }
        hang_up(&connection).await;
    }

    /// A connection of the test's own to the broker.
    pub async fn connection(&self) -> Connection {
        let connected = Connection::connect(&self.amqp, ConnectionProperties::default()).await;
        connected.unwrap_or_else(|error| {
            panic!("RabbitMQ at {}: {error}; `scripts/test` starts one", self.amqp)
        })
    }

    pub async fn post_orders(&mut self, documents: &[String]) {
        let token = self.token("orders:publish").await;
        for chunk in documents.chunks(500) {
            let request = reqwest::Client::new()
                .post(self.web("/api/v1/orders"))
                .bearer_auth(&token)
                .header("content-type", "application/x-ndjson")
                .body(chunk.join("\n"));
            let response = request.send().await.expect("the API answers");
            let (status, text) = (response.status(), response.text().await.unwrap_or_default());
            assert_eq!(status.as_u16(), 202, "{text}");
        }
    }

    /// A fresh API token.
    pub async fn token(&mut self, scope: &str) -> String {
        let name = unique_name();
        self.ok(&["tokens", "create", &name, "--scope", scope]).await.trim().to_owned()
    }

    /// An address on the web port of the last process that has one.
    pub fn web(&self, path: &str) -> String {
        let web = self.processes.iter().rev().find_map(|process| process.web);
        format!("http://{}{path}", web.expect("a process with a web port"))
    }

    /// An order with its history.
    pub async fn order(&mut self, id: &str) -> OrderDetail {
        self.find(id).await.unwrap_or_else(|| panic!("the ledger has no order {id}"))
    }

    /// The same, if the ledger has it.
    pub async fn find(&mut self, id: &str) -> Option<OrderDetail> {
        let (shop, order_id) = id.split_once('/').unwrap_or(("default", id));
        let key = OrderKey::new(shop, order_id).expect("a good key");
        self.store().await.order(&key).await.expect("the ledger answers")
    }

    /// Waits until an order is in this phase.
    pub async fn until_phase(&mut self, id: &str, phase: &str) {
        let store = self.store().await;
        let (shop, order_id) = id.split_once('/').unwrap_or(("default", id));
        let key = OrderKey::new(shop, order_id).expect("a good key");
        let reached = async || match store.order(&key).await.expect("the ledger answers") {
            Some(order) if order.record.phase.name() == phase => Ok(()),
            Some(order) => Err(format!("it is {}", order.record.phase.name())),
            None => Err("it is not there".to_owned()),
        };
        self.until(&format!("order {id} is {phase}"), reached).await;
    }

    /// Waits until `look` succeeds; until then it returns what is missing.
    pub async fn until(&self, what: &str, mut look: impl AsyncFnMut() -> Result<(), String>) {
        let watch = Stopwatch::start();
        loop {
            let now = match look().await {
                Ok(()) => return,
                Err(now) => now,
            };
            if watch.elapsed() > PATIENCE {
                panic!("waited in vain until {what}: {now}\n{}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `count` orders are in the ledger, none of them has anything due, and every
    /// notice is in an accepted mail.
    pub async fn until_settled(&mut self, count: u64) {
        let store = self.store().await;
        self.until("everything is settled", async || {
            let received = store.count_received().await.map_err(|error| error.to_string())?;
            let open = store.count_open().await.map_err(|error| error.to_string())?;
            let mails = store.count_mails().await.map_err(|error| error.to_string())?;
            let is_open = open.iter().any(|count| count.phase != "parked");
            if received == count && !is_open && mails.waiting == 0 {
                return Ok(());
            }
            let waiting: BTreeMap<_, _> =
                open.iter().map(|c| (c.phase.as_str(), c.orders)).collect();
            Err(format!(
                "{received} of {count} received, open {waiting:?}, {} mails wait",
                mails.waiting
            ))
        })
        .await;
    }

    /// Every order on one line: its status, its attempts, its mails, its documents in the ERP.
    pub async fn snapshot(&mut self) -> String {
        let store = self.store().await;
        let all = store.page_orders(&OrderFilter::default(), Sort::default(), None, 5_000).await;
        let mut all = all.expect("the ledger answers");
        all.sort_by(|a, b| a.key.cmp(&b.key));
        let in_erp = self.stub.orders();
        let mut text = String::new();
        for record in all {
            let order =
                store.order(&record.key).await.expect("the ledger answers").expect("it is there");
            let tries: Vec<String> = order
                .attempts
                .iter()
                .map(|a| {
                    let how = match &a.class {
                        Some(class) => format!("{class} {}", a.code.as_deref().unwrap_or("-")),
                        None if a.found => "found".to_owned(),
                        None => "ok".to_owned(),
                    };
                    format!("{} {how}", a.attempt)
                })
                .collect();
            let mut mails: Vec<&str> =
                order.mails.iter().map(|mail| mail.mail.kind.as_str()).collect();
            // Two may be written in the same round; failures first.
            mails.sort_by(|a, b| b.cmp(a));
            let documents =
                in_erp.get(record.key.order_id.as_str()).map_or(0, |o| o.documents.len());
            writeln!(
                text,
                "{}: {}/{}, failed {}, tries [{}], mails [{}], in the ERP {documents}",
                record.key,
                record.phase.state().as_str(),
                record.phase.name(),
                record.fail_count,
                tries.join("; "),
                mails.join(", ")
            )
            .expect("text grows");
        }
        text
    }

    /// The mails about failed orders or circuits, not those to customers.
    pub fn admin_mails(&self) -> Vec<crate::smtp::Received> {
        let mails = self.post.mails().into_iter();
        mails.filter(|mail| mail.receivers.iter().any(|to| to.starts_with("admin"))).collect()
    }

    /// Stops every process and checks what must never happen.
    pub async fn end(mut self) {
        let takes_messages = self.place == Place::Services && !self.processes.is_empty();
        if takes_messages {
            self.until_taken().await;
        }
        self.stop_all().await;
        // A process that ends hands back what it had received and not begun, for example a copy of an order
        // that is settled. The next process takes it.
        if takes_messages && !self.left_in_queues().await.is_empty() {
            self.start(&["serve"]).await;
            self.until_taken().await;
            self.stop_all().await;
        }
        self.insist_on_promises().await;
        if self.place == Place::Services {
            let left = self.left_in_queues().await;
            assert!(left.is_empty(), "after a polite end: {}", left.join(", "));
            delete_topology(&self.amqp, &app::topology(&self.settings())).await;
        }
        self.store = None;
        if self.place == Place::Services {
            drop_postgres_schema(&self.postgres, &self.name).await;
        }
        self.ended = true;
    }

    /// Waits until no message is ready in any queue: what is delivered again after a crash may still have to be
    /// looked at.
    async fn until_taken(&mut self) {
        self.until("every message is taken", async || match self.left_in_queues().await {
            left if left.is_empty() => Ok(()),
            left => Err(left.join(", ")),
        })
        .await;
    }

    async fn stop_all(&mut self) {
        while !self.processes.is_empty() {
            self.stop().await;
        }
    }

    /// Ends a world whose processes are gone and whose state is not to be looked at.
    pub async fn leave(mut self) {
        for process in &mut self.processes {
            process.kill().await;
        }
        self.store = None;
        if self.place == Place::Services {
            delete_topology(&self.amqp, &app::topology(&self.settings())).await;
            drop_postgres_schema(&self.postgres, &self.name).await;
        }
        self.ended = true;
    }

    async fn insist_on_promises(&mut self) {
        let store = self.store().await;
        let report = store.check_ledger(None).await.expect("the ledger can be checked");
        assert_eq!(report.difference, 0, "{report:?}");
        assert!(report.violations.is_empty(), "{report:?}");
        for (id, order) in self.stub.orders() {
            assert!(order.documents.len() <= 1, "order {id} is in the ERP twice: {order:?}");
            assert!(order.keys.len() <= 1, "order {id} was sent under several keys: {order:?}");
        }
        self.insist_on_mails(&store).await;
    }

    /// Every failed attempt is in exactly one mail, and every mail that counts as sent was
    /// accepted.
    async fn insist_on_mails(&self, store: &Arc<dyn Store>) {
        let mails = store.list_mails(None, 100_000).await.expect("the ledger answers");
        let taken: BTreeSet<String> = self.post.mails().iter().map(|mail| mail.id()).collect();
        let is_sent = |mail: &&StoredMail| {
            mail.deliveries.iter().any(|delivery| delivery.status == MailStatus::Sent)
        };
        for mail in mails.iter().filter(is_sent) {
            let id = mail.mail.message_id.trim_matches(['<', '>']);
            assert!(taken.contains(id), "mail {id} counts as sent and was never taken");
        }
        let failed = OrderFilter { state: Some(OrderState::OrderedFailed), ..Default::default() };
        for record in store
            .page_orders(&failed, Sort::default(), None, 100_000)
            .await
            .expect("the ledger answers")
        {
            let order_id = record.key.order_id.as_str();
            let names = |list: &str| list.contains(order_id);
            let named = mails.iter().any(|mail| {
                names(&mail.mail.text) || mail.mail.attachment.as_deref().is_some_and(names)
            });
            assert!(named, "no mail names the failed order {}", record.key);
        }
    }

    /// Queues that hold messages.
    async fn left_in_queues(&self) -> Vec<String> {
        let connection = self.connection().await;
        let mut left = Vec::new();
        for queue in &app::topology(&self.settings()).queues {
            let channel = connection.create_channel().await.expect("a channel");
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let name = queue.name.as_str();
            let declared = channel.queue_declare(name.into(), passive, FieldTable::default());
            let count = declared.await.expect("the queue is there").message_count();
            // A nudge is obsolete once its work is done.
            if count > 0 && !name.ends_with(".notify") {
                left.push(format!("{count} messages in {name}"));
            }
        }
        hang_up(&connection).await;
        left
    }

    /// Leaves no queues behind: hundreds of them use up the files that a broker may open.
    fn clean_up_after_panic(&mut self) {
        for process in &mut self.processes {
            // It may be gone already.
            drop(process.child.start_kill());
        }
        let topology = app::topology(&self.settings());
        let (amqp, postgres, name) = (self.amqp.clone(), self.postgres.clone(), self.name.clone());
        let clean = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let clean = async {
                delete_topology(&amqp, &topology).await;
                drop_postgres_schema(&postgres, &name).await;
            };
            let in_time = async { tokio::time::timeout(Duration::from_secs(10), clean).await };
            runtime.map(|runtime| runtime.block_on(in_time))
        };
        // In a thread of its own: this one belongs to the runtime of the test.
        drop(std::thread::spawn(clean).join());
    }

    /// The end of what every process has logged.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for number in 1..=self.started {
            let log = std::fs::read(self.folder.path().join(format!("process-{number}.log")));
            let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(40)..].join("\n");
            writeln!(text, "--- process {number}\n{end}").expect("text grows");
        }
        text
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.abort_all();
        if !std::thread::panicking() {
            assert!(self.ended, "the test did not end its world");
            return;
        }
        eprintln!("{}", self.logs());
        if self.place == Place::Services {
            self.clean_up_after_panic();
        }
    }
}

/// Forgets every queue and exchange; what is not there is forgotten already.
async fn delete_topology(amqp: &str, topology: &Topology) {
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await;
    let connection = connection.expect("RabbitMQ");
    let channel = connection.create_channel().await.expect("a channel");
    for queue in &topology.queues {
        let delete =
            channel.queue_delete(queue.name.as_str().into(), QueueDeleteOptions::default());
        delete.await.expect("the queue goes");
    }
    for exchange in &topology.exchanges {
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.name.as_str().into(), options).await.expect("it goes");
    }
    hang_up(&connection).await;
}

/// Closes the connection; lapin reports an error when a channel of the connection is just closing
/// as well.
async fn hang_up(connection: &Connection) {
    drop(connection.close(200, "OK".into()).await);
}

fn confirmed(confirm: Option<Result<Confirmation, lapin::Error>>) {
    match confirm {
        Some(Ok(Confirmation::Ack(None))) => {}
        other => panic!("the broker did not take it: {other:?}"),
    }
}

fn variable(key: &str) -> String {
    format!("ORDER_RELAY__{}", key.replace('.', "__").to_ascii_uppercase())
}

/// What a command printed: standard output and standard error.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// An order of one line that is fine.
pub fn order(id: &str) -> String {
    order_with(id, &serde_json::json!({}))
}

/// The same, with some fields set or replaced.
pub fn order_with(id: &str, changes: &serde_json::Value) -> String {
    let mut document = serde_json::json!({
        "order_id": id,
        "currency": "EUR",
        "total": "129.90",
        "customer": {
            "number": "C-1001", "name": "Erika Muster", "email": "erika@example.com", "locale": "de"
        },
        "lines": [{"sku": "4711", "name": "Lamp", "quantity": "2", "unit_price": "49.95"}],
    });
    let fields = changes.as_object().expect("changes are an object");
    for (name, value) in fields {
        document[name] = value.clone();
    }
    document.to_string()
}

/// An order with the stub's answers to its attempts, in turn.
pub fn order_that(id: &str, modes: &str) -> String {
    order_with(id, &serde_json::json!({"remark": format!("stub: {modes}")}))
}

/// The ERP's number of a transferred order.
pub fn erp_number(order: &OrderDetail) -> Option<String> {
    match &order.record.phase {
        Phase::Transferred { erp_order_id } => erp_order_id.clone(),
        _ => None,
    }
}

//! How fast the relay is beside a bare loop, printed as ratios: `cargo bench` (see docs/benchmark.md).
//!
//! Every side is a separate process, so that the operating system counts its CPU-seconds; all of them
//! process the same queue of the same broker against the same stub ERP, alternately within one run.
//! Absolute numbers depend on the machine; compare the ratios.
//!
//! Needs RabbitMQ and PostgreSQL: ORDER_RELAY_TEST_AMQP and ORDER_RELAY_TEST_POSTGRES, or what
//! listens on this machine.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use order_relay::cli::devtools::StubMode;
use order_relay::devtools::erp_stub::{ErpStub, StubSettings};
use order_relay::ports::clock::Stopwatch;
use sqlx::postgres::PgPoolOptions;

const RELAY: &str = env!("CARGO_BIN_EXE_order-relay");
const SIZES: Sizes = Sizes { orders: 10_000, rounds: 3 };
const QUICK: Sizes = Sizes { orders: 5_000, rounds: 1 };
/// Orders a second of the steady pair, and how long its ERP takes.
const STEADY_RATE: usize = 300;
const STEADY_LATENCY: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
struct Sizes {
    orders: usize,
    rounds: usize,
}

struct Place {
    amqp: String,
    postgres: String,
    erp: String,
    prefix: String,
    /// The program that is measured.
    relay: String,
    postmaster: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Happy,
    Failing,
    /// Orders that come one by one, to an ERP that takes its time.
    Steady,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::Happy => "RabbitMQ + PostgreSQL, ERP accepts",
            Self::Failing => "RabbitMQ + PostgreSQL, ERP refuses each",
            Self::Steady => "300 orders/s, ERP of 20 ms",
        }
    }

    fn stub(self) -> StubSettings {
        match self {
            Self::Happy => StubSettings::default(),
            Self::Failing => StubSettings { mode: StubMode::Reject, ..Default::default() },
            Self::Steady => {
                let latency_ms = u64::try_from(STEADY_LATENCY.as_millis()).unwrap_or(0);
                StubSettings { latency_ms, ..Default::default() }
            }
        }
    }
}

/// The result of one side; CPU-seconds for 10,000 orders.
#[derive(Clone, Copy)]
struct Figures {
    orders_per_s: f64,
    own: f64,
    broker: f64,
    database: f64,
    stub: f64,
}

impl Figures {
    fn all(&self) -> f64 {
        self.own + self.broker + self.database + self.stub
    }
}

/// Whose CPU-seconds they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Broker,
    Database,
    Stub,
}

/// CPU-seconds of processes at one moment, by process id.
struct Cpu {
    own: f64,
    others: HashMap<u32, (Whose, f64)>,
}

impl Cpu {
    fn of(pid: u32, postmaster: Option<u32>) -> anyhow::Result<Self> {
        let mut others = servers(postmaster)?;
        // The stub ERP runs in this process.
        let me = std::process::id();
        others.insert(me, (Whose::Stub, cpu_seconds(me)?));
        Ok(Self { own: cpu_seconds(pid)?, others })
    }

    fn figures(&self, begin: &Self, orders: usize, seconds: f64) -> Figures {
        let for_10k = 10_000.0 / orders as f64;
        let of = |whose: Whose| {
            let some = self.others.iter().filter(|(_, (other, _))| *other == whose);
            // A process that has ended is counted by its parent.
            let spent =
                some.map(|(pid, (_, end))| end - begin.others.get(pid).map_or(0.0, |b| b.1));
            spent.sum::<f64>() * for_10k
        };
        Figures {
            orders_per_s: orders as f64 / seconds,
            own: (self.own - begin.own) * for_10k,
            broker: of(Whose::Broker),
            database: of(Whose::Database),
            stub: of(Whose::Stub),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    order_relay::app::commands::install_tls();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(at) = arguments.iter().position(|argument| argument == "--bare") {
        return runtime.block_on(bare_loop(&arguments[at + 1..]));
    }
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &[String]) -> anyhow::Result<()> {
    let text = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let number = |name: &str, default: usize| {
        text(name).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let sizes = if quick { QUICK } else { SIZES };
    let (orders, rounds) = (number("--orders", sizes.orders), number("--rounds", sizes.rounds));
    let stub = ErpStub::new(StubSettings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let erp = format!("http://{}/orders", listener.local_addr()?);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(stub.clone().serve(listener));
    let env =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let postgres = env("ORDER_RELAY_TEST_POSTGRES", "postgres://postgres@127.0.0.1/postgres");
    let place = Place {
        amqp: env("ORDER_RELAY_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        postmaster: postmaster(&postgres).await?,
        postgres,
        erp,
        prefix: format!("bench{}", std::process::id()),
        relay: text("--relay").unwrap_or(RELAY).to_owned(),
    };
    println!("{orders} orders of 2 KB, {rounds} rounds; ERP answers at once\n");
    let columns = ["orders/s", "process", "broker", "database", "stub", "all", "rate", "CPU"];
    println!("{:<46}{}", "", columns.map(|column| format!("{column:>9}")).concat());
    let wanted = |name: &str| text("--only").is_none_or(|only| name.contains(only));
    for path in [Path::Happy, Path::Failing] {
        if !wanted(path.name()) {
            continue;
        }
        let (mut bare, mut relay) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bare.push(run_bare(&place, &stub, path, orders).await?);
            relay.push(run_relay(&place, &stub, path, orders).await?);
        }
        report(path.name(), &bare, &relay);
    }
    let embedded = "embedded (SQLite, POST /api/v1/orders)";
    let (mut bare, mut relay) = (Vec::new(), Vec::new());
    for _ in (0..rounds).filter(|_| wanted(embedded)) {
        bare.push(run_bare_http(&place, &stub, orders).await?);
        relay.push(run_embedded(&place, &stub, orders).await?);
    }
    report(embedded, &bare, &relay);
    let (mut bare, mut relay) = (Vec::new(), Vec::new());
    for _ in (0..rounds).filter(|_| wanted(Path::Steady.name())) {
        bare.push(run_bare(&place, &stub, Path::Steady, orders.min(3_000)).await?);
        relay.push(run_relay(&place, &stub, Path::Steady, orders.min(3_000)).await?);
    }
    report(Path::Steady.name(), &bare, &relay);
    Ok(())
}

/// The best of all rounds: what disturbs a round only makes it slower.
fn best(rounds: &[Figures]) -> Figures {
    let least = |get: fn(&Figures) -> f64| rounds.iter().map(get).fold(f64::INFINITY, f64::min);
    Figures {
        orders_per_s: rounds.iter().map(|f| f.orders_per_s).fold(0.0, f64::max),
        own: least(|f| f.own),
        broker: least(|f| f.broker),
        database: least(|f| f.database),
        stub: least(|f| f.stub),
    }
}

fn report(name: &str, bare: &[Figures], relay: &[Figures]) {
    if relay.is_empty() {
        return;
    }
    let (bare, relay) = (best(bare), best(relay));
    let line = |side: &str, f: Figures| {
        let name = format!("{name}: {side}");
        let parts = [f.own, f.broker, f.database, f.stub, f.all()];
        let parts = parts.map(|part| format!("{part:>9.2}")).concat();
        format!("{name:<46}{:>9.0}{parts}", f.orders_per_s)
    };
    println!("{}", line("bare", bare));
    let (rate, cpu) = (relay.orders_per_s / bare.orders_per_s, bare.all() / relay.all());
    println!("{}{rate:>9.2}{cpu:>9.2}", line("relay", relay));
}

fn document(number: usize) -> String {
    let lines: Vec<serde_json::Value> = (0..14)
        .map(|line| {
            serde_json::json!({
                "sku": format!("SKU-{line}-{number}"), "name": "A lamp with a name of some length",
                "quantity": "2", "unit_price": "49.95", "tax_rate": "19"
            })
        })
        .collect();
    serde_json::json!({
        "order_id": format!("{number}"), "currency": "EUR", "total": "1398.60",
        "customer": {"number": "C-1001", "name": "Erika Muster", "email": "erika@example.com"},
        "lines": lines
    })
    .to_string()
}

/// CPU-seconds of a process, user and system (proc(5), fields 14 and 15).
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

/// The process that has started the sessions of this database, if it runs on this machine.
async fn postmaster(postgres: &str) -> anyhow::Result<Option<u32>> {
    let pool = PgPoolOptions::new().max_connections(1).connect(postgres).await?;
    let (pid,): (i32,) = sqlx::query_as("SELECT pg_backend_pid()").fetch_one(&pool).await?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((name, fields)) = stat.rsplit_once(')') else { return Ok(None) };
    let parent = fields.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Ok(parent.filter(|_| name.ends_with("(postgres")))
}

/// The same of the processes of the broker and the database on this machine, whoever else uses them. Of a database
/// on another machine nothing is known.
fn servers(postmaster: Option<u32>) -> anyhow::Result<HashMap<u32, (Whose, f64)>> {
    let mut servers = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes come and go.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, fields)) = stat.rsplit_once(')') else { continue };
        let parent = fields.split_whitespace().nth(1).and_then(|field| field.parse::<u32>().ok());
        let kinds = [("(postgres", Whose::Database), ("(beam.smp", Whose::Broker)];
        let is_theirs = |whose| {
            whose != Whose::Database || postmaster.is_some_and(|p| p == pid || parent == Some(p))
        };
        let kind = kinds.iter().find(|(server, _)| name.ends_with(server));
        if let Some((_, whose)) = kind.filter(|(_, whose)| is_theirs(*whose)) {
            // With what children used that have ended, as sessions of PostgreSQL do.
            let ticks = fields.split_whitespace().skip(11).take(4);
            let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
            servers.insert(pid, (*whose, ticks / 100.0));
        }
    }
    Ok(servers)
}

/// Publishes orders: all at once, or `STEADY_RATE` in a second.
async fn publish(
    place: &Place,
    exchange: &str,
    key: &str,
    orders: usize,
    path: Path,
) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(STEADY_RATE)?);
    let connection = Connection::connect(&place.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut confirms = FuturesUnordered::new();
    for number in 0..orders {
        if path == Path::Steady {
            ticks.tick().await;
        }
        let properties = BasicProperties::default().with_delivery_mode(2);
        let body = document(number);
        let options = BasicPublishOptions::default();
        let confirm = channel
            .basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties)
            .await?;
        confirms.push(confirm);
        if confirms.len() >= 500 {
            confirms.next().await;
        }
    }
    while let Some(confirm) = confirms.next().await {
        confirm?;
    }
    connection.close(200, "OK".into()).await?;
    Ok(())
}

/// Waits until the ERP has seen `orders` and `done` is true; returns the resources of `child` in that time.
async fn watch(
    child: &mut Child,
    postmaster: Option<u32>,
    stub: &ErpStub,
    orders: usize,
    mut done: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Figures> {
    let mut begin = None;
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the process ended: {status}");
        }
        let seen = stub.requests();
        if seen > 0 && begin.is_none() {
            begin = Some((Stopwatch::start(), Cpu::of(child.id(), postmaster)?));
        }
        if seen >= orders as u64
            && let Some((started, cpu)) = &begin
            && done().await?
        {
            let figures = Cpu::of(child.id(), postmaster)?.figures(
                cpu,
                orders,
                started.elapsed().as_secs_f64(),
            );
            child.kill()?;
            child.wait()?;
            return Ok(figures);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a process over a queue that is full, or that is filled while it runs.
async fn fed_and_watched(
    place: &Place,
    path: Path,
    feed: impl Future<Output = anyhow::Result<()>>,
    serve: impl Fn() -> std::io::Result<Child>,
    stub: &ErpStub,
    orders: usize,
    done: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Figures> {
    if path != Path::Steady {
        feed.await?;
        return watch(&mut serve()?, place.postmaster, stub, orders, done).await;
    }
    let mut child = serve()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (figures, fed) =
        tokio::join!(watch(&mut child, place.postmaster, stub, orders, done), feed);
    fed?;
    figures
}

async fn fresh_schema(place: &Place, name: &str) -> anyhow::Result<String> {
    let pool = PgPoolOptions::new().max_connections(1).connect(&place.postgres).await?;
    let drop = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
    sqlx::query(&drop).execute(&pool).await?;
    sqlx::query(&format!("CREATE SCHEMA {name}")).execute(&pool).await?;
    let sign = if place.postgres.contains('?') { '&' } else { '?' };
    Ok(format!("{}{sign}options=-csearch_path%3D{name}", place.postgres))
}

/// The relay over a queue that is full when it starts.
async fn run_relay(
    place: &Place,
    stub: &ErpStub,
    path: Path,
    orders: usize,
) -> anyhow::Result<Figures> {
    let database = fresh_schema(place, "relay_bench").await?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&place.relay);
        command
            .args(arguments)
            .env("ORDER_RELAY__DATABASE__URL", &database)
            .env("ORDER_RELAY__AMQP__URL", &place.amqp)
            .env("ORDER_RELAY__AMQP__PREFIX", &place.prefix)
            .env("ORDER_RELAY__ERP__URL", &place.erp)
            .env("ORDER_RELAY__ERP__MAX_IN_FLIGHT", "256")
            .env("ORDER_RELAY__ERP__REJECTED", "retry")
            .env("ORDER_RELAY__RETRY__SCHEDULE", "1h")
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null());
        command
    };
    for arguments in [["migrate"].as_slice(), &["topology", "declare"]] {
        if !command(arguments).status()?.success() {
            bail!("{arguments:?} failed");
        }
    }
    stub.reset(path.stub());
    let feed = publish(place, &place.prefix, "order.placed", orders, path);
    let serve = || command(&["serve", "--roles", "submitter,error-handler"]).spawn();
    let pool = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    let settled = match path {
        Path::Happy | Path::Steady => "confirmed",
        Path::Failing => "ordered_failed",
    };
    let sum = "SELECT COALESCE(SUM(orders), 0)::bigint FROM order_counts WHERE state = $1";
    let done = async || {
        let (count,): (i64,) = sqlx::query_as(sum).bind(settled).fetch_one(&pool).await?;
        Ok(usize::try_from(count)? >= orders)
    };
    let figures = fed_and_watched(place, path, feed, serve, stub, orders, done).await?;
    delete_topology(place).await?;
    Ok(figures)
}

async fn delete_topology(place: &Place) -> anyhow::Result<()> {
    let connection = Connection::connect(&place.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let with = |name: &str| format!("{}.{name}", place.prefix);
    for queue in ["submit", "failed", "notify", "dead", "unrouted", "retry.3600000"] {
        channel.queue_delete(with(queue).into(), QueueDeleteOptions::default()).await?;
    }
    for exchange in ["events", "events.unheard", "failures", "retry", "redrive", "dead", "unrouted"]
    {
        channel.exchange_delete(with(exchange).into(), ExchangeDeleteOptions::default()).await?;
    }
    channel.exchange_delete(place.prefix.as_str().into(), ExchangeDeleteOptions::default()).await?;
    connection.close(200, "OK".into()).await?;
    Ok(())
}

/// The bare loop over a queue that is full when it starts.
async fn run_bare(
    place: &Place,
    stub: &ErpStub,
    path: Path,
    orders: usize,
) -> anyhow::Result<Figures> {
    let connection = Connection::connect(&place.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let queues = [format!("{}.bare", place.prefix), format!("{}.bare.failed", place.prefix)];
    for queue in &queues {
        let mut arguments = FieldTable::default();
        arguments
            .insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
        channel
            .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments)
            .await?;
    }
    stub.reset(path.stub());
    let feed = publish(place, "", &queues[0], orders, path);
    let database = fresh_schema(place, "relay_bare").await?;
    let me = std::env::current_exe()?;
    let serve = || {
        let failed = (path == Path::Failing).then_some(["--failed", &queues[1], &database]);
        Command::new(&me)
            .args(["--bare", &place.amqp, &queues[0], &place.erp])
            .args(failed.into_iter().flatten())
            .spawn()
    };
    let done = async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue =
            channel.queue_declare(queues[0].as_str().into(), passive, FieldTable::default());
        Ok(queue.await?.message_count() == 0)
    };
    let figures = fed_and_watched(place, path, feed, serve, stub, orders, done).await?;
    for queue in &queues {
        channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
    }
    connection.close(200, "OK".into()).await?;
    Ok(figures)
}

/// Consume, POST, ack; on a refusal also one batched upsert and a confirmed `order_failed`.
async fn bare_loop(arguments: &[String]) -> anyhow::Result<()> {
    let [amqp, queue, erp, rest @ ..] = arguments else { bail!("--bare AMQP QUEUE ERP") };
    let failed = match rest {
        [flag, queue, database] if flag == "--failed" => Some((queue.clone(), database.clone())),
        _ => None,
    };
    let http = reqwest::Client::builder().build()?;
    let connection = Connection::connect(amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(500, BasicQosOptions::default()).await?;
    let consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let publisher = connection.create_channel().await?;
    publisher.confirm_select(ConfirmSelectOptions::default()).await?;
    let pool = match &failed {
        Some((_, database)) => {
            let pool = PgPoolOptions::new().max_connections(2).connect(database).await?;
            sqlx::query("CREATE TABLE failures (id TEXT PRIMARY KEY, error TEXT)")
                .execute(&pool)
                .await?;
            Some(pool)
        }
        None => None,
    };
    let mut posted = consumer
        .map(|delivery| {
            let (http, erp) = (http.clone(), erp.clone());
            async move {
                let delivery = delivery.expect("the broker goes on delivering");
                let request = http.post(&erp).header("content-type", "application/json");
                let response =
                    request.body(delivery.data.clone()).send().await.expect("the ERP answers");
                (delivery, response.status().is_success(), response.bytes().await.expect("a body"))
            }
        })
        .buffered(256);
    // All that is ready is one batch, up to 200: one upsert, pipelined confirms, one ack for all.
    while let Some(first) = posted.next().await {
        let mut batch = vec![first];
        while batch.len() < 200
            && let Some(Some(next)) = posted.next().now_or_never()
        {
            batch.push(next);
        }
        if let (Some(pool), Some((failed_queue, _))) = (&pool, &failed) {
            let ids: Vec<String> = batch.iter().map(|(d, ..)| d.delivery_tag.to_string()).collect();
            let errors: Vec<String> =
                batch.iter().map(|(.., body)| String::from_utf8_lossy(body).into_owned()).collect();
            sqlx::query(
                "INSERT INTO failures SELECT * FROM unnest($1::text[], $2::text[])
                ON CONFLICT (id) DO UPDATE SET error = excluded.error",
            )
            .bind(&ids)
            .bind(&errors)
            .execute(pool)
            .await?;
            let mut confirms = Vec::new();
            for (id, error) in ids.iter().zip(&errors) {
                let body =
                    serde_json::json!({"order_id": id, "attempt": 1, "error": {"message": error}});
                let properties = BasicProperties::default().with_delivery_mode(2);
                let (options, body) = (BasicPublishOptions::default(), body.to_string());
                confirms.push(
                    publisher
                        .basic_publish(
                            "".into(),
                            failed_queue.as_str().into(),
                            options,
                            body.as_bytes(),
                            properties,
                        )
                        .await?,
                );
            }
            for confirm in confirms {
                confirm.await?;
            }
        }
        if let Some((last, ..)) = batch.last() {
            last.acker.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}

/// The embedded service, fed over HTTP.
async fn run_embedded(place: &Place, stub: &ErpStub, orders: usize) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let database = format!("sqlite://{}", folder.path().join("bench.db").display());
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&place.relay);
        command
            .args(arguments)
            .env("ORDER_RELAY__DATABASE__URL", &database)
            .env("ORDER_RELAY__ERP__URL", &place.erp)
            .env("ORDER_RELAY__ERP__MAX_IN_FLIGHT", "256")
            .env("ORDER_RELAY__WEB__LISTEN", free.to_string())
            .env("RUST_LOG", "error");
        command
    };
    let token = command(&["tokens", "create", "bench", "--scope", "orders:publish"]).output()?;
    let token = String::from_utf8(token.stdout)?.trim().to_owned();
    stub.reset(StubSettings::default());
    let mut child = command(&["serve"]).spawn()?;
    let http = reqwest::Client::new();
    while http.get(format!("http://{free}/readyz")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let feed = async {
        for chunk in (0..orders).collect::<Vec<_>>().chunks(1_000) {
            let lines: Vec<String> = chunk.iter().map(|number| document(*number)).collect();
            let request = http.post(format!("http://{free}/api/v1/orders")).bearer_auth(&token);
            let request =
                request.header("content-type", "application/x-ndjson").body(lines.join("\n"));
            let response = request.send().await?;
            if response.status() != 202 {
                bail!("{}: {}", response.status(), response.text().await?);
            }
        }
        Ok(())
    };
    let status = watch(&mut child, place.postmaster, stub, orders, async || {
        let metrics = http.get(format!("http://{free}/metrics")).send().await?.text().await?;
        let line =
            metrics.lines().find(|line| line.starts_with("order_relay_orders_confirmed_total"));
        let count = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
        Ok(count.unwrap_or(0) >= orders)
    });
    let (figures, fed) = tokio::join!(status, feed);
    fed?;
    figures
}

/// Nothing but HTTP: the same orders posted to the ERP at once, 256 in flight.
async fn run_bare_http(place: &Place, stub: &ErpStub, orders: usize) -> anyhow::Result<Figures> {
    stub.reset(StubSettings::default());
    let http = reqwest::Client::new();
    let (started, cpu) = (Stopwatch::start(), cpu_seconds(std::process::id())?);
    let mut posts = futures_util::stream::iter(0..orders)
        .map(|number| {
            let request = http.post(&place.erp).body(document(number)).send();
            async move { request.await?.bytes().await }
        })
        .buffer_unordered(256);
    while let Some(post) = posts.next().await {
        post?;
    }
    // The stub is in this process, too: half of the time is its own.
    let seconds = started.elapsed().as_secs_f64();
    let all = cpu_seconds(std::process::id())? - cpu;
    let for_10k = 10_000.0 / orders as f64;
    let half = all / 2.0 * for_10k;
    let orders_per_s = orders as f64 / seconds;
    Ok(Figures { orders_per_s, own: half, broker: 0.0, database: 0.0, stub: half })
}

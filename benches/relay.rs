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

struct Sizes {
    orders: usize,
    rounds: usize,
}

struct Place {
    amqp: String,
    postgres: String,
    erp: String,
    prefix: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Happy,
    Failing,
}

/// The result of one side.
#[derive(Clone, Copy)]
struct Figures {
    orders_per_s: f64,
    /// Of the process itself, for 10,000 orders.
    own_cpu_s: f64,
    /// Of the process, the broker, the database and the stub ERP together, for 10,000 orders.
    all_cpu_s: f64,
}

/// CPU-seconds of processes at one moment, by process id.
struct Cpu {
    own: f64,
    others: HashMap<u32, f64>,
}

impl Cpu {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let mut others = servers()?;
        // The stub ERP runs in this process.
        others.insert(std::process::id(), cpu_seconds(std::process::id())?);
        Ok(Self { own: cpu_seconds(pid)?, others })
    }

    fn figures(&self, begin: &Self, orders: usize, seconds: f64) -> Figures {
        let for_10k = 10_000.0 / orders as f64;
        let own = self.own - begin.own;
        // A process that has ended is counted by its parent.
        let of_others =
            self.others.iter().map(|(pid, end)| end - begin.others.get(pid).unwrap_or(&0.0));
        Figures {
            orders_per_s: orders as f64 / seconds,
            own_cpu_s: own * for_10k,
            all_cpu_s: (own + of_others.sum::<f64>()) * for_10k,
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
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    let (orders, rounds) = (number("--orders", SIZES.orders), number("--rounds", SIZES.rounds));
    let stub = ErpStub::new(StubSettings::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let erp = format!("http://{}/orders", listener.local_addr()?);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(stub.clone().serve(listener));
    let env =
        |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let place = Place {
        amqp: env("ORDER_RELAY_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2f"),
        postgres: env("ORDER_RELAY_TEST_POSTGRES", "postgres://postgres@127.0.0.1/postgres"),
        erp,
        prefix: format!("bench{}", std::process::id()),
    };
    println!("{orders} orders of 2 KB, {rounds} rounds; ERP answers at once\n");
    println!("{:<44} {:>9} {:>8} {:>8} {:>6} {:>6}", "", "orders/s", "CPU-s", "all", "rate", "CPU");
    for path in [Path::Happy, Path::Failing] {
        let (mut bare, mut relay) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bare.push(run_bare(&place, &stub, path, orders).await?);
            relay.push(run_relay(&place, &stub, path, orders).await?);
        }
        let name = match path {
            Path::Happy => "RabbitMQ + PostgreSQL, ERP accepts",
            Path::Failing => "RabbitMQ + PostgreSQL, ERP refuses each",
        };
        report(name, &bare, &relay);
    }
    let (mut bare, mut relay) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        bare.push(run_bare_http(&place, &stub, orders).await?);
        relay.push(run_embedded(&place, &stub, orders).await?);
    }
    report("embedded (SQLite, POST /api/v1/orders)", &bare, &relay);
    Ok(())
}

/// The best of all rounds: what disturbs a round only makes it slower.
fn best(rounds: &[Figures]) -> Figures {
    let least = |get: fn(&Figures) -> f64| rounds.iter().map(get).fold(f64::INFINITY, f64::min);
    Figures {
        orders_per_s: rounds.iter().map(|f| f.orders_per_s).fold(0.0, f64::max),
        own_cpu_s: least(|f| f.own_cpu_s),
        all_cpu_s: least(|f| f.all_cpu_s),
    }
}

fn report(name: &str, bare: &[Figures], relay: &[Figures]) {
    let (bare, relay) = (best(bare), best(relay));
    let line = |side: &str, f: Figures| {
        let name = format!("{name}: {side}");
        format!("{name:<44} {:>9.0} {:>8.2} {:>8.2}", f.orders_per_s, f.own_cpu_s, f.all_cpu_s)
    };
    println!("{}", line("bare", bare));
    println!(
        "{} {:>6.2} {:>6.2}",
        line("relay", relay),
        relay.orders_per_s / bare.orders_per_s,
        bare.all_cpu_s / relay.all_cpu_s
    );
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

/// The same of every process of the broker and the database on this machine, whoever else uses them.
fn servers() -> anyhow::Result<HashMap<u32, f64>> {
    let mut servers = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes come and go.
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((name, fields)) = stat.rsplit_once(')') else { continue };
        if ["(postgres", "(beam.smp"].iter().any(|server| name.ends_with(server)) {
            // With what children used that have ended, as sessions of PostgreSQL do.
            let ticks = fields.split_whitespace().skip(11).take(4);
            let ticks: f64 = ticks.filter_map(|field| field.parse::<f64>().ok()).sum();
            servers.insert(pid, ticks / 100.0);
        }
    }
    Ok(servers)
}

async fn publish(place: &Place, exchange: &str, key: &str, orders: usize) -> anyhow::Result<()> {
    let connection = Connection::connect(&place.amqp, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut confirms = FuturesUnordered::new();
    for number in 0..orders {
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
            begin = Some((Stopwatch::start(), Cpu::of(child.id())?));
        }
        if seen >= orders as u64
            && let Some((started, cpu)) = &begin
            && done().await?
        {
            let figures =
                Cpu::of(child.id())?.figures(cpu, orders, started.elapsed().as_secs_f64());
            child.kill()?;
            child.wait()?;
            return Ok(figures);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn mode(path: Path) -> StubMode {
    if path == Path::Happy { StubMode::Ok } else { StubMode::Reject }
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
        let mut command = Command::new(RELAY);
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
    publish(place, &place.prefix, "order.placed", orders).await?;
    stub.reset(StubSettings { mode: mode(path), ..Default::default() });
    let mut child = command(&["serve", "--roles", "submitter,error-handler"]).spawn()?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&database).await?;
    let settled = match path {
        Path::Happy => "SELECT COUNT(*) FROM orders WHERE state = 'confirmed'",
        Path::Failing => "SELECT COUNT(*) FROM orders WHERE state = 'ordered_failed'",
    };
    let figures = watch(&mut child, stub, orders, async || {
        let (count,): (i64,) = sqlx::query_as(settled).fetch_one(&pool).await?;
        Ok(usize::try_from(count)? >= orders)
    })
    .await?;
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
    publish(place, "", &queues[0], orders).await?;
    stub.reset(StubSettings { mode: mode(path), ..Default::default() });
    let database = fresh_schema(place, "relay_bare").await?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--bare", &place.amqp, &queues[0], &place.erp])
        .args(
            (path == Path::Failing)
                .then_some(["--failed", &queues[1], &database])
                .into_iter()
                .flatten(),
        )
        .spawn()?;
    let figures = watch(&mut child, stub, orders, async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue =
            channel.queue_declare(queues[0].as_str().into(), passive, FieldTable::default());
        Ok(queue.await?.message_count() == 0)
    })
    .await?;
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
        let mut command = Command::new(RELAY);
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
    let status = watch(&mut child, stub, orders, async || {
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
    Ok(Figures {
        orders_per_s: orders as f64 / seconds,
        own_cpu_s: all / 2.0 * for_10k,
        all_cpu_s: all * for_10k,
    })
}

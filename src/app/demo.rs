//! `demo`: everything in one process with no service needed. Orders arrive, some of them fail, and
//! every event is printed.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::cli::devtools::{Demo, StubMode};
use crate::cli::exit::Exit;
use crate::config::settings::{Settings, SettingsFile};
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::domain::order::document::Order;
use crate::domain::permission::{self, Grants, Permission, RoleGrant};
use crate::domain::trace::Trace;
use crate::ops::people::NewUser;
use crate::ops::principal::Principal;
use crate::ops::tokens::NewToken;
use crate::ops::verbs::Ops;
use crate::ports::orders::OrderSource;
use crate::ports::workers::WorkerKind;

use super::service::{Service, end_signal};
use super::supervisor::Supervisor;
use crate::devtools::narrator;

const ROLES: [WorkerKind; 5] = [
    WorkerKind::Submitter,
    WorkerKind::ErrorHandler,
    WorkerKind::Notifier,
    WorkerKind::Sweeper,
    WorkerKind::Web,
];
/// The user that can log in.
const ADMIN: &str = "admin";
/// How long `--exit` waits for the last order to settle.
const LONGEST: Duration = Duration::from_mins(3);

/// Runs the demo.
pub async fn run(demo: &Demo) -> anyhow::Result<Exit> {
    narrator::start();
    let listener = match TcpListener::bind(demo.listen).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(SocketAddr::new(demo.listen.ip(), 0)).await?,
    };
    let web = listener.local_addr()?;
    let folder = Folder::make()?;
    let erp = TcpListener::bind(("127.0.0.1", 0)).await?;
    let erp_url = format!("http://{}/orders", erp.local_addr()?);
    let database = format!("sqlite://{}", folder.0.join("order-relay.db").display());
    let settings = settings(&database, &erp_url, web)?;
    let stub = ErpStub::new(StubSettings { latency_ms: 30, ..Default::default() });
    let mut tasks = Supervisor::default();
    tasks.start("erp stub", stub.clone().serve(erp));
    let service = Service::start(&settings, &ROLES, Some(listener)).await?;
    let ops = service.ops.clone();
    let maker = Principal { name: "demo".to_owned(), from: None, grants: Grants::all() };
    let new = NewToken {
        name: "demo".to_owned(),
        scopes: vec![Permission::Publish],
        shops: None,
        expires_at: None,
    };
    let token = ops.create_token(new, &ops.act(&maker, None)).await?;
    let password = ops.new_password();
    let admin = NewUser {
        name: ADMIN.to_owned(),
        password: password.clone(),
        roles: vec![RoleGrant::everywhere(permission::Role::Admin)],
        language: None,
    };
    ops.add_user(admin, &ops.act(&maker, None)).await?;
    tell_beginning(web, &database, &erp_url, &token, &password);
    let mut orders = Supervisor::default();
    let (count, rate, maker, of_stub) = (demo.orders, demo.rate, ops.clone(), stub.clone());
    orders.start("checkout", async move { place_orders(&maker, &of_stub, count, rate).await });
    let ended = async {
        orders.all_ended().await;
        if demo.exit {
            tokio::time::timeout(LONGEST, all_settled(&ops)).await.ok();
        } else {
            println!("All {count} orders are placed. Ctrl-C ends the demo.");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = end_signal() => {}
    }
    service.drain().await;
    tell_end(&ops, &stub).await
}

fn settings(database: &str, erp_url: &str, web: SocketAddr) -> anyhow::Result<Settings> {
    let listen = web.to_string();
    let overrides = [
        ("database.url", database),
        ("erp.url", erp_url),
        ("erp.timeout", "4s"),
        ("erp.connect_timeout", "1s"),
        ("erp.settle", "6s"),
        ("retry.schedule", "3s, 6s, 10s"),
        ("circuit.pause", "3s"),
        ("sweeper.every", "1s"),
        ("sweeper.grace", "5s"),
        ("mail.sender", "Demo shop <shop@example.com>"),
        ("mail.receiver", "admin@example.com"),
        ("mail.digest_after", "6"),
        ("mail.digest_every", "30s"),
        ("web.listen", listen.as_str()),
        ("shutdown.patience", "10s"),
    ];
    // The user's own settings are not used in a demo.
    Settings::load(SettingsFile::None, std::iter::empty(), &overrides).map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(faults.join("; "))
    })
}

fn tell_beginning(web: SocketAddr, database: &str, erp_url: &str, token: &str, password: &str) {
    println!(
        "order-relay demo: a shop's checkout places orders, a stub ERP accepts most of them.

  Look at it      http://{web}/
                  log in as {ADMIN} with {password}
  From another terminal
    export ORDER_RELAY__DATABASE__URL={database}
    export ORDER_RELAY__ERP__URL={erp_url}
    order-relay lost-orders list
    order-relay process-lost-orders
    order-relay ledger check
  Break the ERP   curl -X PUT {} -d '{{\"mode\":\"down\"}}'     (and \"ok\" again)
  Place an order  curl -H 'Authorization: Bearer {token}' http://{web}/api/v1/orders -d @examples/order.json
",
        erp_url.replace("/orders", "/_stub")
    );
}

/// Places test orders; the script of the stub says what happens to some of them.
async fn place_orders(ops: &Ops, stub: &ErpStub, count: u32, rate: f64) {
    use StubMode::{AcceptThenCut, Busy, Reject};
    for number in 0..count {
        let id = format!("D-{}", 1001 + number);
        match number % 10 {
            2 => stub.script(&id, &[Busy]),
            4 => stub.script(&id, &[Reject]),
            5 => stub.script(&id, &[AcceptThenCut]),
            7 => stub.script(&id, &[Busy, Busy]),
            9 => stub.script(&id, &[Busy; 9]),
            _ => {}
        }
        let document = document(&id, number);
        let order = Order::parse(document.as_bytes(), ops.max_bytes);
        let taken = match order {
            Ok(order) => ops.accept(order, OrderSource::Api, &Trace::default()).await,
            Err(fault) => {
                println!("{id} is not acceptable: {fault}");
                continue;
            }
        };
        match taken {
            Ok(_) => narrator::tell(&id, "placed by checkout"),
            Err(error) => println!("{id} could not be placed: {error}"),
        }
        tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)).await;
    }
}

fn document(id: &str, number: u32) -> String {
    const NAMES: [(&str, &str); 5] = [
        ("Erika Muster", "de"),
        ("Kenji Watanabe", "en"),
        ("Zoë O'Neill", "en"),
        ("Jürgen Groß", "de"),
        ("Amélie <b>Dupont</b>", "fr"),
    ];
    let (name, locale) = NAMES[usize::try_from(number).unwrap_or(0) % NAMES.len()];
    let quantity = 1 + number % 3;
    let cents = 4995 * quantity;
    serde_json::json!({
        "order_id": id,
        "currency": "EUR",
        "total": format!("{}.{:02}", cents / 100, cents % 100),
        "customer": {
            "number": format!("C-{}", 1000 + number % 17),
            "name": name,
            "email": format!("customer{}@example.com", number % 17),
            "locale": locale,
        },
        "lines": [{
            "sku": format!("SKU-{}", 4711 + number % 7),
            "name": "Lamp",
            "quantity": quantity.to_string(),
            "unit_price": "49.95",
            "tax_rate": "19",
        }],
    })
    .to_string()
}

/// Returns when nothing is in progress any more: every order is in the ERP or waits for a person.
async fn all_settled(ops: &Ops) {
    loop {
        let open = ops.store.count_open().await.unwrap_or_default();
        if open.iter().all(|count| count.phase == "parked") {
            // One more sweep for mails that wait for their digest.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn tell_end(ops: &Ops, stub: &ErpStub) -> anyhow::Result<Exit> {
    let report = ops.store.check_ledger(None).await?;
    let twice = stub.orders().values().filter(|order| order.documents.len() > 1).count();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "\nreceived {} = confirmed {} + lost {} + queued {} + held {}, difference {}",
        report.received,
        report.confirmed,
        report.lost,
        report.queued,
        report.held,
        report.difference
    )?;
    for violation in &report.violations {
        writeln!(out, "broken: {}: {}", violation.promise, violation.examples.join(", "))?;
    }
    writeln!(out, "entered twice in the ERP: {twice}")?;
    let sound = report.difference == 0 && report.violations.is_empty() && twice == 0;
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

/// A folder that is deleted with the demo.
struct Folder(PathBuf);

impl Folder {
    fn make() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("order-relay-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

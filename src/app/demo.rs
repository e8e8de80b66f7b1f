//! `demo`: everything in one process with no service needed. Orders arrive, some of them fail, and
//! every event is printed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::net::TcpListener;

use crate::cli::change::whoever;
use crate::cli::devtools::Demo;
use crate::cli::exit::Exit;
use crate::config::settings::Settings;
use crate::devtools::demo::checkout::{Checkout, LATENCY_MS};
use crate::devtools::demo::settings::{DemoSettings, Folder};
use crate::devtools::demo::text::{self, ADMIN, Places};
use crate::devtools::demo::{settings, story};
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::devtools::fill::{Filler, Filling, numbers};
use crate::devtools::narrator;
use crate::domain::permission::{self, Grants, Permission, RoleGrant};
use crate::ops::people::NewUser;
use crate::ops::principal::Principal;
use crate::ops::tokens::NewToken;
use crate::ops::verbs::Ops;
use crate::ports::clock::SystemClock;
use crate::ports::workers::WorkerKind;

use super::service::{Service, end_signal};
use super::supervisor::Supervisor;
use super::wiring;

const ROLES: [WorkerKind; 5] = [
    WorkerKind::Submitter,
    WorkerKind::ErrorHandler,
    WorkerKind::Notifier,
    WorkerKind::Sweeper,
    WorkerKind::Web,
];

/// How long `--exit` waits for the last order to settle.
const LONGEST: Duration = Duration::from_mins(3);
/// The time of the history.
const TWO_WEEKS: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Runs the demo.
pub async fn run(demo: &Demo) -> anyhow::Result<Exit> {
    narrator::start();
    let folder = Folder::make()?;
    let erp = TcpListener::bind(("127.0.0.1", 0)).await?;
    let erp_url = format!("http://{}/orders", erp.local_addr()?);
    let DemoSettings { mut settings, unused } =
        settings::read(std::env::vars(), &folder.0, &erp_url, demo.listen)?;
    let listener = listen(settings.web.listen).await?;
    let web = listener.local_addr()?;
    settings.web.listen = web;
    let stub = ErpStub::new(StubSettings { latency_ms: LATENCY_MS, ..Default::default() });
    stub.without_article(story::OLD_ARTICLE);
    make_history(&settings, &stub, demo.history).await?;
    let mut tasks = Supervisor::default();
    tasks.start("erp stub", stub.clone().serve(erp));
    let service = Service::start(&settings, &ROLES, Some(listener)).await?;
    let (ops, store) = (service.ops.clone(), service.store());
    let (token, password) = add_people(&ops).await?;
    let database = settings.known["database.url"].shown.clone();
    text::tell_beginning(&Places { web, database, erp_url }, &token, &password, &unused);
    let mut orders = Supervisor::default();
    let placed = demo.orders.or(demo.exit.then_some(story::STEPS));
    let (rate, of_stub) = (demo.rate, stub.clone());
    orders.start("checkout", async move {
        let person = whoever();
        let checkout = Checkout::new(&ops, &person, &of_stub, format!("http://{web}"));
        checkout.place(placed, rate).await;
    });
    let ended = async {
        orders.all_ended().await;
        if demo.exit {
            tokio::time::timeout(LONGEST, text::all_settled(&*store)).await.ok();
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = end_signal() => {}
    }
    service.drain().await;
    text::tell_end(&*store, &stub).await
}

/// Another port is used if that one is in use.
async fn listen(wanted: SocketAddr) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(_) => Ok(TcpListener::bind(SocketAddr::new(wanted.ip(), 0)).await?),
    }
}

/// Two weeks in which nearly all went well, so that charts and searches have something to show.
async fn make_history(settings: &Settings, stub: &ErpStub, orders: u32) -> anyhow::Result<()> {
    let store = wiring::open_service_store(settings).await?;
    let orders = u64::from(orders);
    let filling = Filling { orders, lost: 0, queued: 0, span: TWO_WEEKS };
    Filler::new(store, Arc::new(SystemClock)).fill(filling, |_| {}).await?;
    for n in 0..orders {
        let (order_id, document) = numbers(n);
        stub.has_already(&order_id, &document);
    }
    Ok(())
}

/// A token that publishes orders, and the password of the administrator.
async fn add_people(ops: &Ops) -> anyhow::Result<(String, String)> {
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
    Ok((token, password))
}

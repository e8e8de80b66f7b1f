//! `demo`: everything in one process with no service needed. Orders arrive, some of them fail, and
//! every event is printed.

use crate::cli::change::whoever;
use crate::devtools::demo::{
    ADMIN, Folder, all_settled, place_orders, settings, tell_beginning, tell_end,
};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::cli::devtools::Demo;
use crate::cli::exit::Exit;
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::domain::permission::{self, Grants, Permission, RoleGrant};
use crate::ops::people::NewUser;
use crate::ops::principal::Principal;
use crate::ops::tokens::NewToken;
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
    let (ops, store) = (service.ops.clone(), service.store());
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
    orders.start("checkout", async move {
        place_orders(&maker, &whoever(), &of_stub, count, rate).await;
    });
    let ended = async {
        orders.all_ended().await;
        if demo.exit {
            tokio::time::timeout(LONGEST, all_settled(&*store)).await.ok();
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
    tell_end(&*store, &stub).await
}

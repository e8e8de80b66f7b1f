//! What the demo shows: its settings, the orders that it makes up, and what it says at the beginning and at the
//! end. Starting it is `app/demo.rs`.

use anyhow::Context;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::devtools::StubMode;
use crate::cli::exit::Exit;
use crate::config::settings::Settings;
use crate::config::sources::SettingsFile;
use crate::devtools::erp_stub::ErpStub;
use crate::devtools::narrator;
use crate::domain::order::document::Order;
use crate::domain::trace::Trace;
use crate::ops::principal::Principal;
use crate::ops::verbs::Ops;
use crate::ports::ledger::LedgerProof;
use crate::ports::orders::OrderSource;

/// The user that can log in.
pub const ADMIN: &str = "admin";

pub fn settings(database: &str, erp_url: &str, web: SocketAddr) -> anyhow::Result<Settings> {
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

pub fn tell_beginning(web: SocketAddr, database: &str, erp_url: &str, token: &str, password: &str) {
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
pub async fn place_orders(ops: &Ops, person: &Principal, stub: &ErpStub, count: u32, rate: f64) {
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
        let order = Order::parse(document.as_bytes(), ops.intake());
        let taken = match order {
            Ok(order) => ops.accept(person, order, OrderSource::Api, &Trace::default()).await,
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

pub fn document(id: &str, number: u32) -> String {
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
pub async fn all_settled(ledger: &dyn LedgerProof) {
    loop {
        let open = ledger.count_open().await.unwrap_or_default();
        if open.iter().all(|count| count.phase == "parked") {
            // One more sweep for mails that wait for their digest.
            tokio::time::sleep(Duration::from_secs(1)).await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub async fn tell_end(ledger: &dyn LedgerProof, stub: &ErpStub) -> anyhow::Result<Exit> {
    let report = ledger.check_ledger(None).await?;
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
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn make() -> anyhow::Result<Self> {
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

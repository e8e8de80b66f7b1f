//! What the demo prints beside the narrator's lines.

use std::io::Write;
use std::net::SocketAddr;

use crate::cli::exit::Exit;
use crate::devtools::demo::document::document;
use crate::devtools::demo::story::{NEW_ARTICLE, OLD_ARTICLE};
use crate::devtools::erp_stub::ErpStub;
use crate::ports::ledger::LedgerProof;

/// The user that can log in.
pub const ADMIN: &str = "admin";

/// Where things are.
pub struct Places {
    pub web: SocketAddr,
    pub database: String,
    pub erp_url: String,
}

pub fn tell_beginning(places: &Places, token: &str, password: &str, unused: &[String]) {
    let Places { web, database, erp_url } = places;
    // A number of its own each time: the same number again would be the same order.
    let order =
        document("MY-NUMBER", 0, "SKU-4711").replace("MY-NUMBER", r#"MY-'"$(date +%s%N)"'"#);
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
  Place an order  curl -H 'Authorization: Bearer {token}' http://{web}/api/v1/orders -d '{order}'
",
        erp_url.replace("/orders", "/_stub")
    );
    if !unused.is_empty() {
        println!(
            "Not used, because the demo has a database, a broker and an ERP of its own: {}\n",
            unused.join(", ")
        );
    }
}

/// Something that happened beside the orders.
pub fn tell_event(what: &str) {
    println!("\n  * {what}\n");
}

pub fn tell_what_to_look_at(web: &str, rejected: usize, edited: bool) {
    let corrected = if edited {
        "\n                     A colleague has corrected one of them already: look at it and send it."
    } else {
        ""
    };
    println!(
        "
  * The story is told. What to look at now:

    A wrong article    {web}/lost-orders
                     The ERP does not know {OLD_ARTICLE} in {rejected} orders. Sending them again fails again.
                     Open one, press Fix, write {NEW_ARTICLE} instead, and send it.{corrected}
    An unclear order   {web}/lost-orders?phase=outcome_unknown
                     The answer of the ERP got lost, and the ERP does not find the order yet. It is asked again and
                     again, and the order is not sent twice. In about a minute it is found.
    A dead letter      {web}/dead-letters
                     Checkout wrote the quantity as a word. Fix it and resubmit it.
    The outage         {web}/  and  {web}/mails
                     The chart of the last hour, and how few mails it made.

    Ctrl-C ends the demo.
"
    );
}

/// Returns when nothing is in progress any more: every order is in the ERP or waits for a person.
pub async fn all_settled(ledger: &dyn LedgerProof) {
    loop {
        let open = ledger.count_open().await.unwrap_or_default();
        if open.iter().all(|count| count.phase == "parked") {
            // One more sweep for mails that wait for their digest.
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// The proof at the end.
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

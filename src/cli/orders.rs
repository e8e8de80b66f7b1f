//! `orders …`, `lost-orders …` and `process-lost-orders`.

use crate::cli::change::{act, confirm, find_all};
use crate::cli::edit::{Edit, edit};
use crate::cli::flags::{Change, Filter, Format, Output, Sorted, Watch};
use crate::cli::groups::{Groups, groups};
use crate::cli::listing::{Export, Listing, export, list, of};
use crate::cli::transfer::{Outcome, print_results, transfer_one};
use clap::{Args, Subcommand};
use std::collections::HashSet;
use std::io::{IsTerminal, Write};

use serde::Serialize;
use serde_json::value::RawValue;

use crate::cli::exchanges::write_stored;
use crate::cli::exit::{Exit, Misuse};
use crate::cli::output::{facts, local, plain_table, print_one, progress, write_table};
use crate::domain::order_filter::OrderFilter;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::AuditEntry;
use crate::ports::order_desk::{Attempt, Conflict, OrderDetail, Revision, StoredExchange};
use crate::views::orders::OrderView;

/// Most lost orders that `--all` takes.
pub(super) const MAX_ALL: u32 = 100_000;

/// `orders …`
pub async fn orders(ops: &Ops, command: Orders, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Orders::List { filter, sorted, limit, output, watch } => {
            let filter = of(&filter, ops.now());
            let listing = Listing { filter, sort: sorted.sort(), limit, empty: "No orders match." };
            list(ops, &listing, output.output, watch, out).await
        }
        Orders::Export(command) => export(ops, &command, out).await,
        Orders::Show { id, output } => show(ops, &id, output.output, out).await,
    }
}

/// `lost-orders …`
pub async fn lost_orders(
    ops: &Ops,
    command: LostOrders,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    match command {
        LostOrders::List { filter, sorted, limit, output, watch } => {
            let filter = OrderFilter { state: OrderFilter::lost().state, ..of(&filter, ops.now()) };
            let listing = Listing { filter, sort: sorted.sort(), limit, empty: "No lost orders." };
            list(ops, &listing, output.output, watch, out).await
        }
        LostOrders::Groups(command) => groups(ops, &command, out).await,
        LostOrders::Show { id, output } => show(ops, &id, output.output, out).await,
        LostOrders::Process { ids, all, change, output } => {
            if ids.is_empty() && !all {
                return Err(Misuse::told("name the orders, or give --all"));
            }
            process(ops, &ids, &change, output.output, out).await
        }
        LostOrders::Edit(command) => edit(ops, &command, out).await,
        LostOrders::Remove { ids, change, output } => {
            alter(ops, Alteration::Remove, &ids, &change, output.output, out).await
        }
        LostOrders::Restore { ids, change, output } => {
            alter(ops, Alteration::Restore, &ids, &change, output.output, out).await
        }
    }
}

#[derive(Serialize)]
struct DetailView<'a> {
    #[serde(flatten)]
    order: OrderView,
    source: &'a str,
    attempt_list: &'a [Attempt],
    exchanges: &'a [StoredExchange],
    conflicts: &'a [Conflict],
    mails: Vec<MailView<'a>>,
    audit: &'a [AuditEntry],
    revisions: &'a [Revision],
    document: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct MailView<'a> {
    id: String,
    kind: &'a str,
    status: &'a str,
    subject: &'a str,
    sent_at: Option<String>,
}

pub async fn show(
    ops: &Ops,
    id: &str,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let key = ops.find(id).await?;
    let detail = ops.show(&key).await?;
    let document: Option<&RawValue> = serde_json::from_str(&detail.document).ok();
    let mails = detail.mails.iter().map(|stored| MailView {
        id: stored.id.to_string(),
        kind: stored.mail.kind.as_str(),
        status: stored.status.as_str(),
        subject: &stored.mail.subject,
        sent_at: stored.sent_at.map(|at| at.to_string()),
    });
    let view = DetailView {
        order: OrderView::of(&detail.record),
        source: &detail.source,
        attempt_list: &detail.attempts,
        exchanges: &detail.exchanges,
        conflicts: &detail.conflicts,
        mails: mails.collect(),
        audit: &detail.audit,
        revisions: &detail.revisions,
        document,
    };
    print_one(out, format, &view, |out| show_human(out, &detail, &view))?;
    Ok(Exit::Done)
}

fn show_human(
    out: &mut dyn Write,
    detail: &OrderDetail,
    view: &DetailView<'_>,
) -> std::io::Result<()> {
    let (record, order) = (&detail.record, &view.order);
    let error = record.last_failure.as_ref();
    let failed = match order.max_count {
        Some(max) => format!("{} of {max}", order.fail_count),
        None => order.fail_count.to_string(),
    };
    facts(
        out,
        &[
            ("Order", Some(record.key.to_string())),
            ("State", Some(format!("{} / {}", order.state, order.phase))),
            ("ERP number", order.erp_order_id.clone()),
            ("Failed attempts", Some(failed)),
            ("Next", record.phase.due_at().map(local)),
            (
                "Last error",
                error.map(|e| {
                    let error = &e.summary;
                    format!("{} ({}): {}", error.class.as_str(), error.code, error.message)
                }),
            ),
            (
                "Under way",
                record
                    .claim
                    .as_ref()
                    .map(|c| format!("attempt {} until {}", c.attempt, local(c.until))),
            ),
            ("Unclear since", record.unclear_since.map(local)),
            (
                "Customer",
                Some(format!(
                    "{} {} <{}>",
                    order.customer_number.as_deref().unwrap_or("-"),
                    order.customer_name.as_deref().unwrap_or_default(),
                    order.customer_email
                )),
            ),
            ("Total", Some(format!("{} {}", order.total, order.currency))),
            ("Received", Some(format!("{} ({})", local(record.received_at), detail.source))),
            ("Trace", record.trace.parent.clone()),
        ],
    )?;
    if !detail.attempts.is_empty() {
        writeln!(out, "\nTries")?;
        let mut table = plain_table();
        for a in &detail.attempts {
            let what = match (&a.class, &a.code, a.found) {
                (Some(class), Some(code), _) => format!("{class} ({code})"),
                (_, _, true) => "found in the ERP".to_owned(),
                _ => a.erp_order_id.clone().unwrap_or_default(),
            };
            table.add_row([
                format!("  {}", a.attempt),
                local(a.occurred_at),
                a.trigger.clone(),
                a.outcome.clone(),
                what,
                format!("{} ms", a.duration_ms),
                a.status.map(|s| s.to_string()).unwrap_or_default(),
                crate::domain::text::one_line(a.request.as_deref().unwrap_or_default(), 100),
                crate::domain::text::one_line(a.message.as_deref().unwrap_or_default(), 200),
            ]);
        }
        write_table(out, &table)?;
    }
    write_stored(out, &detail.exchanges)?;
    for stored in &detail.mails {
        let (kind, status) = (stored.mail.kind.as_str(), stored.status.as_str());
        writeln!(out, "\nMail {} {kind} {status}: {}", stored.id, stored.mail.subject)?;
    }
    for entry in &detail.audit {
        let reason = entry.reason.as_deref().unwrap_or("no reason given");
        let line = format!("{} {} by {}: {reason}", local(entry.at), entry.action, entry.actor);
        writeln!(out, "\n{}", crate::domain::text::one_line(&line, 500))?;
    }
    for conflict in &detail.conflicts {
        writeln!(
            out,
            "\nConflict: different content arrived at {} ({}):",
            local(conflict.received_at),
            conflict.source
        )?;
        write_document(out, &conflict.document)?;
    }
    for made in &detail.revisions {
        let reason = made.reason.as_deref().unwrap_or("no reason given");
        let line = format!("Revision {} by {}: {reason}", made.revision, made.actor);
        writeln!(out, "\n{} {}", local(made.at), crate::domain::text::one_line(&line, 500))?;
    }
    if !detail.revisions.is_empty() {
        writeln!(out, "\nDocument that is sent")?;
        write_document(out, detail.current())?;
    }
    writeln!(out, "\nOriginal document")?;
    write_document(out, &detail.document)
}

/// A document line by line, without terminal controls.
pub(super) fn write_document(out: &mut dyn Write, text: &str) -> std::io::Result<()> {
    for line in text.lines() {
        let safe: String =
            line.chars()
                .map(|c| {
                    if crate::domain::text::is_unprintable(c) && c != '\t' { '\u{fffd}' } else { c }
                })
                .collect();
        writeln!(out, "  {safe}")?;
    }
    Ok(())
}

/// Transfers orders one after the other, like the back office; without names: all lost ones.
pub async fn process(
    ops: &Ops,
    ids: &[String],
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let keys = match ids {
        [] => {
            let lost = OrderFilter::lost();
            let mut orders = ops.list(&lost, MAX_ALL).await?;
            orders.reverse();
            orders.into_iter().map(|order| order.key).collect()
        }
        ids => find_all(ops, ids).await?,
    };
    // A cron job may run it without `--yes`: a transfer is always intended.
    if ids.is_empty() && !keys.is_empty() && std::io::stdin().is_terminal() {
        confirm(change, &format!("Transfer {} lost orders to the ERP?", keys.len()))?;
    }
    let bar = progress(keys.len() as u64, "transferring");
    let (mut results, mut exit, mut away) = (Vec::new(), Vec::new(), HashSet::new());
    for key in keys {
        let erp = ops.erp_of(&key);
        let (result, one) = if change.dry_run {
            (Outcome::plain(&key, "would be transferred"), Exit::Done)
        } else if away.contains(erp) {
            // The circuit is open: the rest would be refused for the same reason.
            (Outcome::plain(&key, "not attempted"), Exit::Held)
        } else {
            transfer_one(ops, &key, &act(ops, change)).await?
        };
        if one == Exit::Held {
            away.insert(erp);
        }
        bar.inc(1);
        results.push(result);
        exit.push(one);
    }
    bar.finish_and_clear();
    print_results(out, format, &results)?;
    Ok(Exit::of_all(&exit))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Alteration {
    Remove,
    Restore,
}

async fn alter(
    ops: &Ops,
    what: Alteration,
    ids: &[String],
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if what == Alteration::Remove
        && change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty())
    {
        let example = "--reason \"entered by hand, ERP number 4711\"";
        return Err(Misuse::told(format!("give a reason with --reason, e.g. {example}")));
    }
    let keys = find_all(ops, ids).await?;
    let (verb, done, would) = match what {
        Alteration::Remove => ("Remove", "removed", "would be removed"),
        Alteration::Restore => ("Restore", "restored", "would be restored"),
    };
    if keys.len() > 1 {
        confirm(change, &format!("{verb} {} orders?", keys.len()))?;
    }
    let (mut results, mut exits) = (Vec::new(), Vec::new());
    for key in keys {
        let order = key.to_string();
        let act = act(ops, change);
        let changed = match (change.dry_run, what) {
            (true, _) => Ok(None),
            (false, Alteration::Remove) => ops.remove(&key, &act).await.map(Some),
            (false, Alteration::Restore) => ops.restore(&key, &act).await.map(Some),
        };
        let (result, detail, exit) = match changed {
            Ok(None) => (would, String::new(), Exit::Done),
            Ok(Some(record)) => (
                done,
                format!("{}/{}", record.phase.state().as_str(), record.phase.name()),
                Exit::Done,
            ),
            Err(refusal @ (Refusal::Invalid { .. } | Refusal::NotFound { .. })) => {
                ("refused", refusal.to_string(), Exit::Failed)
            }
            Err(error) => return Err(error.into()),
        };
        results.push(Outcome { order, result, detail });
        exits.push(exit);
    }
    print_results(out, format, &results)?;
    Ok(Exit::of_all(&exits))
}

/// `orders`
#[derive(Debug, Subcommand)]
pub enum Orders {
    /// List orders, newest first
    #[command(after_help = "Examples:
  order-relay orders list --state payed --since 1h
  order-relay orders list --search erika --output json
  order-relay orders list --sku 4711 --sort changed --watch")]
    List {
        #[command(flatten)]
        /// Which
        filter: Filter,
        #[command(flatten)]
        /// In which order
        sorted: Sorted,
        /// Most orders to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
        #[command(flatten)]
        /// How long
        watch: Watch,
    },
    /// Every order that matches, in a file
    #[command(after_help = "Examples:
  order-relay orders export --state ordered_failed --file lost.csv
  order-relay orders export --since 30d --output ndjson > orders.ndjson
  order-relay orders export --shop de --documents --file documents.ndjson")]
    Export(Export),
    /// Everything about one order: state, attempts, mails, changes by people, the document
    #[command(after_help = "Examples:
  order-relay orders show 100042
  order-relay orders show de/100042 --output json")]
    Show {
        /// ORDER_ID or SHOP/ORDER_ID
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `lost-orders`
#[derive(Debug, Subcommand)]
pub enum LostOrders {
    /// List lost orders, newest first
    #[command(after_help = "Examples:
  order-relay lost-orders list
  order-relay lost-orders list --phase parked --class rejected --output csv > lost.csv
  order-relay lost-orders list --sort due --watch 5")]
    List {
        #[command(flatten)]
        /// Which
        filter: Filter,
        #[command(flatten)]
        /// In which order
        sorted: Sorted,
        /// Most orders to show
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        /// How
        output: Output,
        #[command(flatten)]
        /// How long
        watch: Watch,
    },
    /// Lost orders by failure group, largest first
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:
  order-relay lost-orders groups
  order-relay lost-orders groups --watch
  order-relay lost-orders list --fingerprint 9f86d081884c7d65
  order-relay lost-orders groups note 9f86d081884c7d65 --note \"Kim adds the articles\""
    )]
    Groups(Groups),
    /// Everything about one order
    Show {
        /// ORDER_ID or SHOP/ORDER_ID
        id: String,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Transfer to the ERP now, one after the other, whatever the count of failures is
    #[command(after_help = "Examples:
  order-relay lost-orders process 100042
  order-relay lost-orders process --all --yes")]
    Process {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// All lost orders
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Edit what is sent; the original stays. In $EDITOR, or many at once with a JSON Patch
    #[command(after_help = "Examples:
  order-relay lost-orders edit 100042 --reason \"wrong article\"
  order-relay lost-orders edit 100042 --process --patch \\
    '[{\"op\":\"replace\",\"path\":\"/lines/0/sku\",\"value\":\"4712\"}]'
  order-relay lost-orders edit --fingerprint 5d41402abc4b2a76 --patch change.json --dry-run

The number and the shop of an order never change. Currency and total need a separate permission.
Editing does not send an order: use --process, or transfer it afterwards.")]
    Edit(Box<Edit>),
    /// Remove orders from the list, with a reason; nothing is deleted
    #[command(after_help = "Example:
  order-relay lost-orders remove 100042 --reason \"entered by hand, ERP number 4711\"")]
    Remove {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
    /// Restore removed orders
    #[command(after_help = "Example:
  order-relay lost-orders restore 100042 --reason \"was not entered after all\"")]
    Restore {
        /// ORDER_ID or SHOP/ORDER_ID
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
        #[command(flatten)]
        /// Usual
        change: Change,
        #[command(flatten)]
        /// How
        output: Output,
    },
}

/// `process-lost-orders`
#[derive(Debug, Args)]
pub struct ProcessLostOrders {
    /// ORDER_ID or SHOP/ORDER_ID; none: all lost orders
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    #[command(flatten)]
    /// Usual
    pub change: Change,
    #[command(flatten)]
    /// How
    pub output: Output,
}

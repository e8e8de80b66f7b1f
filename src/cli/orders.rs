//! `orders …`, `lost-orders …` and `process-lost-orders`.

use crate::cli::change::{act, confirm, find_all, whoever};
use crate::cli::edit::{Edit, edit};
use crate::cli::erasure::{Erase, erase};
use crate::cli::flags::{Change, Filter, Format, Limit, Output, Sorted, Watch};
use crate::cli::groups::{Groups, groups};
use crate::cli::listing::{Export, Listing, export, filter_of, list};
use crate::cli::transfer::{print_results, transfer_one};
use clap::{Args, Subcommand};
use std::collections::HashSet;
use std::io::{IsTerminal, Write};

use crate::cli::exit::{Exit, Misuse};
use crate::cli::order_detail::show;
use crate::cli::output::progress;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order_filter::OrderFilter;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::views::outcomes::OrderOutcome;

/// Most lost orders that `--all` takes.
pub(super) const MAX_ALL: u32 = 100_000;

/// `orders …`
pub async fn orders(ops: &Ops, command: Orders, out: &mut dyn Write) -> anyhow::Result<Exit> {
    match command {
        Orders::List { filter, sorted, limit, output, watch } => {
            let filter = filter_of(&filter, ops.now())?;
            let listing = Listing { filter, sort: sorted.sort(), limit, empty: "No orders match." };
            list(ops, &listing, output.output, watch, out).await
        }
        Orders::Export(command) => export(ops, &command, out).await,
        Orders::Show { id, output } => show(ops, &id, output.output, out).await,
        Orders::SettleDouble { ids, change, output } => {
            alter(ops, Alteration::SettleDouble, &ids, &change, output.output, out).await
        }
        Orders::Erase(command) => erase(ops, &command, out).await,
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
            let filter = filter_of(&filter, ops.now())?;
            let filter = OrderFilter { state: OrderFilter::lost().state, ..filter };
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
        LostOrders::AcceptTotal { ids, change, output } => {
            alter(ops, Alteration::AcceptTotal, &ids, &change, output.output, out).await
        }
        LostOrders::Remove { ids, change, output } => {
            alter(ops, Alteration::Remove, &ids, &change, output.output, out).await
        }
        LostOrders::Restore { ids, change, output } => {
            alter(ops, Alteration::Restore, &ids, &change, output.output, out).await
        }
    }
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
            let mut orders = ops.list(&whoever(), &lost, MAX_ALL).await?;
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
            (OrderOutcome::new(&key, "would be transferred", ""), Exit::Done)
        } else if away.contains(erp) {
            // The circuit is open: the rest would be refused for the same reason.
            (OrderOutcome::new(&key, "not attempted", ""), Exit::Held)
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
    /// A person has dealt with the second entry in the ERP.
    SettleDouble,
    /// A person accepts the sum that the ERP has.
    AcceptTotal,
}

impl Alteration {
    /// A reason as an example, if one has to be given.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Remove => Some("entered by hand, ERP number 4711"),
            Self::SettleDouble => Some("cancelled 4712 in the ERP"),
            Self::AcceptTotal => Some("agreed with the customer, voucher sent"),
            Self::Restore => None,
        }
    }
}

async fn alter(
    ops: &Ops,
    what: Alteration,
    ids: &[String],
    change: &Change,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let is_unsaid = change.reason.as_deref().is_none_or(|reason| reason.trim().is_empty());
    if let Some(example) = what.reason().filter(|_| is_unsaid) {
        let told = format!("give a reason with --reason, e.g. --reason \"{example}\"");
        return Err(Misuse::told(told));
    }
    let keys = find_all(ops, ids).await?;
    let (verb, done, would) = match what {
        Alteration::Remove => ("Remove", "removed", "would be removed"),
        Alteration::Restore => ("Restore", "restored", "would be restored"),
        Alteration::SettleDouble => ("Settle", "settled", "would be settled"),
        Alteration::AcceptTotal => ("Accept the ERP's total of", "accepted", "would be accepted"),
    };
    if keys.len() > 1 {
        confirm(change, &format!("{verb} {} orders?", keys.len()))?;
    }
    let (mut results, mut exits) = (Vec::new(), Vec::new());
    for key in keys {
        let act = act(ops, change);
        let standing = |record: OrderRecord| {
            format!("{}/{}", record.phase.state().as_str(), record.phase.name())
        };
        let changed = match (change.dry_run, what) {
            (true, _) => Ok(None),
            (false, Alteration::Remove) => ops.remove(&key, &act).await.map(standing).map(Some),
            (false, Alteration::Restore) => ops.restore(&key, &act).await.map(standing).map(Some),
            (false, Alteration::SettleDouble) => {
                let settled = ops.settle_double(&key, &act).await;
                settled.map(|count| Some(format!("{count} second entries")))
            }
            (false, Alteration::AcceptTotal) => {
                let accepted = ops.accept_total(&key, &act).await;
                accepted.map(|total| Some(format!("{total}; transfer the order to complete it")))
            }
        };
        let (outcome, detail, exit) = match changed {
            Ok(None) => (would, String::new(), Exit::Done),
            Ok(Some(detail)) => (done, detail, Exit::Done),
            Err(refusal @ (Refusal::Invalid { .. } | Refusal::NotFound { .. })) => {
                ("refused", refusal.to_string(), Exit::Failed)
            }
            Err(error) => return Err(error.into()),
        };
        results.push(OrderOutcome::new(&key, outcome, detail));
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
        #[command(flatten)]
        /// How many
        limit: Limit,
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
    /// Erase what is personal in finished orders, and everything said about them: the right to be forgotten
    #[command(after_help = "Examples:
  order-relay orders erase de/100042 --reason \"request of 27 November\" --export 100042.ndjson
  order-relay orders erase --customer erika@example.com --reason \"request of 27 November\" --dry-run

Number, total, states and times stay, so that nothing looks lost and the order is never entered again. An order
that is not finished is refused. Interrupted, it is finished by running it again. Backups keep what they have.")]
    Erase(Erase),
    /// Say that an order which the ERP has twice was dealt with there, with a reason
    #[command(after_help = "Example:
  order-relay orders settle-double 100042 --reason \"cancelled 4712 in the ERP\"")]
    SettleDouble {
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
        #[command(flatten)]
        /// How many
        limit: Limit,
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
    /// Accept the total that the ERP has for an order instead of what was paid, with a reason
    #[command(after_help = "Example:
  order-relay lost-orders accept-total 100042 --reason \"agreed with the customer, voucher sent\"
  order-relay lost-orders process 100042

The failure total_differs shows both sums. The next attempt completes the order in the ERP if the sum there is
still the accepted one. Or correct the order in the ERP, and transfer it: the sums are compared again.")]
    AcceptTotal {
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

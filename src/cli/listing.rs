//! Listings of orders: on the screen, once or until Ctrl-C, and as a file with all of them.

use crate::cli::change::whoever;
use crate::cli::flags::{ExportFormat, Filter, Format, Limit, Sorted, Watch};
use crate::views::orders::{OrderView, export_columns};
use clap::Args;
use std::collections::HashMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;

use crate::cli::exit::{Exit, Misuse};
use crate::cli::output::{Stream, print, printable_line, progress, shown_time};
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, OrderFilter, Sort};
use crate::ops::verbs::Ops;
use crate::views::csv::Column;
use crate::views::order_filter::order_filter;

/// What is listed.
pub(super) struct Listing {
    pub(super) filter: OrderFilter,
    pub(super) sort: Sort,
    pub(super) limit: Limit,
    pub(super) empty: &'static str,
}

/// The filter of the command line, with times relative to `now`.
pub(super) fn filter_of(filter: &Filter, now: Timestamp) -> anyhow::Result<OrderFilter> {
    order_filter(filter, now).map_err(|fault| Misuse::told(fault.to_string()))
}

/// Shows the output of `draw`: once, or again every few seconds until Ctrl-C.
pub(super) async fn watched(
    watch: Watch,
    format: Format,
    out: &mut dyn Write,
    draw: impl AsyncFn(&mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let mut screen = Vec::new();
    let Some(seconds) = watch.watch else {
        draw(&mut screen).await?;
        out.write_all(&screen)?;
        return Ok(Exit::Done);
    };
    if format != Format::Table {
        return Err(Misuse::told("--watch shows a table: omit --output"));
    }
    // Home, and clear from there: what stays the same does not flicker.
    let clear = if io::stdout().is_terminal() { "\u{1b}[H\u{1b}[J" } else { "" };
    loop {
        screen.clear();
        draw(&mut screen).await?;
        write!(out, "{clear}")?;
        out.write_all(&screen)?;
        writeln!(out, "\nevery {seconds} s; Ctrl-C ends")?;
        out.flush()?;
        tokio::select! {
            stop = tokio::signal::ctrl_c() => {
                stop.context("Ctrl-C cannot be handled")?;
                return Ok(Exit::Done);
            }
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }
}

pub(super) async fn list(
    ops: &Ops,
    listing: &Listing,
    format: Format,
    watch: Watch,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    if let Some(to) = format.of_file().filter(|_| watch.watch.is_none()) {
        return stream(ops, listing, format, to, out).await;
    }
    watched(watch, format, out, async |screen| {
        let most = listing.limit.rows(format);
        let orders = ops.list_sorted(&whoever(), &listing.filter, listing.sort, most).await?;
        let views: Vec<OrderView> = orders.iter().map(OrderView::of).collect();
        let next = |o: &OrderView| shown_time(format, o.next_attempt_at.as_deref());
        let received = |o: &OrderView| shown_time(format, Some(&o.received_at));
        print(screen, format, &views, &columns(&next, &received), listing.empty)?;
        if u32::try_from(views.len()).is_ok_and(|shown| shown == most) {
            tell_rest(ops, listing, views.len() as u64).await?;
        }
        Ok(())
    })
    .await
}

/// For programs: page by page, so that it takes little memory however many there are.
async fn stream(
    ops: &Ops,
    listing: &Listing,
    format: Format,
    to: ExportFormat,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let next = |o: &OrderView| shown_time(format, o.next_attempt_at.as_deref());
    let received = |o: &OrderView| shown_time(format, Some(&o.received_at));
    let mut stream = Stream::begin(out, to)?;
    let (mut left, mut after) = (listing.limit.rows(format), None);
    loop {
        let most = left.min(MAX_PAGE);
        let page =
            ops.page(&whoever(), &listing.filter, listing.sort, after.as_deref(), most).await?;
        let views: Vec<OrderView> = page.orders.iter().map(OrderView::of).collect();
        stream.items(&views, &columns(&next, &received))?;
        left = left.saturating_sub(u32::try_from(views.len()).unwrap_or(u32::MAX));
        after = page.next;
        if after.is_none() || left == 0 {
            break;
        }
    }
    stream.end()?;
    if after.is_some() {
        tell_rest(ops, listing, listing.limit.rows(format).into()).await?;
    }
    Ok(Exit::Done)
}

/// A list that ends early says so, where no program reads it.
async fn tell_rest(ops: &Ops, listing: &Listing, shown: u64) -> anyhow::Result<()> {
    let all = ops.count(&whoever(), &listing.filter).await?;
    if all > shown {
        eprintln!("{shown} of {all}: --limit {all} shows all of them");
    }
    Ok(())
}

fn columns<'a>(
    next: &'a dyn Fn(&OrderView) -> String,
    received: &'a dyn Fn(&OrderView) -> String,
) -> [Column<'a, OrderView>; 12] {
    [
        ("SHOP", &|o| o.shop.clone()),
        ("ORDER", &|o| o.order_id.clone()),
        ("STATE", &|o| o.state.to_owned()),
        ("PHASE", &|o| o.phase.to_owned()),
        ("FAILED", &|o| match o.max_count {
            Some(max) => format!("{}/{max}", o.fail_count),
            None => o.fail_count.to_string(),
        }),
        ("NEXT", next),
        ("CLASS", &|o| o.error_class.unwrap_or_default().to_owned()),
        ("ERROR", &|o| o.error_message.clone().unwrap_or_default()),
        ("CUSTOMER", &|o| o.customer_number.clone().unwrap_or_default()),
        ("TOTAL", &|o| format!("{} {}", o.total, o.currency)),
        ("ERP", &|o| o.erp_order_id.clone().unwrap_or_default()),
        ("RECEIVED", received),
    ]
}

/// `orders export`: every order that matches, page by page, so that it takes little memory however
/// many there are.
pub(super) async fn export(
    ops: &Ops,
    command: &Export,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let Some(file) = &command.file else {
        write_all(ops, command, out, io::stdout().is_terminal()).await?;
        return Ok(Exit::Done);
    };
    // A partial export must not be mistaken for a complete one.
    let part = part_of(file);
    let opened = std::fs::File::create(&part);
    let opened = opened.with_context(|| format!("cannot write {}", part.display()))?;
    let mut writer = BufWriter::new(opened);
    let written = match write_all(ops, command, &mut writer, false).await {
        Ok(orders) => writer.flush().map(|()| orders).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    let kept = written.and_then(|orders| {
        let named = std::fs::rename(&part, file);
        named.with_context(|| format!("cannot write {}", file.display())).map(|()| orders)
    });
    match kept {
        Ok(orders) => {
            eprintln!("{orders} orders in {}", file.display());
            Ok(Exit::Done)
        }
        Err(error) => {
            drop(std::fs::remove_file(&part));
            Err(error)
        }
    }
}

fn part_of(file: &Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

async fn write_all(
    ops: &Ops,
    command: &Export,
    out: &mut dyn Write,
    to_terminal: bool,
) -> anyhow::Result<u64> {
    let (filter, sort) = (filter_of(&command.filter, ops.now())?, command.sorted.sort());
    let bar = progress(ops.count(&whoever(), &filter).await?, "exporting");
    let mut stream =
        Stream::begin(out, if command.documents { ExportFormat::Ndjson } else { command.output })?;
    let (mut orders, mut after) = (0, None);
    loop {
        let page = ops.page(&whoever(), &filter, sort, after.as_deref(), MAX_PAGE).await?;
        if command.documents {
            let keys: Vec<OrderKey> = page.orders.iter().map(|order| order.key.clone()).collect();
            let mut documents: HashMap<OrderKey, Arc<str>> = match command.current {
                true => {
                    let current = ops.current_documents(&whoever(), &keys).await?.into_iter();
                    current.map(|(record, document)| (record.key, document)).collect()
                }
                false => ops.documents(&whoever(), &keys).await?.into_iter().collect(),
            };
            for document in keys.iter().filter_map(|key| documents.remove(key)) {
                stream.line(&one_json_line(&document, to_terminal))?;
            }
        } else {
            let views: Vec<OrderView> = page.orders.iter().map(OrderView::of).collect();
            stream.items(&views, &export_columns())?;
        }
        orders += page.orders.len() as u64;
        bar.set_position(orders);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    stream.end()?;
    bar.finish_and_clear();
    Ok(orders)
}

/// A document on one line. In JSON line breaks are only between its parts; everything else stays
/// unchanged, except terminal controls.
fn one_json_line(document: &str, to_terminal: bool) -> String {
    match to_terminal {
        true => printable_line(document),
        false => document.replace(['\n', '\r'], " "),
    }
}

/// `orders export`
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    /// Which
    pub filter: Filter,
    #[command(flatten)]
    /// In which order
    pub sorted: Sorted,
    /// Format
    #[arg(long, value_enum, default_value_t = ExportFormat::Csv, conflicts_with = "documents")]
    pub output: ExportFormat,
    /// The original documents, one per line, as `publish` accepts them
    #[arg(long)]
    pub documents: bool,
    /// For an edited order its newest revision, which is what is sent
    #[arg(long, requires = "documents")]
    pub current: bool,
    /// Where to write [default: standard output]; an existing file is replaced at the end
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

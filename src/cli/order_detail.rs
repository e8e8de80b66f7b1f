//! `orders show`: one order with everything that happened to it.

use std::io::Write;

use crate::cli::change::whoever;
use crate::cli::exchanges::write_stored;
use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::{facts, local, plain_table, print_one, write_table};
use crate::domain::text::{is_unprintable, one_line};
use crate::ops::verbs::Ops;
use crate::ports::order_desk::{Attempt, OrderDetail};
use crate::ports::second_entries::SecondEntry;
use crate::ports::total_differences::FoundTotal;
use crate::views::order_detail::DetailView;
use crate::views::orders::OrderView;

pub async fn show(
    ops: &Ops,
    id: &str,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let key = ops.find(&whoever(), id).await?;
    let detail = ops.show(&whoever(), &key).await?;
    let view = DetailView::of(detail.clone());
    print_one(out, format, &view, |out| show_human(out, &detail, &view.order))?;
    Ok(Exit::Done)
}

fn show_human(out: &mut dyn Write, detail: &OrderDetail, order: &OrderView) -> std::io::Result<()> {
    show_facts(out, detail, order)?;
    show_attempts(out, &detail.attempts)?;
    write_stored(out, &detail.exchanges)?;
    show_history(out, detail)?;
    if !detail.revisions.is_empty() {
        writeln!(out, "\nDocument that is sent")?;
        write_document(out, detail.current())?;
    }
    writeln!(out, "\nOriginal document")?;
    write_document(out, &detail.document)
}

fn show_facts(out: &mut dyn Write, detail: &OrderDetail, order: &OrderView) -> std::io::Result<()> {
    let record = &detail.record;
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
            ("ENTERED TWICE", entered_twice(&detail.second_entries)),
            ("Total in the ERP", other_total(&detail.total_differences)),
            ("Failed attempts", Some(failed)),
            ("Next", record.phase.due_at().map(local)),
            (
                "Last error",
                error.map(|e| {
                    format!(
                        "{} ({}): {}",
                        e.summary.class.as_str(),
                        e.summary.code,
                        e.summary.message
                    )
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
                    "{} {} {}",
                    order.customer_number.as_deref().unwrap_or("-"),
                    order.customer_name.as_deref().unwrap_or_default(),
                    address(order)
                )),
            ),
            ("Total", Some(format!("{} {}", order.total, order.currency))),
            ("Received", Some(format!("{} ({})", local(record.received_at), detail.source))),
            ("Trace", record.trace.parent.clone()),
        ],
    )
}

/// The further numbers in the ERP, each with whether a person has settled it.
fn entered_twice(entries: &[SecondEntry]) -> Option<String> {
    let shown = |entry: &SecondEntry| {
        let standing = match &entry.settled {
            Some(settled) => format!("settled by {}: {}", settled.actor, settled.reason),
            None => "not settled".to_owned(),
        };
        let (number, attempt) = (&entry.number, entry.attempt);
        one_line(&format!("also {number} (attempt {attempt}, {standing})"), 500)
    };
    (!entries.is_empty()).then(|| entries.iter().map(shown).collect::<Vec<_>>().join("; "))
}

/// The newest sum in the ERP that differs from what was paid, and who accepted it.
fn other_total(found: &[FoundTotal]) -> Option<String> {
    let newest = found.last()?;
    let standing = match &newest.accepted {
        Some(accepted) => format!("accepted by {}: {}", accepted.actor, accepted.reason),
        None => "not accepted".to_owned(),
    };
    Some(one_line(&format!("{} ({standing})", newest.difference.found), 500))
}

fn show_attempts(out: &mut dyn Write, attempts: &[Attempt]) -> std::io::Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nTries")?;
    let mut table = plain_table();
    for a in attempts {
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
            one_line(a.request.as_deref().unwrap_or_default(), 100),
            one_line(a.message.as_deref().unwrap_or_default(), 200),
        ]);
    }
    write_table(out, &table)
}

/// Mails, actions of people, other contents and revisions.
fn show_history(out: &mut dyn Write, detail: &OrderDetail) -> std::io::Result<()> {
    for stored in &detail.mails {
        let (kind, status) = (stored.mail.kind.as_str(), stored.status.as_str());
        writeln!(out, "\nMail {} {kind} {status}: {}", stored.id, stored.mail.subject)?;
    }
    for entry in &detail.audit {
        let reason = entry.reason.as_deref().unwrap_or("no reason given");
        let line = format!("{} {} by {}: {reason}", local(entry.at), entry.action, entry.actor);
        writeln!(out, "\n{}", one_line(&line, 500))?;
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
        writeln!(out, "\n{} {}", local(made.at), one_line(&line, 500))?;
    }
    Ok(())
}

/// A document line by line, without terminal controls.
pub(super) fn write_document(out: &mut dyn Write, text: &str) -> std::io::Result<()> {
    for line in text.lines() {
        let safe: String = line
            .chars()
            .map(|c| if is_unprintable(c) && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        writeln!(out, "  {safe}")?;
    }
    Ok(())
}

/// Where a confirmation goes, or why none is written.
fn address(order: &OrderView) -> String {
    let address = &order.customer_email;
    match &order.customer_email_unseen {
        Some(unseen) => {
            format!(
                "<{address}> (has {unseen}, which nobody sees: no confirmation mail is written)"
            )
        }
        None if address.is_empty() => {
            "(no mail address: no confirmation mail is written)".to_owned()
        }
        None => format!("<{address}>"),
    }
}

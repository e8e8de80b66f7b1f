//! `check`: settings, database, migrations, broker, mail server and ERP, one line each with the fix.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::adapters::amqp;
use crate::adapters::erp::recipe::check::{remarks, sample_order};
use crate::cli::exit::Exit;
use crate::cli::flags::Format;
use crate::cli::output::print;
use crate::config::settings::Settings;
use crate::domain::circuit::CircuitState;
use crate::domain::text::one_line;
use crate::ports::clock::{Clock, SystemClock};
use crate::ports::erp::{Erp, ProbeAnswer};
use crate::ports::notices::{REFUSED_FOR, RefusedReceiver};
use crate::ports::workers::WorkerRegistry;
use crate::views::checks::CheckLine;
use crate::views::csv::Column;
use crate::workers::ledger_clock::LedgerClock;

use super::open_erps::OpenErps;
use super::{channels, erps, wiring};

/// A difference of the clocks that somebody should correct.
const MOST_SKEW: Duration = Duration::from_secs(5);

impl CheckLine {
    fn good(what: &str, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state: "ok", detail: detail.into() }
    }

    fn bad(what: &str, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state: "FAULT", detail: detail.into() }
    }

    /// Not an error, but worth knowing.
    fn note(what: &str, detail: impl Into<String>) -> Self {
        Self { what: what.to_owned(), state: "note", detail: detail.into() }
    }

    pub(super) fn is_fault(&self) -> bool {
        self.state == "FAULT"
    }

    fn of<E: std::fmt::Display>(what: &str, good: &str, result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::good(what, good),
            Err(error) => Self::bad(what, error.to_string()),
        }
    }
}

/// Checks everything; fails if something is wrong.
pub async fn check(
    settings: &Settings,
    format: Format,
    out: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let lines = look(settings).await;
    let columns: [Column<'_, CheckLine>; 3] = [
        ("WHAT", &|line| line.what.clone()),
        ("STATE", &|line| line.state.to_owned()),
        ("DETAIL", &|line| line.detail.clone()),
    ];
    print(out, format, &lines, &columns, "")?;
    let bad = lines.iter().any(CheckLine::is_fault);
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

/// One line for each check.
pub async fn look(settings: &Settings) -> Vec<CheckLine> {
    let mut lines =
        vec![CheckLine::good("settings", format!("{} keys, no fault", settings.known.len()))];
    lines.extend(database(settings).await);
    lines.extend(broker(settings).await);
    lines.extend(mail(settings).await);
    lines.extend(mails(settings).await);
    lines.extend(channels(settings).await);
    lines.extend(retention(settings).await);
    lines.extend(erps(settings).await);
    lines
}

async fn database(settings: &Settings) -> Vec<CheckLine> {
    let url = &settings.known["database.url"].shown;
    let store = match wiring::open_existing(settings) {
        Ok(None) => {
            let detail = format!("{url}: not there yet; the first start creates it");
            return vec![CheckLine::note("database", detail)];
        }
        Ok(Some(store)) => Ok(store),
        Err(error) => Err(error),
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => return vec![CheckLine::bad("database", format!("{error:#}"))],
    };
    match store.schema_status().await {
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.unwrap_or_default();
            vec![CheckLine::bad(
                "database",
                format!("{url}: {error} ({cause}): is it running, is database.url right?"),
            )]
        }
        Ok(status) => {
            let migrations = if status.is_newer {
                CheckLine::bad("migrations", "the tables belong to a newer release: use that one")
            } else if status.pending.is_empty() {
                CheckLine::good("migrations", "all applied")
            } else if status.migrates_itself {
                CheckLine::good("migrations", "applied automatically at the next start")
            } else {
                CheckLine::bad(
                    "migrations",
                    format!("{} missing: run `order-relay migrate`", status.pending.join(", ")),
                )
            };
            let mut lines = vec![CheckLine::good("database", url), migrations];
            lines.extend(clock(&*store).await);
            lines
        }
    }
}

/// How far the database's clock is ahead of this machine's; nothing where it has none of its own.
async fn clock(store: &dyn WorkerRegistry) -> Option<CheckLine> {
    let line = "clock";
    store.ledger_time().await.ok()??;
    let ahead = match LedgerClock::new(Arc::new(SystemClock)).synchronise(store).await {
        Err(error) => return Some(CheckLine::bad(line, error.to_string())),
        Ok(ahead) => ahead,
    };
    let detail =
        format!("the database is {:.1} s ahead; claims follow its clock", ahead.as_secs_f64());
    Some(match ahead.unsigned_abs() > MOST_SKEW {
        false => CheckLine::good(line, detail),
        true => CheckLine::note(line, format!("{detail}: correct the clock of this machine (NTP)")),
    })
}

async fn broker(settings: &Settings) -> Vec<CheckLine> {
    let worker = wiring::worker_name(&SystemClock);
    let address = match wiring::amqp_address(settings, &worker) {
        Ok(Some(address)) => address,
        Ok(None) => {
            return vec![CheckLine::good("broker", "in-process (amqp.url is not set)")];
        }
        Err(error) => return vec![CheckLine::bad("broker", error.to_string())],
    };
    match amqp::topology::check(&address, &wiring::topology(settings)).await {
        Err(error) => vec![CheckLine::bad("broker", error.to_string())],
        Ok(findings) => {
            let faults: Vec<String> =
                findings.into_iter().filter_map(|finding| finding.fault).collect();
            let topology = match faults.first() {
                None => CheckLine::good("topology", "everything exists"),
                Some(first) => {
                    CheckLine::bad("topology", format!("{first} ({} faults in all)", faults.len()))
                }
            };
            vec![CheckLine::good("broker", address.place()), topology]
        }
    }
}

async fn mail(settings: &Settings) -> Vec<CheckLine> {
    let post = match wiring::post(settings) {
        Ok(post) => post,
        Err(error) => return vec![CheckLine::bad("mail", error.to_string())],
    };
    let mut lines = vec![CheckLine::good("mail templates", "can be read")];
    if post.audiences.is_empty() {
        lines.push(CheckLine::good(
            "mail server",
            "none (mail.smtp_url is not set): mails are only stored",
        ));
    }
    for audience in &post.audiences {
        let result = post.smtp.test(audience).await;
        let what = format!("mail server ({audience})");
        let result = result.map_err(|error| format!("{error}: check mail.smtp_url"));
        lines.push(CheckLine::of(&what, "answers", result));
    }
    lines
}

/// Whether the administrators get what is sent to them.
async fn mails(settings: &Settings) -> Vec<CheckLine> {
    let Ok(Some(store)) = wiring::open_existing(settings) else { return Vec::new() };
    let since = SystemClock.now().checked_sub(REFUSED_FOR).unwrap_or(Timestamp::MIN);
    let read = (store.count_mails().await, store.refused_receivers(since).await);
    let (Ok(counts), Ok(refused)) = read else {
        // The line about the database says why.
        return Vec::new();
    };
    let mut lines = vec![match counts.unheard {
        0 => CheckLine::good("alerts", "each reached an administrator"),
        unheard => CheckLine::bad(
            "alerts",
            format!(
                "{unheard} reached no administrator: see `order-relay mails list --status failed`, \
                 then correct mail.receiver or the mail server"
            ),
        ),
    }];
    lines.extend(refused.into_iter().filter(|one| is_set(settings, one)).map(|one| {
        let (receiver, error) = (one_line(&one.receiver, 320), one_line(&one.error, 300));
        let detail = format!("{receiver} is refused: {error}: correct mail.receiver");
        CheckLine::note(&format!("mail receiver ({})", one.audience), detail)
    }));
    lines
}

/// What is kept how long, and what was taken out.
async fn retention(settings: &Settings) -> Option<CheckLine> {
    let removals = wiring::open_existing(settings).ok()??.removals().await.ok()?;
    let days = |age: &Duration| age.as_secs() / (24 * 60 * 60);
    let kept: Vec<String> = settings
        .retention
        .0
        .iter()
        .map(|(kind, age)| format!("{} {} days", kind.as_str(), days(age)))
        .collect();
    let kept = if kept.is_empty() { "everything for ever".to_owned() } else { kept.join(", ") };
    let taken: Vec<String> = removals
        .iter()
        .map(|count| format!("{} {} (last {})", count.removed, count.kind, count.last))
        .collect();
    let taken = if taken.is_empty() { "nothing".to_owned() } else { taken.join(", ") };
    Some(CheckLine::good("retention", format!("keeps {kept}; taken out: {taken}")))
}

/// Whether each channel can be used and takes what it is sent. Nothing is sent to find out.
async fn channels(settings: &Settings) -> Vec<CheckLine> {
    let access = match channels::open(settings, Arc::new(SystemClock)) {
        Ok(access) => access,
        Err(error) => return vec![CheckLine::bad("channels", error.to_string())],
    };
    let Ok(Some(store)) = wiring::open_existing(settings) else { return Vec::new() };
    let (Ok(stored), Ok(refused)) = (store.stored_channels().await, store.refused_channels().await)
    else {
        // The line about the database says why.
        return Vec::new();
    };
    let (channels, unusable) = access.book.all(&stored);
    let mut lines: Vec<CheckLine> = channels
        .iter()
        .map(|channel| {
            let what = format!("channel ({})", channel.name);
            if let Err(error) = access.sender.check(channel) {
                return CheckLine::bad(&what, error);
            }
            let (kind, place) =
                (channel.target.channel_type.as_str(), access.sender.place(channel));
            match refused.iter().find(|one| one.channel == channel.name) {
                _ if !channel.rule.enabled => CheckLine::note(&what, "disabled"),
                None => CheckLine::good(&what, format!("{kind} to {place}; not contacted")),
                Some(one) => {
                    let (error, name) = (one_line(&one.error, 300), &channel.name);
                    let fix = format!("correct it, then `order-relay channels test {name}`");
                    CheckLine::bad(&what, format!("refuses its messages: {error}: {fix}"))
                }
            }
        })
        .collect();
    lines.extend(
        unusable
            .iter()
            .map(|one| CheckLine::bad(&format!("channel ({})", one.name), one_line(&one.why, 300))),
    );
    lines
}

/// Whether the settings still name this receiver.
fn is_set(settings: &Settings, refused: &RefusedReceiver) -> bool {
    settings.shop(&refused.audience).mail.receivers.contains(&refused.receiver)
}

async fn erps(settings: &Settings) -> Vec<CheckLine> {
    let store = wiring::open_existing(settings).ok().flatten();
    let circuits = match &store {
        Some(store) => store.circuits().await.unwrap_or_default(),
        None => Vec::new(),
    };
    let tokens = wiring::tokens(settings);
    let mut lines = Vec::new();
    for erp in OpenErps::new(settings, &tokens).all() {
        let (name, erp) = (erp.name(), erp.settings());
        let what = format!("ERP ({name})");
        let loaded = match erps::recipe(erp) {
            Ok(loaded) => loaded,
            Err(error) => {
                lines.push(CheckLine::bad(&what, format!("{error:#}")));
                continue;
            }
        };
        let remarks = loaded.as_ref().map(|loaded| remarks(&loaded.recipe)).unwrap_or_default();
        match erps::open_recipe(name, erp, loaded, &tokens) {
            Err(error) => lines.push(CheckLine::bad(&what, format!("{error:#}"))),
            Ok(opened) => lines.extend(ask_all(name, &*opened).await),
        }
        if erp.ask_before_first_send {
            lines.push(CheckLine::note(
                &what,
                "is asked about every order before it is sent; set erp.ask_before_first_send to false once the orders of a \
                 restored backup are through",
            ));
        }
        lines.extend(
            remarks.into_iter().map(|text| CheckLine::note(&format!("recipe ({name})"), text)),
        );
        let open = circuits.iter().find(|c| c.erp == name && c.state != CircuitState::Closed);
        lines.extend(open.map(|circuit| {
            let reason = circuit.reason.as_deref().unwrap_or("no reason given");
            CheckLine::bad(&format!("circuit ({name})"), format!("open, nothing is sent: {reason}"))
        }));
    }
    lines
}

/// What the ERP answers: about an order that it does not have, then about its master data.
pub(super) async fn ask_all(name: &str, erp: &dyn Erp) -> Vec<CheckLine> {
    let mut lines = vec![ask(&format!("ERP ({name})"), erp).await];
    for check in erp.check_master_data().await {
        let what = format!("ERP {} ({name})", check.name);
        lines.push(CheckLine::of(&what, "as it should be", check.fault.map_or(Ok(()), Err)));
    }
    lines
}

/// Asks about an order that no ERP has.
async fn ask(what: &str, erp: &dyn Erp) -> CheckLine {
    if !erp.can_ask() {
        return CheckLine::note(what, "cannot be asked about orders, so it was not contacted");
    }
    let nobody = sample_order("order-relay-check");
    let patience = erp.call_budget() + Duration::from_secs(1);
    match tokio::time::timeout(patience, erp.ask(&nobody)).await {
        Ok(ProbeAnswer::Found(_) | ProbeAnswer::Absent) => {
            CheckLine::good(what, "answers questions about orders")
        }
        Ok(ProbeAnswer::Unclear(failure)) => {
            let request = failure.request.as_deref().unwrap_or("the question");
            let (message, code) = (&failure.message, &failure.code);
            CheckLine::bad(what, format!("no usable answer to {request}: {message} ({code})"))
        }
        Err(_) => CheckLine::bad(what, "no answer in time"),
    }
}

//! What must be true after every run, whatever happened in it (docs/architecture.md, "Simulation").

use std::time::Duration;

use crate::devtools::simulation::ledger::values::UNSTORABLE;
use crate::devtools::simulation::news_promises as news;
use crate::devtools::simulation::post::{attempt_name, reachable};
use crate::devtools::simulation::processes::ENOUGH_WAITING;
use crate::devtools::simulation::receivers::CHANNELS;
use crate::devtools::simulation::world::World;
use crate::domain::failure::{ErrorClass, Stage};
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;
use crate::domain::order::fault::Reason;
use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{MAX_PAGE, OrderFilter, Sort};
use crate::domain::redrive::RedriveStatus;
use crate::domain::retry::{is_exhausted, later};
use crate::domain::topology::ORDER_PLACED;
use crate::ports::channels::ChannelLevels;
use crate::ports::dead_letters::DeadLetterDesk;
use crate::ports::ledger::LedgerProof;
use crate::ports::notices::MailLevels;
use crate::ports::order_desk::{Attempt, OrderDesk, OrderDetail, OrderRecords};
use crate::ports::order_lists::OrderLists;
use crate::ports::redrives::RedriveDesk;
use crate::ports::store_error::StoreError;

/// How far two processes that follow the ledger's clock differ: each may have started while the ledger took five
/// seconds to say its time.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);
/// Copies of one message of ours in one queue at the same time, beyond those that faults make.
const MOST_COPIES: usize = 14;
/// How often one message may be published within [`WINDOW`].
const MOST_REPEATS: usize = 40;
/// The same of a nudge of the sweeper, which leaves an order alone for a minute.
const MOST_NUDGES: usize = 30;
const WINDOW: Duration = Duration::from_mins(5);
/// Nudges of the sweeper in one queue at the same time: a few processes may have looked at the same moment, and
/// faults copy some.
const MOST_NUDGES_WAITING: usize = 6 * ENOUGH_WAITING as usize;
const TOLD_ONCE: &str = "each failure is named in exactly one message to each channel";
const NAMED_ONCE: &str = "each failure is named in exactly one mail to each administrator";

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub promise: &'static str,
    pub detail: String,
    /// The orders that it is about.
    pub orders: Vec<String>,
}

impl Broken {
    fn new(promise: &'static str, detail: impl Into<String>) -> Self {
        Self { promise, detail: detail.into(), orders: Vec::new() }
    }

    fn of(promise: &'static str, record: &OrderRecord, detail: impl Into<String>) -> Self {
        Self { orders: vec![record.key.to_string()], ..Self::new(promise, detail) }
    }
}

/// What still waits although all is well; empty when everything is settled or has a reason to wait.
pub async fn unsettled(world: &World) -> Result<Vec<Broken>, StoreError> {
    const PROMISE: &str = "everything is settled or waits for a named reason";
    let store = &world.parts.ledger;
    let mut waiting = Vec::new();
    for record in records(world).await? {
        if !has_reason_to_rest(world, &record) {
            let detail =
                format!("{} is {}, claim {:?}", record.key, record.phase.name(), record.claim);
            waiting.push(Broken::of(PROMISE, &record, detail));
        }
    }
    let mails = store.count_mails().await?;
    if mails.waiting > 0 {
        waiting.push(Broken::new(PROMISE, format!("{} notices or mails wait", mails.waiting)));
    }
    for untold in news::untold(world).await? {
        waiting.push(Broken::new(PROMISE, untold));
    }
    for channel in store.channel_states().await? {
        let waiting_for_it = channel.held + channel.waiting;
        if waiting_for_it > 0 {
            let detail =
                format!("{waiting_for_it} notices or messages wait for {}", channel.channel);
            waiting.push(Broken::new(PROMISE, detail));
        }
    }
    for redrive in store.redrives(100).await? {
        if redrive.status == RedriveStatus::Running {
            waiting.push(Broken::new(PROMISE, format!("redrive {} still runs", redrive.id)));
        }
    }
    for (queue, id) in world.parts.broker.held() {
        waiting.push(Broken::new(PROMISE, format!("{id} is still in {queue}")));
    }
    Ok(waiting)
}

fn has_reason_to_rest(world: &World, record: &OrderRecord) -> bool {
    if record.claim.is_some() {
        return false;
    }
    match record.phase {
        Phase::Transferred { .. } | Phase::Removed | Phase::Parked => true,
        // Only a person can decide.
        Phase::OutcomeUnknown { .. } => {
            !world.parts.erps.of(record.key.shop.as_str()).nature.can_ask
        }
        Phase::Queued | Phase::Held | Phase::Retrying { .. } => false,
    }
}

/// The promises that a settled run has broken.
pub async fn broken(world: &World) -> Result<Vec<Broken>, StoreError> {
    let mut broken = Vec::new();
    for record in records(world).await? {
        if let Some(order) = world.parts.ledger.order(&record.key).await? {
            look_at_order(world, &order, &mut broken);
        }
    }
    look_for_losses(world, &mut broken).await?;
    look_at_dead_letters(world, &mut broken).await?;
    look_at_ledger(world, &mut broken).await?;
    look_at_mails(world, &mut broken).await?;
    for (promise, detail) in news::broken(world).await? {
        broken.push(Broken::new(promise, detail));
    }
    look_for_used_up_orders(world, &mut broken).await?;
    look_for_floods(world, &mut broken);
    let circuits = world.people.circuits_that_did_not_stay_held();
    broken.extend(
        circuits.into_iter().map(|detail| Broken::new("what a person holds stays held", detail)),
    );
    Ok(broken)
}

async fn records(world: &World) -> Result<Vec<OrderRecord>, StoreError> {
    let filter = OrderFilter::default();
    let store = &world.parts.ledger;
    let mut records = store.page_orders(&filter, Sort::default(), None, MAX_PAGE).await?;
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}

fn look_at_order(world: &World, order: &OrderDetail, broken: &mut Vec<Broken>) {
    let record = &order.record;
    let times = world.parts.erps.of(record.key.shop.as_str()).has(&record.key);
    if times > 1 {
        let detail = format!("{} is there {times} times", record.key);
        broken.push(Broken::of("the ERP has an order at most once", record, detail));
    }
    let is_transferred = matches!(record.phase, Phase::Transferred { .. });
    if is_transferred && times == 0 {
        let detail = format!("{} is not there", record.key);
        broken.push(Broken::of("what is transferred is in the ERP", record, detail));
    }
    if !is_transferred && record.phase != Phase::Removed && times > 0 && is_clear(record) {
        let detail = format!("{} is there, and {}", record.key, record.phase.name());
        broken.push(Broken::of("what is in the ERP is not called absent", record, detail));
    }
    let failed = order.attempts.iter().filter(|attempt| has_failed(attempt)).count();
    if usize::try_from(record.fail_count) != Ok(failed) {
        let detail =
            format!("{} counts {}, and {failed} attempts failed", record.key, record.fail_count);
        broken.push(Broken::of("fail_count is the number of failed attempts", record, detail));
    }
    look_at_attempts(world, order, broken);
    look_for_early_retries(world, order, broken);
    look_at_notices(world, order, broken);
}

/// Whether the ledger says that the ERP does not have it.
fn is_clear(record: &OrderRecord) -> bool {
    !record.may_be_there()
}

fn has_failed(attempt: &Attempt) -> bool {
    attempt.class.is_some()
}

fn look_at_attempts(world: &World, order: &OrderDetail, broken: &mut Vec<Broken>) {
    let max = world.parts.setup.max_count;
    // "Not in the ERP" said by a person asks for one more, whoever publishes its message.
    let declared =
        order.audit.iter().filter(|entry| entry.action == "order.declare_absent").count();
    for attempt in &order.attempts {
        // A success of the same attempt may be known only after its failure: its process was asleep.
        let before = order.attempts.iter().filter(|other| other.attempt < attempt.attempt);
        let failed = before.filter(|other| has_failed(other)).count().saturating_sub(declared);
        let failed = u32::try_from(failed).unwrap_or(u32::MAX);
        let is_by_person = matches!(attempt.trigger.as_str(), "operator" | "redrive");
        // An attempt that was interrupted is resolved by asking, which is no attempt.
        let was_sent = !attempt.found && attempt.code.as_deref() != Some("interrupted");
        if is_exhausted(failed, max) && was_sent && !is_by_person {
            let detail = format!(
                "attempt {} of {} is by {} after {failed} failures",
                attempt.attempt, order.record.key, attempt.trigger
            );
            let promise = "no automatic attempt is made past the maximum";
            broken.push(Broken::of(promise, &order.record, detail));
        }
    }
}

/// Every retry of a plain failure waits at least for the first step of the schedule, unless a person took part.
fn look_for_early_retries(world: &World, order: &OrderDetail, broken: &mut Vec<Broken>) {
    if !order.audit.is_empty() {
        return;
    }
    let shortest = world.parts.setup.retry.delay(1);
    for (failed, next) in order.attempts.iter().zip(order.attempts.iter().skip(1)) {
        let is_plain = failed.class.as_deref() == Some(ErrorClass::Unavailable.as_str())
            && failed.stage.as_deref() != Some(Stage::At.as_str());
        let due = later(failed.occurred_at, shortest);
        let ends = later(due, Duration::from_millis(next.duration_ms));
        let is_retry = next.attempt == failed.attempt + 1 && next.trigger != "redrive";
        if is_plain && is_retry && later(next.occurred_at, CLOCKS_DIFFER) < ends {
            let detail = format!(
                "attempt {} of {} ended {}, and it was due {due}",
                next.attempt, order.record.key, next.occurred_at
            );
            broken.push(Broken::of("no retry comes before it is due", &order.record, detail));
        }
    }
}

fn look_at_notices(world: &World, order: &OrderDetail, broken: &mut Vec<Broken>) {
    let key = &order.record.key;
    for attempt in order.attempts.iter().filter(|attempt| has_failed(attempt)) {
        let name = attempt_name(key.shop.as_str(), key.order_id.as_str(), attempt.attempt);
        for receiver in reachable() {
            let mails = world.parts.post.naming(receiver, &name);
            if mails != 1 {
                let detail = format!("{name} is named in {mails} mails to {receiver}");
                broken.push(Broken::of(NAMED_ONCE, &order.record, detail));
            }
        }
        for channel in CHANNELS {
            let messages = world.parts.receivers.naming(channel, &name);
            if messages != 1 {
                let detail = format!("{name} is named in {messages} messages to {channel}");
                broken.push(Broken::of(TOLD_ONCE, &order.record, detail));
            }
        }
    }
}

/// Mails about failures that did not happen.
async fn look_at_mails(world: &World, broken: &mut Vec<Broken>) -> Result<(), StoreError> {
    for name in world.parts.post.named() {
        let Some((key, number)) = attempt_of(&name) else { continue };
        let order = world.parts.ledger.order(&key).await?;
        let attempts = order.iter().flat_map(|order| &order.attempts);
        // Another service may have failed where ours succeeded, under the same number.
        if !attempts.into_iter().any(|attempt| attempt.attempt == number && has_failed(attempt)) {
            let detail = format!("a mail names {name}, which did not fail");
            let told = Broken::new(NAMED_ONCE, detail);
            broken.push(Broken { orders: vec![key.to_string()], ..told });
        }
    }
    Ok(())
}

fn attempt_of(name: &str) -> Option<(OrderKey, u32)> {
    let (key, number) = name.rsplit_once('#')?;
    let (shop, order_id) = key.split_once('/')?;
    Some((OrderKey::new(shop, order_id).ok()?, number.parse().ok()?))
}

async fn look_for_losses(world: &World, broken: &mut Vec<Broken>) -> Result<(), StoreError> {
    const PROMISE: &str = "what was confirmed is in the ledger, or a dead letter";
    let (store, promised) = (&world.parts.ledger, world.checkout.promised());
    let letters = store.list_dead_letters(false, MAX_PAGE).await?;
    let is_kept = |bytes: &[u8]| letters.iter().any(|letter| letter.body == bytes);
    for key in &promised.orders {
        let quoted = format!("\"order_id\":\"{}\"", key.order_id);
        let is_dead =
            || letters.iter().any(|letter| String::from_utf8_lossy(&letter.body).contains(&quoted));
        if store.record(key).await?.is_none() && !is_dead() {
            let lost = Broken::new(PROMISE, format!("{key} is lost"));
            broken.push(Broken { orders: vec![key.to_string()], ..lost });
        }
    }
    for other in promised.others.iter().filter(|other| !is_kept(other)) {
        let text = String::from_utf8_lossy(other);
        broken.push(Broken::new(PROMISE, format!("a message is lost: {text}")));
    }
    Ok(())
}

async fn look_at_dead_letters(world: &World, broken: &mut Vec<Broken>) -> Result<(), StoreError> {
    for letter in world.parts.ledger.list_dead_letters(false, MAX_PAGE).await? {
        let is_our_fault = [Reason::HandlerPanicked, Reason::Refused]
            .map(Reason::as_str)
            .contains(&letter.reason.as_str());
        let text = String::from_utf8_lossy(&letter.body).into_owned();
        if is_our_fault && !text.contains(UNSTORABLE) {
            let detail = format!("{}: {text}", letter.detail);
            broken.push(Broken::new("no good message becomes a dead letter", detail));
        }
    }
    Ok(())
}

async fn look_at_ledger(world: &World, broken: &mut Vec<Broken>) -> Result<(), StoreError> {
    const PROMISE: &str = "the ledger is sound";
    let report = world.parts.ledger.check_ledger(None).await?;
    if report.difference != 0 {
        broken.push(Broken::new(PROMISE, format!("the difference is {}", report.difference)));
    }
    for violation in report.violations {
        let detail = format!("{}: {}", violation.promise, violation.examples.join(", "));
        broken.push(Broken { orders: violation.examples, ..Broken::new(PROMISE, detail) });
    }
    Ok(())
}

/// Orders that an outage parked, in a run in which nothing else was wrong.
async fn look_for_used_up_orders(
    world: &World,
    broken: &mut Vec<Broken>,
) -> Result<(), StoreError> {
    if !world.plan.is_plain_outage() || world.parts.setup.max_count == Some(1) {
        return Ok(());
    }
    for record in records(world).await? {
        let can_ask = world.parts.erps.of(record.key.shop.as_str()).nature.can_ask;
        if can_ask && record.phase == Phase::Parked {
            let detail = format!("{} is parked after {} failures", record.key, record.fail_count);
            broken.push(Broken::of("an outage uses up no order's attempts", &record, detail));
        }
    }
    Ok(())
}

fn look_for_floods(world: &World, broken: &mut Vec<Broken>) {
    let broker = &world.parts.broker;
    // Checkout repeats an order until it is confirmed; that is not ours to bound.
    let is_ours = |id: &str| !id.starts_with(ORDER_PLACED);
    let floods = broker.floods(MOST_COPIES, is_ours).into_iter();
    // Nudges to the notifier all have the same name; how many of them wait is bounded above.
    let repeated = broker.repeated(MOST_REPEATS, WINDOW, |id| !id.starts_with("notices:"));
    let nudges = broker.repeated(MOST_NUDGES, WINDOW, |id| id.starts_with("sweeper:"));
    let most = broker.most_nudges();
    let waiting = (most > MOST_NUDGES_WAITING)
        .then(|| format!("{most} nudges of the sweeper waited in one queue"));
    for flood in floods.chain(repeated).chain(nudges).chain(waiting) {
        broken.push(Broken::new("nobody floods a queue", flood));
    }
}

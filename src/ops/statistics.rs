//! The overview: orders by state, recent activity, groups of lost orders, pages of lists.

use std::time::Duration;

use jiff::Timestamp;

use crate::domain::circuit::Circuit;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order_filter::{MAX_PAGE, Mark, OrderFilter, ShopFilter, Sort, ValueFault};
use crate::domain::permission::Permission;
use crate::domain::text::one_line;
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::failure_groups::Group;
use crate::ports::ledger::LedgerReport;
use crate::ports::notices::MailCounts;
use crate::ports::statistics::{Flow, Standing, Tally};
use crate::ports::workers::Worker;

const DAY: Duration = Duration::from_hours(24);
/// Longest note of a group, in characters.
pub const MAX_NOTE_CHARS: usize = 2_000;
/// Longest address of a runbook, in bytes.
pub const MAX_RUNBOOK_BYTES: usize = 500;

/// The overview.
#[derive(Debug, Clone)]
pub struct Overview {
    /// The number of orders by state.
    pub standing: Vec<Standing>,
    /// Orders received, counted when they arrived.
    pub received: u64,
    /// Orders in `confirmed`.
    pub confirmed: u64,
    /// Orders in `ordered_failed`.
    pub lost: u64,
    /// Orders in `payed`/`queued`.
    pub queued: u64,
    /// Orders in `payed`/`held`.
    pub held: u64,
    /// received - (confirmed + lost + queued + held).
    pub difference: i64,
    /// What happened, bucket by bucket, without gaps.
    pub flow: Vec<Flow>,
    /// Orders received in the last 24 hours.
    pub of_day: u64,
    /// ERPs.
    pub circuits: Vec<Circuit>,
    /// Queues, as far as the broker answered.
    pub queues: Vec<QueueDepth>,
    /// Why the broker did not answer.
    pub broker_error: Option<String>,
    /// Processes that are alive.
    pub workers: Vec<Worker>,
    /// Mails by status.
    pub mails: MailCounts,
    /// Dead letters that wait for a person.
    pub dead_letters: u64,
    /// Orders that the ERP has twice and nobody has settled.
    pub entered_twice: u64,
}

/// What waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attention {
    /// Lost orders.
    pub lost: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Orders received minus those accounted for.
    pub difference: i64,
}

/// The length of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    pub name: String,
    /// Messages ready to be delivered.
    pub ready: u32,
    /// Its consumers.
    pub consumers: u32,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Page {
    pub orders: Vec<OrderRecord>,
    /// Where the next page begins; none: this is the last.
    pub next: Option<String>,
}

impl Ops {
    /// Orders by state in the shops that the person may see, and their activity within `span`.
    pub async fn overview(&self, person: &Principal, span: Duration) -> Result<Overview, Refusal> {
        let shops = &person.readable();
        let now = self.clock.now();
        let tally = self.store.tally(shops).await?;
        let count = |state, phase| tally.orders(state, phase);
        let confirmed = count(OrderState::Confirmed, None);
        let lost = count(OrderState::OrderedFailed, None);
        let queued = count(OrderState::Payed, Some("queued"));
        let held = count(OrderState::Payed, Some("held"));
        let difference = difference(&tally);
        let flow = self.flow(shops, span, now).await?;
        let of_day = match span == DAY {
            true => flow.iter().map(|flow| flow.received).sum(),
            false => self.flow(shops, DAY, now).await?.iter().map(|flow| flow.received).sum(),
        };
        let (queues, broker_error) = self.queue_depths().await;
        Ok(Overview {
            standing: tally.standing,
            received: tally.received,
            confirmed,
            lost,
            queued,
            held,
            difference,
            flow,
            of_day,
            circuits: self.circuits(person).await?,
            queues,
            broker_error,
            workers: self.store.workers(now).await?,
            mails: self.store.count_mails().await?,
            dead_letters: self.store.count_dead_letters().await?,
            entered_twice: self.store.count_entered_twice(shops).await?,
        })
    }

    /// What waits for a person in the shops that they may see: two reads of figures that are kept up to date.
    pub async fn attention(&self, person: &Principal) -> Result<Attention, Refusal> {
        let tally = self.store.tally(&person.readable()).await?;
        Ok(Attention {
            lost: tally.orders(OrderState::OrderedFailed, None),
            dead_letters: self.store.count_dead_letters().await?,
            difference: difference(&tally),
        })
    }

    async fn flow(
        &self,
        shops: &ShopFilter,
        span: Duration,
        now: Timestamp,
    ) -> Result<Vec<Flow>, Refusal> {
        let bucket = bucket_of(span);
        let width = ms(bucket);
        let end = now.as_millisecond().div_euclid(width) * width;
        let begin = end - (ms(span).div_euclid(width) - 1).max(0) * width;
        let since = Timestamp::from_millisecond(begin).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut happened = self.store.flow(shops, since, bucket).await?.into_iter().peekable();
        let mut flow = Vec::new();
        let mut at_ms = begin;
        while at_ms <= end {
            let Ok(at) = Timestamp::from_millisecond(at_ms) else { break };
            let none = Flow { at, received: 0, confirmed: 0, failed: 0 };
            flow.push(happened.next_if(|flow| flow.at == at).unwrap_or(none));
            at_ms += width;
        }
        Ok(flow)
    }

    async fn queue_depths(&self) -> (Vec<QueueDepth>, Option<String>) {
        let names = &self.broker.topology().names;
        let mut queues = Vec::new();
        for name in [names.submit(), names.failed(), names.notify(), names.dead(), names.unrouted()]
        {
            match self.broker.queue_status(&name).await {
                Ok(status) => queues.push(QueueDepth {
                    name,
                    ready: status.ready,
                    consumers: status.consumers,
                }),
                // Asking for the other queues would only take the same time for the same answer.
                Err(error) => return (queues, Some(error.to_string())),
            }
        }
        (queues, None)
    }

    /// Groups of lost orders, those with most orders first.
    pub async fn groups(&self, person: &Principal) -> Result<Vec<Group>, Refusal> {
        Ok(self.store.failure_groups(&person.readable(), None, self.clock.now()).await?)
    }

    /// One group, also when none of its orders is lost any more.
    pub async fn group(&self, person: &Principal, fingerprint: &str) -> Result<Group, Refusal> {
        self.group_of(fingerprint, &person.readable()).await
    }

    async fn group_of(&self, fingerprint: &str, shops: &ShopFilter) -> Result<Group, Refusal> {
        let groups = self.store.failure_groups(shops, Some(fingerprint), self.clock.now()).await?;
        let missing = || Refusal::not_found("group", fingerprint);
        groups.into_iter().next().ok_or_else(missing)
    }

    /// Proves that nothing is lost; reads every row.
    pub async fn check_ledger(
        &self,
        principal: &Principal,
        since: Option<Timestamp>,
    ) -> Result<LedgerReport, Refusal> {
        principal.authorize(Permission::Read, None)?;
        Ok(self.store.check_ledger(since).await?)
    }

    /// Stores the note of a group; an empty one deletes it. With permission for some shops it is
    /// allowed if all orders of the group are of those.
    pub async fn note_group(
        &self,
        fingerprint: &str,
        note: Option<&str>,
        runbook: Option<&str>,
        act: &Act,
    ) -> Result<(), Refusal> {
        let all = ShopFilter::default();
        if !act.grants.allows(Permission::Edit, None) {
            let shops = match self.group_of(fingerprint, &all).await {
                Ok(group) => group.shops,
                Err(Refusal::NotFound { .. }) => Vec::new(),
                Err(error) => return Err(error),
            };
            if shops.is_empty() {
                authorize(act, Permission::Edit, None)?;
            }
            for shop in &shops {
                authorize(act, Permission::Edit, Some(shop))?;
            }
        }
        let given = |text: Option<&str>| {
            text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (note, runbook) = (given(note), given(runbook));
        if note.as_ref().is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS) {
            let detail = format!("at most {MAX_NOTE_CHARS} characters");
            return Err(ValueFault { field: "note", detail }.into());
        }
        if let Some(runbook) = &runbook {
            check_runbook(runbook)?;
        }
        let noted =
            self.store.note_group(fingerprint, note.as_deref(), runbook.as_deref(), act).await?;
        match noted {
            true => Ok(()),
            false => Err(Refusal::not_found("group", fingerprint)),
        }
    }

    /// One page of the orders that match; `after` is `next` of the page before.
    pub async fn page(
        &self,
        person: &Principal,
        filter: &OrderFilter,
        sort: Sort,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page, Refusal> {
        let limit = limit.clamp(1, MAX_PAGE);
        let after = after.map(|cursor| Mark::from_cursor(cursor, sort)).transpose()?;
        // One more than requested shows whether there is a next page.
        let filter = person.narrowed(filter);
        let mut orders = self.store.page_orders(&filter, sort, after.as_ref(), limit + 1).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = orders.len() > limit;
        orders.truncate(limit);
        let last = orders.last().filter(|_| has_more);
        let next = last.map(|order| Mark::of(order, sort).to_cursor(sort));
        Ok(Page { orders, next })
    }

    /// How many orders match.
    pub async fn count(&self, person: &Principal, filter: &OrderFilter) -> Result<u64, Refusal> {
        Ok(self.store.count_orders(&person.narrowed(filter)).await?)
    }
}

/// Orders received minus those in a known state.
fn difference(tally: &Tally) -> i64 {
    let count = |state, phase| i128::from(tally.orders(state, phase));
    let accounted = count(OrderState::Confirmed, None)
        + count(OrderState::OrderedFailed, None)
        + count(OrderState::Payed, Some("queued"))
        + count(OrderState::Payed, Some("held"));
    i64::try_from(i128::from(tally.received) - accounted).unwrap_or(i64::MAX)
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Width of a bucket of a chart: 60 to 170 of them.
fn bucket_of(span: Duration) -> Duration {
    match span.as_secs() / 3600 {
        0..=2 => Duration::from_mins(1),
        3..=48 => Duration::from_mins(15),
        49..=336 => Duration::from_hours(1),
        _ => Duration::from_hours(24),
    }
}

/// A link that a page may show: only http and https.
fn check_runbook(address: &str) -> Result<(), ValueFault> {
    let lower = address.to_ascii_lowercase();
    let rest = lower.strip_prefix("https://").or_else(|| lower.strip_prefix("http://"));
    let is_plain = address.len() <= MAX_RUNBOOK_BYTES
        && one_line(address, MAX_RUNBOOK_BYTES) == address
        && !address.contains(char::is_whitespace);
    match rest {
        Some(rest) if is_plain && !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => {
            let expected =
                format!("an http:// or https:// address of at most {MAX_RUNBOOK_BYTES} bytes");
            Err(ValueFault::of("runbook", address, expected))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runbook_is_a_web_address_and_nothing_else() {
        for good in ["https://wiki.example/orders?a=b#c", "HTTP://wiki.example"] {
            assert_eq!(check_runbook(good), Ok(()), "{good}");
        }
        let long = format!("https://{}", "x".repeat(MAX_RUNBOOK_BYTES));
        for bad in [
            "javascript:alert(1)",
            "https://",
            "https:///x",
            "wiki",
            "https://a b",
            "https://\u{202e}x",
            &long,
        ] {
            assert_eq!(check_runbook(bad).unwrap_err().field, "runbook", "{bad}");
        }
    }

    #[test]
    fn a_chart_has_a_readable_number_of_buckets() {
        for hours in [1, 24, 168, 720] {
            let span = Duration::from_hours(hours);
            let buckets = span.as_secs() / bucket_of(span).as_secs();
            assert!((30..=170).contains(&buckets), "{hours} h: {buckets}");
        }
    }
}

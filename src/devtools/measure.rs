//! How long statistics, groups and lists take on an existing ledger; read-only.

use std::time::Duration;

use serde::Serialize;

use crate::domain::order::document::Order;
use crate::domain::order_filter::{MAX_PAGE, OrderFilter, Sort, SortBy};
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::clock::Stopwatch;

/// How often each query runs, unless it takes too long.
const TIMES: usize = 40;
/// How long each query is repeated at most, but at least once.
const PATIENCE: Duration = Duration::from_secs(4);
/// Orders on a page.
const PAGE: u32 = 50;
/// How many pages of [`MAX_PAGE`] lie before a deep one.
const DEEP: u32 = 20;

/// How long something takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// What was asked.
    pub what: String,
    /// Half of the answers took at most this long.
    pub p50_ms: f64,
    /// 95 of 100 did.
    pub p95_ms: f64,
    /// How often it was asked.
    pub times: usize,
    /// How many orders or groups were returned or counted.
    pub found: u64,
}

/// Measures what people see.
pub struct Measure<'a> {
    ops: &'a Ops,
    person: Principal,
}

impl<'a> Measure<'a> {
    /// Measures these operations.
    pub fn new(ops: &'a Ops, person: Principal) -> Self {
        Self { ops, person }
    }

    /// Measures everything that pages show; `told` is called with the name of the next query.
    pub async fn all(&self, told: impl Fn(&str)) -> Result<Vec<Measured>, Refusal> {
        let mut results = Vec::new();
        for hours in [1, 24, 168] {
            let span = Duration::from_hours(hours);
            let what = format!("overview, {hours} h");
            told(&what);
            results.push(
                timed(what, async || Ok(self.ops.overview(&self.person, span).await?.received))
                    .await?,
            );
        }
        told("groups");
        let groups = async || Ok(self.ops.groups(&self.person).await?.len() as u64);
        results.push(timed("groups".to_owned(), groups).await?);
        if let Some(group) = self.ops.groups(&self.person).await?.first() {
            let one = async || Ok(self.ops.group(&self.person, &group.fingerprint).await?.orders);
            results.push(timed("one group".to_owned(), one).await?);
        }
        for (name, filter) in [("lost", OrderFilter::lost()), ("all", OrderFilter::default())] {
            for by in SortBy::ALL {
                for sort in [by.natural(), by.natural().reversed()] {
                    told(&format!("{name} by {sort}"));
                    results
                        .push(self.first_page(format!("{name} by {sort}"), &filter, sort).await?);
                    let deep = self.deep(&filter, sort).await?;
                    let what = format!("{name} by {sort}, {} orders deep", DEEP * MAX_PAGE);
                    let page = async || {
                        let page = self
                            .ops
                            .page(&self.person, &filter, sort, deep.as_deref(), PAGE)
                            .await?;
                        Ok(page.orders.len() as u64)
                    };
                    results.push(timed(what, page).await?);
                }
            }
        }
        for (what, filter) in self.filters().await? {
            told(&what);
            results.push(self.first_page(what.clone(), &filter, Sort::default()).await?);
            let count = async || self.ops.count(&self.person, &filter).await;
            results.push(timed(format!("count of {what}"), count).await?);
        }
        Ok(results)
    }

    async fn first_page(
        &self,
        what: String,
        filter: &OrderFilter,
        sort: Sort,
    ) -> Result<Measured, Refusal> {
        let page = async || {
            Ok(self.ops.page(&self.person, filter, sort, None, PAGE).await?.orders.len() as u64)
        };
        timed(what, page).await
    }

    /// Where a page deep in a list begins.
    async fn deep(&self, filter: &OrderFilter, sort: Sort) -> Result<Option<String>, Refusal> {
        let mut after = None;
        for _ in 0..DEEP {
            match self.ops.page(&self.person, filter, sort, after.as_deref(), MAX_PAGE).await?.next
            {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        Ok(after)
    }

    /// Filters with values that some lost order has.
    async fn filters(&self) -> Result<Vec<(String, OrderFilter)>, Refusal> {
        let lost = OrderFilter::lost();
        let mut filters =
            vec![("all".to_owned(), OrderFilter::default()), ("lost".to_owned(), lost.clone())];
        let sort = SortBy::Received.natural().reversed();
        let Some(order) = self.ops.page(&self.person, &lost, sort, None, 1).await?.orders.pop()
        else {
            return Ok(filters);
        };
        let detail = self.ops.show(&self.person, &order.key).await?;
        let parsed = Order::parse(detail.document.as_bytes(), self.ops.intake()).ok();
        let sku = parsed.and_then(|order| Some(order.skus.first()?.as_str().to_owned()));
        let failure = order.last_failure.as_ref();
        let text = |text: &str| Some(text.to_owned());
        for (name, all) in [("lost", lost), ("all", OrderFilter::default())] {
            let parts = [
                ("phase", OrderFilter { phase: text(order.phase.name()), ..all.clone() }),
                ("shop", OrderFilter { shop: text(order.key.shop.as_str()), ..all.clone() }),
                (
                    "class",
                    OrderFilter {
                        class: failure.map(|f| f.summary.class.as_str().to_owned()),
                        ..all.clone()
                    },
                ),
                (
                    "code",
                    OrderFilter { code: failure.map(|f| f.summary.code.clone()), ..all.clone() },
                ),
                (
                    "fingerprint",
                    OrderFilter {
                        fingerprint: failure.map(|f| f.summary.fingerprint.clone()),
                        ..all.clone()
                    },
                ),
                (
                    "customer",
                    OrderFilter { customer: order.facts.customer.number.clone(), ..all.clone() },
                ),
                ("payment", OrderFilter { payment: order.facts.payment.clone(), ..all.clone() }),
                ("sku", OrderFilter { sku: sku.clone(), ..all.clone() }),
                (
                    "search by number",
                    OrderFilter { search: text(order.key.order_id.as_str()), ..all.clone() },
                ),
                (
                    "search without a match",
                    OrderFilter { search: text("no such text"), ..all.clone() },
                ),
            ];
            filters.extend(parts.map(|(part, filter)| (format!("{name} by {part}"), filter)));
        }
        Ok(filters)
    }
}

async fn timed(
    what: String,
    ask: impl AsyncFn() -> Result<u64, Refusal>,
) -> Result<Measured, Refusal> {
    let whole = Stopwatch::start();
    let mut found = 0;
    let mut took = Vec::new();
    while took.len() < TIMES && (took.is_empty() || whole.elapsed() < PATIENCE) {
        let watch = Stopwatch::start();
        found = ask().await?;
        took.push(watch.elapsed());
    }
    took.sort_unstable();
    let rank = |percent: usize| took.get((took.len() * percent).div_ceil(100).saturating_sub(1));
    let ms = |percent| rank(percent).map_or(0.0, |time| (time.as_secs_f64() * 1e4).round() / 10.0);
    Ok(Measured { what, p50_ms: ms(50), p95_ms: ms(95), times: took.len(), found })
}

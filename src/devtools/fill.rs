//! Fills a ledger with test orders, to measure lists and statistics with many orders.
//!
//! Everything uses the same calls of the ledger as real orders, so that `ledger check` passes.
//! Nothing is random: order number `n` is the same everywhere. No mails are sent: the notices of
//! its failures are put into mails that are only stored.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::lifecycle::transitions::FailedAttempt;
use crate::domain::lifecycle::vocabulary::Trigger;
use crate::domain::notice::NoticeKind;
use crate::domain::order::document::Order;
use crate::domain::order::intake_rules::IntakeRules;
use crate::domain::order::values::OrderKey;
use crate::domain::retry::{OnRejected, RetryPolicy};
use crate::domain::trace::Trace;
use crate::ports::clock::Clock;
use crate::ports::ledger::LedgerProof;
use crate::ports::mail::Mail;
use crate::ports::notices::{NewMail, Outbox};
use crate::ports::orders::{
    ConfirmRequest, FailureRequest, OrderFailures, OrderIntake, OrderSource, OrderTransfers, Placed,
};
use crate::ports::statistics::StatisticsFolding;
use crate::ports::store_error::{SharedError, StoreError};

/// Orders that are written together.
const BATCH: u64 = 2_000;
/// Batches after which the counters are added up, as the sweeper would do.
const FOLD_EVERY: u64 = 10;
/// Prefix of every order number, so that test orders can be recognised.
const PREFIX: &str = "F-";

const SHOPS: [(&str, &str, u64); 6] = [
    ("de", "EUR", 50),
    ("at", "EUR", 15),
    ("ch", "CHF", 12),
    ("fr", "EUR", 10),
    ("uk", "GBP", 8),
    ("us", "USD", 5),
];
const PAYMENTS: [&str; 4] = ["card", "invoice", "paypal", "prepayment"];
const FIRST_NAMES: [&str; 8] = ["Erika", "Max", "Léa", "Oğuz", "Ingrid", "John", "Zoë", "Søren"];
const LAST_NAMES: [&str; 8] =
    ["Muster", "Müller", "O'Brien", "de la Cruz", "Nowak", "Smith", "Yılmaz", "Lindström"];
const COMPLAINTS: [&str; 10] = [
    "article {} is not on the price list",
    "customer {} is blocked",
    "tax code of article {} is missing",
    "delivery address {} is outside of the delivery area",
    "credit limit of customer {} is exceeded",
    "unit of measure of line {} is unknown",
    "payment term {} is missing",
    "warehouse {} is closed for stock-taking",
    "field {} is too long",
    "currency is not set up for customer {}",
];
const COMPANIES: [&str; 4] = ["north", "south", "east", "west"];

/// How many orders to make.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// All of them.
    pub orders: u64,
    /// How many of those are lost.
    pub lost: u64,
    /// How many of the newest wait for their first attempt.
    pub queued: u64,
    /// The time over which they are spread, up to now.
    pub span: SignedDuration,
}

/// The number of test order `n` in the shop and in the ERP.
pub fn numbers(n: u64) -> (String, String) {
    (format!("{PREFIX}{n:08}"), format!("SO-{n:08}"))
}

crate::combined_port! {
    /// What it takes to make orders that look as if they had happened.
    pub trait FillLedger: OrderIntake, OrderFailures, OrderTransfers, LedgerProof, StatisticsFolding, Outbox
}

/// Makes orders.
pub struct Filler {
    ledger: Arc<dyn FillLedger>,
    clock: Arc<dyn Clock>,
}

impl Filler {
    /// Makes them in this ledger.
    pub fn new(ledger: Arc<dyn FillLedger>, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, clock }
    }

    /// Orders that the ledger has received so far.
    pub async fn there(&self) -> Result<u64, StoreError> {
        self.ledger.count_received().await
    }

    /// Creates orders; `told` is called with the number of finished ones. Orders that are neither lost nor queued are
    /// in the ERP.
    pub async fn fill(&self, filling: Filling, told: impl Fn(u64)) -> Result<(), StoreError> {
        let now = self.clock.now();
        let base = self.ledger.count_received().await?;
        let Filling { orders, lost, queued, span } = filling;
        let mut made = 0;
        for batch in 0u64.. {
            let left = orders.saturating_sub(made).min(BATCH);
            if left == 0 {
                break;
            }
            let mut some = Vec::new();
            for n in made..made + left {
                let fate = match (is_one_of(n, lost, orders), n + queued >= orders) {
                    (true, _) => Fate::Lost,
                    (false, true) => Fate::Queued,
                    (false, false) => Fate::Confirmed,
                };
                let age = span.as_secs() - (span.as_secs() * signed(n)) / signed(orders.max(1));
                let at = now.checked_sub(SignedDuration::from_secs(age)).unwrap_or(now);
                some.push(Made::new(base + n, fate, at)?);
            }
            self.write(&some).await?;
            self.keep_notices(batch).await?;
            if batch % FOLD_EVERY == FOLD_EVERY - 1 {
                self.ledger.fold_statistics(now).await?;
            }
            made += left;
            told(made);
        }
        self.ledger.fold_statistics(now).await
    }

    async fn write(&self, made: &[Made]) -> Result<(), StoreError> {
        try_join_all(made.iter().map(|one| self.ledger.accept(one.placed.clone(), one.at))).await?;
        for attempt in 1..=MAX_TRIES {
            let fail = made.iter().filter(|one| one.failures >= attempt);
            let fail = fail.map(|one| self.ledger.record_failure(one.failure(attempt)));
            try_join_all(fail).await?;
        }
        let receipts = made.iter().filter(|one| one.fate == Fate::Confirmed);
        try_join_all(receipts.map(|one| self.ledger.confirm(one.receipt()))).await?;
        Ok(())
    }

    /// Puts the notices of test orders into mails that are not sent.
    async fn keep_notices(&self, batch: u64) -> Result<(), StoreError> {
        loop {
            let now = self.clock.now();
            let due = self.ledger.due_notices(now, 1_000).await?;
            let ours = due.into_iter().filter(|notice| {
                notice.detail.order_id.as_ref().is_some_and(|id| id.starts_with(PREFIX))
            });
            let notices: Vec<String> = ours.map(|notice| notice.id).collect();
            if notices.is_empty() {
                return Ok(());
            }
            let id = self.clock.unique_id();
            let text = format!("{} failures of test orders", notices.len());
            let mail = Mail {
                kind: NoticeKind::OrderFailed,
                sender: "fill@localhost".to_owned(),
                receivers: vec!["nobody@localhost".to_owned()],
                subject: format!("Test orders, part {batch}"),
                html: format!("<p>{text}</p>"),
                text,
                attachment: None,
                message_id: format!("<{id}@fill.localhost>"),
                in_reply_to: None,
                list_id: None,
            };
            let audience = "fill".to_owned();
            let mail = NewMail { id, audience, mail, notices, keep_only: true, now };
            self.ledger.compose_mails(vec![mail], None).await?;
        }
    }
}

/// Most failed attempts of one order.
const MAX_TRIES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Confirmed,
    Lost,
    Queued,
}

/// A test order.
struct Made {
    n: u64,
    key: OrderKey,
    placed: Placed,
    at: Timestamp,
    fate: Fate,
    failures: u32,
}

impl Made {
    fn new(n: u64, fate: Fate, at: Timestamp) -> Result<Self, StoreError> {
        let document = document(n, at);
        let order = Order::parse(document.as_bytes(), &IntakeRules::of_bytes(document.len()));
        let order = order.map_err(|fault| StoreError::Refused(SharedError(Arc::new(fault))))?;
        let tries = u32::try_from(dice(n, 1) % u64::from(MAX_TRIES)).unwrap_or(0) + 1;
        let failures = match fate {
            Fate::Lost => tries,
            Fate::Confirmed if dice(n, 2).is_multiple_of(50) => 1,
            _ => 0,
        };
        let key = order.key.clone();
        let source = OrderSource::CommandLine;
        let placed = Placed { order: Arc::new(order), source, trace: Trace::default() };
        Ok(Self { n, key, placed, at, fate, failures })
    }

    fn failure(&self, attempt: u32) -> FailureRequest {
        // A few kinds of failure make up most of them.
        let kinds = (COMPLAINTS.len() * COMPANIES.len()) as u64;
        let kind = (dice(self.n, 3) % kinds) * (dice(self.n, 4) % kinds) / kinds;
        let kind = usize::try_from(kind).unwrap_or(0);
        let complaint = COMPLAINTS[kind % COMPLAINTS.len()];
        let company = COMPANIES[kind / COMPLAINTS.len() % COMPANIES.len()];
        let thing = format!("'{}'", dice(self.n, 5) % 5_000);
        let message = format!("{} in company {company}", complaint.replace("{}", &thing));
        let (class, code, status) = match kind % 8 {
            0..=4 => (ErrorClass::Rejected, "http_422", 422),
            5 => (ErrorClass::Rejected, "http_400", 400),
            6 => (ErrorClass::Unavailable, "http_503", 503),
            _ => (ErrorClass::UnknownOutcome, "timeout", 504),
        };
        let at = later(self.at, i64::from(attempt) * 60);
        let failed = FailedAttempt {
            attempt,
            max_count: None,
            failure: Failure {
                request: Some("POST https://erp.example/orders".to_owned()),
                status: Some(status),
                ..Failure::new(class, code, &message, Stage::After)
            },
            occurred_at: at,
            worker: None,
        };
        FailureRequest {
            key: self.key.clone(),
            failed,
            trigger: if attempt == 1 { Trigger::Checkout } else { Trigger::Retry },
            duration_ms: 20 + dice(self.n, 6) % 400,
            order: None,
            policy: RetryPolicy {
                // Due far in the future.
                schedule: vec![Duration::from_hours(60 * 24)],
                on_rejected: OnRejected::Park,
                settle: Duration::from_secs(60),
                ask_every: Duration::from_secs(2),
            },
            now: at,
        }
    }

    fn receipt(&self) -> ConfirmRequest {
        ConfirmRequest {
            key: self.key.clone(),
            attempt: self.failures + 1,
            trigger: if self.failures == 0 { Trigger::Checkout } else { Trigger::Retry },
            worker: "fill".to_owned(),
            erp_order_id: Some(numbers(self.n).1),
            request: "POST https://erp.example/orders".to_owned(),
            status: 201,
            duration_ms: 20 + dice(self.n, 6) % 400,
            found: false,
            notice: None,
            now: later(self.at, 2 + i64::from(self.failures) * 120),
        }
    }
}

fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(at)
}

fn document(n: u64, at: Timestamp) -> String {
    let mut share = dice(n, 10) % 100;
    let shop = SHOPS.iter().find(|(.., part)| match share.checked_sub(*part) {
        Some(rest) => {
            share = rest;
            false
        }
        None => true,
    });
    let (shop, currency, _) = shop.copied().unwrap_or(SHOPS[0]);
    let customer = dice(n, 11) % 100_000;
    let pick =
        |names: [&'static str; 8], salt| names[usize::from(dice(n, salt).to_le_bytes()[0] % 8)];
    let (first, last) = (pick(FIRST_NAMES, 12), pick(LAST_NAMES, 13));
    let payment = PAYMENTS[usize::from(dice(n, 14).to_le_bytes()[0] % 4)];
    let (mut lines, mut cents) = (Vec::new(), 0);
    for line in 0..1 + dice(n, 15) % 5 {
        let (article, quantity) = (dice(n, 20 + line) % 5_000, 1 + dice(n, 30 + line) % 3);
        let price = 199 + article * 7;
        cents += price * quantity;
        lines.push(json!({
            "sku": format!("SKU-{article:04}"), "name": format!("Article {article}"),
            "quantity": quantity.to_string(), "unit_price": money(price), "tax_rate": "19"
        }));
    }
    let address = json!({
        "name": format!("{first} {last}"), "street": format!("Hauptstraße {}", 1 + n % 200),
        "postcode": format!("{:05}", 10_000 + n % 80_000), "city": "Musterstadt"
    });
    json!({
        "order_id": numbers(n).0, "shop": shop, "state": "payed",
        "placed_at": at.to_string(), "currency": currency, "total": money(cents),
        "customer": {
            "number": format!("C-{customer:06}"), "name": format!("{first} {last}"),
            "email": format!("customer{customer}@example.com"), "locale": "de"
        },
        "lines": lines, "invoice_address": address.clone(), "delivery_address": address,
        "payment": {"method": payment}, "shipping": {"method": "parcel"}, "remark": ""
    })
    .to_string()
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whether `n` is one of `some` numbers that are spread evenly over `0..all`.
fn is_one_of(n: u64, some: u64, all: u64) -> bool {
    let before = |n: u64| u128::from(n) * u128::from(some.min(all)) / u128::from(all.max(1));
    before(n) != before(n + 1)
}

/// A number that looks random and is the same for the same `n` and `salt` (splitmix64).
fn dice(n: u64, salt: u64) -> u64 {
    let mut z = n.wrapping_mul(64).wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_lost_as_were_asked_for() {
        for (some, all) in [(0, 10), (3, 10), (10, 10), (99, 10), (50_000, 1_000_000)] {
            let lost = (0..all).filter(|n| is_one_of(*n, some, all)).count() as u64;
            assert_eq!(lost, some.min(all));
        }
    }

    #[test]
    fn every_made_up_order_is_a_good_one_and_failures_are_of_some_forty_kinds() {
        let mut kinds = std::collections::BTreeSet::new();
        for n in 0..3_000 {
            let made = Made::new(n, Fate::Lost, Timestamp::UNIX_EPOCH).unwrap();
            kinds.insert(
                crate::domain::failure_summary::FailureSummary::of(&made.failure(1).failed.failure)
                    .fingerprint,
            );
        }
        assert!((30..=40).contains(&kinds.len()), "{}", kinds.len());
    }
}

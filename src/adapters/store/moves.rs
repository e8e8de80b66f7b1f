//! What a transaction does to the numbers of orders. The transaction itself writes it, as a few rows of `moves`,
//! and nobody waits for a counter; the sweeper adds them up (`statistics.rs`), and readers see both together.

use std::collections::BTreeMap;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::money::Sum;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Sql, Tx, Value};
use super::rows::places;

const MINUTE_MS: i64 = 60_000;
/// Columns of a row of `moves`.
const COLUMNS: usize = 13;
/// Rows in one statement.
const ROWS_AT_ONCE: usize = 100;

/// Where an order stands, as the counters know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Its phase; empty: outside of the ledger.
    phase: String,
    /// Of its failure if it is lost, else empty.
    fingerprint: String,
}

impl Place {
    /// Where that order stands.
    pub(super) fn of(record: &OrderRecord) -> Self {
        let is_lost = record.phase.state() == OrderState::OrderedFailed;
        let failure = record.last_failure.as_ref().filter(|_| is_lost);
        let fingerprint = failure.map(|f| f.summary.fingerprint.clone()).unwrap_or_default();
        Self { phase: record.phase.name().to_owned(), fingerprint }
    }

    /// In that phase, without a failure.
    pub(super) fn plain(phase: &str) -> Self {
        Self { phase: phase.to_owned(), fingerprint: String::new() }
    }

    /// In that phase; the fingerprint counts only while the order is lost.
    pub(super) fn stored(phase: &str, state: &str, fingerprint: Option<String>) -> Self {
        let is_lost = state == OrderState::OrderedFailed.as_str();
        let fingerprint = fingerprint.filter(|_| is_lost).unwrap_or_default();
        Self { phase: phase.to_owned(), fingerprint }
    }
}

/// What happens with a move, for the statistics of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Nothing,
    Received,
    Confirmed,
    Failed,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Received => "received",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }
}

/// A way that orders go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    minute: i64,
    shop: String,
    currency: String,
    was: Place,
    is: Place,
    what: What,
}

/// How many went it.
#[derive(Debug, Clone, Copy, Default)]
struct Gone {
    sum: Sum,
    failures: i64,
    last_ms: i64,
}

/// The moves of one transaction, added up.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Way, Gone>);

impl Moves {
    /// An order goes from one place to another; `failures` were counted on the way.
    pub(super) fn add(
        &mut self,
        (shop, currency): (&str, &str),
        (was, is): (Place, Place),
        (what, failures): (What, u32),
        sum: Sum,
        at_ms: i64,
    ) {
        if was == is && what == What::Nothing {
            return;
        }
        let (shop, currency) = (shop.to_owned(), currency.to_owned());
        let minute = at_ms.div_euclid(MINUTE_MS);
        let gone = self.0.entry(Way { minute, shop, currency, was, is, what }).or_default();
        gone.sum.orders += sum.orders;
        gone.sum.units += sum.units;
        gone.sum.nanos += sum.nanos;
        gone.sum.unsummed += sum.unsummed;
        gone.failures += i64::from(failures);
        gone.last_ms = gone.last_ms.max(at_ms);
    }

    /// An order is received and queued.
    pub(super) fn receive(&mut self, record: &OrderRecord) {
        self.add(
            (record.key.shop.as_str(), record.facts.currency.as_str()),
            (Place::default(), Place::plain("queued")),
            (What::Received, 0),
            Sum::of_total(record.facts.total.as_str()),
            record.received_at.as_millisecond(),
        );
    }

    /// A transition of an order: from that place, with `failures` counted.
    pub(super) fn change(&mut self, was: &Place, record: &OrderRecord, failures: u32) {
        let what = if failures > 0 { What::Failed } else { What::Nothing };
        self.add(
            (record.key.shop.as_str(), record.facts.currency.as_str()),
            (was.clone(), Place::of(record)),
            (what, failures),
            Sum::of_total(record.facts.total.as_str()),
            record.updated_at.as_millisecond(),
        );
    }

    /// An edit: the order leaves with its old total and comes back with its new one.
    pub(super) fn edit(&mut self, before: &OrderRecord, after: &OrderRecord) {
        for (record, is_back) in [(before, false), (after, true)] {
            let place = Place::of(record);
            let way = if is_back { (Place::default(), place) } else { (place, Place::default()) };
            let sum = Sum::of_total(record.facts.total.as_str());
            let whose = (record.key.shop.as_str(), record.facts.currency.as_str());
            self.add(whose, way, (What::Nothing, 0), sum, after.updated_at.as_millisecond());
        }
    }

    /// Writes them.
    pub(super) async fn write<T: Tx>(&self, tx: &mut T) -> Result<(), StoreError> {
        let rows: Vec<_> = self.0.iter().collect();
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let sql = format!(
                "INSERT INTO moves (at_ms, shop, currency, was, was_fingerprint, phase, fingerprint,
                  what, failures, orders, units, nanos, unsummed)
                VALUES {}",
                places(rows.len(), COLUMNS)
            );
            let args = rows.iter().flat_map(|(way, gone)| row(way, gone)).collect();
            tx.execute(&Sql::Built(sql), args).await?;
        }
        Ok(())
    }
}

fn row(way: &Way, gone: &Gone) -> Vec<Value> {
    sql_args![
        gone.last_ms,
        &way.shop,
        &way.currency,
        &way.was.phase,
        &way.was.fingerprint,
        &way.is.phase,
        &way.is.fingerprint,
        way.what.as_str(),
        gone.failures,
        gone.sum.orders,
        gone.sum.units,
        gone.sum.nanos,
        gone.sum.unsummed,
    ]
}

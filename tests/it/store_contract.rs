//! The contract of the ledger's ports, written once and run on PostgreSQL, on SQLite and on the model in memory.
//!
//! Every test has a ledger of its own and hands in the time, so nothing waits. This file holds the
//! ledger and the life of an order; the parts beside it hold everything else.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use order_relay::app::store::Store;
use order_relay::app::wiring as app;
use order_relay::config::settings::Settings;
use order_relay::config::sources::SettingsFile;
use order_relay::devtools::simulation::ledger::memory::MemoryLedger;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::domain::lifecycle::claim::{Admission, Doubt, HandBack, Intent};
use order_relay::domain::lifecycle::transitions::{FailedAttempt, InvalidTransition, Verdict};
use order_relay::domain::lifecycle::vocabulary::{Phase, Trigger};
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::{OrderFilter, ShopFilter};
use order_relay::domain::permission::Grants;
use order_relay::domain::retry::{OnRejected, RetryPolicy};
use order_relay::domain::trace::Trace;
use order_relay::ports::audit::Act;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::order_desk::OrderDetail;
use order_relay::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, FailureRequest, HandBackRequest,
    Incoming, OrderSource, Placed, Recorded, RenewRequest, Sweep,
};
use order_relay::ports::store_error::StoreError;
use order_relay::ports::workers::Worker;
use serde_json::json;
use tempfile::TempDir;

use crate::world::{
    Place, drop_postgres_schema, order, order_with, postgres_schema, postgres_url, unique_name,
};

/// Each promise runs on both databases, with a ledger of its own.
macro_rules! on_both_databases {
    ($($promise:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $promise() {
                let ledger = crate::store_contract::Ledger::open(crate::world::Place::Embedded).await;
                super::$promise(&ledger).await;
                ledger.end().await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test] async fn $promise() {
                let ledger = crate::store_contract::Ledger::open(crate::world::Place::Services).await;
                super::$promise(&ledger).await;
                ledger.end().await;
            })+
        }
    };
}

/// Each promise runs on both databases and on the model in memory (`devtools::simulation::ledger`), which is how
/// the model stays equal to them. On the databases alone run, named after `only in SQL`:
///
/// - what changes rows behind the ledger's back, to see whether the proof finds it or a neighbour suffers: most of
///   `proof.rs`, `an_order_that_is_deleted_is_counted_no_more` and
///   `one_broken_row_does_not_hold_up_its_neighbours`;
/// - what counts rows of a table that only SQL has: `folding_leaves_one_row_for_each_place`;
/// - all of `schema.rs`: migrations.
macro_rules! on_every_ledger {
    ($($promise:ident),+ $(,)?) => { on_every_ledger!($($promise),+; only in SQL:); };
    ($($promise:ident),+ $(,)?; only in SQL: $($of_sql:ident),* $(,)?) => {
        on_both_databases!($($promise,)+ $($of_sql,)*);
        mod in_memory {
            $(#[tokio::test] async fn $promise() {
                super::$promise(&crate::store_contract::Ledger::in_memory()).await;
            })+
        }
    };
}

mod agreement;
mod alarms;
mod back_office;
mod erasure;
mod faults;
mod figures;
mod channels;
mod mails;
mod model;
mod people;
mod proof;
mod receipts;
mod totals;
mod redrives;
mod refresh_tokens;
mod retention;
mod revisions;
mod schema;

on_every_ledger!(
    an_order_is_inserted_once_and_claimed_once,
    a_living_claim_keeps_others_away_and_a_dead_one_raises_doubt,
    asking_twice_under_one_name_is_asking_once,
    two_processes_racing_claim_every_order_exactly_once,
    another_payload_is_kept_beside_and_the_same_spaced_differently_is_a_duplicate,
    an_order_that_was_only_accepted_can_be_tried_by_its_number,
    a_retry_is_stale_unless_it_means_the_next_try,
    a_failure_is_counted_once_however_often_it_is_reported,
    many_reports_of_one_failure_at_once_count_once,
    an_order_is_parked_at_its_maximum_and_never_without_one,
    a_refused_order_is_parked_at_once_unless_the_policy_retries,
    the_erp_s_retry_after_is_obeyed_where_it_is_longer,
    an_unknown_outcome_is_asked_about_and_never_sent_blindly,
    a_late_failure_of_a_confirmed_order_is_refused,
    a_failure_of_an_unknown_order_needs_the_order,
    a_receipt_confirms_from_every_state,
    a_second_receipt_with_another_number_is_reported,
    a_claim_that_is_handed_back_leaves_what_its_holder_knew,
    only_the_holder_renews_a_claim,
    what_a_dead_process_never_began_is_free_and_the_rest_is_asked_about,
    only_the_claims_of_the_dead_process_end,
    a_person_s_attempt_that_never_began_leaves_the_order_parked,
    an_order_that_waits_for_its_turn_is_stored_and_not_claimed,
    a_trial_takes_what_never_failed_first,
    a_ledger_tells_its_own_time_where_it_has_a_clock,
    what_lies_about_is_found_and_nothing_else,
    an_order_that_was_written_long_after_it_came_is_found,
    a_receipt_and_another_claim_at_once_confirm_the_order_once,
    an_order_that_is_swept_keeps_both_parts_of_its_trace_context,
    numbers_as_large_as_the_wire_allows_are_taken,
    one_refused_value_among_fifty_fails_alone,
    text_of_any_kind_comes_back_as_it_went_in;
    only in SQL: one_broken_row_does_not_hold_up_its_neighbours
);

/// A ledger for one test.
pub struct Ledger {
    pub store: Arc<dyn Store>,
    source: Source,
}

enum Source {
    Database(Database),
    Memory(MemoryLedger),
}

/// Where a ledger in a database is.
pub struct Database {
    pub place: Place,
    name: String,
    folder: TempDir,
    pub url: String,
}

impl Ledger {
    /// A fresh one with the tables of this release.
    pub async fn open(place: Place) -> Self {
        let ledger = Self::open_empty(place).await;
        ledger.store.migrate(&|_, _| {}).await.expect("the tables can be made");
        ledger
    }

    /// A fresh one without tables.
    pub async fn open_empty(place: Place) -> Self {
        let (name, folder) = (unique_name(), tempfile::tempdir().expect("a folder"));
        let url = match place {
            Place::Embedded => format!("sqlite://{}", folder.path().join("ledger.db").display()),
            Place::Services => postgres_schema(&postgres_url(), &name).await,
        };
        let store = open_store(&url);
        Self { store, source: Source::Database(Database { place, name, folder, url }) }
    }

    /// A fresh one in memory.
    pub fn in_memory() -> Self {
        let memory = MemoryLedger::default();
        Self { store: Arc::new(memory.clone()), source: Source::Memory(memory) }
    }

    /// The same ledger as another process opens it.
    pub fn opened_again(&self) -> Arc<dyn Store> {
        match &self.source {
            Source::Database(database) => open_store(&database.url),
            Source::Memory(memory) => Arc::new(memory.clone()),
        }
    }

    /// The database that it is in.
    pub fn database(&self) -> &Database {
        match &self.source {
            Source::Database(database) => database,
            Source::Memory(_) => panic!("SQL does not reach a ledger in memory"),
        }
    }

    /// Changes rows directly in the database; returns how many.
    pub async fn tamper(&self, sql: &str) -> u64 {
        let Database { place, url, .. } = self.database();
        match place {
            Place::Embedded => {
                let pool = sqlx::SqlitePool::connect(url).await.expect("the file opens");
                let done = sqlx::query(sql).execute(&pool).await.expect("it can be changed");
                pool.close().await;
                done.rows_affected()
            }
            Place::Services => {
                let pool = sqlx::PgPool::connect(url).await.expect("PostgreSQL");
                let done = sqlx::query(sql).execute(&pool).await.expect("it can be changed");
                pool.close().await;
                done.rows_affected()
            }
        }
    }

    /// Deletes it.
    pub async fn end(self) {
        drop(self.store);
        let Source::Database(Database { place, name, folder, .. }) = self.source else { return };
        drop(folder);
        if place == Place::Services {
            drop_postgres_schema(&postgres_url(), &name).await;
        }
    }

    /// Admits an order message under this name, for ten seconds.
    pub async fn admit(&self, id: &str, worker: &str, now: Timestamp) -> Admission {
        admission(self.admit_placed(placed(&order(id)), worker, now).await)
    }

    async fn admit_placed(&self, placed: Placed, worker: &str, now: Timestamp) -> Admitted {
        let request =
            AdmitRequest { incoming: Incoming::Placed(placed), intent: claim(worker, now), now };
        self.store.admit(request).await.expect("the ledger answers")
    }

    /// Requests one attempt of a known order.
    pub async fn again(
        &self,
        id: &str,
        attempt: u32,
        trigger: Trigger,
        now: Timestamp,
    ) -> Admitted {
        let incoming = Incoming::Again { key: key(id), attempt, trigger };
        let worker = format!("again-{attempt}-{}", trigger.as_str());
        let request = AdmitRequest { incoming, intent: claim(&worker, now), now };
        self.store.admit(request).await.expect("the ledger answers")
    }

    /// Counts a failure.
    pub async fn fail(&self, request: FailureRequest) -> Recorded {
        self.store.record_failure(request).await.expect("the ledger answers")
    }

    /// Confirms an order.
    pub async fn confirm(&self, id: &str, attempt: u32, number: &str, now: Timestamp) -> Confirmed {
        self.store.confirm(receipt(id, attempt, number, now)).await.expect("the ledger answers")
    }

    /// An order with its history.
    pub async fn order(&self, id: &str) -> OrderDetail {
        let found = self.store.order(&key(id)).await.expect("the ledger answers");
        found.unwrap_or_else(|| panic!("there is no order {id}"))
    }

    /// The name of an order's phase.
    pub async fn phase(&self, id: &str) -> &'static str {
        self.order(id).await.record.phase.name()
    }

    /// A lost order, parked.
    pub async fn parked(&self, id: &str, now: Timestamp) {
        self.admit(id, "w", now).await;
        let refused = FailureRequest {
            failed: failed_as(ErrorClass::Rejected, 1, now),
            ..failure(id, 1, now)
        };
        self.fail(refused).await;
        assert_eq!(self.phase(id).await, "parked");
    }
}

pub fn open_store(url: &str) -> Arc<dyn Store> {
    let env =
        [("ORDER_RELAY__DATABASE__URL", url), ("ORDER_RELAY__DATABASE__MAX_CONNECTIONS", "4")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter();
    let settings = Settings::load(SettingsFile::None, env, &[]).expect("good settings");
    app::open_store(&settings).expect("the address is right")
}

/// A moment of the test's own time.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("within time")
}

pub fn key(id: &str) -> OrderKey {
    let (shop, order_id) = id.split_once('/').unwrap_or(("default", id));
    OrderKey::new(shop, order_id).expect("a good key")
}

pub fn placed(document: &str) -> Placed {
    let order =
        Order::parse(document.as_bytes(), &IntakeRules::of_bytes(1 << 20)).expect("a good order");
    Placed { order: Arc::new(order), source: OrderSource::Broker, trace: Trace::default() }
}

pub fn claim(worker: &str, now: Timestamp) -> Intent {
    let until = now + SignedDuration::from_secs(10);
    Intent::Claim { worker: worker.to_owned(), until, begins: true }
}

pub fn admission(admitted: Admitted) -> Admission {
    match admitted {
        Admitted::Known { admission, .. } => admission,
        Admitted::Unknown => panic!("the ledger does not know the order"),
        Admitted::Gone { .. } => panic!("the order is gone"),
    }
}

pub fn policy() -> RetryPolicy {
    RetryPolicy {
        schedule: vec![Duration::from_secs(30), Duration::from_secs(60)],
        on_rejected: OnRejected::Park,
        settle: Duration::from_secs(20),
        ask_every: Duration::from_secs(2),
    }
}

pub fn failed(attempt: u32, now: Timestamp) -> FailedAttempt {
    FailedAttempt {
        attempt,
        max_count: Some(3),
        failure: Failure {
            request: Some("POST http://erp/orders".to_owned()),
            status: Some(503),
            ..Failure::new(ErrorClass::Unavailable, "http_503", "maintenance", Stage::After)
        },
        occurred_at: now,
        worker: Some("w".to_owned()),
    }
}

/// The same with another class.
pub fn failed_as(class: ErrorClass, attempt: u32, now: Timestamp) -> FailedAttempt {
    let mut failed = failed(attempt, now);
    failed.failure.class = class;
    failed
}

pub fn failure(id: &str, attempt: u32, now: Timestamp) -> FailureRequest {
    FailureRequest {
        key: key(id),
        failed: failed(attempt, now),
        trigger: Trigger::Checkout,
        duration_ms: 12,
        order: None,
        policy: policy(),
        now,
    }
}

pub fn receipt(id: &str, attempt: u32, number: &str, now: Timestamp) -> ConfirmRequest {
    ConfirmRequest {
        key: key(id),
        attempt,
        trigger: Trigger::Checkout,
        worker: "w".to_owned(),
        erp_order_id: Some(number.to_owned()),
        request: "POST http://erp/orders".to_owned(),
        status: 201,
        duration_ms: 9,
        found: false,
        notice: None,
        now,
    }
}

pub fn act(reason: &str, now: Timestamp) -> Act {
    Act {
        id: SystemClock.unique_id(),
        actor: "test".to_owned(),
        from: None,
        grants: Grants::all(),
        reason: Some(reason.to_owned()),
        now,
    }
}

fn verdict(recorded: Recorded) -> Option<Verdict> {
    match recorded {
        Recorded::Counted { verdict, .. } => verdict,
        other => panic!("not counted: {other:?}"),
    }
}

fn is_new(recorded: &Recorded) -> bool {
    matches!(recorded, Recorded::Counted { new: true, .. })
}

async fn an_order_is_inserted_once_and_claimed_once(ledger: &Ledger) {
    let first = ledger.admit_placed(placed(&order("1")), "a", at(0)).await;
    let Admitted::Known { admission, record, document, conflict, new } = first else {
        panic!("it is known now");
    };
    assert_eq!((admission, conflict, new), (Admission::Send { attempt: 1 }, false, true));
    assert_eq!((&*document, record.phase.name()), (&*order("1"), "queued"));
    assert_eq!(record.claim.expect("it is claimed").worker, "a");
    let second = ledger.admit_placed(placed(&order("1")), "b", at(1)).await;
    assert!(matches!(second, Admitted::Known { admission: Admission::Busy, new: false, .. }));
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 1);
}

async fn a_living_claim_keeps_others_away_and_a_dead_one_raises_doubt(ledger: &Ledger) {
    assert_eq!(ledger.admit("1", "a", at(0)).await, Admission::Send { attempt: 1 });
    assert_eq!(ledger.admit("1", "b", at(9)).await, Admission::Busy);
    let doubt = Doubt::Unclear { since: at(10) };
    assert_eq!(ledger.admit("1", "b", at(10)).await, Admission::AskFirst { attempt: 1, doubt });
    // Another worker dies in the middle of asking: it has sent nothing, so the doubt grows no younger.
    assert_eq!(ledger.admit("1", "c", at(25)).await, Admission::AskFirst { attempt: 1, doubt });
    let (key, worker) = (key("1"), "c".to_owned());
    let begins = RenewRequest { key, worker, until: at(40), begins: true, now: at(30) };
    assert!(ledger.store.renew_claim(begins).await.expect("the ledger answers"));
    let doubt = Doubt::Unclear { since: at(40) };
    assert_eq!(ledger.admit("1", "d", at(45)).await, Admission::AskFirst { attempt: 1, doubt });
}

async fn asking_twice_under_one_name_is_asking_once(ledger: &Ledger) {
    assert_eq!(ledger.admit("1", "a", at(0)).await, Admission::Send { attempt: 1 });
    assert_eq!(ledger.admit("1", "a", at(1)).await, Admission::Send { attempt: 1 });
    let claim = ledger.order("1").await.record.claim.expect("it is claimed");
    assert_eq!(claim.until, at(11), "the second answer's lease counts");
}

async fn two_processes_racing_claim_every_order_exactly_once(ledger: &Ledger) {
    let processes = [ledger.opened_again(), ledger.opened_again()];
    let asked = (0..200).map(|n: usize| {
        let (store, id) = (&processes[n % 2], format!("R-{}", n / 4));
        let incoming = Incoming::Placed(placed(&order(&id)));
        let intent = claim(&format!("delivery-{n}"), at(0));
        async move { (id, store.admit(AdmitRequest { incoming, intent, now: at(0) }).await) }
    });
    let mut sent = std::collections::BTreeMap::<String, (u32, u32)>::new();
    for (id, admitted) in join_all(asked).await {
        let Ok(Admitted::Known { admission, new, .. }) = admitted else { panic!("{admitted:?}") };
        let counts = sent.entry(id).or_default();
        counts.0 += u32::from(admission == Admission::Send { attempt: 1 });
        counts.1 += u32::from(new);
    }
    assert_eq!(sent.len(), 50);
    assert!(sent.values().all(|counts| *counts == (1, 1)), "{sent:?}");
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 50);
}

async fn another_payload_is_kept_beside_and_the_same_spaced_differently_is_a_duplicate(
    ledger: &Ledger,
) {
    ledger.admit("1", "a", at(0)).await;
    let spaced = order("1").replace(':', ": ").replace(',', " ,\n");
    let again = ledger.admit_placed(placed(&spaced), "b", at(1)).await;
    assert!(matches!(again, Admitted::Known { conflict: false, new: false, .. }), "{again:?}");
    let other = order_with("1", &json!({"total": "129.9"}));
    for _ in 0..2 {
        let conflict = ledger.admit_placed(placed(&other), "c", at(2)).await;
        let Admitted::Known { admission: Admission::Stale, conflict: true, document, .. } =
            conflict
        else {
            panic!("{conflict:?}");
        };
        assert_eq!(&*document, order("1"), "the first one stays");
    }
    let accepted = ledger.store.accept(placed(&other), at(3)).await.expect("the ledger answers");
    assert_eq!(accepted, Accepted::Conflict);
    let stored = ledger.order("1").await;
    let kept: Vec<&str> = stored.conflicts.iter().map(|kept| kept.document.as_str()).collect();
    assert_eq!((&*stored.document, kept), (&*order("1"), vec![&*other]));
}

async fn an_order_that_was_only_accepted_can_be_tried_by_its_number(ledger: &Ledger) {
    let accept = async |now| ledger.store.accept(placed(&order("1")), now).await.expect("answers");
    assert_eq!((accept(at(0)).await, accept(at(1)).await), (Accepted::New, Accepted::Duplicate));
    let Admitted::Known { admission, document, new, .. } =
        ledger.again("1", 1, Trigger::Checkout, at(2)).await
    else {
        panic!("it is known");
    };
    assert_eq!((admission, new), (Admission::Send { attempt: 1 }, false));
    assert_eq!(&*document, order("1"));
    let nobody = ledger.again("2", 1, Trigger::Retry, at(2)).await;
    assert!(matches!(nobody, Admitted::Unknown), "{nobody:?}");
}

async fn a_retry_is_stale_unless_it_means_the_next_try(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.fail(failure("1", 1, at(1))).await;
    for (attempt, trigger, expected) in [
        (1, Trigger::Retry, Admission::Stale),
        (3, Trigger::Retry, Admission::Stale),
        (2, Trigger::Checkout, Admission::Stale),
        (2, Trigger::Retry, Admission::Send { attempt: 2 }),
    ] {
        let admitted = admission(ledger.again("1", attempt, trigger, at(40)).await);
        assert_eq!(admitted, expected, "try {attempt} by {}", trigger.as_str());
    }
    assert_eq!(ledger.admit("1", "z", at(60)).await, Admission::Stale, "checkout does not retry");
}

async fn a_failure_is_counted_once_however_often_it_is_reported(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let first = ledger.fail(failure("1", 1, at(1))).await;
    assert!(is_new(&first));
    let retry = Verdict::Retry { attempt: 2, delay: Duration::from_secs(30) };
    assert_eq!(verdict(first), Some(retry));
    let again = ledger.fail(failure("1", 1, at(11))).await;
    assert!(!is_new(&again));
    let retry = Verdict::Retry { attempt: 2, delay: Duration::from_secs(20) };
    assert_eq!(verdict(again), Some(retry), "the same verdict, seen from later");
    assert!(is_new(&ledger.fail(failure("1", 2, at(40))).await));
    assert_eq!(verdict(ledger.fail(failure("1", 1, at(41))).await), None, "a later try decides");
    let stored = ledger.order("1").await;
    assert_eq!((stored.record.fail_count, stored.attempts.len()), (2, 2));
    let notices = ledger.store.due_notices(at(50), 10).await.expect("the ledger answers");
    let ids: Vec<&str> = notices.iter().map(|notice| notice.id.as_str()).collect();
    assert_eq!(ids, ["order_failed:default/1#1", "order_failed:default/1#2"]);
    assert_eq!((notices[1].detail.fail_count, notices[1].detail.max_count), (2, Some(3)));
}

async fn many_reports_of_one_failure_at_once_count_once(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let other = ledger.opened_again();
    let reports = (0..40u32).map(|n| {
        let store = if n % 2 == 0 { &ledger.store } else { &other };
        store.record_failure(failure("1", 1 + n % 2, at(1)))
    });
    let recorded = join_all(reports).await;
    let new = recorded.iter().filter(|r| r.as_ref().is_ok_and(is_new)).count();
    assert_eq!((new, ledger.order("1").await.record.fail_count), (2, 2));
}

async fn an_order_is_parked_at_its_maximum_and_never_without_one(ledger: &Ledger) {
    for (id, max, last) in [("with", Some(3), "parked"), ("without", None, "retrying")] {
        ledger.admit(id, "w", at(0)).await;
        for attempt in 1..=3 {
            let now = at(i64::from(attempt) * 100);
            let failed = FailedAttempt { max_count: max, ..failed(attempt, now) };
            let verdict =
                verdict(ledger.fail(FailureRequest { failed, ..failure(id, attempt, now) }).await);
            let parks = last == "parked" && attempt == 3;
            assert_eq!(verdict == Some(Verdict::Park), parks, "{id}, try {attempt}: {verdict:?}");
        }
        let record = ledger.order(id).await.record;
        assert_eq!((record.phase.name(), record.fail_count, record.max_count), (last, 3, max));
    }
    let by_nobody = admission(ledger.again("with", 4, Trigger::Sweeper, at(900)).await);
    assert_eq!(by_nobody, Admission::Stale);
    let by_hand = admission(ledger.again("with", 4, Trigger::Operator, at(900)).await);
    assert_eq!(by_hand, Admission::Send { attempt: 4 }, "a person ignores the maximum");
}

async fn a_refused_order_is_parked_at_once_unless_the_policy_retries(ledger: &Ledger) {
    let retrying = RetryPolicy { on_rejected: OnRejected::Retry, ..policy() };
    for (id, policy, phase) in [("park", policy(), "parked"), ("retry", retrying, "retrying")] {
        ledger.admit(id, "w", at(0)).await;
        let failed = failed_as(ErrorClass::Rejected, 1, at(1));
        ledger.fail(FailureRequest { failed, policy, ..failure(id, 1, at(1)) }).await;
        assert_eq!(ledger.phase(id).await, phase);
    }
}

async fn the_erp_s_retry_after_is_obeyed_where_it_is_longer(ledger: &Ledger) {
    let hour = 3600;
    for (id, asked, waits) in
        [("short", 5, 30), ("long", 120, 120), ("endless", 900 * hour, 24 * hour)]
    {
        ledger.admit(id, "w", at(0)).await;
        let mut failed = failed(1, at(1));
        failed.failure.retry_after = Some(Duration::from_secs(asked));
        ledger.fail(FailureRequest { failed, ..failure(id, 1, at(1)) }).await;
        let due = ledger.order(id).await.record.phase.due_at();
        assert_eq!(due, Some(at(1 + i64::try_from(waits).expect("small"))), "{id}");
    }
}

async fn an_unknown_outcome_is_asked_about_and_never_sent_blindly(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let failed = failed_as(ErrorClass::UnknownOutcome, 1, at(5));
    let asks = verdict(ledger.fail(FailureRequest { failed, ..failure("1", 1, at(5)) }).await);
    let ask_at = at(7);
    assert_eq!(asks, Some(Verdict::Ask { at: ask_at }));
    let record = ledger.order("1").await.record;
    assert_eq!((record.phase, record.fail_count), (Phase::OutcomeUnknown { ask_at }, 1));
    for trigger in [Trigger::Sweeper, Trigger::Operator] {
        let admitted = admission(ledger.again("1", 2, trigger, at(100)).await);
        let doubt = Doubt::Unclear { since: at(5) };
        assert_eq!(admitted, Admission::AskFirst { attempt: 2, doubt });
        let how = HandBack::AskAt(at(200));
        let worker = format!("again-2-{}", trigger.as_str());
        let back = HandBackRequest { key: key("1"), worker, how, now: at(101) };
        ledger.store.hand_back(back).await.expect("the ledger answers");
        assert_eq!(ledger.order("1").await.record.phase.due_at(), Some(at(200)));
    }
}

async fn a_late_failure_of_a_confirmed_order_is_refused(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    ledger.confirm("1", 1, "ERP-1", at(1)).await;
    ledger.parked("2", at(0)).await;
    ledger
        .store
        .remove_order(&key("2"), &act("by hand", at(1)))
        .await
        .expect("answers")
        .expect("may");
    for (id, phase) in [("1", "transferred"), ("2", "removed")] {
        let before = ledger.order(id).await.record;
        let late = ledger.fail(failure(id, 2, at(2))).await;
        let Recorded::Invalid(InvalidTransition::InvalidState { phase: told, .. }) = late else {
            panic!("{late:?}");
        };
        assert_eq!(told, phase);
        let copy = ledger.fail(failure(id, 1, at(2))).await;
        assert!(!is_new(&copy), "a copy of a try that ended counts nothing");
        assert_eq!(ledger.order(id).await.record, before);
    }
}

async fn a_failure_of_an_unknown_order_needs_the_order(ledger: &Ledger) {
    let foreign = FailureRequest {
        failed: FailedAttempt { worker: None, ..failed(4, at(1)) },
        ..failure("F-1", 4, at(1))
    };
    let without = ledger.fail(foreign.clone()).await;
    assert!(matches!(without, Recorded::Unknown), "{without:?}");
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 0);
    let came_along = Placed { source: OrderSource::OrderFailed, ..placed(&order("F-1")) };
    let with = FailureRequest { order: Some(came_along), ..foreign };
    assert!(is_new(&ledger.fail(with.clone()).await));
    assert!(!is_new(&ledger.fail(with).await));
    let stored = ledger.order("F-1").await;
    assert_eq!((stored.record.fail_count, stored.record.last_attempt), (1, 4));
    assert_eq!((stored.source.as_str(), stored.record.phase.name()), ("order_failed", "retrying"));
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 1);
}

async fn a_receipt_confirms_from_every_state(ledger: &Ledger) {
    ledger.admit("queued", "w", at(0)).await;
    let hold = AdmitRequest {
        incoming: Incoming::Placed(placed(&order("held"))),
        intent: Intent::Hold,
        now: at(0),
    };
    assert_eq!(admission(ledger.store.admit(hold).await.expect("answers")), Admission::Held);
    for id in ["retrying", "parked", "outcome_unknown", "removed"] {
        ledger.admit(id, "w", at(0)).await;
        let class = match id {
            "retrying" => ErrorClass::Unavailable,
            "outcome_unknown" => ErrorClass::UnknownOutcome,
            _ => ErrorClass::Rejected,
        };
        let failed = failed_as(class, 1, at(1));
        ledger.fail(FailureRequest { failed, ..failure(id, 1, at(1)) }).await;
    }
    let removed = ledger.store.remove_order(&key("removed"), &act("x", at(2))).await;
    removed.expect("the ledger answers").expect("it may be removed");
    for id in ["queued", "held", "retrying", "parked", "outcome_unknown", "removed"] {
        assert_eq!(ledger.phase(id).await, id);
        let confirmed = ledger.confirm(id, 2, &format!("ERP-{id}"), at(3)).await;
        assert!(confirmed.first && confirmed.other_erp_order_id.is_none(), "{id}: {confirmed:?}");
        assert_eq!(confirmed.fail_count, u32::from(!["queued", "held"].contains(&id)));
        let record = ledger.order(id).await.record;
        let erp_order_id = Some(format!("ERP-{id}"));
        assert_eq!(record.phase, Phase::Transferred { erp_order_id });
        assert_eq!((record.claim, record.unclear_since), (None, None));
    }
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
}

async fn a_second_receipt_with_another_number_is_reported(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    assert!(ledger.confirm("1", 1, "ERP-1", at(1)).await.first);
    let copy = ledger.confirm("1", 1, "ERP-1", at(2)).await;
    assert_eq!((copy.first, copy.other_erp_order_id), (false, None));
    let twice = ledger.confirm("1", 2, "ERP-2", at(3)).await;
    assert_eq!((twice.first, twice.other_erp_order_id.as_deref()), (false, Some("ERP-1")));
    let erp_order_id = Some("ERP-1".to_owned());
    assert_eq!(ledger.order("1").await.record.phase, Phase::Transferred { erp_order_id });
    let report = ledger.store.check_ledger(None).await.expect("the ledger answers");
    assert_eq!(report.violations.len(), 1, "the proof shows it: {report:?}");
    let nobody = ledger.store.confirm(receipt("nobody", 1, "ERP-3", at(4))).await;
    assert!(matches!(nobody, Err(StoreError::Corrupt { .. })), "{nobody:?}");
}

async fn a_claim_that_is_handed_back_leaves_what_its_holder_knew(ledger: &Ledger) {
    let back = |id: &str, worker: &str, how| HandBackRequest {
        key: key(id),
        worker: worker.to_owned(),
        how,
        now: at(2),
    };
    ledger.admit("1", "a", at(0)).await;
    ledger.store.hand_back(back("1", "b", HandBack::Hold)).await.expect("the ledger answers");
    assert_eq!(ledger.admit("1", "c", at(3)).await, Admission::Busy, "it was not b's to give");
    ledger.store.hand_back(back("1", "a", HandBack::Hold)).await.expect("the ledger answers");
    assert_eq!(ledger.phase("1").await, "held");
    assert_eq!(ledger.admit("1", "c", at(3)).await, Admission::Send { attempt: 1 });
    ledger.admit("2", "w", at(0)).await;
    let failed = failed_as(ErrorClass::UnknownOutcome, 1, at(1));
    ledger.fail(FailureRequest { failed, ..failure("2", 1, at(1)) }).await;
    ledger.again("2", 2, Trigger::Sweeper, at(60)).await;
    ledger.store.hand_back(back("2", "again-2-sweeper", HandBack::Park)).await.expect("answers");
    let record = ledger.order("2").await.record;
    assert_eq!((record.phase.name(), record.unclear_since, record.claim), ("parked", None, None));
    ledger.store.hand_back(back("nobody", "a", HandBack::Hold)).await.expect("nothing to do");
}

async fn only_the_holder_renews_a_claim(ledger: &Ledger) {
    ledger.admit("1", "a", at(0)).await;
    let renew = async |worker: &str, until, now| {
        let (key, worker) = (key("1"), worker.to_owned());
        let request = RenewRequest { key, worker, until, begins: true, now };
        let renewed = ledger.store.renew_claim(request).await;
        renewed.expect("the ledger answers")
    };
    assert!(!renew("b", at(30), at(1)).await);
    assert!(renew("a", at(30), at(9)).await);
    assert_eq!(ledger.admit("1", "b", at(29)).await, Admission::Busy);
    assert!(
        !renew("a", at(60), at(30)).await,
        "it has ended: somebody else may have taken it over"
    );
    ledger.confirm("1", 1, "ERP-1", at(30)).await;
    assert!(!renew("a", at(60), at(10)).await, "there is no claim any more");
}

/// Claims an order for a recipe with steps before its commit.
async fn prepare(ledger: &Ledger, id: &str, worker: &str, now: Timestamp) -> Admission {
    let incoming = Incoming::Placed(placed(&order(id)));
    let until = now + SignedDuration::from_secs(10);
    let intent = Intent::Claim { worker: worker.to_owned(), until, begins: false };
    let admitted = ledger.store.admit(AdmitRequest { incoming, intent, now }).await;
    admission(admitted.expect("the ledger answers"))
}

/// The orders that are overdue at that time.
async fn due(ledger: &Ledger, now: Timestamp) -> Vec<String> {
    let sweep = Sweep { again_after: Duration::ZERO, ..agreement::sweep(now) };
    let overdue = ledger.store.take_overdue(sweep).await.expect("the ledger answers");
    overdue.into_iter().map(|order| order.key.order_id.to_string()).collect()
}

async fn what_a_dead_process_never_began_is_free_and_the_rest_is_asked_about(ledger: &Ledger) {
    let send = Admission::Send { attempt: 1 };
    assert_eq!(prepare(ledger, "steps", "p.1", at(0)).await, send);
    assert_eq!(prepare(ledger, "begun", "p.2", at(0)).await, send);
    let (begun, worker) = (key("begun"), "p.2".to_owned());
    let begins = RenewRequest { key: begun, worker, until: at(20), begins: true, now: at(1) };
    assert!(ledger.store.renew_claim(begins).await.expect("the ledger answers"));
    assert_eq!(ledger.admit("at-once", "p.3", at(0)).await, send);
    assert_eq!(ledger.admit("steps", "q.1", at(1)).await, Admission::Busy);
    assert_eq!(due(ledger, at(2)).await, Vec::<String>::new());

    assert_eq!(ledger.store.abandon_claims("p", at(3)).await.expect("the ledger answers"), 3);
    assert_eq!(ledger.store.abandon_claims("p", at(3)).await.expect("the ledger answers"), 0);
    assert_eq!(due(ledger, at(3)).await, ["at-once", "begun", "steps"]);
    assert_eq!(ledger.admit("steps", "q.1", at(4)).await, send, "nothing of it was sent");
    let ask = |until| {
        let doubt = Doubt::Unclear { since: until };
        Admission::AskFirst { attempt: 1, doubt }
    };
    assert_eq!(ledger.admit("begun", "q.2", at(4)).await, ask(at(20)));
    assert_eq!(ledger.admit("at-once", "q.3", at(4)).await, ask(at(10)));
    assert_eq!(due(ledger, at(4)).await, Vec::<String>::new());

    let late = RenewRequest {
        key: key("steps"),
        worker: "p.1".to_owned(),
        until: at(30),
        begins: true,
        now: at(4),
    };
    assert!(!ledger.store.renew_claim(late).await.expect("the ledger answers"));
    ledger.confirm("begun", 1, "ERP-1", at(5)).await;
    assert_eq!(ledger.order("begun").await.record.phase.name(), "transferred");
}

async fn a_person_s_attempt_that_never_began_leaves_the_order_parked(ledger: &Ledger) {
    ledger.admit("1", "a", at(0)).await;
    let worker = Some("a".to_owned());
    let failed = FailedAttempt { worker, ..failed_as(ErrorClass::Rejected, 1, at(1)) };
    ledger.fail(FailureRequest { failed, ..failure("1", 1, at(1)) }).await;
    let again = async |trigger, worker: &str, now| {
        let incoming = Incoming::Again { key: key("1"), attempt: 2, trigger };
        let (worker, until) = (worker.to_owned(), now + SignedDuration::from_secs(10));
        let intent = Intent::Claim { worker, until, begins: false };
        let admitted = ledger.store.admit(AdmitRequest { incoming, intent, now }).await;
        admission(admitted.expect("the ledger answers"))
    };
    let send = Admission::Send { attempt: 2 };
    assert_eq!(again(Trigger::Operator, "p.1", at(5)).await, send);
    assert_eq!(again(Trigger::Sweeper, "q.1", at(6)).await, Admission::Stale);
    assert!(ledger.order("1").await.record.claim.is_some(), "it is being prepared");
    ledger.store.abandon_claims("p", at(7)).await.expect("the ledger answers");
    assert_eq!(due(ledger, at(8)).await, ["1"]);
    assert_eq!(again(Trigger::Sweeper, "q.1", at(8)).await, Admission::Stale);
    let record = ledger.order("1").await.record;
    assert_eq!((record.phase, record.claim, record.unclear_since), (Phase::Parked, None, None));
    assert_eq!(again(Trigger::Operator, "q.2", at(9)).await, send, "a person may ask again");
}

async fn only_the_claims_of_the_dead_process_end(ledger: &Ledger) {
    for (id, worker) in [("1", "p.1"), ("2", "p.1.2"), ("3", "p1.3"), ("4", "%.4"), ("5", "pp.5")] {
        ledger.admit(id, worker, at(0)).await;
    }
    ledger.confirm("1", 1, "ERP-1", at(1)).await;
    ledger.admit("6", "p.6", at(0)).await;
    for (process, ended) in [("", 0), ("%", 1), ("p", 1), ("p.1", 1), ("p1", 1), ("p.", 0)] {
        let claims = ledger.store.abandon_claims(process, at(2)).await;
        assert_eq!(claims.expect("the ledger answers"), ended, "`{process}`");
    }
    let beat = |name: &str, seen_at| Worker {
        name: name.to_owned(),
        roles: Vec::new(),
        started_at: at(0),
        seen_at,
    };
    ledger.store.heartbeat(&beat("p", at(1))).await.expect("it is written");
    ledger.store.heartbeat(&beat("q", at(2))).await.expect("it is written");
    ledger.store.heartbeat(&beat("p", at(3))).await.expect("it is written");
    let heartbeats = ledger.store.heartbeats().await.expect("the ledger answers");
    assert_eq!(heartbeats, [("p".to_owned(), at(3)), ("q".to_owned(), at(2))]);
}

async fn an_order_that_waits_for_its_turn_is_stored_and_not_claimed(ledger: &Ledger) {
    let incoming = || Incoming::Placed(placed(&order("1")));
    let wait = async |now| {
        let request = AdmitRequest { incoming: incoming(), intent: Intent::Wait, now };
        admission(ledger.store.admit(request).await.expect("the ledger answers"))
    };
    assert_eq!(wait(at(0)).await, Admission::Waits);
    let record = ledger.order("1").await.record;
    assert_eq!((record.phase.name(), record.claim), ("queued", None));
    assert_eq!(ledger.admit("1", "a", at(1)).await, Admission::Send { attempt: 1 });
    assert_eq!(wait(at(2)).await, Admission::Busy, "it is being sent");
    assert_eq!(wait(at(20)).await, Admission::Waits, "who finds a dead claim takes it over later");
    let doubt = Doubt::Unclear { since: at(11) };
    assert_eq!(ledger.admit("1", "b", at(30)).await, Admission::AskFirst { attempt: 1, doubt });
}

async fn a_ledger_tells_its_own_time_where_it_has_a_clock(ledger: &Ledger) {
    let first = ledger.store.ledger_time().await.expect("the ledger answers");
    let second = ledger.store.ledger_time().await.expect("the ledger answers");
    match &ledger.source {
        Source::Database(Database { place: Place::Services, .. }) => {
            let (first, second) = (first.expect("it has a clock"), second.expect("it has one"));
            assert!(Timestamp::UNIX_EPOCH < first && first <= second, "{first}, {second}");
        }
        _ => assert_eq!((first, second), (None, None)),
    }
}

async fn a_trial_takes_what_never_failed_first(ledger: &Ledger) {
    ledger.admit("failed", "w", at(0)).await;
    ledger.fail(failure("failed", 1, at(1))).await;
    for (id, now) in [("fresh", 50), ("fresher", 60)] {
        ledger.store.accept(placed(&order(id)), at(now)).await.expect("the ledger answers");
    }
    for (fresh_first, expected) in
        [(true, ["fresh", "fresher", "failed"]), (false, ["failed", "fresh", "fresher"])]
    {
        let sweep = Sweep {
            now: at(1_000),
            grace: Duration::ZERO,
            again_after: Duration::ZERO,
            shops: ShopFilter::default(),
            fresh_first,
            limit: 3,
        };
        let taken = ledger.store.take_overdue(sweep).await.expect("the ledger answers");
        let ids: Vec<&str> = taken.iter().map(|overdue| overdue.key.order_id.as_str()).collect();
        assert_eq!(ids, expected);
    }
}

async fn an_order_that_was_written_long_after_it_came_is_found(ledger: &Ledger) {
    let take = async |now| {
        let sweep = Sweep {
            now: at(now),
            grace: Duration::from_secs(10),
            again_after: Duration::from_secs(60),
            shops: ShopFilter::default(),
            fresh_first: false,
            limit: 100,
        };
        let taken = ledger.store.take_overdue(sweep).await.expect("the ledger answers");
        taken.into_iter().map(|overdue| overdue.key.order_id.to_string()).collect::<Vec<_>>()
    };
    ledger.admit("early", "w", at(9_000)).await;
    ledger.confirm("early", 1, "ERP-1", at(9_001)).await;
    assert!(take(10_000).await.is_empty());
    // The transaction of this one took longer than any other.
    ledger.store.accept(placed(&order("late")), at(5)).await.expect("the ledger answers");
    let (first, second) = (take(10_001).await, take(10_002).await);
    assert_eq!([first, second].concat(), ["late"]);
    let queued = OrderFilter { phase: Some("queued".to_owned()), ..OrderFilter::default() };
    let sort = "-received".parse().expect("a sort");
    let page = ledger.store.page_orders(&queued, sort, None, 10).await.expect("a page");
    assert_eq!(page.len(), 1);
}

/// Neither has a state to lock when it looks: whoever writes it first wins, and the other begins again.
async fn a_receipt_and_another_claim_at_once_confirm_the_order_once(ledger: &Ledger) {
    let other = ledger.opened_again();
    for n in 0..25 {
        let id = format!("r-{n}");
        ledger.admit(&id, "dead", at(0)).await;
        let incoming = Incoming::Again { key: key(&id), attempt: 1, trigger: Trigger::Sweeper };
        let (confirmed, admitted) = tokio::join!(
            ledger.store.confirm(receipt(&id, 1, &format!("ERP-{n}"), at(500))),
            other.admit(AdmitRequest { incoming, intent: claim("alive", at(500)), now: at(500) }),
        );
        assert!(confirmed.expect("the ledger answers").first, "{id}");
        drop(admitted.expect("the ledger answers"));
        assert_eq!(ledger.phase(&id).await, "transferred");
    }
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
}

async fn what_lies_about_is_found_and_nothing_else(ledger: &Ledger) {
    for (id, now) in [("shop-b/oldest", 0), ("shop-a/second", 1), ("shop-a/young", 95)] {
        let (shop, number) = id.split_once('/').expect("both");
        let document = order_with(number, &json!({"shop": shop}));
        ledger.store.accept(placed(&document), at(now)).await.expect("the ledger answers");
    }
    ledger.parked("parked", at(0)).await;
    ledger.admit("done", "w", at(0)).await;
    ledger.confirm("done", 1, "ERP-1", at(1)).await;
    ledger.admit("dead-claim", "w", at(2)).await;
    ledger.admit("retry-due", "w", at(3)).await;
    ledger.fail(failure("retry-due", 1, at(4))).await;
    ledger.admit("retry-late", "w", at(60)).await;
    ledger.fail(failure("retry-late", 1, at(61))).await;
    let sweep = Sweep {
        now: at(100),
        grace: Duration::from_secs(10),
        again_after: Duration::from_secs(60),
        shops: ShopFilter::Except(Vec::new()),
        fresh_first: false,
        limit: 100,
    };
    let take = async |sweep: &Sweep| -> Vec<String> {
        let taken = ledger.store.take_overdue(sweep.clone()).await.expect("the ledger answers");
        taken.into_iter().map(|overdue| format!("{}#{}", overdue.key, overdue.attempt)).collect()
    };
    let only = Sweep { shops: ShopFilter::Only(vec!["shop-b".to_owned()]), ..sweep.clone() };
    assert_eq!(take(&only).await, ["shop-b/oldest#1"]);
    assert_eq!(
        take(&Sweep { shops: ShopFilter::Only(Vec::new()), ..sweep.clone() }).await,
        [""; 0]
    );
    let few =
        Sweep { limit: 2, shops: ShopFilter::Except(vec!["shop-b".to_owned()]), ..sweep.clone() };
    assert_eq!(take(&few).await, ["shop-a/second#1", "default/dead-claim#1"], "oldest first");
    assert_eq!(take(&sweep).await, ["default/retry-due#2"], "what was swept is left alone");
    assert_eq!(take(&sweep).await, [""; 0]);
    let later = Sweep { now: at(170), ..sweep };
    let expected = [
        "shop-b/oldest#1",
        "shop-a/second#1",
        "default/dead-claim#1",
        "default/retry-due#2",
        "default/retry-late#2",
        "shop-a/young#1",
    ];
    assert_eq!(take(&later).await, expected);
}

async fn an_order_that_is_swept_keeps_both_parts_of_its_trace_context(ledger: &Ledger) {
    let trace = Trace { parent: Some("00-1-2-01".to_owned()), state: Some("shop=1".to_owned()) };
    let placed = Placed { trace: trace.clone(), ..placed(&order("1")) };
    ledger.store.accept(placed, at(0)).await.expect("the ledger answers");
    let sweep = Sweep {
        now: at(100),
        grace: Duration::from_secs(10),
        again_after: Duration::from_secs(60),
        shops: ShopFilter::default(),
        fresh_first: false,
        limit: 1,
    };
    let taken = ledger.store.take_overdue(sweep).await.expect("the ledger answers");
    assert_eq!(taken.into_iter().map(|overdue| overdue.trace).collect::<Vec<_>>(), [trace]);
}

async fn numbers_as_large_as_the_wire_allows_are_taken(ledger: &Ledger) {
    ledger.admit("1", "w", at(0)).await;
    let failed = FailedAttempt { max_count: Some(u32::MAX), ..failed(u32::MAX, at(1)) };
    let endless = FailureRequest { failed, duration_ms: u64::MAX, ..failure("1", 1, at(1)) };
    assert!(is_new(&ledger.fail(endless).await));
    let stored = ledger.order("1").await;
    assert_eq!((stored.record.last_attempt, stored.record.max_count), (u32::MAX, Some(u32::MAX)));
    assert_eq!(stored.attempts[0].duration_ms, i64::MAX.unsigned_abs());
}

async fn one_refused_value_among_fifty_fails_alone(ledger: &Ledger) {
    let requests: Vec<FailureRequest> = (0..50u32)
        .map(|n| FailureRequest {
            order: Some(placed(&order(&format!("B-{n}")))),
            // No row can have attempt 0.
            ..failure(&format!("B-{n}"), u32::from(n != 17), at(1))
        })
        .collect();
    let recorded = join_all(requests.into_iter().map(|r| ledger.store.record_failure(r))).await;
    for (n, result) in recorded.into_iter().enumerate() {
        match result {
            Ok(recorded) => assert!(n != 17 && is_new(&recorded), "{n}: {recorded:?}"),
            Err(error) => {
                assert!(n == 17 && matches!(error, StoreError::Refused(_)), "{n}: {error}");
            }
        }
    }
    assert_eq!(ledger.store.count_received().await.expect("the ledger answers"), 49);
}

async fn one_broken_row_does_not_hold_up_its_neighbours(ledger: &Ledger) {
    ledger.store.accept(placed(&order("N-17")), at(0)).await.expect("the ledger answers");
    let broken = "UPDATE orders SET customer_email = 'nobody' WHERE order_id = 'N-17'";
    assert_eq!(ledger.tamper(broken).await, 1);
    let ids: Vec<String> = (0..50).map(|n| format!("N-{n}")).collect();
    let admits = ids.iter().map(|id| {
        let incoming = Incoming::Placed(placed(&order(id)));
        ledger.store.admit(AdmitRequest { incoming, intent: claim(id, at(1)), now: at(1) })
    });
    for (id, result) in ids.iter().zip(join_all(admits).await) {
        match result {
            Ok(admitted) => assert_eq!(admission(admitted), Admission::Send { attempt: 1 }, "{id}"),
            Err(error) => {
                assert_eq!(id, "N-17");
                assert!(error.to_string().contains("customer_email"), "it is named: {error}");
            }
        }
    }
}

async fn text_of_any_kind_comes_back_as_it_went_in(ledger: &Ledger) {
    let long = "x".repeat(10_000);
    let texts =
        ["Robert'); DROP TABLE orders;--", "100% of_all \\ $1 ?", "🦀 ünïcödé \u{202e}", &long];
    for (n, text) in texts.into_iter().enumerate() {
        let id = format!("T-{n}");
        // Names have a limit, messages of an ERP have none here.
        let name: String = text.chars().take(255).collect();
        let customer = json!({"email": "a@example.com", "name": name, "number": name});
        let document = order_with(&id, &json!({"customer": customer, "remark": text}));
        ledger.admit_placed(placed(&document), "w", at(0)).await;
        let mut failed = failed(1, at(1));
        failed.failure.message = text.to_owned();
        failed.failure.code = text.to_owned();
        ledger.fail(FailureRequest { failed, ..failure(&id, 1, at(1)) }).await;
        let stored = ledger.order(&id).await;
        assert_eq!(&*stored.document, document);
        assert_eq!(stored.record.facts.customer.name, Some(name));
        assert_eq!(stored.attempts[0].message.as_deref(), Some(text));
    }
    let document = order_with("T-nul", &json!({"own_field": "a\0b"}));
    ledger.admit_placed(placed(&document), "w", at(0)).await;
    let stored = ledger.order("T-nul").await;
    assert_eq!(&*stored.document, document, "the document itself holds the escape");
}

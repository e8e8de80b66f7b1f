//! The same random histories, told to a database and to the model in memory: every answer and every row is the
//! same, to the last digit. Where the contract is silent, this is what holds the model to SQL.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use jiff::{SignedDuration, Timestamp};
use order_relay::domain::alarm::Damping;
use order_relay::domain::failure::Stage;
use order_relay::domain::lifecycle::claim::Intent;
use order_relay::domain::lifecycle::transitions::FailedAttempt;
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::{OrderFilter, ShopFilter};
use order_relay::ports::alarms::SubjectKind;
use order_relay::ports::circuits::CircuitTelling;
use order_relay::ports::erp::Exchange;
use order_relay::ports::order_desk::EditRequest;
use order_relay::ports::orders::{
    AdmitRequest, ConfirmRequest, FailureRequest, HandBackRequest, Incoming, KeepRequest,
    OrderSource, Placed, RenewRequest, Sweep,
};
use order_relay::ports::store_error::StoreError;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::model::{Step, step};
use super::{Ledger, act, at, claim, failed_as, failure, key, placed, receipt};
use crate::world::{Place, order, order_with};

/// What happens beside the steps of one order's life.
#[derive(Debug, Clone)]
enum Event {
    Life(Step),
    Renewed(u8, bool),
    /// An order message of a recipe with steps before its commit.
    Prepares(u8),
    Dies(u8),
    Receipt {
        attempt: u32,
        number: u8,
    },
    Edited {
        base: u32,
        total: u8,
    },
    Absent,
    OtherContent,
    Exchanges {
        worker: u8,
        attempt: u32,
        only_asked: bool,
    },
    FailsWithOrder(u32),
    Opens(u8),
    Tried {
        worker: u8,
        until: i64,
    },
    TrialFails(u8),
    Closes,
    Leads {
        worker: u8,
        until: i64,
    },
    MicrosPass(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let worker = 0u8..3;
    // Attempts are counted from 1; the tables refuse others.
    let receipt = (1u32..4, 0u8..3);
    let exchanges = (worker.clone(), 1u32..4, any::<bool>());
    let until = (worker.clone(), 0i64..40);
    prop_oneof![
        20 => step().prop_map(Event::Life),
        2 => (worker.clone(), any::<bool>()).prop_map(|(worker, begins)| Event::Renewed(worker, begins)),
        3 => worker.clone().prop_map(Event::Prepares),
        2 => worker.clone().prop_map(Event::Dies),
        2 => receipt.prop_map(|(attempt, number)| Event::Receipt { attempt, number }),
        1 => (0u32..2, 0u8..3).prop_map(|(base, total)| Event::Edited { base, total }),
        1 => Just(Event::Absent),
        1 => Just(Event::OtherContent),
        2 => exchanges.prop_map(|(worker, attempt, only_asked)| Event::Exchanges { worker, attempt, only_asked }),
        1 => (0u32..4).prop_map(Event::FailsWithOrder),
        1 => worker.clone().prop_map(Event::Opens),
        2 => until.clone().prop_map(|(worker, until)| Event::Tried { worker, until }),
        1 => worker.prop_map(Event::TrialFails),
        1 => Just(Event::Closes),
        2 => until.prop_map(|(worker, until)| Event::Leads { worker, until }),
        3 => (1i64..20_000_000).prop_map(Event::MicrosPass),
    ]
}

/// One ledger with one history.
struct History<'a> {
    ledger: &'a Ledger,
    key: OrderKey,
    now: Timestamp,
}

impl History<'_> {
    /// What the ledger answers to everything, and what it holds after it.
    async fn told(&mut self, events: &[Event]) -> Vec<String> {
        let mut told = Vec::with_capacity(events.len());
        for event in events {
            let answer = match event {
                Event::Life(step) => self.lives(step).await,
                other => self.happens(other).await,
            };
            told.push(format!("{event:?} at {}\n{answer}\n{}", self.now, self.holds().await));
        }
        told
    }

    async fn holds(&self) -> String {
        let (store, now) = (&self.ledger.store, self.now);
        let order = store.order(&self.key).await.expect("the ledger answers");
        let report = store.check_ledger(None).await.expect("the ledger answers");
        let tally = store.tally(&ShopFilter::default()).await.expect("the ledger answers");
        let flow = store.flow(&ShopFilter::default(), at(0), Duration::from_mins(1)).await;
        let groups = store.failure_groups(&ShopFilter::default(), None, now).await;
        let notices = store.due_notices(now, 1_000).await.expect("the ledger answers");
        let circuits = store.circuits().await.expect("the ledger answers");
        let alarms = store.due_alarms(SubjectKind::Circuit, now, 10).await;
        let alarms = alarms.expect("the ledger answers");
        let left = store.unfinished_orders(&ShopFilter::default(), at(0), now).await;
        let left = left.expect("the ledger answers");
        let lost = store.count_orders(&OrderFilter::lost()).await.expect("the ledger answers");
        format!(
            "{order:#?}\n{report:?}\n{tally:?}\n{:?}\n{:?}\n{notices:?}\n{circuits:?}\n{alarms:?}\n{left:?}\n{lost}",
            flow.expect("the ledger answers"),
            groups.expect("the ledger answers"),
        )
    }

    fn id(&self) -> String {
        self.key.order_id.to_string()
    }

    fn worker(number: u8) -> String {
        format!("w{number}.1")
    }

    async fn lives(&mut self, step: &Step) -> String {
        let (store, now, id) = (&self.ledger.store, self.now, self.id());
        let by = act("x", now);
        match step.clone() {
            Step::TimePasses(seconds) => {
                self.now += SignedDuration::from_secs(seconds);
                String::new()
            }
            Step::Placed(worker) => {
                let incoming = Incoming::Placed(placed(&order(&id)));
                let intent = claim(&Self::worker(worker), now);
                seen(store.admit(AdmitRequest { incoming, intent, now }).await)
            }
            Step::Held => {
                let incoming = Incoming::Placed(placed(&order(&id)));
                seen(store.admit(AdmitRequest { incoming, intent: Intent::Hold, now }).await)
            }
            Step::Again(worker, trigger, attempt) => {
                let incoming = Incoming::Again { key: self.key.clone(), attempt, trigger };
                let intent = claim(&Self::worker(worker), now);
                seen(store.admit(AdmitRequest { incoming, intent, now }).await)
            }
            Step::Fails { attempt, class, worker, max } => {
                let worker = worker.map(Self::worker);
                let failed =
                    FailedAttempt { worker, max_count: max, ..failed_as(class, attempt, now) };
                let request = FailureRequest { failed, ..failure(&id, attempt, now) };
                seen(store.record_failure(request).await)
            }
            Step::Succeeds => seen(store.confirm(receipt(&id, 1, &id, now)).await),
            Step::HandedBack(worker, how) => {
                let (key, worker) = (self.key.clone(), Self::worker(worker));
                seen(store.hand_back(HandBackRequest { key, worker, how, now }).await)
            }
            Step::Removed => seen(store.remove_order(&self.key, &by).await),
            Step::Restored => seen(store.restore_order(&self.key, &by).await),
            Step::Swept => seen(store.take_overdue(sweep(now)).await),
        }
    }

    async fn happens(&mut self, event: &Event) -> String {
        let (store, now, id) = (&self.ledger.store, self.now, self.id());
        let in_seconds = |seconds| now + SignedDuration::from_secs(seconds);
        match event.clone() {
            Event::Life(_) => String::new(),
            Event::MicrosPass(micros) => {
                self.now += SignedDuration::from_micros(micros);
                String::new()
            }
            Event::Renewed(worker, begins) => {
                let (key, worker) = (self.key.clone(), Self::worker(worker));
                let request = RenewRequest { key, worker, until: in_seconds(9), begins, now };
                seen(store.renew_claim(request).await)
            }
            Event::Prepares(worker) => {
                let incoming = Incoming::Placed(placed(&order(&id)));
                let (worker, until) = (Self::worker(worker), in_seconds(10));
                let intent = Intent::Claim { worker, until, begins: false };
                seen(store.admit(AdmitRequest { incoming, intent, now }).await)
            }
            Event::Dies(worker) => seen(store.abandon_claims(&format!("w{worker}"), now).await),
            Event::Receipt { attempt, number } => {
                let receipt: ConfirmRequest =
                    receipt(&id, attempt, &format!("ERP-{id}-{number}"), now);
                seen(store.confirm(receipt).await)
            }
            Event::Edited { base, total } => seen(store.edit_order(self.edit(base, total)).await),
            Event::Absent => seen(store.declare_absent(&self.key, &act("x", now)).await),
            Event::OtherContent => {
                let other = placed(&order_with(&id, &json!({"total": "7"})));
                seen(store.accept(other, now).await)
            }
            Event::Exchanges { worker, attempt, only_asked } => {
                let exchanges = vec![exchange("one", false), exchange("two", only_asked)];
                let (key, worker) = (self.key.clone(), Self::worker(worker));
                let kept = KeepRequest { key, attempt, worker, exchanges, only_asked, now };
                seen(store.keep_exchanges(kept).await)
            }
            Event::FailsWithOrder(attempt) => {
                let source = OrderSource::OrderFailed;
                let order = Some(Placed { source, ..placed(&order(&format!("{id}-other"))) });
                let key = key(&format!("{id}-other"));
                let request = FailureRequest { order, key, ..failure(&id, attempt, now) };
                seen(store.record_failure(request).await)
            }
            Event::Opens(n) => {
                let reason = format!("reason {n}");
                let trial_at = in_seconds(n.into());
                let damping = Damping { unstable_after: 3, window: Duration::from_secs(60) };
                let telling = CircuitTelling { shop: self.key.shop.to_string(), damping };
                let told = (n > 0).then_some(&telling);
                seen(store.open_circuit("erp", &reason, trial_at, told, now).await)
            }
            Event::Tried { worker, until } => {
                let worker = Self::worker(worker);
                seen(store.begin_trial("erp", &worker, in_seconds(until), now).await)
            }
            Event::TrialFails(n) => {
                let worker = Self::worker(n);
                seen(store.fail_trial("erp", &worker, "away", in_seconds(n.into())).await)
            }
            Event::Closes => seen(store.close_circuit("erp", &ShopFilter::default(), now).await),
            Event::Leads { worker, until } => {
                let worker = Self::worker(worker);
                seen(store.acquire_lease("sweeper", &worker, in_seconds(until), now).await)
            }
        }
    }

    fn edit(&self, base_revision: u32, total: u8) -> EditRequest {
        let document = order_with(&self.id(), &json!({"total": total.to_string()}));
        let edited = Order::parse(document.as_bytes(), &IntakeRules::of_bytes(1 << 20))
            .expect("a good order");
        EditRequest {
            key: self.key.clone(),
            base_revision,
            edited: Arc::new(edited),
            places: "/total".to_owned(),
            act: act("x", self.now),
        }
    }
}

/// An answer as text; of an error only its kind, for the drivers have words of their own.
fn seen<T: Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Ok(answer) => format!("{answer:?}"),
        Err(StoreError::Unavailable(_)) => "unavailable".to_owned(),
        Err(StoreError::Refused(_)) => "refused".to_owned(),
        Err(StoreError::Broken(_)) => "broken".to_owned(),
        Err(corrupt @ StoreError::Corrupt { .. }) => corrupt.to_string(),
    }
}

pub(super) fn sweep(now: Timestamp) -> Sweep {
    Sweep {
        now,
        grace: Duration::from_secs(3),
        again_after: Duration::from_secs(20),
        shops: ShopFilter::Except(vec!["elsewhere".to_owned()]),
        fresh_first: false,
        limit: 1_000,
    }
}

fn exchange(step: &str, question: bool) -> Exchange {
    Exchange {
        step: step.to_owned(),
        question,
        method: "POST".to_owned(),
        url: "http://erp/x".to_owned(),
        request_headers: String::new(),
        request_body: "{}\0".to_owned(),
        status: None,
        stage: Stage::At,
        meaning: "ok".to_owned(),
        message: Some("a\0b".to_owned()),
        reply: String::new(),
        duration_ms: 3,
    }
}

fn the_model_answers_as(place: Place) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let (database, model) = (runtime.block_on(Ledger::open(place)), Ledger::in_memory());
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let lives = std::cell::Cell::new(0i64);
    TestRunner::new(config)
        .run(&prop::collection::vec(event(), 1..30), |events| {
            lives.set(lives.get() + 1);
            let history = |ledger| History {
                ledger,
                key: key(&format!("life-{}", lives.get())),
                now: at(lives.get() * 2_000),
            };
            let (mut of_database, mut of_model) = (history(&database), history(&model));
            let (expected, found) =
                runtime.block_on(join(of_database.told(&events), of_model.told(&events)));
            for (expected, found) in expected.iter().zip(&found) {
                prop_assert_eq!(expected, found);
            }
            Ok(())
        })
        .expect("the model answers as the database does");
    runtime.block_on(database.end());
}

#[test]
fn the_model_answers_as_sqlite_does() {
    the_model_answers_as(Place::Embedded);
}

#[test]
fn the_model_answers_as_postgres_does() {
    the_model_answers_as(Place::Services);
}

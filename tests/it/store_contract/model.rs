//! Random histories of orders, compared with a model of the invariants.

use std::collections::BTreeSet;

use jiff::Timestamp;
use order_relay::domain::failure::ErrorClass;
use order_relay::domain::lifecycle::claim::{Admission, HandBack, Intent};
use order_relay::domain::lifecycle::transitions::FailedAttempt;
use order_relay::domain::lifecycle::vocabulary::{OrderState, Trigger};
use order_relay::domain::order::values::OrderKey;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::ports::order_desk::OrderDetail;
use order_relay::ports::orders::{
    AdmitRequest, FailureRequest, HandBackRequest, Incoming, Recorded, Sweep,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Ledger, act, at, failed_as, failure, key, placed, receipt};
use crate::world::{Place, order};

/// Something that happens to an order.
#[derive(Debug, Clone)]
pub enum Step {
    Placed(u8),
    Held,
    Again(u8, Trigger, u32),
    Fails { attempt: u32, class: ErrorClass, worker: Option<u8>, max: Option<u32> },
    Succeeds,
    HandedBack(u8, HandBack),
    Removed,
    Restored,
    Swept,
    TimePasses(i64),
}

pub fn step() -> impl Strategy<Value = Step> {
    let worker = 0u8..3;
    let trigger = prop::sample::select(Trigger::ALL.to_vec());
    let class = prop::sample::select(ErrorClass::ALL.to_vec());
    let how = prop_oneof![
        Just(HandBack::Hold),
        Just(HandBack::Park),
        (0i64..200).prop_map(|s| HandBack::AskAt(at(s))),
        (0i64..200).prop_map(|s| HandBack::LookAt(at(s))),
    ];
    let fails = (1u32..6, class, prop::option::of(worker.clone()), prop::option::of(1u32..4));
    prop_oneof![
        3 => worker.clone().prop_map(Step::Placed),
        1 => Just(Step::Held),
        4 => (worker.clone(), trigger, 1u32..6).prop_map(|(w, t, a)| Step::Again(w, t, a)),
        6 => fails.prop_map(|(attempt, class, worker, max)| Step::Fails { attempt, class, worker, max }),
        1 => Just(Step::Succeeds),
        2 => (worker, how).prop_map(|(w, how)| Step::HandedBack(w, how)),
        1 => Just(Step::Removed),
        1 => Just(Step::Restored),
        1 => Just(Step::Swept),
        2 => (1i64..60).prop_map(Step::TimePasses),
    ]
}

/// What is remembered of one order, whatever the ledger says.
struct Model {
    key: OrderKey,
    now: i64,
    failed: BTreeSet<u32>,
    is_transferred: bool,
    is_removed: bool,
    version: i64,
}

impl Model {
    fn name(worker: u8) -> String {
        format!("w{worker}")
    }

    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn id(&self) -> String {
        self.key.order_id.to_string()
    }

    async fn happens(&mut self, ledger: &Ledger, step: Step) {
        let (id, now) = (self.id(), self.now());
        match step {
            Step::TimePasses(seconds) => self.now += seconds,
            Step::Placed(worker) => {
                let incoming = Incoming::Placed(placed(&order(&id)));
                self.admitted(ledger, incoming, super::claim(&Self::name(worker), now)).await;
            }
            Step::Held => {
                let incoming = Incoming::Placed(placed(&order(&id)));
                self.admitted(ledger, incoming, Intent::Hold).await;
            }
            Step::Again(worker, trigger, attempt) => {
                let incoming = Incoming::Again { key: self.key.clone(), attempt, trigger };
                let intent = super::claim(&Self::name(worker), now);
                self.admitted(ledger, incoming, intent).await;
            }
            Step::Fails { attempt, class, worker, max } => {
                let worker = worker.map(Self::name);
                let failed =
                    FailedAttempt { worker, max_count: max, ..failed_as(class, attempt, now) };
                self.fails(ledger, FailureRequest { failed, ..failure(&id, attempt, now) }).await;
            }
            Step::Succeeds => self.succeeds(ledger).await,
            Step::HandedBack(worker, how) => {
                let request =
                    HandBackRequest { key: self.key.clone(), worker: Self::name(worker), how, now };
                ledger.store.hand_back(request).await.expect("the ledger answers");
            }
            Step::Removed => {
                let done = ledger.store.remove_order(&self.key, &act("x", now)).await;
                self.is_removed |= done.expect("the ledger answers").is_ok();
            }
            Step::Restored => {
                let done = ledger.store.restore_order(&self.key, &act("x", now)).await;
                let done = done.expect("the ledger answers").is_ok();
                assert_eq!(done, self.is_removed, "only what was removed is restored");
                self.is_removed = false;
            }
            Step::Swept => {
                let sweep = Sweep {
                    now,
                    grace: std::time::Duration::ZERO,
                    again_after: std::time::Duration::ZERO,
                    shops: ShopFilter::Except(Vec::new()),
                    fresh_first: false,
                    limit: 1_000,
                };
                let taken = ledger.store.take_overdue(sweep).await.expect("the ledger answers");
                let is_done = self.is_removed || self.is_transferred;
                assert!(!is_done || taken.iter().all(|overdue| overdue.key != self.key));
            }
        }
    }

    async fn admitted(&self, ledger: &Ledger, incoming: Incoming, intent: Intent) {
        let request = AdmitRequest { incoming, intent, now: self.now() };
        let admission = super::admission(ledger.store.admit(request).await.expect("answers"));
        let is_done = self.is_removed || self.is_transferred;
        assert!(!is_done || admission == Admission::Stale, "done, and yet {admission:?}");
    }

    async fn fails(&mut self, ledger: &Ledger, request: FailureRequest) {
        let attempt = request.failed.attempt;
        let is_done = self.is_removed || self.is_transferred;
        match ledger.fail(request).await {
            Recorded::Counted { new, record, .. } => {
                assert_eq!(new, !is_done && self.failed.insert(attempt), "try {attempt}");
                assert_eq!(record.fail_count as usize, self.failed.len());
            }
            Recorded::Invalid(_) => assert!(is_done),
            Recorded::Unknown => panic!("the ledger forgot the order"),
        }
    }

    async fn succeeds(&mut self, ledger: &Ledger) {
        let next = ledger.order(&self.id()).await.record.next_attempt();
        let request = receipt(&self.id(), next, &format!("ERP-{}", self.id()), self.now());
        let confirmed = ledger.store.confirm(request).await.expect("the ledger answers");
        assert_eq!(confirmed.first, !self.is_transferred);
        assert_eq!(confirmed.fail_count as usize, self.failed.len());
        assert_eq!(confirmed.other_erp_order_id, None);
        (self.is_transferred, self.is_removed) = (true, false);
    }

    fn agrees(&mut self, stored: &OrderDetail) {
        let record = &stored.record;
        let tries = |outcome: &str| {
            let of = stored.attempts.iter().filter(|a| a.outcome == outcome);
            of.map(|a| a.attempt).collect::<BTreeSet<u32>>()
        };
        assert_eq!(record.fail_count as usize, self.failed.len());
        assert_eq!(tries("failed"), self.failed);
        assert_eq!(tries("succeeded").len(), usize::from(self.is_transferred));
        assert_eq!(record.phase.name() == "transferred", self.is_transferred);
        assert_eq!(record.phase.name() == "removed", self.is_removed);
        let is_lost = record.phase.state() == OrderState::OrderedFailed;
        let is_done = self.is_transferred || self.is_removed;
        assert_eq!(is_lost, !is_done && !self.failed.is_empty());
        assert!(record.version >= self.version, "the version never falls");
        self.version = record.version;
    }
}

fn random_lives_keep_the_promises(open: impl Future<Output = Ledger>) {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let ledger = runtime.block_on(open);
    let config = Config { cases: 25, failure_persistence: None, ..Config::default() };
    let lives = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&prop::collection::vec(step(), 1..24), |steps| {
            lives.set(lives.get() + 1);
            let key = key(&format!("life-{}", lives.get()));
            let (failed, is_transferred, is_removed) = (BTreeSet::new(), false, false);
            let mut model = Model { key, now: 0, failed, is_transferred, is_removed, version: 0 };
            runtime.block_on(async {
                ledger.store.accept(placed(&order(&model.id())), at(0)).await.expect("answers");
                for step in steps {
                    model.happens(&ledger, step).await;
                    model.agrees(&ledger.order(&model.id()).await);
                }
            });
            Ok(())
        })
        .expect("the promises hold");
    runtime.block_on(async {
        let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
        assert_eq!((report.received, report.difference), (lives.get(), 0), "{report:?}");
        assert!(report.violations.is_empty(), "{report:?}");
        ledger.end().await;
    });
}

#[test]
fn random_lives_keep_the_promises_on_sqlite() {
    random_lives_keep_the_promises(Ledger::open(Place::Embedded));
}

#[test]
fn random_lives_keep_the_promises_on_postgres() {
    random_lives_keep_the_promises(Ledger::open(Place::Services));
}

#[test]
fn random_lives_keep_the_promises_in_memory() {
    random_lives_keep_the_promises(async { Ledger::in_memory() });
}

//! An ERP that does what a test has written down for each order, and remembers what it has.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::domain::order::values::OrderKey;
use order_relay::ports::clock::Stopwatch;
use order_relay::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer, Receipt};
use order_relay::ports::erps::{DEFAULT_ERP, ErpUnusable, Erps};

/// Longest time of one call unless a test says otherwise.
pub const BUDGET: Duration = Duration::from_secs(5);

/// What the ERP does with one send.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// Takes the order.
    Accept,
    /// Takes it after that time.
    Slow(Duration),
    /// Refuses this order.
    Refuse,
    /// Refuses it after that time.
    RefuseAfter(Duration),
    /// Answers 503.
    Busy,
    /// Answers 503 and says how long to wait.
    BusyFor(Duration),
    /// Refuses our login.
    Login,
    /// Cannot be reached.
    Away,
    /// Takes it; the answer is lost.
    LoseAnswer,
    /// The request is lost after it was written.
    LoseRequest,
    /// Nothing is seen of the answer; it takes the order that much later.
    Late(Duration),
    /// A gateway answers 504; the ERP behind it never got the order.
    Gateway,
    /// Our request could not be built.
    Unbuildable,
    /// Our code panics.
    Panic,
}

/// What it says when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Knowledge {
    /// The truth.
    Truth,
    /// Nothing that can be used.
    Nothing,
}

#[derive(Default)]
struct Memory {
    turns: HashMap<String, VecDeque<Turn>>,
    always: Option<Turn>,
    entered: BTreeMap<OrderKey, Vec<String>>,
    documents: HashMap<OrderKey, Vec<Arc<str>>>,
    late: Vec<(Duration, OrderKey)>,
    sends: Vec<(Duration, String)>,
    asks: Vec<(Duration, String)>,
    in_flight: u32,
    most_in_flight: u32,
    number: u32,
    steps_before: Option<Duration>,
    budget: Option<Duration>,
}

pub struct FakeErp {
    memory: Mutex<Memory>,
    knowledge: Mutex<Knowledge>,
    since: Stopwatch,
    can_ask: bool,
    is_idempotent: bool,
}

impl FakeErp {
    pub fn new(can_ask: bool, is_idempotent: bool) -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::default(),
            knowledge: Mutex::new(Knowledge::Truth),
            since: Stopwatch::start(),
            can_ask,
            is_idempotent,
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to this order, send after send; afterwards it is accepted.
    pub fn will(&self, order_id: &str, turns: &[Turn]) {
        self.memory().turns.insert(order_id.to_owned(), turns.iter().cloned().collect());
    }

    /// What happens to every order that has no turns of its own; `None`: it is accepted.
    pub fn always(&self, turn: Option<Turn>) {
        self.memory().always = turn;
    }

    /// How long the steps before the request that enters an order take.
    pub fn has_steps_of(&self, time: Duration) {
        self.memory().steps_before = Some(time);
    }

    /// Longest time of one call.
    pub fn may_take(&self, time: Duration) {
        self.memory().budget = Some(time);
    }

    pub fn says(&self, knowledge: Knowledge) {
        *self.knowledge.lock().unwrap_or_else(PoisonError::into_inner) = knowledge;
    }

    /// How often the order is in the ERP.
    pub fn has(&self, key: &OrderKey) -> usize {
        let mut memory = self.memory();
        self.execute_late(&mut memory);
        memory.entered.get(key).map_or(0, Vec::len)
    }

    /// Somebody enters it by hand.
    pub fn enter(&self, key: &OrderKey, number: &str) {
        self.memory().entered.entry(key.clone()).or_default().push(number.to_owned());
    }

    /// The documents that were sent for it.
    pub fn documents(&self, key: &OrderKey) -> Vec<Arc<str>> {
        self.memory().documents.get(key).cloned().unwrap_or_default()
    }

    /// Order numbers in the order in which they were sent.
    pub fn sends(&self) -> Vec<String> {
        self.memory().sends.iter().map(|(_, id)| id.clone()).collect()
    }

    /// When this order was sent, in seconds since the begin.
    pub fn sent_at(&self, order_id: &str) -> Vec<u64> {
        let memory = self.memory();
        memory.sends.iter().filter(|(_, id)| id == order_id).map(|(at, _)| at.as_secs()).collect()
    }

    /// When it was asked about this order, in seconds since the begin.
    pub fn asked_at(&self, order_id: &str) -> Vec<u64> {
        let memory = self.memory();
        memory.asks.iter().filter(|(_, id)| id == order_id).map(|(at, _)| at.as_secs()).collect()
    }

    pub fn asks(&self) -> usize {
        self.memory().asks.len()
    }

    /// The most calls that were under way at once.
    pub fn most_in_flight(&self) -> u32 {
        self.memory().most_in_flight
    }

    fn execute_late(&self, memory: &mut Memory) {
        let now = self.since.elapsed();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut memory.late).into_iter().partition(|(at, _)| *at <= now);
        memory.late = later;
        for (_, key) in due {
            Self::take(memory, &key);
        }
    }

    fn take(memory: &mut Memory, key: &OrderKey) -> String {
        memory.number += 1;
        let number = format!("ERP-{}", memory.number);
        memory.entered.entry(key.clone()).or_default().push(number.clone());
        number
    }

    fn next_turn(&self, order: &OrderForErp) -> Turn {
        let mut memory = self.memory();
        self.execute_late(&mut memory);
        let id = order.key.order_id.as_str().to_owned();
        memory.sends.push((self.since.elapsed(), id.clone()));
        memory.documents.entry(order.key.clone()).or_default().push(order.document.clone());
        memory.in_flight += 1;
        memory.most_in_flight = memory.most_in_flight.max(memory.in_flight);
        let own = memory.turns.get_mut(&id).and_then(VecDeque::pop_front);
        own.or_else(|| memory.always.clone()).unwrap_or(Turn::Accept)
    }

    fn accept(&self, key: &OrderKey) -> Receipt {
        receipt(Self::take(&mut self.memory(), key), false)
    }

    async fn act(&self, order: &OrderForErp, turn: Turn) -> Result<Receipt, Failure> {
        let failure =
            |class, code: &str, text: &str, stage| Err(Failure::new(class, code, text, stage));
        match turn {
            Turn::Accept => Ok(self.accept(&order.key)),
            Turn::Slow(time) => {
                tokio::time::sleep(time).await;
                Ok(self.accept(&order.key))
            }
            Turn::Refuse | Turn::RefuseAfter(_) => {
                if let Turn::RefuseAfter(time) = turn {
                    tokio::time::sleep(time).await;
                }
                let text = "product '4711' is unknown";
                failure(ErrorClass::Rejected, "http_422", text, Stage::After)
            }
            Turn::Busy => failure(ErrorClass::Unavailable, "http_503", "maintenance", Stage::After),
            Turn::BusyFor(wait) => {
                let failure =
                    Failure::new(ErrorClass::Unavailable, "http_429", "too many", Stage::After);
                Err(Failure { retry_after: Some(wait), ..failure })
            }
            Turn::Login => {
                failure(ErrorClass::Unauthorized, "http_401", "who are you", Stage::After)
            }
            Turn::Away => failure(ErrorClass::Unavailable, "connect", "refused", Stage::Before),
            Turn::LoseAnswer => {
                self.accept(&order.key);
                failure(ErrorClass::UnknownOutcome, "no_answer", "no answer", Stage::At)
            }
            Turn::LoseRequest => {
                failure(ErrorClass::UnknownOutcome, "no_answer", "no answer", Stage::At)
            }
            Turn::Late(delay) => {
                let due = self.since.elapsed() + delay;
                self.memory().late.push((due, order.key.clone()));
                failure(ErrorClass::UnknownOutcome, "timeout", "no answer", Stage::At)
            }
            Turn::Gateway => failure(ErrorClass::Unavailable, "http_504", "gateway", Stage::At),
            Turn::Unbuildable => {
                failure(ErrorClass::Internal, "template", "no field x", Stage::Before)
            }
            Turn::Panic => panic!("a planted panic"),
        }
    }
}

fn receipt(number: String, found: bool) -> Receipt {
    Receipt {
        erp_order_id: Some(number),
        request: "POST http://erp/orders".to_owned(),
        status: 201,
        found,
        taken: serde_json::Map::new(),
    }
}

#[async_trait]
impl Erp for FakeErp {
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure> {
        let steps = self.memory().steps_before;
        if let Some(steps) = steps {
            tokio::time::sleep(steps).await;
        }
        order.permit.begin().await?;
        let turn = self.next_turn(order);
        let result = self.act(order, turn).await;
        self.memory().in_flight -= 1;
        result
    }

    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer {
        let knowledge = *self.knowledge.lock().unwrap_or_else(PoisonError::into_inner);
        let mut memory = self.memory();
        self.execute_late(&mut memory);
        memory.asks.push((self.since.elapsed(), order.key.order_id.as_str().to_owned()));
        let is_away = memory.always == Some(Turn::Away);
        match memory.entered.get(&order.key).and_then(|numbers| numbers.first()) {
            _ if is_away || knowledge == Knowledge::Nothing => ProbeAnswer::Unclear(Failure::new(
                ErrorClass::Unavailable,
                "connect",
                "refused",
                Stage::Before,
            )),
            Some(number) if knowledge == Knowledge::Truth => {
                ProbeAnswer::Found(receipt(number.clone(), true))
            }
            _ => ProbeAnswer::Absent,
        }
    }

    fn rehearse(&self, _: &OrderForErp) -> Result<Vec<Exchange>, Failure> {
        Ok(Vec::new())
    }
    fn has_steps_before(&self) -> bool {
        self.memory().steps_before.is_some()
    }
    fn can_ask(&self) -> bool {
        self.can_ask
    }
    fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }
    fn tells_shops_apart(&self) -> bool {
        true
    }
    fn call_budget(&self) -> Duration {
        self.memory().budget.unwrap_or(BUDGET)
    }
}

/// The ERP of every shop, and the one that the shop `at` may have alone.
pub struct FakeErps {
    pub default: Arc<FakeErp>,
    pub at: Option<Arc<FakeErp>>,
}

impl FakeErps {
    fn of(&self, order: &OrderForErp) -> &FakeErp {
        match &self.at {
            Some(at) if order.key.shop.as_str() == "at" => at,
            _ => &self.default,
        }
    }
}

#[async_trait]
impl Erps for FakeErps {
    fn names(&self) -> Vec<&str> {
        self.at.iter().map(|_| "at").chain([DEFAULT_ERP]).collect()
    }
    fn erp_of_shop(&self, shop: &str) -> &str {
        if self.at.is_some() && shop == "at" { "at" } else { DEFAULT_ERP }
    }
    fn shop_of_erp(&self, erp: &str) -> Option<&str> {
        (self.at.is_some() && erp == "at").then_some("at")
    }
    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, ErpUnusable> {
        self.of(order).rehearse(order).map_err(|failure| ErpUnusable(failure.message))
    }
    async fn ask(&self, order: &OrderForErp) -> Result<ProbeAnswer, ErpUnusable> {
        Ok(self.of(order).ask(order).await)
    }
}

//! An order in parts: its head, each line, a release. Whatever is lost, late or dies between, no line is there twice
//! and none is missing, and nothing is released before it is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::ports::erp::{Erp, NOT_SETTLED, OrderForErp, ProbeAnswer, Receipt};
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Books, Fate, Says, StandIn};
use crate::world::{Place, World, erp_number};

use super::cached::Hand;
use super::{Setting, engine, for_erp, open_at};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };
const LINES: usize = 3;
const SETTLE: i64 = 30;

const RECIPE: &str = r#"
name  = "test"
error = "/error"
[commit]
request = "POST /orders"
body    = '{"ref": {{ order.reference }}}'
ok      = "status == 201"
take    = { id = "/id" }
[probe]
request = "GET /orders"
query   = { ref = "{{ order.reference }}" }
found   = "status == 200 and at('/id')"
absent  = "status == 404 and at('/error')"
take    = { id = "/id", state = "/state", number = "/number" }
[[after]]
name    = "add_line"
each    = "order.lines"
request = "POST /orders/{{ result.id }}/lines"
body    = '{"line": {{ item.number }}, "sku": {{ item.sku }}}'
ok      = "status == 201"
[after.there]
request = "GET /orders/{{ result.id }}/lines"
query   = { line = "{{ item.number }}" }
found   = "status == 200 and at('/line') == item.number"
absent  = "status == 404 and at('/error')"
[total]
request = "GET /orders/{{ result.id }}/total"
ok      = "status == 200"
amount  = "at('/sum')"
after   = "add_line"
[[after]]
name    = "release"
unless  = "result.state == 'released'"
request = "POST /orders/{{ result.id }}/release"
body    = "{}"
ok      = "status == 200"
take    = { state = "/state", number = "/number" }
"#;

/// What a request does in the ERP. A line is kept beside the orders, as `ORDER/LINE`.
fn executed(books: &mut Books, asked: &Asked) -> Says {
    let (path, nothing) = (asked.path(), Says::json(404, &json!({"error": "not there"})));
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let lines = |books: &Books, id: &str| {
        books.orders.iter().filter(|line| line.starts_with(&format!("{id}/"))).count()
    };
    match (asked.method.as_str(), parts.as_slice()) {
        ("POST", ["orders"]) => {
            let reference = asked.json()["ref"].as_str().unwrap().to_owned();
            Says::json(201, &json!({"id": books.make(&reference)}))
        }
        ("GET", ["orders"]) => match books.find(&asked.query("ref")) {
            Some(n) => {
                let state = &books.states[n - 1];
                let number = (state == "released").then(|| format!("N{n}"));
                Says::json(200, &json!({"id": n, "state": state, "number": number}))
            }
            None => nothing,
        },
        ("POST", ["orders", _, "lines"]) if asked.json()["sku"] == "BLOCKED" => {
            Says::json(422, &json!({"error": "article BLOCKED is not sold"}))
        }
        ("POST", ["orders", id, "lines"]) => {
            books.make(&format!("{id}/{}", asked.json()["line"]));
            Says::json(201, &json!({}))
        }
        ("GET", ["orders", id, "lines"]) => {
            match books.find(&format!("{id}/{}", asked.query("line"))) {
                Some(_) => {
                    Says::json(200, &json!({"line": asked.query("line").parse::<u64>().unwrap()}))
                }
                None => nothing,
            }
        }
        ("GET", ["orders", id, "total"]) => Says::json(200, &json!({"sum": 19 * lines(books, id)})),
        ("POST", ["orders", id, "release"]) => {
            // Counted: a release that comes too early.
            books.logins += u32::from(lines(books, id) != LINES);
            let n: usize = id.parse().unwrap();
            books.states[n - 1] = "released".to_owned();
            Says::json(200, &json!({"state": "released", "number": format!("N{n}")}))
        }
        other => panic!("{other:?}"),
    }
}

/// Does not execute the request whose number is in `failures`.
fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    match u32::try_from(books.asked.len()) == Ok(books.failures) {
        true => (Says::html(502), false),
        false => (executed(books, asked), false),
    }
}

fn document(blocked: Option<usize>) -> Json {
    let sku = |n| if blocked == Some(n) { "BLOCKED" } else { "A" };
    let lines: Vec<Json> = (1..=LINES)
        .map(|n| json!({"sku": sku(n), "name": "Lamp", "quantity": "2", "unit_price": "9.50"}))
        .collect();
    json!({"order_id": "O-1", "currency": "EUR", "total": "57.00", "lines": lines})
}

/// What happens to one request, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is executed, and the answer is lost.
    LostAnswer(usize),
    /// It is never executed.
    LostRequest(usize),
    /// It is executed while it is asked about.
    Late(usize),
    /// Our process dies when it has been executed.
    Death(usize),
    /// Our process dies, and it is executed later.
    DeathAndLate(usize),
}

impl Fault {
    fn number(self) -> usize {
        match self {
            Self::LostAnswer(n) | Self::LostRequest(n) | Self::Late(n) => n,
            Self::Death(n) | Self::DeathAndLate(n) => n,
        }
    }

    fn kills(self) -> bool {
        matches!(self, Self::Death(_) | Self::DeathAndLate(_))
    }

    fn is_executed_at_once(self) -> bool {
        matches!(self, Self::LostAnswer(_) | Self::Death(_))
    }

    fn is_late(self) -> bool {
        matches!(self, Self::Late(_) | Self::DeathAndLate(_))
    }
}

struct Shop {
    erp: Arc<RecipeErp>,
    stand_in: StandIn,
    clock: Arc<Hand>,
    blocked: Option<usize>,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let (folder, path) = engine::file(RECIPE);
        let stand_in = StandIn::start(erp).await;
        let clock = Arc::new(Hand(AtomicI64::new(1_000_000)));
        let erp = open_at(&path, &stand_in.url, &NOTHING, &[], clock.clone());
        Self { erp: Arc::new(erp), stand_in, clock, blocked: None, _folder: folder }
    }

    fn now(&self) -> i64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn arm(&self, fault: Fault) {
        arm(&mut self.stand_in.books.lock().unwrap(), fault);
    }

    /// One attempt, as the submitter makes it: an order that may be there is asked about first.
    async fn attempt(&self, sent: Option<i64>) -> Result<Receipt, Failure> {
        let settled = sent.map(|sent| Timestamp::from_second(sent + SETTLE).unwrap());
        let order =
            OrderForErp { settled_from: settled, ..for_erp("O-1", &document(self.blocked)) };
        let Some(settled) = settled else { return self.erp.submit(&order).await };
        match self.erp.ask(&order).await {
            ProbeAnswer::Found(receipt) => self.erp.finish(&order, receipt).await,
            ProbeAnswer::Absent if self.clock_is_before(settled) => {
                Err(Failure::new(ErrorClass::UnknownOutcome, NOT_SETTLED, "", Stage::At))
            }
            ProbeAnswer::Absent => self.erp.submit(&order).await,
            ProbeAnswer::Unclear(failure) => {
                Err(Failure { code: NOT_SETTLED.to_owned(), ..failure })
            }
        }
    }

    fn clock_is_before(&self, time: Timestamp) -> bool {
        self.now() < time.as_second()
    }

    /// The same in a process that dies when the ERP has the request `number`; `None` if it did.
    async fn attempt_that_dies(
        self: &Arc<Self>,
        sent: Option<i64>,
        number: usize,
    ) -> Option<Result<Receipt, Failure>> {
        let shop = self.clone();
        let mut process = tokio::task::JoinSet::new();
        process.spawn(async move { shop.attempt(sent).await });
        while self.asked() < number {
            if let Some(ended) = process.try_join_next() {
                return ended.ok();
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        None
    }

    /// Attempts it until it is done; the faults come one after the other.
    async fn relay(self: &Arc<Self>, faults: &[Fault]) -> Receipt {
        let (mut sent, mut faults, mut armed) = (None, faults.iter(), None);
        for _ in 0..40 {
            if armed.is_none() {
                armed = faults.next().copied();
                armed.into_iter().for_each(|fault| self.arm(fault));
            }
            let kills = armed.filter(|fault: &Fault| fault.kills()).map(Fault::number);
            let ended = match kills {
                Some(number) => self.attempt_that_dies(sent, number).await,
                None => Some(self.attempt(sent).await),
            };
            match ended {
                Some(Ok(receipt)) => return receipt,
                Some(Err(failure)) if failure.code == NOT_SETTLED && sent.is_some() => {}
                Some(Err(_)) | None => sent = Some(self.now()),
            }
            self.clock.0.fetch_add(10, Ordering::Relaxed);
            if let Some(fault) = armed.filter(|fault| self.asked() >= fault.number()) {
                armed = None;
                if fault.is_late() {
                    let mut books = self.stand_in.books.lock().unwrap();
                    let late = books.asked[fault.number() - 1].clone();
                    drop(executed(&mut books, &late));
                }
            }
        }
        panic!("it is never done");
    }

    fn asked(&self) -> usize {
        self.stand_in.books.lock().unwrap().asked.len()
    }

    fn is_whole_and_once(&self) -> bool {
        is_whole_and_once(&self.stand_in.books.lock().unwrap())
    }
}

fn arm(books: &mut Books, fault: Fault) {
    let nothing = Says { status: 0, headers: Vec::new(), body: String::new() };
    books.wrong = Some((fault.number(), nothing, Fate::Lost));
    books.failures = match fault.is_executed_at_once() {
        true => 0,
        false => u32::try_from(fault.number()).unwrap(),
    };
}

fn is_whole_and_once(books: &Books) -> bool {
    let mut there = books.orders.clone();
    there.sort();
    there == ["1/1", "1/2", "1/3", "O-1"] && books.states[0] == "released" && books.logins == 0
}

/// Every fault that the request `n` can meet.
fn faults(n: usize) -> [Fault; 5] {
    [
        Fault::LostAnswer(n),
        Fault::LostRequest(n),
        Fault::Late(n),
        Fault::Death(n),
        Fault::DeathAndLate(n),
    ]
}

async fn all_hold(cases: Vec<Vec<Fault>>) {
    let relay = async |case: Vec<Fault>| {
        let shop = Arc::new(Shop::open().await);
        let receipt = shop.relay(&case).await;
        assert_eq!(receipt.erp_order_id.as_deref(), Some("N1"), "{case:?}");
        let there = shop.stand_in.books.lock().unwrap().orders.clone();
        assert!(shop.is_whole_and_once(), "{case:?}: {there:?}");
    };
    futures_util::future::join_all(cases.into_iter().map(relay)).await;
}

#[tokio::test]
async fn an_order_in_parts_takes_one_request_for_each_when_nothing_goes_wrong() {
    let shop = Arc::new(Shop::open().await);
    shop.relay(&[]).await;
    assert!(shop.is_whole_and_once());
    // The head, three lines, the total, the release: what is new is not asked about.
    assert_eq!(shop.asked(), 6);
}

#[tokio::test]
async fn a_fault_at_any_request_leaves_each_line_once() {
    all_hold((1..=6).flat_map(faults).map(|fault| vec![fault]).collect()).await;
}

#[tokio::test]
async fn a_second_fault_while_it_goes_on_leaves_each_line_once() {
    let second = |first: Fault| {
        let next = first.number() + 1..first.number() + 9;
        next.flat_map(faults).map(move |second| vec![first, second])
    };
    let first = [Fault::Late(2), Fault::Death(3), Fault::LostRequest(4)];
    all_hold(first.into_iter().flat_map(second).collect()).await;
}

#[tokio::test]
async fn a_line_that_is_refused_leaves_a_draft_that_goes_on_when_it_is_not() {
    let mut shop = Shop::open().await;
    shop.blocked = Some(2);
    let failure = shop.attempt(None).await.unwrap_err();
    assert_eq!((failure.class, failure.stage), (ErrorClass::Rejected, Some(Stage::At)));
    assert_eq!(
        failure.message,
        "in the ERP as 1, but add_line failed: article BLOCKED is not sold"
    );
    assert_eq!(shop.stand_in.books.lock().unwrap().states[0], "draft");
    shop.blocked = None;
    let early = shop.attempt(Some(shop.now())).await.unwrap_err();
    assert_eq!((early.class, early.code.as_str()), (ErrorClass::UnknownOutcome, NOT_SETTLED));
    shop.attempt(Some(shop.now() - SETTLE)).await.unwrap();
    assert!(shop.is_whole_and_once());
}

#[tokio::test]
async fn the_whole_program_goes_on_with_an_order_in_parts_when_nothing_late_can_come() {
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(erp).await;
    arm(&mut stand_in.books.lock().unwrap(), Fault::LostRequest(3));
    let probe = "take    = { id = \"/id\", state = \"/state\", number = \"/number\" }\n";
    assert_eq!(RECIPE.matches(probe).count(), 1);
    let settles = format!("{probe}settle = \"1s\"\nevery = \"200ms\"\n");
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, RECIPE.replace(probe, &settles)).unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.url", &stand_in.url);
    // The recipe's own, not that of the other tests.
    world.set_variable("ORDER_RELAY__ERP__SETTLE", "");
    world.serve().await;
    world.place(&[document(None).to_string()]).await;
    world.until_settled(1).await;
    let stored = world.order("O-1").await;
    assert_eq!(erp_number(&stored).as_deref(), Some("N1"));
    // Waiting used up no attempt.
    assert_eq!(stored.record.fail_count, 1);
    assert!(is_whole_and_once(&stand_in.books.lock().unwrap()));
    world.end().await;
}

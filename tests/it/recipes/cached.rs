//! Answers to look-ups are kept for a while (`cache`), and never longer than they are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use order_relay::adapters::erp::recipe::engine::RecipeErp;
use order_relay::domain::failure::ErrorClass;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::erp::Erp;
use serde_json::json;

use crate::stand_in::{Asked, Books, Says, StandIn};

use super::{Setting, engine, open_at, order};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };

const CACHED: &str = r#"
[[before]]
name    = "customer"
request = "GET /customers"
query   = { number = "{{ order.customer.number }}" }
ok      = "status == 200"
take    = { id = "/0/id" }
need    = { id = "customer {{ order.customer.number }} is unknown to the ERP" }
cache   = "5m"
[[before]]
name    = "product"
each    = "order.lines | map(attribute='sku') | list"
request = "GET /products"
query   = { sku = "{{ item }}" }
ok      = "status == 200"
index   = { rows = "", key = "/sku", require = "[item]" }
cache   = "1m"
"#;

/// The customer has the number of logins as its id, and is unknown with 0; of articles it has those that do not
/// begin with X.
fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let id = books.logins;
    match asked.path().as_str() {
        "/customers" if id == 0 => (Says::json(200, &json!([])), false),
        "/customers" => (Says::json(200, &json!([{"id": id}])), false),
        "/products" if asked.query("sku").starts_with('X') => (Says::json(200, &json!([])), false),
        "/products" => (Says::json(200, &json!([{"sku": asked.query("sku")}])), false),
        "/orders" if asked.json()["customer"] != id => {
            (Says::json(422, &json!({"error": "there is no such customer"})), false)
        }
        _ => engine::erp(books, asked),
    }
}

/// A clock that is set by hand.
pub(super) struct Hand(pub(super) AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }
    fn unique_id(&self) -> uuid::Uuid {
        SystemClock.unique_id()
    }
    fn secret_bytes(&self) -> [u8; 32] {
        SystemClock.secret_bytes()
    }
}

struct Shop {
    erp: RecipeErp,
    stand_in: StandIn,
    clock: Arc<Hand>,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let body = "{\"ref\": {{ order.reference }}, \"customer\": {{ customer.id }},";
        let recipe = engine::RECIPE.replace("{\"ref\": {{ order.reference }},", body);
        let (folder, path) = engine::file(&format!("{recipe}{CACHED}"));
        let stand_in = StandIn::start(erp).await;
        stand_in.books.lock().unwrap().logins = 17;
        let clock = Arc::new(Hand(AtomicI64::new(1_000_000)));
        let erp = open_at(&path, &stand_in.url, &NOTHING, &[], clock.clone());
        Self { erp, stand_in, clock, _folder: folder }
    }

    fn customer_becomes(&self, id: u32) {
        self.stand_in.books.lock().unwrap().logins = id;
    }

    fn asked(&self, path: &str) -> usize {
        let books = self.stand_in.books.lock().unwrap();
        books.asked.iter().filter(|asked| asked.path() == path).count()
    }
}

#[tokio::test]
async fn an_answer_serves_other_orders_for_its_time() {
    let shop = Shop::open().await;
    for (id, sku, seconds, customers, products) in [
        ("O-1", "A", 0, 1, 1),
        ("O-2", "A", 0, 1, 1),
        ("O-3", "B", 59, 1, 2),
        ("O-4", "A", 1, 1, 3),
        ("O-5", "A", 240, 2, 4),
    ] {
        shop.clock.0.fetch_add(seconds, Ordering::Relaxed);
        shop.erp.submit(&order(id, sku)).await.unwrap();
        let asked = (shop.asked("/customers"), shop.asked("/products"));
        assert_eq!(asked, (customers, products), "{id}");
    }
    assert_eq!(shop.stand_in.books.lock().unwrap().orders.len(), 5);
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_again() {
    let shop = Shop::open().await;
    shop.customer_becomes(0);
    for asked in [1, 2] {
        let failure = shop.erp.submit(&order("O-1", "A")).await.unwrap_err();
        assert_eq!(failure.message, "customer C-1001 is unknown to the ERP");
        assert_eq!(shop.asked("/customers"), asked);
    }
    shop.customer_becomes(17);
    for asked in [1, 2] {
        let failure = shop.erp.submit(&order("O-1", "X")).await.unwrap_err();
        assert_eq!(failure.message, "product 'X' is unknown to the ERP");
        assert_eq!(shop.asked("/products"), asked);
    }
    shop.erp.submit(&order("O-1", "A")).await.unwrap();
}

#[tokio::test]
async fn an_order_that_is_refused_forgets_what_it_used() {
    let shop = Shop::open().await;
    shop.erp.submit(&order("O-1", "A")).await.unwrap();
    shop.customer_becomes(18);
    let failure = shop.erp.submit(&order("O-2", "A")).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::Rejected, "{failure:?}");
    assert_eq!(shop.asked("/customers"), 1);
    shop.erp.submit(&order("O-2", "A")).await.unwrap();
    assert_eq!(shop.asked("/customers"), 2);
}

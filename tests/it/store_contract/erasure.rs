//! A customer is forgotten, and nothing looks lost.

use order_relay::domain::order::fault::{Fault, Reason};
use order_relay::domain::personal::spellings;
use order_relay::domain::retention::OldKind;
use order_relay::domain::trace::Headers;
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::dead_letters::{NewDeadLetter, Resolution};
use order_relay::ports::erasure::Hindrance;
use order_relay::ports::orders::{Accepted, KeepRequest};
use order_relay::ports::retention::Deleted;
use serde_json::json;
use sqlx::Row;

use super::retention::exchange_of;
use super::{Ledger, act, at, key, placed};
use crate::world::{Place, order_with};

on_every_ledger!(
    a_customer_is_forgotten_and_the_ledger_is_sound,
    what_is_not_finished_or_not_told_is_not_erased,
    erasing_again_finishes_what_was_begun;
    only in SQL: no_table_holds_a_byte_of_a_customer_who_was_erased
);

const NAME: &str = "Zo\u{eb} \"Z\" O'Neil";
const MAIL: &str = "zoe.oneil@example.com";

fn hers(id: &str) -> String {
    let customer = json!({"number": "C-777", "name": NAME, "email": MAIL});
    order_with(
        id,
        &json!({"customer": customer, "invoice_address": {"name": NAME, "street": "Secret Road 5"}}),
    )
}

async fn done(ledger: &Ledger, document: &str, id: &str) {
    ledger.store.accept(placed(document), at(0)).await.expect("the ledger answers");
    ledger.confirm(id, 1, &format!("ERP-{id}"), at(1)).await;
}

fn texts() -> Vec<String> {
    [NAME, MAIL, "Secret Road 5", "C-777"].iter().flat_map(|text| spellings(text)).collect()
}

async fn erase(ledger: &Ledger, id: &str) -> bool {
    let by = act("asked for", at(50));
    ledger.store.erase_texts(&texts(), at(50)).await.expect("the ledger answers");
    let noted = ledger.store.erase_order(&key(id), &by).await.expect("the ledger answers");
    ledger.store.delete_noted_orders(10, at(51)).await.expect("the ledger answers");
    noted
}

async fn sound(ledger: &Ledger) -> (u64, u64, u64) {
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
    (report.received, report.confirmed, report.gone)
}

async fn a_customer_is_forgotten_and_the_ledger_is_sound(ledger: &Ledger) {
    done(ledger, &hers("1"), "1").await;
    done(ledger, &hers("2"), "2").await;
    done(ledger, &order_with("3", &json!({})), "3").await;
    let store = &ledger.store;
    for customer in [MAIL, "C-777"] {
        let found = store.orders_of_customer(customer).await.expect("the ledger answers");
        assert_eq!(found, [key("1"), key("2")], "{customer}");
    }
    assert!(erase(ledger, "1").await);
    assert_eq!(sound(ledger).await, (3, 2, 1));
    assert!(store.order(&key("1")).await.expect("answers").is_none());
    let left = store.gone_order(&key("1")).await.expect("answers").expect("it is known");
    assert_eq!((left.kind.as_str(), left.erp_order_id.as_deref()), ("erased", Some("ERP-1")));
    let again = store.accept(placed(&hers("1")), at(60)).await.expect("the ledger answers");
    assert_eq!(again, Accepted::Duplicate, "it is not entered again");
    assert_eq!(store.orders_of_customer(MAIL).await.expect("answers"), [key("2")]);
}

async fn letter(ledger: &Ledger, body: &str) -> uuid::Uuid {
    let id = SystemClock.unique_id();
    let letter = NewDeadLetter {
        id,
        source: "api".to_owned(),
        fault: Fault::at(Reason::Schema, "/total", "missing"),
        body: body.as_bytes().to_vec(),
        headers: Headers::default(),
        exchange: String::new(),
        routing_key: String::new(),
        now: at(0),
    };
    ledger.store.record_dead_letter(letter).await.expect("the ledger answers");
    id
}

async fn what_is_not_finished_or_not_told_is_not_erased(ledger: &Ledger) {
    let store = &ledger.store;
    store.accept(placed(&hers("open")), at(0)).await.expect("the ledger answers");
    assert!(!erase(ledger, "open").await);
    assert!(!erase(ledger, "unknown").await);
    ledger.parked("untold", at(2)).await;
    ledger.confirm("untold", 2, "ERP-1", at(3)).await;
    let untold = store.hindrance(Some(&key("untold")), &[]).await.expect("the ledger answers");
    assert_eq!(untold, Some(Hindrance::WaitingMail));
    assert!(!erase(ledger, "untold").await);
    let id = letter(ledger, &hers("dead")).await;
    let named = store.hindrance(None, &texts()).await.expect("the ledger answers");
    assert_eq!(named, Some(Hindrance::OpenDeadLetter(id.to_string())));
    let by = act("nothing", at(9));
    store.resolve_dead_letter(id, Resolution::Discarded, &by).await.expect("the ledger answers");
    assert_eq!(store.hindrance(None, &texts()).await.expect("the ledger answers"), None);
    assert_eq!(sound(ledger).await, (2, 1, 0));
}

async fn erasing_again_finishes_what_was_begun(ledger: &Ledger) {
    done(ledger, &hers("1"), "1").await;
    let by = act("asked for", at(50));
    // The process dies here.
    assert!(ledger.store.erase_order(&key("1"), &by).await.expect("the ledger answers"));
    assert_eq!(sound(ledger).await, (1, 1, 0));
    let note = ledger.store.note_old_orders(OldKind::Confirmed, at(100), 10).await;
    assert_eq!(note.expect("the ledger answers"), 0, "it is noted already");
    let deleted = ledger.opened_again().delete_noted_orders(10, at(60)).await;
    assert_eq!(deleted.expect("the ledger answers"), Deleted { seen: 1, gone: 1 });
    assert!(erase(ledger, "1").await, "there is nothing left to do");
    assert_eq!(sound(ledger).await, (1, 0, 1));
}

/// Every cell of every table as text; of bytes, as the text that they are.
async fn cells(ledger: &Ledger) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let url = &ledger.database().url;
    if ledger.database().place == Place::Embedded {
        let pool = sqlx::SqlitePool::connect(url).await.expect("the file opens");
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
        for table in sqlx::query(tables).fetch_all(&pool).await.expect("tables") {
            let table: String = table.get(0);
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            for column in sqlx::query(&columns).fetch_all(&pool).await.expect("columns") {
                let column: String = column.get(0);
                let all = format!(
                    "SELECT CAST({column} AS BLOB) FROM {table} WHERE {column} IS NOT NULL"
                );
                for row in sqlx::query(&all).fetch_all(&pool).await.expect("cells") {
                    let text = String::from_utf8_lossy(row.get(0)).into_owned();
                    found.push((format!("{table}.{column}"), text));
                }
            }
        }
        pool.close().await;
    } else {
        let pool = sqlx::PgPool::connect(url).await.expect("PostgreSQL");
        let columns = "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
            WHERE table_schema = current_schema()
              AND table_name IN (SELECT tablename FROM pg_tables WHERE schemaname = current_schema())";
        for row in sqlx::query(columns).fetch_all(&pool).await.expect("columns") {
            let (table, column, kind): (String, String, String) =
                (row.get(0), row.get(1), row.get(2));
            let text = match kind.as_str() {
                "bytea" => format!("encode({column}, 'escape')"),
                _ => format!("{column}::text"),
            };
            let all = format!("SELECT {text} FROM {table} WHERE {column} IS NOT NULL");
            for row in sqlx::query(&all).fetch_all(&pool).await.expect("cells") {
                found.push((format!("{table}.{column}"), row.get(0)));
            }
        }
        pool.close().await;
    }
    found
}

async fn no_table_holds_a_byte_of_a_customer_who_was_erased(ledger: &Ledger) {
    let store = &ledger.store;
    done(ledger, &hers("1"), "1").await;
    store.accept(placed(&hers("1").replace("129.90", "9.99")), at(3)).await.expect("answers");
    let exchange = exchange_of(&hers("1"));
    let (worker, exchanges) = ("w".to_owned(), vec![exchange]);
    let keep =
        KeepRequest { key: key("1"), attempt: 1, worker, exchanges, only_asked: false, now: at(1) };
    store.keep_exchanges(keep).await.expect("the ledger answers");
    let id = letter(ledger, &hers("dead")).await;
    let by = act(&format!("{NAME} wrote from {MAIL}"), at(9));
    store.resolve_dead_letter(id, Resolution::Discarded, &by).await.expect("the ledger answers");
    ledger
        .tamper(&format!(
            "INSERT INTO failure_groups (fingerprint, class, code, message, first_seen_ms)
        VALUES ('f', 'rejected', 'http_422', 'customer {MAIL} is blocked', 1)"
        ))
        .await;
    let hers_stands = |cells: &[(String, String)]| -> Vec<String> {
        let is_hers = |text: &String| {
            ["oneil", "O'Neil", "Secret Road", "C-777"].iter().any(|t| text.contains(t))
        };
        cells.iter().filter(|(_, text)| is_hers(text)).map(|(place, _)| place.clone()).collect()
    };
    let before = hers_stands(&cells(ledger).await);
    for table in [
        "orders.",
        "conflicts.",
        "exchanges.",
        "dead_letters.body",
        "audit.reason",
        "failure_groups.",
    ] {
        assert!(
            before.iter().any(|place| place.starts_with(table)),
            "{table} is not in {before:?}"
        );
    }
    assert!(erase(ledger, "1").await);
    assert_eq!(hers_stands(&cells(ledger).await), Vec::<String>::new());
    assert_eq!(sound(ledger).await, (1, 0, 1));
}

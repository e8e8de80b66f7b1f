//! An order that the ERP has twice, as people see it: everywhere until one of them has dealt with it.

use order_relay::domain::notice::NoticeKind;
use order_relay::ports::clock::{Clock, SystemClock};
use reqwest::Method;
use serde_json::Value;

use crate::people::{Browser, add_user, log_in};
use crate::store_contract::receipt;
use crate::world::{Place, World, order};

async fn page(browser: &Browser, world: &World, path: &str) -> String {
    let response = browser.request(Method::GET, &world.web(path)).send().await;
    response.expect("the web port answers").text().await.expect("text")
}

#[tokio::test]
async fn an_order_that_the_erp_has_twice_is_red_everywhere_until_it_is_settled() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    let password = add_user(&world, "erika", &["operator"]).await;
    let browser = log_in(&world, "erika", &password).await;
    world.place(&[order("T-1")]).await;
    world.until_phase("T-1", "transferred").await;
    assert!(!page(&browser, &world, "/").await.contains("Orders that the ERP has twice"));
    let store = world.store().await;
    for _ in 0..3 {
        // As often as a late answer is delivered.
        let late = receipt("T-1", 1, "LATE-2", SystemClock.now());
        store.confirm(late).await.expect("the ledger answers");
    }
    let mails = async || -> Vec<String> {
        let mails = store.list_mails(None, 100).await.expect("the ledger answers");
        let twice = mails.into_iter().filter(|mail| mail.mail.kind == NoticeKind::EnteredTwice);
        twice.map(|mail| mail.mail.subject).collect()
    };
    world
        .until("the administrators are told", async || match mails().await.len() {
            0 => Err("no mail".to_owned()),
            _ => Ok(()),
        })
        .await;

    let check = world.run(&["ledger", "check"]).await;
    let told = String::from_utf8(check.stdout).expect("text");
    assert_eq!(check.status.code(), Some(1), "{told}");
    assert!(told.contains("default/T-1") && told.contains("under two numbers"), "{told}");
    let shown = world.ok(&["orders", "show", "T-1"]).await;
    assert!(shown.contains("ENTERED TWICE") && shown.contains("LATE-2"), "{shown}");
    let json = world.ok(&["orders", "show", "T-1", "--output", "json"]).await;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["second_entries"][0]["number"], "LATE-2");
    assert!(page(&browser, &world, "/").await.contains("Orders that the ERP has twice: 1"));
    let order_page = page(&browser, &world, "/orders/default/T-1").await;
    assert!(order_page.contains("The ERP has this order twice."), "{order_page}");

    let settle = ["orders", "settle-double", "T-1", "--reason", "cancelled LATE-2", "--yes"];
    let without_reason = world.run(&["orders", "settle-double", "T-1"]).await;
    assert_eq!(without_reason.status.code(), Some(2));
    world.ok(&settle).await;
    assert_eq!(world.run(&settle).await.status.code(), Some(1), "nothing is left to settle");
    let told = world.ok(&["ledger", "check"]).await;
    assert!(told.contains("settled by people: 1") && told.contains("sound"), "{told}");
    assert!(!page(&browser, &world, "/").await.contains("Orders that the ERP has twice"));
    let order_page = page(&browser, &world, "/orders/default/T-1").await;
    assert!(order_page.contains("cancelled LATE-2"), "{order_page}");
    assert_eq!(mails().await, ["Order T-1 is in the ERP twice"], "exactly one");
    drop(store);
    world.end().await;
}

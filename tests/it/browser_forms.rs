//! Pages that can be trusted, in a real browser: what a reader holds stays through every update, what was typed
//! survives the end of a session, and everything can be done without a mouse.

use serde_json::json;

use crate::browser::{PASSWORD, add_user, log_in, without_tls};
use crate::chromium::Browser;
use crate::world::{Place, World, order, order_that};

async fn back_office(role: &str) -> (World, Browser) {
    let mut world = World::new(Place::Embedded).await;
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", role).await;
    let browser = Browser::start().await;
    (world, browser)
}

/// Waits until a script returns true.
async fn until_true(browser: &Browser, what: &str, script: &str) {
    browser
        .until(what, async || match browser.script(script).await {
            serde_json::Value::Bool(true) => Ok(()),
            told => Err(told.to_string()),
        })
        .await;
}

/// Presses Tab until that has the focus.
async fn tab_to(browser: &Browser, css: &str) {
    let is_there = format!("return document.activeElement.matches({})", json!(css));
    for _ in 0..120 {
        if browser.script(&is_there).await == json!(true) {
            return;
        }
        browser.keys("\u{E004}").await;
    }
    let at = browser.script("return document.activeElement.outerHTML").await;
    panic!("Tab never reaches {css}; it is at {at}");
}

#[tokio::test]
async fn what_a_reader_holds_stays_while_the_page_is_updated() {
    let (mut world, browser) = back_office("admin").await;
    log_in(&browser, &world, "erika").await;
    world.place(&[order("1")]).await;
    until_true(
        &browser,
        "the first is shown",
        "return document.querySelector('.legend b').textContent === '1'",
    )
    .await;
    // A field is filled in, its menu is open, a text is selected, and a link has the focus.
    browser.click("#overview .erps summary").await;
    browser.fill("#reason-1", "half a sen").await;
    let hold = r#"
        window.link = document.getElementById("span-24h");
        link.focus();
        const text = [...document.querySelectorAll('#overview h2')].at(-1).firstChild;
        getSelection().setBaseAndExtent(text, 0, text, 6);
        return String(getSelection());
    "#;
    assert_eq!(browser.script(hold).await, json!("Orders"));
    for number in 2..=3 {
        world.place(&[order(&number.to_string())]).await;
        let shown =
            format!("return document.querySelector('.legend b').textContent === '{number}'");
        until_true(&browser, "the next is shown", &shown).await;
        let held = r#"return [
            document.activeElement === window.link && window.link.isConnected,
            String(getSelection()),
            document.querySelector(".erps details").open,
            document.getElementById("reason-1").value,
        ]"#;
        assert_eq!(browser.script(held).await, json!([true, "Orders", true, "half a sen"]));
    }
    // The tab says how many are lost, without a reload.
    world.place(&[order_that("4", "reject")]).await;
    until_true(&browser, "the title counts", "return document.title.startsWith('(1) ')").await;
    let count = "return document.querySelector(\".nav a[href='/lost-orders'] .count\").textContent";
    assert_eq!(browser.script(count).await, json!("1"));
    assert_eq!(browser.script("return link === document.activeElement").await, json!(true));
    browser.sees("1 order needs you").await;
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn what_was_typed_when_the_session_ended_is_there_after_the_login() {
    let (mut world, browser) = back_office("admin").await;
    world.place(&[order_that("1", "reject")]).await;
    world.until_phase("1", "parked").await;
    log_in(&browser, &world, "erika").await;
    let end_session = async || assert!(world.tamper("DELETE FROM sessions").await > 0);

    // A long form: back at its page with every field as it was typed.
    browser.go(&world.web("/orders/default/1/edit")).await;
    browser.fill("input[name='f:/lines/0/sku']", "NEW-4711").await;
    end_session().await;
    browser.click("form.stack .sticky button.main").await;
    browser.sees("Your session has ended.").await;
    browser.sees("What you typed is kept in this tab.").await;
    browser.fill("input[name=name]", "erika").await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("form[action='/login'] button").await;
    browser.sees("What you had typed is here again.").await;
    assert!(browser.address().await.ends_with("/orders/default/1/edit"));
    let typed = "return document.querySelector(\"input[name='f:/lines/0/sku']\").value";
    assert_eq!(browser.script(typed).await, json!("NEW-4711"));
    browser.click("form.stack .sticky button.main").await;
    browser.sees("What would change").await;

    // A form in a menu: the menu is open again. A password is kept nowhere.
    browser.go(&world.web("/orders/default/1")).await;
    browser.click("details.box:has(form[action$='/remove']) > summary").await;
    browser.choose("select[name=kind]", "entered_by_hand").await;
    browser.fill("input[name=erp_order_id]", "SO-77").await;
    end_session().await;
    browser.click("form[action$='/remove'] button").await;
    browser.sees("Your session has ended.").await;
    browser.fill("input[name=name]", "erika").await;
    browser.fill("input[name=password]", "wrong").await;
    browser.click("form[action='/login'] button").await;
    browser.sees("password is wrong").await;
    let kept = browser.script("return JSON.stringify(sessionStorage)").await;
    assert!(
        kept.as_str().is_some_and(|kept| kept.contains("SO-77") && !kept.contains("wrong")),
        "{kept}"
    );
    browser.fill("input[name=name]", "erika").await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("form[action='/login'] button").await;
    browser.sees("What you had typed is here again.").await;
    browser.click("form[action$='/remove'] button").await;
    browser.sees("entered by hand in the ERP, number SO-77").await;

    // What one user typed is not shown to the next.
    browser.fill("form[action$='/restore'] input[name=reason]", "only for me").await;
    end_session().await;
    browser.click("form[action$='/restore'] button").await;
    browser.sees("Your session has ended.").await;
    add_user(&world, "otto", "admin").await;
    browser.fill("input[name=name]", "otto").await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("form[action='/login'] button").await;
    browser.sees("Undo the removal").await;
    let reason =
        "return document.querySelector(\"form[action$='/restore'] input[name=reason]\").value";
    assert_eq!(browser.script(reason).await, json!(""));
    assert_eq!(browser.script("return sessionStorage.length").await, json!(0));
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_order_is_transferred_and_another_one_restored_by_keyboard_alone() {
    const ENTER: &str = "\u{E007}";
    let (mut world, browser) = back_office("admin").await;
    world.place(&[order_that("K-1", "reject, ok"), order_that("K-2", "reject")]).await;
    for id in ["K-1", "K-2"] {
        world.until_phase(id, "parked").await;
    }
    let removed = ["lost-orders", "remove", "K-2", "--reason", "a test", "--yes"];
    world.ok(&removed).await;
    browser.go(&world.web("/")).await;
    browser.keys(&format!("erika\u{E004}{PASSWORD}{ENTER}")).await;
    browser.sees("1 order needs you").await;

    // The slash leads to the search, the number to the order, Tab to its button.
    browser.keys("/").await;
    until_true(&browser, "the search has the focus", "return document.activeElement.name === 'q'")
        .await;
    browser.keys(&format!("default/K-1{ENTER}")).await;
    browser.sees("Order default/K-1").await;
    tab_to(&browser, "form[action$='/transfer'] button").await;
    browser.keys(ENTER).await;
    browser.sees("It is in the ERP. ERP number:").await;
    world.until_phase("K-1", "transferred").await;

    browser.keys("/").await;
    until_true(&browser, "the search has the focus", "return document.activeElement.name === 'q'")
        .await;
    browser.keys(&format!("default/K-2{ENTER}")).await;
    browser.sees("Undo the removal").await;
    tab_to(&browser, "form[action$='/restore'] input[name=reason]").await;
    browser.keys(&format!("was no test{ENTER}")).await;
    browser.sees("Back on the list of lost orders.").await;
    world.until_phase("K-2", "parked").await;
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_address_that_is_not_there_and_a_lost_permission_are_pages_with_a_way_back() {
    let (world, browser) = back_office("viewer").await;
    log_in(&browser, &world, "erika").await;
    for (path, title, back) in [
        ("/users", "Not found", "/"),
        ("/people", "Not allowed", "/"),
        ("/orders/x/y", "Not found", "/orders"),
    ] {
        browser.go(&world.web(path)).await;
        browser.sees(title).await;
        browser.click("a[data-back]").await;
        browser
            .until("it leads back", async || match browser.address().await {
                at if at == world.web(back) => Ok(()),
                at => Err(at),
            })
            .await;
    }
    browser.end().await;
    world.end().await;
}

//! The back office in a real browser, as an operator uses it during an outage.
//!
//! Screenshots of every page are stored in `target/screenshots` for people; what a machine can
//! check (no horizontal scroll, contrast, labels, nothing of another origin) is checked here.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use order_relay::cli::devtools::StubMode;
use order_relay::devtools::erp_stub::StubSettings;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use crate::chromium::Browser;
use crate::private_postgres::PrivatePostgres;
use crate::world::{Place, RELAY, World, amqp_url, order_that, order_with};

pub const PASSWORD: &str = "correct horse battery staple";

/// A page is reached by plain HTTP here, so its cookies must not want TLS.
pub fn without_tls(world: &mut World) {
    world.set("web.public_url", "");
}

pub async fn add_user(world: &World, name: &str, role: &str) {
    let mut command = world.command(&["users", "add", name, "--role", role, "--password-stdin"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(PASSWORD.as_bytes()).await.expect("it reads");
    drop(stdin);
    assert!(child.wait().await.expect("it ends").success());
}

pub async fn log_in(browser: &Browser, world: &World, name: &str) {
    browser.go(&world.web("/")).await;
    browser.fill("input[name=name]", name).await;
    browser.fill("input[name=password]", PASSWORD).await;
    browser.click("form[action='/login'] button").await;
    browser.sees("Log out").await;
}

fn with_sku(id: &str, sku: &str) -> String {
    let lines = json!([{ "sku": sku, "name": "Lamp", "quantity": "2", "unit_price": "49.95" }]);
    order_with(id, &json!({ "lines": lines, "remark": "stub: reject" }))
}

#[tokio::test]
async fn an_operator_settles_lost_orders_in_a_browser() {
    let mut world = World::new(Place::Services).await;
    world.set("erp.exchanges", "all");
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", "admin").await;
    world
        .place(&[
            order_that("B-1", "reject"),
            order_that("B-2", "reject, busy"),
            order_that("B-3", "reject"),
            with_sku("B-4", "WRONG"),
        ])
        .await;
    for id in ["B-1", "B-2", "B-3", "B-4"] {
        world.until_phase(id, "parked").await;
    }
    let browser = Browser::start().await;
    log_in(&browser, &world, "erika").await;

    // Finds one by filter, and transfers it with the ERP up: success where the button stands.
    browser.go(&world.web("/lost-orders")).await;
    browser.fill("input[name=search]", "B-1").await;
    browser.click("form[role=search] button.main").await;
    browser
        .until("only that one is listed", async || {
            let rows =
                browser.script("return document.querySelectorAll('tr[data-order]').length").await;
            if rows == json!(1) { Ok(()) } else { Err(format!("{rows} rows")) }
        })
        .await;
    assert!(browser.address().await.contains("search=B-1"), "the address is the filter");
    let shown = "return document.querySelector('input[name=search]').value";
    assert_eq!(browser.script(shown).await, json!("B-1"), "the form shows the filter");
    let page = browser.sees("Orders 1").await;
    assert!(!page.contains("What failed"), "groups are of all orders: {page}");
    browser.click("tr[data-order='default/B-1'] button[data-transfer]").await;
    browser.sees("It is in the ERP. ERP number:").await;
    world.until_phase("B-1", "transferred").await;
    let customer = |world: &World| {
        let mails = world.post.mails().into_iter();
        mails
            .filter(|mail| mail.receivers.iter().any(|to| to.contains("erika@example.com")))
            .count()
    };
    world
        .until("the customer is told", async || match customer(&world) {
            0 => Err("no mail".to_owned()),
            _ => Ok(()),
        })
        .await;

    // With the ERP refusing: its error right there, and a mail to the administrator.
    let told_before = world.admin_mails().len();
    browser.go(&world.web("/orders/default/B-2")).await;
    browser.click("form[action$='/transfer'] button").await;
    let page = browser.sees("The ERP did not accept it:").await;
    assert!(page.contains("unavailable (http_503)"), "{page}");
    world
        .until("the administrator is told", async || match world.admin_mails().len() {
            count if count > told_before => Ok(()),
            count => Err(format!("{count} mails")),
        })
        .await;

    // Removes one with a reason, and restores it.
    browser.go(&world.web("/orders/default/B-3")).await;
    browser.click("details.box:has(form[action$='/remove']) > summary").await;
    browser.choose("select[name=kind]", "entered_by_hand").await;
    browser.fill("input[name=erp_order_id]", "SO-77").await;
    browser.click("form[action$='/remove'] button").await;
    browser.sees("entered by hand in the ERP, number SO-77").await;
    world.until_phase("B-3", "removed").await;
    browser.fill("form[action$='/restore'] input[name=reason]", "was not entered after all").await;
    browser.click("form[action$='/restore'] button").await;
    browser.sees("Back on the list of lost orders.").await;
    world.until_phase("B-3", "parked").await;

    // Edits a wrong article number and resends.
    browser.go(&world.web("/orders/default/B-4/edit")).await;
    browser.fill("input[name='f:/lines/0/sku']", "4711").await;
    browser.fill("input[name='f:/remark']", "mended").await;
    browser.click("form.stack .sticky button.main").await;
    browser.sees("What would change").await;
    browser.sees("/lines/0/sku").await;
    browser.fill("form.stack input[name=reason]", "the shop sold an old number").await;
    browser.click("button[value=save_and_send]").await;
    browser.sees("It is in the ERP. ERP number:").await;
    world.until_phase("B-4", "transferred").await;
    assert_eq!(world.stub.orders()["B-4"].documents.len(), 1);
    let sent = world.order("B-4").await.exchanges.pop().expect("it was kept").exchange.request_body;
    assert!(sent.contains("4711") && !sent.contains("WRONG"), "{sent}");
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn a_redrive_of_300_is_planned_watched_and_stopped_by_its_canary() {
    let mut world = World::new(Place::Embedded).await;
    world.set("circuit.open_after", "1000");
    world.set("mail.digest_after", "5");
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", "operator").await;
    world.stub.set(StubSettings { mode: StubMode::Reject, ..StubSettings::default() });
    let orders: Vec<String> = (0..300).map(|n| order_with(&format!("R-{n}"), &json!({}))).collect();
    world.place(&orders).await;
    let store = world.store().await;
    world
        .until("all are lost", async || {
            let open = store.count_open().await.map_err(|error| error.to_string())?;
            let parked: u64 = open.iter().filter(|c| c.phase == "parked").map(|c| c.orders).sum();
            if parked == 300 { Ok(()) } else { Err(format!("{parked} parked")) }
        })
        .await;
    let browser = Browser::start().await;
    log_in(&browser, &world, "erika").await;

    // The canary fails: one was sent, 299 were not.
    plan_all(&browser, &world).await;
    browser.sees("300").await;
    browser.click("form[action$='/start'] button").await;
    browser.sees("stopped automatically").await;
    let page = browser.sees("299").await;
    assert!(page.contains("waiting"), "{page}");
    let said = page.contains("http_422: product '4711' is unknown to the ERP");
    assert!(said && page.contains("Nothing more is sent."), "{page}");
    assert_eq!(in_erp(&world), 0, "nothing is in the ERP");

    // The ERP is fixed; the rest goes at a rate.
    world.stub.set(StubSettings::default());
    browser.fill("form[action$='/rate'] input[name=rate]", "6000").await;
    browser.click("form[action$='/rate'] button").await;
    browser.sees("The rate is changed.").await;
    browser.click("form[action$='/resume'] button").await;
    browser
        .until("it is done", async || {
            let page =
                browser.script("return document.querySelector('#redrive .pill')?.innerText").await;
            if page == json!("done") { Ok(()) } else { Err(page.to_string()) }
        })
        .await;
    assert_eq!(in_erp(&world), 299, "all but the canary, whose try failed");
    browser.click("form[action='/redrives'] button.main").await;
    browser.sees("Nothing has been sent.").await;
    browser.click("form[action$='/start'] button").await;
    world
        .until("the canary is in, too", async || match in_erp(&world) {
            300 => Ok(()),
            count => Err(format!("{count} in the ERP")),
        })
        .await;
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn an_editor_mends_a_group_and_a_dead_letter_and_is_told_when_somebody_was_faster() {
    let mut world = World::new(Place::Embedded).await;
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", "admin").await;
    world.place(&[with_sku("G-1", "OLD"), with_sku("G-2", "OLD"), with_sku("G-3", "OTHER")]).await;
    for id in ["G-1", "G-2", "G-3"] {
        world.until_phase(id, "parked").await;
    }
    let token = world.token("orders:publish").await;
    let bad = order_with("L-1", &json!({})).replace("\"129.90\"", "\"much\"");
    let refused =
        reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(&token).body(bad);
    assert_eq!(refused.send().await.expect("it answers").status().as_u16(), 422);
    let browser = Browser::start().await;
    log_in(&browser, &world, "erika").await;

    // The same change to all that match, shown for each order before it is kept.
    browser.go(&world.web("/lost-orders?sku=OLD")).await;
    browser.click("input[name=all]").await;
    browser.click("button[formaction='/lost-orders/change']").await;
    browser.sees("The same change to 2 orders").await;
    let patch = r#"[{"op":"replace","path":"/lines/0/sku","value":"NEW"},{"op":"remove","path":"/remark"}]"#;
    browser.fill("textarea[name=patch]", patch).await;
    browser.click("button[value=preview]").await;
    browser.sees("2 orders would change, 0 would not.").await;
    assert_eq!(world.order("G-1").await.record.revision, 0, "a preview changes nothing");
    // One of them is edited in the meantime: that edit stays.
    let theirs = r#"[{"op":"replace","path":"/lines/0/sku","value":"THEIRS"}]"#;
    world.ok(&["lost-orders", "edit", "G-2", "--patch", theirs, "--yes", "--reason", "x"]).await;
    browser.fill("input[name=reason]", "the article has a new number").await;
    browser.click("button[value=apply]").await;
    browser.sees("saved as revision 1").await;
    for (id, revision, sku) in [("G-1", 1, "NEW"), ("G-2", 1, "THEIRS"), ("G-3", 0, "OTHER")] {
        let order = world.order(id).await;
        assert_eq!(order.record.revision, revision, "{id}");
        assert!(order.current().contains(sku), "{id}: {}", order.current());
    }
    // They do not match the filter any more; the plan holds what was kept.
    browser.click("form[action='/redrives'] button.main").await;
    browser.sees("Nothing has been sent.").await;
    browser.sees("Start: 1").await;

    // Two concurrent edits: the second one is refused, and nothing is overwritten.
    browser.go(&world.web("/orders/default/G-3/edit")).await;
    browser.fill("input[name='f:/lines/0/sku']", "MINE").await;
    let edit = ["lost-orders", "edit", "G-3", "--patch", theirs, "--yes", "--reason", "faster"];
    world.ok(&edit).await;
    browser.click("form.stack .sticky button.main").await;
    browser.fill("form.stack input[name=reason]", "slower").await;
    browser.click("button[value=save]").await;
    browser.sees("Start again with the newest revision").await;
    assert!(world.order("G-3").await.current().contains("THEIRS"));

    // A message that was no order is fixed and accepted.
    browser.go(&world.web("/dead-letters")).await;
    browser.click("td a.mono").await;
    browser.sees("/total").await;
    browser.fill("textarea[name=body]", &order_with("L-1", &json!({}))).await;
    browser.fill("form[action$='/replay'] input[name=reason]", "the total was a word").await;
    browser.click("form[action$='/replay'] button.main").await;
    browser.sees("accepted as an order").await;
    world.until_phase("L-1", "transferred").await;

    // All of it is in the audit, from the pages and from the command line.
    let told = world.ok(&["audit", "--target", "default/G-3", "--output", "csv"]).await;
    assert!(told.contains("order.edit") && told.contains("faster"), "{told}");
    browser.go(&world.web("/audit?action=order.edit")).await;
    browser.sees("the article has a new number").await;
    let shown = "return document.querySelector('input[name=action]').value";
    assert_eq!(browser.script(shown).await, json!("order.edit"), "the form shows the filter");

    // A new user comes in with the password that is shown once, and may only look.
    browser.go(&world.web("/people")).await;
    browser.fill("form[action='/people/users'] input[name=name]", "otto").await;
    browser.click("form[action='/people/users'] button.main").await;
    browser.sees("Shown once, keep it now:").await;
    let shown =
        browser.script("return document.querySelector('.note .command code').innerText").await;
    let (name, password) = shown.as_str().and_then(|shown| shown.split_once(' ')).expect("both");
    browser.click("form[action='/logout'] button").await;
    browser.fill("input[name=name]", name).await;
    browser.fill("input[name=password]", password).await;
    browser.click("form[action='/login'] button").await;
    browser.sees("Log out").await;
    browser.go(&world.web("/orders/default/G-3")).await;
    let page = browser.sees("needs lostorder_process").await;
    assert!(page.contains("needs lostorder_edit") && !page.contains("Users and tokens"), "{page}");
    browser.end().await;
    world.end().await;
}

#[tokio::test]
async fn the_demo_shows_all_of_it_with_one_command_and_no_service() {
    let arguments = ["demo", "--orders", "20", "--rate", "20", "--history", "30"];
    let mut command = Command::new(RELAY);
    // Not even of an environment that is meant for a real installation.
    command.env("ORDER_RELAY__DATABASE__URL", "postgres://nobody@127.0.0.1:1/orders");
    command.env("ORDER_RELAY__WEB__LISTEN", "127.0.0.1:0");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut demo = command.spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("it is piped")).lines();
    let mut printed = async |after: &str| loop {
        let line = lines.next_line().await.expect("it prints").expect("it goes on");
        if let Some((_, rest)) = line.split_once(after) {
            return rest.trim().to_owned();
        }
    };
    let address = printed("Look at it").await;
    let password = printed("log in as admin with ").await;
    let reading = async { while lines.next_line().await.is_ok_and(|line| line.is_some()) {} };
    let looking = async {
        let browser = Browser::start().await;
        browser.go(&address).await;
        browser.fill("input[name=name]", "admin").await;
        browser.fill("input[name=password]", &password).await;
        browser.click("form[action='/login'] button").await;
        browser
            .until("its orders come in while one looks", async || {
                let shown = "return document.querySelector('#overview .legend b')?.innerText";
                let shown = browser.script(shown).await;
                // Those of the last day of the history are in it, too.
                let shown = shown.as_str().and_then(|shown| shown.parse::<u32>().ok());
                if shown >= Some(20) { Ok(()) } else { Err(format!("{shown:?}")) }
            })
            .await;
        browser.go(&format!("{address}lost-orders?phase=parked")).await;
        browser.sees("is unknown to the ERP").await;
        browser.go(&format!("{address}mails")).await;
        browser.sees("no mail server is configured").await;
        browser.go(&format!("{address}dead-letters")).await;
        browser.sees("`one` is not a number").await;
        browser.end().await;
        let id = demo.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().await.expect("kill").success());
        assert!(demo.wait().await.expect("it ends").success(), "nothing is in the ERP twice");
    };
    tokio::join!(reading, looking);
}

fn in_erp(world: &World) -> usize {
    world.stub.orders().values().filter(|order| !order.documents.is_empty()).count()
}

async fn plan_all(browser: &Browser, world: &World) {
    browser.go(&world.web("/lost-orders")).await;
    browser.click("input[name=all]").await;
    browser
        .until("the button tells how many", async || {
            let count =
                browser.script("return document.querySelector('[data-picked]').innerText").await;
            if count == json!("300") { Ok(()) } else { Err(count.to_string()) }
        })
        .await;
    browser.click(".sticky button.main[data-needs-pick]").await;
    browser.sees("Nothing has been sent. Look at the plan, then start it.").await;
}

#[tokio::test]
async fn the_page_works_while_200_orders_a_second_pass_and_the_database_is_restarted() {
    let database = PrivatePostgres::new();
    let url = database.run("start").await;
    let mut world = World::with(Place::Services, amqp_url(), url).await;
    world.set("database.patience", "500ms");
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", "viewer").await;
    let browser = Browser::start().await;
    log_in(&browser, &world, "erika").await;
    let received = async || {
        let shown = "return document.querySelector('#overview .legend b')?.innerText";
        let shown = browser.script(shown).await.as_str().unwrap_or_default().replace(',', "");
        shown.parse::<u64>().map_err(|error| format!("{shown}: {error}"))
    };
    let passing = async {
        for second in 0..10 {
            let orders: Vec<String> = (0..200)
                .map(|number| order_with(&format!("P-{second}-{number}"), &json!({})))
                .collect();
            tokio::join!(world.publish(&orders), tokio::time::sleep(Duration::from_secs(1)));
        }
    };
    let looking = async {
        // It moves by itself while orders pass.
        let first = received().await.unwrap_or(0);
        let moved = browser.until("the page moves", async || {
            let now = received().await?;
            if now > first + 400 { Ok(now) } else { Err(format!("{now} received")) }
        });
        assert!(moved.await > first);
        database.run("restart").await;
    };
    tokio::join!(passing, looking);
    database.run("start").await;
    // The same page, not loaded again, shows the truth once the database is back.
    browser
        .until("every order is on the page", async || match received().await? {
            2_000 => Ok(()),
            count => Err(format!("{count} received")),
        })
        .await;
    browser.go(&world.web("/orders")).await;
    browser.sees("P-9-").await;
    browser.end().await;
    world.until_settled(2_000).await;
    world.end().await;
}

/// Markup, formulas, templates, terminal escapes and marks that turn the reading direction.
const HOSTILE: &str = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>{{7*7}}=HYPERLINK(\"http://x\")\u{1b}[31m\u{202e}";

fn hostile(id: &str) -> String {
    order_with(
        id,
        &json!({
            "remark": "stub: reject",
            "customer": { "number": HOSTILE, "name": HOSTILE, "email": "erika@example.com", "locale": HOSTILE },
            "lines": [{ "sku": "<b>4711</b>", "name": HOSTILE, "quantity": "123456789012345678901234567890.10", "unit_price": "0.10" }],
            "total": "123456789012345678901234567890.123456789",
            "invoice_address": { HOSTILE: HOSTILE, "city": "=1+1" },
            "payment": { "method": "=cmd|' /C calc'!A0" },
        }),
    )
}

#[tokio::test]
async fn every_page_reads_well_at_any_width_light_and_dark_and_holds_no_foreign_code() {
    let mut world = World::new(Place::Embedded).await;
    world.set("mail.smtp_url", "");
    without_tls(&mut world);
    world.serve().await;
    add_user(&world, "erika", "admin").await;
    let mut orders: Vec<String> = (0..60).map(|n| order_that(&format!("S-{n}"), "ok")).collect();
    orders.push(hostile("H-1"));
    orders.push(order_that("S-60", "busy, busy, busy"));
    orders.push(order_that("S-61", "busy, reject"));
    world.place(&orders).await;
    for id in ["H-1", "S-60", "S-61"] {
        world.until_phase(id, "parked").await;
    }
    let token = world.token("orders:publish").await;
    let refused = reqwest::Client::new()
        .post(world.web("/api/v1/orders"))
        .bearer_auth(&token)
        .body("{\"order_id\": \"<script>\",\n \"total\": \"x\"}")
        .send()
        .await
        .expect("it answers");
    assert_eq!(refused.status().as_u16(), 422);
    let store = world.store().await;
    let letter = store.list_dead_letters(true, 1).await.expect("letters").remove(0);
    world
        .until("a mail is kept", async || match store.list_mails(None, 1).await {
            Ok(mails) if !mails.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    let mail = store.list_mails(None, 1).await.expect("mails").remove(0).id;
    let group =
        world.order("H-1").await.record.last_failure.expect("it failed").summary.fingerprint;

    let browser = Browser::start().await;
    browser.go(&world.web("/login")).await;
    look_at(&browser, "login").await;
    log_in(&browser, &world, "erika").await;
    browser.go(&world.web("/lost-orders")).await;
    // By keyboard alone: to the second order, pick it.
    browser.script("document.activeElement.blur()").await;
    browser.keys("jjx").await;
    let picked = "return document.querySelector('[data-picked]').innerText";
    assert_eq!(browser.script(picked).await, json!("1"), "a key picks the order");
    browser.click(".sticky button.main[data-needs-pick]").await;
    browser.sees("Nothing has been sent.").await;
    let redrive = browser.address().await;
    let pages = [
        ("overview", "/".to_owned()),
        ("lost-orders", "/lost-orders".to_owned()),
        ("orders", "/orders?sort=-changed".to_owned()),
        ("nothing-found", "/orders?search=nothing-of-that-name".to_owned()),
        ("order", "/orders/default/H-1".to_owned()),
        ("order-done", "/orders/default/S-1".to_owned()),
        ("edit", "/orders/default/H-1/edit".to_owned()),
        ("group", format!("/groups/{group}")),
        ("redrives", "/redrives".to_owned()),
        (
            "redrive",
            redrive
                .split_once("//")
                .and_then(|(_, rest)| rest.find('/').map(|at| rest[at..].to_owned()))
                .expect("a path"),
        ),
        ("dead-letters", "/dead-letters".to_owned()),
        ("dead-letter", format!("/dead-letters/{}", letter.id)),
        ("mails", "/mails".to_owned()),
        ("mail", format!("/mails/{mail}")),
        ("audit", "/audit".to_owned()),
        ("status", "/status".to_owned()),
        ("people", "/people".to_owned()),
        ("me", "/me".to_owned()),
        ("not-found", "/orders/default/none".to_owned()),
    ];
    for (name, path) in &pages {
        browser.go(&world.web(path)).await;
        look_at(&browser, name).await;
    }
    browser.go(&world.web("/language/de?return_to=/lost-orders")).await;
    browser.sees("Verlorene Bestellungen").await;
    for (name, path) in &pages {
        browser.go(&world.web(path)).await;
        look_at(&browser, &format!("{name}-de")).await;
    }

    // For reading no script is needed.
    browser.without_scripts(true).await;
    browser.go(&world.web("/language/en?return_to=/orders/default/H-1")).await;
    browser.without_scripts(false).await;
    let page = browser.sees("What happened").await;
    assert!(
        page.contains("ago")
            && page.contains("product '4711' is unknown")
            && page.contains("<b>4711</b>"),
        "{page}"
    );
    browser.without_scripts(true).await;
    browser.end().await;
    world.end().await;
}

async fn look_at(browser: &Browser, name: &str) {
    for (width, scheme) in
        [(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark"), (1920, "light")]
    {
        browser.on_screen(width, scheme).await;
        let found = browser.script(LOOK).await;
        assert_eq!(found["faults"], json!([]), "{name} at {width} px, {scheme}");
        if width != 1920 {
            let faults = violations(browser).await;
            assert_eq!(faults, json!([]), "axe on {name} at {width} px, {scheme}");
        }
        if width != 1920 {
            browser.picture(&screenshots().join(format!("{name}-{width}-{scheme}.png"))).await;
        }
    }
}

/// What axe-core finds. It is put into the page from outside: the page's own policy would let nobody load it.
async fn violations(browser: &Browser) -> serde_json::Value {
    const AXE: &str = include_str!("../assets/axe.min.js");
    const RUN: &str = r#"
        return axe.run(document, { preload: false, resultTypes: ["violations"] }).then((found) =>
          found.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`));
    "#;
    if browser.script("return typeof axe").await != json!("object") {
        browser.script(AXE).await;
    }
    browser.script(RUN).await
}

fn screenshots() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// What can be checked automatically: nothing overflows, every text has enough contrast (WCAG 2.2,
/// 1.4.3: 4.5 to 1, large 3 to 1), every field has a name, every heading level follows, nothing
/// foreign ran or was loaded.
const LOOK: &str = r#"
const faults = [];
if (document.documentElement.scrollWidth > innerWidth + 1) {
  const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".unseen, .skip, pre"));
  faults.push("scrolls sideways: " + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 120)).join(" | "));
}
for (const box of document.querySelectorAll(".card, .tile, .note, td")) {
  if (box.checkVisibility() && box.scrollWidth > box.clientWidth + 2) faults.push(`sticks out: ${box.outerHTML.slice(0, 160)}`);
}
if (window.hacked) faults.push("foreign code ran");
for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea")) {
  if (!field.labels?.length && !field.getAttribute("aria-label")) faults.push("no label: " + field.outerHTML.slice(0, 120));
}
for (const entry of performance.getEntriesByType("resource")) {
  if (!entry.name.startsWith(location.origin)) faults.push("loaded from elsewhere: " + entry.name);
}
if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => {
  const part = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
};
const ground = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] > 250) return colour;
  }
  return rgb("Canvas");
};
const seen = new Set();
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!texts.currentNode.nodeValue.trim() || seen.has(element) || !element.checkVisibility() || element.closest(".unseen, .skip, :disabled, option, script")) continue;
  seen.add(element);
  const style = getComputedStyle(element);
  const [a, b] = [light(rgb(style.color)), light(ground(element))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
  if (ratio < (large ? 3 : 4.5)) faults.push(`contrast ${ratio.toFixed(2)}: ${element.outerHTML.slice(0, 120)}`);
}
return { faults: faults.slice(0, 10) };
"#;

//! The life of an order, each from checkout to its end, on RabbitMQ with PostgreSQL and embedded.

use order_relay::cli::devtools::StubMode;
use order_relay::devtools::erp_stub::StubSettings;
use serde_json::json;

use crate::smtp::Received;
use crate::world::{
    Place, World, erp_number, in_both_places, order, order_that, order_with, texts,
};

in_both_places!(
    an_order_that_the_erp_takes_is_confirmed_with_its_number,
    a_retry_that_succeeds_confirms_and_tells_administrators_and_customer,
    an_order_that_always_fails_is_parked_at_the_maximum,
    a_refused_order_is_parked_at_once,
    without_a_maximum_tries_go_on,
    the_same_order_twice_is_sent_once,
    another_payload_under_a_known_number_is_kept_beside_it,
    a_timeout_after_send_is_looked_up_before_resend,
    an_order_that_did_not_arrive_is_sent_again_after_settle,
    a_gateway_error_after_acceptance_does_not_make_a_second_document,
    an_erp_that_is_away_pauses_the_work_and_burns_no_tries,
    a_refused_login_opens_the_circuit_with_one_mail,
    a_lost_order_is_transferred_by_hand_and_the_customer_is_told,
    a_transfer_by_hand_that_fails_shows_the_error_and_leaves_it_parked,
    a_removed_order_can_be_restored,
    many_failures_arrive_as_one_digest_that_names_every_order,
    a_mail_server_that_is_away_delays_mails_and_nothing_else,
    a_mail_that_is_refused_for_good_ends_visible,
    a_shop_has_its_own_erp_receivers_and_maximum,
    a_slow_erp_is_waited_for,
    a_person_holds_the_transfer_and_releases_it,
    an_order_of_another_shop_with_the_same_number_is_not_taken_for_this_one,
    a_failure_in_hand_at_a_polite_end_is_counted,
);

async fn an_order_that_the_erp_takes_is_confirmed_with_its_number(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order("100042")]).await;
    world.until_settled(1).await;
    let stored = world.order("100042").await;
    assert_eq!(erp_number(&stored).as_deref(), Some("ERP-1"));
    assert_eq!(&*stored.document, order("100042"), "the document is kept as it came");
    let keys = world.stub.orders()["100042"].keys.clone();
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), ["default/100042"]);
    assert!(world.post.mails().is_empty(), "nobody is told of a success without failure");
    world.end().await;
}

async fn a_retry_that_succeeds_confirms_and_tells_administrators_and_customer(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("R-1", "busy, ok")]).await;
    world.until_settled(1).await;
    assert_eq!(
        world.snapshot().await,
        "default/R-1: confirmed/transferred, failed 1, tries [1 unavailable http_503; 2 ok], mails [order_failed, customer_confirmation], in the ERP 1\n"
    );
    let mails = world.post.mails();
    let admin = world.admin_mails();
    assert_eq!((mails.len(), admin.len()), (2, 1));
    assert_eq!(admin[0].subject(), "Order R-1 failed (1 of 3): maintenance");
    assert!(
        admin[0].text().contains("https://relay.example.com/orders/default/R-1"),
        "{}",
        admin[0].text()
    );
    assert!(admin[0].html().contains("maintenance"));
    let customer = mails.iter().find(|mail| mail.receivers == ["erika@example.com"]);
    let customer = customer.expect("the customer is told");
    assert_eq!(customer.subject(), "Ihre Bestellung R-1 ist bestätigt");
    assert!(customer.text().contains("Auftragsnummer ERP-1"), "{}", customer.text());
    world.end().await;
}

async fn an_order_that_always_fails_is_parked_at_the_maximum(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("P-1", "busy, busy, busy, busy, busy")]).await;
    world.until_settled(1).await;
    assert_eq!(
        world.snapshot().await,
        "default/P-1: ordered_failed/parked, failed 3, tries [1 unavailable http_503; 2 unavailable http_503; 3 unavailable http_503], mails [order_failed, order_failed, order_failed], in the ERP 0\n"
    );
    assert_eq!(world.stub.orders()["P-1"].sent, 3, "no automatic try past the maximum");
    let subjects: Vec<String> = world.admin_mails().iter().map(|mail| mail.subject()).collect();
    assert!(
        subjects.contains(&"Order P-1 failed (3 of 3): maintenance".to_owned()),
        "{subjects:?}"
    );
    world.end().await;
}

async fn a_refused_order_is_parked_at_once(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("J-1", "reject")]).await;
    world.until_settled(1).await;
    assert_eq!(
        world.snapshot().await,
        "default/J-1: ordered_failed/parked, failed 1, tries [1 rejected http_422], mails [order_failed], in the ERP 0\n"
    );
    let stored = world.order("J-1").await;
    let failure = stored.record.last_failure.expect("it failed").summary;
    assert_eq!(failure.message, "product '4711' is unknown to the ERP");
    world.end().await;
}

async fn without_a_maximum_tries_go_on(place: Place) {
    let mut world = World::new(place).await;
    world.set("max_failed_order", "none");
    world.set("retry.schedule", "50ms");
    world.serve().await;
    world.place(&[order_that("N-1", "busy, busy, busy, busy, busy, busy, ok")]).await;
    world.until_settled(1).await;
    let stored = world.order("N-1").await;
    assert_eq!((stored.record.fail_count, stored.record.max_count), (6, None));
    assert_eq!(stored.record.phase.name(), "transferred");
    world.end().await;
}

async fn the_same_order_twice_is_sent_once(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order("D-1"), order("D-2")]).await;
    world.until_settled(2).await;
    // Spaced differently, it still says the same.
    let again = serde_json::from_str::<serde_json::Value>(&order("D-1")).expect("JSON");
    let spaced = serde_json::to_string_pretty(&again).expect("JSON").replace('\n', " ");
    world.place(&[order("D-1"), order("D-1"), spaced]).await;
    world.place(&[order("D-3")]).await;
    world.until_settled(3).await;
    assert_eq!(world.stub.orders()["D-1"].sent, 1);
    assert!(world.order("D-1").await.conflicts.is_empty());
    world.end().await;
}

async fn another_payload_under_a_known_number_is_kept_beside_it(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order("C-1")]).await;
    world.until_settled(1).await;
    let other = order_with("C-1", &json!({"total": "1.00"}));
    match place {
        Place::Services => world.place(std::slice::from_ref(&other)).await,
        Place::Embedded => {
            let token = world.token("orders:publish").await;
            let request =
                reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(token);
            let response = request.body(other.clone()).send().await.expect("the API answers");
            assert_eq!(response.status().as_u16(), 409);
        }
    }
    let store = world.store().await;
    let key =
        order_relay::domain::order::values::OrderKey::new("default", "C-1").expect("a good key");
    world
        .until("the other payload is kept", async || {
            let stored = store.order(&key).await.map_err(|error| error.to_string())?;
            match stored.map(|order| order.conflicts) {
                Some(conflicts) if conflicts.len() == 1 => Ok(()),
                conflicts => Err(format!("{conflicts:?}")),
            }
        })
        .await;
    let stored = world.order("C-1").await;
    assert_eq!(&*stored.document, order("C-1"));
    assert_eq!(stored.conflicts[0].document, other);
    assert_eq!(world.stub.orders()["C-1"].sent, 1);
    world.end().await;
}

async fn a_timeout_after_send_is_looked_up_before_resend(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("U-1", "accept_then_cut")]).await;
    world.until_settled(1).await;
    assert_eq!(
        world.snapshot().await,
        "default/U-1: confirmed/transferred, failed 1, tries [1 unknown_outcome no_answer; 2 found], mails [order_failed, customer_confirmation], in the ERP 1\n"
    );
    assert_eq!(world.stub.orders()["U-1"].sent, 1, "it was never sent a second time");
    world.end().await;
}

async fn an_order_that_did_not_arrive_is_sent_again_after_settle(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("U-2", "cut, ok")]).await;
    world.until_settled(1).await;
    let stored = world.order("U-2").await;
    let [first, second] = stored.attempts.as_slice() else { panic!("{:?}", stored.attempts) };
    assert_eq!(first.class.as_deref(), Some("unknown_outcome"));
    assert!(!second.found);
    let pause = second.occurred_at.duration_since(first.occurred_at);
    assert!(pause.as_millis() >= 1_000, "\"not there\" counted after {pause:?}, before erp.settle");
    world.end().await;
}

async fn a_gateway_error_after_acceptance_does_not_make_a_second_document(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("G-1", "gateway_timeout")]).await;
    world.until_settled(1).await;
    assert_eq!(
        world.snapshot().await,
        "default/G-1: confirmed/transferred, failed 1, tries [1 unavailable http_504; 2 found], mails [order_failed, customer_confirmation], in the ERP 1\n"
    );
    world.end().await;
}

async fn an_erp_that_is_away_pauses_the_work_and_burns_no_tries(place: Place) {
    let mut world = World::new(place).await;
    world.stub.set(StubSettings { mode: StubMode::Down, ..Default::default() });
    world.set("circuit.pause", "200ms");
    world.set("circuit.longest_pause", "400ms");
    world.serve().await;
    let orders: Vec<String> = (0..40).map(|number| order(&format!("H-{number}"))).collect();
    world.place(&orders[..10]).await;
    let store = world.store().await;
    world
        .until("the circuit opens", async || {
            let circuits = store.circuits().await.map_err(|error| error.to_string())?;
            match circuits.first().map(|circuit| circuit.state.as_str()) {
                Some("open" | "half_open") => Ok(()),
                state => Err(format!("{state:?}")),
            }
        })
        .await;
    world.place(&orders[10..]).await;
    let sent_before = world.stub.requests();
    world
        .until("three trials have failed", async || {
            let circuits = store.circuits().await.map_err(|error| error.to_string())?;
            let trials = circuits.first().map_or(0, |circuit| circuit.trials);
            if trials >= 3 { Ok(()) } else { Err(format!("{trials}")) }
        })
        .await;
    let sent = world.stub.requests() - sent_before;
    assert_eq!(sent, 0, "a trial asks first; {sent} orders were sent into the outage");
    world.stub.set(StubSettings::default());
    world.until_settled(40).await;
    // Attempts in progress when it went down failed; after that no attempt was used up.
    let all = store.page_orders(&Default::default(), Default::default(), None, 100).await;
    let all = all.expect("the ledger answers");
    let burnt: Vec<_> = all
        .iter()
        .filter(|order| order.fail_count > 0)
        .map(|order| (&order.key.order_id, order.last_failure.as_ref().map(|f| &f.summary.code)))
        .collect();
    assert!(burnt.len() <= 10, "ten had come before it opened, and these failed: {burnt:?}");
    let about_circuit: Vec<_> = world
        .admin_mails()
        .into_iter()
        .filter(|mail| mail.subject().contains("not usable"))
        .collect();
    assert_eq!(about_circuit.len(), 1, "one mail tells of the outage");
    world.end().await;
}

async fn a_refused_login_opens_the_circuit_with_one_mail(place: Place) {
    let mut world = World::new(place).await;
    world.set("circuit.longest_pause", "1s");
    world.stub.set(StubSettings { mode: StubMode::Unauthorized, ..Default::default() });
    world.serve().await;
    world.place(&[order("L-1")]).await;
    let store = world.store().await;
    world
        .until("the circuit is open", async || {
            let circuits = store.circuits().await.map_err(|error| error.to_string())?;
            let open =
                circuits.iter().find(|c| c.reason.as_deref().unwrap_or("").contains("http_401"));
            open.map(|_| ()).ok_or_else(|| format!("{circuits:?}"))
        })
        .await;
    let ready = reqwest::get(world.web("/readyz")).await.expect("the web port answers");
    assert_eq!(ready.status().as_u16(), 200, "we are well, the ERP is not");
    let address = world.web("/metrics");
    world
        .until("metrics show it", async || {
            let metrics = reqwest::get(&address).await.map_err(|error| error.to_string())?;
            let metrics = metrics.text().await.map_err(|error| error.to_string())?;
            let state = metrics.lines().find(|line| line.starts_with("order_relay_circuit_state"));
            let is_open = state.is_some_and(|line| !line.ends_with(" 0"));
            if is_open { Ok(()) } else { Err(format!("{state:?}")) }
        })
        .await;
    world.stub.set(StubSettings::default());
    world.until_settled(1).await;
    assert_eq!(world.order("L-1").await.record.phase.name(), "transferred");
    world.end().await;
}

async fn a_lost_order_is_transferred_by_hand_and_the_customer_is_told(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("T-1", "reject, ok"), order_that("T-2", "reject, reject, ok")]).await;
    world.until_settled(2).await;
    let list = world.ok(&["lost-orders", "list", "--output", "json"]).await;
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(2), "{list}");
    let told = world.ok(&["lost-orders", "process", "T-1", "--reason", "product was made"]).await;
    assert!(told.contains("ERP-1"), "{told}");
    // Two of one call: one goes through, one fails again.
    let all = world.run(&["process-lost-orders", "--yes"]).await;
    assert_eq!(all.status.code(), Some(1), "{:?}", texts(&all));
    world.until_settled(2).await;
    let stored = world.order("T-1").await;
    assert_eq!(stored.record.phase.name(), "transferred");
    assert_eq!(stored.attempts[1].trigger, "operator");
    assert_eq!(stored.audit[0].action, "order.transfer");
    assert_eq!(stored.audit[0].reason.as_deref(), Some("product was made"));
    assert!(stored.mails.iter().any(|mail| mail.mail.kind.as_str() == "customer_confirmation"));
    world.end().await;
}

async fn a_transfer_by_hand_that_fails_shows_the_error_and_leaves_it_parked(place: Place) {
    let mut world = World::new(place).await;
    world.set("max_failed_order", "1");
    world.serve().await;
    world.place(&[order_that("F-1", "busy, busy, ok")]).await;
    world.until_settled(1).await;
    let output = world.run(&["lost-orders", "process", "F-1"]).await;
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("maintenance"), "the ERP's error is shown: {out}{err}");
    let stored = world.order("F-1").await;
    assert_eq!((stored.record.phase.name(), stored.record.fail_count), ("parked", 2));
    let again = world.run(&["lost-orders", "process", "F-1"]).await;
    assert!(again.status.success(), "{:?}", texts(&again));
    let done = world.run(&["lost-orders", "process", "F-1"]).await;
    let (out, err) = texts(&done);
    assert_eq!(done.status.code(), Some(1));
    assert!(format!("{out}{err}").contains("invalid_state"), "{out}{err}");
    world.until_settled(1).await;
    world.end().await;
}

async fn a_removed_order_can_be_restored(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("X-1", "reject, ok")]).await;
    world.until_settled(1).await;
    let without_reason = world.run(&["lost-orders", "remove", "X-1", "--yes"]).await;
    assert_eq!(without_reason.status.code(), Some(2), "{:?}", texts(&without_reason));
    let dry = world.ok(&["lost-orders", "remove", "X-1", "--reason", "test", "--dry-run"]).await;
    assert!(!dry.is_empty());
    assert_eq!(world.order("X-1").await.record.phase.name(), "parked");
    world.ok(&["lost-orders", "remove", "X-1", "--reason", "entered by hand", "--yes"]).await;
    assert_eq!(world.order("X-1").await.record.phase.name(), "removed");
    let list = world.ok(&["lost-orders", "list", "--output", "json"]).await;
    assert_eq!(list.trim(), "[]");
    let transfer = world.run(&["lost-orders", "process", "X-1"]).await;
    assert_eq!(transfer.status.code(), Some(1), "a removed order is not transferred");
    world.ok(&["lost-orders", "restore", "X-1", "--reason", "it was not", "--yes"]).await;
    assert_eq!(world.order("X-1").await.record.phase.name(), "parked");
    world.ok(&["lost-orders", "process", "X-1"]).await;
    world.until_settled(1).await;
    let actions: Vec<String> =
        world.order("X-1").await.audit.into_iter().map(|entry| entry.action).collect();
    assert_eq!(actions, ["order.remove", "order.restore", "order.transfer"]);
    world.end().await;
}

async fn many_failures_arrive_as_one_digest_that_names_every_order(place: Place) {
    let mut world = World::new(place).await;
    world.set("mail.digest_after", "5");
    world.serve().await;
    let orders: Vec<String> =
        (0..60).map(|number| order_that(&format!("M-{number:03}"), "reject")).collect();
    world.place(&orders).await;
    world.until_settled(60).await;
    let mails = world.admin_mails();
    assert!(mails.len() <= 12, "{} mails for 60 failures", mails.len());
    for number in 0..60 {
        let id = format!("M-{number:03}");
        let names = |mail: &&Received| (mail.text() + &mail.attachment()).contains(&id);
        let naming = mails.iter().filter(names).count();
        assert_eq!(naming, 1, "{id} is named by {naming} mails");
    }
    let digest = mails.iter().find(|mail| mail.subject().contains("failed transfers"));
    let digest = digest.expect("a digest");
    assert!(digest.html().contains("product"), "it tells what failed");
    world.end().await;
}

async fn a_mail_server_that_is_away_delays_mails_and_nothing_else(place: Place) {
    let mut world = World::new(place).await;
    world.post.set(crate::smtp::Mood::Away);
    world.serve().await;
    world.place(&[order_that("S-1", "reject"), order_that("S-2", "busy, ok"), order("S-3")]).await;
    world.until_phase("S-1", "parked").await;
    world.until_phase("S-2", "transferred").await;
    world.until_phase("S-3", "transferred").await;
    assert!(world.post.mails().is_empty());
    world.post.set(crate::smtp::Mood::Fine);
    world.until_settled(3).await;
    assert_eq!(world.admin_mails().len(), 2);
    world.end().await;
}

async fn a_mail_that_is_refused_for_good_ends_visible(place: Place) {
    let mut world = World::new(place).await;
    world.post.set(crate::smtp::Mood::Refuses);
    world.serve().await;
    world.place(&[order_that("V-1", "reject")]).await;
    let store = world.store().await;
    world
        .until("the mail is given up", async || {
            let counts = store.count_mails().await.map_err(|error| error.to_string())?;
            if counts.failed == 1 && counts.waiting == 0 {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        })
        .await;
    let listed = world.ok(&["mails", "list", "--status", "failed"]).await;
    assert!(listed.contains("V-1"), "{listed}");
    world.end().await;
}

async fn a_shop_has_its_own_erp_receivers_and_maximum(place: Place) {
    let mut world = World::new(place).await;
    world.set("shops.at.max_failed_order", "1");
    world.set("shops.at.mail.receiver", "admin-at@example.com");
    // Nobody listens there.
    world.set("shops.at.erp.url", "http://127.0.0.1:9/orders");
    world.set("circuit.suspect_after", "100");
    world.serve().await;
    world
        .place(&[
            order_with("W-1", &json!({"shop": "at"})),
            order_with("W-2", &json!({"shop": "de"})),
        ])
        .await;
    world.until_settled(2).await;
    assert_eq!(world.order("de/W-2").await.record.phase.name(), "transferred");
    let at = world.order("at/W-1").await;
    assert_eq!((at.record.phase.name(), at.record.fail_count), ("parked", 1));
    assert_eq!(at.record.last_failure.expect("it failed").summary.code, "connect");
    let mails = world.admin_mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].receivers, ["admin-at@example.com"]);
    world.end().await;
}

async fn a_slow_erp_is_waited_for(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("Z-1", "slow"), order("Z-2")]).await;
    world.until_settled(2).await;
    assert_eq!(world.order("Z-1").await.record.fail_count, 0);
    world.end().await;
}

async fn a_person_holds_the_transfer_and_releases_it(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_that("O-1", "reject, ok")]).await;
    world.until_settled(1).await;
    let without_reason = world.run(&["erp", "hold"]).await;
    assert_eq!(without_reason.status.code(), Some(2), "{:?}", texts(&without_reason));
    let unknown = world.run(&["erp", "hold", "sap", "--reason", "update"]).await;
    assert!(texts(&unknown).1.contains("there is: default"), "{:?}", texts(&unknown));
    world.ok(&["erp", "hold", "--reason", "the ERP is updated"]).await;
    let held = world.run(&["lost-orders", "process", "O-1"]).await;
    assert_eq!(held.status.code(), Some(4), "{:?}", texts(&held));
    assert!(texts(&held).0.contains("the ERP is updated"), "{:?}", texts(&held));
    let web = world.web("/metrics");
    world
        .until("the service obeys", async || {
            let metrics = reqwest::get(&web).await.map_err(|error| error.to_string())?;
            let metrics = metrics.text().await.map_err(|error| error.to_string())?;
            let is_open = metrics.contains("order_relay_circuit_state{erp=\"default\"} 2");
            if is_open { Ok(()) } else { Err("still closed".to_owned()) }
        })
        .await;
    let orders: Vec<String> = (0..20).map(|number| order(&format!("O-held-{number}"))).collect();
    world.place(&orders).await;
    let sent = world.stub.requests();
    let circuits = world.ok(&["erp", "circuits"]).await;
    assert!(circuits.contains("the ERP is updated") && circuits.contains("open"), "{circuits}");
    assert_eq!(world.stub.requests(), sent, "nothing is sent while it is held");
    world.ok(&["erp", "release"]).await;
    world.until_settled(21).await;
    let again = world.run(&["erp", "release"]).await;
    assert_eq!(again.status.code(), Some(1), "it is not stopped any more");
    world.ok(&["lost-orders", "process", "O-1"]).await;
    world.until_settled(21).await;
    world.end().await;
}

async fn an_order_of_another_shop_with_the_same_number_is_not_taken_for_this_one(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    world.place(&[order_with("1", &json!({"shop": "de"}))]).await;
    world.until_settled(1).await;
    // The stub is asked by number alone, and has one: the other shop's.
    let other = json!({"shop": "at", "remark": "stub: cut"});
    world.stub.script("1", &[StubMode::Cut]);
    world.place(&[order_with("1", &other)]).await;
    world.until_phase("at/1", "outcome_unknown").await;
    let stub = world.stub.clone();
    world
        .until("it was asked about", async || {
            let asked = stub.orders()["1"].asked;
            if asked >= 2 { Ok(()) } else { Err(format!("{asked}")) }
        })
        .await;
    world.stop().await;
    let stored = world.order("at/1").await;
    assert_eq!(stored.record.phase.name(), "outcome_unknown", "it stays visible");
    assert_eq!(world.stub.orders()["1"].documents.len(), 1);
    world.leave().await;
}

async fn a_failure_in_hand_at_a_polite_end_is_counted(place: Place) {
    let mut world = World::new(place).await;
    world.stub.set(StubSettings { latency_ms: 400, ..Default::default() });
    world.serve().await;
    world.place(&[order_that("E-1", "reject")]).await;
    let stub = world.stub.clone();
    world
        .until("it is sent", async || {
            // The stub counts an order when its latency is over; a request under way shows nowhere.
            if stub.requests() == 1 { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    world.stop().await;
    if place == Place::Embedded {
        // Counted before the process ended, although the broker ended with it.
        assert_eq!(world.order("E-1").await.record.phase.name(), "parked");
    }
    world.start(&["serve"]).await;
    world.until_settled(1).await;
    let stored = world.order("E-1").await;
    assert_eq!(stored.attempts[0].code.as_deref(), Some("http_422"));
    world.end().await;
}

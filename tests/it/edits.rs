//! Editing lost orders on the whole service: what is sent, what is refused, and that nothing is sent
//! twice.

use order_relay::app::open_erps::OpenErps;
use order_relay::app::wiring as app;
use order_relay::domain::permission::{Grants, Permission};
use order_relay::ops::principal::Principal;
use order_relay::ops::refusal::Refusal;
use order_relay::ops::verbs::Ops;
use order_relay::ports::clock::SystemClock;
use order_relay::ports::erp::ProbeAnswer;
use serde_json::{Value, json};

use crate::store_contract::key;
use crate::world::{Place, World, in_both_places, order, order_that, order_with, texts};

in_both_places!(
    an_edited_order_is_sent_once_with_its_new_text,
    the_same_change_is_made_in_many_after_a_look,
);

async fn an_edited_order_is_sent_once_with_its_new_text(place: Place) {
    let mut world = World::new(place).await;
    world.set("erp.exchanges", "all");
    world.serve().await;
    world.place(&[order_that("E-1", "reject, ok")]).await;
    world.until_phase("E-1", "parked").await;
    let patch = json!([
        {"op": "replace", "path": "/lines/0/sku", "value": "4712"},
        {"op": "add", "path": "/note", "value": "12.50"},
        {"op": "add", "path": "/payment", "value": {"method": "invoice"}},
    ]);
    let edit = ["lost-orders", "edit", "E-1", "--reason", "wrong article", "--patch"];
    world.ok(&[&edit[..], &[&patch.to_string()]].concat()).await;
    // What checkout sent comes once more, and changes nothing.
    world.place(&[order_that("E-1", "reject, ok")]).await;
    world.ok(&["lost-orders", "process", "E-1"]).await;
    world.until_settled(1).await;
    let in_erp = world.stub.orders()["E-1"].documents.clone();
    assert_eq!(in_erp.len(), 1);
    let stored = world.order("E-1").await;
    assert_eq!(&*stored.document, order_that("E-1", "reject, ok"), "what came stays");
    assert!(stored.current().contains("\"sku\":\"4712\""), "{}", stored.current());
    assert!(stored.conflicts.is_empty());
    let sent = stored.exchanges.last().expect("exchanges are kept").exchange.request_body.clone();
    assert!(sent.contains("4712") && sent.contains("12.50"), "{sent}");
    // Filters mean the text that was sent.
    for (filter, value, expected) in
        [("--sku", "4712", true), ("--sku", "4711", false), ("--payment", "invoice", true)]
    {
        let listed = world.ok(&["orders", "list", filter, value, "--output", "csv"]).await;
        assert_eq!(listed.contains("E-1"), expected, "{filter} {value}: {listed}");
    }
    let came = world.ok(&["orders", "export", "--documents"]).await;
    assert!(came.contains("\"4711\"") && !came.contains("4712"), "{came}");
    let current = world.ok(&["orders", "export", "--documents", "--current"]).await;
    assert_eq!(current.trim(), &**stored.current());
    let shown = world.ok(&["orders", "show", "E-1"]).await;
    assert!(shown.contains("Document that is sent") && shown.contains("wrong article"), "{shown}");
    world.end().await;
}

async fn the_same_change_is_made_in_many_after_a_look(place: Place) {
    let mut world = World::new(place).await;
    world.serve().await;
    let ids = ["M-1", "M-2", "M-3"];
    let orders: Vec<String> = ids.iter().map(|id| order_that(id, "reject, ok")).collect();
    world.place(&orders).await;
    world.place(&[order_with("M-4", &json!({"remark": "stub: reject, ok", "lines": [
        {"sku": "A", "quantity": 1, "unit_price": 1}, {"sku": "B", "quantity": 1, "unit_price": 1},
    ]}))])
    .await;
    for id in ids.iter().chain(&["M-4"]) {
        world.until_phase(id, "parked").await;
    }
    let patch = json!([
        {"op": "test", "path": "/lines/0/sku", "value": "4711"},
        {"op": "replace", "path": "/lines/0/sku", "value": "4712"},
    ])
    .to_string();
    let many = ["lost-orders", "edit", "--class", "rejected", "--patch", &patch];
    let looked = world.run(&[&many[..], &["--dry-run", "--output", "json"]].concat()).await;
    assert_eq!(looked.status.code(), Some(3), "{:?}", texts(&looked));
    let looked: Value = serde_json::from_str(&texts(&looked).0).expect("JSON");
    let told: Vec<_> = looked.as_array().expect("a list").iter().collect();
    assert_eq!(told.len(), 4);
    assert_eq!(told[0]["detail"], "/lines/0/sku: \"4711\" -> \"4712\"");
    assert_eq!(told[3]["outcome"], "would be refused");
    assert_eq!(world.order("M-1").await.record.revision, 0, "a look changes nothing");
    let done = world.run(&[&many[..], &["--yes", "--process", "--output", "json"]].concat()).await;
    assert_eq!(done.status.code(), Some(3), "{:?}", texts(&done));
    for id in ids {
        assert_eq!(world.order(id).await.record.phase.name(), "transferred", "{id}");
    }
    assert_eq!(world.order("M-4").await.record.revision, 0);
    world.until_settled(4).await;
    world.end().await;
}

/// The verbs, in the hands of somebody with these permissions.
async fn desk(world: &mut World, permissions: &[Permission]) -> (std::sync::Arc<Ops>, Principal) {
    let store = world.store().await;
    let transport = app::open_transport(&world.settings(), "test").expect("a transport");
    let ops = app::ops(
        &world.settings(),
        OpenErps::new(&world.settings(), &None),
        store,
        std::sync::Arc::new(SystemClock),
        transport.broker,
    );
    let mut grants = Grants::default();
    grants.add(permissions, None);
    let ops = ops.expect("the settings have no fault");
    (ops, Principal { name: "user:erika".to_owned(), from: None, grants })
}

#[tokio::test]
async fn who_may_only_look_sees_what_would_be_sent_but_cannot_have_the_erp_asked() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("Q-1", "reject")]).await;
    world.until_phase("Q-1", "parked").await;
    let (ops, reader) = desk(&mut world, &[Permission::Read]).await;
    let rehearsed = ops.rehearse(&reader, &key("Q-1")).await.expect("a reader may look");
    assert_eq!(rehearsed[0].method, "POST");
    let asked = ops.ask_erp(&reader, &key("Q-1")).await;
    let needs = Permission::Process;
    let is_forbidden =
        matches!(&asked, Err(Refusal::Forbidden { permission, .. }) if *permission == needs);
    assert!(is_forbidden, "{asked:?}");
    let (ops, operator) = desk(&mut world, &[Permission::Read, Permission::Process]).await;
    let (answer, exchanges) = ops.ask_erp(&operator, &key("Q-1")).await.expect("may ask");
    assert_eq!((answer, exchanges.len()), (ProbeAnswer::Absent, 1));
    let (ops, checkout) = desk(&mut world, &[Permission::Publish]).await;
    let hidden = ops.rehearse(&checkout, &key("Q-1")).await;
    assert!(matches!(hidden, Err(Refusal::NotFound { .. })), "{hidden:?}");
    world.end().await;
}

#[tokio::test]
async fn locked_fields_need_their_own_permission_and_a_number_never_changes() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("L-1", "reject")]).await;
    world.until_phase("L-1", "parked").await;
    let changed = |field: &str, value: Value| {
        order_that("L-1", "reject").replace(
            &format!("\"{field}\":{}", json!(order_field(field))),
            &format!("\"{field}\":{value}"),
        )
    };
    let (ops, editor) = desk(&mut world, &[Permission::Read, Permission::Edit]).await;
    let dearer = changed("total", json!("130.00"));
    let refused = ops.edit(&key("L-1"), 0, &dearer, &ops.act(&editor, None)).await;
    let is_forbidden =
        matches!(refused, Err(Refusal::Forbidden { permission: Permission::EditLocked, .. }));
    assert!(is_forbidden, "{refused:?}");
    let same_total = changed("total", json!(129.9)).replace("4711", "4712");
    let edited = ops.edit(&key("L-1"), 0, &same_total, &ops.act(&editor, None)).await;
    assert_eq!(edited.expect("the value is the same").revision, 1);
    let all = [Permission::Read, Permission::Edit, Permission::EditLocked];
    let (ops, chief) = desk(&mut world, &all).await;
    let late = ops.edit(&key("L-1"), 0, &dearer, &ops.act(&chief, None)).await;
    let Err(Refusal::Stale { .. }) = &late else { panic!("{late:?}") };
    let told = late.expect_err("it is stale").to_string();
    assert!(told.contains("revision 1") && told.contains("user:erika"), "{told}");
    let edited = ops.edit(&key("L-1"), 1, &dearer, &ops.act(&chief, None)).await;
    assert_eq!(edited.expect("it may").record.facts.total.as_str(), "130.00");
    let other = changed("order_id", json!("L-2"));
    let refused = ops.edit(&key("L-1"), 2, &other, &ops.act(&chief, None)).await;
    let Err(Refusal::Unprocessable(faults)) = refused else { panic!("{refused:?}") };
    assert_eq!(faults[0].place.as_deref(), Some("/order_id"));
    let broken = changed("total", json!("much")).replace("erika@example.com", "nobody");
    let refused = ops.edit(&key("L-1"), 2, &broken, &ops.act(&chief, None)).await;
    let Err(Refusal::Unprocessable(faults)) = refused else { panic!("{refused:?}") };
    let places: Vec<_> = faults.iter().filter_map(|fault| fault.place.as_deref()).collect();
    assert_eq!(places, ["/total", "/customer/email"]);
    let (ops, viewer) = desk(&mut world, &[Permission::Read]).await;
    let refused = ops.edit(&key("L-1"), 2, &dearer, &ops.act(&viewer, None)).await;
    assert!(matches!(refused, Err(Refusal::Forbidden { permission: Permission::Edit, .. })));
    world.until_settled(1).await;
    world.end().await;
}

fn order_field(field: &str) -> String {
    let document: Value = serde_json::from_str(&order("L-1")).expect("JSON");
    document[field].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn an_editor_is_opened_and_what_it_breaks_is_kept() {
    let mut world = World::new(Place::Embedded).await;
    world.serve().await;
    world.place(&[order_that("V-1", "reject, ok")]).await;
    world.until_phase("V-1", "parked").await;
    world.set_variable("VISUAL", "sed -i s/4711/4712/");
    let out = world.ok(&["lost-orders", "edit", "V-1", "--yes", "--process"]).await;
    assert!(out.contains("/lines/0/sku: \"4711\" -> \"4712\""), "{out}");
    assert!(out.contains("transferred"), "{out}");
    world.place(&[order_that("V-2", "reject")]).await;
    world.until_phase("V-2", "parked").await;
    world.set_variable("VISUAL", "sed -i s/erika@example.com/nobody/");
    let broken = world.run(&["lost-orders", "edit", "V-2", "--yes"]).await;
    assert_eq!(broken.status.code(), Some(1));
    let (_, told) = texts(&broken);
    assert!(told.contains("at /customer/email: ") && told.contains("--file "), "{told}");
    let kept = told.split("--file ").nth(1).and_then(|rest| rest.split(' ').next());
    let kept = kept.expect("a path");
    assert!(std::fs::read_to_string(kept).expect("it is kept").contains("nobody"));
    std::fs::remove_file(kept).expect("it goes");
    assert_eq!(world.order("V-2").await.record.revision, 0);
    world.until_settled(2).await;
    world.end().await;
}

//! Recipes in the whole program: orders whose answer got lost, people who ask and decide.

use serde_json::json;

use crate::stand_in::{Asked, Books, Fate, Says, StandIn};
use crate::world::{Place, World, erp_number, order, texts};

const RECIPE: &str = r#"
name  = "test"
error = "/error"
[secret]
key = { env = "TEST_ERP_KEY" }
[auth]
attach = { Authorization = "Bearer {{ secret.key }}" }
[commit]
request = "POST /orders"
body    = '{"ref": {{ order.reference }}}'
ok      = "status == 201 and at('/id')"
take    = { id = "/id" }
"#;

const PROBE: &str = r#"
[probe]
request = "GET /orders/{{ order.reference }}"
found   = "status == 200 and at('/id')"
absent  = "status == 404 and at('/error')"
take    = { id = "/id" }
settle  = "1s"
every   = "200ms"
"#;

fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    assert_eq!(asked.header("authorization"), "Bearer s3cret-of-the-erp");
    if asked.method == "GET" {
        let path = asked.path();
        return match books.find(path.strip_prefix("/orders/").unwrap()) {
            Some(_) if books.session_over => (Says::html(502), false),
            Some(n) => (Says::json(200, &json!({"id": n})), false),
            None => (Says::json(404, &json!({"error": "no such order"})), false),
        };
    }
    let reference = asked.json()["ref"].as_str().unwrap().to_owned();
    (Says::json(201, &json!({"id": books.make(&reference)})), true)
}

async fn world_with(recipe: &str) -> (World, StandIn) {
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(erp).await;
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, recipe).unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.url", &stand_in.url);
    world.set_variable("TEST_ERP_KEY", "s3cret-of-the-erp");
    // The recipe's own, not that of the other tests.
    world.set_variable("ORDER_RELAY__ERP__SETTLE", "");
    (world, stand_in)
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_itself_and_everything_said_is_kept_without_secrets() {
    let (mut world, stand_in) = world_with(&format!("{RECIPE}{PROBE}")).await;
    stand_in.books.lock().unwrap().next_commit = Some(Fate::Lost);
    world.serve().await;
    world.place(&[order("R-1")]).await;
    world.until_settled(1).await;
    let stored = world.order("R-1").await;
    assert_eq!(erp_number(&stored).as_deref(), Some("1"));
    let steps: Vec<(u32, &str, &str)> = stored
        .exchanges
        .iter()
        .map(|kept| (kept.attempt, kept.exchange.step.as_str(), kept.exchange.meaning.as_str()))
        .collect();
    assert_eq!(steps, [(1, "commit", "no_answer"), (2, "probe", "found")]);
    let shown = world.ok(&["orders", "show", "R-1"]).await;
    assert!(shown.contains("curl -X POST") && shown.contains("authorization: ***"), "{shown}");
    let rendered = world.ok(&["erp", "render", "R-1"]).await;
    assert!(rendered.contains("--data-raw '{\"ref\": \"R-1\"}'"), "{rendered}");
    let probed = world.ok(&["erp", "probe", "R-1"]).await;
    assert!(probed.contains("found: 1"), "{probed}");
    for text in [shown, rendered, probed] {
        assert!(!text.contains("s3cret"), "{text}");
    }
    world.end().await;
}

#[tokio::test]
async fn an_order_that_nobody_can_ask_about_waits_for_a_person() {
    let (mut world, stand_in) = world_with(RECIPE).await;
    stand_in.books.lock().unwrap().next_commit = Some(Fate::Lost);
    world.serve().await;
    world.place(&[order("R-1")]).await;
    world.until_phase("R-1", "outcome_unknown").await;
    let asked = world.run(&["reconcile", "R-1"]).await;
    assert_eq!(asked.status.code(), Some(1), "{:?}", texts(&asked));
    assert!(texts(&asked).0.contains("nothing was sent"), "{:?}", texts(&asked));
    let by_hand = world.run(&["lost-orders", "process", "R-1"]).await;
    assert_eq!(by_hand.status.code(), Some(1), "{:?}", texts(&by_hand));
    assert_eq!(stand_in.books.lock().unwrap().asked.len(), 1, "nothing is sent meanwhile");
    let why = world.run(&["reconcile", "R-1", "--absent", "--yes"]).await;
    assert_ne!(why.status.code(), Some(0), "a reason is needed");
    let reason = ["--reason", "looked: it is not there"];
    world.ok(&["reconcile", "R-1", "--absent", "--yes", reason[0], reason[1]]).await;
    let stored = world.order("R-1").await;
    assert_eq!(stored.record.phase.name(), "transferred");
    let declared = stored.audit.iter().find(|entry| entry.action == "order.declare_absent");
    assert_eq!(declared.unwrap().reason.as_deref(), Some(reason[1]));
    world.leave().await;
}

#[tokio::test]
async fn reconcile_says_what_the_erp_says_and_changes_nothing_when_dry() {
    let (mut world, stand_in) = world_with(&format!("{RECIPE}{PROBE}")).await;
    {
        let mut books = stand_in.books.lock().unwrap();
        (books.next_commit, books.session_over) = (Some(Fate::Lost), true);
    }
    world.set("circuit.suspect_after", "1000");
    world.set("sweeper.every", "1h");
    world.serve().await;
    world.place(&[order("R-1")]).await;
    world.until_phase("R-1", "outcome_unknown").await;
    let unclear = world.run(&["reconcile", "--all", "--dry-run"]).await;
    assert!(texts(&unclear).0.contains("unclear"), "{:?}", texts(&unclear));
    stand_in.books.lock().unwrap().session_over = false;
    let found = world.ok(&["reconcile", "R-1", "--dry-run"]).await;
    assert!(found.contains("found") && found.contains("ERP number 1"), "{found}");
    assert_eq!(world.order("R-1").await.record.phase.name(), "outcome_unknown");
    let found = world.ok(&["reconcile", "--all"]).await;
    assert!(found.contains("found") && found.contains("ERP number 1"), "{found}");
    assert_eq!(world.order("R-1").await.record.phase.name(), "transferred");
    assert_eq!(stand_in.books.lock().unwrap().count("R-1"), 1);
    world.leave().await;
}

/// Takes the right key only.
fn locked_erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.header("authorization") != "Bearer s3cret-of-the-erp" {
        return (Says::json(401, &json!({"error": "who are you?"})), false);
    }
    erp(books, asked)
}

#[tokio::test]
async fn a_mended_secret_is_taken_up_on_release_without_a_restart() {
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(locked_erp).await;
    let file = |name: &str| world.folder.path().join(name).display().to_string();
    let (recipe, key) = (file("recipe.toml"), file("key"));
    let by_file = format!("key = {{ file = \"{key}\" }}");
    let text = format!("{RECIPE}{PROBE}").replace("key = { env = \"TEST_ERP_KEY\" }", &by_file);
    std::fs::write(&recipe, text).unwrap();
    std::fs::write(&key, "wrong-key-of-the-erp").unwrap();
    world.set("erp.recipe", &recipe);
    world.set("erp.url", &stand_in.url);
    world.set("circuit.longest_pause", "1h");
    world.serve().await;
    world.place(&[order("R-1")]).await;
    let store = world.store().await;
    world
        .until("the circuit is open", async || {
            let circuits = store.circuits().await.map_err(|error| error.to_string())?;
            let refused = circuits.iter().any(|circuit| circuit.is_login_refused());
            if refused { Ok(()) } else { Err(format!("{circuits:?}")) }
        })
        .await;
    std::fs::write(&key, "s3cret-of-the-erp").unwrap();
    world.ok(&["erp", "release", "--reason", "the key is right now"]).await;
    world.until_settled(1).await;
    assert_eq!(world.order("R-1").await.record.phase.name(), "transferred");
    world.end().await;
}

#[tokio::test]
async fn a_forbidden_order_delays_no_other() {
    fn forbids(books: &mut Books, asked: &Asked) -> (Says, bool) {
        if asked.method == "POST" && asked.json()["ref"] == "F-1" {
            return (Says::json(403, &json!({"error": "customer 17 is not yours"})), true);
        }
        erp(books, asked)
    }
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(forbids).await;
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, format!("{RECIPE}{PROBE}")).unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.url", &stand_in.url);
    world.set_variable("TEST_ERP_KEY", "s3cret-of-the-erp");
    world.serve().await;
    world.place(&[order("F-1"), order("G-1"), order("G-2"), order("G-3")]).await;
    world.until_phase("F-1", "parked").await;
    for id in ["G-1", "G-2", "G-3"] {
        world.until_phase(id, "transferred").await;
        assert_eq!(world.order(id).await.record.fail_count, 0);
    }
    let circuits = world.store().await.circuits().await.unwrap();
    assert!(circuits.iter().all(|circuit| circuit.opened_at.is_none()), "{circuits:?}");
    world.leave().await;
}

#[tokio::test]
async fn exists_already_after_an_unclear_attempt_is_asked_about_until_it_is_clear() {
    fn slow(books: &mut Books, asked: &Asked) -> (Says, bool) {
        if asked.method == "GET" {
            // The first request is still running for the first questions.
            let questions = books.asked.iter().filter(|asked| asked.method == "GET").count();
            return match questions > 4 && books.count("R-1") > 0 {
                true => (Says::json(200, &json!({"id": 1})), false),
                false => (Says::json(404, &json!({"error": "no such order"})), false),
            };
        }
        match books.find("R-1") {
            Some(_) => (Says::json(409, &json!({"error": "it exists already"})), true),
            None => (Says::json(201, &json!({"id": books.make("R-1")})), true),
        }
    }
    let mut world = World::new(Place::Embedded).await;
    let stand_in = StandIn::start(slow).await;
    stand_in.books.lock().unwrap().next_commit = Some(Fate::Lost);
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, format!("{RECIPE}{PROBE}")).unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.url", &stand_in.url);
    world.set_variable("TEST_ERP_KEY", "s3cret-of-the-erp");
    world.set_variable("ORDER_RELAY__ERP__SETTLE", "");
    world.serve().await;
    world.place(&[order("R-1")]).await;
    world.until_settled(1).await;
    assert_eq!(world.order("R-1").await.record.phase.name(), "transferred");
    assert_eq!(stand_in.books.lock().unwrap().orders.len(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_recipe_that_cannot_ask_is_refused_where_the_erp_is_to_be_asked_first() {
    let mut world = World::new(Place::Embedded).await;
    let path = world.folder.path().join("recipe.toml");
    std::fs::write(&path, RECIPE).unwrap();
    world.set("erp.recipe", path.to_str().unwrap());
    world.set("erp.secret.key", "s3cret-of-the-erp");
    world.set("erp.url", "http://127.0.0.1:9");
    world.set("erp.ask_before_first_send", "true");
    let refused = world.run(&["serve"]).await;
    let told = texts(&refused);
    assert_ne!(refused.status.code(), Some(0), "{told:?}");
    let sentence =
        "cannot ask about an order: add [probe] to it, or set erp.ask_before_first_send to false";
    assert!(format!("{}{}", told.0, told.1).contains(sentence), "{told:?}");
    world.leave().await;
}

#[tokio::test]
async fn check_says_that_every_order_is_asked_about() {
    let mut world = World::new(Place::Embedded).await;
    world.set("erp.ask_before_first_send", "true");
    let told = texts(&world.run(&["check"]).await);
    assert!(told.0.contains("is asked about every order before it is sent"), "{told:?}");
    world.leave().await;
}

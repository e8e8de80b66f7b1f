//! What the engine promises whatever the recipe says.

use order_relay::domain::failure::{ErrorClass, Stage};
use order_relay::ports::erp::{Erp, ProbeAnswer};
use serde_json::{Value as Json, json};

use crate::stand_in::{Asked, Books, Fate, Says, StandIn};

use super::{Setting, for_erp, open, order};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };

pub(super) const RECIPE: &str = r#"
name  = "test"
error = "/error"
[commit]
request = "POST /orders"
body    = '''{"ref": {{ order.reference }}, "lines": [
  {% for l in order.lines %}{% if not loop.first %},{% endif %}
  {"sku": {{ l.sku }}, "text": {{ l.description }}, "qty": {{ l.quantity | num }}, "price": {{ l.unit_price | str }}}{% endfor %}]}'''
ok      = "status == 201 and at('/id')"
take    = { id = "/id" }
[probe]
request = "GET /orders/{{ order.reference }}"
found   = "status == 200 and at('/id')"
absent  = "status == 404 and at('/error')"
take    = { id = "/id", state = "/state" }
[[after]]
name    = "release"
unless  = "result.state == 'released'"
request = "POST /orders/{{ result.id }}/release"
body    = "{}"
ok      = "status == 200"
take    = { state = "/state", number = "/number" }
"#;

pub(super) fn file(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

pub(super) fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    let path = asked.path();
    if asked.method == "GET" {
        let found = books.find(path.strip_prefix("/orders/").unwrap());
        return match found {
            Some(n) => (Says::json(200, &json!({"id": n, "state": books.states[n - 1]})), false),
            None => (Says::json(404, &json!({"error": "no such order"})), false),
        };
    }
    if path.ends_with("/release") {
        let n: usize = path.split('/').nth(2).unwrap().parse().unwrap();
        if books.failures > 0 {
            books.failures -= 1;
            return (Says::html(502), false);
        }
        books.states[n - 1] = "released".to_owned();
        return (Says::json(200, &json!({"state": "released", "number": format!("N{n}")})), false);
    }
    let reference = asked.json()["ref"].as_str().unwrap().to_owned();
    (Says::json(201, &json!({"id": books.make(&reference)})), true)
}

#[tokio::test]
async fn a_follow_up_that_stumbles_is_resumed_at_once_and_one_that_fails_where_it_stopped() {
    let (_folder, path) = file(RECIPE);
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    stand_in.books.lock().unwrap().failures = 1;
    let receipt = erp.submit(&order("O-0", "A")).await.unwrap();
    assert_eq!((receipt.erp_order_id.as_deref(), receipt.found), (Some("N1"), false));
    stand_in.books.lock().unwrap().failures = 100;
    let one = order("O-1", "A");
    let failure = erp.submit(&one).await.unwrap_err();
    assert_eq!((failure.class, failure.stage), (ErrorClass::Unavailable, Some(Stage::At)));
    assert!(failure.message.starts_with("in the ERP as 2, but release failed"), "{failure:?}");
    stand_in.books.lock().unwrap().failures = 0;
    for number in ["N2", "2"] {
        let ProbeAnswer::Found(receipt) = erp.ask(&one).await else { panic!("not found") };
        let finished = erp.finish(&one, receipt).await.unwrap();
        assert_eq!(finished.erp_order_id.as_deref(), Some(number));
    }
    let books = stand_in.books.lock().unwrap();
    assert_eq!(books.orders, ["O-0", "O-1"]);
}

#[tokio::test]
async fn the_state_that_a_step_is_to_reach_is_compared() {
    let recipe = RECIPE.replace(
        "take    = { state = \"/state\", number = \"/number\" }",
        "take    = { state = \"/state\", number = \"/number\" }\nreached = \"result.state == 'released'\"",
    );
    let (_folder, path) = file(&recipe);
    let stand_in = StandIn::start(|books, asked| {
        let (says, is_commit) = erp(books, asked);
        let is_release = asked.target.ends_with("/release");
        let lies = [Says::json(200, &json!({})), Says::json(200, &json!({"state": "draft"}))];
        if is_release { (lies[books.asked.len() % 2].clone(), false) } else { (says, is_commit) }
    })
    .await;
    // What the stand-in says is a lie, but it does release: the question shows that.
    let receipt = open(&path, &stand_in.url, &NOTHING, &[]).submit(&order("O-1", "A")).await;
    assert_eq!(receipt.unwrap().taken["state"], "released");
    let stand_in = StandIn::start(|books, asked| {
        if asked.target.ends_with("/release") {
            return (Says::json(200, &json!({"state": "draft"})), false);
        }
        erp(books, asked)
    })
    .await;
    let failed = open(&path, &stand_in.url, &NOTHING, &[]).submit(&order("O-1", "A")).await;
    let failure = failed.unwrap_err();
    assert_eq!((failure.code.as_str(), failure.class), ("not_reached", ErrorClass::Unavailable));
    assert_eq!(failure.message, "in the ERP as 1, but release failed: its state is \"draft\"");
}

#[tokio::test]
async fn a_403_about_one_order_is_told_from_one_about_us() {
    fn forbids(books: &mut Books, asked: &Asked) -> (Says, bool) {
        let says = |error: &str| (Says::json(403, &json!({"error": error})), false);
        match asked.method.as_str() {
            "POST" if asked.json()["ref"] == "O-1" => says("customer 17 is not yours"),
            "POST" if asked.json()["ref"] == "O-2" => says("Forbidden"),
            "POST" if asked.json()["ref"] == "O-3" => says("the API key is not valid"),
            "POST" if asked.json()["ref"] == "O-4" => {
                books.session_over = true;
                says("no")
            }
            _ if books.session_over => says("no"),
            _ => erp(books, asked),
        }
    }
    let (_folder, path) = file(RECIPE);
    let stand_in = StandIn::start(forbids).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for (id, class) in [
        ("O-1", ErrorClass::Rejected),
        ("O-2", ErrorClass::Unavailable),
        ("O-3", ErrorClass::Unauthorized),
        ("O-4", ErrorClass::Unauthorized),
    ] {
        let failure = erp.submit(&order(id, "A")).await.unwrap_err();
        assert_eq!(failure.class, class, "{id}: {failure:?}");
    }
}

#[tokio::test]
async fn a_rule_says_in_its_own_words_what_is_to_be_done() {
    fn refuses(_: &mut Books, asked: &Asked) -> (Says, bool) {
        match asked.json()["ref"].as_str() {
            Some("O-1") => (Says::json(400, &json!({"error": "E17", "item": "4711"})), false),
            Some("O-2") => (Says::json(400, &json!({"error": "E17"})), false),
            Some("O-3") => (Says::json(429, &json!({"error": "E18"})), false),
            Some("O-4") => (Says::json(400, &json!({"error": "connection already closed"})), false),
            _ => (Says::json(404, &json!({"error": "no such order"})), false),
        }
    }
    let rules = "[[rules]]\nwhen = \"at('/error') == 'E17'\"\nthen = 'permanent'\n\
        text = \"article {{ at('/item') }} of {{ order.reference }} is blocked: release it in the ERP\"\n\
        [[rules]]\nwhen = 'status == 429'\nthen = 'retry'\ntext = 'too many requests: lower http.concurrency'\n\
        [[rules]]\nwhen = 'status == 400'\nthen = 'permanent'\ntext = 'refused'\n";
    let (_folder, path) = file(&format!("{RECIPE}{rules}"));
    let stand_in = StandIn::start(refuses).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for (id, class, message) in [
        ("O-1", ErrorClass::Rejected, "article 4711 of O-1 is blocked: release it in the ERP"),
        // The reply has no article: the ERP's own words.
        ("O-2", ErrorClass::Rejected, "E17"),
        ("O-3", ErrorClass::Unavailable, "too many requests: lower http.concurrency"),
        // Whatever is told of it, the ERP's own trouble refuses no order.
        ("O-4", ErrorClass::UnknownOutcome, "refused"),
    ] {
        let one = order(id, "A");
        let failure = erp.submit(&one).await.unwrap_err();
        assert_eq!((failure.class, failure.message.as_str()), (class, message), "{id}");
        assert_eq!(one.journal.take()[0].message.as_deref(), Some(message));
    }
}

#[tokio::test]
async fn trouble_that_looks_like_a_refusal_parks_nothing() {
    fn troubled(_: &mut Books, asked: &Asked) -> (Says, bool) {
        let says = |error: &str| (Says::json(400, &json!({"error": error})), false);
        match asked.json()["ref"].as_str() {
            Some("O-1") => says("connection already closed"),
            Some("O-2") => says("item 4711 is blocked"),
            Some("O-3") => says("something else"),
            _ => (Says::json(404, &json!({"error": "no such order"})), false),
        }
    }
    let recipe = format!("refusal = \"'blocked' in at('/error')\"\n{RECIPE}");
    let (_folder, path) = file(&recipe);
    let stand_in = StandIn::start(troubled).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for (id, class) in [
        ("O-1", ErrorClass::UnknownOutcome),
        ("O-2", ErrorClass::Rejected),
        ("O-3", ErrorClass::UnknownOutcome),
    ] {
        let failure = erp.submit(&order(id, "A")).await.unwrap_err();
        assert_eq!(failure.class, class, "{id}: {failure:?}");
    }
}

#[tokio::test]
async fn what_is_not_the_erps_own_word_leaves_the_order_unsure() {
    fn says(books: &mut Books, _: &Asked) -> (Says, bool) {
        let status = books.states.remove(0);
        match status.as_str() {
            "200json" => (Says::json(200, &json!({"welcome": "elsewhere"})), true),
            "400own" => (Says::json(400, &json!({"error": "no"})), true),
            "302" => (Says::html(302).with("Location", "http://127.0.0.1:1/"), true),
            status => (Says::html(status.parse().unwrap()), true),
        }
    }
    let (_folder, path) = file(RECIPE.split("[probe]").next().unwrap());
    let stand_in = StandIn::start(says).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for (says, class, stage) in [
        ("200", ErrorClass::UnknownOutcome, Stage::At),
        ("200json", ErrorClass::UnknownOutcome, Stage::At),
        ("302", ErrorClass::UnknownOutcome, Stage::At),
        ("404", ErrorClass::UnknownOutcome, Stage::At),
        ("500", ErrorClass::UnknownOutcome, Stage::At),
        ("502", ErrorClass::UnknownOutcome, Stage::At),
        ("503", ErrorClass::UnknownOutcome, Stage::At),
        ("429", ErrorClass::Unavailable, Stage::After),
        ("401", ErrorClass::Unauthorized, Stage::After),
        ("403", ErrorClass::Unauthorized, Stage::After),
        ("400own", ErrorClass::Rejected, Stage::After),
    ] {
        stand_in.books.lock().unwrap().states = vec![says.to_owned()];
        let failure = erp.submit(&order("O-1", "A")).await.unwrap_err();
        assert_eq!((failure.class, failure.stage), (class, Some(stage)), "{says}: {failure:?}");
    }
}

#[tokio::test]
async fn a_probe_that_fails_is_not_absent() {
    let (_folder, path) = file(RECIPE);
    let stand_in = StandIn::start(|books, _| {
        let n = books.asked.len();
        let answers = [Says::html(404), Says::html(502), Says::json(200, &json!([]))];
        (answers[(n - 1) % 3].clone(), false)
    })
    .await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for _ in 0..3 {
        assert!(matches!(erp.ask(&order("O-1", "A")).await, ProbeAnswer::Unclear(_)));
    }
}

#[tokio::test]
async fn awkward_values_arrive_exactly() {
    let (_folder, path) = file(RECIPE);
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let text = "'\"&<>ü🙂\\ \u{1}\n{{ x }} {% raw %}";
    let price = "123456789012345678901234567890.123456789";
    let lines: Vec<Json> = (0..10_000)
        .map(|n| json!({"sku": format!("S{n}"), "name": text, "quantity": "1.50", "unit_price": price}))
        .collect();
    let document = json!({"order_id": "a/b c", "currency": "EUR", "total": "1",
        "customer": {"email": "e@example.com"}, "lines": lines});
    let mut big = for_erp("x", &document);
    big.key = order_relay::domain::order::values::OrderKey::new("default", "a/b:c").unwrap();
    let receipt = erp.submit(&big).await.unwrap();
    assert_eq!(receipt.erp_order_id.as_deref(), Some("N1"));
    assert!(matches!(erp.ask(&big).await, ProbeAnswer::Found(_)));
    let books = stand_in.books.lock().unwrap();
    assert_eq!(books.orders, ["a/b:c"]);
    let sent = books.asked[0].json();
    let lines = sent["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 10_000);
    for line in [&lines[0], &lines[9_999]] {
        assert_eq!(line["text"], text);
        assert_eq!(line["qty"].to_string(), "1.50");
        assert_eq!(line["price"], price);
    }
    assert_eq!(books.asked[2].target, "/orders/a%2Fb%3Ac");
    let noted = big.journal.take();
    assert!(noted.iter().all(|exchange| exchange.request_body.len() < 5_000));
}

#[tokio::test]
async fn a_lost_answer_is_found_by_the_probe_and_a_lost_request_is_not() {
    let (_folder, path) = file(RECIPE);
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    stand_in.books.lock().unwrap().next_commit = Some(Fate::Lost);
    let lost = order("O-1", "A");
    assert_eq!(erp.submit(&lost).await.unwrap_err().class, ErrorClass::UnknownOutcome);
    assert!(matches!(erp.ask(&lost).await, ProbeAnswer::Found(_)));
    assert_eq!(erp.ask(&order("O-2", "A")).await, ProbeAnswer::Absent);
    let dead = open(&path, "http://127.0.0.1:1", &NOTHING, &[]);
    let failure = dead.submit(&lost).await.unwrap_err();
    assert_eq!((failure.class, failure.stage), (ErrorClass::Unavailable, Some(Stage::Before)));
    assert!(matches!(dead.ask(&lost).await, ProbeAnswer::Unclear(_)));
}

#[tokio::test]
async fn what_an_answer_must_have_is_needed_in_every_step() {
    let need = "need = { other = \"order {{ order.reference }} has no other\" }\ntake    = { other = \"/other\",";
    let with = |step: &str| {
        let take = match step {
            "commit" => "take    = { id = \"/id\" }",
            "probe" => "take    = { id = \"/id\", state = \"/state\" }",
            _ => "take    = { state = \"/state\", number = \"/number\" }",
        };
        assert_eq!(RECIPE.matches(take).count(), 1);
        // What is done already would be skipped when it is resumed.
        let always = RECIPE.replace("unless  = \"result.state == 'released'\"\n", "");
        always.replace(take, &take.replace("take    = {", need))
    };
    let stand_in = StandIn::start(erp).await;
    let failed = async |step: &str, id: &str| {
        let (_folder, path) = file(&with(step));
        open(&path, &stand_in.url, &NOTHING, &[]).submit(&order(id, "A")).await.unwrap_err()
    };
    let commit = failed("commit", "O-1").await;
    assert_eq!((commit.class, commit.stage), (ErrorClass::UnknownOutcome, Some(Stage::At)));
    assert_eq!((commit.message.as_str(), commit.status), ("order O-1 has no other", Some(201)));
    let after = failed("after", "O-2").await;
    assert_eq!((after.class, after.stage), (ErrorClass::Unavailable, Some(Stage::At)));
    assert_eq!(after.message, "in the ERP as 2, but release failed: order O-2 has no other");
    let (_folder, path) = file(&with("probe"));
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let ProbeAnswer::Unclear(probe) = erp.ask(&order("O-1", "A")).await else { panic!("clear") };
    assert_eq!(
        (probe.class, probe.message.as_str()),
        (ErrorClass::Unavailable, "order O-1 has no other")
    );
}

#[tokio::test]
async fn a_template_that_cannot_be_rendered_names_file_line_key_and_value() {
    let (_folder, path) = file(&RECIPE.replace(
        "{\"ref\": {{ order.reference }},",
        "{\"ref\": {{ order.reference }},\n  \"c\": {{ order.customer.number }},",
    ));
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let document = json!({"order_id": "O-1", "currency": "EUR", "total": "1", "lines": []});
    let failure = erp.submit(&for_erp("O-1", &document)).await.unwrap_err();
    assert_eq!((failure.class, failure.code.as_str()), (ErrorClass::Internal, "template"));
    let expected = format!("commit.body line 7 of {path}: `customer.number` is not in this order");
    assert_eq!(failure.message, expected);
}

#[tokio::test]
async fn a_skipped_step_has_no_values_but_defaults_work() {
    let before = "[[before]]\nname = 'customer'\nunless = \"order.customer is not defined\"\nrequest = 'GET /c'\n\
        ok = 'status == 200'\ntake = { id = '/id' }\nindex = { rows = '/rows', key = '/id' }\n";
    let body = "{\"ref\": {{ order.reference }}, \"c\": {{ customer.id | default('none') }}, \"r\": {{ customer.row['x'].id | default(0) }},";
    let (_folder, path) =
        file(&format!("{}{before}", RECIPE.replace("{\"ref\": {{ order.reference }},", body)));
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let document = json!({"order_id": "O-1", "currency": "EUR", "total": "1", "lines": []});
    erp.submit(&for_erp("O-1", &document)).await.unwrap();
    let commit =
        stand_in.books.lock().unwrap().asked.iter().find(|a| a.method == "POST").unwrap().json();
    assert_eq!((&commit["c"], &commit["r"]), (&json!("none"), &json!(0)));
}

fn with_master_data(books: &mut Books, asked: &Asked) -> (Says, bool) {
    match asked.path().as_str() {
        "/warehouses/1" => (Says::json(200, &json!({"active": true})), false),
        "/warehouses/2" => (Says::json(404, &json!({"error": "no such warehouse"})), false),
        "/warehouses/3" => (Says::html(502), false),
        _ => erp(books, asked),
    }
}

#[tokio::test]
async fn master_data_is_checked_and_what_is_wrong_is_said_with_the_fix() {
    let check = "[const]\nwarehouse = 1\n[[check]]\nname = 'warehouse'\nrequest = 'GET /warehouses/{{ const.warehouse }}'\n\
        ok = 'status in [200, 404]'\nexpect = \"at('/active') == true\"\n\
        otherwise = 'there is no warehouse {{ const.warehouse }}: set erp.const.warehouse'\n";
    let (_folder, path) = file(&format!("{RECIPE}{check}"));
    let stand_in = StandIn::start(with_master_data).await;
    let found = async |warehouse: &'static str| {
        let more = [("warehouse", warehouse)];
        let checked = open(&path, &stand_in.url, &NOTHING, &more).check_master_data().await;
        assert_eq!(checked[0].name, "warehouse");
        checked[0].fault.clone()
    };
    assert_eq!(found("1").await, None);
    assert_eq!(found("2").await.unwrap(), "there is no warehouse 2: set erp.const.warehouse");
    let unclear = found("3").await.unwrap();
    assert!(unclear.starts_with("could not be checked: warehouse: HTTP status 502"), "{unclear}");
    assert!(stand_in.books.lock().unwrap().asked.iter().all(|asked| asked.method == "GET"));
}

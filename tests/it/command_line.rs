//! The command line as people and scripts meet it: help, exit codes, formats, settings, and errors
//! that say what to do.

use order_relay::cli::devtools::StubMode;
use order_relay::config::settings::Settings;
use order_relay::config::sources::{DEFAULTS, SettingsFile};
use order_relay::devtools::erp_stub::StubSettings;
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use order_relay::domain::order_filter::ShopFilter;
use order_relay::ports::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::world::{Place, World, amqp_url, order, order_that, order_with, texts};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:9";

/// A world in which nothing was started.
async fn desk() -> World {
    World::new(Place::Embedded).await
}

async fn json_of(world: &World, arguments: &[&str]) -> Value {
    let text = world.ok(&[arguments, &["--output", "json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{text}"))
}

/// Exit code, standard output, standard error.
async fn ran(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let output = world.run(arguments).await;
    let (out, err) = texts(&output);
    assert!(!err.contains("panicked"), "{arguments:?}: {err}");
    (output.status.code().expect("it was not killed"), out, err)
}

async fn fed(world: &World, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut command = world.command(arguments);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input).await.expect("it reads");
    let output = child.wait_with_output().await.expect("it ends");
    let (out, err) = texts(&output);
    (output.status.code().expect("it was not killed"), out, err)
}

fn write(world: &World, name: &str, text: &str) -> String {
    let path = world.folder.path().join(name);
    std::fs::write(&path, text).expect("it can be written");
    path.display().to_string()
}

#[tokio::test]
async fn help_is_printed_for_every_group() {
    let world = desk().await;
    for group in ["--help", "orders", "lost-orders", "dead-letters", "publish", "serve"] {
        let arguments: Vec<&str> =
            [group, "--help"].into_iter().skip(usize::from(group == "--help")).collect();
        let (code, out, _) = ran(&world, &arguments).await;
        assert!(code == 0 && out.contains("Usage: order-relay"), "{group}: {out}");
    }
    world.end().await;
}

#[tokio::test]
async fn wrong_usage_exits_2_and_what_is_not_there_exits_1() {
    let world = desk().await;
    world.ok(&["migrate"]).await;
    for (arguments, code, told) in [
        (vec!["no-such-command"], 2, "unrecognized subcommand"),
        (vec!["orders", "list", "--state", "lost"], 2, "ordered_failed"),
        (vec!["orders", "list", "--phase", "parkd"], 2, "parked"),
        (vec!["lost-orders", "list", "--class", "unavailible"], 2, "unavailable"),
        (vec!["orders", "list", "--since", "yesterday"], 2, "how long ago"),
        (vec!["mails", "list", "--status", "lost"], 2, "waiting"),
        (vec!["serve", "--roles", "waiter"], 2, "submitter"),
        (vec!["lost-orders", "process"], 2, "--all"),
        (vec!["dead-letters", "replay"], 2, "required"),
        (vec!["publish"], 2, "FILE"),
        (vec!["tokens", "create", "x", "--scope", "everything"], 2, "orders:publish"),
        (vec!["tokens", "create", "x", "--scope", "admin", "--expires-in", "0h"], 2, "90d"),
        (vec!["orders", "show", "nobody"], 1, "there is no order nobody"),
        (vec!["lost-orders", "process", "nobody"], 1, "there is no order nobody"),
        (vec!["lost-orders", "remove", "nobody", "--reason", "x"], 1, "there is no order"),
        (vec!["dead-letters", "show", "nothing"], 1, "there is no dead letter nothing"),
        (vec!["mails", "show", "nothing"], 1, "mails list"),
        (vec!["tokens", "revoke", "nobody"], 1, "there is no token nobody"),
        (vec!["publish", "missing.json"], 1, "cannot open missing.json"),
    ] {
        let (exit, out, err) = ran(&world, &arguments).await;
        assert_eq!(exit, code, "{arguments:?}: {out}{err}");
        assert!(err.contains(told), "{arguments:?} does not say {told}: {err}");
    }
    world.end().await;
}

#[tokio::test]
async fn looking_for_orders_in_the_wrong_folder_makes_no_empty_ledger() {
    let world = desk().await;
    for arguments in [["lost-orders", "list"], ["ledger", "check"], ["dead-letters", "list"]] {
        let (exit, out, err) = ran(&world, &arguments).await;
        assert_eq!(exit, 1, "{arguments:?}: {out}{err}");
        assert!(err.contains("there is no ledger at"), "{arguments:?}: {err}");
    }
    assert!(!world.folder.path().join("ledger.db").exists());
    world.ok(&["tokens", "create", "checkout", "--scope", "orders:publish"]).await;
    assert_eq!(world.ok(&["orders", "list"]).await, "No orders match.\n");
    world.end().await;
}

/// Order data that would like to do things to a terminal or a spreadsheet.
const HOSTILE: &str = "=cmd|' /C calc'!A0 \u{1b}[31mred\u{9b}2J\u{202e}desrever\r\nX: y";

/// One lost order of hostile data, two lost ones, one done, three dead letters.
async fn stocked() -> World {
    let mut world = desk().await;
    world.serve().await;
    let customer = json!({"email": "a@example.com", "name": HOSTILE, "number": HOSTILE});
    let hostile = json!({"customer": customer, "remark": "stub: reject", "lines": [
        {"sku": HOSTILE, "quantity": 1, "unit_price": 1}
    ]});
    world
        .place(&[
            order_with("hostile", &hostile),
            order_that("L-1", "reject, ok"),
            order_that("L-2", "reject, reject, ok"),
            order("done"),
        ])
        .await;
    let token = world.token("orders:publish").await;
    for bad in ["{}", "[]", "\u{1b}[31m"] {
        let post = reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(&token);
        post.body(bad).send().await.expect("the API answers");
    }
    world.until_settled(4).await;
    world
}

#[tokio::test]
async fn every_listing_can_be_read_by_programs() {
    let world = stocked().await;
    for (listing, rows) in [
        (vec!["orders", "list"], 4),
        (vec!["lost-orders", "list"], 3),
        (vec!["dead-letters", "list"], 3),
        (vec!["mails", "list"], 3),
        (vec!["tokens", "list"], 2),
        (vec!["config", "show"], 35),
        (vec!["topology", "show"], 20),
    ] {
        let enough = |count: usize| count == rows || rows > 10 && count >= rows;
        let all = json_of(&world, &listing).await;
        let count = all.as_array().map_or(0, Vec::len);
        assert!(enough(count), "{listing:?}: {count}");
        let lines = world.ok(&[&listing[..], &["--output", "ndjson"]].concat()).await;
        let parsed: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(Value::from(parsed), all, "{listing:?}");
        let table = world.ok(&[&listing[..], &["--output", "csv"]].concat()).await;
        let mut reader = csv::Reader::from_reader(table.as_bytes());
        assert!(!reader.headers().expect("a header").is_empty());
        let records: Vec<csv::StringRecord> =
            reader.records().collect::<Result<_, _>>().expect("every row has every column");
        assert_eq!(records.len(), count, "{listing:?}");
        for cell in records.iter().flatten() {
            let is_formula = cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err();
            assert!(!is_formula, "{listing:?}: a spreadsheet would run {cell}");
        }
        assert_eq!(
            world.ok(&listing).await.lines().count(),
            count + 1,
            "{listing:?}: one row a line"
        );
    }
    world.end().await;
}

#[tokio::test]
async fn order_data_cannot_play_with_the_terminal() {
    let world = stocked().await;
    let letter = json_of(&world, &["dead-letters", "list"]).await;
    let letters = letter.as_array().expect("a list").clone();
    let mut commands = vec![
        vec!["orders", "list"],
        vec!["orders", "show", "hostile"],
        vec!["lost-orders", "show", "hostile"],
        vec!["lost-orders", "list", "--search", "cmd"],
        vec!["mails", "list"],
        vec!["dead-letters", "list"],
    ];
    for letter in &letters {
        commands.push(vec!["dead-letters", "show", letter["id"].as_str().expect("an id")]);
    }
    for command in commands {
        for format in ["table", "json", "ndjson", "csv"] {
            let out = world.ok(&[&command[..], &["--output", format]].concat()).await;
            assert!(!out.is_empty());
            let bad = out.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(bad, None, "{command:?} as {format}: {out:?}");
        }
    }
    let shown = json_of(&world, &["orders", "show", "hostile"]).await;
    assert_eq!(shown["document"]["customer"]["name"], HOSTILE, "and yet nothing is lost");
    world.end().await;
}

#[tokio::test]
async fn lost_orders_are_transferred_by_either_name() {
    let world = stocked().await;
    let (code, out, _) = ran(&world, &["process-lost-orders", "--dry-run"]).await;
    assert!(code == 0 && out.matches("would be transferred").count() == 3, "{out}");
    let (code, out, err) = ran(&world, &["process-lost-orders", "L-1", "--output", "json"]).await;
    let results: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, results[0]["outcome"].as_str()), (0, Some("transferred")), "{out}{err}");
    // L-2 fails once more, and the hostile one goes through: partly done.
    let (code, out, err) = ran(&world, &["lost-orders", "process", "--all", "--yes"]).await;
    assert_eq!(code, 3, "{out}{err}");
    let one = ran(&world, &["process-lost-orders", "L-2"]).await;
    assert_eq!(one.0, 0, "{one:?}");
    assert_eq!(world.ok(&["lost-orders", "list"]).await.trim(), "No lost orders.");
    world.end().await;
}

#[tokio::test]
async fn a_transfer_while_the_circuit_is_open_exits_4_and_burns_no_try() {
    let mut world = stocked().await;
    world.stub.set(StubSettings { mode: StubMode::Unauthorized, ..Default::default() });
    let store = world.store().await;
    let far = store.open_circuit(
        "default",
        "http_401: wrong credentials",
        "2099-01-01T00:00:00Z".parse().expect("a time"),
        None,
        "2026-01-01T00:00:00Z".parse().expect("a time"),
    );
    assert!(far.await.expect("the ledger answers"));
    let before = world.order("L-1").await.record;
    for arguments in [vec!["lost-orders", "process", "L-1"], vec!["process-lost-orders", "--yes"]] {
        let (code, out, err) = ran(&world, &arguments).await;
        assert_eq!(code, 4, "{out}{err}");
        assert!(out.contains("wrong credentials"), "it says why: {out}");
    }
    assert_eq!(world.order("L-1").await.record, before);
    let (every, now) = (ShopFilter::default(), SystemClock.now());
    store.close_circuit("default", &every, now).await.expect("the ledger answers");
    world.end().await;
}

#[tokio::test]
async fn mails_are_previewed_without_a_ledger() {
    let world = desk().await;
    let list = world.ok(&["mails", "preview"]).await;
    for kind in ["order_failed", "digest", "circuit_closed", "customer_confirmation"] {
        assert!(list.lines().any(|line| line.starts_with(kind)), "{list}");
    }
    let german = world.ok(&["mails", "preview", "circuit_closed", "--language", "de"]).await;
    assert!(german.contains("1.310") && german.contains("wieder da"), "{german}");
    let mail = json_of(&world, &["mails", "preview", "digest"]).await;
    assert_eq!(mail["kind"], "digest");
    for (ending, part) in [
        ("html", "<!doctype html>"),
        ("txt", "1,310 failed"),
        ("eml", "Auto-Submitted: auto-generated"),
    ] {
        let path = world.folder.path().join(format!("mail.{ending}"));
        let to = path.display().to_string();
        world.ok(&["mails", "preview", "digest", "--to", &to]).await;
        let written = std::fs::read_to_string(&path).expect("it is there");
        assert!(written.contains(part), "{written}");
    }
    let (code, _, told) = ran(&world, &["mails", "preview", "nothing"]).await;
    assert!(code == 2 && told.contains("order_failed"), "{code} {told}");
    let (code, _, told) = ran(&world, &["mails", "preview", "digest", "--to", "mail.pdf"]).await;
    assert!(code == 2 && told.contains(".eml"), "{code} {told}");
    world.leave().await;
}

#[tokio::test]
async fn publish_takes_every_form_and_names_what_it_refuses() {
    let mut world = desk().await;
    let pretty = serde_json::from_str::<Value>(&order("one")).expect("JSON");
    let one = write(&world, "one.json", &serde_json::to_string_pretty(&pretty).expect("JSON"));
    let lines = [order("l1"), String::new(), order("l2")].join("\n");
    let lines = write(&world, "lines.ndjson", &lines);
    let list = write(&world, "list.json", &format!("[{},\n {}]", order("a1"), order("a2")));
    let out = world.ok(&["publish", &one, &lines, &list]).await;
    assert_eq!(out.trim(), "5 published, 0 refused");
    let again = world.ok(&["publish", &one]).await;
    assert_eq!(again.trim(), "0 published, 1 known already, 0 refused");
    let (code, out, _) = fed(&world, &["publish", "-"], order("stdin").as_bytes()).await;
    assert_eq!((code, out.trim()), (0, "1 published, 0 refused"));
    let mixed = [order("m1"), "{\"order_id\": 7}".to_owned(), "nonsense".to_owned(), order("m2")];
    let mixed = write(&world, "mixed.ndjson", &mixed.join("\n"));
    let (code, out, err) = ran(&world, &["publish", &mixed, "--dry-run"]).await;
    assert_eq!((code, out.trim()), (3, "2 would be published, 2 refused"));
    assert!(
        err.contains("mixed.ndjson:2: at /order_id: ") && err.contains("mixed.ndjson:3: "),
        "{err}"
    );
    assert!(world.find("m1").await.is_none(), "a dry run does nothing");
    assert_eq!(ran(&world, &["publish", &mixed]).await.0, 3);
    let bad = write(&world, "bad.json", "{\n\"order_id\": ");
    assert_eq!(ran(&world, &["publish", &bad]).await.0, 1, "nothing of it was done");
    let other = write(&world, "other.json", &order_with("one", &json!({"total": "1"})));
    let (code, _, err) = ran(&world, &["publish", &other]).await;
    assert!(code == 1 && err.contains("known with different content"), "{err}");
    assert_eq!(world.store().await.count_received().await.expect("answers"), 8);
    world.end().await;
}

#[tokio::test]
async fn dead_letters_are_shown_mended_and_discarded() {
    let mut world = desk().await;
    world.serve().await;
    let token = world.token("orders:publish").await;
    let broken = order_with("M-1", &json!({"total": null}));
    for bad in [broken.as_str(), "{}"] {
        let post = reqwest::Client::new().post(world.web("/api/v1/orders")).bearer_auth(&token);
        post.body(bad.to_owned()).send().await.expect("the API answers");
    }
    let letters = json_of(&world, &["dead-letters", "list"]).await;
    let id = |bytes: usize| {
        let all = letters.as_array().expect("a list").iter();
        let found = all.clone().find(|letter| letter["bytes"] == bytes).expect("it is listed");
        found["id"].as_str().expect("an id").to_owned()
    };
    let (mendable, useless) = (id(broken.len()), id(2));
    let end = &mendable[mendable.len() - 8..];
    let shown = world.ok(&["dead-letters", "show", end]).await;
    assert!(shown.contains("/total") && shown.contains("M-1"), "{shown}");
    assert_eq!(world.ok(&["dead-letters", "show", end, "--raw"]).await, broken);
    let (code, out, _) = ran(&world, &["dead-letters", "replay", end]).await;
    assert!(code == 1 && out.contains("still not acceptable"), "{out}");
    let mended = write(&world, "mended.json", &order("M-1"));
    let dry = world.ok(&["dead-letters", "replay", end, "--file", &mended, "--dry-run"]).await;
    assert!(dry.contains("would be replayed"), "{dry}");
    world
        .ok(&["dead-letters", "replay", end, "--file", &mended, "--reason", "total was missing"])
        .await;
    let twice = ran(&world, &["dead-letters", "replay", end]).await;
    assert!(twice.0 == 1 && twice.2.contains("replayed already"), "{twice:?}");
    assert_eq!(
        ran(&world, &["dead-letters", "discard", &useless]).await.0,
        2,
        "a reason is needed"
    );
    world.ok(&["dead-letters", "discard", &useless, "--reason", "a test of the shop"]).await;
    assert_eq!(world.ok(&["dead-letters", "list"]).await.trim(), "No dead letters.");
    let all = json_of(&world, &["dead-letters", "list", "--all"]).await;
    let mut ends: Vec<&str> =
        all.as_array().expect("a list").iter().filter_map(|l| l["status"].as_str()).collect();
    ends.sort_unstable();
    assert_eq!(ends, ["discarded", "replayed"]);
    world.until_settled(1).await;
    assert_eq!(world.order("M-1").await.source, "dead_letter");
    world.end().await;
}

#[tokio::test]
async fn ledger_check_fails_when_an_order_vanished() {
    let world = stocked().await;
    let out = world.ok(&["ledger", "check"]).await;
    assert!(out.contains("The ledger is sound."), "{out}");
    let report = json_of(&world, &["ledger", "check"]).await;
    assert_eq!((report["received"].as_u64(), report["difference"].as_i64()), (Some(4), Some(0)));
    world
        .tamper("INSERT INTO added_tallies (shop, shard, received) VALUES ('default', 99, 1)")
        .await;
    let (code, out, _) = ran(&world, &["ledger", "check", "--since", "1h"]).await;
    assert_eq!(code, 0, "the rows of a part are sound: {out}");
    let (code, out, _) = ran(&world, &["ledger", "check"]).await;
    assert!(code == 1 && out.contains("difference 1") && out.contains("NOT sound"), "{out}");
    world.tamper("DELETE FROM added_tallies WHERE shard = 99").await;
    world.end().await;
}

#[tokio::test]
async fn settings_are_shown_with_their_origin_and_without_secrets() {
    let mut world = desk().await;
    let secret = write(&world, "secret", "Bearer s3cret-of-a-file\n");
    world.set_variable("ORDER_RELAY__ERP__AUTHORIZATION_FILE", &secret);
    world.set("mail.smtp_url", "smtp://user:s3cret-of-mail@mail.example.com:587");
    world.set("database.url", "postgres://db.example.com/x?user=relay&password=s3cret-of-database");
    world.set("shops.at.erp.authorization", "Custom key=https://s3cret-of-shop");
    let file = write(
        &world,
        "own.toml",
        "[retry]\nschedule = [\"1s\"]\n[shops.at]\nmax_failed_order = 7\n",
    );
    // What the environment says goes first.
    let shown = world.ok(&["--config", &file, "config", "show", "--output", "json"]).await;
    assert!(!shown.contains("s3cret"), "{shown}");
    let lines: Vec<Value> = serde_json::from_str(&shown).expect("JSON");
    let of = |key: &str| {
        let line = lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key}"));
        (
            line["value"].as_str().expect("text").to_owned(),
            line["origin"].as_str().expect("text").to_owned(),
        )
    };
    assert_eq!(of("mail.smtp_url").0, "smtp://user:***@mail.example.com:587");
    assert_eq!(of("erp.authorization").0, "***");
    assert!(of("erp.authorization").1.ends_with("ORDER_RELAY__ERP__AUTHORIZATION_FILE"));
    assert_eq!(of("retry.schedule").0, "200ms, 400ms");
    assert!(of("shops.at.max_failed_order").1.ends_with("own.toml"));
    assert_eq!(of("amqp.prefetch"), ("500".to_owned(), "default".to_owned()));
    world.leave().await;
}

#[tokio::test]
async fn every_fault_of_the_settings_is_told_at_once() {
    let mut world = desk().await;
    for (key, value) in [
        ("erp.timeuot", "3s"),
        ("max_failed_order", "0"),
        ("retry.schedule", "soon"),
        ("mail.customer_confirmation", "maybe"),
        ("web.listen", "everywhere"),
        ("web.public_url", "ftp://x"),
        ("amqp.prefix", "a b"),
        ("erp.recipe", "magic"),
        ("erp.rate_limit", "fast"),
        ("intake.max_bytes", "12"),
        ("shops.at.erp.timeout", "-1s"),
        ("shops.at.time_zone", "Mars"),
        ("erp.url.deeper", "x"),
    ] {
        world.set(key, value);
    }
    world.set_variable("ORDER_RELAY__DATABASE__URL_FILE", "/nowhere/secret");
    let (code, out, err) = ran(&world, &["orders", "list"]).await;
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    for told in [
        "erp.timeuot: unknown key; did you mean erp.timeout?",
        "max_failed_order: `0`: expected a whole number from 1 to 1000000, or \"none\"",
        "retry.schedule: `soon`: expected a time such as",
        "mail.customer_confirmation: `maybe` is not one of never, after_failure, always",
        "web.listen: `everywhere`: expected an address and a port",
        "web.public_url: `ftp://x`: expected an address such as https://",
        "amqp.prefix: `a b`: expected 1 to 60 of",
        "erp.recipe: `magic` is not a known recipe",
        "erp.rate_limit: `fast`: expected a whole number",
        "intake.max_bytes: `12`: expected a whole number from 1024",
        "shops.at.erp.timeout: `-1s`: expected a time such as",
        "shops.at.time_zone: `Mars` is no time zone that this machine knows: expected an IANA name",
        "erp.url.deeper: unknown key",
        "database.url: /nowhere/secret cannot be read",
        "(in the environment, ORDER_RELAY__ERP__TIMEUOT)",
    ] {
        assert!(err.contains(told), "{told}\n{err}");
    }
    world.leave().await;
}

#[tokio::test]
async fn a_settings_file_that_is_missing_or_broken_is_named() {
    let world = desk().await;
    let broken = write(&world, "broken.toml", "[erp\nurl = 1");
    for file in ["missing.toml", broken.as_str()] {
        let (code, _, err) = ran(&world, &["--config", file, "orders", "list"]).await;
        assert!(code == 2 && err.contains(file), "{err}");
    }
    write(&world, "order-relay.toml", "[erp]\nurk = \"x\"");
    let (code, _, err) = ran(&world, &["orders", "list"]).await;
    assert!(
        code == 2 && err.contains("did you mean erp.url?") && err.contains("order-relay.toml"),
        "{err}"
    );
    world.leave().await;
}

#[tokio::test]
async fn a_variable_that_is_no_text_does_not_matter() {
    use std::os::unix::ffi::OsStrExt;
    let world = desk().await;
    world.ok(&["migrate"]).await;
    let mut command = world.command(&["orders", "list"]);
    command.env("OLDPWD", std::ffi::OsStr::from_bytes(b"/home/\xff"));
    let output = command.output().await.expect("it runs");
    assert!(output.status.success(), "{:?}", texts(&output));
    world.end().await;
}

#[tokio::test]
async fn the_schema_of_the_settings_names_every_key() {
    let world = desk().await;
    let schema: Value = serde_json::from_str(&world.ok(&["config", "schema"]).await).expect("JSON");
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let properties = schema["properties"].as_object().expect("an object");
    let settings =
        Settings::load(SettingsFile::None, std::iter::empty(), &[]).expect("defaults are right");
    let known: Vec<&String> = settings.known.keys().collect();
    assert_eq!(properties.keys().collect::<Vec<_>>(), known);
    for (key, property) in properties {
        let name = key.rsplit('.').next().expect("a name");
        assert!(DEFAULTS.lines().any(|line| line.starts_with(&format!("{name} ="))), "{key}");
        let says = ["type", "enum", "anyOf"].iter().any(|word| property.get(word).is_some());
        assert!(says, "{key}: {property}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_in_one_sentence_without_secrets() {
    let postgres = format!("postgres://relay:s3cret@{NOWHERE}/x");
    let amqp = format!("amqp://relay:s3cret@{NOWHERE}/%2f");
    for (key, value, command, told) in [
        (
            "database.url",
            postgres.as_str(),
            vec!["orders", "list"],
            "is it running, is database.url right?",
        ),
        (
            "database.url",
            "mysql://root:s3cret@x/y",
            vec!["orders", "list"],
            "neither postgres:// nor sqlite://",
        ),
        ("database.url", "sqlite:///nowhere/at/all.db", vec!["orders", "list"], "database.url"),
        ("amqp.url", &amqp, vec!["serve"], NOWHERE),
        ("amqp.url", &amqp, vec!["topology", "declare"], NOWHERE),
        ("amqp.url", "http://relay:s3cret@rabbit", vec!["serve"], "amqp"),
        ("erp.url", "", vec!["serve"], "erp.url is not set"),
        ("erp.url", "gopher://erp", vec!["serve"], "http:// or https://"),
        ("web.listen", "192.0.2.1:80", vec!["serve"], "cannot listen on 192.0.2.1:80"),
        ("mail.smtp_url", "mail.example.com", vec!["serve"], "smtp://user:password@host:587"),
        ("mail.receiver", "admin@example.com, nobody", vec!["serve"], "mail.receiver"),
        ("mail.sender", "Shop", vec!["serve"], "mail.sender"),
        ("mail.order_failed.subject", "{{ n.", vec!["serve"], "mail.order_failed.subject"),
        ("mail.templates", "/nowhere", vec!["serve"], "mail.templates"),
    ] {
        let mut one = desk().await;
        if key == "database.url" {
            one.set("database.patience", "150ms");
        }
        one.set(key, value);
        let (code, out, err) = ran(&one, &command).await;
        assert_eq!(code, 1, "{key}={value}: {out}{err}");
        let sentence = err.lines().find(|line| line.starts_with("order-relay: "));
        let sentence = sentence.unwrap_or_else(|| panic!("{key}={value}: {err}"));
        assert!(sentence.contains(told), "{key}={value}: {sentence}");
        assert!(!format!("{out}{err}").contains("s3cret"), "{err}");
        one.leave().await;
    }
}

#[tokio::test]
async fn check_has_a_line_for_each_part_and_says_the_mend() {
    let mut world = World::new(Place::Services).await;
    let states = async |world: &World| -> (i32, String) {
        let (code, out, err) = ran(world, &["check", "--output", "json"]).await;
        assert!(!out.contains("s3cret"), "{out}");
        let lines: Vec<Value> =
            serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
        let line = |l: &Value| {
            format!(
                "{} {}: {}\n",
                l["what"].as_str().unwrap_or("?"),
                l["state"].as_str().unwrap_or("?"),
                l["detail"].as_str().unwrap_or("?")
            )
        };
        (code, lines.iter().map(line).collect())
    };
    let (code, told) = states(&world).await;
    assert_eq!(code, 1, "{told}");
    let missing = told.lines().find(|line| line.starts_with("migrations FAULT: 0001_ledger, "));
    assert!(missing.is_some_and(|l| l.ends_with(" missing: run `order-relay migrate`")), "{told}");
    assert!(told.contains("topology FAULT: "), "{told}");
    let (code, out, _) = ran(&world, &["topology", "check"]).await;
    assert!(code == 1 && out.contains("FAULT"), "{out}");
    world.make_ready().await;
    let (code, told) = states(&world).await;
    assert_eq!(code, 0, "{told}");
    for part in [
        "settings",
        "database",
        "migrations",
        "broker",
        "topology",
        "mail templates",
        "mail server (default)",
        "ERP (default)",
    ] {
        assert!(told.contains(&format!("{part} ok: ")), "{part}\n{told}");
    }
    // The clock of this machine may be wrong.
    assert!(told.contains("clock ok: ") || told.contains("clock note: "), "{told}");
    assert_eq!(ran(&world, &["topology", "check"]).await.0, 0);
    let good: Vec<(&str, String)> = vec![
        ("database.url", world.database()),
        ("amqp.url", amqp_url()),
        ("mail.smtp_url", format!("smtp://{}", world.post.address)),
        ("erp.url", format!("http://{}/orders", world.erp)),
    ];
    for (key, value, what) in [
        ("database.url", format!("postgres://relay:s3cret@{NOWHERE}/x"), "database FAULT"),
        ("amqp.url", format!("amqp://relay:s3cret@{NOWHERE}/%2f"), "broker FAULT"),
        ("mail.smtp_url", format!("smtp://relay:s3cret@{NOWHERE}"), "mail server (default) FAULT"),
        ("erp.url", format!("http://{NOWHERE}/orders"), "ERP (default) FAULT"),
    ] {
        world.set(key, &value);
        let patience = if key == "database.url" { "150ms" } else { "5s" };
        world.set("database.patience", patience);
        let (code, told) = states(&world).await;
        assert_eq!((code, told.matches("FAULT").count()), (1, 1), "{told}");
        assert!(told.contains(what), "{told}");
        let (_, value) = good.iter().find(|(own, _)| *own == key).expect("it was good");
        world.set(key, value);
    }
    world.end().await;
}

#[tokio::test]
async fn completions_and_the_manual_are_printed_even_into_a_closed_pipe() {
    let world = desk().await;
    for shell in ["bash", "zsh", "fish"] {
        let out = world.ok(&["completions", shell]).await;
        assert!(out.contains("process-lost-orders"), "{shell}");
        let mut command = world.command(&["completions", shell]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().await.expect("it ends");
        assert!(!texts(&output).1.contains("panicked"), "{:?}", texts(&output));
    }
    let manual = world.ok(&["man"]).await;
    assert!(manual.starts_with(".") && manual.contains("lost\\-orders"), "{manual}");
    world.end().await;
}

/// The parts of JSON Schema that our schemas are made of.
fn allows(schema: &Value, root: &Value, value: &Value) -> bool {
    if let Some(at) = schema["$ref"].as_str() {
        let target = root.pointer(at.trim_start_matches('#')).expect("it leads somewhere");
        return allows(target, root, value);
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == kind || wanted == "integer" && value.is_u64();
    let of_type = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        wanted => is(wanted),
    };
    let among = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let any =
        schema["anyOf"].as_array().is_none_or(|all| all.iter().any(|s| allows(s, root, value)));
    of_type && among && any && parts_allowed(schema, root, value)
}

fn parts_allowed(schema: &Value, root: &Value, value: &Value) -> bool {
    let count = |name: &str, default: usize| {
        schema[name].as_u64().map_or(default, |n| usize::try_from(n).expect("small"))
    };
    match value {
        Value::Object(fields) => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            required.iter().all(|name| fields.contains_key(name.as_str().expect("text")))
                && fields.iter().all(|(name, value)| {
                    schema["properties"].get(name).is_none_or(|schema| allows(schema, root, value))
                })
        }
        Value::Array(items) => {
            (count("minItems", 0)..=count("maxItems", usize::MAX)).contains(&items.len())
                && items.iter().all(|item| allows(&schema["items"], root, item))
        }
        Value::String(text) if text.chars().count() > count("maxLength", usize::MAX) => false,
        Value::String(text) => match schema["pattern"].as_str() {
            Some("^[A-Z]{3}$") => text.len() == 3 && text.chars().all(|c| c.is_ascii_uppercase()),
            Some(pattern) if pattern.contains('@') => {
                pattern.starts_with("^$|") && text.is_empty()
                    || text.contains('@') && !text.contains(' ')
            }
            Some(pattern) if pattern.starts_with("^-?(0|") => {
                text.parse::<f64>().is_ok() && text.trim() == text
            }
            Some(pattern) if pattern.contains("[A-Za-z0-9._") => {
                !([".", ".."].contains(&text.as_str()) && pattern.contains("(?!"))
                    && (1..=128).contains(&text.len())
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "._:/-".contains(c))
            }
            Some(_) => !text.is_empty(),
            None => true,
        },
        _ => true,
    }
}

#[tokio::test]
async fn the_schema_of_an_order_says_what_the_parser_says() {
    let world = desk().await;
    let schema: Value = serde_json::from_str(&world.ok(&["schema", "order"]).await).expect("JSON");
    let good = [
        json!({}),
        json!({"total": 1.5}),
        json!({"shop": "de"}),
        json!({"state": "ordered_failed"}),
        json!({"state": null}),
        json!({"placed_at": "2026-11-22T10:00:00Z"}),
        json!({"placed_at": null}),
        json!({"unknown": {"a": []}}),
        json!({"payment": {}}),
        json!({"payment": null}),
        json!({"payment": []}),
        json!({"shipping": []}),
        json!({"customer": {}}),
        json!({"customer": []}),
        json!({"customer": {"email": "", "name": "Kim"}}),
        json!({"placed_at": ""}),
        json!({"placed_at": "2026-11-22 10:00:00"}),
        json!({"remark": null}),
        json!({"lines": [{"sku": "1", "quantity": 1, "unit_price": "1e2", "tax_rate": null}]}),
    ];
    let bad = [
        json!({"order_id": ""}),
        json!({"order_id": "a b"}),
        json!({"order_id": ".."}),
        json!({"order_id": 7}),
        json!({"shop": null}),
        json!({"state": "new"}),
        json!({"placed_at": 5}),
        json!({"currency": "euro"}),
        json!({"currency": null}),
        json!({"total": null}),
        json!({"total": ""}),
        json!({"total": "1,5"}),
        json!({"total": []}),
        json!({"customer": [1]}),
        json!({"customer": {"email": "x"}}),
        json!({"customer": {"name": "x".repeat(256)}}),
        json!({"lines": []}),
        json!({"lines": [{}]}),
        json!({"lines": [[]]}),
        json!({"lines": {}}),
        json!({"lines": [{"sku": "", "quantity": 1, "unit_price": 1}]}),
        json!({"payment": [1]}),
        json!({"payment": 1}),
        json!({"remark": 1}),
    ];
    for (changes, expected) in good.iter().map(|c| (c, true)).chain(bad.iter().map(|c| (c, false)))
    {
        let text = order_with("1", changes);
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let parsed = Order::parse(text.as_bytes(), &IntakeRules::of_bytes(1 << 20));
        assert_eq!(parsed.is_ok(), expected, "parser: {changes}: {parsed:?}");
        assert_eq!(allows(&schema, &schema, &value), expected, "schema: {changes}");
    }
    let failed: Value =
        serde_json::from_str(&world.ok(&["schema", "order-failed"]).await).expect("JSON");
    let required: Vec<&str> =
        failed["required"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(required, ["order_id", "attempt", "error"]);
    world.end().await;
}

#[tokio::test]
async fn groups_are_listed_and_noted() {
    let world = stocked().await;
    let groups = json_of(&world, &["lost-orders", "groups"]).await;
    let group = &groups.as_array().expect("a list")[0];
    let name = group["fingerprint"].as_str().expect("a fingerprint").to_owned();
    assert!(group["orders"].as_u64() > Some(0) && group["money"][0]["currency"] == "EUR");
    let listed = json_of(&world, &["lost-orders", "list", "--fingerprint", &name]).await;
    assert_eq!(listed.as_array().map(|all| all.len() as u64), group["orders"].as_u64());
    let note = ["lost-orders", "groups", "note", &name];
    let with = |more: &[&str]| [&note[..], more].concat().iter().map(|s| (*s).to_owned()).collect();
    let run = async |more: &[&str]| {
        let arguments: Vec<String> = with(more);
        ran(&world, &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
    };
    assert_eq!(run(&[]).await.0, 2, "nothing is said");
    let (code, _, told) = run(&["--runbook", "javascript:alert(1)"]).await;
    assert!(code == 2 && told.contains("runbook: "), "{told}");
    assert_eq!(run(&["--note", "ask Kim", "--dry-run"]).await.1.trim(), "would be noted");
    assert_eq!(run(&["--note", "ask Kim"]).await.0, 0);
    assert_eq!(run(&["--runbook", "https://wiki.example/1"]).await.0, 0);
    let table = world.ok(&["lost-orders", "groups"]).await;
    assert!(table.contains("ask Kim https://wiki.example/1"), "{table}");
    assert_eq!(ran(&world, &["lost-orders", "groups", "note", "0000", "--note", "x"]).await.0, 1);
    world.end().await;
}

#[tokio::test]
async fn every_order_is_exported_in_each_format() {
    let mut world = stocked().await;
    let count = world.store().await.count_received().await.expect("answers");
    let count = usize::try_from(count).expect("few");
    let csv = world.ok(&["orders", "export"]).await;
    assert_eq!(csv.lines().count(), count + 1);
    assert!(csv.starts_with("shop,order_id,state,"), "{csv}");
    let json: Value =
        serde_json::from_str(&world.ok(&["orders", "export", "--output", "json"]).await)
            .expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(count));
    let none = world.ok(&["orders", "export", "--shop", "nowhere", "--output", "json"]).await;
    assert_eq!(none.trim(), "[]");
    let none = world.ok(&["orders", "export", "--shop", "nowhere"]).await;
    assert_eq!(none.lines().count(), 1, "the names of the columns");
    let file = write(&world, "documents.ndjson", "what was there before");
    world.ok(&["orders", "export", "--documents", "--file", &file, "--sort", "changed"]).await;
    let documents = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(documents.lines().count(), count);
    assert!(!std::path::Path::new(&format!("{file}.part")).exists());
    let (code, out, _) = ran(&world, &["publish", &file, "--dry-run"]).await;
    assert_eq!((code, out.trim()), (0, format!("{count} would be published, 0 refused").as_str()));
    assert_eq!(ran(&world, &["orders", "export", "--file", "/nowhere/x.csv"]).await.0, 1);
    world.end().await;
}

#[tokio::test]
async fn a_listing_is_sorted_and_filtered_as_it_is_told() {
    let world = stocked().await;
    let keys = async |arguments: &[&str]| {
        let listed = json_of(&world, &[&["orders", "list"], arguments].concat()).await;
        let all = listed.as_array().expect("a list").iter();
        all.map(|order| order["order_id"].to_string()).collect::<Vec<_>>()
    };
    for by in ["received", "changed", "failed", "due", "tries"] {
        assert_eq!(keys(&["--sort", by]).await.len(), keys(&[]).await.len(), "{by}");
    }
    let mut reversed = keys(&["--reverse"]).await;
    reversed.reverse();
    assert_eq!(reversed, keys(&[]).await);
    assert_eq!(keys(&["--sku", "4711"]).await.len(), 3, "all but the hostile one");
    for none in
        [["--sku", "471"], ["--payment", "none"], ["--code", "none"], ["--fingerprint", "0"]]
    {
        assert!(keys(&none).await.is_empty(), "{none:?}");
    }
    assert_eq!(ran(&world, &["orders", "list", "--sort", "size"]).await.0, 2);
    assert_eq!(ran(&world, &["orders", "list", "--watch", "--output", "json"]).await.0, 2);
    world.end().await;
}

#[tokio::test]
async fn a_filled_ledger_is_sound_and_can_be_measured() {
    let world = desk().await;
    let out = world.ok(&["fill", "--orders", "2100", "--lost", "150"]).await;
    assert_eq!(out.trim(), "2100 orders were created, 150 of them lost");
    let report = json_of(&world, &["ledger", "check"]).await;
    assert_eq!((report["received"].as_u64(), report["lost"].as_u64()), (Some(2100), Some(150)));
    assert_eq!(
        ran(&world, &["fill", "--orders", "10", "--lost", "1"]).await.0,
        2,
        "it holds orders"
    );
    assert_eq!(ran(&world, &["fill", "--orders", "1", "--lost", "2", "--yes"]).await.0, 2);
    world.ok(&["fill", "--orders", "10", "--lost", "1", "--yes"]).await;
    assert!(world.ok(&["ledger", "check"]).await.contains("The ledger is sound."));
    let measured = json_of(&world, &["measure"]).await;
    assert!(measured.as_array().is_some_and(|all| all.len() > 50));
    world.leave().await;
}

#[tokio::test]
async fn a_list_for_programs_is_whole_and_one_for_people_says_what_is_missing() {
    let world = desk().await;
    world.ok(&["fill", "--orders", "1300", "--lost", "1130"]).await;
    let list = ["lost-orders", "list"];
    let (code, csv, told) = ran(&world, &[&list[..], &["--output", "csv"]].concat()).await;
    assert_eq!((code, csv.lines().count(), told.as_str()), (0, 1_131, ""), "with its head");
    assert_eq!(json_of(&world, &list).await.as_array().map(Vec::len), Some(1_130));
    let (_, lines, _) = ran(&world, &[&list[..], &["--output", "ndjson"]].concat()).await;
    assert_eq!(lines.lines().count(), 1_130);
    let (_, table, told) = ran(&world, &list).await;
    assert_eq!(table.lines().count(), 101, "with its head");
    assert_eq!(told.trim(), "100 of 1130: --limit 1130 shows all of them");
    let few = ["--limit", "5", "--output", "csv"];
    let (_, csv, told) = ran(&world, &[&list[..], &few].concat()).await;
    assert_eq!(csv.lines().count(), 6);
    assert_eq!(told.trim(), "5 of 1130: --limit 1130 shows all of them");
    let (_, table, told) = ran(&world, &[&list[..], &["--limit", "1130"]].concat()).await;
    assert_eq!((table.lines().count(), told.as_str()), (1_131, ""));
    world.leave().await;
}

#[tokio::test]
async fn check_creates_no_database_and_refuses_an_address_that_is_none_of_the_web() {
    let world = desk().await;
    let missing = world.folder.path().join("nowhere.db");
    let mut command = world.command(&["check"]);
    command.env("ORDER_RELAY__DATABASE__URL", format!("sqlite://{}", missing.display()));
    let (out, _) = texts(&command.output().await.expect("it runs"));
    assert!(out.contains("not there yet; the first start creates it"), "{out}");
    assert!(!missing.exists(), "looking creates nothing");
    let mut command = world.command(&["check"]);
    command.env("ORDER_RELAY__ERP__URL", "ftp://erp.example.com/orders");
    let output = command.output().await.expect("it runs");
    let (out, err) = texts(&output);
    assert!(!output.status.success());
    let told = "erp.url must begin with http:// or https://";
    assert!(format!("{out}{err}").contains(told), "{out}{err}");
    world.leave().await;
}

#[tokio::test]
async fn a_process_that_only_takes_orders_says_that_nobody_transfers_them() {
    let mut world = desk().await;
    world.start(&["serve", "--roles", "web"]).await;
    world
        .until("the log says so", async || {
            let log = world.processes[0].log();
            let told = log.contains("no role of this process transfers orders");
            if told { Ok(()) } else { Err(log) }
        })
        .await;
    let ready = reqwest::get(world.web("/readyz")).await.expect("it answers");
    assert_eq!(ready.status().as_u16(), 200);
    let text = ready.text().await.expect("text");
    assert!(text.contains("no process has the role submitter"), "{text}");
    world.end().await;
}

//! An ERP that only accepts a request at first is asked until the job has ended (`poll`).

use order_relay::domain::failure::{ErrorClass, Stage};
use order_relay::ports::erp::{Erp, ProbeAnswer};
use serde_json::json;

use crate::stand_in::{Asked, Books, Says, StandIn};

use super::{Setting, engine, open, order};

const NOTHING: Setting = Setting { consts: &[], secrets: &[] };

/// The recipe of the engine's tests for an ERP that makes orders by jobs.
fn recipe() -> String {
    let commit = "ok      = \"status == 201 and at('/id')\"\ntake    = { id = \"/id\" }\n";
    let accepted = "ok      = \"status in [201, 202]\"\ntake    = { id = \"/id\" }\n\
        need    = { id = \"the job made no order\" }\n\
        poll    = { when = \"status == 202\", job = { id = \"header:location ~ /jobs/(.+)$\" }, \
        request = \"GET /jobs/{{ job.id }}\", done = \"at('/state') == 'done'\", failed = \"at('/state') == 'failed'\", \
        every = \"20ms\", for = \"400ms\" }\n";
    assert_eq!(engine::RECIPE.matches(commit).count(), 1);
    engine::RECIPE.replace(commit, accepted)
}

/// The reference of an order says what becomes of its job.
fn erp(books: &mut Books, asked: &Asked) -> (Says, bool) {
    if asked.method == "POST" && asked.path() == "/orders" {
        let reference = asked.json()["ref"].as_str().unwrap().to_owned();
        if reference == "O-at-once" {
            return engine::erp(books, asked);
        }
        let accepted = Says::json(202, &json!({})).with("Location", &format!("/jobs/{reference}"));
        let accepted = match reference.as_str() {
            "O-later" => accepted.with("Retry-After", "1"),
            _ => accepted,
        };
        return (accepted, true);
    }
    let path = asked.path();
    let Some(job) = path.strip_prefix("/jobs/") else { return engine::erp(books, asked) };
    let times = books.asked.iter().filter(|asked| asked.path() == path).count();
    let said = match (job, times) {
        ("O-done", 1) => Says::html(502),
        ("O-done", 2) => Says::json(200, &json!({"state": "running"})),
        ("O-done", _) => Says::json(200, &json!({"state": "done", "id": books.make(job)})),
        ("O-empty", _) => Says::json(200, &json!({"state": "done"})),
        ("O-failed", _) => {
            Says::json(200, &json!({"state": "failed", "error": "item A is blocked"}))
        }
        ("O-made", _) => {
            if books.find(job).is_none() {
                books.make(job);
            }
            Says::json(200, &json!({"state": "failed", "error": "a mail could not be sent"}))
        }
        ("O-trouble", _) => {
            Says::json(200, &json!({"state": "failed", "error": "connection already closed"}))
        }
        ("O-gone", _) => Says::json(404, &json!({"error": "no such job"})),
        ("O-shut", _) => Says::json(401, &json!({"error": "no"})),
        _ => Says::json(200, &json!({"state": "running"})),
    };
    (said, false)
}

fn commits(stand_in: &StandIn) -> usize {
    let books = stand_in.books.lock().unwrap();
    books.asked.iter().filter(|a| a.method == "POST" && a.path() == "/orders").count()
}

#[tokio::test]
async fn a_job_is_asked_about_until_it_has_ended_and_its_last_reply_counts() {
    let (_folder, path) = engine::file(&recipe());
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let done = order("O-done", "A");
    let receipt = erp.submit(&done).await.unwrap();
    assert_eq!((receipt.erp_order_id.as_deref(), receipt.found), (Some("N1"), false));
    assert_eq!(commits(&stand_in), 1);
    let asked = done.journal.take();
    let polls: Vec<&str> =
        asked.iter().filter(|e| e.step == "commit_poll").map(|e| e.meaning.as_str()).collect();
    assert_eq!(polls, ["retry", "retry", "done"]);
    let receipt = erp.submit(&order("O-at-once", "A")).await.unwrap();
    assert_eq!(receipt.erp_order_id.as_deref(), Some("N2"));
    // Its reply lets itself be read, and has not what the order needs.
    let failure = erp.submit(&order("O-empty", "A")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.message.as_str()),
        (ErrorClass::UnknownOutcome, "the job made no order")
    );
}

#[tokio::test]
async fn a_job_that_failed_refuses_the_order_only_if_the_erp_does_not_have_it() {
    let (_folder, path) = engine::file(&recipe());
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let failure = erp.submit(&order("O-failed", "A")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.message.as_str()),
        (ErrorClass::Rejected, "item A is blocked")
    );
    let receipt = erp.submit(&order("O-made", "A")).await.unwrap();
    assert!(receipt.found, "{receipt:?}");
    let failure = erp.submit(&order("O-trouble", "A")).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::UnknownOutcome, "{failure:?}");
    assert_eq!(commits(&stand_in), 3);
}

#[tokio::test]
async fn a_job_whose_end_is_not_seen_leaves_the_order_unclear() {
    let (_folder, path) = engine::file(&recipe());
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    for (id, code, text) in [
        ("O-never", "job_running", "the ERP accepted it, but its job has not ended within 400ms"),
        ("O-gone", "job_running", "the ERP accepted it, but its job has not ended within 400ms"),
        ("O-shut", "login_refused", "the ERP accepted it, but no"),
        ("O-later", "job_running", "the ERP accepted it, but its job has not ended within 400ms"),
    ] {
        let one = order(id, "A");
        let failure = erp.submit(&one).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.stage),
            (ErrorClass::UnknownOutcome, Some(Stage::At)),
            "{id}"
        );
        assert_eq!((failure.code.as_str(), failure.message.as_str()), (code, text), "{id}");
        assert_eq!(erp.ask(&one).await, ProbeAnswer::Absent);
    }
    assert_eq!(commits(&stand_in), 4);
    let books = stand_in.books.lock().unwrap();
    let asked = |job: &str| books.asked.iter().filter(|asked| asked.path() == job).count();
    assert!(asked("/jobs/O-never") > 1);
    // It asked for a second, which is longer than it is waited for.
    assert_eq!(asked("/jobs/O-later"), 0);
}

#[tokio::test]
async fn a_step_behind_the_commit_waits_for_its_job_too() {
    let release = "ok      = \"status == 200\"\ntake    = { state";
    let waits = "poll    = { request = \"GET /jobs/O-done\", done = \"at('/state') == 'done'\", every = \"20ms\" }\n";
    assert_eq!(engine::RECIPE.matches(release).count(), 1);
    let recipe = engine::RECIPE.replace(release, &format!("{waits}{release}"));
    let (_folder, path) = engine::file(&recipe);
    let stand_in = StandIn::start(erp).await;
    let erp = open(&path, &stand_in.url, &NOTHING, &[]);
    let one = order("O-at-once", "A");
    assert!(erp.submit(&one).await.is_ok());
    let steps: Vec<String> = one.journal.take().into_iter().map(|exchange| exchange.step).collect();
    assert_eq!(steps, ["commit", "release", "release_poll", "release_poll", "release_poll"]);
}

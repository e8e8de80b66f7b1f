//! What the recipe `json` makes of every reply in `cases/`: bytes as they were on the wire, over a
//! real connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use jiff::Timestamp;
use order_relay::adapters::erp::json::JsonErp;
use order_relay::domain::failure::{ErrorClass, Failure, Stage};
use order_relay::ports::clock::{Clock, SystemClock};
use order_relay::ports::erp::{Erp, ProbeAnswer, Receipt};
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{limits, order};

#[derive(Debug, Clone, Deserialize)]
struct Case {
    id: String,
    answer_to: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_base64: Option<String>,
    expect: Json,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let body = match (&self.body, &self.body_base64) {
            (Some(body), _) => body.clone().into_bytes(),
            (None, Some(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
            (None, None) => Vec::new(),
        };
        let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        let headers = self.headers.iter().filter(|(name, _)| *name != "Content-Length");
        headers.for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        if self.status != 204 {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        [head.as_bytes(), b"\r\n", &body].concat()
    }
}

fn cases() -> Vec<Case> {
    let given = include_str!("cases/erp-replies.json");
    let more = include_str!("cases/erp-replies-more.json");
    [given, more].iter().flat_map(|text| serde_json::from_str::<Vec<Case>>(text).unwrap()).collect()
}

fn raw(status: u16, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

fn absent() -> Vec<u8> {
    raw(404, r#"{"error":"no such order"}"#)
}

/// An ERP that says `to_orders` to every order and `to_questions` to every question.
struct Erps {
    url: String,
    _tasks: tokio::task::JoinSet<()>,
}

async fn says(to_orders: Vec<u8>, to_questions: Vec<u8>) -> Erps {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/orders", listener.local_addr().unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let is_order = is_order(&mut socket).await;
            let answer = if is_order { &to_orders } else { &to_questions };
            // A client that has read enough closes the connection.
            drop(socket.write_all(answer).await);
            drop(socket.shutdown().await);
        }
    });
    Erps { url, _tasks: tasks }
}

/// Reads one request whole.
async fn is_order(socket: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
            assert!(head.contains("accept-encoding: gzip, deflate, br"), "{head}");
            let length = head.split("content-length: ").nth(1);
            let length = length.map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return head.starts_with("post ");
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap() == 0 {
            return false;
        }
    }
}

struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
    fn unique_id(&self) -> uuid::Uuid {
        SystemClock.unique_id()
    }
    fn secret_bytes(&self) -> [u8; 32] {
        SystemClock.secret_bytes()
    }
}

fn json_erp(url: &str) -> JsonErp {
    order_relay::app::commands::install_tls();
    let clock = At("2026-11-26T02:59:00Z".parse().unwrap());
    JsonErp::new(url, None, limits(), Arc::new(clock)).unwrap()
}

fn check(case: &Case, submitted: Result<Receipt, Failure>) {
    let (id, expect) = (&case.id, &case.expect);
    let failure = match (expect["outcome"].as_str().unwrap(), submitted) {
        ("accepted", Ok(receipt)) => {
            return assert_eq!(
                receipt.erp_order_id.as_deref(),
                expect["erp_order_id"].as_str(),
                "{id}"
            );
        }
        (_, Err(failure)) => failure,
        (_, Ok(receipt)) => panic!("{id}: {receipt:?}"),
    };
    let class = match expect["outcome"].as_str().unwrap() {
        "rejected" => ErrorClass::Rejected,
        "unclear" => ErrorClass::UnknownOutcome,
        "unauthorized" => ErrorClass::Unauthorized,
        "unavailable" => ErrorClass::Unavailable,
        other => panic!("{id}: expected {other}, got {failure:?}"),
    };
    assert_eq!(failure.class, class, "{id}: {failure:?}");
    if class == ErrorClass::UnknownOutcome {
        assert_eq!(failure.stage, Some(Stage::At), "{id}");
    }
    if let Some(message) = expect["message"].as_str() {
        assert_eq!(failure.message, message, "{id}");
    }
    let wait = match &expect["retry_after_s"] {
        Json::Number(seconds) => seconds.as_u64(),
        Json::String(_) => Some(60),
        _ => return,
    };
    assert_eq!(failure.retry_after, wait.map(Duration::from_secs), "{id}");
}

#[tokio::test]
async fn every_reply_to_an_order_means_what_it_proves() {
    let sent = cases().into_iter().filter(|case| case.answer_to == "send");
    for case in sent.filter(|case| case.id != "exists-already") {
        let erp = says(case.bytes(), absent()).await;
        check(&case, json_erp(&erp.url).submit(&order("100042", "A")).await);
    }
}

#[tokio::test]
async fn every_reply_to_a_question_means_what_it_proves() {
    for case in cases().into_iter().filter(|case| case.answer_to == "question") {
        let erp = says(raw(500, ""), case.bytes()).await;
        let answer = json_erp(&erp.url).ask(&order("100042", "A")).await;
        let outcome = match &answer {
            ProbeAnswer::Found(_) => "found",
            ProbeAnswer::Absent => "absent",
            ProbeAnswer::Unclear(_) => "unclear",
        };
        assert_eq!(outcome, case.expect["outcome"].as_str().unwrap(), "{}: {answer:?}", case.id);
        if let ProbeAnswer::Found(receipt) = answer {
            assert_eq!(receipt.erp_order_id.as_deref(), case.expect["erp_order_id"].as_str());
        }
    }
}

#[tokio::test]
async fn exists_already_is_asked_about_before_it_is_believed() {
    let case = cases().into_iter().find(|case| case.id == "exists-already").unwrap();
    let with_other_words = raw(422, r#"{"message":"Bestellung 100042 bereits vorhanden"}"#);
    let contradiction = raw(200, r#"{"id":"SO-9","error":"the mail could not be sent"}"#);
    for refusal in [case.bytes(), with_other_words, contradiction] {
        let there = raw(200, r#"{"id":"SO-9","order_id":"100042"}"#);
        let erp = says(refusal.clone(), there).await;
        let receipt = json_erp(&erp.url).submit(&order("100042", "A")).await.unwrap();
        assert_eq!((receipt.erp_order_id.as_deref(), receipt.found), (Some("SO-9"), true));
        let erp = says(refusal.clone(), absent()).await;
        let refused = json_erp(&erp.url).submit(&order("100042", "A")).await.unwrap_err();
        assert_eq!(refused.class, ErrorClass::Rejected, "{refused:?}");
        let erp = says(refusal, raw(502, "")).await;
        let unclear = json_erp(&erp.url).submit(&order("100042", "A")).await.unwrap_err();
        assert_eq!((unclear.class, unclear.stage), (ErrorClass::UnknownOutcome, Some(Stage::At)));
    }
}

#[tokio::test]
async fn a_403_is_about_us_when_the_erp_answers_no_question_either() {
    for body in ["{}", r#"{"error":"Forbidden"}"#, r#"{"message":"customer 17 is not ours"}"#, ""] {
        let erp = says(raw(403, body), raw(403, body)).await;
        let failure = json_erp(&erp.url).submit(&order("100042", "A")).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Unauthorized, "{failure:?}");
        let erp = says(raw(403, body), raw(502, "")).await;
        let failure = json_erp(&erp.url).submit(&order("100042", "A")).await.unwrap_err();
        assert_eq!(failure.class, ErrorClass::Unavailable, "{failure:?}");
    }
}

#[tokio::test]
async fn odd_ways_of_sending_arrive_whole_and_a_reply_over_the_limit_tells_so() {
    let id = |body: &[u8]| [b"HTTP/1.0 201 Created\r\n\r\n".to_vec(), body.to_vec()].concat();
    let chunked = "HTTP/1.1 201 X\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
        8\r\n{\"id\":\"S\r\n6\r\nO-7\"} \r\n0\r\n\r\n";
    for reply in
        [id(b"{\"id\":\"SO-7\"}"), id(b"\xef\xbb\xbf{\"id\":\"SO-7\"}\n\0"), chunked.into()]
    {
        let erp = says(reply, absent()).await;
        let receipt = json_erp(&erp.url).submit(&order("1", "A")).await.unwrap();
        assert_eq!(receipt.erp_order_id.as_deref(), Some("SO-7"));
    }
    let long = format!("{{\"id\":\"SO-7\",\"more\":\"{}\"}}", "x".repeat(5_000_000));
    let erp = says(raw(201, &long), absent()).await;
    let failure = json_erp(&erp.url).submit(&order("1", "A")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code.as_str()),
        (ErrorClass::UnknownOutcome, "reply_too_long")
    );
    assert!(failure.message.starts_with("HTTP status 201, but the reply is longer"), "{failure:?}");
}

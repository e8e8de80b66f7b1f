//! The fast lane: the workers of one process on a paused runtime, against a ledger in a SQLite file that was
//! migrated once, the in-process broker, a fake ERP and a fake mail server. Time is virtual: an hour takes
//! milliseconds, nothing sleeps, no test depends on the load of the machine or on the time of day. Beside them
//! stands what reads only our own files: layers, documentation, the model of the protocol.
//!
//! It needs nothing but Rust, which is why it is a binary of its own: `cargo test` runs it everywhere. What
//! needs real services is in `tests/it`.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::panic, reason = "in a test that is how to say what went wrong")]

mod clock;
mod db;
mod erp;
mod post;
mod receivers;
mod wire;
mod world;

mod docs;
mod help;
mod layers;
mod protocol_model;

mod access;
mod accidents;
mod alarms;
mod asked_first;
mod channels;
mod circuit;
mod dead_letters;
mod deaths;
mod failures;
mod flows;
mod forgetting;
mod gate;
mod http_server;
mod ledger_clock;
mod mails;
mod memory_ledger;
mod pages;
mod people;
mod redrives;
mod sweeper;
mod unclear;
mod watching;

#[test]
#[ignore = "the full lane needs PostgreSQL, RabbitMQ, Python, Node.js and Chromium: run scripts/test, which starts or installs them"]
fn the_full_lane() {}

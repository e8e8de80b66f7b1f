//! The integration tests, one binary: real processes of ours, a real broker, real databases, real
//! SMTP and HTTP; only the ERP is a stub.
//!
//! They need RabbitMQ and PostgreSQL (`scripts/test` starts what is missing): the addresses are in
//! ORDER_RELAY_TEST_AMQP and ORDER_RELAY_TEST_POSTGRES, otherwise the services of this machine are
//! used.

#![allow(unreachable_pub, reason = "a test binary has no outside")]
#![allow(clippy::panic, reason = "in a test that is how to say what went wrong")]

mod world;
mod smtp;
mod receiver;
mod node;
mod private_postgres;
mod proxy;
mod transport;
mod stand_in;

mod broker_contract;
mod amqp_hazards;
mod amqp_outages;
mod several_servers;
mod flows;
mod forty_orders;
mod cost;
mod crash_points;
mod kills;
mod redrives;
mod edits;
mod store_contract;
mod postgres_faults;
mod restore;
mod second_entries;
mod command_line;
mod intake;
mod mail_matrix;
mod mails;
mod channels;
mod web;
mod people;
mod oidc;
mod api;
mod authorisation;
mod page_authorisation;
mod pages;
mod hostile;
mod chromium;
mod browser;
mod browser_forms;
mod recipes;

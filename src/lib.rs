//! order-relay transfers paid orders from a shop's checkout to the ERP: never lost, never entered
//! twice, paused while the ERP is down. This file is the map: it lists every file in reading order.

pub mod domain {
    //! The rules: pure, no async, no I/O, no clock, no randomness, no logging.
    pub mod names;
    pub mod order {
        //! An order as checkout sends it.
        pub mod document;
        pub mod contents;
        pub mod details;
        pub mod values;
        pub mod strict_json;
        pub mod fault;
        pub mod intake_rules;
        pub mod faults;
        pub mod place;
    }
    pub mod failure;
    pub mod failure_summary;
    pub mod fingerprint;
    pub mod lifecycle {
        //! What may become of an order.
        pub mod vocabulary;
        pub mod claim;
        pub mod transitions;
    }
    pub mod edit;
    pub mod redrive;
    pub mod retry;
    pub mod retry_after;
    pub mod message;
    pub mod topology;
    pub mod trace;
    pub mod outbound_messages;
    pub mod order_filter;
    pub mod delivery;
    pub mod notice;
    pub mod quiet_times;
    pub mod threshold;
    pub mod channel;
    pub mod public_address;
    pub mod webhook_secret;
    pub mod circuit;
    pub mod alarm;
    pub mod concurrency_limit;
    pub mod permission;
    pub mod exact;
    pub mod total;
    pub mod money;
    pub mod login;
    pub mod removal;
    pub mod retention;
    pub mod personal;
    pub mod text;
    pub mod csv_cell;
    pub mod language;
}

pub mod telemetry;
pub mod crash;
pub mod config {
    //! Settings: defaults, file, environment.
    pub mod fault_reader;
    pub mod reader;
    pub mod sources;
    pub mod database;
    pub mod addresses;
    pub mod amqp;
    pub mod erp;
    pub mod mail;
    pub mod channels;
    pub mod shops;
    pub mod circuit;
    pub mod web;
    pub mod auth;
    pub mod sweeper;
    pub mod retention;
    pub mod settings;
}

pub mod ports {
    //! Traits towards the outside, and the errors that callers decide on.
    pub mod clock;
    pub mod broker;
    pub mod combined;
    pub mod store_error;
    pub mod audit;
    pub mod orders;
    pub mod order_lists;
    pub mod second_entries;
    pub mod total_differences;
    pub mod order_desk;
    pub mod ledger;
    pub mod retention;
    pub mod erasure;
    pub mod notices;
    pub mod channels;
    pub mod channel_book;
    pub mod circuits;
    pub mod alarms;
    pub mod dead_letters;
    pub mod redrives;
    pub mod statistics;
    pub mod failure_groups;
    pub mod workers;
    pub mod people;
    pub mod schema;
    pub mod identity;
    pub mod erp;
    pub mod erps;
    pub mod refresh_tokens;
    pub mod mail;
}

pub mod workers {
    //! The loops; they see only ports and domain.
    pub mod availability;
    pub mod dead_processes;
    pub mod ledger_clock;
    pub mod erp_gate;
    pub mod policies;
    pub mod events;
    pub mod publisher;
    pub mod dead_letter_keeper;
    pub mod context;
    pub mod consume;
    pub mod heartbeat;
    pub mod failure_counter;
    pub mod circuit_watcher;
    pub mod submitter {
        //! Sends orders to the ERP.
        pub mod admit;
        pub mod attempt;
        pub mod evidence;
        pub mod lease;
        pub mod settle;
    }
    pub mod error_handler;
    pub mod notifier;
    pub mod alarm_watcher;
    pub mod channel_notifier;
    pub mod sweeper;
    pub mod retention;
    pub mod redriver;
}

pub mod ops {
    //! What people may do; every permission is checked here.
    pub mod principal;
    pub mod refusal;
    pub mod login_config;
    pub mod mail_receivers;
    pub mod digest;
    pub mod verbs;
    pub mod lookup;
    pub mod circuits;
    pub mod transfer;
    pub mod removal;
    pub mod second_entries;
    pub mod total_differences;
    pub mod dead_letters;
    pub mod mails;
    pub mod channels;
    pub mod idempotency;
    pub mod statistics;
    pub mod edit;
    pub mod redrive_plan;
    pub mod redrive;
    pub mod reconcile;
    pub mod questions;
    pub mod intake;
    pub mod tokens;
    pub mod retention;
    pub mod erasure;
    pub mod people;
    pub mod logins;
    pub mod passwords;
}

pub mod adapters {
    //! One driver each.
    pub mod amqp {
        //! RabbitMQ.
        pub mod broker;
        pub mod connection;
        pub mod publisher;
        pub mod session;
        pub mod acks;
        pub mod consumer;
        pub mod topology;
    }
    pub mod in_process;
    pub mod store {
        //! The ledger in a database: decisions once, statements per database.
        pub mod ledger;
        pub mod work;
        pub mod moves;
        pub mod batch;
        pub mod admitting;
        pub mod plain;
        pub mod outcomes;
        pub mod orders;
        pub mod in_hand;
        pub mod overdue;
        pub mod notices;
        pub mod alarms;
        pub mod channels;
        pub mod channel_desk;
        pub mod circuits;
        pub mod dead_letters;
        pub mod order_lists;
        pub mod order_desk;
        pub mod second_entries;
        pub mod total_differences;
        pub mod revisions;
        pub mod redrives;
        pub mod statistics;
        pub mod failure_groups;
        pub mod proof;
        pub mod gone;
        pub mod retention;
        pub mod erasure;
        pub mod workers;
        pub mod users;
        pub mod sessions;
        pub mod tokens;
        pub mod refresh_tokens;
        pub mod request_keys;
        pub mod audit;
        pub mod conditions;
        pub mod connections;
        pub mod pooler;
        pub mod encode;
        pub mod rows;
        pub mod db;
        pub mod sorting;
        pub mod fault_watch;
        pub mod outage_watch;
        pub mod schema;
        pub mod postgres;
        pub mod sqlite;
    }
    pub mod erp {
        //! ERPs, by recipes.
        pub mod decode;
        pub mod waiting;
        pub mod http;
        pub mod redact;
        pub mod page;
        pub mod xml;
        pub mod sentence;
        pub mod trouble;
        pub mod json_reply;
        pub mod json;
        pub mod recipe {
            //! ERPs described by a TOML file (docs/erp-recipes.md).
            pub mod values;
            pub mod decimals;
            pub mod filters;
            pub mod expressions;
            pub mod templates;
            pub mod reply;
            pub mod source;
            pub mod lookups;
            pub mod toml_text;
            pub mod model;
            pub mod compile;
            pub mod blame;
            pub mod order_vars;
            pub mod request;
            pub mod jwt;
            pub mod session;
            pub mod judge;
            pub mod answer;
            pub mod answers;
            pub mod jobs;
            pub mod creating;
            pub mod calls;
            pub mod refresh;
            pub mod oauth;
            pub mod needs;
            pub mod reads;
            pub mod master_data;
            pub mod carried;
            pub mod total;
            pub mod engine;
            pub mod check;
            pub mod open;
        }
        pub mod unset;
    }
    pub mod oidc {
        //! Identity providers.
        pub mod provider;
        pub mod id_token;
    }
    pub mod channels {
        //! Webhooks, Slack, Teams, PagerDuty.
        pub mod payload;
        pub mod compose;
        pub mod plain_text;
        pub mod template;
        pub mod slack;
        pub mod teams;
        pub mod pagerduty;
        pub mod signature;
        pub mod answer;
        pub mod addresses;
        pub mod http;
        #[cfg(test)]
        pub mod samples;
    }
    pub mod mail {
        //! Composing mails, and sending them.
        pub mod wording;
        pub mod mail_views;
        pub mod message_ids;
        pub mod templates;
        pub mod smtp;
        pub mod samples;
    }
}

pub mod views {
    //! One serialised form for each thing that the API and the command line show.
    pub mod csv;
    pub mod orders;
    pub mod order_filter;
    pub mod mails;
    pub mod channels;
    pub mod order_detail;
    pub mod outcomes;
    pub mod edits;
    pub mod dead_letters;
    pub mod retention;
    pub mod redrives;
    pub mod circuits;
    pub mod people;
    pub mod checks;
    pub mod asyncapi;
}

pub mod web {
    //! Pages, API, health, metrics.
    pub mod state;
    pub mod problem;
    pub mod auth {
        //! Who calls, from where.
        pub mod access;
        pub mod same_site;
        pub mod session;
    }
    pub mod html {
        //! What all pages share.
        pub mod language;
        pub mod assets;
        pub mod formatter;
        pub mod charts;
        pub mod templates;
        pub mod forms;
        pub mod counts;
        pub mod context;
        pub mod rows;
        pub mod selection;
        pub mod erps;
        pub mod errors;
        pub mod live;
    }
    pub mod pages {
        //! Pages and forms.
        pub mod login;
        pub mod overview;
        pub mod find;
        pub mod orders;
        pub mod export;
        pub mod order;
        pub mod order_content;
        pub mod order_actions;
        pub mod edit;
        pub mod groups;
        pub mod redrives;
        pub mod dead_letters;
        pub mod mails;
        pub mod mail_previews;
        pub mod channels;
        pub mod channel_edit;
        pub mod audit;
        pub mod status;
        pub mod people;
        pub mod routes;
    }
    pub mod api {
        //! `/api/v1`, by resource.
        pub mod call;
        pub mod operation;
        pub mod idempotency;
        pub mod paths;
        pub mod intake;
        pub mod orders;
        pub mod payload;
        pub mod patches;
        pub mod redrives;
        pub mod groups;
        pub mod dead_letters;
        pub mod circuits;
        pub mod people;
        pub mod records;
        pub mod channels;
        pub mod routes;
    }
    pub mod router;
    pub mod server;
}

pub mod cli {
    //! The command line.
    pub mod exit;
    pub mod flags;
    pub mod output;
    pub mod change;
    pub mod selection;
    pub mod transfer;
    pub mod exchanges;
    pub mod order_detail;
    pub mod listing;
    pub mod groups;
    pub mod orders;
    pub mod edit;
    pub mod redrives;
    pub mod reconcile;
    pub mod retention;
    pub mod erasure;
    pub mod publish;
    pub mod dead_letters;
    pub mod circuits;
    pub mod records;
    pub mod mail_previews;
    pub mod channels;
    pub mod people;
    pub mod devtools;
    pub mod erp;
    pub mod service;
    pub mod args;
}

pub mod devtools {
    //! For demos, tests and measurements: never part of a running service.
    pub mod narrator;
    pub mod erp_stub;
    pub mod fill;
    pub mod demo {
        //! The demo: its settings, its story and what it prints.
        pub mod settings;
        pub mod story;
        pub mod document;
        pub mod text;
        pub mod checkout;
    }
    pub mod measure;
    pub mod fill_command;
    pub mod simulation {
        //! The promises, tried under faults from a seed (docs/architecture.md, "Simulation").
        pub mod dice;
        pub mod shared;
        pub mod story;
        pub mod clock;
        pub mod ledger {
            //! The ledger in memory: the model of the SQL ledger, with faults at its ports.
            pub mod faults;
            pub mod values;
            pub mod table;
            pub mod tables;
            pub mod memory;
            pub mod order_rows;
            pub mod transfers;
            pub mod failures;
            pub mod overdue;
            pub mod notices;
            pub mod alarms;
            pub mod channels;
            pub mod circuits;
            pub mod dead_letters;
            pub mod workers;
            pub mod audit;
            pub mod refresh_tokens;
            pub mod second_entries;
            pub mod total_differences;
            pub mod order_desk;
            pub mod revisions;
            pub mod order_lists;
            pub mod statistics;
            pub mod failure_groups;
            pub mod proof;
            pub mod retention;
            pub mod erasure;
            pub mod redrives;
            pub mod redrive_runs;
            pub mod users;
            pub mod sessions;
            pub mod tokens;
        }
        pub mod traps;
        pub mod ledger_weather;
        pub mod broker {
            //! A broker with the promises of RabbitMQ and none more.
            pub mod queues;
            pub mod model;
            pub mod client;
        }
        pub mod erp {
            //! ERPs as they are on bad days.
            pub mod turns;
            pub mod model;
            pub mod client;
        }
        pub mod post;
        pub mod receivers;
        pub mod schedule;
        pub mod plan;
        pub mod wiring;
        pub mod processes;
        pub mod checkout;
        pub mod people;
        pub mod world;
        pub mod news_promises;
        pub mod promises;
        pub mod run;
        pub mod shrink;
        pub mod campaign;
    }
    pub mod simulate_command;
}

pub mod app {
    //! The only place that knows everything; supervises and shuts down.
    pub mod store;
    pub mod environment;
    pub mod commands;
    pub mod desk;
    pub mod inline;
    pub mod service;
    pub mod heartbeat;
    pub mod demo;
    pub mod topology;
    pub mod migrate;
    pub mod config;
    pub mod check;
    pub mod erps;
    pub mod open_erps;
    pub mod erp_commands;
    pub mod channels;
    pub mod wiring;
    pub mod supervisor;
}

//! order-relay takes paid orders from a shop's checkout to the ERP: never lost, never entered twice,
//! calm when the ERP is down. This file is the map; every file stands here in reading order.

pub mod domain {
    //! The rules: pure, no async, no I/O, no clock, no randomness, no logging.
    pub mod order;
    pub mod failure;
    pub mod faults;
    pub mod edit;
    pub mod state;
    pub mod redrive;
    pub mod retry;
    pub mod message;
    pub mod topology;
    pub mod notice;
    pub mod circuit;
    pub mod pace;
    pub mod permission;
    pub mod money;
    pub mod login;
    pub mod removal;
    pub mod text;
}

pub mod telemetry;
pub mod crash;
pub mod config {
    //! Settings: defaults, file, environment.
    pub mod settings;
    pub mod reader;
}

pub mod ports {
    //! What we ask of the world: traits, and the errors that callers decide on.
    pub mod clock;
    pub mod broker;
    pub mod letters;
    pub mod listing;
    pub mod figures;
    pub mod revisions;
    pub mod redrives;
    pub mod store;
    pub mod people;
    pub mod identity;
    pub mod erp;
    pub mod mail;
}

pub mod roles {
    //! The loops; they see only ports and domain.
    pub mod relay;
    pub mod consume;
    pub mod submitter;
    pub mod attempt;
    pub mod outcome;
    pub mod outage;
    pub mod gate;
    pub mod gatekeeper;
    pub mod error_handler;
    pub mod notifier;
    pub mod sweeper;
    pub mod redriver;
}

pub mod ops {
    //! What people do, for every face alike.
    pub mod orders;
    pub mod figures;
    pub mod edit;
    pub mod redrive_plan;
    pub mod redrive;
    pub mod reconcile;
    pub mod intake;
    pub mod fill;
    pub mod measure;
    pub mod tokens;
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
        pub mod consumer;
        pub mod acks;
        pub mod topology;
    }
    pub mod in_process;
    pub mod store {
        //! The ledger in a database: decisions once, statements per database.
        pub mod ledger;
        pub mod orders;
        pub mod notices;
        pub mod circuits;
        pub mod dead_letters;
        pub mod back_office;
        pub mod conditions;
        pub mod figures;
        pub mod people;
        pub mod revisions;
        pub mod redrives;
        pub mod rows;
        pub mod db;
        pub mod schema;
        pub mod postgres;
        pub mod sqlite;
    }
    pub mod erp {
        //! ERPs, spoken to by recipes.
        pub mod http;
        pub mod redact;
        pub mod json;
        pub mod recipe {
            //! ERPs spoken to by a TOML file alone (docs/erp-recipes.md).
            pub mod values;
            pub mod filters;
            pub mod templates;
            pub mod source;
            pub mod reply;
            pub mod toml_text;
            pub mod model;
            pub mod compile;
            pub mod order_vars;
            pub mod request;
            pub mod jwt;
            pub mod session;
            pub mod judge;
            pub mod calls;
            pub mod oauth;
            pub mod reads;
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
    pub mod mail {
        //! Composing mails, and sending them.
        pub mod templates;
        pub mod smtp;
    }
}

pub mod faces {
    //! What people and their tools touch.
    pub mod views;
    pub mod cli {
        //! The command line.
        pub mod args;
        pub mod redrive_args;
        pub mod exit;
        pub mod output;
        pub mod exchanges;
        pub mod listing;
        pub mod groups;
        pub mod orders;
        pub mod edit;
        pub mod redrives;
        pub mod reconcile;
        pub mod publish;
        pub mod dead_letters;
        pub mod circuits;
        pub mod records;
        pub mod people;
        pub mod fill;
    }
    pub mod web {
        //! Pages, API, health, metrics.
        pub mod router;
        pub mod access;
        pub mod visitor;
        pub mod login;
        pub mod api {
            //! `/api/v1`, by resource.
            pub mod problem;
            pub mod call;
            pub mod routes;
            pub mod idempotency;
            pub mod views;
            pub mod intake;
            pub mod orders;
            pub mod payload;
            pub mod patches;
            pub mod redrives;
            pub mod groups;
            pub mod letters;
            pub mod circuits;
            pub mod people;
            pub mod records;
        }
        pub mod page_routes;
        pub mod front;
        pub mod language;
        pub mod pages;
        pub mod assets;
        pub mod chart;
        pub mod views;
        pub mod overview;
        pub mod lists;
        pub mod export;
        pub mod order_page;
        pub mod edit_page;
        pub mod group_pages;
        pub mod redrive_pages;
        pub mod letter_pages;
        pub mod mail_pages;
        pub mod audit_page;
        pub mod status_page;
        pub mod people_pages;
    }
    pub mod erp_stub;
}

pub mod app {
    //! The only place that knows everything; supervises and shuts down.
    pub mod commands;
    pub mod service;
    pub mod demo;
    pub mod story;
    pub mod inline;
    pub mod check;
    pub mod erps;
    pub mod erp_commands;
    pub mod world;
    pub mod supervisor;
}

//! Metrics (all names are here) and log lines.
//!
//! Logs are JSON lines, or readable text on a terminal; `RUST_LOG` filters. They never carry names,
//! addresses, bodies or secrets (docs/operations.md).

use std::collections::HashSet;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Prefix of every metric's name.
pub const PREFIX: &str = "order_relay";
/// Shops that get a label of their own; any further one is counted as `other`, so that invented
/// shop names cannot fill up the memory.
const MAX_SHOP_LABELS: usize = 100;

/// Label set of one label, named like its field.
macro_rules! label {
    ($name:ident, $($field:ident),+) => {
        #[allow(missing_docs, reason = "a label is its name")]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub struct $name { $(pub $field: String),+ }

        impl $name {
            pub fn new($($field: &str),+) -> Self {
                Self { $($field: $field.to_owned()),+ }
            }
        }
    };
}
label!(ShopLabel, shop);
label!(ClassLabel, class);
label!(PhaseLabels, state, phase);
label!(StateLabel, state);
label!(ErpLabel, erp);
label!(RequestLabels, erp, step, outcome);
label!(ReasonLabel, reason);
label!(KindLabel, kind);
label!(ChannelLabel, channel);
label!(ChannelLabels, channel, outcome);
label!(WhatLabel, what);

type Count<L> = Family<L, Counter<u64, AtomicU64>>;
type Level<L> = Family<L, Gauge<i64, AtomicI64>>;

/// Every metric of docs/operations.md.
#[derive(Debug)]
#[allow(missing_docs, reason = "a metric is its name; its help text stands in `new`")]
pub struct Metrics {
    registry: Registry,
    shops: Mutex<HashSet<String>>,
    pub orders_received: Count<ShopLabel>,
    pub orders_confirmed: Count<ShopLabel>,
    pub orders_failed: Count<ClassLabel>,
    pub orders_duplicate: Counter<u64, AtomicU64>,
    pub events_dropped: Counter<u64, AtomicU64>,
    pub orders_open: Level<PhaseLabels>,
    pub orders_oldest_open_seconds: Level<StateLabel>,
    pub erp_requests: Count<RequestLabels>,
    pub erp_request_duration_seconds: Histogram,
    pub erp_in_flight: Level<ErpLabel>,
    pub erp_in_flight_limit: Level<ErpLabel>,
    pub circuit_state: Level<ErpLabel>,
    pub outcome_unknown: Counter<u64, AtomicU64>,
    pub duplicates_prevented: Counter<u64, AtomicU64>,
    pub entered_twice: Counter<u64, AtomicU64>,
    pub dead_letters: Count<ReasonLabel>,
    pub notices_sent: Count<KindLabel>,
    pub notices_failed: Count<KindLabel>,
    pub notices_waiting: Gauge<i64, AtomicI64>,
    pub alerts_unheard: Gauge<i64, AtomicI64>,
    pub mail_receivers_refused: Gauge<i64, AtomicI64>,
    pub channel_messages: Count<ChannelLabels>,
    pub channel_waiting: Level<ChannelLabel>,
    pub channels_refused: Gauge<i64, AtomicI64>,
    pub settle_duration_seconds: Histogram,
    pub sweeper_remade: Count<WhatLabel>,
    pub retention_removed: Count<KindLabel>,
    pub ledger_difference: Gauge<i64, AtomicI64>,
    pub clock_skew_seconds: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All metrics at zero; `commit` goes into `build_info`.
    pub fn new(version: &str, commit: &str) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix(PREFIX),
            shops: Mutex::default(),
            orders_received: Family::default(),
            orders_confirmed: Family::default(),
            orders_failed: Family::default(),
            orders_duplicate: Counter::default(),
            events_dropped: Counter::default(),
            orders_open: Family::default(),
            orders_oldest_open_seconds: Family::default(),
            erp_requests: Family::default(),
            // 1 ms to 65 s.
            erp_request_duration_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 17)),
            erp_in_flight: Family::default(),
            erp_in_flight_limit: Family::default(),
            circuit_state: Family::default(),
            outcome_unknown: Counter::default(),
            duplicates_prevented: Counter::default(),
            entered_twice: Counter::default(),
            dead_letters: Family::default(),
            notices_sent: Family::default(),
            notices_failed: Family::default(),
            notices_waiting: Gauge::default(),
            alerts_unheard: Gauge::default(),
            mail_receivers_refused: Gauge::default(),
            channel_messages: Family::default(),
            channel_waiting: Family::default(),
            channels_refused: Gauge::default(),
            // 10 ms to 7 days.
            settle_duration_seconds: Histogram::new(exponential_buckets(0.01, 4.0, 14)),
            sweeper_remade: Family::default(),
            retention_removed: Family::default(),
            ledger_difference: Gauge::default(),
            clock_skew_seconds: Gauge::default(),
        };
        metrics.register(version, commit);
        metrics
    }

    fn register(&mut self, version: &str, commit: &str) {
        let build = vec![("version", version.to_owned()), ("commit", commit.to_owned())];
        let r = &mut self.registry;
        r.register("build", "Version and commit", Info::new(build));
        r.register("orders_received", "Orders received", self.orders_received.clone());
        r.register("orders_confirmed", "Orders in the ERP", self.orders_confirmed.clone());
        r.register("orders_failed", "Failed attempts", self.orders_failed.clone());
        r.register(
            "orders_duplicate",
            "Messages about known orders",
            self.orders_duplicate.clone(),
        );
        r.register(
            "events_dropped",
            "Events for others that were not published",
            self.events_dropped.clone(),
        );
        r.register("orders_open", "Orders not confirmed", self.orders_open.clone());
        let oldest = self.orders_oldest_open_seconds.clone();
        r.register("orders_oldest_open_seconds", "Age of the oldest open order", oldest);
        r.register("erp_requests", "Requests to an ERP", self.erp_requests.clone());
        let duration = self.erp_request_duration_seconds.clone();
        r.register("erp_request_duration_seconds", "Duration of requests to ERPs", duration);
        r.register("erp_in_flight", "Requests in progress", self.erp_in_flight.clone());
        r.register(
            "erp_in_flight_limit",
            "Limit of requests in progress",
            self.erp_in_flight_limit.clone(),
        );
        r.register("circuit_state", "0 closed, 1 half-open, 2 open", self.circuit_state.clone());
        r.register(
            "outcome_unknown",
            "Attempts whose outcome was not seen",
            self.outcome_unknown.clone(),
        );
        let prevented = self.duplicates_prevented.clone();
        r.register(
            "duplicates_prevented",
            "Orders found in the ERP instead of sent again",
            prevented,
        );
        let twice = self.entered_twice.clone();
        r.register("entered_twice", "Second numbers in the ERP for the same order", twice);
        r.register("dead_letters", "Messages not accepted", self.dead_letters.clone());
        let sent = self.notices_sent.clone();
        r.register("notices_sent", "Mails accepted, for each receiver, or stored", sent);
        let failed = self.notices_failed.clone();
        r.register("notices_failed", "Mails abandoned, for each receiver", failed);
        r.register("notices_waiting", "Notices and mails not sent", self.notices_waiting.clone());
        r.register(
            "alerts_unheard",
            "Mails to administrators that none of them got",
            self.alerts_unheard.clone(),
        );
        r.register(
            "mail_receivers_refused",
            "Administrators whose last mail was refused for good",
            self.mail_receivers_refused.clone(),
        );
        let messages = self.channel_messages.clone();
        r.register("channel_messages", "Messages sent to channels, by outcome", messages);
        let waiting = self.channel_waiting.clone();
        r.register("channel_waiting", "Notices and messages that wait for a channel", waiting);
        r.register(
            "channels_refused",
            "Channels whose last message was refused for good",
            self.channels_refused.clone(),
        );
        let settle = self.settle_duration_seconds.clone();
        r.register("settle_duration_seconds", "From received to confirmed", settle);
        r.register("sweeper_remade", "Messages published again", self.sweeper_remade.clone());
        let removed = self.retention_removed.clone();
        r.register("retention_removed", "Taken out of the ledger because it is old", removed);
        let skew = self.clock_skew_seconds.clone();
        r.register(
            "clock_skew_seconds",
            "How far the ledger's clock is ahead of this machine's",
            skew,
        );
        let difference = self.ledger_difference.clone();
        r.register(
            "ledger_difference",
            "Received minus accounted for; anything but 0 is a loss",
            difference,
        );
    }

    /// Prometheus text (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }

    /// The label of a shop, bounded in number.
    pub fn shop(&self, shop: &str) -> ShopLabel {
        let mut shops = self.shops.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shops.contains(shop);
        if !known && shops.len() >= MAX_SHOP_LABELS {
            return ShopLabel::new("other");
        }
        if !known {
            shops.insert(shop.to_owned());
        }
        ShopLabel::new(shop)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Readable on a terminal, JSON otherwise.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Starts logging to standard error; `default_filter` applies when `RUST_LOG` is not set.
pub fn start_logging(format: LogFormat, default_filter: &str) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let is_json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    };
    // A second start (tests in one process) keeps the first.
    if is_json {
        drop(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .try_init(),
        );
    } else {
        let is_terminal = std::io::stderr().is_terminal();
        drop(builder.with_ansi(is_terminal).with_target(false).try_init());
    }
}

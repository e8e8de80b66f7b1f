//! Arguments of `demo`, `fill`, `simulate` and `erp stub`; what they do stands outside of the command line.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use crate::cli::flags::positive;

/// `demo`
#[derive(Debug, Args)]
pub struct Demo {
    /// Number of orders; then only wait [default: 180 that tell a story, then one every 5 seconds for ever]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub orders: Option<u32>,
    /// Orders per second
    #[arg(long, default_value_t = 1.0, value_parser = positive)]
    pub rate: f64,
    /// Orders of the two weeks before
    #[arg(long, default_value_t = 1_400)]
    pub history: u32,
    /// Where to listen; another port is used if this one is in use [default: web.listen]
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// End when every order is settled, not only with Ctrl-C
    #[arg(long)]
    pub exit: bool,
}

/// `fill`
#[derive(Debug, Args)]
pub struct Fill {
    /// Number of orders
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub orders: u64,
    /// How many of them are lost
    #[arg(long, default_value_t = 5_000)]
    pub lost: u64,
    /// Also in a ledger that already contains orders
    #[arg(long)]
    pub yes: bool,
}

/// `simulate`
#[derive(Debug, Args)]
pub struct Simulate {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub seeds: u64,
    /// Print the whole story of the first seed, also when no promise is broken
    #[arg(long)]
    pub story: bool,
    /// Print what broke a promise as it is, without looking for a shorter schedule
    #[arg(long)]
    pub no_shrink: bool,
    /// Run every seed, and print a line for each that breaks a promise
    #[arg(long, conflicts_with = "story")]
    pub all: bool,
}

/// `erp stub`
#[derive(Debug, Clone, Args)]
pub struct Stub {
    /// Where to listen; orders go to /orders
    #[arg(long, default_value = "127.0.0.1:9090")]
    pub listen: SocketAddr,
    /// How long each answer takes
    #[arg(long, default_value = "0ms", value_parser = latency)]
    pub latency: std::time::Duration,
    /// Share of orders that fail with 503, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    pub fail_rate: f64,
    /// What it does with orders
    #[arg(long, value_enum, default_value_t = StubMode::Ok)]
    pub mode: StubMode,
}

pub fn latency(text: &str) -> Result<std::time::Duration, String> {
    let time =
        text.parse::<SignedDuration>().ok().and_then(|t| std::time::Duration::try_from(t).ok());
    time.ok_or_else(|| "expected a time such as 20ms or 2s".to_owned())
}

pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// What the stub ERP does with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum StubMode {
    /// Accepts it
    Ok,
    /// 503, to questions as well
    Down,
    /// 503 to orders, answers questions
    Busy,
    /// 422
    Reject,
    /// 401
    Unauthorized,
    /// Accepts it and cuts the connection instead of answering
    AcceptThenCut,
    /// The same, and does not find it for 75 seconds
    Lagging,
    /// Cuts the connection without accepting it
    Cut,
    /// Accepts it and answers 504, like a gateway that timed out
    GatewayTimeout,
    /// Accepts it and answers after 3 seconds
    Slow,
    /// Accepts nothing and does not answer
    Silent,
}

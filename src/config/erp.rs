//! `erp.*`: the ERP of a shop, and the recipes that it can be spoken to with.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::order::contents::Content;
use crate::domain::retry::OnRejected;

use super::reader::{ONE_DAY, ONE_MS, Reader};

/// Shipped recipes (docs/erp-recipes.md).
pub const RECIPES: [&str; 17] = [
    "json",
    "business-central",
    "dolibarr",
    "dynamics-fo",
    "erpnext",
    "jtl-wawi",
    "netsuite",
    "odoo",
    "odoo-jsonrpc",
    "sage-x3",
    "sap-b1",
    "sap-s4",
    "tryton-jsonrpc",
    "tryton-rest",
    "ubl-soap",
    "weclapp",
    "xentral",
];

/// `erp.*`
#[derive(Debug, Clone)]
pub struct ErpSettings {
    /// Where orders are sent to; `None`: not set.
    pub url: Option<String>,
    /// Name of a shipped recipe, or a file.
    pub recipe: String,
    /// `erp.const.*`: what the recipe's constants are here.
    pub consts: BTreeMap<String, String>,
    /// `erp.secret.*`: what the recipe's secrets are here.
    pub secrets: BTreeMap<String, SecretString>,
    /// Which exchanges are stored.
    pub exchanges: KeepExchanges,
    /// Fields that are hidden in stored exchanges.
    pub redact: Vec<String>,
    /// Keys below `erp` that are set; only these override a recipe's own value.
    pub set: BTreeSet<&'static str>,
    /// Value of the Authorization header.
    pub authorization: Option<SecretString>,
    /// Encrypts refresh tokens that are kept.
    pub token_key: Option<SecretString>,
    /// For a whole request.
    pub timeout: Duration,
    /// To connect.
    pub connect_timeout: Duration,
    /// Most concurrent requests.
    pub max_in_flight: u32,
    /// Requests per second.
    pub rate_limit: Option<NonZeroU32>,
    /// How long "not there" does not count after an unclear send.
    pub settle: Duration,
    /// What follows a refusal.
    pub on_rejected: OnRejected,
    /// `erp.drop`: what need not reach the ERP.
    pub drops: Vec<Content>,
    /// Whether the ERP is asked about every order before it is sent.
    pub ask_before_first_send: bool,
}

/// `erp.exchanges`
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepExchanges {
    None,
    /// All but those that have nothing to show beyond the attempt itself.
    Auto,
    All,
}

impl ErpSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let url = r.text("erp.url");
        Self {
            url: (!url.is_empty()).then_some(url),
            recipe: r.checked_text("erp.recipe", recipe),
            consts: r.texts_below("erp.const"),
            secrets: r.secrets_below("erp.secret"),
            exchanges: r.choice("erp.exchanges", &["none", "auto", "all"]),
            redact: r.texts("erp.redact", |_| Ok(())),
            set: ["timeout", "connect_timeout", "max_in_flight", "settle"]
                .into_iter()
                .filter(|name| r.is_set(&format!("erp.{name}")))
                .collect(),
            authorization: r.secret("erp.authorization"),
            token_key: r.secret("erp.token_key"),
            timeout: r.duration("erp.timeout", ONE_MS..=Duration::from_hours(1)),
            connect_timeout: r.duration("erp.connect_timeout", ONE_MS..=Duration::from_hours(1)),
            max_in_flight: r.number("erp.max_in_flight", 1..=1_000),
            rate_limit: r.number_or_none("erp.rate_limit", 1..=100_000).and_then(NonZeroU32::new),
            settle: r.duration("erp.settle", ONE_MS..=ONE_DAY),
            on_rejected: r.choice("erp.rejected", &["park", "retry"]),
            drops: r
                .texts("erp.drop", content)
                .iter()
                .filter_map(|name| Content::from_name(name))
                .collect(),
            ask_before_first_send: r.flag("erp.ask_before_first_send"),
        }
    }
}

fn content(text: &str) -> Result<(), String> {
    let names = Content::ALL.map(Content::as_str).join(", ");
    match Content::from_name(text) {
        Some(_) => Ok(()),
        None => Err(format!("`{text}` is not one of {names}")),
    }
}

/// A known name, or a file; what is wrong in the file is found when it is read.
fn recipe(text: &str) -> Result<(), String> {
    if RECIPES.contains(&text) || Path::new(text).is_file() {
        return Ok(());
    }
    Err(format!(
        "`{text}` is not a known recipe, nor an existing file; known are {}",
        RECIPES.join(", ")
    ))
}

//! ERPs of the settings: the recipe, its secrets, and which value overrides which.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};

use crate::adapters::erp::http::Limits;
use crate::adapters::erp::json::{JsonErp, Keep};
pub use crate::adapters::erp::recipe::open::Loaded;
use crate::adapters::erp::recipe::open::{Overrides, TokenStore, load};
use crate::config::erp::{ErpSettings, KeepExchanges};
use crate::config::shops::ShopSettings;
use crate::domain::retry::RetryPolicy;
use crate::ports::clock::SystemClock;
use crate::ports::erp::Erp;
use crate::ports::erps::DEFAULT_ERP;
use crate::ports::refresh_tokens::RefreshTokens;

/// The recipe whose engine is our own code.
const JSON: &str = "json";

/// Where refresh tokens are kept; `None` where no ledger is open.
pub type Tokens = Option<Arc<dyn RefreshTokens>>;

/// The recipe that the settings name; `None` for `json`.
pub fn recipe(erp: &ErpSettings) -> anyhow::Result<Option<Loaded>> {
    if erp.recipe == JSON {
        return Ok(None);
    }
    load(&erp.recipe).map(Some).map_err(|faults| anyhow!("erp.recipe:\n{faults}"))
}

/// The ERP that the settings name.
pub fn open_erp(name: &str, erp: &ErpSettings, tokens: &Tokens) -> anyhow::Result<Arc<dyn Erp>> {
    open_recipe(name, erp, recipe(erp)?, tokens)
}

/// The same, with the recipe at hand.
pub fn open_recipe(
    name: &str,
    erp: &ErpSettings,
    recipe: Option<Loaded>,
    tokens: &Tokens,
) -> anyhow::Result<Arc<dyn Erp>> {
    let opened = open_any(name, erp, recipe, tokens)?;
    if erp.ask_before_first_send && !opened.can_ask() {
        bail!(
            "erp.ask_before_first_send is true, but the recipe `{}` cannot ask about an order: add [probe] to it, or set \
             erp.ask_before_first_send to false (ERP {name})",
            erp.recipe
        );
    }
    Ok(opened)
}

fn open_any(
    name: &str,
    erp: &ErpSettings,
    recipe: Option<Loaded>,
    tokens: &Tokens,
) -> anyhow::Result<Arc<dyn Erp>> {
    let limits = Limits { connect: erp.connect_timeout, total: erp.timeout };
    let Some(recipe) = recipe else { return open_json(name, erp, limits) };
    if erp.authorization.is_some() {
        bail!("erp.authorization is for the recipe json only: use [auth] attach (ERP {name})");
    }
    let is_set = |key: &str| erp.set.contains(key);
    let overrides = Overrides {
        url: erp.url.clone(),
        consts: erp.consts.clone(),
        secrets: erp.secrets.clone(),
        connect_timeout: is_set("connect_timeout").then_some(erp.connect_timeout),
        timeout: is_set("timeout").then_some(erp.timeout),
        redact: erp.redact.clone(),
        keeps: erp.exchanges != KeepExchanges::None,
        drops: erp.drops.clone(),
        token_store: tokens.clone().map(|tokens| TokenStore {
            tokens,
            erp: name.to_owned(),
            key: erp.token_key.clone(),
        }),
    };
    let opened = recipe.open(&overrides, limits, Arc::new(SystemClock));
    Ok(Arc::new(opened.map_err(|faults| anyhow!("erp.recipe (ERP {name}):\n{faults}"))?))
}

fn open_json(name: &str, erp: &ErpSettings, limits: Limits) -> anyhow::Result<Arc<dyn Erp>> {
    let Some(url) = &erp.url else {
        bail!(
            "erp.url is not set{}: set where orders are sent, e.g. \
             ORDER_RELAY__ERP__URL=http://127.0.0.1:9090/orders with `order-relay erp stub`",
            if name == DEFAULT_ERP { String::new() } else { format!(" for shop {name}") }
        );
    };
    if let Some(key) = erp.consts.keys().chain(erp.secrets.keys()).next() {
        bail!("the recipe json has no constants or secrets, but {key} is set (ERP {name})");
    }
    let keeps = match erp.exchanges {
        KeepExchanges::None => Keep::Nothing,
        KeepExchanges::Auto => Keep::Auto,
        KeepExchanges::All => Keep::All,
    };
    let json = JsonErp::new(url, erp.authorization.clone(), limits, Arc::new(SystemClock));
    let json = json.map_err(|error| anyhow!("{error} (ERP {name})"))?;
    Ok(Arc::new(json.noting(keeps, &erp.redact)))
}

/// When failed attempts of a shop are repeated and unclear ones are asked about.
pub fn retry_policy(shop: &ShopSettings, recipe: Option<&Loaded>) -> RetryPolicy {
    let mut policy = shop.retry_policy();
    let probe = recipe.and_then(|loaded| loaded.recipe.probe.as_ref());
    if let Some(settle) = probe.and_then(|probe| probe.settle)
        && !shop.erp.set.contains("settle")
    {
        policy.settle = settle;
    }
    if let Some(every) = probe.and_then(|probe| probe.every) {
        policy.ask_every = every;
    }
    policy
}

/// Most calls under way: the settings, else the recipe, else the default.
pub fn max_in_flight(erp: &ErpSettings, recipe: Option<&Loaded>) -> u32 {
    let own = recipe.and_then(|loaded| loaded.recipe.http.concurrency);
    match own {
        Some(own) if !erp.set.contains("max_in_flight") => own,
        _ => erp.max_in_flight,
    }
}

/// How long a call can take; only for waiting, so that an unreadable recipe counts as one with
/// defaults.
pub fn longest_call(erp: &ErpSettings) -> Duration {
    let request = erp.timeout + erp.connect_timeout;
    match recipe(erp) {
        Ok(Some(loaded)) => {
            let http = &loaded.recipe.http;
            let own = http.timeout.unwrap_or(erp.timeout)
                + http.connect_timeout.unwrap_or(erp.connect_timeout);
            own.max(request) * 4
        }
        _ => request * 2,
    }
}

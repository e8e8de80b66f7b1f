//! The ERPs of all shops, each opened once: on the first order or question that needs it, so that a command
//! without orders needs no ERP. Which ERP has a shop is decided here and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use async_trait::async_trait;

use crate::app::environment::environment;
use crate::app::erps::{self, Tokens};
use crate::config::erp::ErpSettings;
use crate::config::settings::Settings;
use crate::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer};
use crate::ports::erps::{DEFAULT_ERP, ErpUnusable, Erps};

/// The ERPs of all shops.
pub struct OpenErps {
    default: Arc<OpenErp>,
    /// By shop; an ERP of one shop has its name.
    own: BTreeMap<String, Arc<OpenErp>>,
}

impl OpenErps {
    /// The ERPs that the settings name. None is opened yet.
    pub fn new(settings: &Settings, tokens: &Tokens) -> Arc<Self> {
        let open = |shop| OpenErp::new(settings, shop, tokens);
        let own = settings.shops.iter().filter(|(_, shop)| shop.has_own_erp);
        let own = own.map(|(name, _)| (name.clone(), open(Some(name)))).collect();
        Arc::new(Self { default: open(None), own })
    }

    /// The ERP that the shop has alone.
    pub fn own(&self, shop: &str) -> Option<&Arc<OpenErp>> {
        self.own.get(shop)
    }

    /// The ERP of all shops without one of their own.
    pub fn shared(&self) -> &Arc<OpenErp> {
        &self.default
    }

    /// Every ERP, the shared one first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<OpenErp>> {
        std::iter::once(&self.default).chain(self.own.values())
    }

    fn of(&self, order: &OrderForErp) -> Result<Arc<dyn Erp>, ErpUnusable> {
        let erp = self.own(order.key.shop.as_str()).unwrap_or(&self.default);
        erp.client().map_err(|error| ErpUnusable(format!("{error:#}")))
    }
}

#[async_trait]
impl Erps for OpenErps {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.all().map(|erp| erp.name()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn erp_of_shop(&self, shop: &str) -> &str {
        self.own(shop).unwrap_or(&self.default).name()
    }

    fn shop_of_erp(&self, erp: &str) -> Option<&str> {
        self.own.get_key_value(erp).map(|(shop, _)| shop.as_str())
    }

    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, ErpUnusable> {
        let rehearsed = self.of(order)?.rehearse(order);
        rehearsed.map_err(|failure| ErpUnusable(format!("{} ({})", failure.message, failure.code)))
    }

    async fn ask(&self, order: &OrderForErp) -> Result<ProbeAnswer, ErpUnusable> {
        let erp = self.of(order)?;
        let answer = tokio::time::timeout(erp.call_budget(), erp.ask(order)).await;
        answer.map_err(|_| ErpUnusable("no answer in time".to_owned()))
    }
}

/// One ERP of the settings, opened when it is first needed.
pub struct OpenErp {
    /// The shop that has it alone.
    shop: Option<String>,
    settings: Settings,
    tokens: Tokens,
    client: RwLock<Option<Arc<dyn Erp>>>,
}

impl OpenErp {
    fn new(settings: &Settings, shop: Option<&String>, tokens: &Tokens) -> Arc<Self> {
        let (settings, tokens) = (settings.clone(), tokens.clone());
        Arc::new(Self { shop: shop.cloned(), settings, tokens, client: RwLock::default() })
    }

    /// Its name in settings, metrics and circuits.
    pub fn name(&self) -> &str {
        self.shop.as_deref().unwrap_or(DEFAULT_ERP)
    }

    /// What the settings say about it.
    pub fn settings(&self) -> &ErpSettings {
        self.settings_in(&self.settings)
    }

    fn settings_in<'s>(&self, settings: &'s Settings) -> &'s ErpSettings {
        &self.shop.as_deref().map_or(&settings.default_shop, |shop| settings.shop(shop)).erp
    }

    /// The client that everybody in this process shares; a failure to open it is not kept.
    pub fn client(&self) -> anyhow::Result<Arc<dyn Erp>> {
        if let Some(client) = &*self.client.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(client.clone());
        }
        let opened = erps::open_erp(self.name(), self.settings(), &self.tokens)?;
        Ok(self.client.write().unwrap_or_else(PoisonError::into_inner).insert(opened).clone())
    }

    /// Opens it with the current files and environment: a secret may have been fixed. Invalid settings are
    /// ignored here; the next start reports them.
    pub fn reopen(&self) -> Option<Arc<dyn Erp>> {
        let settings = self.settings.reload(environment()).ok()?;
        let opened = erps::open_erp(self.name(), self.settings_in(&settings), &self.tokens).ok()?;
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = Some(opened.clone());
        Some(opened)
    }

    /// Its recipe; `None` for the built-in `json`.
    pub fn recipe(&self) -> anyhow::Result<Option<erps::Loaded>> {
        erps::recipe(self.settings()).with_context(|| format!("ERP {}", self.name()))
    }
}

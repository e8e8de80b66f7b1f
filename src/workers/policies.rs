//! What applies to which shop: its ERP and the gate in front of it, retries, mails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::alarm::Damping;
use crate::domain::notice::CustomerConfirmation;
use crate::domain::order::values::Shop;
use crate::domain::order_filter::ShopFilter;
use crate::domain::retry::RetryPolicy;
use crate::workers::erp_gate::Gate;

/// What applies to a shop.
#[derive(Clone)]
pub struct ShopPolicy {
    /// The ERP it sends to, and the gate in front of it.
    pub gate: Arc<Gate>,
    /// Failed attempts after which an order is parked; `None`: never.
    pub max_count: Option<u32>,
    /// When it is retried.
    pub retry: RetryPolicy,
    /// Whether the ERP is asked about an order of which the ledger knows no doubtful attempt, too, because the ledger may
    /// have lost one.
    pub asks_first: bool,
    /// When a customer gets a confirmation.
    pub customer: CustomerConfirmation,
    /// What its administrators are told of ERPs and of types of failures.
    pub alarms: AlarmPolicy,
}

/// What the administrators of a shop are told of ERPs and of types of failures.
#[derive(Debug, Clone)]
pub struct AlarmPolicy {
    /// The group of receivers that the shop belongs to.
    pub audience: String,
    pub damping: Damping,
    /// How long the mail that an ERP is usable again waits for the orders that waited.
    pub back_within: Duration,
    /// Whether types of failures are told.
    pub failure_types: bool,
    /// A type of failures has ended when none failed for so long.
    pub ends_after: Duration,
}

impl AlarmPolicy {
    /// The rule for types of failures, which come and go more slowly than an ERP.
    pub fn damping_of_failure_types(&self) -> Damping {
        Damping { window: self.damping.window.max(self.ends_after), ..self.damping }
    }
}

/// Policies by shop.
pub struct Policies {
    /// For every shop that has none of its own.
    pub default: ShopPolicy,
    /// For shops with settings of their own.
    pub shops: HashMap<String, ShopPolicy>,
}

impl Policies {
    /// What applies to `shop`.
    pub fn of(&self, shop: &Shop) -> &ShopPolicy {
        self.named(shop.as_str())
    }

    /// The same by name.
    pub fn named(&self, shop: &str) -> &ShopPolicy {
        self.shops.get(shop).unwrap_or(&self.default)
    }

    /// The shops that send to this ERP.
    pub fn shops_of_erp(&self, erp: &str) -> ShopFilter {
        self.shops_where(|policy| policy.gate.erp_name() == erp)
    }

    /// The shops of this group of receivers.
    pub fn shops_of_audience(&self, audience: &str) -> ShopFilter {
        self.shops_where(|policy| policy.alarms.audience == audience)
    }

    fn shops_where(&self, is_meant: impl Fn(&ShopPolicy) -> bool) -> ShopFilter {
        let names = |meant: bool| {
            let shops = self.shops.iter().filter(|(_, policy)| is_meant(policy) == meant);
            shops.map(|(name, _)| name.clone()).collect()
        };
        match is_meant(&self.default) {
            true => ShopFilter::Except(names(false)),
            false => ShopFilter::Only(names(true)),
        }
    }

    /// Every gate once.
    pub fn gates(&self) -> Vec<Arc<Gate>> {
        let mut gates = vec![self.default.gate.clone()];
        for policy in self.shops.values() {
            if gates.iter().all(|gate| gate.erp_name() != policy.gate.erp_name()) {
                gates.push(policy.gate.clone());
            }
        }
        gates
    }
}

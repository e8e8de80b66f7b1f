//! What applies to which shop: its ERP and the gate in front of it, retries, mails.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::notice::CustomerConfirmation;
use crate::domain::order::values::Shop;
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
    /// When a customer gets a confirmation.
    pub customer: CustomerConfirmation,
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
        self.shops.get(shop.as_str()).unwrap_or(&self.default)
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

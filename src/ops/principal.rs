//! Who asks, and what they may do. Every permission is checked through here.

use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{OrderFilter, ShopFilter};
use crate::domain::permission::{Grants, Permission};
use crate::ops::refusal::Refusal;
use crate::ports::audit::Act;

/// The caller of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// As the audit names them: `user:erika`, `token:checkout`, `cli:root`.
    pub name: String,
    /// From which address, where that is known.
    pub from: Option<String>,
    /// What they may do.
    pub grants: Grants,
}

impl Principal {
    /// Whether they may do it in that shop; without a shop, to what belongs to none.
    pub fn may(&self, permission: Permission, shop: Option<&str>) -> bool {
        self.grants.allows(permission, shop)
    }

    /// The shops whose orders they may see.
    pub fn readable(&self) -> ShopFilter {
        match self.grants.shops_allowing(Permission::Read) {
            None => ShopFilter::default(),
            Some(shops) => ShopFilter::Only(shops),
        }
    }

    /// The same filter, of what they may see.
    pub fn narrowed(&self, filter: &OrderFilter) -> OrderFilter {
        OrderFilter { shops: self.readable(), ..filter.clone() }
    }

    /// Refuses to show an order of a shop that they may not see: it does not exist for them.
    pub fn see(&self, key: &OrderKey) -> Result<(), Refusal> {
        see_with(&self.grants, key)
    }

    /// Refuses callers who have the permission nowhere; the operation itself looks at the shop. Managing
    /// people belongs to no shop.
    pub fn authorize_somewhere(&self, permission: Permission) -> Result<(), Refusal> {
        let is_somewhere = permission != Permission::Admin
            && self.grants.shops_allowing(permission).is_none_or(|shops| !shops.is_empty());
        if is_somewhere { Ok(()) } else { self.authorize(permission, None) }
    }

    /// Refuses callers without the permission.
    pub fn authorize(&self, permission: Permission, shop: Option<&str>) -> Result<(), Refusal> {
        authorize_grants(&self.grants, permission, shop)
    }
}

fn authorize_grants(
    grants: &Grants,
    permission: Permission,
    shop: Option<&str>,
) -> Result<(), Refusal> {
    if grants.allows(permission, shop) {
        return Ok(());
    }
    Err(Refusal::Forbidden { permission, shop: shop.map(str::to_owned) })
}

fn see_with(grants: &Grants, key: &OrderKey) -> Result<(), Refusal> {
    match grants.allows(Permission::Read, Some(key.shop.as_str())) {
        true => Ok(()),
        false => Err(Refusal::not_found("order", key)),
    }
}

/// Refuses what `act` may not do to that order; one that its person may not see does not exist for them.
pub fn authorize_order(act: &Act, permission: Permission, key: &OrderKey) -> Result<(), Refusal> {
    see_with(&act.grants, key)?;
    authorize(act, permission, Some(key.shop.as_str()))
}

/// Refuses what `act` may not do in that shop; without a shop, for what belongs to none.
pub fn authorize(act: &Act, permission: Permission, shop: Option<&str>) -> Result<(), Refusal> {
    authorize_grants(&act.grants, permission, shop)
}

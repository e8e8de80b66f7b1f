//! Who may do what (docs/operations.md): permissions, the roles that collect them, and what one
//! person or token was granted, for all shops or for single ones.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that can be allowed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
pub enum Permission {
    /// See orders, mails, dead letters, plans and the audit.
    #[serde(rename = "orders:read")]
    Read,
    /// Submit orders.
    #[serde(rename = "orders:publish")]
    Publish,
    /// Transfer, redrive, reconcile, replay; hold and release an ERP.
    #[serde(rename = "lostorder_process")]
    Process,
    /// Remove and restore; discard dead letters.
    #[serde(rename = "lostorder_remove")]
    Remove,
    /// Edit an order, and the note of a group.
    #[serde(rename = "lostorder_edit")]
    Edit,
    /// Edit currency and total. The number and the shop of an order can never be edited.
    #[serde(rename = "lostorder_edit_locked")]
    EditLocked,
    /// Users, tokens, and everything else.
    #[serde(rename = "admin")]
    Admin,
}

crate::names!(Permission {
    Read = "orders:read",
    Publish = "orders:publish",
    Process = "lostorder_process",
    Remove = "lostorder_remove",
    Edit = "lostorder_edit",
    EditLocked = "lostorder_edit_locked",
    Admin = "admin",
});

/// A named set of permissions; each role includes those of the one before it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees.
    Viewer,
    /// Transfers and removes.
    Operator,
    /// Edits.
    Editor,
    /// Everything.
    Admin,
}

crate::names!(Role {
    Viewer = "viewer",
    Operator = "operator",
    Editor = "editor",
    Admin = "admin",
});

impl Role {
    /// What it allows.
    pub const fn permissions(self) -> &'static [Permission] {
        use Permission::{Edit, Process, Read, Remove};
        match self {
            Self::Viewer => &[Read],
            Self::Operator => &[Read, Process, Remove],
            Self::Editor => &[Read, Process, Remove, Edit],
            Self::Admin => &Permission::ALL,
        }
    }
}

/// The permissions of a person or token: for all shops, and in addition for single shops.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    /// In every shop, and for what belongs to none.
    pub everywhere: BTreeSet<Permission>,
    /// In these shops besides.
    #[serde(default)]
    pub shops: BTreeMap<String, BTreeSet<Permission>>,
}

impl Grants {
    /// Everything: for the commands of somebody who has access to the database.
    pub fn all() -> Self {
        Self { everywhere: BTreeSet::from(Permission::ALL), shops: BTreeMap::new() }
    }

    /// These permissions everywhere, or in one shop only.
    pub fn add(&mut self, permissions: &[Permission], shop: Option<&str>) {
        let set = match shop {
            None => &mut self.everywhere,
            Some(shop) => self.shops.entry(shop.to_owned()).or_default(),
        };
        set.extend(permissions);
    }

    /// Whether it is allowed in that shop; without a shop, for what belongs to none.
    pub fn allows(&self, permission: Permission, shop: Option<&str>) -> bool {
        let has = |set: &BTreeSet<Permission>| {
            set.contains(&permission) || set.contains(&Permission::Admin)
        };
        has(&self.everywhere) || shop.and_then(|shop| self.shops.get(shop)).is_some_and(has)
    }

    /// The shops in which it is allowed; `None`: in all.
    pub fn shops_allowing(&self, permission: Permission) -> Option<Vec<String>> {
        if self.allows(permission, None) {
            return None;
        }
        let shops = self.shops.keys().filter(|shop| self.allows(permission, Some(shop)));
        Some(shops.cloned().collect())
    }
}

/// A granted role: for all shops, or for one.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct RoleGrant {
    pub role: Role,
    /// Where; `None`: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shop: Option<String>,
}

impl RoleGrant {
    /// A role for all shops.
    pub fn everywhere(role: Role) -> Self {
        Self { role, shop: None }
    }
}

impl fmt::Display for RoleGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shop {
            None => f.write_str(self.role.as_str()),
            Some(shop) => write!(f, "{} in {shop}", self.role.as_str()),
        }
    }
}

/// Roles as one text for people: `viewer, operator in de`.
pub fn roles_text(roles: &[RoleGrant]) -> String {
    roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl FromIterator<RoleGrant> for Grants {
    fn from_iter<I: IntoIterator<Item = RoleGrant>>(roles: I) -> Self {
        let mut grants = Self::default();
        for grant in roles {
            grants.add(grant.role.permissions(), grant.shop.as_deref());
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_all_that_the_one_before_it_may() {
        for pair in Role::ALL.windows(2) {
            let [less, more] = pair else { continue };
            assert!(less.permissions().iter().all(|p| more.permissions().contains(p)));
            assert!(less.permissions().len() < more.permissions().len());
        }
    }

    #[test]
    fn a_grant_for_one_shop_counts_there_and_nowhere_else() {
        let mut grants = Grants::default();
        grants.add(Role::Operator.permissions(), Some("de"));
        assert!(grants.allows(Permission::Process, Some("de")));
        assert!(!grants.allows(Permission::Process, Some("at")));
        assert!(!grants.allows(Permission::Process, None));
        assert_eq!(grants.shops_allowing(Permission::Process), Some(vec!["de".to_owned()]));
        assert_eq!(grants.shops_allowing(Permission::Edit), Some(vec![]));
    }

    #[test]
    fn roles_become_what_they_allow_where_they_were_given() {
        let everywhere = RoleGrant::everywhere(Role::Viewer);
        let in_one = RoleGrant { role: Role::Operator, shop: Some("de".to_owned()) };
        assert_eq!(roles_text(&[everywhere.clone(), in_one.clone()]), "viewer, operator in de");
        let grants: Grants = [everywhere, in_one].into_iter().collect();
        assert!(grants.allows(Permission::Read, Some("at")));
        assert!(grants.allows(Permission::Process, Some("de")));
        assert!(!grants.allows(Permission::Process, Some("at")));
    }

    #[test]
    fn an_administrator_may_everything_everywhere() {
        let mut grants = Grants::default();
        grants.add(&[Permission::Admin], None);
        assert!(Permission::ALL.into_iter().all(|p| grants.allows(p, Some("de"))));
        assert_eq!(grants.shops_allowing(Permission::Read), None);
    }

    #[test]
    fn names_lead_back_to_what_they_name() {
        for permission in Permission::ALL {
            assert_eq!(Permission::from_name(permission.as_str()), Some(permission));
            let json = serde_json::to_string(&permission).unwrap();
            assert_eq!(json, format!("\"{}\"", permission.as_str()));
        }
        assert!(Role::ALL.into_iter().all(|role| Role::from_name(role.as_str()) == Some(role)));
    }
}

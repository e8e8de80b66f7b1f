//! How people come in: what the settings say about logins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use crate::domain::permission::{Role, RoleGrant};
use crate::domain::text::one_line;
use crate::ops::passwords::Passwords;
use crate::ports::identity::{Claims, IdentityProvider};

/// Logins.
#[derive(Clone)]
pub struct LoginConfig {
    /// Hashes passwords.
    pub passwords: Passwords,
    /// `auth.session_idle`
    pub idle: Duration,
    /// `auth.session_lifetime`
    pub lifetime: Duration,
    /// An identity provider for logins.
    pub oidc: Option<OidcDoor>,
}

/// An identity provider, and the mapping of its claims.
#[derive(Clone)]
pub struct OidcDoor {
    pub provider: Arc<dyn IdentityProvider>,
    /// The address to which the browser returns.
    pub callback: String,
    /// The claim that holds the roles, with dots between.
    pub role_claim: String,
    /// Roles by value of that claim; a value that is a role's name means that role.
    pub roles: BTreeMap<String, Vec<RoleGrant>>,
    /// The claim that holds the name; otherwise the usual ones.
    pub name_claim: String,
}

impl OidcDoor {
    pub(super) fn name(&self, claims: &Claims) -> String {
        let text = |name: &str| find(claims, name).and_then(Json::as_str).filter(|t| !t.is_empty());
        let usual = || ["preferred_username", "email", "sub"].into_iter().find_map(text);
        one_line(text(&self.name_claim).or_else(usual).unwrap_or("unknown"), 100)
    }

    pub(super) fn roles(&self, claims: &Claims) -> Vec<RoleGrant> {
        let values: Vec<&str> = match find(claims, &self.role_claim) {
            Some(Json::Array(values)) => values.iter().filter_map(Json::as_str).collect(),
            Some(Json::String(text)) => text.split([' ', ',']).collect(),
            _ => Vec::new(),
        };
        let mut roles: Vec<RoleGrant> = Vec::new();
        for value in values {
            match self.roles.get(value) {
                Some(mapped) => roles.extend(mapped.iter().cloned()),
                None => roles.extend(Role::from_name(value).map(RoleGrant::everywhere)),
            }
        }
        roles.sort();
        roles.dedup();
        roles
    }
}

/// The claim at a path with dots; a claim whose name itself contains the dots takes precedence.
pub fn find<'a>(claims: &'a Claims, path: &str) -> Option<&'a Json> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

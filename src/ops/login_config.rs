//! How people come in: what the settings say about logins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::domain::permission::RoleGrant;
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
    /// Roles by value of that claim; any other value grants nothing.
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

    /// When a session ends at the latest: with the token that the provider gave for it.
    pub(super) fn session_end(claims: &Claims, now: Timestamp, lifetime: Duration) -> Timestamp {
        let longest = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        let token = claims.get("exp").and_then(Json::as_f64).and_then(|end| {
            let end = Duration::try_from_secs_f64(end).ok()?;
            Timestamp::UNIX_EPOCH.checked_add(end).ok()
        });
        token.map_or(longest, |end| end.min(longest))
    }

    pub(super) fn roles(&self, claims: &Claims) -> Vec<RoleGrant> {
        let values: Vec<&str> = match find(claims, &self.role_claim) {
            Some(Json::Array(values)) => values.iter().filter_map(Json::as_str).collect(),
            Some(Json::String(text)) => text.split([' ', ',']).collect(),
            _ => Vec::new(),
        };
        let mut roles: Vec<RoleGrant> = Vec::new();
        for value in values {
            // A value that nobody mapped grants nothing, whatever it is called.
            roles.extend(self.roles.get(value).into_iter().flatten().cloned());
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

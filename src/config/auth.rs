//! `auth.*`: sessions, and logging in at an identity provider.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::permission::{Role, RoleGrant};

use super::reader::{ONE_DAY, Reader};

const ONE_MINUTE: Duration = Duration::from_mins(1);

/// `auth.*`
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How long an idle session lasts.
    pub session_idle: Duration,
    /// How long a session lasts at most.
    pub session_lifetime: Duration,
    /// `auth.oidc.*`; `None`: no identity provider.
    pub oidc: Option<OidcSettings>,
}

/// `auth.oidc.*`
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// The provider's issuer.
    pub issuer: String,
    /// Our client id.
    pub client_id: String,
    /// The client secret.
    pub client_secret: Option<SecretString>,
    /// The requested scopes.
    pub scopes: String,
    /// The claim of the ID token that holds the roles.
    pub role_claim: String,
    /// Roles by value of that claim.
    pub roles: BTreeMap<String, Vec<RoleGrant>>,
    /// The claim that holds the name.
    pub name_claim: String,
}

impl AuthSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            session_idle: r.duration("auth.session_idle", ONE_MINUTE..=ONE_DAY * 30),
            session_lifetime: r.duration("auth.session_lifetime", ONE_MINUTE..=ONE_DAY * 90),
            oidc: OidcSettings::read(r),
        }
    }
}

impl OidcSettings {
    /// `None`: no identity provider.
    fn read(r: &mut Reader) -> Option<Self> {
        let issuer = r.checked_text("auth.oidc.issuer", |text| {
            if text.is_empty() || text.starts_with("https://") || text.starts_with("http://") {
                return Ok(());
            }
            Err(format!(
                "`{text}`: expected an address such as https://login.example.com/realms/shop"
            ))
        });
        let check = |text: &str| role_mapping(text).map(|_| ());
        let mut roles = BTreeMap::<String, Vec<RoleGrant>>::new();
        for mapping in r.texts("auth.oidc.roles", check) {
            if let Ok((value, grant)) = role_mapping(&mapping) {
                roles.entry(value).or_default().push(grant);
            }
        }
        let oidc = Self {
            client_id: r.text("auth.oidc.client_id"),
            client_secret: r.secret("auth.oidc.client_secret"),
            scopes: r.text("auth.oidc.scopes"),
            role_claim: r.text("auth.oidc.role_claim"),
            roles,
            name_claim: r.text("auth.oidc.name_claim"),
            issuer,
        };
        let is_set = !oidc.issuer.is_empty();
        if is_set && oidc.client_id.is_empty() {
            r.fault("auth.oidc.client_id", "missing: required with auth.oidc.issuer");
        }
        if is_set && oidc.roles.is_empty() {
            let expected = "missing: required with auth.oidc.issuer, e.g. [\"shop-admins=admin\"]; without it nobody gets in";
            r.fault("auth.oidc.roles", expected);
        }
        is_set.then_some(oidc)
    }
}

/// `VALUE=ROLE` or `VALUE=ROLE:SHOP`; the value may hold `=` itself.
fn role_mapping(text: &str) -> Result<(String, RoleGrant), String> {
    let expected = || {
        let roles = Role::ALL.map(Role::as_str).join(", ");
        format!("`{text}`: expected VALUE=ROLE or VALUE=ROLE:SHOP, with a role of {roles}")
    };
    let (value, grant) = text.rsplit_once('=').ok_or_else(expected)?;
    let (role, shop) = match grant.split_once(':') {
        Some((role, shop)) => (role, Some(shop.trim().to_owned())),
        None => (grant, None),
    };
    let role = Role::from_name(role.trim()).ok_or_else(expected)?;
    Ok((value.trim().to_owned(), RoleGrant { role, shop }))
}

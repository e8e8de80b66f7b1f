//! Who has access: users and tokens, and their secrets at the one time that they are shown.

use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::permission::RoleGrant;
use crate::ports::people::{ApiToken, User};

/// A user.
#[derive(Serialize, JsonSchema)]
pub struct UserView {
    pub name: String,
    /// What they may do; without a shop: everywhere.
    pub roles: Vec<RoleGrant>,
    /// The language of their pages; `null`: the browser's.
    pub language: Option<String>,
    pub created_at: String,
    pub password_changed_at: String,
    /// Since when the user is disabled.
    pub disabled_at: Option<String>,
}

impl UserView {
    pub fn of(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            roles: user.roles.clone(),
            language: user.language.clone(),
            created_at: user.created_at.to_string(),
            password_changed_at: user.password_changed_at.to_string(),
            disabled_at: user.disabled_at.map(|at| at.to_string()),
        }
    }
}

/// A user with a password that is not shown again.
#[derive(Serialize, JsonSchema)]
pub struct WithPassword {
    pub name: String,
    /// Not shown again.
    pub password: String,
}

/// A token, without what makes it one.
#[derive(Serialize, JsonSchema)]
pub struct TokenView {
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The shops that it is limited to; `null`: to none.
    pub shops: Option<Vec<String>>,
    pub created_at: String,
    /// When it expires.
    pub expires_at: Option<String>,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

impl TokenView {
    pub fn of(token: &ApiToken) -> Self {
        Self {
            name: token.name.clone(),
            scopes: token.scopes.clone(),
            shops: token.shops.clone(),
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            revoked_at: token.revoked_at.map(|at| at.to_string()),
        }
    }
}

/// A token that is not shown again.
#[derive(Serialize, JsonSchema)]
pub struct TokenShown {
    pub name: String,
    /// Not shown again.
    pub token: String,
}

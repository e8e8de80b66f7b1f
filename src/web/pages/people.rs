//! Users and tokens, and the user's own page.

use crate::key;
use std::time::Duration;

use axum::extract::Path;
use minijinja::{Value, context};

use crate::domain::permission::{Permission, Role, RoleGrant, roles_text};
use crate::domain::retry::later;
use crate::ops::people::NewUser;
use crate::ops::refusal::Refusal;
use crate::ops::tokens::NewToken;
use crate::ports::people::{ApiToken, Provider, User, last_administrator};
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext, PageResult, unprocessable};
use crate::web::html::forms::{Fields, field};

const ONE_DAY: Duration = Duration::from_hours(24);

/// `GET /people`
pub async fn people(ctx: PageContext) -> PageResult {
    show(&ctx, Value::UNDEFINED).await
}

async fn show(ctx: &PageContext, more: Value) -> PageResult {
    let person = &ctx.user.person;
    let users = ctx.web.ops.users(person).await?;
    let tokens = ctx.web.ops.tokens(person).await?;
    let last = last_administrator(&users).map(|last| last.name.as_str());
    let values = context! {
        users => users.iter().map(|user| user_view(ctx, user, last)).collect::<Vec<_>>(),
        tokens => tokens.iter().map(|token| token_view(ctx, token)).collect::<Vec<_>>(),
        roles => Role::ALL.map(Role::as_str),
        scopes => Permission::ALL.map(Permission::as_str),
    };
    ctx.page("people.html", ctx.t(key!("Users and tokens")), None, context! { ..more, ..values })
}

/// A wrong input is reported on the same page.
async fn told(ctx: &PageContext, refusal: Refusal) -> PageResult {
    match refusal {
        Refusal::Unacceptable(_) | Refusal::Exists { .. } | Refusal::LastAdministrator(_) => {
            show(ctx, context! { fault => refusal.to_string() }).await
        }
        other => Err(other.into()),
    }
}

/// `POST /people/users`: a user with a password that is made and shown once.
pub async fn add_user(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let name = field(&form, "name").unwrap_or_default().to_owned();
    let password = ctx.web.ops.new_password();
    let new = NewUser { name, password: password.clone(), roles: roles_of(&form)?, language: None };
    match ctx.web.ops.add_user(new, &ctx.act(None)).await {
        Ok(user) => {
            show(&ctx, context! { shown_once => format!("{} {password}", user.name) }).await
        }
        Err(refusal) => told(&ctx, refusal).await,
    }
}

/// `POST /people/users/{name}/{verb}`
pub async fn change_user(
    ctx: PageContext,
    Path((name, verb)): Path<(String, String)>,
    Posted { form, .. }: Posted<Fields>,
) -> PageResult {
    let (ops, act) = (&ctx.web.ops, ctx.act(None));
    let changed = match verb.as_str() {
        "roles" => ops.set_roles(&name, roles_of(&form)?, &act).await,
        "disable" => ops.disable_user(&name, &act).await,
        "enable" => ops.enable_user(&name, &act).await,
        "password" => {
            let password = ops.new_password();
            match ops.set_password(&name, &password, &act).await {
                Ok(()) => {
                    return show(&ctx, context! { shown_once => format!("{name} {password}") })
                        .await;
                }
                Err(refusal) => Err(refusal),
            }
        }
        _ => return Err(Failure::missing(key!("There is no such action."))),
    };
    match changed {
        Ok(()) => Ok(ctx.to("/people", "good", ctx.t(key!("Saved.")))),
        Err(refusal) => told(&ctx, refusal).await,
    }
}

/// `POST /people/tokens`: a token that is shown once.
pub async fn add_token(ctx: PageContext, Posted { form, .. }: Posted<Fields>) -> PageResult {
    let scopes = form.iter().filter(|(name, _)| name == "scope");
    let days = match field(&form, "days").map(str::parse::<u32>) {
        None => None,
        Some(Ok(days)) => Some(ONE_DAY * days),
        Some(Err(_)) => return Err(unprocessable(key!("The days are a number."))),
    };
    let act = ctx.act(None);
    let new = NewToken {
        name: field(&form, "name").unwrap_or_default().to_owned(),
        scopes: scopes.filter_map(|(_, scope)| Permission::from_name(scope)).collect(),
        shops: shops_of(&form),
        expires_at: days.map(|days| later(act.now, days)),
    };
    match ctx.web.ops.create_token(new, &act).await {
        Ok(token) => show(&ctx, context! { shown_once => token }).await,
        Err(refusal) => told(&ctx, refusal).await,
    }
}

/// `POST /people/tokens/{name}/revoke`
pub async fn revoke_token(
    ctx: PageContext,
    Path(name): Path<String>,
    _: Posted<Fields>,
) -> PageResult {
    ctx.web.ops.revoke_token(&name, &ctx.act(None)).await?;
    Ok(ctx.to("/people", "good", ctx.t(key!("Revoked."))))
}

fn shops_of(form: &Fields) -> Option<Vec<String>> {
    let names = field(form, "shops")?.split([',', ' ']).filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

fn roles_of(form: &Fields) -> Result<Vec<RoleGrant>, Failure> {
    let role = field(form, "role").and_then(Role::from_name);
    let role = role.ok_or_else(|| unprocessable(key!("Choose a role.")))?;
    Ok(match shops_of(form) {
        None => vec![RoleGrant::everywhere(role)],
        Some(shops) => shops.into_iter().map(|shop| RoleGrant { role, shop: Some(shop) }).collect(),
    })
}

fn user_view(ctx: &PageContext, user: &User, last_administrator: Option<&str>) -> Value {
    let shops: Vec<&str> = user.roles.iter().filter_map(|grant| grant.shop.as_deref()).collect();
    context! {
        name => &user.name,
        roles => roles_text(&user.roles),
        role => user.roles.first().map(|grant| grant.role.as_str()),
        shops => shops.join(", "),
        created => ctx.formatter().time(user.created_at),
        disabled => user.disabled_at.is_some(),
        last => last_administrator == Some(user.name.as_str()),
    }
}

fn token_view(ctx: &PageContext, token: &ApiToken) -> Value {
    let formatter = ctx.formatter();
    context! {
        name => &token.name,
        scopes => token.scopes.join(", "),
        shops => token.shops.as_ref().map(|shops| shops.join(", ")),
        created => formatter.time(token.created_at),
        expires => formatter.time_or_none(token.expires_at),
        revoked => token.revoked_at.is_some(),
    }
}

/// `GET /me`
pub async fn me(ctx: PageContext) -> PageResult {
    let grants = &ctx.user.person.grants;
    let names = |set: &std::collections::BTreeSet<Permission>| -> Vec<&str> {
        set.iter().map(|permission| permission.as_str()).collect()
    };
    let shops: Vec<(String, String)> =
        grants.shops.iter().map(|(shop, set)| (shop.clone(), names(set).join(", "))).collect();
    let values = context! {
        permissions => names(&grants.everywhere),
        shops,
        local => ctx.user.provider == Provider::Local,
    };
    ctx.page("me.html", &ctx.user.user, None, values)
}

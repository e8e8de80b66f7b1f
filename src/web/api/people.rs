//! `/api/v1/users` and `/api/v1/tokens`: access. They belong to no shop: only an administrator of
//! all shops sees and changes them. Passwords and tokens are generated here and shown once.

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::domain::permission::{Permission, RoleGrant};
use crate::ops::people::NewUser;
use crate::ops::tokens::NewToken;
use crate::views::people::{TokenShown, TokenView, UserView, WithPassword};
use crate::web::api::call::{Call, Done, Items, Nothing, Reply, Why};
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::NamePath;
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    let (get, post, delete) = (&Method::GET, &Method::POST, &Method::DELETE);
    let about = |summary| About::new(Permission::Admin, summary);
    let made = |summary| About { needs: Permission::Admin, status: StatusCode::CREATED, summary };
    let user = |verb: &str| format!("/users/{{name}}{verb}");
    routes
        .add(get, "/users", about("List users"), users)
        .add(post, "/users", made("Add a user; the password is generated and shown once"), add_user)
        .add(
            &Method::PUT,
            &user("/roles"),
            about("Give a user other roles, effective at once"),
            set_roles,
        )
        .add(
            post,
            &user("/password"),
            about("Generate a new password, shown once, and end the user's sessions"),
            new_password,
        )
        .add(
            post,
            &user("/end-sessions"),
            about("End all sessions of a user, also those of the identity provider"),
            end_sessions,
        )
        .add(post, &user("/disable"), about("Disable a user and end their sessions"), disable)
        .add(post, &user("/enable"), about("Enable a user"), enable)
        .add(
            delete,
            &user(""),
            about("Remove a user; their actions stay in the audit"),
            remove_user,
        )
        .add(get, "/tokens", about("List tokens, without their secrets"), tokens)
        .add(post, "/tokens", made("Create a token; it is shown once"), add_token)
        .add(delete, "/tokens/{name}", about("Revoke a token"), revoke)
}

/// A user to be added.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserToAdd {
    /// The login name.
    name: String,
    /// What they may do; without a shop: everywhere.
    roles: Vec<RoleGrant>,
    /// The language of their pages, `en` or `de`; else the browser's.
    #[serde(default)]
    language: Option<String>,
}

/// Roles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roles {
    /// What they may do from now on; without a shop: everywhere.
    roles: Vec<RoleGrant>,
}

async fn users(
    web: Web,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Reply<Items<UserView>>, Problem> {
    let users = web.ops.users(&call.person).await?;
    Ok(Reply::ok(Items::all(users.iter().map(UserView::of).collect())))
}

async fn add_user(
    web: Web,
    call: Call<Nothing, Nothing, UserToAdd>,
) -> Result<Reply<WithPassword>, Problem> {
    let UserToAdd { name, roles, language } = call.body;
    let password = web.ops.new_password();
    let new = NewUser { name, password: password.clone(), roles, language };
    let user = web.ops.add_user(new, &web.ops.act(&call.person, None)).await?;
    let answer = Reply::ok(WithPassword { name: user.name, password });
    Ok(answer.status(StatusCode::CREATED).shown_once())
}

async fn set_roles(web: Web, call: Call<NamePath, Nothing, Roles>) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, None);
    web.ops.set_roles(&call.path.name, call.body.roles, &act).await?;
    Ok(Reply::ok(Done { done: "changed" }))
}

async fn new_password(
    web: Web,
    call: Call<NamePath, Nothing, Why>,
) -> Result<Reply<WithPassword>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let (name, password) = (call.path.name, web.ops.new_password());
    web.ops.set_password(&name, &password, &act).await?;
    Ok(Reply::ok(WithPassword { name, password }).shown_once())
}

async fn end_sessions(
    web: Web,
    call: Call<NamePath, Nothing, Why>,
) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.end_sessions(&call.path.name, &act).await?;
    Ok(Reply::ok(Done { done: "ended" }))
}

async fn disable(web: Web, call: Call<NamePath, Nothing, Why>) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.disable_user(&call.path.name, &act).await?;
    Ok(Reply::ok(Done { done: "disabled" }))
}

async fn enable(web: Web, call: Call<NamePath, Nothing, Why>) -> Result<Reply<Done>, Problem> {
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    web.ops.enable_user(&call.path.name, &act).await?;
    Ok(Reply::ok(Done { done: "enabled" }))
}

async fn remove_user(
    web: Web,
    call: Call<NamePath, Nothing, Nothing>,
) -> Result<Reply<Done>, Problem> {
    web.ops.remove_user(&call.path.name, &web.ops.act(&call.person, None)).await?;
    Ok(Reply::ok(Done { done: "removed" }))
}

/// A token to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenToAdd {
    /// What it is for.
    name: String,
    /// What it may do.
    scopes: Vec<Permission>,
    /// The shops that it is limited to; else to none.
    #[serde(default)]
    shops: Option<Vec<String>>,
    /// When it expires (RFC 3339); by default never.
    #[serde(default)]
    expires_at: Option<String>,
}

async fn tokens(
    web: Web,
    call: Call<Nothing, Nothing, Nothing>,
) -> Result<Reply<Items<TokenView>>, Problem> {
    let tokens = web.ops.tokens(&call.person).await?;
    Ok(Reply::ok(Items::all(tokens.iter().map(TokenView::of).collect())))
}

async fn add_token(
    web: Web,
    call: Call<Nothing, Nothing, TokenToAdd>,
) -> Result<Reply<TokenShown>, Problem> {
    let TokenToAdd { name, scopes, shops, expires_at } = call.body;
    let read = |text: String| {
        let expected = "expires_at: expected a time such as 2030-01-31T12:00:00Z";
        text.parse::<Timestamp>().map_err(|_| Problem::unprocessable(expected))
    };
    let expires_at = expires_at.map(read).transpose()?;
    let new = NewToken { name: name.clone(), scopes, shops, expires_at };
    let token = web.ops.create_token(new, &web.ops.act(&call.person, None)).await?;
    let answer = Reply::ok(TokenShown { name, token });
    Ok(answer.status(StatusCode::CREATED).shown_once())
}

async fn revoke(web: Web, call: Call<NamePath, Nothing, Nothing>) -> Result<Reply<Done>, Problem> {
    web.ops.revoke_token(&call.path.name, &web.ops.act(&call.person, None)).await?;
    Ok(Reply::ok(Done { done: "ended" }))
}

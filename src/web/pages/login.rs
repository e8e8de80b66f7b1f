//! Login and logout in a browser: `/login`, `/logout`, `/password`, and the login at an identity
//! provider.

use crate::key;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use minijinja::context;
use serde::Deserialize;

use crate::domain::language::Language;
use crate::domain::login::return_path;
use crate::domain::text::one_line;
use crate::ops::logins::{LoginFailure, NewSession};
use crate::ops::refusal::Refusal;
use crate::web::auth::access::{LOGIN, SESSION};
use crate::web::auth::session::Posted;
use crate::web::html::context::{Failure, PageContext};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// How long a login at the identity provider may take, in seconds.
const LOGIN_SECONDS: u64 = 600;
const MAX_FORM: usize = 64 * 1024;

/// The routes of this file.
pub fn login_routes() -> Router<Web> {
    Router::new()
        .route("/login", get(form).post(log_in))
        .route("/logout", post(log_out))
        .route("/password", post(change_password))
        .route("/login/oidc", get(begin_oidc))
        .route("/login/oidc/callback", get(finish_oidc))
        // Nobody is logged in yet: nothing larger is read.
        .layer(DefaultBodyLimit::max(MAX_FORM))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    return_to: String,
    /// Whether a form was sent after the end of the session.
    ended: Option<String>,
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: String,
    #[serde(default)]
    return_to: String,
}

#[derive(Deserialize)]
struct OwnPassword {
    old: String,
    new: String,
}

#[derive(Deserialize)]
struct CameBack {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
}

/// The form, with what went wrong before.
fn page(
    web: &Web,
    headers: &HeaderMap,
    error: Option<&str>,
    wanted: &Wanted,
) -> Result<Html<String>, Problem> {
    let language = Language::of(headers, &web.access);
    let values = context! {
        title => language.t(key!("Log in")),
        error => error.map(|error| language.said(error)),
        return_to => return_path(&wanted.return_to),
        ended => wanted.ended.is_some(),
        oidc => web.ops.has_identity_provider(),
        here => "/login",
    };
    let page = web.pages.render(language, "login.html", values);
    Ok(Html(page.map_err(|error| {
        tracing::error!(%error, "page.broken");
        let (status, detail) = (StatusCode::INTERNAL_SERVER_ERROR, "the log has the reason");
        Problem::new(status, "page-broken", "This page is broken", detail)
    })?))
}

async fn form(
    State(web): State<Web>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    Ok(page(&web, &headers, None, &wanted)?.into_response())
}

async fn log_in(State(web): State<Web>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let (from, headers) = (web.access.address(&parts), parts.headers.clone());
    let request = Request::from_parts(parts, body);
    let body = axum::body::Bytes::from_request(request, &()).await;
    let body =
        body.map_err(|_| Problem::unprocessable("This is too long for a name and a password."))?;
    let credentials: Credentials = serde_html_form::from_bytes(&body)
        .map_err(|error| Problem::unprocessable(error.to_string()))?;
    let (name, password) = (&credentials.name, &credentials.password);
    let return_to = return_path(&credentials.return_to);
    match web.ops.log_in(name, password, from.as_deref()).await? {
        Ok(session) => Ok(let_in(&web, &session, return_to)),
        Err(failure) => refuse(&web, &headers, &failure, return_to),
    }
}

fn let_in(web: &Web, session: &NewSession, return_to: &str) -> Response {
    let cookie =
        web.access.set_cookie(SESSION, &session.token, web.ops.session_lifetime().as_secs());
    ([(header::SET_COOKIE, cookie)], Redirect::to(return_to)).into_response()
}

/// The form again, with the reason.
fn refuse(
    web: &Web,
    headers: &HeaderMap,
    failure: &LoginFailure,
    return_to: &str,
) -> Result<Response, Problem> {
    let status = match failure {
        LoginFailure::Wrong => StatusCode::UNAUTHORIZED,
        LoginFailure::Wait { .. } => StatusCode::TOO_MANY_REQUESTS,
        LoginFailure::Busy => StatusCode::SERVICE_UNAVAILABLE,
        LoginFailure::NoRole { .. } | LoginFailure::Provider(_) | LoginFailure::Forgotten => {
            StatusCode::FORBIDDEN
        }
    };
    let told = failure.to_string();
    let wanted = Wanted { return_to: return_to.to_owned(), ended: None };
    let mut response = (status, page(web, headers, Some(&told), &wanted)?).into_response();
    if let LoginFailure::Wait { wait } = failure {
        let seconds = HeaderValue::from(wait_seconds(*wait));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    Ok(response)
}

fn wait_seconds(wait: Duration) -> u64 {
    wait.as_secs().max(1)
}

async fn log_out(
    State(web): State<Web>,
    posted: Posted<serde::de::IgnoredAny>,
) -> Result<Response, Problem> {
    web.ops.log_out(posted.user.session()).await?;
    Ok(leave(&web))
}

fn leave(web: &Web) -> Response {
    let cookie = web.access.set_cookie(SESSION, "", 0);
    ([(header::SET_COOKIE, cookie)], Redirect::to("/login")).into_response()
}

/// Ends every session of that user, including this one.
async fn change_password(
    ctx: PageContext,
    Posted { user, form }: Posted<OwnPassword>,
) -> Result<Response, Failure> {
    let changed = ctx.web.ops.change_own_password(user.session(), &form.old, &form.new).await;
    match changed {
        Ok(Ok(())) => Ok(leave(&ctx.web)),
        Ok(Err(LoginFailure::Wrong)) => {
            Ok(ctx.to("/me", "bad", ctx.t(key!("The current password is wrong."))))
        }
        Ok(Err(other)) => Ok(ctx.to("/me", "bad", ctx.language.said(&other.to_string()))),
        Err(Refusal::Unacceptable(why)) => Ok(ctx.to("/me", "bad", &why)),
        Err(error) => Err(error.into()),
    }
}

async fn begin_oidc(
    State(web): State<Web>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Problem> {
    let Some(going_on) = web.ops.begin_oidc(&wanted.return_to).await? else {
        let detail = "No identity provider is set here (auth.oidc.issuer).";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail));
    };
    let cookie = web.access.set_cookie(LOGIN, &going_on.state, LOGIN_SECONDS);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(&going_on.address)).into_response())
}

/// The browser returns from the provider. It must be the one that started the login: otherwise a
/// user could be logged in to another user's session.
async fn finish_oidc(
    State(web): State<Web>,
    Query(back): Query<CameBack>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    let from = web.access.address(&parts);
    let began = web.access.cookie(&parts.headers, LOGIN);
    let state = back.state.filter(|state| Some(state.as_str()) == began);
    let ended = match (state, back.code, back.error) {
        (Some(state), Some(code), None) => {
            web.ops.finish_oidc(&state, &code, from.as_deref()).await?
        }
        (Some(_), _, Some(error)) => {
            let told = format!("the identity provider said: {}", one_line(&error, 200));
            Err(LoginFailure::Provider(told))
        }
        _ => Err(LoginFailure::Forgotten),
    };
    let mut response = match ended {
        Ok((session, return_to)) => let_in(&web, &session, &return_to),
        Err(failure) => refuse(&web, &parts.headers, &failure, "/")?,
    };
    let over = web.access.set_cookie(LOGIN, "", 0);
    response.headers_mut().append(header::SET_COOKIE, over);
    Ok(response)
}

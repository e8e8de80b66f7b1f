//! The caller of a request: a person with a session, or the holder of a token.
//!
//! Pages take a [`SessionUser`], forms a [`Posted`], the API a [`ApiPrincipal`]. A handler that takes none of
//! them is open to everybody.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ops::logins::{Session, csrf_fits};
use crate::ops::principal::Principal;
use crate::ports::people::Provider;
use crate::web::auth::access::{SESSION, bearer, is_safe};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// The header in which a script sends what a form sends in its field `csrf`.
pub const CSRF_HEADER: &str = "x-csrf-token";

/// The user of a page: the person of a session.
#[derive(Debug, Clone)]
pub struct SessionUser {
    /// Who, and what they may do.
    pub person: Principal,
    /// Their name alone.
    pub user: String,
    /// The value of the field `csrf` in their forms.
    pub csrf: String,
    /// Where their password is.
    pub provider: Provider,
    /// The language that they chose.
    pub language: Option<String>,
    session: Session,
}

impl SessionUser {
    /// As the principal of `ops`.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether the session is still valid; assumed while that cannot be checked.
    pub async fn is_still_in(&self, web: &Web) -> bool {
        web.ops.is_still_in(&self.session).await.unwrap_or(true)
    }
}

impl FromRequestParts<Web> for SessionUser {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let session = session(parts, web).await.map_err(IntoResponse::into_response)?;
        let Some(session) = session else {
            return Err(to_login(parts));
        };
        Ok(Self {
            person: session.person.clone(),
            user: session.user.clone(),
            csrf: session.csrf.clone(),
            provider: session.provider,
            language: session.language.clone(),
            session,
        })
    }
}

/// A page is shown after the login; any other request is only refused.
fn to_login(parts: &Parts) -> Response {
    let path = parts.uri.path();
    if !is_safe(&parts.method) || path.starts_with("/api/") {
        return Problem::unauthorized("You are not logged in, or your session has ended.")
            .into_response();
    }
    let wanted = parts.uri.path_and_query().map_or(path, |wanted| wanted.as_str());
    let wanted = utf8_percent_encode(wanted, NON_ALPHANUMERIC);
    Redirect::to(&format!("/login?return_to={wanted}")).into_response()
}

async fn session(parts: &Parts, web: &Web) -> Result<Option<Session>, Problem> {
    let Some(token) = web.access.cookie(&parts.headers, SESSION) else { return Ok(None) };
    Ok(web.ops.session(token, web.access.address(parts).as_deref()).await?)
}

/// A posted form with a valid field `csrf`. A layer has checked that it comes from one of our pages
/// ([`crate::web::auth::access::same_site`]).
pub struct Posted<T> {
    /// Who sends it.
    pub user: SessionUser,
    /// What it holds; a field may come several times where `T` takes a list.
    pub form: T,
}

#[derive(Deserialize)]
struct CsrfField {
    #[serde(default)]
    csrf: String,
}

impl<T: DeserializeOwned> FromRequest<Web> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Web) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let user = SessionUser::from_request_parts(&mut parts, web).await?;
        let request = Request::from_parts(parts, body);
        let body = Bytes::from_request(request, &()).await.map_err(IntoResponse::into_response)?;
        let of_csrf = serde_html_form::from_bytes::<CsrfField>(&body);
        let csrf = of_csrf.map(|field| field.csrf).unwrap_or_default();
        check_csrf(&user.session, &csrf).map_err(IntoResponse::into_response)?;
        let form = serde_html_form::from_bytes(&body)
            .map_err(|error| Problem::unprocessable(error.to_string()).into_response())?;
        Ok(Self { user, form })
    }
}

fn check_csrf(session: &Session, csrf: &str) -> Result<(), Problem> {
    if csrf_fits(session, csrf) {
        return Ok(());
    }
    let detail = "This form is from an earlier login. Load the page again and send the form again.";
    Err(Problem::new(StatusCode::FORBIDDEN, "stale-form", "Load the page again", detail))
}

/// The caller of the API: with a bearer token, or one of our scripts with a session, and the header
/// `X-CSRF-Token` for changes.
#[derive(Debug, Clone)]
pub struct ApiPrincipal {
    /// Who, and what they may do.
    pub person: Principal,
}

impl FromRequestParts<Web> for ApiPrincipal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Problem> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        if let Some(token) = bearer(&parts.headers) {
            let from = web.access.address(parts);
            let holder = web.ops.holder(token, from.as_deref()).await?;
            let holder = holder.ok_or_else(|| {
                Problem::unauthorized("This token is not known, has expired or was revoked.")
            })?;
            return Ok(Self { person: holder });
        }
        let Some(session) = session(parts, web).await? else {
            return Err(Problem::unauthorized(
                "Send `Authorization: Bearer TOKEN`; create one with `order-relay tokens create`.",
            ));
        };
        if !is_safe(&parts.method) {
            check_csrf(&session, csrf_header(&parts.headers))?;
        }
        Ok(Self { person: session.person })
    }
}

fn csrf_header(headers: &HeaderMap) -> &str {
    headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

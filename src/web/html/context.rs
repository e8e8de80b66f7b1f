//! Shared by every page: the reader, the language, the message of the previous step; and how a
//! refusal becomes a page.

use crate::domain::removal::Removal;
use crate::key;
use crate::ports::store_error::StoreError;
use crate::web::html::forms::{Fields, field};
use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minijinja::{Value, context};
use serde::{Deserialize, Serialize};

use crate::domain::language::Language;
use crate::domain::login::return_path;
use crate::domain::order_filter::ShopFilter;
use crate::domain::permission::Permission;
use crate::ops::refusal::Refusal;
use crate::ops::statistics::Attention;
use crate::ports::audit::Act;
use crate::web::auth::session::SessionUser;
use crate::web::html::formatter::Formatter;
use crate::web::html::language::{Key, LANGUAGE_COOKIE};
use crate::web::state::Web;

/// What a page says while the database is away.
const AWAY: Key =
    key!("The database cannot be reached just now. Nothing is lost; try again in a moment.");
/// What belongs to no shop is seen by who may see all of them.
const ALL_SHOPS: Key =
    key!("This shows what belongs to no shop: it needs orders:read for all shops.");
const FLASH_COOKIE: &str = "order_relay_flash";
/// Some browsers do not store larger cookies.
const MAX_FLASH: usize = 1_500;
const FLASH_SECONDS: u64 = 60;

/// The pages of the navigation.
pub const NAVIGATION: [(&str, Key); 10] = [
    ("/", key!("Overview")),
    ("/lost-orders", key!("Lost orders")),
    ("/orders", key!("Orders")),
    ("/redrives", key!("Redrives")),
    ("/dead-letters", key!("Dead letters")),
    ("/mails", key!("Mails")),
    ("/channels", key!("Channels")),
    ("/audit", key!("Audit")),
    ("/status", key!("Status")),
    ("/people", key!("Users and tokens")),
];

/// One request for a page.
pub struct PageContext {
    /// The parts of the service.
    pub web: Web,
    /// The reader.
    pub user: SessionUser,
    /// In which language.
    pub language: Language,
    /// Path and query.
    pub here: String,
    /// Whether a form was sent: the answer has no address of its own.
    is_form: bool,
    /// Mails to administrators that none of them got: said on every page.
    unheard: u64,
    /// Channels that refuse what they are sent: said on every page, too.
    refused: Vec<String>,
    flash: Option<Flash>,
    attention: Attention,
}

/// The message of the previous step, shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flash {
    /// `good`, `bad`, `wait` or nothing.
    pub kind: String,
    /// The sentence.
    pub text: String,
}

impl FromRequestParts<Web> for PageContext {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let user = SessionUser::from_request_parts(parts, web)
            .await
            .map_err(IntoResponse::into_response)?;
        let here = parts.uri.path_and_query().map_or("/", |here| here.as_str()).to_owned();
        let language = Language::of(&parts.headers, &web.access);
        let flash = web.access.cookie(&parts.headers, FLASH_COOKIE).and_then(read_flash);
        let is_form = parts.method == Method::POST;
        let unheard = web.ops.count_unheard().await;
        let refused = web.ops.refused_channels().await.into_iter().map(|one| one.channel).collect();
        let attention = web.counts.of(&web.ops, &user.person).await;
        let web = web.clone();
        Ok(Self { web, user, language, here, is_form, unheard, refused, flash, attention })
    }
}

fn read_flash(text: &str) -> Option<Flash> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl PageContext {
    /// Formats times and counts.
    pub fn formatter(&self) -> Formatter {
        Formatter { language: self.language, now: self.web.ops.now() }
    }

    /// A sentence in the reader's language.
    pub fn t(&self, key: Key) -> &'static str {
        self.language.t(key)
    }

    /// The shops that the user may see.
    pub fn shops(&self) -> ShopFilter {
        self.user.person.readable()
    }

    /// An action of the user.
    pub fn act(&self, reason: Option<&str>) -> Act {
        self.web.ops.act(&self.user.person, reason)
    }

    /// Whether the user may do something, in a shop or anywhere.
    pub fn may(&self, permission: Permission, shop: Option<&str>) -> bool {
        let grants = &self.user.person.grants;
        match shop {
            Some(shop) => grants.allows(permission, Some(shop)),
            None => grants.shops_allowing(permission).is_none_or(|shops| !shops.is_empty()),
        }
    }

    /// A page; `shop` is the one that it is about.
    pub fn page(&self, name: &str, title: &str, shop: Option<&str>, values: Value) -> PageResult {
        let html = self.part(name, title, shop, values)?;
        let mut response = Html(html).into_response();
        if self.flash.is_some() {
            let over = self.web.access.set_cookie(FLASH_COOKIE, "", 0);
            response.headers_mut().append(header::SET_COOKIE, over);
        }
        Ok(response)
    }

    /// A part of a page, as text.
    pub fn part(
        &self,
        name: &str,
        title: &str,
        shop: Option<&str>,
        values: Value,
    ) -> Result<String, Failure> {
        let values = context! { ..values, ..self.frame(title, shop) };
        let rendered = self.web.pages.render(self.language, name, values);
        rendered.map_err(|error| {
            tracing::error!(%error, "page.broken");
            Failure::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                key!("This page is broken; the log has the reason."),
            )
        })
    }

    fn frame(&self, title: &str, shop: Option<&str>) -> Value {
        let path = self.here.split('?').next().unwrap_or("/");
        let is_here = |href: &str| path == href || href != "/" && path.starts_with(href);
        let navigation = NAVIGATION
            .into_iter()
            .filter(|(href, _)| *href != "/people" || self.may(Permission::Admin, None));
        let nav: Vec<Value> = navigation
            .map(|(href, label)| {
                let count = self.count_at(href, &self.attention);
                context! { href, label => label.text(), here => is_here(href), count }
            })
            .collect();
        let may = |permission| self.may(permission, shop);
        context! {
            title,
            nav,
            here => if self.is_form { "/" } else { self.here.as_str() },
            path,
            me => context! { name => &self.user.user, csrf => self.web.ops.masked_csrf(&self.user.csrf) },
            can => context! {
                process => may(Permission::Process),
                remove => may(Permission::Remove),
                edit => may(Permission::Edit),
                edit_locked => may(Permission::EditLocked),
                admin => may(Permission::Admin),
            },
            refused_channels => self.refused.join(", "),
            lost_count => (self.attention.lost > 0).then(|| self.formatter().count(self.attention.lost)),
            orders_differ => (self.attention.difference != 0).then(|| self.language.number(self.attention.difference)),
            unheard => (self.unheard > 0).then(|| self.formatter().count(self.unheard)),
            flash => self.flash.as_ref().map(crate::web::html::formatter::view),
        }
    }

    /// What stands beside an entry of the navigation; empty for none, nothing where nothing is counted.
    fn count_at(&self, href: &str, attention: &Attention) -> Option<String> {
        let count = match href {
            "/lost-orders" => attention.lost,
            "/dead-letters" => attention.dead_letters,
            _ => return None,
        };
        let count = (count > 0).then(|| self.formatter().count(count));
        Some(count.unwrap_or_default())
    }

    /// The same now, by address, for a page that stands open.
    pub async fn counts(&self) -> BTreeMap<&'static str, String> {
        let attention = self.web.counts.of(&self.web.ops, &self.user.person).await;
        let pages = NAVIGATION.into_iter();
        pages.filter_map(|(href, _)| Some((href, self.count_at(href, &attention)?))).collect()
    }

    /// Redirects to another page, which shows `text` once.
    pub fn to(&self, address: &str, kind: &str, text: &str) -> Response {
        let mut text = text.to_owned();
        while text.len() > MAX_FLASH / 2 {
            text.pop();
        }
        let flash = Flash { kind: kind.to_owned(), text };
        let value = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&flash).unwrap_or_default());
        let mut response = Redirect::to(address).into_response();
        let cookie = self.web.access.set_cookie(FLASH_COOKIE, &value, FLASH_SECONDS);
        response.headers_mut().append(header::SET_COOKIE, cookie);
        response
    }
}

/// What a page's handler returns.
pub type PageResult = Result<Response, Failure>;

/// Why there is no page; [`crate::web::html::errors`] makes one of it.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The status of the answer.
    pub status: StatusCode,
    /// A sentence.
    pub detail: String,
}

impl Failure {
    /// With a sentence, whose English is its key.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// There is no such thing.
    pub fn missing(detail: Key) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.kind().status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Refusal::Store(error) = &refusal {
            tracing::warn!(%error, "page.failed");
        }
        let detail = match &refusal {
            Refusal::Store(StoreError::Unavailable(_)) => AWAY.into(),
            Refusal::NotFound { what: "order", .. } => key!("There is no such order.").into(),
            Refusal::NotFound { what: "redrive", .. } => key!("There is no such redrive.").into(),
            Refusal::NotFound { what: "mail", .. } => key!("There is no such mail.").into(),
            Refusal::NotFound { what: "message", .. } => key!("There is no such message.").into(),
            Refusal::NotFound { what: "dead letter", .. } => {
                key!("There is no such dead letter.").into()
            }
            Refusal::Forbidden { permission: Permission::Read, shop: None } => ALL_SHOPS.into(),
            _ => refusal.to_string(),
        };
        Self::new(status, detail)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Whether the request comes from the script.
pub fn wants_json(parts: &Parts) -> bool {
    let accept = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}

/// `GET /language/{code}`
pub async fn choose_language(
    State(web): State<Web>,
    Path(code): Path<String>,
    Query(fields): Query<Fields>,
) -> Response {
    const YEAR_SECONDS: u64 = 365 * 24 * 3_600;
    let back = return_path(field(&fields, "return_to").unwrap_or("/"));
    let mut response = Redirect::to(back).into_response();
    if let Some(language) = Language::from_code(&code) {
        let cookie = web.access.set_cookie(LANGUAGE_COOKIE, language.code(), YEAR_SECONDS);
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// A file to be downloaded.
pub fn download(name: &str, kind: &'static str, body: impl Into<Body>) -> Response {
    let safe: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
        .collect();
    let mut response = body.into().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{safe}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// The reason of a removal, as one sentence.
pub fn removal_of(form: &Fields) -> Result<String, Failure> {
    let part = |name: &str| field(form, name).map(str::to_owned);
    let needed = |name: &str| part(name).unwrap_or_default();
    let text = part("text");
    let removal = match field(form, "kind").unwrap_or_default() {
        "entered_by_hand" => Removal::EnteredByHand { erp_order_id: needed("erp_order_id"), text },
        "cancelled" => Removal::Cancelled { text },
        "duplicate" => Removal::Duplicate { duplicate_of: needed("duplicate_of"), text },
        "test" => Removal::Test { text },
        "other" => Removal::Other { text: needed("text") },
        _ => return Err(unprocessable(key!("Choose a reason."))),
    };
    removal.sentence().map_err(unprocessable)
}

/// A reason that has to be given.
pub fn needed_reason(form: &Fields) -> Result<&str, Failure> {
    field(form, "reason").ok_or_else(|| unprocessable(key!("Enter a reason.")))
}

/// Something that was typed cannot be used.
pub fn unprocessable(detail: impl Into<String>) -> Failure {
    Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}

/// An answer for the script.
pub fn json_answer(good: bool, text: &str) -> Response {
    axum::Json(serde_json::json!({ "good": good, "text": text })).into_response()
}

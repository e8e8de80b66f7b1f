//! OAuth 2: an access token by a secret (RFC 6749, 4.4), by a signed assertion (RFC 7523, 2.2) or by a refresh token
//! (RFC 6749, 6).

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Method, Url};
use serde_json::{Map, Value as Json};

use crate::domain::failure::Failure;
use crate::domain::text::one_line;

use super::super::http::{header_map, name_of};
use super::calls::internal;
use super::engine::RecipeErp;
use super::judge::Purpose;
use super::model::{OAuth2, Outcome, Template};
use super::reply::Read;
use super::request::{Form, render};
use crate::adapters::erp::recipe::values::Vars;

/// How long a signed assertion is good for.
const ASSERTION_LIFE_S: i64 = 300;

pub(super) struct Token {
    /// It.
    pub(super) access: String,
    /// How long it is good for, when the ERP says so.
    pub(super) lives: Option<Duration>,
    /// The refresh token for the next time, if there is a new one.
    refresh: Option<String>,
}

impl RecipeErp {
    pub(super) async fn token(&self, oauth2: &OAuth2) -> Result<Token, Failure> {
        let Some(renewal) = &self.renewal else { return self.request_token(oauth2, None).await };
        let used = renewal.lease().await?;
        match self.request_token(oauth2, Some(&used.token)).await {
            Ok(mut token) => {
                let next = token.refresh.take().filter(|next| *next != used.token);
                renewal.settle(&used, next).await;
                Ok(token)
            }
            Err(failure) => Err(renewal.refused(&used, failure).await),
        }
    }

    async fn request_token(
        &self,
        oauth2: &OAuth2,
        refresh: Option<&str>,
    ) -> Result<Token, Failure> {
        let vars = self.vars();
        let address = render(&self.recipe, &oauth2.token_url, &vars)?;
        let url =
            Url::parse(&address).map_err(|error| internal(&format!("auth.token_url: {error}")))?;
        let body = self.token_request(oauth2, refresh, &address, &vars)?;
        let headers =
            [(CONTENT_TYPE, "application/x-www-form-urlencoded"), (ACCEPT, "application/json")];
        let mut headers = header_map(headers)?;
        if oauth2.is_basic {
            headers.insert(AUTHORIZATION, self.basic_header("client_id", "client_secret")?);
        }
        let request = name_of(&Method::POST, &url);
        let sent = self.http.call(Method::POST, url, headers, Some(body.into_bytes())).await;
        let read = Read::of(sent.map_err(|failure| Purpose::Login.unanswered(failure))?);
        let json = read.json().cloned().unwrap_or(Json::Null);
        if let (200..300, Some(access)) = (read.status, json["access_token"].as_str()) {
            let lives = json["expires_in"].as_u64();
            let lives = lives.or_else(|| json["expires_in"].as_str()?.parse().ok());
            let lives = lives.map(Duration::from_secs);
            let refresh = json["refresh_token"].as_str().map(str::to_owned);
            return Ok(Token { access: access.to_owned(), lives, refresh });
        }
        // A page says nothing of our secret.
        let is_refusal =
            read.status == 401 || matches!(read.status, 400 | 403) && json["error"].is_string();
        let outcome = if is_refusal { Outcome::Halt } else { Outcome::Retry };
        let mut failure = self.judge().failure(Purpose::Login, outcome, &read);
        let text = ["error_description", "error"].iter().find_map(|name| json[*name].as_str());
        if let Some(text) = text {
            failure.message = one_line(&self.mask.hide_in(text), 500);
        }
        failure.request = Some(request);
        Err(failure)
    }

    fn token_request(
        &self,
        oauth2: &OAuth2,
        refresh: Option<&str>,
        url: &str,
        vars: &Vars,
    ) -> Result<String, Failure> {
        let secret = |name: &str| self.secrets.get(name).cloned().unwrap_or_default();
        let mut fields = match refresh {
            Some(token) => vec![
                ("grant_type", "refresh_token".to_owned()),
                ("refresh_token", token.to_owned()),
            ],
            None => vec![("grant_type", "client_credentials".to_owned())],
        };
        if let Some(scope) = &oauth2.scope {
            fields.push(("scope", render(&self.recipe, scope, vars)?));
        }
        match (&oauth2.jwt, &self.signing) {
            (Some(_), Some(_)) => {
                let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                fields.push(("client_assertion_type", kind.to_owned()));
                fields.push(("client_assertion", self.assertion(oauth2, url, vars)?));
            }
            _ if oauth2.is_basic => {}
            _ => {
                fields.push(("client_id", secret("client_id")));
                // A public client has none.
                if self.secrets.contains_key("client_secret") {
                    fields.push(("client_secret", secret("client_secret")));
                }
            }
        }
        let mut form = Form::default();
        for (name, value) in &fields {
            form.append(name, value);
        }
        Ok(form.finish())
    }

    fn assertion(&self, oauth2: &OAuth2, url: &str, vars: &Vars) -> Result<String, Failure> {
        let (Some(jwt), Some(key)) = (&oauth2.jwt, &self.signing) else {
            return Err(internal("auth.jwt: no key"));
        };
        let of = |template: &Option<Template>| {
            template.as_ref().map(|template| render(&self.recipe, template, vars)).transpose()
        };
        let now = self.clock.now().as_second();
        let id = self.secrets.get("client_id").cloned().unwrap_or_default();
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), Json::from(id.as_str()));
        claims.insert("sub".to_owned(), Json::from(id));
        claims
            .insert("aud".to_owned(), Json::from(of(&jwt.aud)?.unwrap_or_else(|| url.to_owned())));
        claims.insert("iat".to_owned(), Json::from(now));
        claims.insert("exp".to_owned(), Json::from(now + ASSERTION_LIFE_S));
        claims.insert("jti".to_owned(), Json::from(self.clock.unique_id().to_string()));
        if let Some(scope) = &oauth2.scope {
            claims.insert("scope".to_owned(), Json::from(render(&self.recipe, scope, vars)?));
        }
        for (name, template) in &jwt.claims {
            claims.insert(name.clone(), Json::from(render(&self.recipe, template, vars)?));
        }
        key.sign(of(&jwt.kid)?.as_deref(), &claims).map_err(|error| internal(&error))
    }
}

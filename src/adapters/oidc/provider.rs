//! An identity provider by discovery (OpenID Connect Core 1.0 and Discovery 1.0): authorization
//! code with PKCE. Nothing of its answers is trusted before the ID token is verified
//! (`id_token.rs`).

use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Url, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::domain::text::one_line;
use crate::ports::clock::Stopwatch;
use crate::ports::identity::{BegunLogin, Claims, FinishedLogin, IdentityError, IdentityProvider};

use super::id_token::{Expected, Keys, Verdict, verify};

const PATIENCE: Duration = Duration::from_secs(10);
const MAX_REPLY: usize = 1024 * 1024;
/// How long the provider's metadata is cached.
const BELIEVED: Duration = Duration::from_hours(1);

/// How a provider is reached.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// Its issuer, word for word.
    pub issuer: String,
    /// Our client id.
    pub client_id: String,
    /// The client secret; `None`: only PKCE.
    pub client_secret: Option<SecretString>,
    /// The requested scopes.
    pub scopes: String,
}

/// A provider.
pub struct OidcProvider {
    settings: OidcSettings,
    client: Client,
    known: Mutex<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    about: About,
    keys: Keys,
    read: Stopwatch,
}

#[derive(Clone, Deserialize)]
struct About {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

#[derive(Deserialize, Default)]
struct TokenError {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl OidcProvider {
    /// Nothing is requested yet.
    pub fn new(settings: OidcSettings) -> Result<Self, String> {
        let client = Client::builder()
            .user_agent(concat!("order-relay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { settings, client, known: Mutex::default() })
    }

    async fn known(&self) -> Result<Known, IdentityError> {
        let mut known = self.known.lock().await;
        match &*known {
            Some(fresh) if fresh.read.elapsed() < BELIEVED => Ok(fresh.clone()),
            _ => Ok(known.insert(self.discover().await?).clone()),
        }
    }

    async fn discover(&self) -> Result<Known, IdentityError> {
        let issuer = &self.settings.issuer;
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let about: About = self.get(&address).await?;
        if about.issuer != *issuer {
            let told = format!("it calls itself {}, not {issuer}", one_line(&about.issuer, 200));
            return Err(IdentityError::Unavailable(told));
        }
        let keys = self.get(&about.jwks_uri).await?;
        Ok(Known { about, keys, read: Stopwatch::start() })
    }

    /// The keys again, because one is missing; once.
    async fn fresh_keys(&self, known: &Known) -> Result<Keys, IdentityError> {
        let keys: Keys = self.get(&known.about.jwks_uri).await?;
        if let Some(kept) = &mut *self.known.lock().await {
            kept.keys = keys.clone();
        }
        Ok(keys)
    }

    async fn get<T: DeserializeOwned>(&self, address: &str) -> Result<T, IdentityError> {
        let address = self.checked(address)?;
        let host = address.host_str().unwrap_or_default().to_owned();
        let response = self.client.get(address).send().await.map_err(unavailable)?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(IdentityError::Unavailable(format!("{host} answers {status}")));
        }
        parse(&body(response).await?)
    }

    /// The addresses that the provider names must be as safe as the provider itself.
    fn checked(&self, address: &str) -> Result<Url, IdentityError> {
        let is_tls = |text: &str| text.starts_with("https://");
        let url =
            Url::parse(address).ok().filter(|_| is_tls(address) || !is_tls(&self.settings.issuer));
        url.ok_or_else(|| {
            IdentityError::Unavailable(format!("{} is no https address", one_line(address, 200)))
        })
    }

    async fn fetch_token(
        &self,
        known: &Known,
        finished: &FinishedLogin,
    ) -> Result<String, IdentityError> {
        let OidcSettings { client_id, client_secret, .. } = &self.settings;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &finished.code),
            ("redirect_uri", &finished.callback),
            ("code_verifier", &finished.verifier),
        ];
        let mut request = self.client.post(self.checked(&known.about.token_endpoint)?);
        let methods = &known.about.token_endpoint_auth_methods_supported;
        let by_header = methods.is_empty() || methods.iter().any(|m| m == "client_secret_basic");
        match client_secret {
            Some(secret) if by_header => {
                // RFC 6749, 2.3.1: both are encoded before they are put together.
                let password = encode(secret.expose_secret());
                request = request.basic_auth(encode(client_id), Some(password));
            }
            Some(secret) => {
                form.extend([
                    ("client_id", &**client_id),
                    ("client_secret", secret.expose_secret()),
                ]);
            }
            None => form.push(("client_id", client_id)),
        }
        let form: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(form.join("&"));
        let response = request.send().await.map_err(unavailable)?;
        let (status, body) = (response.status(), body(response).await?);
        if status.is_client_error() {
            let error: TokenError = serde_json::from_slice(&body).unwrap_or_default();
            let told = format!("{status} {} {}", error.error, error.error_description);
            return Err(IdentityError::Refused(one_line(&told, 300)));
        }
        if !status.is_success() {
            return Err(IdentityError::Unavailable(format!("the token endpoint answers {status}")));
        }
        let tokens: Tokens = parse(&body)?;
        tokens.id_token.ok_or_else(|| IdentityError::Refused("it gave no ID token".to_owned()))
    }
}

#[async_trait]
impl IdentityProvider for OidcProvider {
    async fn login_address(&self, begun: &BegunLogin) -> Result<String, IdentityError> {
        let known = self.known().await?;
        let mut address = self.checked(&known.about.authorization_endpoint)?;
        address
            .query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &begun.callback)
            .append_pair("scope", &self.settings.scopes)
            .append_pair("state", &begun.state)
            .append_pair("nonce", &begun.nonce)
            .append_pair("code_challenge", &begun.challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(address.into())
    }

    async fn finish(&self, finished: FinishedLogin) -> Result<Claims, IdentityError> {
        let known = self.known().await?;
        let token = self.fetch_token(&known, &finished).await?;
        let expected = Expected {
            issuer: &self.settings.issuer,
            audience: &self.settings.client_id,
            nonce: &finished.nonce,
            now: finished.now,
        };
        let verdict = match verify(&token, &known.keys, &expected) {
            Verdict::UnknownKey => verify(&token, &self.fresh_keys(&known).await?, &expected),
            verdict => verdict,
        };
        match verdict {
            Verdict::Good(claims) => Ok(claims),
            Verdict::Bad(why) => Err(IdentityError::Refused(format!("its ID token {why}"))),
            Verdict::UnknownKey => {
                Err(IdentityError::Refused("its ID token is signed by an unknown key".to_owned()))
            }
        }
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Without the address: it may hold a code.
fn unavailable(error: reqwest::Error) -> IdentityError {
    IdentityError::Unavailable(one_line(&error.without_url().to_string(), 200))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, IdentityError> {
    serde_json::from_slice(body)
        .map_err(|error| IdentityError::Unavailable(format!("its answer is invalid: {error}")))
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, IdentityError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > MAX_REPLY {
            return Err(IdentityError::Unavailable("its answer is too long".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

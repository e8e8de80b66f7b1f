//! From a recipe's name and the settings to an ERP that can be used, or to every fault.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::Value;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::order::contents::Content;
use crate::ports::clock::Clock;
use crate::ports::refresh_tokens::RefreshTokens;

use super::super::http::{HttpClient, Limits, Reach};
use super::super::redact::Mask;
use super::engine::RecipeErp;
use super::jwt::SigningKey;
use super::model::{AuthKind, Recipe, SecretPlace};
use super::refresh::{Renewal, TokenKey};
use super::request::render;
use super::toml_text::RecipeFault;
use super::{check, values};
use crate::adapters::erp::recipe::values::Vars;

/// Largest reply unless the recipe says otherwise, in bytes: thousands of rows of a lookup.
const MAX_REPLY: usize = 16 * 1024 * 1024;

/// Shipped recipes.
pub const SHIPPED: [(&str, &str); 16] = [
    ("business-central", include_str!("../../../../templates/erp/business-central.toml")),
    ("dolibarr", include_str!("../../../../templates/erp/dolibarr.toml")),
    ("dynamics-fo", include_str!("../../../../templates/erp/dynamics-fo.toml")),
    ("erpnext", include_str!("../../../../templates/erp/erpnext.toml")),
    ("jtl-wawi", include_str!("../../../../templates/erp/jtl-wawi.toml")),
    ("netsuite", include_str!("../../../../templates/erp/netsuite.toml")),
    ("odoo", include_str!("../../../../templates/erp/odoo.toml")),
    ("odoo-jsonrpc", include_str!("../../../../templates/erp/odoo-jsonrpc.toml")),
    ("sage-x3", include_str!("../../../../templates/erp/sage-x3.toml")),
    ("sap-b1", include_str!("../../../../templates/erp/sap-b1.toml")),
    ("sap-s4", include_str!("../../../../templates/erp/sap-s4.toml")),
    ("tryton-jsonrpc", include_str!("../../../../templates/erp/tryton-jsonrpc.toml")),
    ("tryton-rest", include_str!("../../../../templates/erp/tryton-rest.toml")),
    ("ubl-soap", include_str!("../../../../templates/erp/ubl-soap.toml")),
    ("weclapp", include_str!("../../../../templates/erp/weclapp.toml")),
    ("xentral", include_str!("../../../../templates/erp/xentral.toml")),
];

/// Faults of one recipe, each with file, line and key.
#[derive(Debug)]
pub struct RecipeFaults {
    /// The file, or the name of a shipped recipe.
    pub file: String,
    pub faults: Vec<RecipeFault>,
}

impl fmt::Display for RecipeFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{fault}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for RecipeFaults {}

/// The settings of an ERP with a recipe; they override the recipe.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `erp.url`
    pub url: Option<String>,
    /// `erp.const.*`
    pub consts: BTreeMap<String, String>,
    /// `erp.secret.*`
    pub secrets: BTreeMap<String, SecretString>,
    /// `erp.connect_timeout`, where it is set.
    pub connect_timeout: Option<Duration>,
    /// `erp.timeout`, where it is set.
    pub timeout: Option<Duration>,
    /// `erp.redact`
    pub redact: Vec<String>,
    /// Whether exchanges are noted.
    pub keeps: bool,
    /// `erp.drop`: what need not reach the ERP.
    pub drops: Vec<Content>,
    /// Where refresh tokens are kept.
    pub token_store: Option<TokenStore>,
}

/// Where the refresh tokens of one ERP are kept, and with which key.
#[derive(Clone)]
pub struct TokenStore {
    pub tokens: Arc<dyn RefreshTokens>,
    /// The name of the ERP.
    pub erp: String,
    /// `erp.token_key`
    pub key: Option<SecretString>,
}

impl fmt::Debug for TokenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenStore").field("erp", &self.erp).finish_non_exhaustive()
    }
}

/// A recipe that was read and checked, with its source.
#[derive(Debug)]
pub struct Loaded {
    pub recipe: Recipe,
}

/// Reads the recipe `name`: a shipped one, or else a file.
pub fn load(name: &str) -> Result<Loaded, RecipeFaults> {
    let shipped = SHIPPED.iter().find(|(own, _)| *own == name);
    let (file, text) = match shipped {
        Some((name, text)) => (format!("{name}.toml"), (*text).to_owned()),
        None => (name.to_owned(), read_file(name)?),
    };
    let failed = |faults| RecipeFaults { file: file.clone(), faults };
    let recipe = Recipe::parse(&file, &text).map_err(failed)?;
    let faults = check::faults(&recipe);
    if faults.is_empty() { Ok(Loaded { recipe }) } else { Err(failed(faults)) }
}

fn read_file(name: &str) -> Result<String, RecipeFaults> {
    std::fs::read_to_string(Path::new(name)).map_err(|error| {
        let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        let detail = format!(
            "cannot be read ({error}); expected a file or one of the shipped recipes: json, {}",
            shipped.join(", ")
        );
        let fault = RecipeFault { line: 1, key: String::new(), detail };
        RecipeFaults { file: name.to_owned(), faults: vec![fault] }
    })
}

impl Loaded {
    /// The secrets, from the settings, the environment or files; every one that is not set.
    pub fn secrets(&self, overrides: &Overrides) -> Result<BTreeMap<String, String>, RecipeFaults> {
        let (mut secrets, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, place) in &self.recipe.secrets {
            let set = overrides.secrets.get(name).map(|secret| secret.expose_secret().to_owned());
            let found = match (set, &place.value) {
                (Some(secret), _) => Ok(secret),
                (None, SecretPlace::Env(env)) => std::env::var(env)
                    .map_err(|_| format!("not set: set {env}, or erp.secret.{name}")),
                (None, SecretPlace::File(path)) => std::fs::read_to_string(path)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                    .map_err(|error| format!("{}: {error}", path.display())),
            };
            match found {
                Ok(secret) if secret.is_empty() => faults.push(place.fault("empty")),
                Ok(secret) => drop(secrets.insert(name.clone(), secret)),
                Err(detail) => faults.push(place.fault(detail)),
            }
        }
        for name in overrides.secrets.keys().filter(|name| !self.recipe.secrets.contains_key(*name))
        {
            faults.push(unknown(&format!("erp.secret.{name}"), "the recipe has no such secret"));
        }
        if faults.is_empty() { Ok(secrets) } else { Err(self.failed(faults)) }
    }

    fn consts(&self, overrides: &Overrides) -> Result<Value, RecipeFaults> {
        let mut consts = self.recipe.consts.clone();
        for (name, text) in &overrides.consts {
            let Some(own) = consts.get_mut(name) else {
                let detail = "the recipe has no such constant";
                return Err(self.failed(vec![unknown(&format!("erp.const.{name}"), detail)]));
            };
            // What is a number in the recipe stays one.
            *own = match values::is_number(own) && values::is_json_number(text) {
                true => values::of_digits(text),
                false => Value::from(text.as_str()),
            };
        }
        Ok(Value::from(consts))
    }

    fn failed(&self, faults: Vec<RecipeFault>) -> RecipeFaults {
        RecipeFaults { file: self.recipe.file.clone(), faults }
    }

    /// The ERP, ready to be used.
    pub fn open(
        self,
        overrides: &Overrides,
        defaults: Limits,
        clock: Arc<dyn Clock>,
    ) -> Result<RecipeErp, RecipeFaults> {
        let (secrets, consts) = (self.secrets(overrides)?, self.consts(overrides)?);
        let wrong = |key: &str, detail: String| self.failed(vec![unknown(key, &detail)]);
        let url = overrides.url.as_ref().or(self.recipe.base_url.as_ref());
        let url =
            url.ok_or_else(|| wrong("base_url", "missing, and erp.url is not set".to_owned()))?;
        let base = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let detail =
            || format!("`{url}`: expected an address that begins with http:// or https://");
        let base = base.ok_or_else(|| wrong("erp.url", detail()))?;
        let limits = self.limits(overrides, defaults);
        let http = HttpClient::new(&self.reach(limits), clock.clone())
            .map_err(|error| wrong("http", error))?;
        let signing = self.signing(&secrets, &consts)?;
        let renewal = self.renewal(&secrets, overrides, &clock)?;
        Ok(RecipeErp {
            mask: Mask::new(secrets.values().map(String::as_str), &overrides.redact),
            recipe: self.recipe,
            http,
            base,
            secrets,
            consts,
            sessions: Default::default(),
            sources: Default::default(),
            answers: Default::default(),
            signing,
            renewal,
            clock,
            keeps: overrides.keeps,
            drops: overrides.drops.clone(),
            request_budget: limits.connect + limits.total,
        })
    }

    fn limits(&self, overrides: &Overrides, defaults: Limits) -> Limits {
        let http = &self.recipe.http;
        Limits {
            connect: overrides.connect_timeout.or(http.connect_timeout).unwrap_or(defaults.connect),
            total: overrides.timeout.or(http.timeout).unwrap_or(defaults.total),
        }
    }

    fn reach(&self, limits: Limits) -> Reach {
        let http = &self.recipe.http;
        let max_reply = http.max_reply.and_then(|bytes| usize::try_from(bytes).ok());
        Reach {
            limits,
            max_reply: max_reply.unwrap_or(MAX_REPLY),
            ca_file: http.ca_file.clone(),
            identity: http.client_cert.clone().zip(http.client_key.clone()),
            proxy: http.proxy.clone(),
        }
    }

    /// What uses and keeps the refresh token, where the recipe has one.
    fn renewal(
        &self,
        secrets: &BTreeMap<String, String>,
        overrides: &Overrides,
        clock: &Arc<dyn Clock>,
    ) -> Result<Option<Renewal>, RecipeFaults> {
        if !matches!(&self.recipe.auth.kind, AuthKind::OAuth2(oauth2) if oauth2.is_refresh) {
            return Ok(None);
        }
        let wrong = |detail: &str| self.failed(vec![unknown("erp.token_key", detail)]);
        let Some(TokenStore { tokens, erp, key }) = &overrides.token_store else {
            return Err(wrong("the ledger that keeps the refresh token cannot be opened here"));
        };
        let Some(key) = key else {
            return Err(wrong(
                "missing: the ERP gives a new refresh token with each use, which is kept encrypted; set 32 random bytes in \
                 base64 (openssl rand -base64 32)",
            ));
        };
        let key = TokenKey::parse(key.expose_secret()).map_err(|detail| wrong(&detail))?;
        Ok(Some(Renewal {
            tokens: tokens.clone(),
            key,
            clock: clock.clone(),
            erp: erp.clone(),
            holder: clock.unique_id().to_string(),
            initial: secrets.get("refresh_token").cloned().unwrap_or_default(),
            unkept: Default::default(),
        }))
    }

    fn signing(
        &self,
        secrets: &BTreeMap<String, String>,
        consts: &Value,
    ) -> Result<Option<SigningKey>, RecipeFaults> {
        let AuthKind::OAuth2(oauth2) = &self.recipe.auth.kind else { return Ok(None) };
        let Some(jwt) = &oauth2.jwt else { return Ok(None) };
        let secrets = Value::from_pairs(secrets.iter().map(|(k, v)| (k.clone(), v.clone())));
        let vars =
            Vars::from([("const".to_owned(), consts.clone()), ("secret".to_owned(), secrets)]);
        let failed = |detail: String| self.failed(vec![jwt.key_file.fault(detail)]);
        let path = render(&self.recipe, &jwt.key_file, &vars).map_err(|f| failed(f.message))?;
        let path = PathBuf::from(path);
        let pem = std::fs::read(&path).map_err(|e| failed(format!("{}: {e}", path.display())))?;
        SigningKey::from_pem(jwt.alg, &pem).map(Some).map_err(failed)
    }
}

fn unknown(key: &str, detail: &str) -> RecipeFault {
    RecipeFault { line: 1, key: key.to_owned(), detail: detail.to_owned() }
}

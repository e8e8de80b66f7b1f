//! A recipe as it is used: steps, templates and sources.
//!
//! docs/erp-recipes.md explains every key. `compile.rs` makes it out of a file, `check.rs` says
//! whether it would render an order, `engine.rs` what it means when it runs.

use std::collections::BTreeMap;
use std::iter;
use std::path::PathBuf;
use std::time::Duration;

use minijinja::value::Value;
use reqwest::Method;
use reqwest::header::HeaderName;

use crate::domain::order::contents::Content;

use super::source::Source;
use super::templates::Templates;
use super::toml_text::At;

/// A recipe that was read without a fault.
#[derive(Debug)]
pub struct Recipe {
    /// Its file, or `NAME.toml` of a shipped one.
    pub file: String,
    /// Its name, for people.
    pub name: String,
    /// Where the ERP is, unless `erp.url` says otherwise.
    pub base_url: Option<String>,
    /// How bodies are written.
    pub is_xml: bool,
    /// Where the ERP puts its error text.
    pub error: Vec<Source>,
    /// When such a text refuses the order, and is no trouble of the ERP.
    pub refusal: Option<Expr>,
    /// `const.*`
    pub consts: BTreeMap<String, Value>,
    /// `secret.*`
    pub secrets: BTreeMap<String, At<SecretPlace>>,
    /// `[http]`
    pub http: HttpRules,
    /// `[auth]`
    pub auth: Auth,
    /// Reads that come first.
    pub before: Vec<Step>,
    /// The request that makes the order.
    pub commit: Step,
    /// Whether the commit may be repeated without asking.
    pub is_idempotent: bool,
    /// How the ERP is asked.
    pub probe: Option<Probe>,
    /// What follows the commit.
    pub after: Vec<Step>,
    /// How the ERP's total is compared with what was paid.
    pub total: Totals,
    /// What of an order reaches the ERP; `None`: the recipe does not say.
    pub carries: Option<Carries>,
    /// Questions about the ERP's master data.
    pub checks: Vec<Check>,
    /// For every step.
    pub rules: Vec<Rule>,
    /// Its templates, compiled.
    pub templates: Templates,
}

/// Where a secret is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// An environment variable.
    Env(String),
    /// A file.
    File(PathBuf),
}

/// `[http]`
#[derive(Debug, Default)]
pub struct HttpRules {
    /// To connect.
    pub connect_timeout: Option<Duration>,
    /// For one request.
    pub timeout: Option<Duration>,
    /// Most concurrent requests.
    pub concurrency: Option<u32>,
    /// Most bytes of a reply.
    pub max_reply: Option<u32>,
    /// Whether cookies are kept and sent back.
    pub cookies: bool,
    /// On every request.
    pub headers: Vec<(HeaderName, Template)>,
    /// Certificates of authorities to trust besides the machine's, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, PEM.
    pub client_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub client_key: Option<PathBuf>,
    /// A proxy.
    pub proxy: Option<String>,
}

/// `[auth]`
#[derive(Debug, Default)]
pub struct Auth {
    /// How we show who we are.
    pub kind: AuthKind,
    /// The request that begins a session.
    pub login: Option<Step>,
    /// Headers made from `secret` and `session`.
    pub attach: Vec<(HeaderName, Template)>,
    /// How long a session is used.
    pub max_age: Option<Duration>,
}

/// `auth.kind`
#[derive(Debug, Default)]
pub enum AuthKind {
    /// Only by `attach` and `login`.
    #[default]
    Attach,
    /// HTTP Basic with `secret.user` and `secret.password`.
    Basic,
    /// OAuth 2.
    OAuth2(Box<OAuth2>),
}

/// OAuth 2: client credentials (RFC 6749, 4.4; with a signed assertion: RFC 7523, 2.2) or a refresh token.
#[derive(Debug)]
pub struct OAuth2 {
    /// Where tokens are given.
    pub token_url: Template,
    /// `scope`
    pub scope: Option<Template>,
    /// Signed assertion instead of a client secret.
    pub jwt: Option<Jwt>,
    /// The client's id and secret go into the header instead of the body (RFC 6749, 2.3.1).
    pub is_basic: bool,
    /// `grant = "refresh_token"`: with a token that a person's login gave, which changes with each use (RFC 6749, 6).
    pub is_refresh: bool,
}

/// A signed assertion.
#[derive(Debug)]
pub struct Jwt {
    /// How it is signed.
    pub alg: JwtAlg,
    /// Which key.
    pub kid: Option<Template>,
    /// The private key, PEM (PKCS#8).
    pub key_file: Template,
    /// Who it is for; the token address when missing.
    pub aud: Option<Template>,
    /// Further claims.
    pub claims: Vec<(String, Template)>,
}

/// Signature algorithms (RFC 7518, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlg {
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

/// One request and what its reply means.
#[derive(Debug)]
pub struct Step {
    /// What its values are called by.
    pub name: String,
    pub method: Method,
    /// Path and what follows it.
    pub path: Template,
    /// Query parameters.
    pub query: Vec<(String, Template)>,
    pub headers: Vec<(HeaderName, Template)>,
    pub body: Body,
    /// When it went well; `None` only for probes.
    pub ok: Option<Expr>,
    /// What is taken out of the reply.
    pub take: Vec<(String, Vec<Source>)>,
    /// What must have been found, with the message when it was not.
    pub need: Vec<(String, Template)>,
    /// When the order is refused, and what is said then.
    pub refuse: Vec<(Expr, Template)>,
    /// Once for each of these.
    pub each: Option<Expr>,
    /// Rows of the reply by their key.
    pub index: Option<Index>,
    /// How long an answer is kept for other orders that ask the same.
    pub cache: Option<At<Duration>>,
    /// Skipped when true.
    pub unless: Option<Expr>,
    /// What the order has to be like afterwards.
    pub reached: Option<Expr>,
    /// Before the recipe's own rules.
    pub rules: Vec<Rule>,
    /// How it is seen that a step of `[[after]]` that creates something has done so.
    pub there: Option<Box<Question>>,
    /// How the end of a job is asked for, where the ERP only accepts the request at first.
    pub poll: Option<Box<Poll>>,
}

/// How the end of a job is asked for.
#[derive(Debug)]
pub struct Poll {
    /// Whether the reply only says that there is a job; always, when missing.
    pub when: Option<Expr>,
    /// What is taken out of that reply.
    pub job: Vec<(String, Vec<Source>)>,
    /// The question.
    pub step: Step,
    pub done: Expr,
    /// When it failed for good.
    pub failed: Option<Expr>,
    pub every: Duration,
    /// How long it is asked about.
    pub lasts: Duration,
}

/// A request body.
#[derive(Debug)]
pub enum Body {
    None,
    /// JSON or XML.
    Text(Template),
    /// `application/x-www-form-urlencoded`
    Form(Vec<(String, Template)>),
}

/// Rows of a reply that are looked up by a key.
#[derive(Debug)]
pub struct Index {
    /// The list.
    pub rows: Source,
    /// The key within a row.
    pub key: Source,
    /// Keys that must be there.
    pub require: Option<Expr>,
    /// Whether the first of several rows with one key counts; else a required one may be there only once.
    pub takes_first: bool,
}

/// How the ERP is asked about an order.
#[derive(Debug)]
pub struct Probe {
    /// Questions; the first that finds it counts.
    pub tries: Vec<Question>,
    /// How long after an unclear send "absent" does not count.
    pub settle: Option<Duration>,
    /// Shortest pause between questions.
    pub every: Option<Duration>,
}

/// One question.
#[derive(Debug)]
pub struct Question {
    pub step: Step,
    /// It is there.
    pub found: Expr,
    /// It is not there.
    pub absent: Expr,
}

/// `carries`, `drops` and `digits`
#[derive(Debug, Default)]
pub struct Carries {
    pub contents: Vec<Content>,
    /// What may be dropped.
    pub drops: Vec<Content>,
    /// Most digits behind the point that the ERP keeps, by the name of a line's field.
    pub digits: Vec<(String, Expr)>,
}

/// `[total]`
#[derive(Debug)]
pub enum Totals {
    /// Read back and compared.
    Compared(Box<TotalRule>),
    /// It cannot be, for this reason.
    Never(At<String>),
    /// The recipe does not say.
    Unsaid,
}

/// How a total is read back and compared.
#[derive(Debug)]
pub struct TotalRule {
    /// The request that reads it; without one it is in what was taken from the reply to the commit.
    pub step: Option<Step>,
    /// The step of `[[after]]` after which it is read; before the first one without a name.
    pub after: Option<At<String>>,
    pub amount: Expr,
    pub currency: Option<Expr>,
    /// What was paid, where that is not the total of the order.
    pub paid: Option<Expr>,
    /// How much they may differ.
    pub tolerance: Option<Expr>,
    pub lines: Option<TotalLines>,
}

/// How the lines of an order that differs are read back.
#[derive(Debug)]
pub struct TotalLines {
    pub step: Step,
    pub rows: Source,
    /// What a line is called, over `row`.
    pub name: Option<Expr>,
    /// Its sum, over `row`.
    pub amount: Expr,
    /// What was paid for a line of the order, over `line`.
    pub paid: Option<Expr>,
}

/// One question about the ERP's master data.
#[derive(Debug)]
pub struct Check {
    pub step: Step,
    /// What has to be so.
    pub expect: Expr,
    /// The sentence with the fix when it is not.
    pub otherwise: Template,
}

/// From a reply to an outcome.
#[derive(Debug)]
pub struct Rule {
    pub when: Expr,
    /// Then.
    pub then: Outcome,
    /// What is told instead of the ERP's words.
    pub text: Option<Template>,
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Ok,
    /// The order is there already.
    Duplicate,
    /// The session is over: begin another and repeat, once.
    Relogin,
    /// Nothing was done; later perhaps.
    Retry,
    /// Something may have been done.
    Unknown,
    /// Refused for good.
    Permanent,
    /// Forbidden: the engine finds out whether that is about this order or about us.
    Forbidden,
    /// We are refused.
    Halt,
}

impl Outcome {
    pub(super) const NAMES: [(&'static str, Self); 8] = [
        ("ok", Self::Ok),
        ("duplicate", Self::Duplicate),
        ("relogin", Self::Relogin),
        ("retry", Self::Retry),
        ("unknown", Self::Unknown),
        ("permanent", Self::Permanent),
        ("forbidden", Self::Forbidden),
        ("halt", Self::Halt),
    ];

    /// The name that recipes use.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, own)| *own == self).map_or("", |(name, _)| name)
    }
}

/// A compiled template: the name to render it by, and its place in the file.
pub type Template = At<String>;
/// An expression: its text, and its place in the file.
pub type Expr = At<String>;

impl Recipe {
    /// Every step of an order that sends a request, in the order of a submit, probes at the end.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let probes = self.probe.iter().flat_map(|probe| &probe.tries).map(|try_| &try_.step);
        let login = self.auth.login.iter();
        let before = login.chain(&self.before).chain([&self.commit]);
        let all = before.chain(self.total_steps()).chain(&self.after).chain(probes);
        all.flat_map(|step| {
            let there = step.there.iter().map(|there| &there.step);
            iter::once(step).chain(there).chain(step.poll.iter().map(|poll| &poll.step))
        })
    }

    /// The steps that read the total back.
    pub fn total_steps(&self) -> impl Iterator<Item = &Step> {
        let rule = match &self.total {
            Totals::Compared(rule) => Some(rule),
            Totals::Never(_) | Totals::Unsaid => None,
        };
        rule.into_iter()
            .flat_map(|rule| rule.step.iter().chain(rule.lines.iter().map(|lines| &lines.step)))
    }
}

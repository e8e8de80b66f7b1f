//! From a recipe's TOML to its compiled form; every fault at once, with its line and key.
//!
//! Called by `open.rs` and by tests. Whether templates render an order is not checked here
//! (`check.rs`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use minijinja::value::Value;
use reqwest::Method;
use reqwest::header::HeaderName;

use super::model::{
    Auth, AuthKind, Body, Carries, Check, Expr, HttpRules, Index, Jwt, JwtAlg, OAuth2, Outcome,
    Poll, Probe, Question, Recipe, Rule, SecretPlace, Step, Template, TotalLines, TotalRule,
    Totals,
};
use super::source::Source;
use super::templates::{Place, Templates};
use super::toml_text::{At, RecipeFault, Scalar, Table, parse};
use super::values;
use crate::config::fault_reader::Faults;
use crate::domain::order::contents::Content;

/// How often and how long a job is asked about unless the recipe says otherwise, and the longest.
const POLL_EVERY: Duration = Duration::from_secs(2);
const POLL_FOR: Duration = Duration::from_secs(60);
const LONGEST_JOB: Duration = Duration::from_mins(10);

impl Recipe {
    /// Reads the recipe of `file`; every fault at once.
    pub fn parse(file: &str, source: &str) -> Result<Self, Vec<RecipeFault>> {
        parse(source, |table, faults| Compiler::new(faults).recipe(file, table))
    }
}

struct Compiler<'a> {
    faults: &'a Faults<RecipeFault>,
    templates: Templates,
    place: Place,
}

impl<'a> Compiler<'a> {
    fn new(faults: &'a Faults<RecipeFault>) -> Self {
        Self { faults, templates: Templates::default(), place: Place::Json }
    }

    fn recipe(mut self, file: &str, t: &Table<'_>) -> Option<Recipe> {
        let name = t.required("name", "a name for people, e.g. name = \"our-erp\"");
        let base_url = t.parsed("base_url", base_url);
        let is_xml = t.parsed("type", body_type).unwrap_or(false);
        self.place = if is_xml { Place::Xml } else { Place::Json };
        let error = self.sources(t, "error");
        let refusal = self.checked(t.text("refusal"));
        let consts = t.scalars("const").into_iter().map(|(k, v)| (k, scalar(&v.value))).collect();
        let secrets = self.secrets(t);
        let http = self.http(t);
        let auth = self.auth(t);
        let before = t.tables("before").iter().filter_map(|t| self.step(t, None)).collect();
        let commit = match t.table("commit") {
            None => {
                t.missing("commit", "the one request that creates the order");
                None
            }
            Some(table) => {
                let is_idempotent = table.flag("idempotent");
                self.step(&table, Some("commit")).map(|step| (step, is_idempotent))
            }
        };
        let probe = self.probe(t);
        let after: Vec<Step> =
            t.tables("after").iter().filter_map(|t| self.step(t, None)).collect();
        let total = self.total(t, &after);
        let carries = self.carries(t);
        let checks = t.tables("check").iter().filter_map(|t| self.check(t)).collect();
        let rules = self.rules(t);
        let (commit, is_idempotent) = commit?;
        Some(Recipe {
            file: file.to_owned(),
            name: name?.value,
            base_url,
            is_xml,
            error,
            refusal,
            consts,
            secrets,
            http,
            auth,
            before,
            commit,
            is_idempotent,
            probe,
            after,
            total,
            carries,
            checks,
            rules,
            templates: self.templates,
        })
    }

    fn secrets(&self, t: &Table<'_>) -> BTreeMap<String, At<SecretPlace>> {
        let Some(open) = t.open("secret") else { return BTreeMap::new() };
        let mut secrets = BTreeMap::new();
        for (name, table) in open.tables() {
            let (env, file) = (table.text("env"), table.text("file"));
            table.finish();
            let place = match (env, file) {
                (Some(env), None) => SecretPlace::Env(env.value),
                (None, Some(file)) => SecretPlace::File(PathBuf::from(file.value)),
                _ => {
                    let detail = "expected { env = \"NAME\" } or { file = \"PATH\" }; a secret is never part of a recipe";
                    self.faults.add(table.place().fault(detail));
                    continue;
                }
            };
            secrets.insert(name, table.place().with(place));
        }
        secrets
    }

    fn http(&mut self, t: &Table<'_>) -> HttpRules {
        let Some(t) = t.table("http") else { return HttpRules::default() };
        let path = |name| t.text(name).map(|text| PathBuf::from(text.value));
        let rules = HttpRules {
            connect_timeout: t.duration("connect_timeout"),
            timeout: t.duration("timeout"),
            concurrency: t.number("concurrency", 1_000),
            max_reply: t.number("max_reply", 256 * 1024 * 1024),
            cookies: t.flag("cookies"),
            headers: self.headers(&t, "headers"),
            ca_file: path("ca_file"),
            client_cert: path("client_cert"),
            client_key: path("client_key"),
            proxy: t.text("proxy").map(|text| text.value),
        };
        if rules.client_cert.is_some() != rules.client_key.is_some() {
            t.missing("client_key", "client_cert and client_key go together");
        }
        t.finish();
        rules
    }

    fn auth(&mut self, t: &Table<'_>) -> Auth {
        let Some(t) = t.table("auth") else { return Auth::default() };
        let kind = t.parsed("kind", |text| match text {
            "basic" | "oauth2" => Ok(text.to_owned()),
            _ => Err(format!("`{text}` is not one of basic, oauth2")),
        });
        let is_oauth2 = kind.as_deref() == Some("oauth2");
        let token_url = match is_oauth2 {
            true => t.required("token_url", "where tokens are given"),
            false => t.text("token_url"),
        };
        let token_url = token_url.and_then(|text| self.template(Place::Plain, &text));
        let scope = t.text("scope").and_then(|text| self.template(Place::Plain, &text));
        let jwt = t.table("jwt").and_then(|t| self.jwt(&t));
        let is_basic = t.parsed("client", |text| match text {
            "body" | "basic" => Ok(text == "basic"),
            _ => Err(format!("`{text}` is not one of body, basic")),
        });
        let is_basic = is_basic.unwrap_or_default();
        let is_refresh = t.parsed("grant", |text| match text {
            "client_credentials" | "refresh_token" => Ok(text == "refresh_token"),
            _ => Err(format!("`{text}` is not one of client_credentials, refresh_token")),
        });
        let is_refresh = is_refresh.unwrap_or_default();
        if is_refresh && jwt.is_some() {
            self.faults
                .add(t.place().fault("[auth.jwt] goes with grant = \"client_credentials\" only"));
        }
        let kind = match kind.as_deref() {
            Some("basic") => AuthKind::Basic,
            Some("oauth2") => match token_url {
                Some(token_url) => AuthKind::OAuth2(Box::new(OAuth2 {
                    token_url,
                    scope,
                    jwt,
                    is_basic,
                    is_refresh,
                })),
                None => AuthKind::Attach,
            },
            _ => AuthKind::Attach,
        };
        let auth = Auth {
            kind,
            login: t.table("login").and_then(|t| self.step(&t, Some("login"))),
            attach: self.headers(&t, "attach"),
            max_age: t.duration("max_age"),
        };
        if is_oauth2 && auth.login.is_some() {
            let detail = "oauth2 is already a login: remove [auth.login]";
            self.faults.add(t.place().fault(detail));
        }
        t.finish();
        auth
    }

    fn jwt(&mut self, t: &Table<'_>) -> Option<Jwt> {
        let alg = t.parsed("alg", |text| match text {
            "PS256" => Ok(JwtAlg::Ps256),
            "RS256" => Ok(JwtAlg::Rs256),
            "ES256" => Ok(JwtAlg::Es256),
            _ => Err(format!("`{text}` is not one of PS256, RS256, ES256")),
        });
        if !t.has("alg") {
            t.missing("alg", "PS256, RS256 or ES256");
        }
        let key_file = t.required("key_file", "the private key, PEM");
        let mut plain = |text: Option<At<String>>| self.template(Place::Plain, &text?);
        let (key_file, kid, aud) = (plain(key_file), plain(t.text("kid")), plain(t.text("aud")));
        let claims = self.named(t, "claims", Place::Plain);
        t.finish();
        Some(Jwt { alg: alg?, kid, key_file: key_file?, aud, claims })
    }

    fn probe(&mut self, t: &Table<'_>) -> Option<Probe> {
        let t = t.table("probe")?;
        let (settle, every) = (t.duration("settle"), t.duration("every"));
        let mut tries = Vec::new();
        if t.has("request") {
            tries.extend(self.question(&t, "probe".to_owned()));
        }
        for try_ in t.tables("try") {
            tries.extend(self.question(&try_, "probe".to_owned()));
            try_.finish();
        }
        if !t.has("request") && !t.has("try") {
            t.missing("request", "the question, or [[probe.try]] for several");
        }
        t.finish();
        (!tries.is_empty()).then_some(Probe { tries, settle, every })
    }

    fn question(&mut self, t: &Table<'_>, name: String) -> Option<Question> {
        let found = t.required("found", "when it is there, e.g. \"at('/0/id')\"");
        let absent = t.required("absent", "when it is certainly not there, e.g. \"body == []\"");
        let (found, absent) = (self.checked(found), self.checked(absent));
        let step = self.request(t, name, None);
        Some(Question { step: step?, found: found?, absent: absent? })
    }

    fn carries(&self, t: &Table<'_>) -> Option<Carries> {
        let contents = |name| t.texts(name).into_iter().filter_map(|text| self.content(&text));
        let carries = Carries {
            contents: contents("carries").collect(),
            drops: contents("drops").collect(),
            digits: t
                .text_by_name("digits")
                .into_iter()
                .filter_map(|(name, expr)| Some((name, self.checked(Some(expr))?)))
                .collect(),
        };
        if !t.has("carries") && (t.has("drops") || t.has("digits")) {
            t.missing("carries", "what of an order reaches the ERP; without it nothing is refused");
        }
        t.has("carries").then_some(carries)
    }

    fn content(&self, text: &At<String>) -> Option<Content> {
        let content = Content::from_name(&text.value);
        if content.is_none() {
            let names = Content::ALL.map(Content::as_str).join(", ");
            self.faults.add(text.fault(format!("`{}` is not one of {names}", text.value)));
        }
        content
    }

    fn total(&mut self, t: &Table<'_>, after: &[Step]) -> Totals {
        let Some(t) = t.table("total") else { return Totals::Unsaid };
        if let Some(never) = t.text("never") {
            t.finish();
            return Totals::Never(never);
        }
        let amount = t.required("amount", "the ERP's total, e.g. \"at('/0/amount_total')\"");
        let amount = self.checked(amount);
        let currency = self.checked(t.text("currency"));
        let paid = self.checked(t.text("paid"));
        let tolerance = self.checked(t.text("tolerance"));
        let step = match t.has("request") {
            true => {
                let ok = self.checked(t.required("ok", "when it was read, e.g. \"status == 200\""));
                self.request(&t, "total".to_owned(), ok)
            }
            false => None,
        };
        let behind = t.text("after");
        if let Some(name) = &behind
            && !after.iter().any(|step| step.name == name.value)
        {
            self.faults.add(name.fault(format!("no step of [[after]] is called `{}`", name.value)));
        }
        let lines = t.table("lines").and_then(|t| self.total_lines(&t));
        t.finish();
        match amount {
            Some(amount) => Totals::Compared(Box::new(TotalRule {
                step,
                after: behind,
                amount,
                currency,
                paid,
                tolerance,
                lines,
            })),
            None => Totals::Unsaid,
        }
    }

    fn total_lines(&mut self, t: &Table<'_>) -> Option<TotalLines> {
        let rows = t.parsed("rows", Source::parse);
        if !t.has("rows") {
            t.missing("rows", "where the list is, e.g. \"/result\"");
        }
        let amount = self.checked(t.required("amount", "the sum of a line, e.g. \"row.amount\""));
        let (name, paid) = (self.checked(t.text("name")), self.checked(t.text("paid")));
        let ok = self.checked(t.required("ok", "when they were read, e.g. \"status == 200\""));
        let step = self.request(t, "total_lines".to_owned(), ok);
        t.finish();
        Some(TotalLines { step: step?, rows: rows?, name, amount: amount?, paid })
    }

    fn check(&mut self, t: &Table<'_>) -> Option<Check> {
        let expect = self.checked(t.required("expect", "what has to be so, e.g. \"body != []\""));
        let otherwise = t.required("otherwise", "a sentence that says what is wrong, and the fix");
        let otherwise = otherwise.and_then(|text| self.template(Place::Plain, &text));
        let step = self.step(t, None);
        Some(Check { step: step?, expect: expect?, otherwise: otherwise? })
    }

    fn step(&mut self, t: &Table<'_>, name: Option<&str>) -> Option<Step> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => t.required("name", "the name of its values").map(|name| {
                let good = name.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !good || name.value.is_empty() || RESERVED.contains(&name.value.as_str()) {
                    let detail = format!("`{}` cannot be a name here", name.value);
                    self.faults.add(name.fault(detail));
                }
                name.value
            })?,
        };
        let ok = t.required("ok", "when it succeeded, e.g. \"status == 201 and at('/id')\"");
        let ok = self.checked(ok);
        let step = self.request(t, name, ok);
        t.finish();
        step
    }

    /// What every request has; `ok` was read by the caller.
    fn request(&mut self, t: &Table<'_>, name: String, ok: Option<Expr>) -> Option<Step> {
        let request = t.required("request", "METHOD and path, e.g. \"POST /orders\"");
        let request = request.and_then(|request| self.method_and_path(&request));
        let query = self.named(t, "query", Place::Plain);
        let headers = self.headers(t, "headers");
        let body = self.body(t);
        let take = t.texts_by_name("take");
        let take = take.into_iter().map(|(name, texts)| (name, self.read_sources(texts))).collect();
        let need = self.named(t, "need", Place::Plain);
        let refuse = self.refuse(t);
        let each = self.checked(t.text("each"));
        let index = t.table("index").and_then(|t| self.index(&t));
        let cache = t.duration_at("cache");
        let unless = self.checked(t.text("unless"));
        let reached = self.checked(t.text("reached"));
        let rules = self.rules(t);
        let there = t.table("there").and_then(|t| {
            let there = self.question(&t, format!("{name}_there"));
            self.only_a_question(
                &t,
                &["need", "each", "index", "unless", "reached", "poll", "there"],
            );
            t.finish();
            there.map(Box::new)
        });
        let poll = t.table("poll").and_then(|t| self.poll(&t, &name)).map(Box::new);
        let (method, path) = request?;
        Some(Step {
            name,
            method,
            path,
            query,
            headers,
            body,
            ok,
            take,
            need,
            refuse,
            each,
            index,
            cache,
            unless,
            reached,
            rules,
            there,
            poll,
        })
    }

    fn poll(&mut self, t: &Table<'_>, of: &str) -> Option<Poll> {
        let when = self.checked(t.text("when"));
        let job = t.texts_by_name("job");
        let job = job.into_iter().map(|(name, texts)| (name, self.read_sources(texts))).collect();
        let done = t.required("done", "when the job has ended, e.g. \"at('/state') == 'done'\"");
        let (done, failed) = (self.checked(done), self.checked(t.text("failed")));
        let (every, lasts) = (t.duration("every"), t.duration_at("for"));
        if let Some(lasts) = lasts.as_ref().filter(|lasts| lasts.value > LONGEST_JOB) {
            self.faults.add(lasts.fault("at most 10m: a worker waits that long for one order"));
        }
        // `take` and `need` of the step itself read the last reply.
        self.only_a_question(
            t,
            &["take", "need", "each", "index", "unless", "reached", "poll", "there"],
        );
        let step = self.request(t, format!("{of}_poll"), None);
        t.finish();
        Some(Poll {
            when,
            job,
            step: step?,
            done: done?,
            failed,
            every: every.unwrap_or(POLL_EVERY),
            lasts: lasts.map_or(POLL_FOR, |lasts| lasts.value),
        })
    }

    /// Notes keys of a step that do nothing in a question within another step.
    fn only_a_question(&self, t: &Table<'_>, names: &[&str]) {
        for name in names.iter().filter(|name| t.has(name)) {
            self.faults.add(t.place().fault(format!("`{name}` does nothing here")));
        }
    }

    fn method_and_path(&mut self, request: &At<String>) -> Option<(Method, Template)> {
        let good = request.value.split_once(' ').and_then(|(method, path)| {
            let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"].contains(&method);
            let method = Method::from_bytes(method.as_bytes()).ok().filter(|_| known)?;
            let path = path.trim();
            (path.starts_with('/') || path.starts_with("{{")).then_some((method, path.to_owned()))
        });
        match good {
            Some((method, path)) => {
                let path = self.template(Place::Path, &request.with(path))?;
                Some((method, path))
            }
            None => {
                let detail = "expected a method and a path below base_url, e.g. \"POST /orders\"";
                self.faults.add(request.fault(detail));
                None
            }
        }
    }

    fn body(&mut self, t: &Table<'_>) -> Body {
        let form = self.named(t, "form", Place::Plain);
        match t.text("body") {
            Some(text) if !form.is_empty() => {
                self.faults.add(text.fault("a request has a body or a form, not both"));
                Body::None
            }
            Some(text) => {
                let place = self.place;
                self.template(place, &text).map_or(Body::None, Body::Text)
            }
            None if t.has("form") => Body::Form(form),
            None => Body::None,
        }
    }

    fn index(&self, t: &Table<'_>) -> Option<Index> {
        let rows = t.parsed("rows", Source::parse);
        let key = t.parsed("key", Source::parse);
        if !t.has("rows") {
            t.missing("rows", "where the list is, e.g. \"/result\"");
        }
        if !t.has("key") {
            t.missing("key", "the key within a row, e.g. \"/code\"");
        }
        let require = self.checked(t.text("require"));
        let takes_first = t.flag("first");
        t.finish();
        Some(Index { rows: rows?, key: key?, require, takes_first })
    }

    fn rules(&mut self, t: &Table<'_>) -> Vec<Rule> {
        let mut rule = |t: &Table<'_>| {
            let when = self.checked(t.required("when", "an expression over the reply"));
            let then = t.parsed("then", outcome);
            if !t.has("then") {
                t.missing(
                    "then",
                    "ok, duplicate, relogin, retry, unknown, permanent, forbidden or halt",
                );
            }
            let text = t.text("text");
            if let (Some(text), Some(Outcome::Ok)) = (&text, then) {
                self.faults.add(text.fault("`ok` fails nothing, so its text is never told"));
            }
            let text = text.and_then(|text| self.template(Place::Plain, &text));
            t.finish();
            Some(Rule { when: when?, then: then?, text })
        };
        t.tables("rules").iter().filter_map(&mut rule).collect()
    }

    fn refuse(&mut self, t: &Table<'_>) -> Vec<(Expr, Template)> {
        let mut refuse = Vec::new();
        for t in t.tables("refuse") {
            let when = self.checked(t.required("when", "an expression over the reply"));
            let text = t.required("text", "the sentence that the order is refused with");
            let text = text.and_then(|text| self.template(Place::Plain, &text));
            t.finish();
            refuse.extend(when.zip(text));
        }
        refuse
    }

    fn sources(&self, t: &Table<'_>, name: &'static str) -> Vec<Source> {
        self.read_sources(t.texts(name))
    }

    fn read_sources(&self, texts: Vec<At<String>>) -> Vec<Source> {
        let read = |text: At<String>| match Source::parse(&text.value) {
            Ok(source) => Some(source),
            Err(detail) => {
                self.faults.add(text.fault(detail));
                None
            }
        };
        texts.into_iter().filter_map(read).collect()
    }

    fn named(
        &mut self,
        t: &Table<'_>,
        name: &'static str,
        place: Place,
    ) -> Vec<(String, Template)> {
        let texts = t.text_by_name(name);
        let made =
            texts.into_iter().filter_map(|(key, text)| Some((key, self.template(place, &text)?)));
        made.collect()
    }

    fn headers(&mut self, t: &Table<'_>, name: &'static str) -> Vec<(HeaderName, Template)> {
        let mut headers = Vec::new();
        for (key, text) in t.text_by_name(name) {
            let Ok(header) = HeaderName::from_bytes(key.as_bytes()) else {
                self.faults.add(text.fault(format!("`{key}` cannot be the name of a header")));
                continue;
            };
            headers.extend(self.template(Place::Plain, &text).map(|value| (header, value)));
        }
        headers
    }

    fn template(&mut self, place: Place, text: &At<String>) -> Option<Template> {
        // Several templates may have the same key: the line distinguishes them.
        let key = format!("{}@{}", text.key, text.line);
        match self.templates.add(place, &key, &text.value) {
            Ok(name) => Some(text.with(name)),
            Err(error) => {
                self.faults.add(template_fault(text, &error));
                None
            }
        }
    }

    fn checked(&self, text: Option<At<String>>) -> Option<Expr> {
        let text = text?;
        match self.templates.check_expression(&text.value) {
            Ok(()) => Some(text),
            Err(error) => {
                self.faults.add(template_fault(&text, &error));
                None
            }
        }
    }
}

/// Reserved names in templates.
const RESERVED: [&str; 21] = [
    "order",
    "document",
    "const",
    "secret",
    "session",
    "result",
    "item",
    "job",
    "status",
    "body",
    "text",
    "at",
    "header",
    "commit",
    "probe",
    "login",
    "loop",
    "total",
    "total_lines",
    "row",
    "line",
];

/// A fault of a template, with its line.
pub fn template_fault<T>(at: &At<T>, error: &minijinja::Error) -> RecipeFault {
    let line = at.line + error.line().unwrap_or(1).saturating_sub(1);
    RecipeFault { line, key: at.key.clone(), detail: template_error(error) }
}

/// What is wrong with a template, in one line.
pub fn template_error(error: &minijinja::Error) -> String {
    let detail = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    crate::domain::text::one_line(&detail, 300)
}

/// A plain value as templates see it.
fn scalar(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Text(text) => Value::from(text.as_str()),
        Scalar::Number(digits) => values::of_digits(digits),
        Scalar::Flag(flag) => Value::from(*flag),
    }
}

fn base_url(text: &str) -> Result<String, String> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(text.to_owned()),
        _ => Err(format!("`{text}`: expected an address that begins with http:// or https://")),
    }
}

fn body_type(text: &str) -> Result<bool, String> {
    match text {
        "json" => Ok(false),
        "xml" => Ok(true),
        _ => Err(format!("`{text}` is not one of json, xml")),
    }
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let found = Outcome::NAMES.iter().find(|(name, _)| *name == text);
    found.map(|(_, outcome)| *outcome).ok_or_else(|| {
        let names: Vec<&str> = Outcome::NAMES.iter().map(|(name, _)| *name).collect();
        format!("`{text}` is not one of {}", names.join(", "))
    })
}

//! One request of a recipe: with the session, once more after a new login, noted in the journal.

use crate::adapters::erp::recipe::answer::Reply;
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::Value;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::ports::clock::Stopwatch;
use crate::ports::erp::OrderForErp;

use super::super::http::name_of;
use super::super::page::is_login_page;
use super::super::redact::HIDDEN;
use super::super::trouble::means_us;
use super::check::sample_order;
use super::engine::RecipeErp;
use super::judge::{Purpose, Said};
use super::model::{AuthKind, Outcome, Question, Step};
use super::order_vars::order_vars;
use super::reply::Read;
use super::request::{Request, build, render};
use super::session::{Cookies, Numbered, Session};
use crate::adapters::erp::recipe::values::Vars;

/// A number that no order has.
const NOBODY: &str = "order-relay-check";
/// A token is renewed this long before it ends.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

/// What a request is sent with.
struct Sending<'a> {
    order: Option<&'a OrderForErp>,
    step: &'a Step,
    purpose: Purpose,
    session: &'a Session,
}

impl RecipeErp {
    /// Sends `step`; after a new login once more, when the ERP says that the session is over. Where the ERP has
    /// only accepted it, the answer is that about the job.
    pub(super) async fn call(
        &self,
        order: Option<&OrderForErp>,
        step: &Step,
        purpose: Purpose,
        vars: &Vars,
    ) -> Result<Reply, Failure> {
        let reply = self.send(order, step, purpose, vars).await?;
        match &step.poll {
            Some(poll) if reply.outcome == Outcome::Ok => {
                self.wait_for_job(order, poll, purpose, vars, reply).await
            }
            _ => Ok(reply),
        }
    }

    async fn send(
        &self,
        order: Option<&OrderForErp>,
        step: &Step,
        purpose: Purpose,
        vars: &Vars,
    ) -> Result<Reply, Failure> {
        let judge = |read: &Arc<Read>, vars: &Vars| self.judge().outcome(step, purpose, read, vars);
        let (read, outcome, request) =
            self.with_session(order, step, purpose, vars, |outcome| *outcome, judge).await?;
        let outcome = match outcome {
            Outcome::Forbidden => self.who_is_forbidden(&read).await,
            outcome => outcome,
        };
        Ok(Reply { read, outcome, request })
    }

    /// Asks one question.
    pub(super) async fn ask_one(
        &self,
        order: &OrderForErp,
        question: &Question,
        vars: &Vars,
    ) -> Result<(Reply, Said), Failure> {
        let (reply, said) = self.ask_plainly(Some(order), question, vars).await?;
        let Said::Other(Outcome::Forbidden) = said else { return Ok((reply, said)) };
        let outcome = match self.who_is_forbidden(&reply.read).await {
            Outcome::Halt => Outcome::Halt,
            _ => Outcome::Retry,
        };
        Ok((Reply { outcome, ..reply }, Said::Other(outcome)))
    }

    /// Whether a 403 is about this order: then the ERP answers a question about one that nobody has.
    async fn who_is_forbidden(&self, read: &Read) -> Outcome {
        let sentence = self.judge().words(read);
        let text = sentence.text.clone().unwrap_or_default();
        if means_us(&text)
            || read.header("www-authenticate").is_some()
            || is_login_page(read.text())
        {
            return Outcome::Halt;
        }
        let about_order = if sentence.is_specific() { Outcome::Permanent } else { Outcome::Retry };
        match self.answers_us().await {
            Some(true) => about_order,
            Some(false) => Outcome::Halt,
            // It cannot be asked, so its words have to do.
            None if self.recipe.probe.is_none() && !sentence.is_specific() => Outcome::Halt,
            None if self.recipe.probe.is_none() => about_order,
            None => Outcome::Retry,
        }
    }

    /// Whether the ERP answers us; `None` when that does not show.
    async fn answers_us(&self) -> Option<bool> {
        let question = self.recipe.probe.as_ref()?.tries.first()?;
        let mut vars = self.vars();
        vars.append(&mut order_vars(&sample_order(NOBODY)).ok()?);
        match self.ask_plainly(None, question, &vars).await {
            Ok((_, Said::Found | Said::Absent)) => Some(true),
            Ok((_, Said::Other(Outcome::Halt | Outcome::Relogin | Outcome::Forbidden))) => {
                Some(false)
            }
            Err(failure) if failure.class == ErrorClass::Unauthorized => Some(false),
            _ => None,
        }
    }

    async fn ask_plainly(
        &self,
        order: Option<&OrderForErp>,
        question: &Question,
        vars: &Vars,
    ) -> Result<(Reply, Said), Failure> {
        let judge = |read: &Arc<Read>, vars: &Vars| self.judge().said(question, read, vars);
        let outcome_of = |said: &Said| match said {
            Said::Other(outcome) => *outcome,
            _ => Outcome::Ok,
        };
        let (step, purpose) = (&question.step, Purpose::Probe);
        let (read, said, request) =
            self.with_session(order, step, purpose, vars, outcome_of, judge).await?;
        Ok((Reply { read, outcome: outcome_of(&said), request }, said))
    }

    pub(super) async fn with_session<T: Copy + std::fmt::Debug>(
        &self,
        order: Option<&OrderForErp>,
        step: &Step,
        purpose: Purpose,
        vars: &Vars,
        outcome_of: impl Fn(&T) -> Outcome,
        judge: impl Fn(&Arc<Read>, &Vars) -> T,
    ) -> Result<(Arc<Read>, T, String), Failure> {
        let mut over = None;
        loop {
            let numbered = self.session(order, over).await;
            let Numbered { session, number, .. } = numbered.map_err(|f| of_login(purpose, f))?;
            let mut vars = vars.clone();
            vars.insert("session".to_owned(), session.values.clone());
            let sending = Sending { order, step, purpose, session: &session };
            let meaning = |read: &Arc<Read>| {
                let judged = judge(read, &vars);
                (judged, meaning_of(&judged, outcome_of(&judged)))
            };
            let (read, judged, request) = self.exchange(&sending, &vars, meaning).await?;
            let is_over = outcome_of(&judged) == Outcome::Relogin;
            if is_over && over.is_none() && self.can_log_in() {
                over = Some(number);
                continue;
            }
            return Ok((read, judged, request));
        }
    }

    /// Sends one request and notes it.
    async fn exchange<T>(
        &self,
        sending: &Sending<'_>,
        vars: &Vars,
        judge: impl Fn(&Arc<Read>) -> (T, String),
    ) -> Result<(Arc<Read>, T, String), Failure> {
        let Sending { order, step, purpose, session } = *sending;
        let staged = |failure: Failure| match purpose {
            Purpose::Follow => Failure { stage: Some(Stage::At), ..failure },
            _ => failure,
        };
        let built = build(&self.recipe, &self.base, step, vars).map_err(staged)?;
        let mut own = session.headers();
        own.extend(trace_headers(order));
        let headers = built.all_headers(&own).map_err(staged)?;
        let request = name_of(&built.method, &built.url);
        let body = built.body.clone().map(String::into_bytes);
        if let (Purpose::Commit, Some(order)) = (purpose, order) {
            order.permit.begin().await?;
        }
        let (watch, method, url) = (Stopwatch::start(), built.method.clone(), built.url.clone());
        let sent = self.http.call(method, url, headers, body).await;
        let took = watch.elapsed_ms();
        match sent {
            Err(failure) => {
                let failure = purpose.unanswered(failure);
                self.note(sending, &built, took, Noted::Failed(&failure));
                Err(failure)
            }
            Ok(reply) => {
                let read = Arc::new(Read::of(reply));
                if let Some(cookies) = &session.cookies {
                    cookies.keep(&read);
                }
                let (judged, meaning) = judge(&read);
                self.note(sending, &built, took, Noted::Answered(&read, meaning));
                Ok((read, judged, request))
            }
        }
    }

    fn note(&self, sending: &Sending<'_>, built: &Request, took: u64, noted: Noted<'_>) {
        let Some(order) = sending.order.filter(|order| self.keeps || order.journal.has_all())
        else {
            return;
        };
        let Sending { step, purpose, session, .. } = sending;
        let mut mask = self.mask.clone();
        session.secrets.iter().for_each(|secret| mask.hide(secret));
        let names = self.hidden_headers();
        let hidden = if *purpose == Purpose::Login { &[][..] } else { &names[..] };
        let mut exchange = built.noted(&step.name, *purpose == Purpose::Probe, &mask, hidden);
        exchange.duration_ms = took;
        match noted {
            Noted::Failed(failure) => {
                exchange.stage = failure.stage.unwrap_or(exchange.stage);
                failure.code.clone_into(&mut exchange.meaning);
                exchange.message = Some(failure.message.clone());
            }
            Noted::Answered(read, meaning) => {
                exchange.stage = Stage::After;
                exchange.status = Some(read.status);
                exchange.meaning = meaning;
                exchange.message = self.judge().sentence(read).text.map(|text| mask.hide_in(&text));
                exchange.reply = mask.clean(read.text());
            }
        }
        // A login is about nothing but secrets.
        if *purpose == Purpose::Login {
            for body in [&mut exchange.request_body, &mut exchange.reply] {
                if !body.is_empty() {
                    HIDDEN.clone_into(body);
                }
            }
        }
        order.journal.note(exchange);
    }

    /// Headers with secret values.
    pub(super) fn hidden_headers(&self) -> Vec<HeaderName> {
        let mut names: Vec<HeaderName> =
            self.recipe.auth.attach.iter().map(|(name, _)| name.clone()).collect();
        if !matches!(self.recipe.auth.kind, AuthKind::Attach) && !names.contains(&AUTHORIZATION) {
            names.push(AUTHORIZATION);
        }
        names
    }

    pub(super) fn can_log_in(&self) -> bool {
        self.recipe.auth.login.is_some() || matches!(self.recipe.auth.kind, AuthKind::OAuth2(_))
    }

    pub(super) async fn session(
        &self,
        order: Option<&OrderForErp>,
        over: Option<u64>,
    ) -> Result<Numbered, Failure> {
        self.sessions.get(over, || self.begin(order)).await
    }

    async fn begin(&self, order: Option<&OrderForErp>) -> Result<Session, Failure> {
        let mut session = Session {
            values: Value::UNDEFINED,
            attach: self.basic()?,
            secrets: Vec::new(),
            lives: self.recipe.auth.max_age,
            cookies: self.recipe.http.cookies.then(Cookies::default),
        };
        if let Some(login) = &self.recipe.auth.login {
            session = self.log_in(order, login, session).await?;
        }
        if let AuthKind::OAuth2(oauth2) = &self.recipe.auth.kind {
            let token = self.token(oauth2).await?;
            let lives = token.lives.map(|lives| lives.saturating_sub(TOKEN_MARGIN));
            session.lives = [session.lives, lives].into_iter().flatten().min();
            session
                .attach
                .push((AUTHORIZATION, secret_header(&format!("Bearer {}", token.access))?));
            session.values = Value::from_pairs([("access_token", token.access.as_str())]);
            session.secrets.push(token.access);
        }
        let mut vars = self.vars();
        vars.insert("session".to_owned(), session.values.clone());
        for (name, template) in &self.recipe.auth.attach {
            let value = render(&self.recipe, template, &vars)?;
            session.attach.retain(|(own, _)| own != name);
            session.attach.push((name.clone(), secret_header(&value)?));
            session.secrets.push(value);
        }
        Ok(session)
    }

    fn basic(&self) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        match self.recipe.auth.kind {
            AuthKind::Basic => Ok(vec![(AUTHORIZATION, self.basic_header("user", "password")?)]),
            _ => Ok(Vec::new()),
        }
    }

    /// HTTP Basic with two secrets.
    pub(super) fn basic_header(&self, name: &str, password: &str) -> Result<HeaderValue, Failure> {
        use base64::Engine;
        let of = |name: &str| self.secrets.get(name).map(String::as_str).unwrap_or_default();
        let pair = format!("{}:{}", of(name), of(password));
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        secret_header(&format!("Basic {pair}"))
    }

    async fn log_in(
        &self,
        order: Option<&OrderForErp>,
        login: &Step,
        mut session: Session,
    ) -> Result<Session, Failure> {
        let vars = self.vars();
        let sending = Sending { order, step: login, purpose: Purpose::Login, session: &session };
        let judge = |read: &Arc<Read>| {
            let outcome = self.judge().outcome(login, Purpose::Login, read, &vars);
            (outcome, outcome.as_str().to_owned())
        };
        let (read, outcome, request) = self.exchange(&sending, &vars, judge).await?;
        if outcome != Outcome::Ok {
            let mut failure = self.judge().failure(Purpose::Login, outcome, &read);
            failure.request = Some(request);
            return Err(failure);
        }
        self.check_needs(login, Purpose::Login, &read, &vars)
            .map_err(|failure| Failure { request: Some(request), ..failure })?;
        let taken = self.judge().taken(login, &read);
        session.secrets.extend(taken.iter().map(|(_, value)| value.to_string()));
        session.values = Value::from_pairs(taken);
        Ok(session)
    }
}

enum Noted<'a> {
    Failed(&'a Failure),
    Answered(&'a Read, String),
}

pub(super) fn internal(detail: &str) -> Failure {
    Failure::new(ErrorClass::Internal, "login", detail, Stage::Before)
}

fn secret_header(value: &str) -> Result<HeaderValue, Failure> {
    let header = HeaderValue::from_bytes(value.as_bytes());
    let mut header = header.map_err(|_| internal("a header cannot hold its value"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// A login that failed in the middle of an order: how far that order got.
fn of_login(purpose: Purpose, failure: Failure) -> Failure {
    match purpose {
        Purpose::Follow => Failure { stage: Some(Stage::At), ..failure },
        _ => failure,
    }
}

fn meaning_of<T: std::fmt::Debug>(judged: &T, outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok => format!("{judged:?}").to_lowercase(),
        other => other.as_str().to_owned(),
    }
}

fn trace_headers(order: Option<&OrderForErp>) -> Vec<(HeaderName, HeaderValue)> {
    let Some(order) = order else { return Vec::new() };
    let pairs = [("traceparent", &order.trace.parent), ("tracestate", &order.trace.state)];
    let header = |(name, value): (&'static str, &Option<String>)| {
        let value = HeaderValue::from_str(value.as_deref()?).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    pairs.into_iter().filter_map(header).collect()
}

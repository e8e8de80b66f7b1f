//! What a reply means: the rules of the recipe, its `ok`, then the table of docs/erp-recipes.md.

use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::value::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::{MAX_ERROR_CHARS, one_line};

use super::super::page::{is_login_address, is_login_page};
use super::super::sentence::Sentence;
use super::super::trouble::is_trouble;

use super::model::{Expr, Outcome, Poll, Question, Recipe, Step, Template};
use super::reply::Read;
use crate::adapters::erp::recipe::lookups::{SourceCache, first_of, vars_with};
use crate::adapters::erp::recipe::values::Vars;

/// What a request is for; decides what an unclear answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Begins a session.
    Login,
    /// A read before the commit.
    Read,
    /// Makes the order.
    Commit,
    /// Follows the commit; may be repeated.
    Follow,
    /// Asks whether the order is there.
    Probe,
}

impl Purpose {
    /// How far the order got when this request failed.
    pub fn stage(self, outcome: Outcome) -> Stage {
        match (self, outcome) {
            (Self::Login | Self::Read, _) => Stage::Before,
            (Self::Commit, Outcome::Unknown) | (Self::Follow, _) => Stage::At,
            (Self::Commit | Self::Probe, _) => Stage::After,
        }
    }

    /// What a request that got no answer leaves behind.
    pub fn unanswered(self, failure: Failure) -> Failure {
        match (self, failure.class) {
            (Self::Commit, _) | (_, ErrorClass::Internal) => failure,
            _ => {
                let stage = Some(self.stage(Outcome::Retry));
                Failure { class: ErrorClass::Unavailable, stage, ..failure }
            }
        }
    }
}

/// What a probe said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It is there.
    Found,
    /// It is not.
    Absent,
    /// Something else.
    Other(Outcome),
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    Done,
    /// It failed for good.
    Failed,
    /// Neither can be seen.
    Other(Outcome),
}

/// Evaluates replies for one recipe.
pub struct Judge<'a> {
    pub recipe: &'a Recipe,
    /// Sources that expressions name.
    pub sources: &'a Arc<SourceCache>,
}

impl Judge<'_> {
    /// What the reply to `step` means.
    pub fn outcome(
        &self,
        step: &Step,
        purpose: Purpose,
        reply: &Arc<Read>,
        vars: &Vars,
    ) -> Outcome {
        let vars = vars_with(reply, self.sources, vars);
        let meant = match self.by_rules(step, reply, &vars) {
            Some(outcome) => outcome,
            None if step.ok.as_ref().is_some_and(|ok| self.is_true(ok, &vars)) => {
                return Outcome::Ok;
            }
            None => by_table(purpose, reply.status, self.speech(reply, &vars)),
        };
        // Whatever wraps it: the ERP's own trouble refuses no order.
        match meant {
            Outcome::Permanent if self.is_trouble(reply) && purpose == Purpose::Commit => {
                Outcome::Unknown
            }
            Outcome::Permanent if self.is_trouble(reply) => Outcome::Retry,
            meant => meant,
        }
    }

    fn is_trouble(&self, reply: &Read) -> bool {
        self.words(reply).text.is_some_and(|text| is_trouble(&text))
    }

    /// Who speaks in a reply that is neither `ok` nor named by a rule.
    fn speech(&self, reply: &Read, vars: &Vars) -> Speech {
        let to = reply.header("location").filter(|_| (300..400).contains(&reply.status));
        let is_login = to.is_some_and(is_login_address) || is_login_page(reply.text());
        let refusal = self.recipe.refusal.as_ref();
        let speaks = self.recipe.error.iter().any(|source| {
            source
                .find(reply)
                .is_some_and(|text| text.as_str().is_some_and(|t| !t.trim().is_empty()))
        });
        match speaks {
            _ if is_login => Speech::LoginPage,
            true if refusal.is_none_or(|refusal| self.is_true(refusal, vars)) => Speech::Refusal,
            true => Speech::Trouble,
            false => Speech::Foreign,
        }
    }

    /// What the reply to a question means.
    pub fn said(&self, question: &Question, reply: &Arc<Read>, vars: &Vars) -> Said {
        let vars = vars_with(reply, self.sources, vars);
        match self.by_rules(&question.step, reply, &vars) {
            Some(Outcome::Ok | Outcome::Duplicate) | None => {}
            Some(outcome) => return Said::Other(outcome),
        }
        if self.is_true(&question.found, &vars) {
            return Said::Found;
        }
        if self.is_true(&question.absent, &vars) {
            return Said::Absent;
        }
        Said::Other(by_table(Purpose::Probe, reply.status, self.speech(reply, &vars)))
    }

    /// What the reply to a question about a job means.
    pub fn progress(&self, poll: &Poll, reply: &Arc<Read>, vars: &Vars) -> Progress {
        let vars = vars_with(reply, self.sources, vars);
        let has_failed =
            |expr: &Option<Expr>| expr.as_ref().is_some_and(|e| self.is_true(e, &vars));
        match self.by_rules(&poll.step, reply, &vars) {
            Some(Outcome::Ok | Outcome::Duplicate) | None => {}
            Some(Outcome::Permanent) => return Progress::Failed,
            Some(outcome) => return Progress::Other(outcome),
        }
        if self.is_true(&poll.done, &vars) {
            return Progress::Done;
        }
        if has_failed(&poll.failed) {
            return Progress::Failed;
        }
        match by_table(Purpose::Follow, reply.status, self.speech(reply, &vars)) {
            // "There is no such job" says nothing of the order.
            Outcome::Permanent => Progress::Other(Outcome::Retry),
            outcome => Progress::Other(outcome),
        }
    }

    /// What a job that failed means for the order: the ERP's own trouble refuses none.
    pub fn failed_job(&self, purpose: Purpose, reply: &Read) -> Outcome {
        match (self.is_trouble(reply), purpose) {
            (false, _) => Outcome::Permanent,
            (true, Purpose::Commit) => Outcome::Unknown,
            (true, _) => Outcome::Retry,
        }
    }

    fn by_rules(&self, step: &Step, reply: &Read, vars: &Vars) -> Option<Outcome> {
        let mut rules = step.rules.iter().chain(&self.recipe.rules);
        let rule = rules.find(|rule| self.is_true(&rule.when, vars))?;
        if let Some(text) = &rule.text {
            self.tell(text, reply, vars);
        }
        Some(rule.then)
    }

    /// Has the text of a rule told; the ERP's own words where it cannot be rendered over this reply.
    fn tell(&self, text: &Template, reply: &Read, vars: &Vars) {
        match self.recipe.templates.render(&text.value, &without_secrets(vars.clone())) {
            Ok(rendered) if !rendered.trim().is_empty() => reply.tell(rendered),
            Ok(_) => {}
            Err(error) => {
                let (key, line) = (&text.key, text.line);
                let detail = super::compile::template_error(&error);
                tracing::warn!(key, line, detail, "recipe.text_failed");
            }
        }
    }

    /// An expression that cannot be evaluated says no: what it would have allowed is not believed.
    pub fn is_true(&self, expr: &Expr, vars: &Vars) -> bool {
        match self.recipe.templates.eval(&expr.value, vars) {
            Ok(value) => value.is_true(),
            // What a page or a foreign reply has not.
            Err(error) if error.kind() == ErrorKind::UndefinedError => false,
            Err(error) => {
                let detail = super::compile::template_error(&error);
                let (key, line) = (&expr.key, expr.line);
                tracing::warn!(key, line, detail, "recipe.expression_failed");
                false
            }
        }
    }

    /// What people are told of a reply: the recipe's text for it, or else the ERP's words.
    pub fn sentence(&self, reply: &Read) -> Sentence {
        let words = self.words(reply);
        match reply.told() {
            Some(told) => Sentence { text: Some(one_line(told, MAX_ERROR_CHARS)), ..words },
            None => words,
        }
    }

    /// What the ERP says, where the recipe looks for it first.
    pub fn words(&self, reply: &Read) -> Sentence {
        let own = self.recipe.error.iter().filter_map(|source| source.find(reply));
        let own = own.filter_map(|text| text.as_str().map(str::to_owned));
        let general = match reply.json() {
            Some(json) => Sentence::of_json(json),
            None => Sentence::of_text(reply.text()),
        };
        let texts: Vec<String> = own.chain(general.text).collect();
        Sentence::chosen(&texts, general.code)
    }

    /// The message about a failed reply.
    pub fn failure(&self, purpose: Purpose, outcome: Outcome, reply: &Read) -> Failure {
        let class = match outcome {
            Outcome::Unknown if purpose == Purpose::Commit => ErrorClass::UnknownOutcome,
            Outcome::Halt | Outcome::Relogin | Outcome::Forbidden => ErrorClass::Unauthorized,
            Outcome::Permanent | Outcome::Duplicate => ErrorClass::Rejected,
            Outcome::Retry | Outcome::Unknown | Outcome::Ok => ErrorClass::Unavailable,
        };
        let class = match purpose {
            Purpose::Probe if class != ErrorClass::Unauthorized => ErrorClass::Unavailable,
            _ => class,
        };
        let code = match (class, reply.status) {
            (ErrorClass::Unauthorized, _) => "login_refused".to_owned(),
            (_, 200..300) => "refused".to_owned(),
            (_, status) => format!("http_{status}"),
        };
        let sentence = self.sentence(reply);
        let code = match sentence.code {
            Some(own) => format!("{code}:{own}"),
            None => code,
        };
        let text = sentence.text.unwrap_or_else(|| self.without_text(reply));
        let mut failure = Failure::new(class, &code, &text, purpose.stage(outcome));
        failure.status = Some(reply.status);
        failure.retry_after = reply.retry_after;
        failure
    }

    fn without_text(&self, reply: &Read) -> String {
        let what = match reply.header("location") {
            Some(to) if (300..400).contains(&reply.status) => format!(", to {to}"),
            _ if reply.is_page() => ", a web page instead of an answer".to_owned(),
            _ if (200..300).contains(&reply.status) => {
                ", an answer that cannot be interpreted".to_owned()
            }
            _ => String::new(),
        };
        format!("HTTP status {}{what}", reply.status)
    }

    /// Values that `step` takes out of its reply; what is not there is left out.
    pub fn taken(&self, step: &Step, reply: &Read) -> Vec<(String, Value)> {
        let taken = step.take.iter();
        taken
            .filter_map(|(name, sources)| Some((name.clone(), first_of(sources, reply)?)))
            .collect()
    }
}

/// Without what is never told.
pub fn without_secrets(mut vars: Vars) -> Vars {
    vars.remove("secret");
    vars.remove("session");
    vars
}

/// Who speaks in a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speech {
    /// The ERP, about this order.
    Refusal,
    /// The ERP, about itself.
    Trouble,
    /// A page that asks somebody to log in.
    LoginPage,
    /// Somebody else, or nobody.
    Foreign,
}

fn by_table(purpose: Purpose, status: u16, speech: Speech) -> Outcome {
    match (status, purpose, speech) {
        (408 | 423 | 425 | 429, ..) => Outcome::Retry,
        (401 | 403, Purpose::Login, _) => Outcome::Halt,
        (401, ..) => Outcome::Relogin,
        (300..500, Purpose::Login, Speech::LoginPage) => Outcome::Halt,
        (200..300 | 400..500, Purpose::Login, Speech::Refusal) => Outcome::Halt,
        (_, Purpose::Login, _) => Outcome::Retry,
        (300..400, _, Speech::LoginPage) => Outcome::Relogin,
        (403, ..) => Outcome::Forbidden,
        (200..300 | 400..500, _, Speech::Refusal) => Outcome::Permanent,
        (_, Purpose::Commit, _) => Outcome::Unknown,
        (_, _, Speech::LoginPage) => Outcome::Relogin,
        _ => Outcome::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_erps_own_words_are_a_refusal() {
        use Purpose::{Commit, Login, Read};
        use Speech::{Foreign, LoginPage, Refusal, Trouble};
        assert_eq!(by_table(Commit, 422, Refusal), Outcome::Permanent);
        assert_eq!(by_table(Commit, 200, Refusal), Outcome::Permanent);
        assert_eq!(by_table(Commit, 200, Trouble), Outcome::Unknown);
        assert_eq!(by_table(Commit, 404, Foreign), Outcome::Unknown);
        assert_eq!(by_table(Commit, 200, Foreign), Outcome::Unknown);
        assert_eq!(by_table(Commit, 200, LoginPage), Outcome::Unknown);
        assert_eq!(by_table(Commit, 302, Refusal), Outcome::Unknown);
        assert_eq!(by_table(Commit, 302, LoginPage), Outcome::Relogin);
        assert_eq!(by_table(Commit, 500, Refusal), Outcome::Unknown);
        assert_eq!(by_table(Read, 404, Foreign), Outcome::Retry);
        assert_eq!(by_table(Read, 200, Trouble), Outcome::Retry);
        assert_eq!(by_table(Read, 200, LoginPage), Outcome::Relogin);
        assert_eq!(by_table(Read, 500, Foreign), Outcome::Retry);
        assert_eq!(by_table(Commit, 401, Foreign), Outcome::Relogin);
        assert_eq!(by_table(Commit, 403, Refusal), Outcome::Forbidden);
        assert_eq!(by_table(Commit, 429, Refusal), Outcome::Retry);
        assert_eq!(by_table(Login, 401, Foreign), Outcome::Halt);
        assert_eq!(by_table(Login, 403, Foreign), Outcome::Halt);
        assert_eq!(by_table(Login, 200, Refusal), Outcome::Halt);
        assert_eq!(by_table(Login, 302, LoginPage), Outcome::Halt);
        assert_eq!(by_table(Login, 200, Foreign), Outcome::Retry);
        assert_eq!(by_table(Login, 503, Foreign), Outcome::Retry);
    }
}

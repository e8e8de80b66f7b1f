//! What a reply means: the rules of the recipe, its `ok`, then the table of docs/erp-recipes.md.

use std::sync::Arc;

use minijinja::value::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::{MAX_ERROR_CHARS, one_line};

use super::model::{Expr, Outcome, Question, Recipe, Step};
use super::reply::Read;
use super::templates::Vars;
use crate::adapters::erp::recipe::lookups::{SourceCache, first_of, vars_with};

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
                let stage = self.stage(Outcome::Retry);
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
        if let Some(outcome) = self.by_rules(step, &vars) {
            return outcome;
        }
        if step.ok.as_ref().is_some_and(|ok| self.is_true(ok, &vars)) {
            return Outcome::Ok;
        }
        by_table(purpose, reply.status, self.error_text(reply).is_some())
    }

    /// What the reply to a question means.
    pub fn said(&self, question: &Question, reply: &Arc<Read>, vars: &Vars) -> Said {
        let vars = vars_with(reply, self.sources, vars);
        match self.by_rules(&question.step, &vars) {
            Some(Outcome::Ok | Outcome::Duplicate) | None => {}
            Some(outcome) => return Said::Other(outcome),
        }
        if self.is_true(&question.found, &vars) {
            return Said::Found;
        }
        if self.is_true(&question.absent, &vars) {
            return Said::Absent;
        }
        Said::Other(by_table(Purpose::Probe, reply.status, self.error_text(reply).is_some()))
    }

    fn by_rules(&self, step: &Step, vars: &Vars) -> Option<Outcome> {
        let mut rules = step.rules.iter().chain(&self.recipe.rules);
        rules.find(|rule| self.is_true(&rule.when, vars)).map(|rule| rule.then)
    }

    /// An expression that cannot be evaluated says no: what it would have allowed is not believed.
    pub fn is_true(&self, expr: &Expr, vars: &Vars) -> bool {
        match self.recipe.templates.eval(&expr.value, vars) {
            Ok(value) => value.is_true(),
            Err(error) => {
                let detail = super::compile::template_error(&error);
                tracing::warn!(
                    key = expr.key,
                    line = expr.line,
                    detail,
                    "recipe.expression_failed"
                );
                false
            }
        }
    }

    /// The ERP's own error text.
    pub fn error_text(&self, reply: &Read) -> Option<String> {
        let found = first_of(&self.recipe.error, reply)?;
        let text = match found.as_str() {
            Some(text) => text.to_owned(),
            None => super::values::to_json_text(&found)?,
        };
        let text = one_line(&text, MAX_ERROR_CHARS);
        (!text.is_empty()).then_some(text)
    }

    /// The message about a failed reply.
    pub fn failure(&self, purpose: Purpose, outcome: Outcome, reply: &Read) -> Failure {
        let class = match outcome {
            Outcome::Unknown if purpose == Purpose::Commit => ErrorClass::UnknownOutcome,
            Outcome::Halt | Outcome::Relogin => ErrorClass::Unauthorized,
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
        let text = self.error_text(reply).unwrap_or_else(|| self.without_text(reply));
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

fn by_table(purpose: Purpose, status: u16, speaks: bool) -> Outcome {
    match (status, purpose) {
        (408 | 425 | 429, _) => Outcome::Retry,
        (200..300 | 400..500, Purpose::Login) => Outcome::Halt,
        (401, _) => Outcome::Relogin,
        (403, _) => Outcome::Halt,
        (200..300 | 400..500, _) if speaks => Outcome::Permanent,
        (_, Purpose::Commit) => Outcome::Unknown,
        _ => Outcome::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_erps_own_words_are_a_refusal() {
        use Purpose::{Commit, Login, Read};
        assert_eq!(by_table(Commit, 422, true), Outcome::Permanent);
        assert_eq!(by_table(Commit, 200, true), Outcome::Permanent);
        assert_eq!(by_table(Commit, 404, false), Outcome::Unknown);
        assert_eq!(by_table(Commit, 200, false), Outcome::Unknown);
        assert_eq!(by_table(Commit, 302, true), Outcome::Unknown);
        assert_eq!(by_table(Commit, 500, true), Outcome::Unknown);
        assert_eq!(by_table(Read, 404, false), Outcome::Retry);
        assert_eq!(by_table(Read, 500, false), Outcome::Retry);
        assert_eq!(by_table(Commit, 401, false), Outcome::Relogin);
        assert_eq!(by_table(Commit, 403, true), Outcome::Halt);
        assert_eq!(by_table(Commit, 429, true), Outcome::Retry);
        assert_eq!(by_table(Login, 401, false), Outcome::Halt);
        assert_eq!(by_table(Login, 200, false), Outcome::Halt);
        assert_eq!(by_table(Login, 503, false), Outcome::Retry);
    }
}

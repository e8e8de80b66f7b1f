//! What an answer must contain (`need`): the first message about what it does not, and what that means for
//! the order, depending on the step.

use crate::domain::failure::{ErrorClass, Failure};

use super::engine::RecipeErp;
use super::judge::Purpose;
use super::model::{Outcome, Step};
use super::reply::Read;
use super::request::render;
use super::values::Vars;

impl RecipeErp {
    /// Fails if the answer to `step`, which went well, has not all that the step needs.
    pub(super) fn check_needs(
        &self,
        step: &Step,
        purpose: Purpose,
        reply: &Read,
        vars: &Vars,
    ) -> Result<(), Failure> {
        let taken = self.judge().taken(step, reply);
        let is_missing = |name: &String| taken.iter().all(|(own, _)| own != name);
        let Some((_, message)) = step.need.iter().find(|(name, _)| is_missing(name)) else {
            return Ok(());
        };
        let stage = purpose.stage(Outcome::Unknown);
        let text = render(&self.recipe, message, vars)
            .map_err(|failure| Failure { stage: Some(stage), ..failure })?;
        let mut failure = Failure::new(class(purpose), code(purpose), &text, stage);
        failure.status = Some(reply.status);
        Err(failure)
    }
}

/// Before the order is sent, what is missing is a fault of the order. After that it leaves the order unclear
/// or unfinished. Without what a login gives nothing can be sent.
fn class(purpose: Purpose) -> ErrorClass {
    match purpose {
        Purpose::Login => ErrorClass::Unauthorized,
        Purpose::Read => ErrorClass::Rejected,
        Purpose::Commit => ErrorClass::UnknownOutcome,
        Purpose::Follow | Purpose::Probe => ErrorClass::Unavailable,
    }
}

fn code(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Login => "login_refused",
        Purpose::Read => "unknown_to_erp",
        Purpose::Commit | Purpose::Follow | Purpose::Probe => "incomplete_answer",
    }
}

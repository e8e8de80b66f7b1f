//! Steps behind the commit that create something (`there`): the lines of an order that was made without them.
//!
//! Each is like a commit of its own. What may be there is asked about first, and "not there" counts only when no
//! earlier request can be executed any more. An unclear answer ends the attempt; the next one finds the order and
//! goes on here.

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::one_line;
use crate::ports::erp::{NOT_SETTLED, OrderForErp};

use super::answer::Done;
use super::engine::RecipeErp;
use super::judge::{Purpose, Said};
use super::model::{Outcome, Question, Step};
use super::values::Vars;

impl RecipeErp {
    /// Creates it unless it is there; `is_new`: nothing of it can be there.
    pub(super) async fn create(
        &self,
        order: &OrderForErp,
        step: &Step,
        there: &Question,
        vars: &Vars,
        is_new: bool,
    ) -> Result<Done, Failure> {
        if !is_new {
            if let Some(done) = self.find(order, there, vars).await? {
                return Ok(done);
            }
            self.check_settled(order)?;
        }
        let reply = self.call(Some(order), step, Purpose::Commit, vars).await?;
        let refusal = match reply.outcome {
            Outcome::Ok => {
                self.complete(step, Purpose::Commit, &reply, vars)?;
                return Ok(self.done(step, reply));
            }
            _ => self.refused(step, Purpose::Commit, &reply),
        };
        if !matches!(reply.outcome, Outcome::Permanent | Outcome::Duplicate) {
            return Err(refusal);
        }
        // A refusal is believed once the ERP says that it is not there.
        match self.find(order, there, vars).await {
            Ok(Some(done)) => Ok(done),
            Ok(None) if reply.outcome == Outcome::Permanent => Err(refusal),
            Ok(None) => Err(unclear(refusal, "the ERP says that it has it, and does not show it")),
            Err(failure) => Err(unclear(refusal, &failure.message)),
        }
    }

    async fn find(
        &self,
        order: &OrderForErp,
        there: &Question,
        vars: &Vars,
    ) -> Result<Option<Done>, Failure> {
        let (reply, said) = self.ask_one(order, there, vars).await?;
        match said {
            Said::Found => Ok(Some(self.done(&there.step, reply))),
            Said::Absent => Ok(None),
            Said::Other(_) => Err(self.refused(&there.step, Purpose::Probe, &reply)),
        }
    }

    /// Fails as long as what an earlier attempt sent may still be executed.
    fn check_settled(&self, order: &OrderForErp) -> Result<(), Failure> {
        match order.settled_from {
            Some(from) if self.clock.now() < from => {
                let text = "an earlier request may still be executed";
                Err(Failure::new(ErrorClass::UnknownOutcome, NOT_SETTLED, text, Stage::At))
            }
            _ => Ok(()),
        }
    }
}

fn unclear(refusal: Failure, why: &str) -> Failure {
    let text = format!("refused ({}), and whether it is there is unclear: {why}", refusal.message);
    Failure { class: ErrorClass::UnknownOutcome, message: one_line(&text, 500), ..refusal }
}

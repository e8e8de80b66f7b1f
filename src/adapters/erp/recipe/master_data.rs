//! `[[check]]`: read-only questions about the ERP's master data, for `check` and `erp check`.
//!
//! A check is about the settings, not about an order: it can name `const`, `secret` and `session` only.

use std::sync::Arc;

use crate::domain::failure::Failure;
use crate::ports::erp::MasterDataCheck;

use super::answer::Reply;
use super::engine::RecipeErp;
use super::judge::Purpose;
use super::lookups::vars_with;
use super::model::{Check, Outcome};
use super::reply::Read;
use super::request::render;
use super::values::Vars;

impl RecipeErp {
    /// Asks every question; the first that gets no answer is the last.
    pub(super) async fn check_all(&self) -> Vec<MasterDataCheck> {
        let (mut found, vars) = (Vec::new(), self.vars());
        for check in &self.recipe.checks {
            let name = check.step.name.clone();
            match self.check_one(check, &vars).await {
                Ok(fault) => found.push(MasterDataCheck { name, fault }),
                Err(failure) => {
                    let text =
                        format!("could not be checked: {} ({})", failure.message, failure.code);
                    found.push(MasterDataCheck { name, fault: Some(text) });
                    break;
                }
            }
        }
        found
    }

    /// What is wrong, if anything is.
    async fn check_one(&self, check: &Check, vars: &Vars) -> Result<Option<String>, Failure> {
        let (step, purpose) = (&check.step, Purpose::Read);
        let judge = |read: &Arc<Read>, vars: &Vars| {
            let outcome = self.judge().outcome(step, purpose, read, vars);
            let vars = vars_with(read, &self.sources, vars);
            (outcome, self.judge().is_true(&check.expect, &vars))
        };
        let outcome_of = |judged: &(Outcome, bool)| judged.0;
        let (read, (outcome, is_so), request) =
            self.with_session(None, step, purpose, vars, outcome_of, judge).await?;
        match (outcome, is_so) {
            (Outcome::Ok, true) => Ok(None),
            (Outcome::Ok, false) => {
                let text = render(&self.recipe, &check.otherwise, vars)?;
                Ok(Some(self.mask.hide_in(&text)))
            }
            _ => Err(self.refused(step, purpose, &Reply { read, outcome, request })),
        }
    }
}

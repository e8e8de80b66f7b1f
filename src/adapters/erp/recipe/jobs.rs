//! Jobs: an ERP that only accepts a request at first is asked until the job has ended (`poll`).
//!
//! Here the request itself is never repeated. A job that cannot be seen to have ended may still make the order.

use std::sync::Arc;

use minijinja::value::Value;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::one_line;
use crate::ports::clock::Stopwatch;
use crate::ports::erp::OrderForErp;

use super::answer::Reply;
use super::engine::RecipeErp;
use super::judge::{Progress, Purpose};
use super::lookups::{first_of, vars_with};
use super::model::{Outcome, Poll};
use super::reply::Read;
use super::values::Vars;

impl RecipeErp {
    /// The reply about the ended job that `accepted` began; `accepted` itself where it began none.
    pub(super) async fn wait_for_job(
        &self,
        order: Option<&OrderForErp>,
        poll: &Poll,
        purpose: Purpose,
        vars: &Vars,
        accepted: Reply,
    ) -> Result<Reply, Failure> {
        let over_reply = vars_with(&accepted.read, &self.sources, vars);
        if poll.when.as_ref().is_some_and(|when| !self.judge().is_true(when, &over_reply)) {
            return Ok(accepted);
        }
        let job = poll.job.iter();
        let job =
            job.filter_map(|(name, from)| Some((name.clone(), first_of(from, &accepted.read)?)));
        let mut vars = vars.clone();
        vars.insert("job".to_owned(), Value::from_pairs(job));
        let watch = Stopwatch::start();
        let mut wait = accepted.read.retry_after;
        loop {
            let pause = poll.every.max(wait.unwrap_or_default());
            if watch.elapsed() + pause > poll.lasts {
                let text = format!("its job has not ended within {:?}", poll.lasts);
                let failure =
                    Failure::new(ErrorClass::Unavailable, "job_running", &text, Stage::At);
                return Err(unclear(
                    purpose,
                    Failure { request: Some(accepted.request), ..failure },
                ));
            }
            tokio::time::sleep(pause).await;
            match self.ask_about_job(order, poll, purpose, &vars).await {
                Ok(reply) => return Ok(reply),
                Err(failure) if failure.class == ErrorClass::Unavailable => {
                    wait = failure.retry_after;
                }
                Err(failure) => return Err(unclear(purpose, failure)),
            }
        }
    }

    /// The reply about a job that has ended; with an unavailable ERP it is asked again.
    async fn ask_about_job(
        &self,
        order: Option<&OrderForErp>,
        poll: &Poll,
        purpose: Purpose,
        vars: &Vars,
    ) -> Result<Reply, Failure> {
        let judge = |read: &Arc<Read>, vars: &Vars| self.judge().progress(poll, read, vars);
        let outcome_of = |progress: &Progress| match progress {
            Progress::Other(outcome) => *outcome,
            Progress::Done | Progress::Failed => Outcome::Ok,
        };
        let asked =
            self.with_session(order, &poll.step, Purpose::Follow, vars, outcome_of, judge).await?;
        let (read, progress, request) = asked;
        let outcome = match progress {
            Progress::Done => Outcome::Ok,
            Progress::Failed => self.judge().failed_job(purpose, &read),
            Progress::Other(outcome) => {
                let reply = Reply { read, outcome, request };
                return Err(self.refused(&poll.step, Purpose::Follow, &reply));
            }
        };
        Ok(Reply { read, outcome, request })
    }
}

/// The ERP has accepted a request, and what became of it is not known.
fn unclear(purpose: Purpose, failure: Failure) -> Failure {
    let text = one_line(&format!("the ERP accepted it, but {}", failure.message), 500);
    let class = match purpose {
        Purpose::Commit => ErrorClass::UnknownOutcome,
        _ => failure.class,
    };
    Failure { class, message: text, stage: Some(Stage::At), ..failure }
}

//! The recipe engine: an ERP described by a TOML file.
//!
//! `submit`: reads, one commit, what follows. `ask`: the probe. `finish`: what follows, for an
//! order that was found. A refused commit is asked about once before the refusal is believed; an
//! unclear one is reported as that, and never repeated here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use minijinja::value::Value;
use reqwest::Url;
use serde_json::{Map, Value as Json};

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::order::contents::Content;
use crate::domain::text::one_line;
use crate::ports::clock::{Clock, Stopwatch};
use crate::ports::erp::{Erp, Exchange, MasterDataCheck, OrderForErp, ProbeAnswer, Receipt};

use super::super::http::HttpClient;
use super::super::redact::Mask;
use super::answers::{Answers, Used};
use super::judge::{Judge, Purpose, Said};
use super::jwt::SigningKey;
use super::model::{Outcome, Recipe, Step, Totals};
use super::order_vars::{document_of, order_vars, result_value, vars_of};
use super::refresh::Renewal;
use super::request::build;
use super::session::Sessions;
use super::values::{self, Placeholder, Skipped};
use crate::adapters::erp::recipe::answer::{Done, Reply};
use crate::adapters::erp::recipe::lookups::SourceCache;
use crate::adapters::erp::recipe::values::Vars;

/// Longest number of an ERP that is stored, in characters.
const MAX_NUMBER: usize = 200;
/// Reads before the commit, all together, get at least this long; so does what follows it.
pub const LEAST_PATIENCE: Duration = Duration::from_secs(30);

/// Pauses before a step that stumbled is resumed; each twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An ERP behind a recipe.
pub struct RecipeErp {
    pub(super) recipe: Recipe,
    pub(super) http: HttpClient,
    pub(super) base: Url,
    pub(super) secrets: BTreeMap<String, String>,
    pub(super) consts: Value,
    pub(super) mask: Mask,
    pub(super) sessions: Sessions,
    pub(super) sources: Arc<SourceCache>,
    pub(super) answers: Answers,
    pub(super) signing: Option<SigningKey>,
    pub(super) renewal: Option<Renewal>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keeps: bool,
    /// `erp.drop`
    pub(super) drops: Vec<Content>,
    pub(super) request_budget: Duration,
}

impl RecipeErp {
    pub(super) fn judge(&self) -> Judge<'_> {
        Judge { recipe: &self.recipe, sources: &self.sources }
    }

    /// What every template can name before anything was asked.
    pub(super) fn vars(&self) -> Vars {
        let secrets = Value::from_pairs(self.secrets.iter().map(|(k, v)| (k.clone(), v.clone())));
        let mut vars = Vars::new();
        vars.insert("const".to_owned(), self.consts.clone());
        vars.insert("secret".to_owned(), secrets);
        vars
    }

    fn order_vars(&self, order: &OrderForErp) -> Result<Vars, Failure> {
        let mut vars = self.vars();
        vars.append(&mut order_vars(order)?);
        Ok(vars)
    }

    /// The same of an order that is about to be sent: the ERP gets all of it, or it is refused.
    fn carried_vars(&self, order: &OrderForErp) -> Result<Vars, Failure> {
        let (document, mut vars) = (document_of(order)?, self.vars());
        vars.append(&mut vars_of(order, document.clone())?);
        self.check_carried(&document, &vars)?;
        Ok(vars)
    }

    /// How long reads, or what follows the commit, may take together.
    fn patience(&self) -> Duration {
        LEAST_PATIENCE.max(self.request_budget)
    }

    /// The same for what follows the commit, with its jobs.
    fn patience_after(&self) -> Duration {
        let jobs = self.recipe.after.iter().filter_map(|step| step.poll.as_ref());
        jobs.fold(self.patience(), |sum, poll| sum.saturating_add(poll.lasts))
    }

    async fn in_time<T>(
        &self,
        what: &str,
        stage: Stage,
        patience: Duration,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
            let detail = format!("{what} took longer than {} s", patience.as_secs());
            Err(Failure::new(ErrorClass::Unavailable, "too_slow", &detail, stage))
        })
    }

    pub(super) fn is_skipped(&self, step: &Step, vars: &Vars) -> bool {
        step.unless.as_ref().is_some_and(|unless| self.judge().is_true(unless, vars))
    }

    async fn enter(&self, order: &OrderForErp, used: &mut Used) -> Result<Receipt, Failure> {
        let mut vars = self.carried_vars(order)?;
        let reads = self.read_all(order, &mut vars, used);
        self.in_time("lookups", Stage::Before, self.patience(), reads).await?;
        let receipt = self.commit(order, &vars).await?;
        self.follow_in_time(order, vars, receipt).await
    }

    async fn commit(&self, order: &OrderForErp, vars: &Vars) -> Result<Receipt, Failure> {
        let step = &self.recipe.commit;
        let reply = self.call(Some(order), step, Purpose::Commit, vars).await?;
        match reply.outcome {
            Outcome::Ok => {
                self.complete(step, Purpose::Commit, &reply, vars)?;
                Ok(self.receipt(step, &reply, false))
            }
            Outcome::Permanent | Outcome::Duplicate => {
                self.settle_refusal(order, vars, &reply).await
            }
            _ => Err(self.refused(step, Purpose::Commit, &reply)),
        }
    }

    /// A refusal is believed once the ERP says that it does not have the order.
    async fn settle_refusal(
        &self,
        order: &OrderForErp,
        vars: &Vars,
        reply: &Reply,
    ) -> Result<Receipt, Failure> {
        let refusal = self.refused(&self.recipe.commit, Purpose::Commit, reply);
        let answer = match &self.recipe.probe {
            Some(_) => Some(self.question(order, vars).await),
            None => None,
        };
        let is_duplicate = reply.outcome == Outcome::Duplicate;
        match answer {
            Some(ProbeAnswer::Found(receipt)) => Ok(receipt),
            Some(ProbeAnswer::Unclear(answer)) if !is_duplicate => {
                let detail = format!(
                    "refused ({}), and whether the ERP has it is unclear: {}",
                    refusal.message, answer.message
                );
                let class = ErrorClass::UnknownOutcome;
                Err(Failure {
                    class,
                    stage: Some(Stage::At),
                    message: one_line(&detail, 500),
                    ..refusal
                })
            }
            _ if is_duplicate => {
                let detail = format!("the ERP says that it has this order: {}", refusal.message);
                let class = ErrorClass::UnknownOutcome;
                let failure = Failure::new(class, "duplicate", &detail, Stage::At);
                Err(Failure { request: refusal.request, status: refusal.status, ..failure })
            }
            _ => Err(refusal),
        }
    }

    async fn question(&self, order: &OrderForErp, vars: &Vars) -> ProbeAnswer {
        let Some(probe) = &self.recipe.probe else {
            let detail = "the recipe has no probe: the ERP cannot be asked, a person has to decide";
            let class = ErrorClass::Unavailable;
            return ProbeAnswer::Unclear(Failure::new(class, "no_probe", detail, Stage::Before));
        };
        for question in &probe.tries {
            let (reply, said) = match self.ask_one(order, question, vars).await {
                Ok(answered) => answered,
                Err(failure) => return ProbeAnswer::Unclear(failure),
            };
            match said {
                Said::Found => {
                    return match self.complete(&question.step, Purpose::Probe, &reply, vars) {
                        Ok(()) => ProbeAnswer::Found(self.receipt(&question.step, &reply, true)),
                        Err(failure) => ProbeAnswer::Unclear(failure),
                    };
                }
                Said::Absent => {}
                Said::Other(_) => {
                    return ProbeAnswer::Unclear(self.refused(
                        &question.step,
                        Purpose::Probe,
                        &reply,
                    ));
                }
            }
        }
        ProbeAnswer::Absent
    }

    fn receipt(&self, step: &Step, reply: &Reply, found: bool) -> Receipt {
        let taken = self.judge().taken(step, &reply.read);
        let taken =
            taken.iter().map(|(name, value)| (name.clone(), values::to_json(value))).collect();
        Receipt {
            erp_order_id: number(&taken),
            request: reply.request.clone(),
            status: reply.read.status,
            found,
            taken,
        }
    }

    async fn follow_in_time(
        &self,
        order: &OrderForErp,
        vars: Vars,
        receipt: Receipt,
    ) -> Result<Receipt, Failure> {
        let follow = self.follow(order, vars, receipt);
        self.in_time("what follows the order", Stage::At, self.patience_after(), follow).await
    }

    /// What follows the commit. A step that stumbles is resumed at once: the order is there, so that
    /// there is nothing to wait for.
    async fn follow(
        &self,
        order: &OrderForErp,
        vars: Vars,
        receipt: Receipt,
    ) -> Result<Receipt, Failure> {
        let (watch, found) = (Stopwatch::start(), receipt.found);
        let mut receipt = receipt;
        let mut pause = FIRST_PAUSE;
        // Nothing but this very call can have created anything of it.
        let mut is_new = !found && !self.recipe.is_idempotent;
        loop {
            let once = self.follow_once(order, vars.clone(), receipt.clone(), is_new).await;
            is_new = false;
            let failure = match once {
                Ok(receipt) => return Ok(Receipt { found, ..receipt }),
                Err(failure) => failure,
            };
            let has_time = watch.elapsed() + pause < self.patience_after() / 2;
            if failure.class != ErrorClass::Unavailable || pause > LONGEST_PAUSE || !has_time {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            // How far it is: nothing is done twice.
            if let ProbeAnswer::Found(now) = self.question(order, &vars).await {
                receipt = now;
            }
        }
    }

    async fn follow_once(
        &self,
        order: &OrderForErp,
        mut vars: Vars,
        mut receipt: Receipt,
        is_new: bool,
    ) -> Result<Receipt, Failure> {
        vars.insert("result".to_owned(), result_value(&receipt.taken));
        self.compare_total(order, None, &vars, &receipt).await?;
        for step in &self.recipe.after {
            if !self.is_skipped(step, &vars) {
                let requests =
                    self.follow_step(order, step, &mut vars, &mut receipt, is_new).await?;
                if let Some(reached) = &step.reached
                    && !self.judge().is_true(reached, &vars)
                {
                    let failure = not_reached(step, &receipt);
                    return Err(Failure { request: requests.last().cloned(), ..failure });
                }
            }
            self.compare_total(order, Some(step), &vars, &receipt).await?;
        }
        Ok(receipt)
    }

    /// One step, or one for each item; its requests.
    async fn follow_step(
        &self,
        order: &OrderForErp,
        step: &Step,
        vars: &mut Vars,
        receipt: &mut Receipt,
        is_new: bool,
    ) -> Result<Vec<String>, Failure> {
        let failed = |receipt: &Receipt, failure| unfinished(step, receipt, failure);
        let items = match &step.each {
            Some(each) => {
                let items = self.list(each, vars).map_err(|failure| failed(receipt, failure))?;
                items.into_iter().map(Some).collect()
            }
            None => vec![None],
        };
        let mut requests = Vec::new();
        for item in items {
            vars.extend(item.map(|item| ("item".to_owned(), item)));
            let done = match &step.there {
                Some(there) => self.create(order, step, there, vars, is_new).await,
                None => self.repeat(order, step, vars).await,
            };
            let Done { request, taken } = done.map_err(|failure| failed(receipt, failure))?;
            receipt
                .taken
                .extend(taken.iter().map(|(name, value)| (name.clone(), values::to_json(value))));
            requests.push(request);
        }
        vars.remove("item");
        receipt.erp_order_id = number(&receipt.taken);
        vars.insert("result".to_owned(), result_value(&receipt.taken));
        Ok(requests)
    }

    /// A step that may be repeated.
    async fn repeat(&self, order: &OrderForErp, step: &Step, vars: &Vars) -> Result<Done, Failure> {
        let reply = self.call(Some(order), step, Purpose::Follow, vars).await?;
        match reply.outcome {
            Outcome::Ok | Outcome::Duplicate => {
                self.complete(step, Purpose::Follow, &reply, vars)?;
                Ok(self.done(step, reply))
            }
            _ => Err(self.refused(step, Purpose::Follow, &reply)),
        }
    }

    pub(super) fn done(&self, step: &Step, reply: Reply) -> Done {
        Done { taken: self.judge().taken(step, &reply.read), request: reply.request }
    }

    /// Fails if a good answer has not all that the step needs.
    pub(super) fn complete(
        &self,
        step: &Step,
        purpose: Purpose,
        reply: &Reply,
        vars: &Vars,
    ) -> Result<(), Failure> {
        let checked = self.check_needs(step, purpose, &reply.read, vars);
        checked.map_err(|failure| Failure { request: Some(reply.request.clone()), ..failure })
    }

    /// What the reads before the commit found, for an order that is resumed: nothing.
    fn nothing_read(&self, vars: &mut Vars) {
        for step in &self.recipe.before {
            vars.insert(step.name.clone(), Skipped::value(&step.name));
        }
    }

    pub(super) fn refused(&self, step: &Step, purpose: Purpose, reply: &Reply) -> Failure {
        let mut failure = self.judge().failure(purpose, reply.outcome, &reply.read);
        failure.message = self.mask.hide_in(&failure.message);
        if purpose == Purpose::Read && failure.class != ErrorClass::Unauthorized {
            failure.message = one_line(&format!("{}: {}", step.name, failure.message), 500);
        }
        failure.request = Some(reply.request.clone());
        failure
    }
}

/// The order is there, but a step after the commit failed: the next attempt continues there.
pub(super) fn unfinished(step: &Step, receipt: &Receipt, failure: Failure) -> Failure {
    let number = receipt.erp_order_id.as_deref().unwrap_or("?");
    let text = format!("in the ERP as {number}, but {} failed: {}", step.name, failure.message);
    Failure { message: one_line(&text, 500), stage: Some(Stage::At), ..failure }
}

/// A step went well, and the order is not as it is to be.
fn not_reached(step: &Step, receipt: &Receipt) -> Failure {
    let state = receipt.taken.get("state").map_or_else(|| "unknown".to_owned(), Json::to_string);
    let detail = format!("its state is {state}");
    let failure = Failure::new(ErrorClass::Unavailable, "not_reached", &detail, Stage::At);
    unfinished(step, receipt, failure)
}

/// `number`, else `id`, of what was taken.
fn number(taken: &Map<String, Json>) -> Option<String> {
    let text = ["number", "id"].into_iter().find_map(|name| match taken.get(name)? {
        Json::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Json::Number(number) if number.as_i64() != Some(0) => Some(number.to_string()),
        _ => None,
    })?;
    let text = one_line(&text, MAX_NUMBER);
    (!text.is_empty()).then_some(text)
}

#[async_trait]
impl Erp for RecipeErp {
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure> {
        let mut used = Used::new();
        let entered = self.enter(order, &mut used).await;
        // What was kept may be what the ERP objects to: the next attempt looks afresh.
        if entered.as_ref().is_err_and(|failure| failure.class != ErrorClass::Unavailable) {
            self.answers.forget(&used);
        }
        entered
    }

    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer {
        match self.order_vars(order) {
            Ok(vars) => self.question(order, &vars).await,
            Err(failure) => ProbeAnswer::Unclear(failure),
        }
    }

    async fn finish(&self, order: &OrderForErp, receipt: Receipt) -> Result<Receipt, Failure> {
        let mut vars = self.order_vars(order)?;
        self.nothing_read(&mut vars);
        self.follow_in_time(order, vars, receipt).await
    }

    async fn check_master_data(&self) -> Vec<MasterDataCheck> {
        self.check_all().await
    }

    fn rehearse(&self, order: &OrderForErp) -> Result<Vec<Exchange>, Failure> {
        let known = self.carried_vars(order)?;
        let mut vars = known.clone();
        for name in ["session", "result", "item", "job"] {
            vars.insert(name.to_owned(), Placeholder::value(name));
        }
        // What the order alone decides; what replies will say is not known here.
        let is_skipped =
            |step: &Step, vars: &Vars| self.is_skipped(step, &known) && self.is_skipped(step, vars);
        for step in &self.recipe.before {
            let value = match is_skipped(step, &vars) {
                true => Skipped::value(&step.name),
                false => Placeholder::value(&step.name),
            };
            vars.insert(step.name.clone(), value);
        }
        let hidden = self.hidden_headers();
        let noted = |step: &Step| {
            let request = build(&self.recipe, &self.base, step, &vars)?;
            let is_probe = step.name == "probe";
            let hidden = if step.name == "login" { &[][..] } else { &hidden[..] };
            Ok(request.noted(&step.name, is_probe, &self.mask, hidden))
        };
        self.recipe.steps().filter(|step| !is_skipped(step, &vars)).map(noted).collect()
    }

    fn why_totals_are_not_compared(&self) -> Option<String> {
        match &self.recipe.total {
            Totals::Compared(_) => None,
            Totals::Never(why) => Some(why.value.clone()),
            Totals::Unsaid => Some("the recipe has no [total]".to_owned()),
        }
    }

    fn has_steps_before(&self) -> bool {
        !self.recipe.before.is_empty() || self.can_log_in()
    }

    fn can_ask(&self) -> bool {
        self.recipe.probe.is_some()
    }

    fn is_idempotent(&self) -> bool {
        self.recipe.is_idempotent
    }

    /// `order.reference` names the shop.
    fn tells_shops_apart(&self) -> bool {
        true
    }

    fn call_budget(&self) -> Duration {
        let questions = self.recipe.probe.as_ref().map_or(0, |probe| probe.tries.len());
        let questions = u32::try_from(questions).unwrap_or(u32::MAX);
        let job = self.recipe.commit.poll.as_ref().map_or(Duration::ZERO, |poll| poll.lasts);
        // Reads, the commit with a login in the middle of it, its job with one last question, a question about
        // nobody, one round of questions, what follows.
        let requests = self.request_budget.saturating_mul(questions.saturating_add(5));
        self.patience() + job + requests + self.patience_after()
    }
}

//! What is read before the commit: one value, one per item, or rows by their key.

use std::collections::BTreeMap;

use minijinja::value::Value;
use minijinja::{Error, ErrorKind};

use crate::domain::exact::{digits, exact};
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::text::quoted;
use crate::ports::erp::OrderForErp;

use super::answers::{Question, Used};
use super::blame::{Blame, told};
use super::engine::RecipeErp;
use super::judge::Purpose;
use super::model::{Expr, Index, Outcome, Step};
use super::reply::Read;
use super::request::{build, render};
use super::source::Source;
use super::toml_text::RecipeFault;
use super::values::{self, Skipped};
use crate::adapters::erp::recipe::answer::Reply;
use crate::adapters::erp::recipe::lookups::{first_of, vars_with};
use crate::adapters::erp::recipe::values::Vars;

/// Most requests of one `each` step, and most keys that are required.
const MAX_EACH: usize = 10_000;

impl RecipeErp {
    /// Makes every read and adds what it found to `vars`.
    pub(super) async fn read_all(
        &self,
        order: &OrderForErp,
        vars: &mut Vars,
        used: &mut Used,
    ) -> Result<(), Failure> {
        for step in &self.recipe.before {
            if self.is_skipped(step, vars) {
                vars.insert(step.name.clone(), Skipped::value(&step.name));
                continue;
            }
            let value = match &step.each {
                Some(each) => self.read_each(order, step, each, vars, used).await?,
                None => self.read_one(order, step, vars, used).await?,
            };
            vars.insert(step.name.clone(), value);
        }
        Ok(())
    }

    async fn read_one(
        &self,
        order: &OrderForErp,
        step: &Step,
        vars: &Vars,
        used: &mut Used,
    ) -> Result<Value, Failure> {
        let Some(cache) = &step.cache else {
            let reply = self.call(Some(order), step, Purpose::Read, vars).await?;
            return self.value_of(step, &reply, vars);
        };
        let question = self.question_of(order, step, vars).await?;
        used.push(question);
        let kept = self.answers.get(&question, cache.value, self.clock.now());
        if let Some(reply) = kept {
            // It satisfied another order; whether it does this one shows only now.
            let outcome = self.judge().outcome(step, Purpose::Read, &reply.read, vars);
            if let Ok(value) = self.value_of(step, &Reply { outcome, ..reply }, vars) {
                return Ok(value);
            }
        }
        let asked_at = self.clock.now();
        let reply = self.call(Some(order), step, Purpose::Read, vars).await?;
        let value = self.value_of(step, &reply, vars)?;
        if has_all(step, &value) {
            self.answers.keep(question, reply, asked_at);
        }
        Ok(value)
    }

    /// What `step` asks, with all that its answer may depend on.
    async fn question_of(
        &self,
        order: &OrderForErp,
        step: &Step,
        vars: &Vars,
    ) -> Result<Question, Failure> {
        let mut vars = vars.clone();
        let session = self.session(Some(order), None).await?.session;
        vars.insert("session".to_owned(), session.values.clone());
        Ok(build(&self.recipe, &self.base, step, &vars)?.digest())
    }

    /// What is found in a reply, if the order can go on with it.
    fn value_of(&self, step: &Step, reply: &Reply, vars: &Vars) -> Result<Value, Failure> {
        if reply.outcome != Outcome::Ok {
            return Err(self.refused(step, Purpose::Read, reply));
        }
        let mut taken: BTreeMap<String, Value> =
            self.judge().taken(step, &reply.read).into_iter().collect();
        self.check_needs(step, Purpose::Read, &reply.read, vars)?;
        self.check_refusals(step, reply, vars)?;
        if let Some(index) = &step.index {
            taken.insert("row".to_owned(), self.rows(step, index, reply, vars)?);
        }
        Ok(Value::from(taken))
    }

    /// Fails if the recipe refuses the order for what was read.
    fn check_refusals(&self, step: &Step, reply: &Reply, vars: &Vars) -> Result<(), Failure> {
        if step.refuse.is_empty() {
            return Ok(());
        }
        let over_reply = vars_with(&reply.read, &self.sources, vars);
        for (when, text) in &step.refuse {
            if self.judge().is_true(when, &over_reply) {
                let text = render(&self.recipe, text, vars)?;
                let refused = Failure::new(ErrorClass::Rejected, "refused", &text, Stage::Before);
                return Err(Failure { request: Some(reply.request.clone()), ..refused });
            }
        }
        Ok(())
    }

    async fn read_each(
        &self,
        order: &OrderForErp,
        step: &Step,
        each: &Expr,
        vars: &Vars,
        used: &mut Used,
    ) -> Result<Value, Failure> {
        let items = self.list(each, vars)?;
        let (mut all, mut rows) = (Vec::with_capacity(items.len()), BTreeMap::new());
        let mut vars = vars.clone();
        for item in items {
            vars.insert("item".to_owned(), item.clone());
            let value = self.read_one(order, step, &vars, used).await?;
            rows.insert(item.to_string(), value.clone());
            all.push(value);
        }
        Ok(Value::from_pairs([("each", Value::from(all)), ("row", Value::from(rows))]))
    }

    /// The items of a list expression.
    pub(super) fn list(&self, expr: &Expr, vars: &Vars) -> Result<Vec<Value>, Failure> {
        let recipe = &self.recipe;
        let wrong = |fault: &RecipeFault| {
            let detail = told(recipe, fault);
            Failure::new(ErrorClass::Internal, "template", &detail, Stage::Before)
        };
        let blame = Blame { recipe, vars };
        let value = recipe.templates.eval(&expr.value, vars);
        let value = value.map_err(|error| wrong(&blame.expression(expr, &error)))?;
        let items = match values::is_missing(&value) {
            true => Err(Error::new(ErrorKind::UndefinedError, expr.value.clone())),
            false => value.try_iter(),
        };
        let items = items.map_err(|error| match error.kind() {
            ErrorKind::UndefinedError => wrong(&blame.expression(expr, &error)),
            _ => wrong(&expr.fault(format!("`{}` is no list", expr.value))),
        })?;
        let items: Vec<Value> = items.take(MAX_EACH + 1).collect();
        if items.len() > MAX_EACH {
            let detail = format!("`{}` has more than {MAX_EACH} items", expr.value);
            return Err(wrong(&expr.fault(detail)));
        }
        Ok(items)
    }

    /// Rows by their key. A key that is required and missing, or there twice, names itself.
    fn rows(
        &self,
        step: &Step,
        index: &Index,
        reply: &Reply,
        vars: &Vars,
    ) -> Result<Value, Failure> {
        let rows = index.rows.find(&reply.read).unwrap_or(Value::UNDEFINED);
        let mut found: BTreeMap<String, Value> = BTreeMap::new();
        let mut twice = Vec::new();
        for row in rows.try_iter().into_iter().flatten() {
            let Some(key) = key_of(&index.key, &row) else { continue };
            match found.contains_key(&key) {
                true => twice.push(key),
                false => drop(found.insert(key, row)),
            }
        }
        let required = match &index.require {
            Some(require) => self.list(require, vars)?,
            None => Vec::new(),
        };
        for key in required {
            let key = key.to_string();
            let problem = match found.contains_key(&key) {
                false => "is unknown to the ERP",
                true if twice.contains(&key) && !index.takes_first => {
                    "is more than once in the ERP"
                }
                true => continue,
            };
            let text = format!("{} {} {problem}", step.name, quoted(&key, 100).replace('`', "'"));
            return Err(Failure::new(ErrorClass::Rejected, "unknown_to_erp", &text, Stage::Before));
        }
        Ok(Value::from(found))
    }
}

/// Whether everything was found: what is not there yet may be there a moment later.
fn has_all(step: &Step, value: &Value) -> bool {
    let is_there = |name: &str| value.get_attr(name).is_ok_and(|value| !values::is_missing(&value));
    let rows = value.get_attr("row").ok().and_then(|rows| rows.len()).unwrap_or_default();
    step.take.iter().all(|(name, _)| is_there(name)) && (step.index.is_none() || rows > 0)
}

fn key_of(key: &Source, row: &Value) -> Option<String> {
    let row = Read::of_json(values::to_json(row));
    let value = first_of(std::slice::from_ref(key), &row)?;
    let text = value.to_string();
    // A number is one key, however many digits it is written with.
    let number = values::is_number(&value).then(|| exact(&text)).flatten();
    Some(number.map_or(text, |number| digits(&number.normalized())))
}

//! Comparing the ERP's total with what was paid, before the order is confirmed there where that can be.

use bigdecimal::{BigDecimal, Zero};
use minijinja::value::Value;

use crate::domain::exact::{digits, exact};
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::domain::total::{Amount, LineDifference, TotalDifference};
use crate::ports::erp::{OrderForErp, Receipt};

use super::answer::Reply;
use super::engine::{RecipeErp, unfinished};
use super::judge::Purpose;
use super::lookups::vars_with;
use super::model::{Outcome, Step, TotalLines, TotalRule, Totals};
use super::values::{self, Vars};

/// What was paid, unless the recipe says otherwise.
const PAID: &str = "order.total";
const CURRENCY: &str = "order.currency";
/// What was paid for a line, unless the recipe says otherwise.
const LINE_PAID: &str = "line.total";

impl RecipeErp {
    /// Fails if the ERP has another sum than what was paid, or than what a person has accepted. Does nothing unless
    /// the recipe compares behind `step` (none: before the first).
    pub(super) async fn compare_total(
        &self,
        order: &OrderForErp,
        step: Option<&Step>,
        vars: &Vars,
        receipt: &Receipt,
    ) -> Result<(), Failure> {
        let Totals::Compared(rule) = &self.recipe.total else { return Ok(()) };
        if rule.after.as_ref().map(|name| &name.value) != step.map(|step| &step.name) {
            return Ok(());
        }
        let (found, request) = self.read_total(order, rule, vars, receipt).await?;
        let paid = Amount {
            amount: self.text_of(rule.paid.as_ref().map_or(PAID, |paid| &paid.value), vars)?,
            currency: self.text_of(CURRENCY, vars).ok(),
        };
        let tolerance = match &rule.tolerance {
            Some(tolerance) => exact(&self.text_of(&tolerance.value, vars)?),
            None => Some(BigDecimal::zero()),
        };
        let Some(tolerance) = tolerance else {
            return Err(unread(receipt, "total.tolerance is not a number"));
        };
        match found.is_right(&paid, order.accepted.as_ref(), &tolerance) {
            Some(true) => return Ok(()),
            Some(false) => {}
            None => {
                let detail = format!("`{}` and `{}` cannot be compared", paid.amount, found.amount);
                return Err(unread(receipt, &detail));
            }
        }
        let lines = match &rule.lines {
            // Only an explanation: the sums differ with or without it.
            Some(lines) => self.differing_lines(order, lines, vars).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let erp_order_id = receipt.erp_order_id.clone();
        let difference = TotalDifference { paid, found, erp_order_id, lines };
        Err(Failure { request, ..Failure::total_differs(difference.cleaned()) })
    }

    async fn read_total(
        &self,
        order: &OrderForErp,
        rule: &TotalRule,
        vars: &Vars,
        receipt: &Receipt,
    ) -> Result<(Amount, Option<String>), Failure> {
        let (vars, request) = match &rule.step {
            Some(step) => {
                let reply = self.read_back(order, step, vars).await;
                let reply = reply.map_err(|failure| unfinished(step, receipt, failure))?;
                (vars_with(&reply.read, &self.sources, vars), Some(reply.request))
            }
            None => (vars.clone(), None),
        };
        let amount = self.text_of(&rule.amount.value, &vars);
        let amount = amount.map_err(|failure| unread(receipt, &failure.message))?;
        let currency = match &rule.currency {
            Some(currency) => {
                let currency = self.text_of(&currency.value, &vars);
                Some(currency.map_err(|failure| unread(receipt, &failure.message))?)
            }
            None => None,
        };
        Ok((Amount { amount, currency }, request))
    }

    async fn read_back(
        &self,
        order: &OrderForErp,
        step: &Step,
        vars: &Vars,
    ) -> Result<Reply, Failure> {
        let reply = self.call(Some(order), step, Purpose::Follow, vars).await?;
        match reply.outcome {
            Outcome::Ok => Ok(reply),
            _ => Err(self.refused(step, Purpose::Follow, &reply)),
        }
    }

    /// The lines of the ERP beside those of the order, by their place; those that are equal are left out.
    async fn differing_lines(
        &self,
        order: &OrderForErp,
        rule: &TotalLines,
        vars: &Vars,
    ) -> Result<Vec<LineDifference>, Failure> {
        let reply = self.read_back(order, &rule.step, vars).await?;
        let there = rule.rows.find(&reply.read).unwrap_or(Value::UNDEFINED);
        let there: Vec<Value> = there.try_iter().into_iter().flatten().collect();
        let paid = vars.get("order").and_then(|order| order.get_attr("lines").ok());
        let paid: Vec<Value> =
            paid.and_then(|lines| lines.try_iter().ok()).into_iter().flatten().collect();
        let mut lines = Vec::new();
        let mut vars = vars.clone();
        for at in 0..there.len().max(paid.len()) {
            let mut of = |name: &str, item: Option<&Value>, expr: &str| {
                vars.insert(name.to_owned(), item?.clone());
                self.text_of(expr, &vars).ok()
            };
            let line = paid.get(at);
            let sum = of("line", line, rule.paid.as_ref().map_or(LINE_PAID, |paid| &paid.value));
            let sku = of("line", line, "line.sku");
            let found = of("row", there.get(at), &rule.amount.value);
            let named = rule.name.as_ref().and_then(|name| of("row", there.get(at), &name.value));
            let is_equal = match (sum.as_deref().map(exact), found.as_deref().map(exact)) {
                (Some(Some(sum)), Some(Some(found))) => sum == found,
                _ => false,
            };
            if !is_equal {
                let name = sku.or(named).unwrap_or_default();
                let name = format!("line {} {name}", at + 1).trim_end().to_owned();
                lines.push(LineDifference { name, paid: sum, found });
            }
        }
        Ok(lines)
    }

    /// What an expression gives, as a text; a number with its digits.
    fn text_of(&self, expr: &str, vars: &Vars) -> Result<String, Failure> {
        let wrong = |detail: &str| {
            let detail = format!("`{expr}`: {detail}");
            Failure::new(ErrorClass::Unavailable, "total_unread", &detail, Stage::At)
        };
        let value = self.recipe.templates.eval(expr, vars);
        let value = value.map_err(|error| wrong(&super::compile::template_error(&error)))?;
        let is_told = !values::is_missing(&value) && !value.is_none();
        let text = value.to_string();
        match is_told && !text.trim().is_empty() {
            true => Ok(exact(text.trim()).map_or(text, |number| digits(&number))),
            false => Err(wrong("is not in the reply")),
        }
    }
}

/// The ERP has the order, and its total could not be read: the next attempt asks again.
fn unread(receipt: &Receipt, detail: &str) -> Failure {
    let number = receipt.erp_order_id.as_deref().unwrap_or("?");
    let text = format!("in the ERP as {number}, but its total could not be read: {detail}");
    Failure::new(ErrorClass::Unavailable, "total_unread", &text, Stage::At)
}

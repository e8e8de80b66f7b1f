//! What can be checked in a recipe before the first order: every template renders a full order and one
//! without any optional field, JSON is JSON, expressions name only what is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::value::Value;
use regex::Regex;
use reqwest::Url;

use crate::domain::order::values::OrderKey;
use crate::domain::trace::Trace;
use crate::ports::erp::{CommitPermit, Journal, OrderForErp};

use super::blame::Blame;
use super::compile::template_fault;
use super::judge::without_secrets;
use super::model::{AuthKind, Expr, Recipe, Rule, Step, Template, TotalRule, Totals};
use super::order_vars::order_vars;
use super::reply::Read;
use super::request::try_build;
use super::toml_text::{At, RecipeFault};
use super::values::{Placeholder, Skipped};
use crate::adapters::erp::recipe::lookups::{SourceCache, vars_with};
use crate::adapters::erp::recipe::values::Vars;

/// An order with everything that an order can have, awkward characters included.
pub const SAMPLE: &str = r#"{
  "order_id": "100042", "shop": "default", "state": "payed", "placed_at": "2026-11-22T10:00:00Z",
  "currency": "EUR", "total": "129.90", "remark": "please ring twice",
  "customer": {"number": "C-1001", "name": "O'Neil & Söhne \"Nord\" <x>", "email": "erika@example.com", "locale": "de", "company": "Nord GmbH", "vat_id": "DE123456789", "phone": "030 1"},
  "lines": [
    {"sku": "SKU-100", "name": "Lamp '\"&<>ü🙂", "description": "Lamp", "quantity": "2", "unit_price": "49.95", "tax_rate": "19", "unit": "pcs"},
    {"sku": "SKU-200", "name": "Bulb", "quantity": 3, "unit_price": 10.00, "tax_rate": 19, "discount": "2.00", "remark": "blue"}
  ],
  "prices": "gross", "delivery_date": "2026-11-30", "references": {"marketplace": "302-1"},
  "discounts": [{"name": "Welcome", "code": "W5", "amount": "5.00", "tax_rate": "19"}],
  "surcharges": [{"name": "Express", "amount": "2.00", "tax_rate": "19"}],
  "payments": [{"method": "card", "reference": "P-1", "amount": "100.00"}, {"method": "gift_card", "reference": "G-7", "amount": "29.80"}],
  "invoice_address": {"name": "Erika Muster", "company": "", "street": "Hauptstr. 1", "street2": "", "zip": "10115", "city": "Berlin", "country": "DE", "phone": ""},
  "delivery_address": {"name": "Max Muster", "company": "", "street": "Nebenstr. 2", "street2": "", "zip": "10115", "city": "Berlin", "country": "DE", "phone": ""},
  "payment": {"method": "invoice", "reference": "P-1"}, "shipping": {"method": "standard", "price": "4.90", "tax_rate": "19"}
}"#;

/// An order with nothing but what every order has (docs/orders.md).
pub const MINIMAL: &str = r#"{
  "order_id": "100042", "currency": "EUR", "total": "49.95",
  "lines": [{"sku": "SKU-100", "quantity": "1", "unit_price": "49.95"}]
}"#;

/// The sample under the number `order_id`.
pub fn sample_order(order_id: &str) -> OrderForErp {
    order_of(SAMPLE, order_id)
}

fn order_of(document: &str, order_id: &str) -> OrderForErp {
    OrderForErp {
        key: OrderKey::new("default", order_id).expect("it is a number that an order can have"),
        document: Arc::from(document),
        received_at: jiff::Timestamp::UNIX_EPOCH,
        trace: Trace::default(),
        journal: Journal::default(),
        permit: CommitPermit::default(),
        accepted: None,
        settled_from: None,
    }
}

/// Every fault that can be found without the ERP.
pub fn faults(recipe: &Recipe) -> Vec<RecipeFault> {
    let mut check = Check::new(recipe, SAMPLE);
    check.names();
    check.reads();
    check.creating();
    check.secrets_for_auth();
    check.render_all();
    check.render_auth();
    check.expressions();
    let mut faults = check.faults;
    if faults.is_empty() {
        let mut check = Check::new(recipe, MINIMAL);
        check.render_all();
        let in_minimal = |fault: RecipeFault| RecipeFault {
            detail: format!("for an order without optional fields: {}", fault.detail),
            ..fault
        };
        faults.extend(check.faults.into_iter().map(in_minimal));
    }
    faults.sort();
    faults.dedup();
    faults
}

/// Fields of an order that not every order has and that the recipe needs, one sentence each.
fn needed_fields(recipe: &Recipe) -> Vec<String> {
    let mut check = Check::new(recipe, MINIMAL);
    check.render_all();
    let told = |(field, at): (String, RecipeFault)| {
        let RecipeFault { line, key, .. } = at;
        format!(
            "an order without `{field}` cannot be sent, and is parked: {key} line {line} needs it"
        )
    };
    check.needed.into_iter().map(told).collect()
}

/// A value of the order in the path of a request: one with a slash becomes %2F there, and not every proxy leaves
/// that as it is.
fn slash_in_path(recipe: &Recipe, step: &Step) -> Option<String> {
    // `ident`, `uuid` and numbers have no slash.
    let value = Regex::new(r"\{\{[^}]*?\b((?:order|document|item)\b[\w.]*)[^}]*\}\}").ok()?;
    let safe =
        Regex::new(r"\|\s*(?:ident|uuid|num|b64url|year|month|day|epoch|epoch_ms)\b").ok()?;
    let path = recipe.templates.source(&step.path.value);
    let path = path.split('?').next()?;
    let found = value.captures_iter(path).find(|found| !safe.is_match(&found[0]))?;
    Some(format!(
        "{} line {} has `{}` in its path: some proxies decode the %2F of a value with a slash, so such an order is not \
         found; ask with `query` where the ERP can",
        step.path.key, step.path.line, &found[1]
    ))
}

/// What is not wrong, and should be known.
pub fn remarks(recipe: &Recipe) -> Vec<String> {
    let mut remarks = Vec::new();
    match (&recipe.probe, recipe.is_idempotent) {
        (None, false) => remarks.push(
            "no [probe]: the ERP cannot be asked about an order whose answer got lost; each one \
             waits as outcome_unknown until a person decides (`reconcile ID --absent`, or \
             `lost-orders remove`)"
                .to_owned(),
        ),
        (None, true) => remarks.push(
            "no [probe], but the commit is idempotent: an order whose answer got lost is sent \
             again"
                .to_owned(),
        ),
        (Some(probe), _) if probe.settle.is_none() => {
            remarks
                .push("probe.settle is not set: erp.settle applies to unclear orders".to_owned());
        }
        _ => {}
    }
    if let (Some(poll), Some(settle)) =
        (&recipe.commit.poll, recipe.probe.as_ref().and_then(|probe| probe.settle))
        && settle <= poll.lasts
    {
        remarks.push(format!(
            "probe.settle ({settle:?}) is not longer than commit.poll.for ({:?}): a job that waits longer could make the \
             order after it was sent again",
            poll.lasts
        ));
    }
    if recipe.error.is_empty() {
        remarks.push(
            "no `error`: without the ERP's own words no reply counts as a refusal".to_owned(),
        );
    }
    match &recipe.total {
        Totals::Compared(_) => {}
        Totals::Never(why) => remarks.push(format!(
            "the ERP's total is never compared with what was paid: {}",
            why.value
        )),
        Totals::Unsaid => remarks.push(
            "no [total]: the ERP's total is not compared with what was paid, and an order with another sum is not noticed"
                .to_owned(),
        ),
    }
    match &recipe.carries {
        None => remarks.push(
            "no `carries`: a part of an order that has no place in the ERP is dropped without a word".to_owned(),
        ),
        Some(carries) if !carries.drops.is_empty() => {
            let names: Vec<&str> = carries.drops.iter().map(|content| content.as_str()).collect();
            remarks.push(format!("it does not bring to the ERP: {}", names.join(", ")));
        }
        Some(_) => {}
    }
    remarks.extend(recipe.steps().filter_map(|step| slash_in_path(recipe, step)));
    remarks.extend(needed_fields(recipe));
    remarks
}

/// Renders one sample order.
struct Check<'a> {
    recipe: &'a Recipe,
    sample: &'static str,
    faults: Vec<RecipeFault>,
    /// Optional fields of an order that a template needs, each with the first place.
    needed: BTreeMap<String, RecipeFault>,
}

impl<'a> Check<'a> {
    fn new(recipe: &'a Recipe, sample: &'static str) -> Self {
        Self { recipe, sample, faults: Vec::new(), needed: BTreeMap::new() }
    }

    /// No two steps have the same name.
    fn names(&mut self) {
        let mut seen = Vec::new();
        for step in self.recipe.before.iter().chain(&self.recipe.after) {
            if seen.contains(&&step.name) {
                let detail = format!("another step is called `{}` already", step.name);
                self.faults.push(step.path.fault(detail));
            }
            seen.push(&step.name);
        }
    }

    /// What a step that creates something needs to be resumed, and where it can be.
    fn creating(&mut self) {
        let recipe = self.recipe;
        let last = recipe.after.iter().rposition(|step| step.there.is_some());
        for step in recipe.steps() {
            let Some(there) = &step.there else { continue };
            if !recipe.after.iter().any(|own| std::ptr::eq(own, step)) {
                let fault =
                    "only a step of [[after]] can have `there`; the order itself has [probe]";
                self.faults.push(there.found.fault(fault));
            } else if recipe.probe.is_none() {
                let fault =
                    "needs [probe]: without it an order that stopped here is not found again";
                self.faults.push(there.found.fault(fault));
            }
        }
        for step in recipe.after.iter().filter(|step| step.each.is_some() && !step.take.is_empty())
        {
            let each = step.each.iter();
            let fault = "the values that such a step takes would replace each other: remove `take`";
            self.faults.extend(each.map(|each| each.fault(fault)));
        }
        if let (Totals::Compared(rule), Some(last)) = (&recipe.total, last) {
            let behind = rule
                .after
                .as_ref()
                .and_then(|name| recipe.after.iter().position(|step| step.name == name.value));
            if behind.is_none_or(|behind| behind < last) {
                let step = &recipe.after[last].name;
                let fault =
                    format!("is compared before the order is whole: set total.after = \"{step}\"");
                self.faults.push(rule.amount.fault(fault));
            }
        }
    }

    /// Only reads before the commit can refuse an order, or keep their answer.
    fn reads(&mut self) {
        let recipe = self.recipe;
        let is_read = |step: &&Step| recipe.before.iter().any(|own| std::ptr::eq(own, *step));
        let checks = recipe.checks.iter().map(|check| &check.step);
        for step in recipe.steps().chain(checks).filter(|step| !is_read(step)) {
            let refuse = step.refuse.iter().map(|(when, _)| when);
            let fault = |when: &Expr| when.fault("only a step of [[before]] can refuse an order");
            self.faults.extend(refuse.map(fault));
            let kept = step.cache.iter();
            self.faults.extend(kept.map(|at| at.fault("only a step of [[before]] can be cached")));
        }
        let waits = |step: &&Step| {
            std::ptr::eq(*step, &recipe.commit)
                || recipe.after.iter().any(|own| std::ptr::eq(own, *step))
        };
        let checks = recipe.checks.iter().map(|check| &check.step);
        for poll in
            recipe.steps().chain(checks).filter(|step| !waits(step)).filter_map(|s| s.poll.as_ref())
        {
            let fault = "only [commit] and a step of [[after]] can wait for a job";
            self.faults.push(poll.done.fault(fault));
        }
        for step in recipe.before.iter().filter(|step| step.take.is_empty() && step.index.is_none())
        {
            let nothing = "a step without `take` and `index` finds nothing that could be kept";
            self.faults.extend(step.cache.iter().map(|at| at.fault(nothing)));
        }
    }

    fn secrets_for_auth(&mut self) {
        let needed: &[&str] = match &self.recipe.auth.kind {
            AuthKind::Attach => &[],
            AuthKind::Basic => &["user", "password"],
            AuthKind::OAuth2(oauth2) if oauth2.is_refresh => &["client_id", "refresh_token"],
            AuthKind::OAuth2(oauth2) if oauth2.jwt.is_some() => &["client_id"],
            AuthKind::OAuth2(_) => &["client_id", "client_secret"],
        };
        for name in needed {
            if !self.recipe.secrets.contains_key(*name) {
                let detail = format!("missing: auth.kind needs secret.{name}");
                let key = format!("secret.{name}");
                self.faults.push(RecipeFault { line: 1, key, detail });
            }
        }
    }

    /// What a step can name: a resumed order has nothing of what was read before the commit.
    fn vars(&self, step: &Step) -> Vars {
        let recipe = self.recipe;
        let asks_whether =
            |own: &&Step| own.there.as_ref().is_some_and(|there| std::ptr::eq(&there.step, step));
        if let Some(creating) = recipe.steps().find(asks_whether) {
            return self.vars(creating);
        }
        let asks_for =
            |own: &&Step| own.poll.as_ref().is_some_and(|poll| std::ptr::eq(&poll.step, step));
        if let Some(asking) = recipe.steps().find(asks_for) {
            let mut vars = self.vars(asking);
            let names = asking.poll.iter().flat_map(|poll| &poll.job);
            let names = names.map(|(name, _)| name.as_str()).collect();
            vars.insert("job".to_owned(), self.placeholders("job", names));
            return vars;
        }
        let is = |steps: &[Step]| steps.iter().any(|own| std::ptr::eq(own, step));
        let mut vars = order_vars(&order_of(self.sample, "100042")).unwrap_or_default();
        vars.insert("const".to_owned(), Value::from(recipe.consts.clone()));
        let secrets = recipe.secrets.keys().map(|name| (name.clone(), format!("«{name}»")));
        vars.insert("secret".to_owned(), Value::from_pairs(secrets));
        let is_login = recipe.auth.login.as_ref().is_some_and(|login| std::ptr::eq(login, step));
        let is_check = recipe.checks.iter().any(|check| std::ptr::eq(&check.step, step));
        if is_login || is_check {
            vars.remove("order");
            vars.remove("document");
        }
        if is_login {
            return vars;
        }
        vars.insert("session".to_owned(), self.placeholders("session", self.session_names()));
        let is_total = recipe.total_steps().any(|own| std::ptr::eq(own, step));
        if is(&recipe.after) || is_total {
            vars.insert("result".to_owned(), Placeholder::value("result"));
            vars.extend(
                recipe.before.iter().map(|own| (own.name.clone(), Skipped::value(&own.name))),
            );
        }
        if is(&recipe.before) || std::ptr::eq(&recipe.commit, step) {
            let earlier = recipe.before.iter().take_while(|own| !std::ptr::eq(*own, step));
            for own in earlier {
                let value = self.answer_to(own, &vars);
                vars.insert(own.name.clone(), value);
            }
        }
        if step.each.is_some() {
            vars.insert("item".to_owned(), Placeholder::value("item"));
        }
        vars
    }

    /// What stands for the answer to a read before the commit.
    fn answer_to(&self, step: &Step, vars: &Vars) -> Value {
        if self.is_skipped(step, vars) {
            return Skipped::value(&step.name);
        }
        let mut names: Vec<&str> = step.take.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(step.index.as_ref().map(|_| "row"));
        if step.each.is_some() {
            names = vec!["each", "row"];
        }
        self.placeholders(&step.name, names)
    }

    fn is_skipped(&self, step: &Step, vars: &Vars) -> bool {
        let skips = |unless: &Expr| self.recipe.templates.eval(&unless.value, vars);
        let is_read = self.recipe.before.iter().any(|own| std::ptr::eq(own, step));
        let skipped = step.unless.as_ref().filter(|_| is_read).map(skips);
        skipped.is_some_and(|skipped| skipped.is_ok_and(|skipped| skipped.is_true()))
    }

    fn session_names(&self) -> Vec<&str> {
        let login = self.recipe.auth.login.iter().flat_map(|login| &login.take);
        let mut names: Vec<&str> = login.map(|(name, _)| name.as_str()).collect();
        if matches!(self.recipe.auth.kind, AuthKind::OAuth2(_)) {
            names.push("access_token");
        }
        names
    }

    fn placeholders(&self, of: &str, names: Vec<&str>) -> Value {
        let pairs = names
            .into_iter()
            .map(|name| (name.to_owned(), Placeholder::value(&format!("{of}.{name}"))));
        Value::from_pairs(pairs)
    }

    /// Every step of the full order, also what would be skipped; of the minimal one what would be sent.
    fn render_all(&mut self) {
        let base = Url::parse("http://erp.invalid").expect("it is an address");
        let recipe = self.recipe;
        let checks = recipe.checks.iter().map(|check| &check.step);
        for step in recipe.steps().chain(checks) {
            let vars = self.vars(step);
            if self.sample == MINIMAL && self.is_skipped(step, &vars) {
                continue;
            }
            for template in templates_of(recipe, step) {
                self.render(template, &vars);
            }
            // The whole only when its parts are good: a part's own fault has the better place.
            if self.faults.is_empty()
                && self.needed.is_empty()
                && let Err(fault) = try_build(recipe, &base, step, &vars)
            {
                self.faults.push(fault);
            }
            let vars = without_session(vars);
            step.need.iter().for_each(|(_, message)| self.render(message, &vars));
            step.refuse.iter().for_each(|(_, text)| self.render(text, &vars));
        }
    }

    fn render_auth(&mut self) {
        for check in &self.recipe.checks {
            let vars = without_session(self.vars(&check.step));
            self.render(&check.otherwise, &vars);
        }
        let mut vars = self.vars(&self.recipe.commit);
        vars.remove("order");
        let mut of_auth: Vec<&Template> =
            self.recipe.auth.attach.iter().map(|(_, value)| value).collect();
        if let AuthKind::OAuth2(oauth2) = &self.recipe.auth.kind {
            of_auth.push(&oauth2.token_url);
            of_auth.extend(&oauth2.scope);
            if let Some(jwt) = &oauth2.jwt {
                of_auth.push(&jwt.key_file);
                of_auth.extend(jwt.kid.iter().chain(&jwt.aud));
                of_auth.extend(jwt.claims.iter().map(|(_, claim)| claim));
            }
        }
        of_auth.into_iter().for_each(|template| self.render(template, &vars));
    }

    fn render(&mut self, template: &Template, vars: &Vars) {
        let Err(error) = self.recipe.templates.render(&template.value, vars) else { return };
        let blame = Blame { recipe: self.recipe, vars };
        let fault = blame.template(template, &error);
        match blame.field_of_order(template, &error).filter(|_| self.sample == MINIMAL) {
            Some(field) => drop(self.needed.entry(field).or_insert(fault)),
            None => self.faults.push(fault),
        }
    }

    fn total(&mut self, rule: &TotalRule, reply: &Arc<Read>, sources: &Arc<SourceCache>) {
        let mut vars = self.vars(&self.recipe.commit);
        vars.insert("result".to_owned(), Placeholder::value("result"));
        vars.insert("row".to_owned(), Placeholder::value("row"));
        let lines = vars.get("order").and_then(|order| order.get_attr("lines").ok());
        let line = lines.and_then(|lines| lines.get_item(&Value::from(0)).ok());
        vars.insert("line".to_owned(), line.unwrap_or_default());
        let over_reply = vars_with(reply, sources, &vars);
        for expr in [Some(&rule.amount), rule.currency.as_ref()].into_iter().flatten() {
            self.expression(expr, &over_reply);
        }
        let of_lines = rule.lines.iter().flat_map(|lines| {
            [Some(&lines.amount), lines.name.as_ref(), lines.paid.as_ref()].into_iter().flatten()
        });
        for expr in rule.paid.iter().chain(&rule.tolerance).chain(of_lines) {
            self.expression(expr, &vars);
        }
    }

    fn expressions(&mut self) {
        let recipe = self.recipe;
        let (reply, sources) =
            (Arc::new(Read::new(200, &[], "{}")), Arc::new(SourceCache::default()));
        let checks = recipe.checks.iter().map(|check| &check.step);
        for step in recipe.steps().chain(checks) {
            let vars = self.vars(step);
            let over_reply = vars_with(&reply, &sources, &vars);
            let refuse = step.refuse.iter().map(|(when, _)| when);
            let rules = step.rules.iter().map(|rule| &rule.when);
            for expr in step.ok.iter().chain(rules).chain(refuse) {
                self.expression(expr, &over_reply);
            }
            self.texts(&step.rules, &over_reply);
            if let Some(there) = &step.there {
                self.expression(&there.found, &over_reply);
                self.expression(&there.absent, &over_reply);
            }
            if let Some(poll) = &step.poll {
                poll.when.iter().for_each(|when| self.expression(when, &over_reply));
                let vars = vars_with(&reply, &sources, &self.vars(&poll.step));
                [Some(&poll.done), poll.failed.as_ref()]
                    .into_iter()
                    .flatten()
                    .for_each(|expr| self.expression(expr, &vars));
            }
            let require = step.index.iter().filter_map(|index| index.require.as_ref());
            for expr in step.each.iter().chain(&step.unless).chain(&step.reached).chain(require) {
                self.expression(expr, &vars);
            }
        }
        for question in recipe.probe.iter().flat_map(|probe| &probe.tries) {
            let vars = vars_with(&reply, &sources, &self.vars(&question.step));
            self.expression(&question.found, &vars);
            self.expression(&question.absent, &vars);
        }
        for check in &recipe.checks {
            let vars = vars_with(&reply, &sources, &self.vars(&check.step));
            self.expression(&check.expect, &vars);
        }
        if let Totals::Compared(rule) = &recipe.total {
            self.total(rule, &reply, &sources);
        }
        let mut any = vars_with(&reply, &sources, &self.vars(&recipe.commit));
        any.insert("result".to_owned(), Placeholder::value("result"));
        for expr in recipe.rules.iter().map(|Rule { when, .. }| when).chain(&recipe.refusal) {
            self.expression(expr, &any);
        }
        self.texts(&recipe.rules, &any);
    }

    /// Texts of rules; what a sample reply has not is no fault.
    fn texts(&mut self, rules: &[Rule], over_reply: &Vars) {
        let (recipe, vars) = (self.recipe, without_secrets(over_reply.clone()));
        for text in rules.iter().filter_map(|rule| rule.text.as_ref()) {
            let names = recipe.templates.names_in(&text.value);
            let unknown = names.iter().filter(|name| !vars.contains_key(*name));
            self.faults.extend(unknown.map(|name| text.fault(format!("`{name}` is not there"))));
            if let Err(error) = recipe.templates.render(&text.value, &vars) {
                self.fault_of_any_reply(text, &error);
            }
        }
    }

    fn expression(&mut self, expr: &Expr, vars: &Vars) {
        let names = self.recipe.templates.names_in_expression(&expr.value);
        for name in names {
            if !vars.contains_key(&name) {
                self.faults.push(expr.fault(format!("`{name}` is not there")));
            }
        }
        if let Err(error) = self.recipe.templates.eval(&expr.value, vars) {
            self.fault_of_any_reply(expr, &error);
        }
    }

    /// Sample replies have the wrong shape, so only what no reply could fix is a fault.
    fn fault_of_any_reply(&mut self, at: &At<String>, error: &minijinja::Error) {
        if matches!(
            error.kind(),
            ErrorKind::UnknownFilter
                | ErrorKind::UnknownTest
                | ErrorKind::UnknownFunction
                | ErrorKind::UnknownMethod
                | ErrorKind::SyntaxError
        ) {
            self.faults.push(template_fault(at, error));
        }
    }
}

/// Messages of `need` are rendered outside a session.
fn without_session(mut vars: Vars) -> Vars {
    vars.remove("session");
    vars
}

/// Templates of the request of a step, each with its place in the file.
fn templates_of<'a>(recipe: &'a Recipe, step: &'a Step) -> Vec<&'a At<String>> {
    use super::model::Body;
    let mut templates = vec![&step.path];
    templates.extend(recipe.http.headers.iter().chain(&step.headers).map(|(_, value)| value));
    templates.extend(step.query.iter().map(|(_, value)| value));
    match &step.body {
        Body::None => {}
        Body::Text(template) => templates.push(template),
        Body::Form(fields) => templates.extend(fields.iter().map(|(_, value)| value)),
    }
    templates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(source: &str) -> Vec<String> {
        let found = match Recipe::parse("a.toml", source) {
            Ok(recipe) => faults(&recipe),
            Err(faults) => faults,
        };
        found.iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = "name = 'a'\n[commit]\nrequest = 'POST /o/{{ order.reference }}'\n\
        body = '''{\"a\": {{ order.total | num }}}'''\nok = 'status == 201'\n";

    #[test]
    fn a_good_recipe_has_no_fault_and_a_missing_probe_is_said_aloud() {
        assert_eq!(told(GOOD), Vec::<String>::new());
        let remarks = remarks(&Recipe::parse("a.toml", GOOD).unwrap());
        assert!(remarks.iter().any(|text| text.starts_with("no [probe]")), "{remarks:?}");
    }

    #[test]
    fn every_fault_of_the_file_comes_at_once_with_its_line_and_key() {
        let source = "name = 1\nbase_url = 'ftp://x'\nerorr = '/a'\n[http]\ntimeout = 'soon'\n\
            [secret]\nkey = 'in the file'\n[commit]\nrequest = 'post'\nok = 'status =='\n\
            [[rules]]\nwhen = 'true'\nthen = 'give up'\n";
        assert_eq!(
            told(source).join("\n"),
            "1: name: expected text in quotes\n\
             2: base_url: `ftp://x`: expected an address that begins with http:// or https://\n\
             3: erorr: unknown key; did you mean error?\n\
             5: http.timeout: expected a time such as \"30s\" or \"12h\", up to 24h\n\
             7: secret.key: expected a table\n\
             9: commit.request: expected a method and a path below base_url, e.g. \"POST /orders\"\n\
             10: commit.ok: syntax error: unexpected end of input, expected expression\n\
             13: rules[0].then: `give up` is not one of ok, duplicate, relogin, retry, unknown, \
             permanent, forbidden, halt"
        );
    }

    #[test]
    fn templates_that_do_not_render_an_order_name_what_is_missing() {
        let of = |body: &str, more: &str| {
            let commit = format!("request = 'POST /o'\nok = 'status == 201'\nbody = '''{body}'''");
            told(&format!("name = 'a'\n[commit]\n{commit}\n{more}"))
        };
        let missing = of("{\"a\": 1,\n \"b\": {{ order.nummer }}}", "");
        assert_eq!(missing, ["6: commit.body: `nummer` is not in this order"]);
        let below = of("\n{\"a\": 1,\n \"b\": {{ order.nummer }}}", "");
        assert_eq!(below, ["7: commit.body: `nummer` is not in this order"]);
        let typo = of("{\"a\": {{ odrer.total }}}", "");
        assert!(typo[0].starts_with("5: commit.body: `odrer` is not there; there are"), "{typo:?}");
        let quoted = of("{\"a\": \"{{ order.total }}\"}", "");
        assert!(quoted[0].contains("what was rendered is not JSON"), "{quoted:?}");
        let digits = of("{\"a\": {{ order.currency | num }}}", "");
        assert!(digits[0].contains("`EUR` is not a number"), "{digits:?}");
        let before = "[[before]]\nname = 'customer'\nrequest = 'GET /c'\nok = 'status == 200'\n\
            take = { id = '/id' }\n[[after]]\nname = 'go'\nrequest = 'POST /o/{{ customer.id }}'\n\
            ok = 'status == 200'\n";
        let resumed = of("{}", before);
        assert_eq!(
            resumed,
            [
                "13: after.go.request: `customer.id` is not there, because the step `customer` was skipped; \
              `customer.id | default(…)` allows that"
            ]
        );
        let with_default = before.replace("customer.id", "customer.id | default(0)");
        assert_eq!(of("{}", &with_default), Vec::<String>::new());
        let filter = of("{}", "[[rules]]\nwhen = 'body | shorten'\nthen = 'retry'\n");
        assert!(filter[0].contains("shorten"), "{filter:?}");
        let name = of("{}", "[[rules]]\nwhen = 'stats == 200'\nthen = 'retry'\n");
        assert_eq!(name, ["7: rules[0].when: `stats` is not there"]);
    }

    const WITH_LINES: &str =
        "name = 'a'\n[commit]\nrequest = 'POST /o'\nok = 'status == 201'\nbody = '''\n";

    #[test]
    fn every_kind_of_missing_value_is_named_with_its_line() {
        let of = |code: &str| told(&format!("{WITH_LINES}[1,\n{code}]'''\n"));
        for (code, name) in [
            ("{{ order.a.b }}", "a.b"),
            ("{{ order.a | num }}", "a"),
            ("{{ order.a | str }}", "a"),
            ("{{ order.a | upper }}", "a"),
            ("{{ order.a | length }}", "a"),
            ("{{ order.a | first }}", "a"),
            ("{{ order.a | last }}", "a"),
            ("{{ order.a | items | list }}", "a"),
            ("{{ order.a | list }}", "a"),
            ("{{ order.a | sort }}", "a"),
            ("{{ order.a | unique | list }}", "a"),
            ("{{ order.a | split('x') | list }}", "a"),
            ("{{ order.a | select('number') | list }}", "a"),
            ("{{ order.a | day }}", "a"),
            ("{{ order.a | join(',') }}", "a"),
            ("{{ order.a | map(attribute='x') | list }}", "a"),
            ("{{ order.a | replace('x', 'y') }}", "a"),
            ("{{ order.date ~ order.a }}", "a"),
            ("{{ order.a ~ ' 00:00' }}", "a"),
            ("{% if order.a == 'x' %}1{% else %}2{% endif %}", "a"),
            ("{% if order.a != 'x' %}1{% else %}2{% endif %}", "a"),
            ("{% if not order.a %}1{% else %}2{% endif %}", "a"),
            ("{% if 'x' not in order.a %}1{% else %}2{% endif %}", "a"),
            ("{{ 1 if order.a > 2 else 3 }}", "a"),
            ("{% for l in order.a %}{{ l }}{% endfor %}", "a"),
            (
                "{% for l in order.lines if l.a != 'x' %}{% if not loop.first %},{% endif %}1{% endfor %}",
                "lines[].a",
            ),
            (
                "{% for l in order.lines %}{% if not loop.first %},{% endif %}{{ l.a.b }}{% endfor %}",
                "lines[].a.b",
            ),
        ] {
            assert_eq!(
                of(code),
                [format!("7: commit.body: `{name}` is not in this order")],
                "{code}"
            );
        }
        for good in [
            "{{ order.a | default('x') }}",
            "{% if order.a is defined and order.a != 'x' %}1{% else %}2{% endif %}",
            "{{ (order.a | default({})).b | default(1) }}",
            "{% for l in order.lines %}{% if l.number != 1 %},{% endif %}{{ 'a-' ~ l.number }}{% endfor %}",
            "{{ 1 if 'a' in order.remark and\n order.currency == 'EUR' else 2 }}",
        ] {
            assert_eq!(
                of(good).iter().filter(|t| !t.contains("without optional")).count(),
                0,
                "{good}: {:?}",
                of(good)
            );
        }
    }

    #[test]
    fn a_minimal_order_is_rendered_too() {
        let recipe =
            |code: &str| Recipe::parse("a.toml", &format!("{WITH_LINES}[\n{code}]'''\n")).unwrap();
        let needs = recipe("{{ order.customer.number }}");
        assert_eq!(faults(&needs), Vec::new());
        let told = remarks(&needs);
        let sentence = "an order without `customer.number` cannot be sent, and is parked: commit.body line 7 needs it";
        assert!(told.iter().any(|told| told == sentence), "{told:?}");
        let broken = recipe("{% if order.remark is defined %}1{% endif %}, 2");
        let broken: Vec<String> = faults(&broken).iter().map(ToString::to_string).collect();
        assert!(
            broken[0].starts_with("6: commit.body: for an order without optional fields: what was rendered is not JSON"),
            "{broken:?}"
        );
        let with_customer = format!("{WITH_LINES}[{{{{ customer.id }}}}]'''\n");
        let skipping = format!(
            "{with_customer}\n[[before]]\nname = 'customer'\nunless = 'order.customer is not defined'\nok = 'status == 200'\n\
             request = 'GET /c/{{{{ order.customer.number }}}}'\ntake = {{ id = '/id' }}\n"
        );
        let told = self::told(&skipping);
        assert_eq!(
            told,
            [
                "6: commit.body: for an order without optional fields: `customer.id` is not there, because the step \
              `customer` was skipped; `customer.id | default(…)` allows that"
            ]
        );
    }

    #[test]
    fn what_creates_something_can_be_found_again_and_is_whole_before_it_is_compared() {
        let there = "there = { request = 'GET /l/{{ item }}', found = 'status == 200', absent = 'status == 404' }\n";
        let line = format!(
            "name = 'add'\neach = 'order.lines'\nrequest = 'POST /l'\nok = 'status == 201'\n{there}"
        );
        let probe = "[probe]\nrequest = 'GET /o'\nfound = 'true'\nabsent = 'false'\n";
        let total = "[total]\namount = 'result.sum'\n";
        assert_eq!(
            told(&format!("{GOOD}{probe}[[after]]\n{line}{total}after = 'add'\n")),
            Vec::<String>::new()
        );
        let one = |source: &str| {
            let told = told(source);
            assert_eq!(told.len(), 1, "{told:?}");
            told[0].clone()
        };
        assert!(one(&format!("{GOOD}[[after]]\n{line}")).contains("needs [probe]"));
        assert!(
            one(&format!("{GOOD}{probe}[[before]]\n{line}")).contains("only a step of [[after]]")
        );
        let early = one(&format!("{GOOD}{probe}[[after]]\n{line}{total}"));
        assert!(early.ends_with("set total.after = \"add\""), "{early}");
        let takes = one(&format!("{GOOD}{probe}[[after]]\n{line}take = {{ id = '/id' }}\n"));
        assert!(takes.contains("remove `take`"), "{takes}");
        let typo = line.replace("/l/{{ item }}", "/l/{{ itm }}");
        assert!(one(&format!("{GOOD}{probe}[[after]]\n{typo}")).contains("`itm` is not there"));
    }

    #[test]
    fn jobs_are_waited_for_behind_the_commit_only() {
        let poll = "poll = { request = 'GET /j/{{ job.id }}', job = { id = '/id' }, done = \"at('/a') == 1\" }\n";
        let step = format!("name = 'go'\nrequest = 'GET /go'\nok = 'status == 200'\n{poll}");
        assert_eq!(told(&format!("{GOOD}[[after]]\n{step}")), Vec::<String>::new());
        assert_eq!(
            told(&format!("{GOOD}[[before]]\n{step}")),
            ["10: before.go.poll.done: only [commit] and a step of [[after]] can wait for a job"]
        );
        let of = |from: &str, to: &str| told(&format!("{GOOD}{}", poll.replace(from, to)));
        assert_eq!(of("/j/{{ job.id", "/j/{{ job.number").len(), 1);
        assert!(of("done =", "for = '11m', done =")[0].contains("at most 10m"));
        assert!(
            of("done =", "take = { a = '/a' }, done =")[0].contains("`take` does nothing here")
        );
        let probe =
            "[probe]\nrequest = 'GET /o'\nfound = 'true'\nabsent = 'false'\nsettle = '60s'\n";
        let short = Recipe::parse("a.toml", &format!("{GOOD}{poll}{probe}")).unwrap();
        let is_told =
            |recipe: &Recipe| remarks(recipe).iter().any(|r| r.contains("commit.poll.for"));
        assert!(is_told(&short));
        let long = probe.replace("60s", "61s");
        assert!(!is_told(&Recipe::parse("a.toml", &format!("{GOOD}{poll}{long}")).unwrap()));
    }

    #[test]
    fn only_reads_that_find_something_are_cached() {
        let after =
            "[[after]]\nname = 'go'\nrequest = 'POST /go'\nok = 'status == 200'\ncache = '5m'\n";
        assert_eq!(
            told(&format!("{GOOD}{after}")),
            ["10: after.go.cache: only a step of [[before]] can be cached"]
        );
        let before = after.replace("after", "before");
        assert_eq!(
            told(&format!("{GOOD}{before}")),
            [
                "10: before.go.cache: a step without `take` and `index` finds nothing that could be kept"
            ]
        );
        assert_eq!(told(&format!("{GOOD}{before}take = {{ id = '/id' }}\n")), Vec::<String>::new());
    }

    #[test]
    fn a_text_of_a_rule_names_only_what_may_be_told() {
        let of = |text: &str, then: &str| {
            told(&format!(
                "{GOOD}[[rules]]\nwhen = 'status == 400'\nthen = '{then}'\ntext = \"{text}\"\n"
            ))
        };
        let good =
            "{{ at('/error') }}: see {{ const }} for {{ order.reference }}, {{ body.a | upper }}";
        assert_eq!(of(good, "permanent"), Vec::<String>::new());
        assert_eq!(of("{{ secret.key }}", "retry"), ["9: rules[0].text: `secret` is not there"]);
        assert_eq!(of("{{ session.id }}", "retry"), ["9: rules[0].text: `session` is not there"]);
        assert_eq!(
            of("fine", "ok"),
            ["9: rules[0].text: `ok` fails nothing, so its text is never told"]
        );
        assert!(of("{{ status | shorten }}", "retry")[0].contains("shorten"));
    }

    #[test]
    fn a_value_with_a_slash_in_a_path_is_remarked() {
        let is_told = |path: &str| {
            let source = GOOD.replace("/o/{{ order.reference }}", path);
            let remarks = remarks(&Recipe::parse("a.toml", &source).unwrap());
            remarks.into_iter().find(|remark| remark.contains("%2F"))
        };
        let told = is_told("/o/{{ order.reference }}").unwrap();
        assert!(
            told.starts_with("commit.request line 3 has `order.reference` in its path"),
            "{told}"
        );
        assert!(is_told("/o/{{ order.customer.number | upper }}/x").is_some());
        for good in [
            "/o/{{ const.a }}",
            "/o/eid:{{ order.reference | ident }}",
            "/o/{{ order.reference | uuid }}",
            "/o?ref={{ order.reference }}",
        ] {
            assert_eq!(is_told(good), None, "{good}");
        }
    }

    #[test]
    fn steps_that_are_skipped_are_checked_too() {
        let skipped = told(&format!(
            "{GOOD}[[before]]\nname = 'never'\nunless = 'true'\nrequest = 'GET /{{{{ order.nummer }}}}'\nok = 'status == 200'\n"
        ));
        assert_eq!(skipped, ["9: before.never.request: `nummer` is not in this order"]);
    }
}

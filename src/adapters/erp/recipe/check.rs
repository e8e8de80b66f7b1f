//! What can be checked in a recipe before the first order: every template renders a sample order,
//! JSON is JSON, expressions name only what is there.

use std::sync::Arc;

use minijinja::ErrorKind;
use minijinja::value::Value;
use reqwest::Url;

use crate::domain::failure::Failure;
use crate::domain::order::values::OrderKey;
use crate::domain::text::one_line;
use crate::domain::trace::Trace;
use crate::ports::erp::{Journal, OrderForErp};

use super::compile::template_fault;
use super::model::{AuthKind, Expr, Recipe, Rule, Step, Template};
use super::order_vars::order_vars;
use super::reply::Read;
use super::request::build;
use super::toml_text::{At, RecipeFault};
use super::values::Placeholder;
use crate::adapters::erp::recipe::lookups::{SourceCache, vars_with};
use crate::adapters::erp::recipe::values::Vars;

/// An order with everything that an order can have, awkward characters included.
pub const SAMPLE: &str = r#"{
  "order_id": "100042", "shop": "default", "state": "payed", "placed_at": "2026-11-22T10:00:00Z",
  "currency": "EUR", "total": "129.90", "remark": "please ring twice",
  "customer": {"number": "C-1001", "name": "O'Neil & Söhne \"Nord\" <x>", "email": "erika@example.com", "locale": "de"},
  "lines": [
    {"sku": "SKU-100", "name": "Lamp '\"&<>ü🙂", "description": "Lamp", "quantity": "2", "unit_price": "49.95", "tax_rate": "19", "unit": "pcs"},
    {"sku": "SKU-200", "name": "Bulb", "quantity": 3, "unit_price": 10.00, "tax_rate": 19}
  ],
  "invoice_address": {"name": "Erika Muster", "company": "", "street": "Hauptstr. 1", "street2": "", "zip": "10115", "city": "Berlin", "country": "DE", "phone": ""},
  "delivery_address": {"name": "Erika Muster", "company": "", "street": "Hauptstr. 1", "street2": "", "zip": "10115", "city": "Berlin", "country": "DE", "phone": ""},
  "payment": {"method": "invoice", "reference": "P-1"}, "shipping": {"method": "standard", "cost": "4.90"}
}"#;

/// The sample under the number `order_id`.
pub fn sample_order(order_id: &str) -> OrderForErp {
    OrderForErp {
        key: OrderKey::new("default", order_id).expect("it is a number that an order can have"),
        document: Arc::from(SAMPLE),
        received_at: jiff::Timestamp::UNIX_EPOCH,
        trace: Trace::default(),
        journal: Journal::default(),
    }
}

/// Every fault that can be found without the ERP.
pub fn faults(recipe: &Recipe) -> Vec<RecipeFault> {
    let mut check = Check { recipe, faults: Vec::new() };
    check.names();
    check.secrets_for_auth();
    check.render_all();
    check.expressions();
    let mut faults = check.faults;
    faults.sort();
    faults.dedup();
    faults
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
    if recipe.error.is_empty() {
        remarks.push(
            "no `error`: without the ERP's own words no reply counts as a refusal".to_owned(),
        );
    }
    remarks
}

struct Check<'a> {
    recipe: &'a Recipe,
    faults: Vec<RecipeFault>,
}

impl Check<'_> {
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

    fn secrets_for_auth(&mut self) {
        let needed: &[&str] = match &self.recipe.auth.kind {
            AuthKind::Attach => &[],
            AuthKind::Basic => &["user", "password"],
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
        let is = |steps: &[Step]| steps.iter().any(|own| std::ptr::eq(own, step));
        let mut vars = order_vars(&sample_order("100042")).unwrap_or_default();
        vars.insert("const".to_owned(), Value::from(recipe.consts.clone()));
        let secrets = recipe.secrets.keys().map(|name| (name.clone(), format!("«{name}»")));
        vars.insert("secret".to_owned(), Value::from_pairs(secrets));
        if recipe.auth.login.as_ref().is_some_and(|login| std::ptr::eq(login, step)) {
            vars.remove("order");
            vars.remove("document");
            return vars;
        }
        vars.insert("session".to_owned(), self.placeholders("session", self.session_names()));
        if is(&recipe.after) {
            vars.insert("result".to_owned(), Placeholder::value("result"));
        }
        if is(&recipe.before) || std::ptr::eq(&recipe.commit, step) {
            let earlier = recipe.before.iter().take_while(|own| !std::ptr::eq(*own, step));
            for own in earlier {
                let mut names: Vec<&str> = own.take.iter().map(|(name, _)| name.as_str()).collect();
                names.extend(own.index.as_ref().map(|_| "row"));
                if own.each.is_some() {
                    names = vec!["each", "row"];
                }
                vars.insert(own.name.clone(), self.placeholders(&own.name, names));
            }
        }
        if step.each.is_some() {
            vars.insert("item".to_owned(), Placeholder::value("item"));
        }
        vars
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

    fn render_all(&mut self) {
        let base = Url::parse("http://erp.invalid").expect("it is an address");
        let steps: Vec<&Step> = self.recipe.steps().collect();
        for step in steps {
            let vars = self.vars(step);
            for template in templates_of(self.recipe, step) {
                self.render(template, &vars);
            }
            // The whole only when its parts are good: a part's own fault has the better place.
            if self.faults.is_empty()
                && let Err(Failure { message, .. }) = build(self.recipe, &base, step, &vars)
            {
                self.faults.push(step.path.fault(message));
            }
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
        if let Err(error) = self.recipe.templates.render(&template.value, vars) {
            let mut fault = template_fault(template, &error);
            if error.kind() == ErrorKind::UndefinedError {
                let known: Vec<&str> = vars.keys().map(String::as_str).collect();
                let unknown = self.recipe.templates.names_in(&template.value);
                let unknown: Vec<String> =
                    unknown.into_iter().filter(|name| !vars.contains_key(name)).collect();
                let source = self.recipe.templates.source(&template.value);
                if let Some(part) = error.range().and_then(|range| source.get(range)) {
                    fault.detail = format!("`{}` is not there", one_line(part, 100));
                }
                if !unknown.is_empty() {
                    let (unknown, known) = (unknown.join(", "), known.join(", "));
                    fault.detail = format!("`{unknown}` is not there; there are {known}");
                }
            }
            self.faults.push(fault);
        }
    }

    fn expressions(&mut self) {
        let recipe = self.recipe;
        let (reply, sources) =
            (Arc::new(Read::new(200, &[], "{}")), Arc::new(SourceCache::default()));
        for step in recipe.steps() {
            let vars = self.vars(step);
            let over_reply = vars_with(&reply, &sources, &vars);
            for expr in step.ok.iter().chain(step.rules.iter().map(|rule| &rule.when)) {
                self.expression(expr, &over_reply);
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
        let mut any = vars_with(&reply, &sources, &self.vars(&recipe.commit));
        any.insert("result".to_owned(), Placeholder::value("result"));
        for expr in recipe.rules.iter().map(|Rule { when, .. }| when).chain(&recipe.refusal) {
            self.expression(expr, &any);
        }
    }

    fn expression(&mut self, expr: &Expr, vars: &Vars) {
        let names = self.recipe.templates.names_in_expression(&expr.value);
        for name in names {
            if !vars.contains_key(&name) {
                self.faults.push(expr.fault(format!("`{name}` is not there")));
            }
        }
        // Sample replies have the wrong shape, so only what no reply could fix is a fault.
        if let Err(error) = self.recipe.templates.eval(&expr.value, vars)
            && matches!(
                error.kind(),
                ErrorKind::UnknownFilter
                    | ErrorKind::UnknownTest
                    | ErrorKind::UnknownFunction
                    | ErrorKind::UnknownMethod
                    | ErrorKind::SyntaxError
            )
        {
            self.faults.push(template_fault(expr, &error));
        }
    }
}

/// Templates of a step, each with its place in the file.
fn templates_of<'a>(recipe: &'a Recipe, step: &'a Step) -> Vec<&'a At<String>> {
    use super::model::Body;
    let mut templates = vec![&step.path];
    templates.extend(recipe.http.headers.iter().chain(&step.headers).map(|(_, value)| value));
    templates.extend(step.query.iter().map(|(_, value)| value));
    templates.extend(step.need.iter().map(|(_, value)| value));
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
        let found = match Recipe::parse(source) {
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
        let remarks = remarks(&Recipe::parse(GOOD).unwrap());
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
        assert_eq!(missing, ["6: commit.body: `order.nummer` is not there"]);
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
        assert!(resumed[0].contains("`customer` is not there"), "{resumed:?}");
        let filter = of("{}", "[[rules]]\nwhen = 'body | shorten'\nthen = 'retry'\n");
        assert!(filter[0].contains("shorten"), "{filter:?}");
        let name = of("{}", "[[rules]]\nwhen = 'stats == 200'\nthen = 'retry'\n");
        assert_eq!(name, ["7: rules[0].when: `stats` is not there"]);
    }
}

//! What is wrong when a template or an expression of a recipe cannot be evaluated: its place in the file, and
//! the value that is not there.
//!
//! Used when an order is sent (`request.rs`, `reads.rs`) and when a recipe is checked (`check.rs`).

use minijinja::{Error, ErrorKind};
use regex::Regex;

use crate::domain::text::one_line;

use super::compile::template_fault;
use super::expressions::paths;
use super::model::Recipe;
use super::toml_text::{At, RecipeFault};
use super::values::{Skipped, Vars};

/// Longest name of a value in a message, in characters.
const MAX_NAME: usize = 100;

/// Finds out what was not there.
pub struct Blame<'a> {
    pub recipe: &'a Recipe,
    /// What could be named.
    pub vars: &'a Vars,
}

impl Blame<'_> {
    /// The fault of the template that was compiled as `template`.
    pub fn template(&self, template: &At<String>, error: &Error) -> RecipeFault {
        let source = self.recipe.templates.source(&template.value);
        let unknown = self.recipe.templates.names_in(&template.value);
        self.fault(template, &Code { text: &source, names: unknown }, error)
    }

    /// The fault of an expression.
    pub fn expression(&self, expr: &At<String>, error: &Error) -> RecipeFault {
        let names = self.recipe.templates.names_in_expression(&expr.value);
        self.fault(expr, &Code { text: &expr.value, names }, error)
    }

    /// The field of the order that a template needs and that is not there.
    pub fn field_of_order(&self, template: &At<String>, error: &Error) -> Option<String> {
        let source = self.recipe.templates.source(&template.value);
        let names = self.recipe.templates.names_in(&template.value);
        let code = Code { text: &source, names };
        code.field_of_order(&self.missing(&code, error)?)
    }

    fn fault(&self, at: &At<String>, code: &Code<'_>, error: &Error) -> RecipeFault {
        let fault = template_fault(at, error);
        match self.missing(code, error) {
            Some(name) => RecipeFault { detail: self.sentence(code, &name), ..fault },
            None => fault,
        }
    }

    /// The path that leads nowhere.
    fn missing(&self, code: &Code<'_>, error: &Error) -> Option<String> {
        let name = match (error.kind(), error.detail()) {
            (ErrorKind::UndefinedError, Some(name)) => name.to_owned(),
            (ErrorKind::UndefinedError, None) => self.last_missing(code, error.range()?.end)?,
            // Some filters of the template engine tell of a missing value in other words.
            _ => {
                let operand = operand_of_filter(code.text, error.range()?.start)?;
                self.is_missing(&operand).then_some(operand)?
            }
        };
        Some(one_line(&name, MAX_NAME))
    }

    fn is_known(&self, path: &str) -> bool {
        self.vars.contains_key(root(path))
    }

    fn is_missing(&self, path: &str) -> bool {
        self.is_known(path) && self.recipe.templates.is_missing(path, self.vars)
    }

    /// What was looked at last before `end` is what failed.
    fn last_missing(&self, code: &Code<'_>, end: usize) -> Option<String> {
        let part = code.text.get(begin_of_code(code.text.get(..end)?)..end)?;
        let paths = paths(part);
        let missing = paths.iter().rev().find(|path| self.is_missing(path));
        let foreign = || paths.iter().rev().find(|path| !self.is_known(path));
        Some(missing.or_else(foreign).cloned().unwrap_or_else(|| part.to_owned()))
    }

    fn sentence(&self, code: &Code<'_>, name: &str) -> String {
        if let Some(field) = code.field_of_order(name) {
            return format!("`{field}` is not in this order");
        }
        let root = root(name);
        let is_step = self.recipe.before.iter().any(|step| step.name == root);
        match (root, self.vars.get(root)) {
            (_, Some(value)) if value.downcast_object_ref::<Skipped>().is_some() => format!(
                "`{name}` is not there, because the step `{root}` was skipped; `{name} | default(…)` \
                 allows that"
            ),
            ("const" | "secret", Some(_)) => {
                format!("`{name}` is not there: [{root}] has no such key")
            }
            ("session", Some(_)) => format!("`{name}` is not there: the login did not take it"),
            ("result", Some(_)) => format!("`{name}` is not there: no step took it from an answer"),
            (_, Some(_)) if is_step => {
                format!("`{name}` was not in the ERP's answer to the step `{root}`")
            }
            (_, None) if code.names.iter().any(|unknown| unknown == root) => {
                let known: Vec<&str> = self.vars.keys().map(String::as_str).collect();
                format!("`{root}` is not there; there are {}", known.join(", "))
            }
            _ => format!("`{name}` is not there"),
        }
    }
}

/// `commit.body line 64 of our-erp.toml: …`
pub fn told(recipe: &Recipe, fault: &RecipeFault) -> String {
    format!("{} line {} of {}: {}", fault.key, fault.line, recipe.file, fault.detail)
}

/// The text of a template or an expression, and the names that it takes from outside.
struct Code<'a> {
    text: &'a str,
    names: Vec<String>,
}

impl Code<'_> {
    /// `customer.number` of `order.customer.number`; `lines[].sku` of `l.sku` in a loop over `order.lines`.
    fn field_of_order(&self, name: &str) -> Option<String> {
        let root = root(name);
        let below = name[root.len()..].trim_start_matches('.');
        if below.is_empty() {
            return None;
        }
        if matches!(root, "order" | "document") {
            return Some(below.to_owned());
        }
        let of =
            Regex::new(&format!(r"for\s+{}\s+in\s+(?:order|document)\.(\w+)", regex::escape(root)));
        let list = of.ok()?.captures(self.text)?.get(1)?.as_str().to_owned();
        Some(format!("{list}[].{below}"))
    }
}

/// The path that the filter at `at` is applied to, if it is one.
fn operand_of_filter(text: &str, at: usize) -> Option<String> {
    let before = text.get(..at)?;
    let operand = before.get(begin_of_code(before)..)?.trim_end().strip_suffix('|')?.trim_end();
    paths(operand).pop().filter(|path| operand.ends_with(path.as_str()))
}

/// Where the code begins that `before` ends in: an error's range may begin in the middle of a path.
fn begin_of_code(before: &str) -> usize {
    let marks = [before.rfind("{{"), before.rfind("{%")];
    marks.into_iter().flatten().max().map_or(0, |at| at + 2)
}

/// The first name of a path.
fn root(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

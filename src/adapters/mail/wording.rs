//! The texts of the mails in the reader's language, and the functions that templates write them with.
//!
//! An English sentence is its own key; the German catalog is `templates/mail/de.toml`. A test looks for every sentence of
//! the templates in it.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, Value};

use crate::domain::language::Language;

static GERMAN: LazyLock<HashMap<String, String>> = LazyLock::new(catalog);
/// Limit of a template's work, so that none runs for ever (minijinja `fuel`).
const FUEL: u64 = 20_000_000;
/// Width of the names of facts in plain text.
const LABEL_WIDTH: usize = 26;

/// The German texts by their English sentences.
pub(super) fn catalog() -> HashMap<String, String> {
    toml::from_str(include_str!("../../../templates/mail/de.toml"))
        .expect("the catalog is checked by a test")
}

/// The sentence in this language; in English if it has no translation.
pub fn said(language: Language, text: &str) -> &str {
    match language {
        Language::En => text,
        Language::De => GERMAN.get(text).map_or(text, String::as_str),
    }
}

/// The same with its `{name}`s filled in.
pub fn filled(language: Language, text: &str, values: &[(&str, &str)]) -> String {
    let (mut rest, mut line) = (said(language, text), String::new());
    // One pass: a value may itself look like a name.
    while let Some((before, after)) = rest.split_once('{') {
        line.push_str(before);
        let Some((name, after)) = after.split_once('}') else { break };
        let value = values.iter().find(|(known, _)| *known == name);
        line.push_str(value.map_or("", |(_, value)| value));
        rest = after;
    }
    line + rest
}

/// An environment for one language: `t`, `count`, `number` and `fact`, and the templates with these names.
pub fn environment(
    language: Language,
    templates: &BTreeMap<&'static str, String>,
) -> Result<Environment<'static>, String> {
    let mut environment = empty(language);
    for (name, source) in templates {
        environment
            .add_template_owned(*name, source.clone())
            .map_err(|error| format!("mail template {name}: {error}"))?;
    }
    Ok(environment)
}

/// The same without templates.
pub fn empty(language: Language) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.add_global("lang", language.code());
    environment.add_function("t", move |text: &str, values: Kwargs| -> Result<String, Error> {
        let mut pairs = Vec::new();
        for name in values.args() {
            let value: Value = values.get(name)?;
            pairs.push((name, value.to_string()));
        }
        let pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(filled(language, text, &pairs))
    });
    environment.add_function("count", move |number: u64, one: &str, many: &str| -> String {
        let text = if language.is_singular(number) { one } else { many };
        filled(language, text, &[("n", &language.number(number))])
    });
    environment.add_function("number", move |number: u64| -> String { language.number(number) });
    environment.add_function("fact", |label: &str, value: Value| -> String {
        format!("  {label:<LABEL_WIDTH$} {value}")
    });
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_looks_like_a_name_is_only_a_value() {
        let text = filled(Language::En, "{a} and {b}", &[("a", "{b}"), ("b", "x")]);
        assert_eq!(text, "{b} and x");
    }
}

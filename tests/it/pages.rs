//! The pages' words: every sentence that a template or a handler tells is there in German, and nothing
//! is translated that nobody says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use order_relay::domain::lifecycle::vocabulary::{PHASES, Trigger};
use order_relay::domain::order_filter::SortBy;
use order_relay::domain::redrive::{Exclusion, ItemStatus, RedriveStatus};
use order_relay::ports::notices::MailStatus;
use regex::Regex;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn catalog(language: &str) -> BTreeMap<String, String> {
    let path = root().join(format!("templates/web/{language}.toml"));
    toml::from_str(&std::fs::read_to_string(path).expect("a catalog")).expect("a good catalog")
}

fn said_in(folder: &str, ending: &str, pattern: &str) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).expect("a good pattern");
    let folder = root().join(folder);
    let mut said = BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("a folder") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|own| own == ending) {
            let text = std::fs::read_to_string(path).expect("text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            said.extend(pattern.captures_iter(code).map(|found| found[1].to_owned()));
        }
    }
    said
}

#[test]
fn every_sentence_of_a_page_is_there_in_german_and_names_the_same_values() {
    let german = catalog("de");
    let mut said = said_in("templates/web", "html", r#"\bt\("([^"]+)""#);
    for folder in ["src/web/html", "src/web/pages"] {
        let pattern = r#"(?:\bt|fill|missing|unprocessable)\(\s*"([^"]+)""#;
        said.extend(said_in(folder, "rs", pattern));
    }
    // A name with something put behind it is looked at below.
    said.retain(|key| !key.ends_with('.') || key.contains(' '));
    let missing: Vec<&String> = said.iter().filter(|key| !german.contains_key(*key)).collect();
    assert!(missing.is_empty(), "not in de.toml: {missing:#?}");
    let values = Regex::new(r"\{(\w+)\}").expect("a good pattern");
    for (key, text) in german.iter().filter(|(key, _)| key.contains(' ')) {
        let of = |text: &str| -> BTreeSet<String> {
            values.captures_iter(text).map(|found| found[1].to_owned()).collect()
        };
        assert_eq!(of(key), of(text), "{key}");
    }
}

#[test]
fn nothing_is_translated_that_nobody_says() {
    let said: Vec<String> =
        ["src/domain", "src/ops", "src/web/html", "src/web/pages", "templates/web"]
            .iter()
            .flat_map(|folder| std::fs::read_dir(root().join(folder)).expect("a folder"))
            .map(|file| file.expect("a file").path())
            .filter(|path| {
                path.extension().is_some_and(|ending| ending == "rs" || ending == "html")
            })
            .map(|path| std::fs::read_to_string(path).expect("text"))
            .collect();
    let is_name = |key: &str| key.contains('.') && !key.contains(' ');
    let german = catalog("de");
    let sentences = german.keys().filter(|key| !is_name(key));
    let unsaid: Vec<&String> = sentences
        .filter(|key| !said.iter().any(|text| text.contains(&format!("\"{key}\""))))
        .collect();
    assert!(unsaid.is_empty(), "nobody says: {unsaid:#?}");
}

#[test]
fn every_name_that_stands_in_tables_has_a_word_in_both_languages() {
    let (english, german) = (catalog("en"), catalog("de"));
    let mut names: Vec<String> = Vec::new();
    names.extend(PHASES.iter().map(|(_, name)| format!("phase.{name}")));
    names.extend(Trigger::ALL.map(|trigger| format!("trigger.{}", trigger.as_str())));
    names.extend(MailStatus::ALL.map(|status| format!("mail.{}", status.as_str())));
    names.extend(RedriveStatus::ALL.map(|status| format!("redrive.{}", status.as_str())));
    names.extend(ItemStatus::ALL.map(|status| format!("item.{}", status.as_str())));
    names.extend(Exclusion::ALL.map(|why| format!("excluded.{}", why.as_str())));
    names.extend(["open", "replayed", "discarded"].map(|status| format!("letter.{status}")));
    names.extend(["closed", "half_open", "open"].map(|state| format!("circuit.{state}")));
    for by in SortBy::ALL {
        names.extend([by.natural(), by.natural().reversed()].map(|sort| format!("sort.{sort}")));
    }
    for (language, catalog) in [("en", &english), ("de", &german)] {
        let missing: Vec<&String> =
            names.iter().filter(|name| !catalog.contains_key(*name)).collect();
        assert!(missing.is_empty(), "{language}: {missing:#?}");
    }
    let only: Vec<&String> = english.keys().filter(|key| !german.contains_key(*key)).collect();
    assert!(only.is_empty(), "only in English: {only:#?}");
}

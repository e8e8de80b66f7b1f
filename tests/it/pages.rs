//! The pages' words: every sentence of a template is there in German, and nothing is translated that
//! nobody says. Sentences of the code are looked up while it compiles (`key!`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use minijinja::machinery::{Token, tokenize};
use order_relay::domain::lifecycle::vocabulary::{PHASES, Trigger};
use order_relay::domain::order_filter::SortBy;
use order_relay::domain::redrive::{Exclusion, ItemStatus, RedriveStatus};
use order_relay::ports::notices::MailStatus;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn catalog(language: &str) -> BTreeMap<String, String> {
    let path = root().join(format!("templates/web/{language}.toml"));
    toml::from_str(&std::fs::read_to_string(path).expect("a catalog")).expect("a good catalog")
}

/// The texts that the templates translate: what stands behind `t(`, as minijinja itself reads it.
fn said_by_templates() -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for file in std::fs::read_dir(root().join("templates/web")).expect("a folder") {
        let path = file.expect("a file").path();
        if path.extension().is_none_or(|ending| ending != "html") {
            continue;
        }
        let source = std::fs::read_to_string(&path).expect("text");
        let tokens: Result<Vec<_>, _> = tokenize(&source, false, Default::default()).collect();
        let tokens = tokens.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for three in tokens.windows(3) {
            said.extend(match three {
                [(Token::Ident("t"), _), (Token::ParenOpen, _), (Token::Str(text), _)] => {
                    Some((*text).to_owned())
                }
                [(Token::Ident("t"), _), (Token::ParenOpen, _), (Token::String(text), _)] => {
                    Some(text.to_string())
                }
                _ => None,
            });
        }
    }
    said
}

/// The `{name}`s of a sentence.
fn values_of(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

#[test]
fn every_sentence_of_a_template_is_there_in_german() {
    let (german, mut said) = (catalog("de"), said_by_templates());
    assert!(said.len() > 200, "{} texts", said.len());
    // A name with something put behind it is looked at below.
    said.retain(|key| !key.ends_with('.') || key.contains(' '));
    let missing: Vec<&String> = said.iter().filter(|key| !german.contains_key(*key)).collect();
    assert!(missing.is_empty(), "not in de.toml: {missing:#?}");
}

#[test]
fn a_translation_names_the_same_values() {
    for (key, text) in catalog("de").iter().filter(|(key, _)| key.contains(' ')) {
        assert_eq!(values_of(key), values_of(text), "{key}");
    }
}

#[test]
fn nothing_is_translated_that_nobody_says() {
    let said: Vec<String> =
        ["src/domain", "src/ops", "src/web/auth", "src/web/html", "src/web/pages", "templates/web"]
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

//! The layers: which module may import which, checked by reading every source file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each module may import besides its own files. `crash` is for tests, and may be
/// used where effects become durable.
const MAY_NAME: [(&str, &[&str]); 12] = [
    ("domain", &[]),
    ("ports", &["domain"]),
    ("telemetry", &[]),
    ("crash", &[]),
    ("config", &["domain", "telemetry"]),
    ("adapters", &["domain", "ports", "config", "telemetry"]),
    ("workers", &["domain", "ports", "telemetry", "crash"]),
    ("ops", &["domain", "ports", "telemetry"]),
    ("views", &["domain", "ports"]),
    ("web", &["domain", "ports", "ops", "views", "telemetry"]),
    ("cli", &["domain", "ports", "ops", "views", "telemetry"]),
    (
        "devtools",
        &[
            "domain",
            "ports",
            "ops",
            "views",
            "telemetry",
            "config",
            "adapters",
            "workers",
            "web",
            "cli",
        ],
    ),
];

/// Crates that `domain` must not use.
const NOT_IN_DOMAIN: [&str; 10] = [
    "tokio", "sqlx", "lapin", "reqwest", "lettre", "axum", "hyper", "tracing", "config", "backoff",
];

/// Each adapter drives one thing: none imports another.
const FAMILIES: [&str; 6] = ["amqp", "in_process", "store", "erp", "mail", "oidc"];

fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below src").display().to_string();
            (name, fs::read_to_string(&path).expect("a source file"))
        })
        .collect()
}

fn layer(file: &str) -> &str {
    file.split('/').next().unwrap_or(file).trim_end_matches(".rs")
}

/// Paths that a file names: what follows `crate::`, up to two steps, comments left out. `super::`
/// that climbs out of the folder must be written `crate::`; [`no_file_climbs_out`] checks that.
fn named(text: &str) -> Vec<Vec<String>> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let steps = |rest: &str| -> Vec<String> {
        let end =
            rest.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))).unwrap_or(rest.len());
        rest[..end].split("::").take(2).map(str::to_owned).collect()
    };
    code.match_indices("crate::").map(|(at, mark)| steps(&code[at + mark.len()..])).collect()
}

#[test]
fn modules_name_only_what_the_layers_allow() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let from = layer(&file).to_owned();
        // `app`, `main` and the map know everything.
        let Some(allowed) = allowed.get(from.as_str()) else { continue };
        for path in named(&text) {
            let to = path[0].as_str();
            let is_macro = matches!(to, "sql_args" | "combined_port" | "names");
            if !is_macro && to != from && !allowed.contains(&to) {
                faults.push(format!("{file} names crate::{}", path.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_file_climbs_out_of_its_layer() {
    let mut faults = Vec::new();
    for (file, text) in sources() {
        let depth = file.matches('/').count();
        let climb = format!("{}super::", "super::".repeat(depth));
        // In a tests module one step leads to the file itself.
        let climb_in_tests = format!("super::{climb}");
        let code = text.replace(&climb_in_tests, "");
        if depth > 0 && code.contains(&climb) {
            faults.push(file);
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn the_rules_know_nothing_of_the_world() {
    let mut faults = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| layer(file) == "domain") {
        for word in NOT_IN_DOMAIN {
            let names = |line: &str| {
                let line = line.trim_start();
                !line.starts_with("//")
                    && (line.contains(&format!("{word}::"))
                        && !line.contains(&format!("_{word}::")))
            };
            if text.lines().any(names) || text.contains("async fn") {
                faults.push(format!("{file} names {word}, or is async"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_adapter_names_another() {
    let mut faults = Vec::new();
    for (file, text) in sources().into_iter().filter(|(file, _)| layer(file) == "adapters") {
        let own = file.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned();
        for path in named(&text).into_iter().filter(|path| path[0] == "adapters") {
            let other = path.get(1).map_or("", String::as_str);
            if other != own && FAMILIES.contains(&other) {
                faults.push(format!("{file} names {other}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn only_the_reconnect_names_the_backoff_crate() {
    let naming: Vec<String> = sources()
        .into_iter()
        .filter(|(_, text)| text.contains("backoff::"))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(naming, ["adapters/amqp/connection.rs"]);
}

#[test]
fn every_file_is_on_the_map_and_says_what_it_is() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("src/lib.rs");
    for (file, text) in sources() {
        assert!(text.starts_with("//!"), "{file} does not say what it is");
        let name = file.rsplit('/').next().unwrap_or(&file).trim_end_matches(".rs");
        let is_root = matches!(name, "lib" | "main");
        assert!(is_root || map.contains(&format!("pub mod {name}")), "{file} is not on the map");
    }
}

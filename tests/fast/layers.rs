//! The layers and their arrows, no circle of files, one name for one thing: held by reading every import.
//!
//! The checks are functions of (path, text) pairs, so that tests can plant a fault and see it found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may name of ours besides its own files. `crash` is the tests' way in and open to
/// whoever makes an effect durable; `app` and `main` know everything.
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
    ("devtools", &EVERYTHING_BUT_APP),
];
const EVERYTHING_BUT_APP: [&str; 10] =
    ["domain", "ports", "ops", "views", "telemetry", "config", "adapters", "workers", "web", "cli"];

/// Crates that `domain` must not use.
const NOT_IN_DOMAIN: [&str; 10] = [
    "tokio", "sqlx", "lapin", "reqwest", "lettre", "axum", "hyper", "tracing", "config", "backoff",
];

/// Macros of ours; they stand at the root of the crate wherever they are written.
const MACROS: [&str; 4] = ["sql_args", "combined_port", "names", "key"];

/// One source file.
struct Source {
    /// E.g. `web/pages/order.rs`.
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    /// E.g. `web::pages::order`.
    fn module(&self) -> String {
        self.path.trim_end_matches(".rs").replace('/', "::")
    }

    fn layer(&self) -> &str {
        self.path.split('/').next().unwrap_or(&self.path).trim_end_matches(".rs")
    }

    fn is_root(&self) -> bool {
        matches!(self.path.as_str(), "lib.rs" | "main.rs")
    }

    /// Its code without comments and without its tests, which stand at the end.
    fn code(&self) -> String {
        let before_tests = self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        before_tests.lines().filter(is_code).map(|line| format!("{line}\n")).collect()
    }

    /// Paths of ours that it names, from the root of the crate: `use` trees are opened, `super` and `self`
    /// resolved.
    fn names(&self) -> BTreeSet<String> {
        let (code, own) = (self.code(), self.module());
        let mut names = BTreeSet::new();
        for root in ["crate", "super", "self"] {
            for (at, _) in code.match_indices(&format!("{root}::")) {
                let before = code[..at].chars().next_back().unwrap_or(' ');
                if before.is_alphanumeric() || matches!(before, '_' | ':') {
                    continue;
                }
                let end = code[at..]
                    .find([';', '(', ')', '>', '=', '?', '"'])
                    .map_or(code.len(), |n| at + n);
                open_tree("", &code[at..end], &mut names);
            }
        }
        names.into_iter().filter_map(|name| absolute(&name, &own)).collect()
    }
}

/// Adds every path of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn open_tree(prefix: &str, tree: &str, names: &mut BTreeSet<String>) {
    let tree = tree.trim();
    let path_end =
        tree.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(tree.len());
    let path = tree[..path_end].trim_end_matches("::");
    let whole =
        [prefix, path].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("::");
    match tree[path_end..].strip_prefix('{') {
        Some(inner) if tree[..path_end].ends_with("::") => {
            for part in branches(inner) {
                open_tree(&whole, &part, names);
            }
        }
        _ => drop(names.insert(whole)),
    }
}

/// The branches of a tree up to its closing brace.
fn branches(inner: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is always a last one").push(c);
    }
    parts.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// A path from the root of the crate; `None` for a macro.
fn absolute(name: &str, own: &str) -> Option<String> {
    let mut steps: Vec<&str> = name.split("::").collect();
    let mut base: Vec<&str> = match steps.first() {
        Some(&"crate") => Vec::new(),
        _ => own.split("::").collect(),
    };
    while let Some(step) = steps.first().copied() {
        match step {
            "crate" | "self" => {}
            "super" => drop(base.pop()),
            _ => break,
        }
        steps.remove(0);
    }
    base.extend(steps.into_iter().filter(|step| *step != "self"));
    let is_macro = base.len() == 1 && MACROS.contains(&base[0]);
    (!is_macro && !base.is_empty()).then(|| base.join("::"))
}

/// The file that a path leads to: the longest module among its beginnings.
fn file_of<'a>(name: &str, modules: &'a BTreeMap<String, usize>) -> Option<&'a usize> {
    let steps: Vec<&str> = name.split("::").collect();
    (1..=steps.len()).rev().find_map(|n| modules.get(&steps[..n].join("::")))
}

/// Arrows that the table of layers forbids, and an adapter that names another one.
fn forbidden_arrows(sources: &[Source]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.into_iter().collect();
    let mut faults = Vec::new();
    for source in sources {
        let Some(allowed) = allowed.get(source.layer()) else { continue };
        for name in source.names() {
            let mut steps = name.split("::");
            let to = steps.next().unwrap_or_default();
            if to != source.layer() && !allowed.contains(&to) {
                faults.push(format!("{} names {name}", source.path));
            }
            let own_family =
                source.path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs");
            let is_other = steps.next().is_some_and(|family| family != own_family);
            if to == "adapters" && source.layer() == "adapters" && is_other {
                faults.push(format!("{} names another adapter: {name}", source.path));
            }
        }
    }
    faults
}

/// Files that name each other, directly or by way of others.
fn circles(sources: &[Source]) -> Vec<String> {
    let files: Vec<&Source> = sources.iter().filter(|source| !source.is_root()).collect();
    let modules: BTreeMap<String, usize> =
        files.iter().enumerate().map(|(n, source)| (source.module(), n)).collect();
    let arrows: Vec<BTreeSet<usize>> = files
        .iter()
        .enumerate()
        .map(|(own, source)| {
            let named = source.names();
            named
                .iter()
                .filter_map(|name| file_of(name, &modules))
                .copied()
                .filter(|to| *to != own)
                .collect()
        })
        .collect();
    let reached: Vec<BTreeSet<usize>> = (0..files.len()).map(|from| reach(from, &arrows)).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for from in 0..files.len() {
        let circle: BTreeSet<usize> =
            reached[from].iter().copied().filter(|to| reached[*to].contains(&from)).collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            let names: Vec<&str> = circle.iter().map(|file| files[*file].path.as_str()).collect();
            circles.push(names.join(", "));
        }
    }
    circles
}

fn reach(from: usize, arrows: &[BTreeSet<usize>]) -> BTreeSet<usize> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        next.extend(arrows[file].iter().copied().filter(|to| reached.insert(*to)));
    }
    reached
}

/// Names that two public types have in the layers that everybody shares. What a module calls its own
/// (`Error`, `Args`) is fine.
fn names_of_two_types(sources: &[Source]) -> Vec<String> {
    let mut places = BTreeMap::<String, Vec<&str>>::new();
    let shared = sources
        .iter()
        .filter(|source| matches!(source.layer(), "domain" | "ports" | "workers" | "ops"));
    for source in shared {
        for line in source.code().lines().map(str::trim_start) {
            let kinds = ["pub struct ", "pub enum ", "pub trait ", "pub type "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else {
                continue;
            };
            let name: String =
                rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !matches!(name.as_str(), "" | "Args" | "Error") {
                places.entry(name).or_default().push(&source.path);
            }
        }
    }
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect()
}

/// What only the outside world needs, in the rules.
fn worldly_rules(sources: &[Source]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.layer() == "domain") {
        let code = source.code();
        let mut words = code.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':')));
        let named = words.find(|word| {
            let root = word.split("::").next().unwrap_or_default();
            word.contains("::") && NOT_IN_DOMAIN.contains(&root)
        });
        faults.extend(named.map(|word| format!("{} names {word}", source.path)));
        if code.contains("async fn") {
            faults.push(format!("{} is async", source.path));
        }
    }
    faults
}

fn sources() -> Vec<Source> {
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
    let source = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below src").display().to_string();
        Source::new(&name, &fs::read_to_string(&path).expect("a source file"))
    };
    found.into_iter().map(source).collect()
}

#[track_caller]
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn modules_name_only_what_the_layers_allow() {
    assert_none(&forbidden_arrows(&sources()));
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    assert_none(&circles(&sources()));
}

#[test]
fn no_two_public_types_share_a_name() {
    assert_none(&names_of_two_types(&sources()));
}

#[test]
fn the_rules_know_nothing_of_the_world() {
    assert_none(&worldly_rules(&sources()));
}

#[test]
fn a_planted_arrow_is_found_however_it_is_written() {
    for import in [
        "use crate::web::state::Web;",
        "use crate::{\n    domain::text, web::{problem, state::Web},\n};",
        "fn f() { crate::web::state::look() }",
        "use super::super::web::state::Web;",
    ] {
        let faults = forbidden_arrows(&[Source::new("ops/find.rs", import)]);
        assert!(faults.iter().any(|fault| fault.contains("names web")), "{import}: {faults:?}");
    }
    let other = Source::new("adapters/oidc/provider.rs", "use crate::adapters::erp::http::Limits;");
    assert_eq!(
        forbidden_arrows(&[other]),
        ["adapters/oidc/provider.rs names another adapter: adapters::erp::http::Limits"]
    );
    let fine =
        "use crate::domain::text;\n// use crate::web::state::Web;\ncrate::names!(A { B = \"b\" });";
    assert_none(&forbidden_arrows(&[Source::new("ops/find.rs", fine)]));
}

#[test]
fn a_planted_circle_is_found_in_a_layer_too() {
    let planted = [
        Source::new("web/pages/a.rs", "use super::b::look;"),
        Source::new("web/pages/b.rs", "use crate::web::{state::Web, html::c};"),
        Source::new("web/html/c.rs", "fn f() { crate::web::pages::a::again() }"),
        Source::new(
            "web/state.rs",
            "//! The state.\n\n#[cfg(test)]\nmod tests {\n    use crate::web::pages::a::look;\n}",
        ),
    ];
    assert_eq!(circles(&planted), ["web/pages/a.rs, web/pages/b.rs, web/html/c.rs"]);
}

#[test]
fn a_planted_second_type_of_one_name_is_found() {
    let planted = [
        Source::new("domain/a.rs", "pub enum Outcome {\n"),
        Source::new("workers/b.rs", "pub struct Outcome;\n"),
        Source::new("web/c.rs", "pub struct Outcome;\n"),
        Source::new("ops/d.rs", "pub enum Error {}\n"),
        Source::new("ports/e.rs", "pub enum Error {}\n"),
    ];
    assert_eq!(names_of_two_types(&planted), ["Outcome: domain/a.rs, workers/b.rs"]);
}

#[test]
fn a_planted_driver_in_the_rules_is_found() {
    let planted = Source::new("domain/a.rs", "use tokio::time::sleep;\n");
    assert_eq!(worldly_rules(&[planted]), ["domain/a.rs names tokio::time::sleep"]);
}

#[test]
fn only_the_reconnect_names_the_backoff_crate() {
    let naming: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.text.contains("backoff::"))
        .map(|source| source.path)
        .collect();
    assert_eq!(naming, ["adapters/amqp/connection.rs"]);
}

#[test]
fn every_file_is_on_the_map_and_says_what_it_is() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"))
        .expect("src/lib.rs");
    for source in sources() {
        assert!(source.text.starts_with("//!"), "{} does not say what it is", source.path);
        let name = source.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        assert!(
            source.is_root() || map.contains(&format!("pub mod {name}")),
            "{} is not on the map",
            source.path
        );
    }
}

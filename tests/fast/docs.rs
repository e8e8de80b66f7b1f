//! What the documentation says is what the program does: settings, commands, phases, crash points.

use bigdecimal::{BigDecimal, RoundingMode};
use order_relay::adapters::erp::recipe::open::{SHIPPED, load};
use order_relay::domain::exact::exact;
use order_relay::domain::order::contents::{Content, parts_of, text};
use order_relay::domain::order::document::Order;
use order_relay::domain::order::intake_rules::IntakeRules;
use serde_json::Value as Json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use config::{Config, File, FileFormat, Source, Value, ValueKind};
use order_relay::cli::args::Cli;
use order_relay::config::settings::Settings;
use order_relay::config::sources::{DEFAULTS, SettingsFile};
use order_relay::crash::CrashPoint;
use order_relay::domain::lifecycle::vocabulary::PHASES;
use order_relay::domain::topology::{Names, Topology};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    let path = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// README, CONTRIBUTING and every page below docs/.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "md") {
                pages.push(path);
            }
        }
    }
    pages
}

/// The words of a command as a shell would see them.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '>' | '|' | ';' | '&' | '<') => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Lines of code blocks that call the program, lines that go on joined; with where they stand.
fn commands(path: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).expect("it can be read").replace("\\\n", " ");
    let (mut commands, mut in_block) = (Vec::new(), false);
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        let line = line.trim_start().trim_start_matches("$ ");
        let calls = line.starts_with("order-relay ") || line.starts_with("cargo run -- ");
        if in_block && calls {
            let line = line.replacen("cargo run -- ", "order-relay ", 1);
            commands.push((format!("{}:{}", path.display(), number + 1), line));
        }
    }
    commands
}

#[test]
fn every_command_in_the_documentation_can_be_typed() {
    let all: Vec<(String, String)> = pages().iter().flat_map(|path| commands(path)).collect();
    assert!(all.len() > 15, "{} commands", all.len());
    for (place, line) in all {
        let parsed = Cli::command().try_get_matches_from(words(&line));
        if let Err(error) = parsed {
            let shows = matches!(
                error.kind(),
                clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion
            );
            assert!(shows, "{place}: {line}\n{error}");
        }
    }
}

fn flatten(prefix: &str, table: &BTreeMap<String, Value>, flat: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match &value.kind {
            ValueKind::Table(below) => {
                flatten(&key, &below.clone().into_iter().collect(), flat);
            }
            _ => drop(flat.insert(key, written(value))),
        }
    }
}

/// A value as TOML writes it.
fn written(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) if text.contains('"') => format!("'{text}'"),
        ValueKind::String(text) => format!("\"{text}\""),
        ValueKind::Array(items) => {
            format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(", "))
        }
        _ => value.clone().into_string().expect("a plain value"),
    }
}

/// Rows `| key | default | meaning |` whose key and default are code.
fn rows(page: &str) -> BTreeMap<String, String> {
    let cells = page.lines().filter_map(|line| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | `")?;
        let (default, meaning) = rest.split_once("` | ")?;
        assert!(meaning.trim_end_matches(" |").len() > 10, "{key} has no meaning");
        Some((key.to_owned(), default.to_owned()))
    });
    cells.collect()
}

#[test]
fn the_table_of_settings_is_that_of_the_defaults() {
    let source = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    let defaults = source.build().and_then(|config| config.collect()).expect("TOML");
    let mut expected = BTreeMap::new();
    flatten("", &defaults.into_iter().collect(), &mut expected);
    let told = rows(&page("docs/settings.md"));
    let keys = |rows: &BTreeMap<String, String>| rows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told), keys(&expected));
    assert_eq!(told, expected);
}

#[test]
fn the_page_of_states_names_every_phase() {
    let page = page("docs/state-machine.md");
    for (state, phase) in PHASES {
        for name in [state.as_str(), phase] {
            assert!(page.contains(&format!("`{name}`")), "{name} is not there");
        }
    }
}

#[test]
fn the_page_of_walks_names_every_crash_point() {
    let page = page("docs/architecture.md");
    for point in CrashPoint::ALL {
        assert!(page.contains(&format!("`{}`", point.as_str())), "{} is not there", point.as_str());
    }
}

#[test]
fn the_page_of_the_broker_names_every_queue_and_exchange() {
    let page = page("docs/broker.md");
    let topology = Topology::new(Names::new("orders"), &[]);
    let exchanges = topology.exchanges.iter().map(|exchange| &exchange.name);
    for name in topology.queues.iter().map(|queue| &queue.name).chain(exchanges) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not there");
    }
}

/// Files that a page names in code (`src/lib.rs`) or links to and that do not exist.
fn missing_files(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).expect("it can be read");
    let folder = page.parent().expect("a page is in a folder");
    let folders =
        ["src/", "tests/", "scripts/", "templates/", "migrations/", "deploy/", "examples/"];
    let is_path = |code: &&str| {
        folders.iter().any(|folder| code.starts_with(folder))
            && !code.contains(['{', '*', ' ', '<', ':'])
    };
    let code = text.split('`').skip(1).step_by(2).filter(is_path);
    let links = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let links = links.map(|(link, _)| link.split('#').next().unwrap_or_default());
    let links = links.filter(|link| !link.is_empty() && !link.contains("://"));
    code.map(|path| root().join(path))
        .chain(links.map(|link| folder.join(link)))
        .filter(|path| !path.exists())
        .map(|path| format!("{}: {}", page.display(), path.display()))
        .collect()
}

#[test]
fn every_file_that_the_documentation_names_exists() {
    let missing: Vec<String> = pages().iter().flat_map(|page| missing_files(page)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The tables of "What reaches the ERP" say what the recipes say.
#[test]
fn the_tables_of_what_reaches_the_erp_are_those_of_the_recipes() {
    let page = page("docs/erp-recipes.md");
    let mut told = Vec::new();
    for table in page.split("\n\n").filter(|block| block.starts_with("| part |")) {
        let table: Vec<Vec<String>> = table
            .lines()
            .map(|line| {
                line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect()
            })
            .collect();
        let (names, rows) = (&table[0][1..], &table[2..]);
        assert_eq!(rows.len(), Content::ALL.len());
        for (column, recipes) in names.iter().enumerate() {
            for recipe in recipes.split(", ") {
                let carries =
                    load(recipe).expect("it is shipped").recipe.carries.expect("it says so");
                for row in rows {
                    let content = Content::from_name(&row[0]).expect("a part of an order");
                    let says = match (
                        carries.contents.contains(&content),
                        carries.drops.contains(&content),
                    ) {
                        (true, _) => "carried",
                        (_, true) => "dropped",
                        _ => "refused",
                    };
                    assert_eq!(row[column + 1], says, "{recipe}: {}", row[0]);
                }
                told.push(recipe.to_owned());
            }
        }
    }
    told.sort();
    let shipped: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
    assert_eq!(told, shipped);
}

/// The settings that a page shows, block by block.
fn settings_in(page: &str) -> Vec<&str> {
    let blocks = page.split("```toml\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn every_shipped_recipe_has_a_page_with_settings_that_can_be_copied() {
    let (index, folder) = (page("docs/erp-recipes.md"), tempfile::tempdir().expect("a folder"));
    let (file, mut told) = (folder.path().join("order-relay.toml"), BTreeSet::new());
    for path in pages().iter().filter(|path| path.starts_with(root().join("docs/erps"))) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("it has a name");
        assert!(index.contains(&format!("(erps/{name})")), "{name} is not in the list of pages");
        for block in settings_in(&page(&format!("docs/erps/{name}"))) {
            std::fs::write(&file, block).expect("it can be written");
            let settings = Settings::load(SettingsFile::Named(&file), std::iter::empty(), &[]);
            let settings = settings.unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
            let erp = &settings.default_shop.erp;
            let recipe = load(&erp.recipe).expect("it is shipped").recipe;
            assert!(erp.url.is_some() || recipe.base_url.is_some(), "{name}: no address");
            for constant in erp.consts.keys() {
                let is_there = recipe.consts.contains_key(constant);
                assert!(is_there, "{name}: the recipe {} has no {constant}", erp.recipe);
            }
            told.insert(erp.recipe.clone());
        }
    }
    let shipped: BTreeSet<String> = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(told, shipped);
}

/// What an order costs by its own parts.
fn cost(order: &Json) -> BigDecimal {
    let number = |value: &Json| exact(&text(value)).unwrap_or_default();
    let with_tax = |amount: BigDecimal, item: &Json| match order["prices"] == "net" {
        true => {
            amount * (BigDecimal::from(100) + number(&item["tax_rate"])) / BigDecimal::from(100)
        }
        false => amount,
    };
    let list = |name: &str| order[name].as_array().cloned().unwrap_or_default();
    let mut cost = with_tax(number(&order["shipping"]["price"]), &order["shipping"]);
    for line in list("lines") {
        let amount =
            number(&line["quantity"]) * number(&line["unit_price"]) - number(&line["discount"]);
        cost += with_tax(amount, &line);
    }
    for item in list("surcharges") {
        cost += with_tax(number(&item["amount"]), &item);
    }
    for item in list("discounts") {
        cost -= with_tax(number(&item["amount"]), &item);
    }
    cost.with_scale_round(2, RoundingMode::HalfUp)
}

#[test]
fn every_example_is_an_order_that_adds_up_and_reaches_an_erp() {
    let folders = [root().join("examples"), root().join("examples/shops")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("it is there"));
    let files = files.map(|file| file.expect("a file").path());
    let mut shops = 0;
    for file in files.filter(|file| file.extension().is_some_and(|ending| ending == "json")) {
        let document = std::fs::read_to_string(&file).expect("it can be read");
        let order = Order::parse(document.as_bytes(), &IntakeRules::of_bytes(1 << 20));
        let order = order.unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
        let json: Json = serde_json::from_str(&document).expect("it is JSON");
        let total = exact(order.facts.total.as_str()).expect("a number");
        assert_eq!(cost(&json), total, "{}", file.display());
        let odoo = load("odoo").expect("it is shipped").recipe.carries.expect("it says so");
        for part in parts_of(&json) {
            let reaches =
                odoo.contents.contains(&part.content) || odoo.drops.contains(&part.content);
            assert!(reaches, "{}: {part:?}", file.display());
        }
        shops += usize::from(file.parent().is_some_and(|folder| folder.ends_with("shops")));
    }
    assert_eq!(shops, 5);
}

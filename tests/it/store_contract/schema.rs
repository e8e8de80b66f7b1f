//! Tables and migrations: both databases have the same ones, and a release meets only its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Ledger;
use crate::world::{Place, World, texts};

/// Every migration, as the program lists them.
const ALL: &str = "0001_ledger, 0002_exchanges, 0003_figures, 0004_revisions_and_redrives, 0005_people, \
     0006_search, 0007_second_entries, 0008_commit_begun";

on_both_databases!(migrating_twice_is_migrating_once, tables_of_a_newer_release_are_recognised);

async fn migrating_twice_is_migrating_once(ledger: &Ledger) {
    assert!(ledger.store.migrate().await.expect("it can be asked").is_empty());
    let status = ledger.store.schema_status().await.expect("it can be asked");
    assert!(status.pending.is_empty() && !status.is_newer);
    assert_eq!(status.migrates_itself, ledger.database().place == Place::Embedded);
}

async fn tables_of_a_newer_release_are_recognised(ledger: &Ledger) {
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        SELECT version + 1000, 'newer', success, checksum, 0 FROM _sqlx_migrations";
    assert!(ledger.tamper(newer).await > 0);
    let status = ledger.store.schema_status().await.expect("it can be asked");
    assert!(status.is_newer && status.pending.is_empty(), "{status:?}");
}

#[tokio::test]
async fn an_empty_database_lacks_every_migration() {
    for place in [Place::Embedded, Place::Services] {
        let ledger = Ledger::open_empty(place).await;
        let status = ledger.store.schema_status().await.expect("it can be asked");
        assert_eq!(status.pending, files("sqlite").into_keys().collect::<Vec<_>>());
        ledger.end().await;
    }
}

#[tokio::test]
async fn postgres_is_migrated_by_a_command_and_serve_says_which() {
    let world = World::new(Place::Services).await;
    let refused = world.run(&["serve"]).await;
    let (_, told) = texts(&refused);
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("lacks {ALL}: run `order-relay migrate`")), "{told}");
    let dry = world.ok(&["migrate", "--dry-run"]).await;
    assert_eq!(dry.trim(), format!("would apply {ALL}"));
    assert_eq!(world.ok(&["migrate"]).await.trim(), format!("applied {ALL}"));
    assert_eq!(world.ok(&["migrate"]).await.trim(), "nothing to do");
    assert_eq!(world.ok(&["migrate", "--dry-run"]).await.trim(), "nothing to do");
    world.ok(&["topology", "declare"]).await;
    world.leave().await;
}

#[tokio::test]
async fn sqlite_migrates_itself() {
    let world = World::new(Place::Embedded).await;
    let dry = world.ok(&["migrate", "--dry-run"]).await;
    assert_eq!(dry.trim(), format!("would apply {ALL}"));
    assert_eq!(world.ok(&["orders", "list", "--output", "json"]).await.trim(), "[]");
    assert_eq!(world.ok(&["migrate"]).await.trim(), "nothing to do");
    world.end().await;
}

#[test]
fn both_databases_have_the_same_migrations_tables_and_columns() {
    let (postgres, sqlite) = (files("postgres"), files("sqlite"));
    assert_eq!(postgres.keys().collect::<Vec<_>>(), sqlite.keys().collect::<Vec<_>>());
    for (name, sql) in &postgres {
        assert_eq!(shape(sql), shape(&sqlite[name]), "{name}");
        assert!(shape(sql).len() > 10 || !name.starts_with("0001"), "the test reads them");
    }
}

/// The migrations of one database by name.
fn files(database: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(database);
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    entries
        .map(|entry| {
            let path = entry.expect("it can be read").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("it can be read"))
        })
        .collect()
}

/// What a migration makes, without what the two databases write differently.
fn shape(sql: &str) -> BTreeSet<String> {
    let sql = sql.split("-- From here on each database in its own way.").next().unwrap_or(sql);
    let code: String =
        sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let plain = code
        .replace(") STRICT", ")")
        .replace("BIGINT", "INTEGER")
        .replace("BYTEA", "BLOB")
        .replace("PRIMARY KEY NOT NULL", "PRIMARY KEY");
    let statements =
        plain.split(';').map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.filter(|statement| !statement.is_empty()).collect()
}

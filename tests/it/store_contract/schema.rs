//! Tables and migrations: both databases have the same ones, and a release meets only its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use order_relay::domain::order_filter::{OrderFilter, ShopFilter, Sort};

use super::Ledger;
use crate::world::{Place, World, texts};

/// Every migration, as the program lists them.
const ALL: &str = "0001_ledger, 0002_exchanges, 0003_figures, 0004_revisions_and_redrives, 0005_people, \
     0006_search, 0007_second_entries, 0008_commit_begun, 0009_order_states, 0010_insert_only_orders, \
     0011_deliveries, 0012_alarms, 0013_total_differences, 0014_channels, 0015_refresh_tokens, 0016_retention";

on_both_databases!(migrating_twice_is_migrating_once, tables_of_a_newer_release_are_recognised);

async fn migrating_twice_is_migrating_once(ledger: &Ledger) {
    assert!(ledger.store.migrate(&|_, _| {}).await.expect("it can be asked").is_empty());
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

#[tokio::test]
async fn both_databases_end_with_the_same_tables_views_and_columns() {
    let (embedded, services) =
        (Ledger::open(Place::Embedded).await, Ledger::open(Place::Services).await);
    let columns = "SELECT m.name || '.' || c.name
        FROM sqlite_master AS m, pragma_table_xinfo(m.name) AS c
        WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%'";
    let sqlite = sqlx::SqlitePool::connect(&embedded.database().url).await.expect("the file opens");
    let sqlite: Vec<String> =
        sqlx::query_scalar(columns).fetch_all(&sqlite).await.expect("it can be read");
    let columns = "SELECT table_name || '.' || column_name
        FROM information_schema.columns
        WHERE table_schema = current_schema()";
    let postgres = sqlx::PgPool::connect(&services.database().url).await.expect("PostgreSQL");
    let postgres: Vec<String> =
        sqlx::query_scalar(columns).fetch_all(&postgres).await.expect("it can be read");
    let (sqlite, postgres): (BTreeSet<_>, BTreeSet<_>) =
        (sqlite.into_iter().collect(), postgres.into_iter().collect());
    assert!(sqlite.contains("order_rows.phase"), "the test reads them");
    let differ: Vec<_> = sqlite.symmetric_difference(&postgres).collect();
    assert!(differ.is_empty(), "only one of them has {differ:?}");
    embedded.end().await;
    services.end().await;
}

/// Orders as the release before 0009 keeps them: one in each phase, with its attempts and notices.
const OF_AN_OLDER_RELEASE: &[&str] = &[
    "INSERT INTO orders (shop, order_id, state, phase, due_at_ms, fail_count, last_attempt, erp_order_id,
      error_class, error_code, error_message, error_fingerprint, failed_at_ms, currency, total,
      customer_number, customer_name, customer_email, received_at_ms, updated_at_ms, source, digest, document)
    SELECT 'default', phase, state, phase, due, failed, failed + done, number, class, class, message, class,
      failed_at, 'EUR', '10.5', 'C-1', 'Erika', 'erika@example.com', 1000, 2000, 'broker', DIGEST, '{}'
    FROM (
      SELECT 'queued' AS phase, 'payed' AS state, CAST(NULL AS BIGINT) AS due, 0 AS failed, 0 AS done,
        CAST(NULL AS TEXT) AS number, CAST(NULL AS TEXT) AS class, CAST(NULL AS TEXT) AS message,
        CAST(NULL AS BIGINT) AS failed_at
      UNION ALL SELECT 'held', 'payed', NULL, 0, 0, NULL, NULL, NULL, NULL
      UNION ALL SELECT 'retrying', 'ordered_failed', 9000, 1, 0, NULL, 'unavailable', 'Away', 1500
      UNION ALL SELECT 'parked', 'ordered_failed', NULL, 2, 0, NULL, 'rejected', 'No', 1500
      UNION ALL SELECT 'outcome_unknown', 'ordered_failed', 9000, 1, 0, NULL, 'unknown_outcome', 'Lost', 1500
      UNION ALL SELECT 'transferred', 'confirmed', NULL, 1, 1, 'ERP-1', 'unavailable', 'Away', 1500
      UNION ALL SELECT 'removed', 'confirmed', NULL, 1, 0, NULL, 'rejected', 'No', 1500) AS these",
    "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, error_class, occurred_at_ms, duration_ms)
    SELECT shop, order_id, 1, 'failed', 'checkout', error_class, 1500, 5 FROM orders WHERE fail_count > 0",
    "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, error_class, occurred_at_ms, duration_ms)
    SELECT shop, order_id, 2, 'failed', 'retry', error_class, 1500, 5 FROM orders WHERE fail_count > 1",
    "INSERT INTO attempts (shop, order_id, attempt, outcome, triggered_by, erp_order_id, occurred_at_ms, duration_ms)
    SELECT shop, order_id, 2, 'succeeded', 'retry', erp_order_id, 2000, 5 FROM orders
    WHERE phase = 'transferred'",
    "INSERT INTO notices (id, kind, shop, order_id, detail, due_at_ms, created_at_ms)
    SELECT order_id || attempt, 'order_failed', shop, order_id, '{}', 1, 1 FROM attempts
    WHERE outcome = 'failed'",
    "INSERT INTO tallies (shop, shard, received) SELECT 'default', 3, COUNT(*) FROM orders",
    // An edit, of the one that is parked.
    "INSERT INTO revisions (shop, order_id, revision, document, at_ms, actor)
    VALUES ('default', 'parked', 1, '{\"edited\":1}', 1, 'x')",
    "UPDATE orders SET revision = 1, edited = '{\"edited\":1}' WHERE order_id = 'parked'",
];

/// The tables as they were before that migration.
async fn migrated_before(version: i64, place: Place) -> Ledger {
    let ledger = Ledger::open_empty(place).await;
    let folder = if place == Place::Embedded { "sqlite" } else { "postgres" };
    let files: Vec<(&'static str, &'static str)> =
        files(folder).into_iter().map(|(name, sql)| (&*name.leak(), &*sql.leak())).collect();
    let all = order_relay::adapters::store::schema::migrator(files.leak());
    let older = order_relay::adapters::store::schema::before(&all, version);
    let url = &ledger.database().url;
    match place {
        Place::Embedded => {
            let options: sqlx::sqlite::SqliteConnectOptions = url.parse().expect("an address");
            let pool = sqlx::SqlitePool::connect_with(options.create_if_missing(true)).await;
            let pool = pool.expect("the file opens");
            older.run(&pool).await.expect("the tables are made");
            pool.close().await;
        }
        Place::Services => {
            let pool = sqlx::PgPool::connect(url).await.expect("PostgreSQL");
            older.run(&pool).await.expect("the tables are made");
            pool.close().await;
        }
    }
    for sql in OF_AN_OLDER_RELEASE {
        let digest = if place == Place::Embedded { "x'00'" } else { "'\\x00'::bytea" };
        ledger.tamper(&sql.replace("DIGEST", digest)).await;
    }
    ledger
}

async fn is_what_it_was(ledger: &Ledger) {
    let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
    assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
    assert_eq!((report.received, report.confirmed, report.lost), (7, 2, 3));
    for phase in
        ["queued", "held", "retrying", "parked", "outcome_unknown", "transferred", "removed"]
    {
        let filter = OrderFilter { phase: Some(phase.to_owned()), ..OrderFilter::default() };
        for sort in ["-received", "changed", "-failed", "due", "-tries"] {
            let sort: Sort = sort.parse().expect("a sort");
            let page = ledger.store.page_orders(&filter, sort, None, 10).await.expect("a page");
            let found: Vec<&str> = page.iter().map(|order| order.key.order_id.as_str()).collect();
            assert_eq!(found, [phase], "{sort:?}");
        }
        let counted = ledger.store.count_orders(&filter).await.expect("the ledger answers");
        assert_eq!(counted, 1, "{phase}");
        let order = ledger.order(phase).await;
        assert_eq!(order.record.phase.name(), phase);
        assert_eq!(order.record.received_at, at_ms(1_000));
        assert_eq!(order.record.updated_at, at_ms(2_000));
    }
    let transferred = ledger.order("transferred").await;
    assert_eq!(transferred.attempts.len(), 2, "{:?}", transferred.attempts);
    assert_eq!(transferred.record.fail_count, 1);
    let (edited, document) =
        ledger.store.current(&[super::key("parked")]).await.expect("answers").remove(0);
    assert_eq!((edited.revision, &*document), (1, "{\"edited\":1}"));
    let tally = ledger.store.tally(&ShopFilter::default()).await.expect("the ledger answers");
    assert!(tally.standing.iter().all(|s| s.orders == 1 && s.money[0].amount == "10.50"));
    assert_eq!((tally.received, tally.standing.len()), (7, 7));
    let search = OrderFilter { search: Some("away".to_owned()), ..OrderFilter::default() };
    assert_eq!(ledger.store.count_orders(&search).await.expect("the ledger answers"), 2);
}

#[tokio::test]
async fn a_ledger_of_an_older_release_is_carried_over_and_goes_on() {
    for place in [Place::Embedded, Place::Services] {
        let ledger = migrated_before(9, place).await;
        ledger.store.migrate(&|copied, all| assert!(copied <= all)).await.expect("it is migrated");
        is_what_it_was(&ledger).await;
        ledger.confirm("queued", 1, "ERP-2", super::at(1)).await;
        ledger.confirm("retrying", 2, "ERP-3", super::at(1)).await;
        let report = ledger.store.check_ledger(None).await.expect("the ledger can be checked");
        assert!(report.difference == 0 && report.violations.is_empty(), "{report:?}");
        assert_eq!((report.confirmed, report.lost, report.queued), (4, 2, 0));
        ledger.end().await;
    }
}

/// Only PostgreSQL has several processes.
#[tokio::test]
async fn what_an_older_release_does_while_orders_are_copied_is_carried_over() {
    let ledger = migrated_before(10, Place::Services).await;
    // Copied before an interruption; then a process of the older release changed it.
    let copied =
        "INSERT INTO order_states (shop, order_id, state, phase, received_at_ms, updated_at_ms)
        SELECT shop, order_id, 'payed', 'held', received_at_ms, updated_at_ms FROM orders
        WHERE order_id IN ('held', 'queued')";
    ledger.tamper(copied).await;
    ledger.tamper("UPDATE orders SET phase = 'queued' WHERE order_id = 'queued'").await;
    ledger.store.migrate(&|_, _| {}).await.expect("it is migrated");
    is_what_it_was(&ledger).await;
    ledger.end().await;
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

fn at_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time")
}

/// What a migration makes, without what the two databases write differently.
fn shape(sql: &str) -> BTreeSet<String> {
    let sql = sql.split("-- From here on each database in its own way.").next().unwrap_or(sql);
    let code: String =
        sql.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let plain = code
        .replace(") STRICT, WITHOUT ROWID", ")")
        .replace(") STRICT", ")")
        .replace("BIGINT", "INTEGER")
        .replace("BYTEA", "BLOB")
        .replace("PRIMARY KEY NOT NULL", "PRIMARY KEY");
    let statements =
        plain.split(';').map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    statements.filter(|statement| !statement.is_empty()).collect()
}

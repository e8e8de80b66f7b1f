//! SQLite under paused time: while a statement runs in its thread, time stands still.
//!
//! A paused runtime moves its clock whenever nothing is left to do, and it does not know of SQLite's threads.
//! It does know of blocking tasks: each call holds one until it has its answer.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use order_relay::adapters::store::db::{Db, PlainWrites, Row, Sql, Tx, Value};
use order_relay::adapters::store::sqlite::{SqliteDb, SqliteTx};
use order_relay::domain::lifecycle::transitions::OrderRecord;
use order_relay::domain::order::values::OrderKey;
use order_relay::ports::notices::Notice;
use order_relay::ports::orders::{ConfirmRequest, FailureRequest, KeepRequest, Placed};
use order_relay::ports::schema::{CopyTold, SchemaStatus};
use order_relay::ports::store_error::{SharedError, StoreError};
use tempfile::TempDir;
use tokio::sync::watch;

/// Time stands still until this is dropped.
struct Still(#[expect(dead_code, reason = "it is there to be dropped")] Sender<()>);

fn still() -> Still {
    let (hold, held) = channel::<()>();
    drop(tokio::task::spawn_blocking(move || held.recv()));
    Still(hold)
}

/// A database file with every table, made once.
static MIGRATED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let folder = folder();
            let file = folder.path().join("migrated.db");
            let db = open(&file);
            db.migrate(&|_, _| {}).await.expect("the tables are made");
            db.execute(&"PRAGMA wal_checkpoint(TRUNCATE)".into(), Vec::new())
                .await
                .expect("all of it is in the file");
            drop(db);
            std::fs::read(&file).expect("the file is there")
        })
    };
    // A runtime cannot be started within another one.
    std::thread::spawn(work).join().expect("the tables are made")
});

/// In memory where the machine has a folder for that.
pub fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.expect("a folder of its own")
}

fn open(file: &Path) -> SqliteDb {
    let url = format!("sqlite://{}", file.display());
    SqliteDb::open(&url, 2, Duration::from_secs(30)).expect("a good address")
}

/// How the database fails.
#[derive(Default)]
pub struct Faults {
    away: AtomicBool,
    spared: AtomicU32,
    lost_commits: AtomicU32,
    lost_answers: AtomicU32,
    /// An order whose statement it never answers.
    never_takes: Mutex<Option<String>>,
    holds_answers: watch::Sender<bool>,
    held_answers: AtomicU32,
}

impl Faults {
    /// From now on it cannot be reached, or can again.
    pub fn is_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// After `spared` transactions, one is rolled back instead of being committed.
    pub fn lose_commit_after(&self, spared: u32) {
        self.spared.store(spared, Ordering::Relaxed);
        self.lost_commits.store(1, Ordering::Relaxed);
    }

    /// After `spared` transactions, one is committed and its caller sees an error.
    pub fn lose_answer_after(&self, spared: u32) {
        self.spared.store(spared, Ordering::Relaxed);
        self.lost_answers.store(1, Ordering::Relaxed);
    }

    /// From now on statements that insert this order get no answer.
    pub fn never_takes(&self, order_id: &str) {
        *self.never_takes.lock().expect("nobody panics") = Some(order_id.to_owned());
    }

    /// From now on answers to reads outside of transactions are held on their way, or arrive again.
    pub fn holds_answers(&self, holds: bool) {
        self.holds_answers.send_replace(holds);
    }

    /// Answers that have been held so far.
    pub fn held_answers(&self) -> u32 {
        self.held_answers.load(Ordering::Relaxed)
    }

    async fn deliver(&self) {
        let mut holds = self.holds_answers.subscribe();
        if *holds.borrow() {
            self.held_answers.fetch_add(1, Ordering::Relaxed);
            holds.wait_for(|holds| !holds).await.expect("the sender is here");
        }
    }

    /// Whether the planted fault has happened, or none was planted.
    pub fn is_over(&self) -> bool {
        [&self.lost_commits, &self.lost_answers].iter().all(|n| n.load(Ordering::Relaxed) == 0)
    }

    async fn commit(&self, tx: SqliteTx) -> Result<(), StoreError> {
        if take_one(&self.spared) {
            return tx.commit().await;
        }
        if take_one(&self.lost_commits) {
            return Err(unavailable());
        }
        tx.commit().await?;
        if take_one(&self.lost_answers) { Err(unavailable()) } else { Ok(()) }
    }
}

/// Uses one of `count`, if any is left.
fn take_one(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
}

fn unavailable() -> StoreError {
    let gone = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    StoreError::Unavailable(SharedError(Arc::new(gone)))
}

/// The database of one test.
pub struct SteadyDb {
    db: SqliteDb,
    faults: Arc<Faults>,
}

impl SteadyDb {
    /// A fresh ledger in `folder`, which fails as `faults` say.
    pub fn new(folder: &Path, faults: Arc<Faults>) -> Self {
        let file = folder.join("ledger.db");
        std::fs::write(&file, &*MIGRATED).expect("the file can be written");
        Self { db: open(&file), faults }
    }

    fn reach(&self) -> Result<Still, StoreError> {
        match self.faults.away.load(Ordering::Relaxed) {
            true => Err(unavailable()),
            false => Ok(still()),
        }
    }
}

#[async_trait]
impl Db for SteadyDb {
    type Tx = SteadyTx;
    const FOLD_COUNTS: &'static [&'static str] = SqliteDb::FOLD_COUNTS;
    const FOLD_ACTIVITY: &'static [&'static str] = SqliteDb::FOLD_ACTIVITY;
    const SHOP_IN_LISTS: &'static str = SqliteDb::SHOP_IN_LISTS;
    const NOW: Option<&'static str> = None;
    const KEYS: &'static str = SqliteDb::KEYS;
    const BODY_HOLDS: &'static str = SqliteDb::BODY_HOLDS;
    const WRITERS_END: Option<&'static str> = SqliteDb::WRITERS_END;
    const FOR_UPDATE: &'static str = SqliteDb::FOR_UPDATE;
    const FOR_UPDATE_OF_FREE: &'static str = SqliteDb::FOR_UPDATE_OF_FREE;

    async fn begin(&self) -> Result<SteadyTx, StoreError> {
        let still = self.reach()?;
        Ok(SteadyTx { tx: self.db.begin().await?, still, faults: self.faults.clone() })
    }
    async fn fetch(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let still = self.reach()?;
        let answer = self.db.fetch(sql, args).await;
        drop(still);
        self.faults.deliver().await;
        answer
    }
    async fn read(&self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.fetch(sql, args).await
    }
    async fn execute(&self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        let _still = self.reach()?;
        self.db.execute(sql, args).await
    }
    fn plain(&self) -> Option<&dyn PlainWrites> {
        self.db.plain()
    }
    async fn schema_status(&self) -> Result<SchemaStatus, StoreError> {
        let _still = self.reach()?;
        self.db.schema_status().await
    }
    async fn migrate(&self, told: CopyTold<'_>) -> Result<Vec<String>, StoreError> {
        let _still = self.reach()?;
        self.db.migrate(told).await
    }
}

/// A transaction: time stands still from its begin to its end.
pub struct SteadyTx {
    tx: SqliteTx,
    still: Still,
    faults: Arc<Faults>,
}

#[async_trait]
impl Tx for SteadyTx {
    async fn fetch(&mut self, sql: &Sql, args: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        self.tx.fetch(sql, args).await
    }
    async fn execute(&mut self, sql: &Sql, args: Vec<Value>) -> Result<u64, StoreError> {
        self.tx.execute(sql, args).await
    }
    async fn commit(self) -> Result<(), StoreError> {
        let committed = self.faults.commit(self.tx).await;
        drop(self.still);
        committed
    }
    async fn insert_orders(
        &mut self,
        rows: &[(&Placed, &OrderRecord)],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        let never = self.faults.never_takes.lock().expect("nobody panics").clone();
        if rows.iter().any(|(_, record)| Some(record.key.order_id.as_str()) == never.as_deref()) {
            return Err(unavailable());
        }
        self.tx.insert_orders(rows).await
    }
    async fn lock(&mut self, keys: &[OrderKey]) -> Result<(), StoreError> {
        self.tx.lock(keys).await
    }
    async fn load(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        self.tx.load(keys).await
    }
    async fn documents(&mut self, keys: &[OrderKey]) -> Result<Vec<Row>, StoreError> {
        self.tx.documents(keys).await
    }
    async fn save(&mut self, records: &[&OrderRecord]) -> Result<u64, StoreError> {
        self.tx.save(records).await
    }
    async fn confirm_plain(
        &mut self,
        rows: &[&ConfirmRequest],
    ) -> Result<HashSet<OrderKey>, StoreError> {
        self.tx.confirm_plain(rows).await
    }

    async fn confirm_known(&mut self, rows: &[&ConfirmRequest]) -> Result<Vec<Row>, StoreError> {
        self.tx.confirm_known(rows).await
    }
    async fn insert_failures(
        &mut self,
        rows: &[&FailureRequest],
    ) -> Result<HashSet<(OrderKey, u32)>, StoreError> {
        self.tx.insert_failures(rows).await
    }
    async fn insert_exchanges(&mut self, rows: &[&KeepRequest]) -> Result<(), StoreError> {
        self.tx.insert_exchanges(rows).await
    }
    async fn insert_notices(&mut self, rows: &[Notice]) -> Result<(), StoreError> {
        self.tx.insert_notices(rows).await
    }
}

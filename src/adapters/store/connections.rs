//! Connections to PostgreSQL: no call waits for ever, what cannot write is not kept, and of several servers the one
//! that can write is used.
//!
//! A call without an answer takes its connection with it: nobody knows what the server will do with the rest. When
//! a statement is refused as read-only, or a call has no answer, every connection that is as old as that is closed
//! instead of being used again. Nothing is asked on the hot path.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{
    PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgQueryResult, PgRow,
    PgTransactionManager, Postgres,
};
use sqlx::query::Query;
use sqlx::{Connection as _, Row as _, TransactionManager as _};
use tokio::time::timeout;

use crate::ports::clock::Stopwatch;
use crate::ports::store_error::{SharedError, StoreError};

use super::pooler::refuse_shared_sessions;
use super::sorting::{read_failed, spoils_connections};

/// With several servers, a call that takes longer makes us look whether its server still answers.
const LATE: Duration = Duration::from_millis(1500);
/// How long a server may take to say whether it can write.
const PROBE: Duration = Duration::from_secs(1);
/// How long a connection is kept out of the pool, and how long without being used.
const KEPT_FOR: Duration = Duration::from_mins(10);
const KEPT_IDLE: Duration = Duration::from_secs(2);
/// A smaller pool has none to spare.
const SMALLEST_THAT_KEEPS: u32 = 4;

/// What a pool is for decides how long its calls may take.
#[derive(Debug, Clone, Copy)]
pub struct PoolRule {
    pub connections: u32,
    /// How long to wait for a free connection.
    pub patience: Duration,
    /// The longest that a call may take.
    pub deadline: Duration,
    /// Whether the server ends a statement at that time, too.
    pub ends_statements: bool,
}

/// A pool of connections, to be cloned freely.
#[derive(Clone)]
pub(super) struct Connections {
    pub(super) pool: PgPool,
    rule: PoolRule,
    servers: Arc<Servers>,
    freshness: Freshness,
}

struct Servers {
    all: Vec<PgConnectOptions>,
    /// Counts the changes of server; the lock is held while one is looked for.
    changes: AtomicUsize,
    current: tokio::sync::Mutex<usize>,
}

impl Connections {
    /// A pool that connects when it is used, to the first of `servers` that can write.
    pub(super) fn new(servers: Vec<PgConnectOptions>, rule: PoolRule) -> Result<Self, StoreError> {
        let nowhere = || read_failed(sqlx::Error::Configuration("no server is named".into()));
        let first = servers.first().ok_or_else(nowhere)?.clone();
        let freshness = Freshness::default();
        let pool = freshness
            .guard(PgPoolOptions::new(), rule)
            .max_connections(rule.connections)
            .acquire_timeout(rule.patience)
            .connect_lazy_with(first);
        let servers = Servers {
            all: servers,
            changes: AtomicUsize::default(),
            current: tokio::sync::Mutex::default(),
        };
        Ok(Self { pool, rule, servers: Arc::new(servers), freshness })
    }

    /// An error if the server in use is behind a pooler that shares sessions.
    pub(super) async fn refuse_shared_sessions(&self) -> Result<(), StoreError> {
        let server = {
            let current = self.servers.current.lock().await;
            self.servers.all[*current].clone()
        };
        match timeout(self.rule.deadline, refuse_shared_sessions(&server)).await {
            Ok(Err(refused @ StoreError::Broken(_))) => Err(refused),
            // A server that is not there is found by the first statement, which tries the others as well.
            _ => Ok(()),
        }
    }

    /// A connection of the pool.
    pub(super) async fn lease(&self) -> Result<Leased, StoreError> {
        let changes = self.servers.changes.load(Ordering::Acquire);
        let connection = match self.servers.all.len() {
            1 => self.pool.acquire().await.map_err(|e| self.read(e))?,
            _ => self.acquire_from_any().await?,
        };
        Ok(Leased {
            connection: Some(connection),
            connections: self.clone(),
            since: Stopwatch::start(),
            changes,
        })
    }

    async fn acquire_from_any(&self) -> Result<PoolConnection<Postgres>, StoreError> {
        let begun = Stopwatch::start();
        loop {
            let changes = self.servers.changes.load(Ordering::Acquire);
            let failed = match timeout(LATE, self.pool.acquire()).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => sqlx::Error::PoolTimedOut,
            };
            let is_busy = matches!(failed, sqlx::Error::PoolTimedOut);
            let changed = self.change_server(changes).await;
            if begun.elapsed() >= self.rule.patience || !(changed || is_busy) {
                return Err(self.read(failed));
            }
        }
    }

    /// Looks for a server that can write, if the one in use does not; whether another one is used since `seen`.
    async fn change_server(&self, seen: usize) -> bool {
        let mut current = self.servers.current.lock().await;
        if self.servers.changes.load(Ordering::Acquire) != seen {
            return true;
        }
        let others = (1..self.servers.all.len()).map(|n| (*current + n) % self.servers.all.len());
        for at in std::iter::once(*current).chain(others) {
            let server = &self.servers.all[at];
            if !matches!(timeout(PROBE, can_write(server)).await, Ok(Ok(()))) {
                continue;
            }
            if at == *current {
                return false;
            }
            *current = at;
            tracing::warn!(server = place(server), "store.server_changed");
            self.pool.set_connect_options(server.clone());
            self.freshness.spoil();
            self.servers.changes.fetch_add(1, Ordering::AcqRel);
            return true;
        }
        false
    }

    /// Sorts an error of the driver, and notices when connections are of no use any more.
    pub(super) fn read(&self, error: sqlx::Error) -> StoreError {
        let error = read_failed(error);
        if spoils_connections(&error) {
            self.freshness.spoil();
        }
        error
    }
}

/// A connection in use.
pub(super) struct Leased {
    connection: Option<PoolConnection<Postgres>>,
    connections: Connections,
    since: Stopwatch,
    /// Changes of server before it was leased.
    changes: usize,
}

impl Leased {
    pub(super) async fn fetch_all(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let (connection, waiting) = self.parts()?;
        let answered = waiting.wait(query.fetch_all(&mut **connection)).await;
        self.settle(answered)
    }

    pub(super) async fn execute(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<PgQueryResult, StoreError> {
        let (connection, waiting) = self.parts()?;
        let answered = waiting.wait(query.execute(&mut **connection)).await;
        self.settle(answered)
    }

    /// Begins a transaction, which ends with it.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        let (connection, waiting) = self.parts()?;
        let answered = waiting.wait(PgTransactionManager::begin(connection, None)).await;
        self.settle(answered)
    }

    /// Makes the transaction durable.
    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        let (connection, waiting) = self.parts()?;
        let answered = waiting.wait(PgTransactionManager::commit(connection)).await;
        self.settle(answered)
    }

    fn parts(&mut self) -> Result<(&mut PoolConnection<Postgres>, Waiting<'_>), StoreError> {
        let Self { connection, connections, changes, .. } = self;
        let waiting = Waiting { connections, changes: *changes };
        let connection = connection.as_mut();
        connection.map(|c| (c, waiting)).ok_or_else(no_answer)
    }

    fn settle<T>(&mut self, answered: Option<Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        if let Some(answered) = answered {
            return answered.map_err(|error| self.connections.read(error));
        }
        // Not to the pool, which would wait for the same answer.
        drop(self.connection.take().map(PoolConnection::detach));
        self.connections.freshness.spoil();
        Err(no_answer())
    }

    fn may_be_kept(&self, idle: &Stopwatch) -> bool {
        idle.elapsed() < KEPT_IDLE
            && self.since.elapsed() < KEPT_FOR
            && self.connections.freshness.is_younger(self.since.elapsed())
    }
}

/// What was begun and not committed is undone.
impl Drop for Leased {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.connection {
            PgTransactionManager::start_rollback(connection);
        }
    }
}

/// How long a call may take.
struct Waiting<'a> {
    connections: &'a Connections,
    changes: usize,
}

impl Waiting<'_> {
    /// `None`: there was no answer in time.
    async fn wait<T>(
        self,
        call: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Option<Result<T, sqlx::Error>> {
        let deadline = self.connections.rule.deadline;
        if self.connections.servers.all.len() == 1 {
            return timeout(deadline, call).await.ok();
        }
        tokio::pin!(call);
        if let Ok(answered) = timeout(LATE, &mut call).await {
            return Some(answered);
        }
        let moved = async {
            match self.connections.change_server(self.changes).await {
                true => (),
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            answered = timeout(deadline.saturating_sub(LATE), call) => answered.ok(),
            () = moved => None,
        }
    }
}

/// A connection for one caller at a time that is used again and again: the pool would ask the server each time it
/// gives it away and each time it takes it back.
#[derive(Default)]
pub(super) struct Line(tokio::sync::Mutex<Option<(Leased, Stopwatch)>>);

impl Line {
    pub(super) async fn fetch_all(
        &self,
        connections: &Connections,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut line = self.0.lock().await;
        let kept = line.take().filter(|(leased, used)| leased.may_be_kept(used));
        let mut leased = match kept {
            Some((leased, _)) => leased,
            None => connections.lease().await?,
        };
        let rows = leased.fetch_all(query).await?;
        if connections.rule.connections >= SMALLEST_THAT_KEEPS {
            *line = Some((leased, Stopwatch::start()));
        }
        Ok(rows)
    }
}

/// When connections were last found to be of no use.
#[derive(Clone, Default)]
struct Freshness {
    spoiled: Arc<Mutex<Option<Stopwatch>>>,
}

impl Freshness {
    /// A pool that keeps only connections that can write.
    fn guard(&self, pool: PgPoolOptions, rule: PoolRule) -> PgPoolOptions {
        let freshness = self.clone();
        let ends_after = rule.ends_statements.then_some(rule.deadline);
        pool.after_connect(move |connection, _| Box::pin(set_up(connection, ends_after)))
            .before_acquire(move |_, kept| {
                let is_fresh = freshness.is_younger(kept.age);
                Box::pin(async move { Ok(is_fresh) })
            })
    }

    fn spoil(&self) {
        let mut spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        *spoiled = Some(Stopwatch::start());
    }

    /// Whether a connection of that age was made after the last refusal.
    fn is_younger(&self, age: Duration) -> bool {
        let spoiled = self.spoiled.lock().unwrap_or_else(PoisonError::into_inner);
        spoiled.as_ref().is_none_or(|since| age < since.elapsed())
    }
}

async fn set_up(
    connection: &mut PgConnection,
    ends_after: Option<Duration>,
) -> Result<(), sqlx::Error> {
    require_writable(connection).await?;
    if let Some(limit) = ends_after {
        let limit = format!("SET statement_timeout = {}", limit.as_millis());
        sqlx::query(&limit).execute(connection).await?;
    }
    Ok(())
}

async fn can_write(server: &PgConnectOptions) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    require_writable(&mut connection).await
}

/// A server in recovery answers `on`, and so does one with `default_transaction_read_only`.
async fn require_writable(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let row = sqlx::query("SHOW transaction_read_only").fetch_one(connection).await?;
    let is_read_only = row.try_get::<String, _>(0)? == "on";
    if is_read_only {
        return Err(sqlx::Error::Protocol("this server is read-only now".to_owned()));
    }
    Ok(())
}

fn place(server: &PgConnectOptions) -> String {
    format!("{}:{}", server.get_host(), server.get_port())
}

fn no_answer() -> StoreError {
    let text = "the database did not answer in time (database.deadline)";
    let error = std::io::Error::new(std::io::ErrorKind::TimedOut, text);
    StoreError::Unavailable(SharedError(Arc::new(error)))
}

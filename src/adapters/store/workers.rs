//! Which processes are alive, and which one does what only one may do.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::ports::store_error::StoreError;
use crate::ports::workers::{ALIVE, DeadProcesses, Leases, Worker, WorkerList, WorkerRegistry};
use crate::sql_args;

use super::db::{Db, Sql, Tx};
use super::in_hand;
use super::ledger::SqlStore;

/// How long a process that is not seen any more stays in the list.
const REMEMBERED: Duration = Duration::from_hours(24);

#[async_trait]
impl<D: Db> Leases for SqlStore<D> {
    async fn acquire_lease(
        &self,
        task: &str,
        worker: &str,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO leases (task, worker, until_ms)
            VALUES ($1, $2, $3)
            ON CONFLICT (task) DO UPDATE
            SET worker = excluded.worker, until_ms = excluded.until_ms
            WHERE leases.worker = excluded.worker OR leases.until_ms <= $4";
        Ok(self.db.execute(&sql.into(), sql_args![task, worker, until, now]).await? > 0)
    }
}

#[async_trait]
impl<D: Db> WorkerRegistry for SqlStore<D> {
    async fn heartbeat(&self, worker: &Worker) -> Result<(), StoreError> {
        let written = self.write_heartbeat(worker).await;
        self.watch.note_heartbeat(written.as_ref().err());
        written
    }

    async fn ledger_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(sql) = D::NOW else { return Ok(None) };
        let mut rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.pop().map(|mut row| row.time("now_ms")).transpose()
    }

    async fn deregister(&self, name: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM workers
            WHERE name = $1";
        self.db.execute(&sql.into(), sql_args![name]).await.map(|_| ())
    }
}

#[async_trait]
impl<D: Db> DeadProcesses for SqlStore<D> {
    async fn heartbeats(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let sql = "SELECT name, seen_at_ms
            FROM workers
            ORDER BY name";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "workers";
                Ok((row.id("name")?, row.time("seen_at_ms")?))
            })
            .collect()
    }

    async fn abandon_claims(&self, process: &str, now: Timestamp) -> Result<u64, StoreError> {
        // A claim is named after its process, a dot and a number. What somebody has locked is being dealt with.
        let free = D::FOR_UPDATE_OF_FREE;
        let sql = format!(
            "WITH abandoned AS (
              SELECT shop, order_id
              FROM order_states
              WHERE state <> 'confirmed' AND claimed_until_ms > $2
                AND rtrim(claim_worker, '0123456789') = $1
              {free})
            UPDATE order_states
            SET unclear_since_ms = CASE
                WHEN claim_preparing = claim_worker OR unclear_since_ms >= claimed_until_ms
                THEN unclear_since_ms ELSE claimed_until_ms END,
              claimed_until_ms = $2, swept_at_ms = NULL, version = version + 1
            WHERE (shop, order_id) IN (SELECT shop, order_id FROM abandoned)"
        );
        let mut tx = self.db.begin().await?;
        in_hand::give_states_to_claimed(&mut tx, process, now).await?;
        let ended = tx.execute(&Sql::Built(sql), sql_args![format!("{process}."), now]).await?;
        tx.commit().await?;
        Ok(ended)
    }
}

#[async_trait]
impl<D: Db> WorkerList for SqlStore<D> {
    async fn workers(&self, now: Timestamp) -> Result<Vec<Worker>, StoreError> {
        let sql = "SELECT name, roles, started_at_ms, seen_at_ms
            FROM workers
            WHERE seen_at_ms >= $1
            ORDER BY name";
        let since = now.checked_sub(ALIVE).unwrap_or(Timestamp::MIN);
        let rows = self.db.fetch(&sql.into(), sql_args![since]).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "workers";
                Ok(Worker {
                    name: row.id("name")?,
                    roles: row.text("roles")?.split_whitespace().map(str::to_owned).collect(),
                    started_at: row.time("started_at_ms")?,
                    seen_at: row.time("seen_at_ms")?,
                })
            })
            .collect()
    }
}

impl<D: Db> SqlStore<D> {
    async fn write_heartbeat(&self, worker: &Worker) -> Result<(), StoreError> {
        let sql = "INSERT INTO workers (name, roles, started_at_ms, seen_at_ms)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (name) DO UPDATE
            SET roles = excluded.roles, started_at_ms = excluded.started_at_ms,
              seen_at_ms = excluded.seen_at_ms";
        let roles = worker.roles.join(" ");
        let args = sql_args![&worker.name, roles, worker.started_at, worker.seen_at];
        self.db.execute(&sql.into(), args).await?;
        let stale = "DELETE FROM workers
            WHERE seen_at_ms < $1";
        let forgotten = worker.seen_at.checked_sub(REMEMBERED).unwrap_or(Timestamp::MIN);
        self.db.execute(&stale.into(), sql_args![forgotten]).await.map(|_| ())
    }
}

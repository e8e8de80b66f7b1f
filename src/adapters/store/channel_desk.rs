//! Messages to channels as people see them and send them again, and the channels that were made on the page.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::ports::audit::Act;
use crate::ports::channels::{
    ChannelArchive, ChannelDesk, MessageFilter, MessageStatus, NewMessage, StoredChannel,
    StoredMessage,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::audit::insert_audit;
use super::channels::{insert_message, message_content};
use super::db::{Db, Row, Sql, Tx};
use super::ledger::SqlStore;
use super::rows;

const MESSAGE_COLUMNS: &str =
    "id, channel, content, status, tries, error, created_at_ms, due_at_ms, settled_at_ms";

#[async_trait]
impl<D: Db> ChannelArchive for SqlStore<D> {
    async fn list_channel_messages(
        &self,
        filter: &MessageFilter,
        limit: u32,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS}
            FROM channel_messages
            WHERE ($1 IS NULL OR channel = $1) AND ($2 IS NULL OR status = $2)
            ORDER BY created_at_ms DESC, id DESC
            LIMIT $3"
        );
        let (channel, status) =
            (filter.channel.as_deref(), filter.status.map(MessageStatus::as_str));
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![channel, status, limit]).await?;
        rows.into_iter().map(stored_message).collect()
    }

    async fn channel_message(&self, id: Uuid) -> Result<Option<StoredMessage>, StoreError> {
        let sql = format!("SELECT {MESSAGE_COLUMNS} FROM channel_messages WHERE id = $1");
        let rows = self.db.fetch(&Sql::Built(sql), sql_args![id]).await?;
        rows.into_iter().map(stored_message).next().transpose()
    }

    async fn stored_channels(&self) -> Result<Vec<StoredChannel>, StoreError> {
        let sql = "SELECT name, definition, version
            FROM channels
            ORDER BY name";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "channels";
                Ok(StoredChannel {
                    name: row.id("name")?,
                    definition: row.text("definition")?,
                    version: row.int("version")?,
                })
            })
            .collect()
    }
}

fn stored_message(mut row: Row) -> Result<StoredMessage, StoreError> {
    row.table = "channel_messages";
    Ok(StoredMessage {
        id: rows::uuid_of(&mut row, "id")?,
        channel: row.text("channel")?,
        content: message_content(&mut row)?,
        status: row.parsed("status", MessageStatus::from_name)?,
        tries: row.number("tries")?,
        error: row.text_or_null("error")?,
        created_at: row.time("created_at_ms")?,
        due_at: row.time("due_at_ms")?,
        settled_at: row.time_or_null("settled_at_ms")?,
    })
}

#[async_trait]
impl<D: Db> ChannelDesk for SqlStore<D> {
    async fn resend_channel_message(&self, id: Uuid, act: &Act) -> Result<bool, StoreError> {
        let sql = "UPDATE channel_messages
            SET status = 'waiting', tries = 0, queued_at_ms = $2, due_at_ms = $2,
              settled_at_ms = NULL
            WHERE id = $1 AND status = 'failed'";
        let mut tx = self.db.begin().await?;
        let done = tx.execute(&sql.into(), sql_args![id, act.now]).await? > 0;
        if done {
            let target = format!("message {id}");
            insert_audit(&mut tx, act, "channel.resend", &target, None, None).await?;
            tx.commit().await?;
        }
        Ok(done)
    }

    async fn add_test_message(
        &self,
        channel: &str,
        message: &NewMessage,
        until: Timestamp,
        act: &Act,
    ) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        insert_message(&mut tx, channel, message, Some(until)).await?;
        let target = format!("channel {channel}");
        insert_audit(&mut tx, act, "channel.test", &target, None, None).await?;
        tx.commit().await
    }

    async fn save_channel(
        &self,
        channel: &StoredChannel,
        expected: i64,
        act: &Act,
    ) -> Result<bool, StoreError> {
        let insert = "INSERT INTO channels (name, definition, version, changed_at_ms)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING";
        let update = "UPDATE channels
            SET definition = $2, version = $3, changed_at_ms = $4
            WHERE name = $1 AND version = $5";
        let mut tx = self.db.begin().await?;
        let StoredChannel { name, definition, version } = channel;
        let mut args = sql_args![name, definition, *version, act.now];
        let (sql, action) = match expected {
            0 => (insert, "channel.create"),
            _ => {
                args.extend(sql_args![expected]);
                (update, "channel.change")
            }
        };
        let done = tx.execute(&sql.into(), args).await? > 0;
        if done {
            // Without its definition: that holds secrets.
            insert_audit(&mut tx, act, action, &format!("channel {name}"), None, None).await?;
            tx.commit().await?;
        }
        Ok(done)
    }

    async fn delete_channel(&self, name: &str, act: &Act) -> Result<bool, StoreError> {
        let sql = "DELETE FROM channels WHERE name = $1";
        let mut tx = self.db.begin().await?;
        let done = tx.execute(&sql.into(), sql_args![name]).await? > 0;
        if done {
            let target = format!("channel {name}");
            insert_audit(&mut tx, act, "channel.delete", &target, None, None).await?;
            tx.commit().await?;
        }
        Ok(done)
    }
}

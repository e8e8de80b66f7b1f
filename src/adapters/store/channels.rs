//! Channels in the ledger: each notice is given to every channel that takes it, and ends in one message there. A
//! message has one receiver, so its row is also its delivery.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::channel::{ChannelRule, ChannelWindow};
use crate::domain::notice::DigestWindow;
use crate::ports::channels::{
    ChannelDecision, ChannelLevels, ChannelOutbox, ChannelState, ClaimedMessage, MessageClaim,
    MessageContent, MessageFate, NewMessage, RefusedChannel,
};
use crate::ports::notices::Notice;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::db::{Db, Row, Sql, Tx, Value};
use super::encode::json;
use super::ledger::SqlStore;
use super::rows::{self, ROWS_AT_ONCE, places};

#[async_trait]
impl<D: Db> ChannelOutbox for SqlStore<D> {
    async fn give_to_channels(
        &self,
        channels: &[(String, ChannelRule)],
        now: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        // Usually there is none: no transaction is begun to find that out.
        let any = "SELECT CAST(1 AS BIGINT)
            FROM notices
            WHERE channels_at_ms IS NULL AND kind <> 'customer_confirmation'
            LIMIT 1";
        if self.db.fetch(&any.into(), Vec::new()).await?.is_empty() {
            return Ok(0);
        }
        let take = format!(
            "WITH loose AS (
              SELECT id
              FROM notices
              WHERE channels_at_ms IS NULL AND kind <> 'customer_confirmation'
              ORDER BY created_at_ms, id
              LIMIT $2
              {free})
            UPDATE notices
            SET channels_at_ms = $1
            WHERE id IN (SELECT id FROM loose) AND channels_at_ms IS NULL
            RETURNING id, kind, detail, created_at_ms",
            free = D::FOR_UPDATE_OF_FREE
        );
        let mut tx = self.db.begin().await?;
        let taken = tx.fetch(&Sql::Built(take), sql_args![now, limit]).await?;
        if taken.is_empty() {
            return Ok(0);
        }
        let notices = taken.into_iter().map(rows::notice).collect::<Result<Vec<Notice>, _>>()?;
        let mut given = Vec::new();
        for (channel, rule) in channels {
            let its = notices.iter().filter(|notice| rule.takes(notice.kind, &notice.detail.shop));
            given.extend(its.map(|notice| (channel.as_str(), notice.id.as_str())));
        }
        // Two processes write them in the same order.
        given.sort_unstable();
        for some in given.chunks(ROWS_AT_ONCE) {
            let sql = format!(
                "INSERT INTO channel_notices (channel, notice_id, due_at_ms)
                VALUES {}
                ON CONFLICT DO NOTHING",
                places(some.len(), 3)
            );
            let args = some.iter().flat_map(|(channel, notice)| sql_args![*channel, *notice, now]);
            tx.execute(&Sql::Built(sql), args.collect()).await?;
        }
        tx.commit().await?;
        Ok(u32::try_from(notices.len()).unwrap_or(u32::MAX))
    }

    async fn waiting_for_channel(
        &self,
        channel: &str,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        let sql = "SELECT n.id, n.kind, n.detail, n.created_at_ms
            FROM channel_notices AS c
            JOIN notices AS n ON n.id = c.notice_id
            WHERE c.channel = $1 AND c.message_id IS NULL AND c.below_at_ms IS NULL
              AND EXISTS (
                SELECT 1
                FROM channel_notices AS due
                WHERE due.channel = $1 AND due.message_id IS NULL AND due.below_at_ms IS NULL
                  AND due.due_at_ms <= $2)
            ORDER BY n.created_at_ms, n.id
            LIMIT $3";
        let rows = self.db.fetch(&sql.into(), sql_args![channel, now, limit]).await?;
        rows.into_iter().map(rows::notice).collect()
    }

    async fn channel_window(&self, channel: &str) -> Result<ChannelWindow, StoreError> {
        let sql = "SELECT digest_started_at_ms, digest_sent, above_until_ms
            FROM channel_states
            WHERE channel = $1";
        let mut rows = self.db.fetch(&sql.into(), sql_args![channel]).await?;
        let Some(mut row) = rows.pop() else { return Ok(ChannelWindow::default()) };
        row.table = "channel_states";
        let started_at = row.time_or_null("digest_started_at_ms")?;
        let sent = row.number("digest_sent")?;
        Ok(ChannelWindow {
            digest: started_at.map(|started_at| DigestWindow { started_at, sent }),
            above_until: row.time_or_null("above_until_ms")?,
        })
    }

    async fn decide_for_channel(
        &self,
        channel: &str,
        decided: &ChannelDecision,
    ) -> Result<bool, StoreError> {
        let mut tx = self.db.begin().await?;
        for message in &decided.messages {
            insert_message(&mut tx, channel, message, None).await?;
            let set = ("message_id", Value::from(message.id));
            if !update_waiting(&mut tx, channel, &message.notices, set).await? {
                return Ok(false);
            }
        }
        let below = ("below_at_ms", Value::from(decided.now));
        if !update_waiting(&mut tx, channel, &decided.below, below).await? {
            return Ok(false);
        }
        for some in decided.later.chunk_by(|a, b| a.1 == b.1) {
            let ids: Vec<String> = some.iter().map(|(id, _)| id.clone()).collect();
            postpone(&mut tx, channel, &ids, some[0].1).await?;
        }
        let state = "INSERT INTO channel_states
              (channel, digest_started_at_ms, digest_sent, above_until_ms, below)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (channel) DO UPDATE
            SET digest_started_at_ms = excluded.digest_started_at_ms,
              digest_sent = excluded.digest_sent, above_until_ms = excluded.above_until_ms,
              below = channel_states.below + excluded.below";
        let ChannelWindow { digest, above_until } = decided.window;
        let args = sql_args![
            channel,
            digest.map(|digest| digest.started_at),
            digest.map_or(0, |digest| digest.sent),
            above_until,
            count(decided.below.len())
        ];
        tx.execute(&state.into(), args).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn claim_channel_message(
        &self,
        channel: &str,
        claim: &MessageClaim,
    ) -> Result<Option<ClaimedMessage>, StoreError> {
        let any = "SELECT CAST(1 AS BIGINT)
            FROM channel_messages
            WHERE channel = $1 AND status = 'waiting' AND due_at_ms <= $2
            LIMIT 1";
        if self.db.fetch(&any.into(), sql_args![channel, claim.now]).await?.is_empty() {
            return Ok(None);
        }
        let sql = format!(
            "WITH due AS (
              SELECT id
              FROM channel_messages AS m
              WHERE channel = $1 AND status = 'waiting' AND due_at_ms <= $3
                AND (claimed_until_ms IS NULL OR claimed_until_ms <= $3)
                AND (incident IS NULL OR NOT EXISTS (
                  SELECT 1
                  FROM channel_messages AS earlier
                  WHERE earlier.channel = $1 AND earlier.status = 'waiting'
                    AND earlier.incident = m.incident
                    AND (earlier.created_at_ms, earlier.id) < (m.created_at_ms, m.id)))
              ORDER BY due_at_ms, created_at_ms, id
              LIMIT 1
              {free})
            UPDATE channel_messages
            SET claim_worker = $2, claimed_until_ms = $4, tries = tries + 1
            WHERE id IN (SELECT id FROM due)
              AND status = 'waiting' AND (claimed_until_ms IS NULL OR claimed_until_ms <= $3)
            RETURNING id, content, tries, queued_at_ms",
            free = D::FOR_UPDATE_OF_FREE
        );
        let args = sql_args![channel, &claim.worker, claim.now, claim.until];
        let mut tx = self.db.begin().await?;
        let mut rows = tx.fetch(&Sql::Built(sql), args).await?;
        let Some(mut row) = rows.pop() else { return Ok(None) };
        row.table = "channel_messages";
        let claimed = ClaimedMessage {
            id: rows::uuid_of(&mut row, "id")?,
            content: message_content(&mut row)?,
            tries: row.number("tries")?,
            queued_at: row.time("queued_at_ms")?,
        };
        tx.commit().await?;
        Ok(Some(claimed))
    }

    async fn notices_in_message(&self, id: Uuid) -> Result<Vec<Notice>, StoreError> {
        let sql = "SELECT n.id, n.kind, n.detail, n.created_at_ms
            FROM channel_notices AS c
            JOIN notices AS n ON n.id = c.notice_id
            WHERE c.message_id = $1
            ORDER BY n.created_at_ms, n.id";
        let rows = self.db.fetch(&sql.into(), sql_args![id]).await?;
        rows.into_iter().map(rows::notice).collect()
    }

    async fn settle_channel_message(&self, id: Uuid, fate: MessageFate) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        let (set, args) = settling(id, &fate);
        // What was delivered stays delivered, whatever is told later.
        let only = match fate {
            MessageFate::Delivered(_) => "status <> 'delivered'",
            _ => "status = 'waiting'",
        };
        let sql = format!(
            "UPDATE channel_messages
            SET {set}, claim_worker = NULL, claimed_until_ms = NULL
            WHERE id = $1 AND {only}
            RETURNING channel"
        );
        let Some(mut row) = tx.fetch(&Sql::Built(sql), args).await?.pop() else { return Ok(()) };
        row.table = "channel_messages";
        let channel = row.text("channel")?;
        match &fate {
            MessageFate::ChannelAway { at, .. } => put_off(&mut tx, &channel, *at).await?,
            MessageFate::Split { parts, .. } => {
                for part in parts {
                    insert_message(&mut tx, &channel, part, None).await?;
                    move_notices(&mut tx, &channel, part).await?;
                }
            }
            _ => {}
        }
        note_outcome(&mut tx, &channel, &fate).await?;
        tx.commit().await
    }
}

/// What is written of an outcome besides the end of the claim; $1 is the message.
fn settling(id: Uuid, fate: &MessageFate) -> (&'static str, Vec<Value>) {
    match fate {
        MessageFate::Delivered(at) => {
            ("status = 'delivered', settled_at_ms = $2, error = NULL", sql_args![id, *at])
        }
        MessageFate::Later { at, error } | MessageFate::ChannelAway { at, error } => {
            ("due_at_ms = $2, error = $3", sql_args![id, *at, error])
        }
        MessageFate::Failed { at, error } => {
            ("status = 'failed', settled_at_ms = $2, error = $3", sql_args![id, *at, error])
        }
        MessageFate::Split { at, error, .. } => {
            ("status = 'split', settled_at_ms = $2, error = $3", sql_args![id, *at, error])
        }
        MessageFate::Untried => ("tries = tries - 1", sql_args![id]),
    }
}

/// Nothing else goes to the channel before that time.
async fn put_off<T: Tx>(tx: &mut T, channel: &str, until: Timestamp) -> Result<(), StoreError> {
    let sql = "UPDATE channel_messages
        SET due_at_ms = $2
        WHERE channel = $1 AND status = 'waiting' AND due_at_ms < $2
          AND claimed_until_ms IS NULL";
    tx.execute(&sql.into(), sql_args![channel, until]).await.map(|_| ())
}

/// How the channel is doing after an outcome.
async fn note_outcome<T: Tx>(
    tx: &mut T,
    channel: &str,
    fate: &MessageFate,
) -> Result<(), StoreError> {
    let known = "INSERT INTO channel_states (channel)
        VALUES ($1)
        ON CONFLICT DO NOTHING";
    let (sql, args) = match fate {
        MessageFate::Delivered(at) => (
            "UPDATE channel_states
            SET delivered = delivered + 1, delivered_at_ms = $2, refused_at_ms = NULL, error = NULL
            WHERE channel = $1",
            sql_args![channel, *at],
        ),
        MessageFate::Later { error, .. } | MessageFate::ChannelAway { error, .. } => (
            "UPDATE channel_states
            SET error = $2
            WHERE channel = $1",
            sql_args![channel, error],
        ),
        MessageFate::Failed { at, error } => (
            "UPDATE channel_states
            SET refused_at_ms = $2, error = $3
            WHERE channel = $1",
            sql_args![channel, *at, error],
        ),
        MessageFate::Split { .. } | MessageFate::Untried => return Ok(()),
    };
    tx.execute(&known.into(), sql_args![channel]).await?;
    tx.execute(&sql.into(), args).await.map(|_| ())
}

/// Inserts a message; a claimed one is taken by nobody until then.
pub(super) async fn insert_message<T: Tx>(
    tx: &mut T,
    channel: &str,
    new: &NewMessage,
    claimed_until: Option<Timestamp>,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO channel_messages
          (id, channel, kind, content, incident, status, tries, queued_at_ms, due_at_ms,
          claimed_until_ms, created_at_ms)
        VALUES ($1, $2, $3, $4, $5, 'waiting', $6, $7, $7, $8, $7)";
    let args = sql_args![
        new.id,
        channel,
        &new.content.kind,
        json(&new.content)?,
        new.content.incident.as_ref().map(|incident| incident.key.as_str()),
        i64::from(claimed_until.is_some()),
        new.now,
        claimed_until
    ];
    tx.execute(&sql.into(), args).await.map(|_| ())
}

/// Sets a column of notices that wait for the channel; `false` when one of them does not wait any more.
async fn update_waiting<T: Tx>(
    tx: &mut T,
    channel: &str,
    notices: &[String],
    (column, value): (&'static str, Value),
) -> Result<bool, StoreError> {
    for some in notices.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "UPDATE channel_notices
            SET {column} = $2
            WHERE channel = $1 AND message_id IS NULL AND below_at_ms IS NULL
              AND notice_id IN ({})",
            numbers(3, some.len())
        );
        let mut args = vec![Value::from(channel), value.clone()];
        args.extend(some.iter().map(Value::from));
        let done = tx.execute(&Sql::Built(sql), args).await?;
        if usize::try_from(done) != Ok(some.len()) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn postpone<T: Tx>(
    tx: &mut T,
    channel: &str,
    notices: &[String],
    until: Timestamp,
) -> Result<(), StoreError> {
    for some in notices.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "UPDATE channel_notices
            SET due_at_ms = $2
            WHERE channel = $1 AND message_id IS NULL AND below_at_ms IS NULL AND due_at_ms <> $2
              AND notice_id IN ({})",
            numbers(3, some.len())
        );
        let mut args = sql_args![channel, until];
        args.extend(some.iter().map(Value::from));
        tx.execute(&Sql::Built(sql), args).await?;
    }
    Ok(())
}

/// The notices of a part belong to it now.
async fn move_notices<T: Tx>(
    tx: &mut T,
    channel: &str,
    part: &NewMessage,
) -> Result<(), StoreError> {
    for some in part.notices.chunks(ROWS_AT_ONCE) {
        let sql = format!(
            "UPDATE channel_notices
            SET message_id = $2
            WHERE channel = $1 AND notice_id IN ({})",
            numbers(3, some.len())
        );
        let mut args = sql_args![channel, part.id];
        args.extend(some.iter().map(Value::from));
        tx.execute(&Sql::Built(sql), args).await?;
    }
    Ok(())
}

/// `$3, $4, …`
fn numbers(first: usize, count: usize) -> String {
    let all: Vec<String> = (first..first + count).map(|number| format!("${number}")).collect();
    all.join(", ")
}

fn count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// The column `content`.
pub(super) fn message_content(row: &mut Row) -> Result<MessageContent, StoreError> {
    row.parsed("content", |text| serde_json::from_str(text).ok())
}

#[async_trait]
impl<D: Db> ChannelLevels for SqlStore<D> {
    async fn channel_states(&self) -> Result<Vec<ChannelState>, StoreError> {
        let sql = "WITH known AS (
              SELECT channel FROM channel_states
              UNION SELECT channel FROM channel_notices
                WHERE message_id IS NULL AND below_at_ms IS NULL
              UNION SELECT channel FROM channel_messages WHERE status = 'waiting')
            SELECT k.channel,
              (SELECT COUNT(*) FROM channel_notices AS c
                WHERE c.channel = k.channel AND message_id IS NULL AND below_at_ms IS NULL),
              (SELECT COUNT(*) FROM channel_messages AS m
                WHERE m.channel = k.channel AND status = 'waiting'),
              (SELECT COUNT(*) FROM channel_messages AS m
                WHERE m.channel = k.channel AND status = 'failed'),
              COALESCE(s.delivered, 0), COALESCE(s.below, 0), s.delivered_at_ms, s.error,
              s.refused_at_ms
            FROM known AS k
            LEFT JOIN channel_states AS s ON s.channel = k.channel
            ORDER BY k.channel";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "channel_states";
                Ok(ChannelState {
                    channel: row.id("channel")?,
                    held: row.number("held")?,
                    waiting: row.number("waiting")?,
                    failed: row.number("failed")?,
                    delivered: row.number("delivered")?,
                    below: row.number("below")?,
                    delivered_at: row.time_or_null("delivered_at_ms")?,
                    error: row.text_or_null("error")?,
                    is_refused: row.time_or_null("refused_at_ms")?.is_some(),
                })
            })
            .collect()
    }

    async fn refused_channels(&self) -> Result<Vec<RefusedChannel>, StoreError> {
        let sql = "SELECT channel, error, refused_at_ms
            FROM channel_states
            WHERE refused_at_ms IS NOT NULL
            ORDER BY channel";
        let rows = self.db.fetch(&sql.into(), Vec::new()).await?;
        rows.into_iter()
            .map(|mut row| {
                row.table = "channel_states";
                Ok(RefusedChannel {
                    channel: row.id("channel")?,
                    error: row.text_or_null("error")?.unwrap_or_default(),
                    at: row.time("refused_at_ms")?,
                })
            })
            .collect()
    }
}

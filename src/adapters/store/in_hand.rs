//! Orders in hand: those without a row in `order_states`. They came, and were claimed with their insertion or wait for
//! that; nothing unusual has happened to them yet. All but a few were received after a mark, so nobody has to search
//! all orders for them.

use std::time::Duration;

use jiff::Timestamp;

use crate::ports::orders::Sweep;
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::conditions::shop_condition;
use super::db::{Db, Sql, Tx};
use super::rows;

/// The mark stays that long behind, because a transaction may write orders that were received a while ago. Those
/// that are older still are noticed by their number.
const BEHIND: Duration = Duration::from_secs(60);

/// Nothing changes by it, so `version` stays what it is without a state: 0.
const GIVE_STATES: &str = "INSERT INTO order_states (shop, order_id, state, phase, received_at_ms,
      updated_at_ms, version, claim_worker, claim_attempt, claimed_until_ms, claim_preparing)
    SELECT shop, order_id, state, phase, received_at_ms, received_at_ms, version, claim_worker, claim_attempt,
      claimed_until_ms, claim_preparing";

/// What is overdue gets a state, so that it is found like all others. The conditions are those of `take_overdue`. Rows are
/// written in the order of their keys, so that two processes never wait for each other in a ring.
pub(super) async fn give_states_to_overdue<T: Tx>(
    tx: &mut T,
    sweep: &Sweep,
) -> Result<(), StoreError> {
    let (shops, mut shop_args) = shop_condition("shop", &sweep.shops, 4);
    let sql = format!(
        "{GIVE_STATES}
        FROM (
          SELECT *
          FROM in_hand_rows
          WHERE (claim_worker <> COALESCE(claim_preparing, '') AND claimed_until_ms <= $2
              OR (claim_worker IS NULL OR claim_worker = claim_preparing AND claimed_until_ms <= $1)
                AND received_at_ms <= $2)
            AND {shops}
          ORDER BY received_at_ms, shop, order_id
          LIMIT $3) AS overdue
        ORDER BY shop, order_id
        ON CONFLICT DO NOTHING"
    );
    let before = sweep.now.checked_sub(sweep.grace).unwrap_or(Timestamp::MIN);
    let mut args = sql_args![sweep.now, before, sweep.limit];
    args.append(&mut shop_args);
    tx.execute(&Sql::Built(sql), args).await.map(drop)
}

/// What that process has claimed gets a state.
pub(super) async fn give_states_to_claimed<T: Tx>(
    tx: &mut T,
    process: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql = format!(
        "{GIVE_STATES}
        FROM in_hand_rows
        WHERE rtrim(claim_worker, '0123456789') = $1 AND claimed_until_ms > $2
        ORDER BY shop, order_id
        ON CONFLICT DO NOTHING"
    );
    tx.execute(&Sql::Built(sql), sql_args![format!("{process}."), now]).await.map(drop)
}

/// Moves the mark to the oldest order in hand. If the counters know of more queued orders than are found, the mark goes
/// back to the beginning: an order was written long after it was received.
pub(super) async fn move_mark<D: Db>(db: &D, now: Timestamp) -> Result<(), StoreError> {
    let found = "SELECT
          (SELECT CAST(COALESCE(SUM(orders), 0) AS BIGINT)
            FROM order_counts
            WHERE state = 'payed' AND phase = 'queued'),
          (SELECT COUNT(*) FROM order_states WHERE state <> 'confirmed' AND phase = 'queued')
            + (SELECT COUNT(*) FROM in_hand_rows),
          (SELECT MIN(received_at_ms) FROM in_hand_rows),
          (SELECT at_ms FROM ledger_marks WHERE name = 'in_hand_since')";
    let mut row = rows::only(db.fetch(&found.into(), Vec::new()).await?)?;
    row.table = "ledger_marks";
    let (counted, found) = (row.int("counted")?, row.int("found")?);
    let oldest = row.time_or_null("oldest")?;
    let mark = row.time("at_ms")?;
    let behind = now.checked_sub(BEHIND).unwrap_or(Timestamp::MIN);
    let next = match counted > found {
        true => Timestamp::UNIX_EPOCH,
        false => oldest.map_or(behind, |oldest| oldest.min(behind)).max(mark),
    };
    if next == mark {
        return Ok(());
    }
    let sql = "UPDATE ledger_marks
        SET at_ms = $1
        WHERE name = 'in_hand_since'";
    db.execute(&sql.into(), sql_args![next]).await.map(drop)
}

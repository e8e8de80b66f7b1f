//! What the runner of redrives needs. Every write repeats the loaded state as a condition: a redrive that a
//! person paused in the meantime sends nothing more, and two runners never send the same order.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::memory::MemoryLedger;
use super::tables::{ItemRow, Tables};
use super::values::{refused, rows, stored_option, stored_text, stored_time};
use crate::domain::failure_summary::FailureSummary;
use crate::domain::redrive::{ItemStatus, RedriveStatus};
use crate::ports::redrives::{
    MANY_WAIT, Redrive, RedriveRunner, SentItem, SettledItem, StepState, Turn,
};
use crate::ports::store_error::StoreError;

#[async_trait]
impl RedriveRunner for MemoryLedger {
    async fn open_redrives(&self) -> Result<Vec<Uuid>, StoreError> {
        self.read(|tables| {
            let all = tables.redrives.values();
            let open = all.filter(|redrive| {
                redrive.status == RedriveStatus::Running
                    || tables.items_after(redrive.id, Some(ItemStatus::Sent), None).next().is_some()
            });
            open.map(|redrive| redrive.id).collect()
        })
        .await
    }

    async fn redrive_head(&self, id: Uuid) -> Result<Option<Redrive>, StoreError> {
        self.read(|tables| tables.redrives.get(&id).cloned()).await
    }

    async fn redrive_step(&self, id: Uuid, wave: u32) -> Result<StepState, StoreError> {
        self.read(|tables| tables.step(id, wave)).await
    }

    async fn redrive_turns(
        &self,
        id: Uuid,
        status: ItemStatus,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        self.read(|tables| {
            let items = tables.items_after(id, Some(status), after).take(rows(limit));
            tables.turns(items)
        })
        .await
    }

    async fn mark_sent(
        &self,
        redrive: &Redrive,
        items: &[SentItem],
        now: Timestamp,
    ) -> Result<Vec<u64>, StoreError> {
        self.write(|tables| {
            if !tables.redrives.get(&redrive.id).is_some_and(|row| is_as_loaded(row, redrive)) {
                return Ok(Vec::new());
            }
            let marked = items.iter().filter(|sent| tables.mark(redrive, sent, now));
            Ok(marked.map(|sent| sent.seq).collect())
        })
        .await
    }

    async fn settle_items(
        &self,
        id: Uuid,
        was: ItemStatus,
        items: &[SettledItem],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(|tables| items.iter().try_for_each(|item| tables.settle(id, was, item, now)))
            .await
    }

    async fn begin_step(&self, redrive: &Redrive, ramp_at: usize) -> Result<bool, StoreError> {
        self.write(|tables| {
            Ok(tables.redrives.update_if(
                &redrive.id,
                |row| is_as_loaded(row, redrive),
                |row| {
                    row.wave += 1;
                    row.ramp_at = ramp_at;
                    row.version += 1;
                },
            ))
        })
        .await
    }

    async fn end_redrive(
        &self,
        redrive: &Redrive,
        status: RedriveStatus,
        why: Option<&str>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            Ok(tables.redrives.update_if(
                &redrive.id,
                |row| is_as_loaded(row, redrive),
                |row| {
                    row.status = status;
                    row.why = stored_option(why);
                    row.ended_at = status.is_over().then_some(stored_time(now));
                    row.version += 1;
                },
            ))
        })
        .await
    }
}

impl Tables {
    fn step(&self, id: Uuid, wave: u32) -> StepState {
        let waiting = self.items_after(id, Some(ItemStatus::Waiting), None);
        let waiting = waiting.take(rows(MANY_WAIT)).count() as u64;
        let mut step = StepState { waiting, ..StepState::default() };
        // Each kind of failure once for each status, with the first of its texts.
        let mut kinds = BTreeSet::<(ItemStatus, String, String)>::new();
        for row in self.items_after(id, None, None).filter(|row| row.wave == Some(wave)) {
            match row.item.status {
                ItemStatus::Sent => step.tally.sent += 1,
                ItemStatus::Transferred => step.tally.transferred += 1,
                status @ (ItemStatus::Failed | ItemStatus::Unclear) => {
                    step.tally.failed += 1;
                    let failure = row.item.failure.as_ref();
                    let text = |get: fn(&FailureSummary) -> &String| {
                        failure.map(get).cloned().unwrap_or_default()
                    };
                    kinds.insert((status, text(|f| &f.fingerprint), text(|f| &f.message)));
                }
                ItemStatus::Waiting | ItemStatus::Skipped | ItemStatus::Excluded => {}
            }
        }
        let mut first = BTreeMap::new();
        for (status, kind, message) in kinds {
            first.entry((status, kind)).or_insert(message);
        }
        step.failures = first.into_iter().map(|((_, kind), message)| (kind, message)).collect();
        step
    }

    fn turns<'a>(&self, items: impl Iterator<Item = &'a ItemRow>) -> Vec<Turn> {
        let turn = |row: &ItemRow| Turn {
            item: row.item.clone(),
            sent_version: row.sent_version.unwrap_or(0),
            record: self.orders.get(&row.item.key).map(|order| order.record.clone()),
        };
        items.map(turn).collect()
    }

    fn mark(&mut self, redrive: &Redrive, sent: &SentItem, now: Timestamp) -> bool {
        let waits = |row: &ItemRow| row.item.status == ItemStatus::Waiting;
        self.redrive_items.update_if(&(redrive.id, sent.seq), waits, |row| {
            row.item.status = ItemStatus::Sent;
            row.item.why = None;
            row.item.attempt = Some(sent.attempt);
            row.item.at = Some(stored_time(now));
            row.wave = Some(redrive.wave);
            row.sent_version = Some(sent.sent_version);
        })
    }

    fn settle(
        &mut self,
        id: Uuid,
        was: ItemStatus,
        settled: &SettledItem,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let place = (id, settled.seq);
        let is_theirs = |row: &ItemRow| row.item.status == was;
        self.redrive_items.update_if(&place, is_theirs, |row| {
            row.item.status = settled.status;
            row.item.why = stored_option(settled.why.as_deref());
            row.item.failure = settled.failure.as_ref().map(stored_summary);
            row.item.erp_order_id = stored_option(settled.erp_order_id.as_deref());
            row.item.at = Some(stored_time(now));
            let leaves = matches!(settled.status, ItemStatus::Waiting | ItemStatus::Skipped);
            row.wave = row.wave.filter(|_| !leaves);
        });
        let is_sent_without_attempt = self.redrive_items.get(&place).is_some_and(|row| {
            row.item.status == ItemStatus::Sent
                && (row.item.attempt.is_none() || row.wave.is_none())
        });
        match is_sent_without_attempt {
            true => Err(refused("an order was sent without an attempt")),
            false => Ok(()),
        }
    }
}

/// Whether the redrive still runs unchanged.
fn is_as_loaded(row: &Redrive, loaded: &Redrive) -> bool {
    row.version == loaded.version && row.status == RedriveStatus::Running
}

fn stored_summary(summary: &FailureSummary) -> FailureSummary {
    FailureSummary {
        class: summary.class,
        code: stored_text(&summary.code),
        message: stored_text(&summary.message),
        fingerprint: stored_text(&summary.fingerprint),
    }
}

//! Revisions of orders: written beside the original, with their audit row, in one transaction.

use std::sync::Arc;

use async_trait::async_trait;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{OrderRow, Tables};
use super::values::{stored_option, stored_text, stored_time};
use crate::adapters::store::schema::skus;
use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::order::values::OrderKey;
use crate::ports::order_desk::{EditRequest, NotEdited, Revision, Revisions};
use crate::ports::store_error::StoreError;

#[async_trait]
impl Revisions for MemoryLedger {
    async fn edit_order(
        &self,
        edit: EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError> {
        self.write(|tables| tables.edit_order(&edit)).await
    }

    async fn current(&self, keys: &[OrderKey]) -> Result<Vec<(OrderRecord, Arc<str>)>, StoreError> {
        self.read(|tables| {
            let rows = tables.rows_of(keys);
            rows.map(|row| (row.record.clone(), row.current_document().clone())).collect()
        })
        .await
    }

    async fn revisions(&self, key: &OrderKey) -> Result<Vec<Revision>, StoreError> {
        self.read(|tables| tables.revisions_of(key)).await
    }
}

impl Tables {
    fn edit_order(
        &mut self,
        edit: &EditRequest,
    ) -> Result<Result<OrderRecord, NotEdited>, StoreError> {
        let Some(row) = self.orders.get(&edit.key) else { return Ok(Err(NotEdited::Unknown)) };
        let mut record = row.record.clone();
        if record.revision != edit.base_revision {
            return Ok(Err(NotEdited::Newer(self.newest(&record))));
        }
        if let Err(invalid) = record.edit(edit.edited.facts.clone(), edit.act.now) {
            return Ok(Err(NotEdited::Invalid(invalid)));
        }
        record.updated_at = edit.act.now;
        record.version += 1;
        let row = OrderRow {
            record: record.clone(),
            edited: Some(edit.edited.document.clone()),
            skus: skus(&edit.edited),
            ..row.clone()
        };
        self.put_order(row);
        self.revisions.put((edit.key.clone(), record.revision), revision(&record, edit));
        let before = format!("revision {}", edit.base_revision);
        let after = format!("revision {}: {}", record.revision, edit.places);
        let deed = Deed::on("order.edit", &edit.key).changing(before, after);
        self.write_audit(&edit.act, deed)?;
        Ok(Ok(record))
    }

    /// The revisions of an order, oldest first.
    pub(super) fn revisions_of(&self, key: &OrderKey) -> Vec<Revision> {
        let all = (key.clone(), 0)..=(key.clone(), u32::MAX);
        self.revisions.range(all).map(|(_, revision)| revision.clone()).collect()
    }

    /// The first editor; the original if the edit names a revision that does not exist.
    fn newest(&self, record: &OrderRecord) -> Revision {
        let stored = self.revisions.get(&(record.key.clone(), record.revision)).cloned();
        stored.unwrap_or_else(|| Revision {
            revision: record.revision,
            document: "".into(),
            at: record.received_at,
            actor: "checkout".to_owned(),
            reason: None,
        })
    }
}

fn revision(record: &OrderRecord, edit: &EditRequest) -> Revision {
    Revision {
        revision: record.revision,
        document: edit.edited.document.clone(),
        at: stored_time(edit.act.now),
        actor: stored_text(&edit.act.actor),
        reason: stored_option(edit.act.reason.as_deref()),
    }
}

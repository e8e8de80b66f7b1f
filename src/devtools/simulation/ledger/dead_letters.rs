//! Messages that could not be accepted, stored with headers and routing.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::Tables;
use super::values::{refused, rows, stored_option, stored_text, stored_time};
use crate::ports::audit::Act;
use crate::ports::dead_letters::{
    DeadLetter, DeadLetterDesk, DeadLetterIntake, LISTED_BYTES, NewDeadLetter, Resolution,
};
use crate::ports::store_error::StoreError;

#[async_trait]
impl DeadLetterIntake for MemoryLedger {
    async fn record_dead_letter(&self, letter: NewDeadLetter) -> Result<(), StoreError> {
        self.write(|tables| tables.record_dead_letter(letter)).await
    }
}

#[async_trait]
impl DeadLetterDesk for MemoryLedger {
    async fn list_dead_letters(
        &self,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(|tables| {
            let all = tables.dead_letters.values();
            let mut some: Vec<&DeadLetter> =
                all.filter(|letter| !open_only || letter.status == OPEN).collect();
            some.sort_by_key(|letter| std::cmp::Reverse((letter.last_seen_at, letter.id)));
            let listed = |letter: &DeadLetter| {
                let mut letter = letter.clone();
                letter.body.truncate(LISTED_BYTES);
                letter
            };
            some.into_iter().take(rows(limit)).map(listed).collect()
        })
        .await
    }

    async fn dead_letter(&self, id: Uuid) -> Result<Option<DeadLetter>, StoreError> {
        self.read(|tables| tables.dead_letters.get(&id).cloned()).await
    }

    async fn resolve_dead_letter(
        &self,
        id: Uuid,
        resolution: Resolution,
        by: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let resolved = tables.resolve(id, resolution, by);
            if resolved {
                let action = format!("dead_letter.{}", resolution.as_str());
                tables.write_audit(by, Deed::new(&action, &id.to_string()))?;
            }
            Ok(resolved)
        })
        .await
    }

    async fn count_dead_letters(&self) -> Result<u64, StoreError> {
        self.read(|tables| tables.open_dead_letters.len() as u64).await
    }
}

/// The status of one that waits for a person.
const OPEN: &str = "open";

impl Tables {
    fn record_dead_letter(&mut self, letter: NewDeadLetter) -> Result<(), StoreError> {
        let letter = letter.bounded();
        let place = (stored_text(&letter.source), Sha256::digest(&letter.body).into());
        let last_seen_at = stored_time(letter.now);
        if let Some(id) = self.open_dead_letters.get(&place).copied() {
            self.dead_letters.update(&id, |known| {
                known.seen += 1;
                known.last_seen_at = last_seen_at;
            });
            return Ok(());
        }
        let letter = stored_letter(letter);
        self.open_dead_letters.put(place, letter.id);
        match self.dead_letters.insert_new(letter.id, letter) {
            true => Ok(()),
            false => Err(refused("another dead letter has this id")),
        }
    }

    fn resolve(&mut self, id: Uuid, resolution: Resolution, by: &Act) -> bool {
        let why = by.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = stored_text(&format!("{}{why}", by.actor));
        let resolved = self.dead_letters.update_if(
            &id,
            |letter| letter.status == OPEN,
            |letter| {
                letter.status = resolution.as_str().to_owned();
                letter.resolution = Some(text);
            },
        );
        if resolved {
            self.open_dead_letters.delete_where(|_, open| *open == id);
        }
        resolved
    }
}

fn stored_letter(letter: NewDeadLetter) -> DeadLetter {
    let now = stored_time(letter.now);
    DeadLetter {
        id: letter.id,
        source: stored_text(&letter.source),
        reason: letter.fault.reason.as_str().to_owned(),
        place: stored_option(letter.fault.place.as_deref()),
        detail: stored_text(&letter.fault.detail),
        size: letter.body.len(),
        body: letter.body,
        headers: letter.headers,
        exchange: stored_text(&letter.exchange),
        routing_key: stored_text(&letter.routing_key),
        status: OPEN.to_owned(),
        seen: 1,
        first_seen_at: now,
        last_seen_at: now,
        resolution: None,
    }
}

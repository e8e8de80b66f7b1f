//! Retention by hand: what is old, and taking it out now.

use jiff::Timestamp;

use crate::domain::permission::Permission;
use crate::domain::retention::OldKind;
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::retention::{RETAINED_AT_ONCE, RemovalCount};

/// What is old of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldOf {
    /// The kind.
    pub kind: OldKind,
    /// What did not change since is old.
    pub before: Timestamp,
    /// How many.
    pub old: u64,
}

impl Ops {
    /// What is older than the settings keep, by kind; reads many rows.
    pub async fn old(&self, person: &Principal) -> Result<Vec<OldOf>, Refusal> {
        person.authorize(Permission::Admin, None)?;
        let mut all = Vec::new();
        for (kind, before) in self.retention.limits(self.clock.now()) {
            all.push(OldOf { kind, before, old: self.store.count_old(kind, before).await? });
        }
        Ok(all)
    }

    /// What was taken out up to now.
    pub async fn removals(&self, person: &Principal) -> Result<Vec<RemovalCount>, Refusal> {
        person.authorize(Permission::Read, None)?;
        Ok(self.store.removals().await?)
    }

    /// Takes out everything old of one kind, and tells after each piece how many.
    pub async fn take_out(
        &self,
        old: OldOf,
        act: &Act,
        told: &(dyn Fn(u64) + Sync),
    ) -> Result<u64, Refusal> {
        authorize(act, Permission::Admin, None)?;
        let mut removed = 0;
        loop {
            let (piece, is_last) = self.take_out_some(old).await?;
            removed += piece;
            told(piece);
            if is_last {
                break;
            }
        }
        let action = format!("retention.{}", old.kind.as_str());
        let counted = format!("{removed} older than {}", old.before);
        self.store.note_removal(act, &action, counted).await?;
        Ok(removed)
    }

    async fn take_out_some(&self, old: OldOf) -> Result<(u64, bool), Refusal> {
        let (kind, before, now) = (old.kind, old.before, self.clock.now());
        if kind.phase().is_none() {
            let removed = self.store.delete_old(kind, before, RETAINED_AT_ONCE, now).await?;
            return Ok((removed, removed == 0));
        }
        let noted = self.store.note_old_orders(kind, before, RETAINED_AT_ONCE).await?;
        let deleted = self.store.delete_noted_orders(RETAINED_AT_ONCE, now).await?;
        Ok((deleted.gone, noted == 0 && deleted.seen == 0))
    }
}

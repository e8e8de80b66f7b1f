//! Redrives as people plan and steer them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{ItemRow, Tables};
use super::values::{refused, rows, stored_option, stored_text, stored_time};
use crate::domain::redrive::{InvalidRedrive, ItemStatus, RedriveStatus, RedriveVerb};
use crate::ports::audit::Act;
use crate::ports::redrives::{NewRedrive, Redrive, RedriveDesk, RedriveItem};
use crate::ports::store_error::StoreError;

#[async_trait]
impl RedriveDesk for MemoryLedger {
    async fn add_redrive(&self, plan: NewRedrive, act: &Act) -> Result<(), StoreError> {
        self.write(|tables| tables.add_redrive(&plan, act)).await
    }

    async fn redrive(&self, id: Uuid) -> Result<Option<Redrive>, StoreError> {
        self.read(|tables| tables.counted_redrive(id)).await
    }

    async fn redrives(&self, limit: u32) -> Result<Vec<Redrive>, StoreError> {
        self.read(|tables| {
            let mut newest: Vec<_> =
                tables.redrives.values().map(|redrive| (redrive.created_at, redrive.id)).collect();
            newest.sort_unstable_by(|a, b| b.cmp(a));
            let newest = newest.into_iter().take(rows(limit));
            newest.filter_map(|(_, id)| tables.counted_redrive(id)).collect()
        })
        .await
    }

    async fn redrive_items(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RedriveItem>, StoreError> {
        self.read(|tables| {
            let items = tables.items_after(id, status, after).take(rows(limit));
            items.map(|row| row.item.clone()).collect()
        })
        .await
    }

    async fn redrive_shops(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
    ) -> Result<Vec<String>, StoreError> {
        self.read(|tables| {
            let items = tables.items_after(id, status, None);
            let shops: BTreeSet<String> = items.map(|row| row.item.key.shop.to_string()).collect();
            shops.into_iter().collect()
        })
        .await
    }

    async fn change_redrive(
        &self,
        id: Uuid,
        verb: RedriveVerb,
        stopped: &[String],
        act: &Act,
    ) -> Result<Option<Result<Redrive, InvalidRedrive>>, StoreError> {
        self.write(|tables| tables.change_redrive(id, verb, stopped, act)).await
    }

    async fn set_redrive_rate(
        &self,
        id: Uuid,
        rate_per_minute: Option<u32>,
        act: &Act,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            let Some(before) = tables.redrives.get(&id) else { return Ok(false) };
            if before.status.is_over() {
                return Ok(false);
            }
            check_rate(rate_per_minute)?;
            let before = before.pace.rate_per_minute;
            tables.redrives.update(&id, |redrive| {
                redrive.pace.rate_per_minute = rate_per_minute;
                redrive.version += 1;
            });
            let deed = Deed::new("redrive.rate", &id.to_string());
            tables.write_audit(act, deed.changing(told(before), told(rate_per_minute)))?;
            Ok(true)
        })
        .await
    }
}

impl Tables {
    fn add_redrive(&mut self, plan: &NewRedrive, act: &Act) -> Result<(), StoreError> {
        check_rate(plan.pace.rate_per_minute)?;
        if !(1..=100).contains(&plan.pace.stop_percent) {
            return Err(refused("the share that may fail is 1 to 100 percent"));
        }
        if !self.redrives.insert_new(plan.id, planned(plan, act)) {
            return Err(refused("another redrive has this id"));
        }
        for item in &plan.items {
            if !self.redrive_items.insert_new((plan.id, item.seq), planned_item(item)) {
                return Err(refused("two orders of a redrive have the same turn"));
            }
        }
        let waiting = plan.items.iter().filter(|item| item.status == ItemStatus::Waiting).count();
        let deed = Deed::new("redrive.plan", &plan.id.to_string());
        self.write_audit(act, deed.changing(String::new(), format!("planned, {waiting} orders")))
    }

    /// A redrive with the counts of its orders.
    fn counted_redrive(&self, id: Uuid) -> Option<Redrive> {
        let mut redrive = self.redrives.get(&id)?.clone();
        for row in self.items_after(id, None, None) {
            let status = row.item.status;
            *redrive.counts.entry(status).or_default() += 1;
            let is_left_out = matches!(status, ItemStatus::Skipped | ItemStatus::Excluded);
            let why = row.item.why.as_ref().filter(|why| is_left_out && !why.is_empty());
            if let Some(why) = why {
                *redrive.excluded.entry(why.clone()).or_default() += 1;
            }
        }
        Some(redrive)
    }

    /// The orders of a redrive in their order.
    pub(super) fn items_after(
        &self,
        id: Uuid,
        status: Option<ItemStatus>,
        after: Option<u64>,
    ) -> impl Iterator<Item = &ItemRow> {
        let first = after.map_or(0, |after| after.saturating_add(1));
        let items = self.redrive_items.range((id, first)..=(id, u64::MAX)).map(|(_, row)| row);
        items.filter(move |row| status.is_none_or(|status| row.item.status == status))
    }

    fn change_redrive(
        &mut self,
        id: Uuid,
        verb: RedriveVerb,
        stopped: &[String],
        act: &Act,
    ) -> Result<Option<Result<Redrive, InvalidRedrive>>, StoreError> {
        let Some(before) = self.redrives.get(&id).cloned() else { return Ok(None) };
        let status = match before.status.after(verb) {
            Ok(status) => status,
            Err(invalid) => return Ok(Some(Err(invalid))),
        };
        let change = (before.status.as_str().to_owned(), status.as_str().to_owned());
        self.redrives.put(id, changed(before, status, stored_time(act.now)));
        if status == RedriveStatus::Running {
            self.leave_out(id, stopped, act.now);
        }
        let deed = Deed::new(verb.action(), &id.to_string());
        self.write_audit(act, deed.changing(change.0, change.1))?;
        Ok(self.counted_redrive(id).map(Ok))
    }

    /// Waiting orders of these shops are not sent.
    fn leave_out(&mut self, id: Uuid, shops: &[String], now: Timestamp) {
        let waiting = self.items_after(id, Some(ItemStatus::Waiting), None);
        let theirs = waiting.filter(|row| shops.iter().any(|s| s == row.item.key.shop.as_str()));
        let places: Vec<(Uuid, u64)> = theirs.map(|row| (id, row.item.seq)).collect();
        for place in places {
            self.redrive_items.update(&place, |row| {
                row.item.status = ItemStatus::Excluded;
                row.item.why = Some("circuit_open".to_owned());
                row.item.at = Some(stored_time(now));
            });
        }
    }
}

/// A ramp starts again after a stop, and continues after a pause.
fn changed(before: Redrive, status: RedriveStatus, now: Timestamp) -> Redrive {
    let runs = status == RedriveStatus::Running;
    let begins_anew = runs && before.status != RedriveStatus::Paused;
    let (wave, ramp_at) = match begins_anew {
        true => (before.wave + 1, 0),
        false => (before.wave, before.ramp_at),
    };
    Redrive {
        status,
        wave,
        ramp_at,
        why: before.why.filter(|_| !runs),
        started_at: before.started_at.or(Some(now).filter(|_| runs)),
        ended_at: status.is_over().then_some(now),
        version: before.version + 1,
        ..before
    }
}

fn planned(plan: &NewRedrive, act: &Act) -> Redrive {
    Redrive {
        id: plan.id,
        status: RedriveStatus::Planned,
        selection: plan.selection.clone(),
        pace: plan.pace.clone(),
        wave: 0,
        ramp_at: 0,
        why: None,
        created_by: stored_text(&act.actor),
        created_at: stored_time(act.now),
        started_at: None,
        ended_at: None,
        reason: stored_option(act.reason.as_deref()),
        counts: BTreeMap::new(),
        excluded: BTreeMap::new(),
        known_fingerprints: plan.known_fingerprints.clone(),
        money: plan.money.clone(),
        version: 1,
    }
}

/// A plan says nothing of attempts and their outcomes.
fn planned_item(item: &RedriveItem) -> ItemRow {
    let item = RedriveItem {
        why: stored_option(item.why.as_deref()),
        attempt: None,
        failure: None,
        erp_order_id: None,
        at: None,
        ..item.clone()
    };
    ItemRow { item, wave: None, sent_version: None }
}

fn check_rate(rate_per_minute: Option<u32>) -> Result<(), StoreError> {
    match rate_per_minute {
        Some(0) => Err(refused("a rate is at least one order a minute")),
        _ => Ok(()),
    }
}

/// A rate for the audit.
fn told(rate_per_minute: Option<u32>) -> String {
    match rate_per_minute {
        Some(rate) => format!("{rate} a minute"),
        None => "no rate".to_owned(),
    }
}

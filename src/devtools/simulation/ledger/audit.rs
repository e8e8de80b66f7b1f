//! What people did: written in the transaction of the change itself, and listed here.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::memory::MemoryLedger;
use super::tables::{AuditFact, Tables};
use super::values::{refused, rows, stored_option, stored_text, stored_time};
use crate::domain::order::values::OrderKey;
use crate::ports::audit::{Act, AuditEntry, AuditFilter, AuditRow, AuditTrail};
use crate::ports::store_error::StoreError;

#[async_trait]
impl AuditTrail for MemoryLedger {
    async fn list_audit(
        &self,
        filter: &AuditFilter,
        after: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let after = after.map(|(at, id)| (stored_time(at), id));
        self.read(|tables| {
            let found = tables.audit.iter().filter(|(_, fact)| matches(filter, fact));
            let found = found.map(|(id, fact)| (fact.entry.at, *id, fact));
            let mut found: Vec<_> =
                found.filter(|(at, id, _)| after.is_none_or(|after| (*at, *id) < after)).collect();
            found.sort_by_key(|(at, id, _)| std::cmp::Reverse((*at, *id)));
            let row =
                |(_, id, fact): (_, _, &AuditFact)| AuditRow { id, entry: fact.entry.clone() };
            found.into_iter().take(rows(limit)).map(row).collect()
        })
        .await
    }
}

/// What a person did.
pub(super) struct Deed<'a> {
    action: &'a str,
    target: String,
    order: Option<&'a OrderKey>,
    change: Option<(String, String)>,
}

impl<'a> Deed<'a> {
    /// An action on something that is no order.
    pub(super) fn new(action: &'a str, target: &str) -> Self {
        Self { action, target: target.to_owned(), order: None, change: None }
    }

    /// An action on an order.
    pub(super) fn on(action: &'a str, order: &'a OrderKey) -> Self {
        Self { order: Some(order), ..Self::new(action, &order.to_string()) }
    }

    /// What it changed.
    pub(super) fn changing(self, before: String, after: String) -> Self {
        Self { change: Some((before, after)), ..self }
    }
}

impl Tables {
    /// Writes the audit row of a change by hand.
    pub(super) fn write_audit(&mut self, act: &Act, deed: Deed<'_>) -> Result<(), StoreError> {
        let (before, after) = deed.change.unzip();
        let entry = AuditEntry {
            at: stored_time(act.now),
            actor: stored_text(&act.actor),
            from: stored_option(act.from.as_deref()),
            action: stored_text(deed.action),
            target: stored_text(&deed.target),
            reason: stored_option(act.reason.as_deref()),
            before: stored_option(before.as_deref()),
            after: stored_option(after.as_deref()),
        };
        let fact = AuditFact { entry, order: deed.order.cloned() };
        match self.audit.insert_new(act.id, fact) {
            true => Ok(()),
            false => Err(refused("another audit row has this id")),
        }
    }

    /// What people did to an order, oldest first.
    pub(super) fn audit_of(&self, key: &OrderKey) -> Vec<AuditEntry> {
        let of_order = self.audit.iter().filter(|(_, fact)| fact.order.as_ref() == Some(key));
        let mut found: Vec<_> = of_order.collect();
        found.sort_by_key(|(id, fact)| (fact.entry.at, **id));
        found.into_iter().map(|(_, fact)| fact.entry.clone()).collect()
    }
}

fn matches(filter: &AuditFilter, fact: &AuditFact) -> bool {
    let entry = &fact.entry;
    let is = |asked: &Option<String>, text: &str| {
        asked.as_ref().is_none_or(|asked| stored_text(asked) == text)
    };
    let action = match &filter.action {
        Some(prefix) if prefix.ends_with('.') => entry.action.starts_with(prefix.as_str()),
        action => is(action, &entry.action),
    };
    let is_visible = match &fact.order {
        Some(key) => filter.shops.contains(key.shop.as_str()),
        None => filter.shops.is_all(),
    };
    action
        && is_visible
        && is(&filter.actor, &entry.actor)
        && is(&filter.target, &entry.target)
        && filter.since.is_none_or(|since| entry.at >= stored_time(since))
        && filter.until.is_none_or(|until| entry.at < stored_time(until))
}

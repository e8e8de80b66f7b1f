//! Taking what is old out of the ledger, and what stays of it.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::order_rows::erp_order_id;
use super::tables::{GoneRow, OrderRow, Tables};
use super::values::{rows, stored_time};
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::notice::NoticeKind;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::domain::retention::OldKind;
use crate::ports::audit::Act;
use crate::ports::channels::MessageStatus;
use crate::ports::notices::{MailStatus, StoredMail};
use crate::ports::orders::Placed;
use crate::ports::retention::{Deleted, GoneOrder, RemovalCount, Retention};
use crate::ports::store_error::StoreError;

const ORDER_KINDS: [&str; 3] = ["confirmed", "removed", "erased"];
const EMPTIED: &str = "(no longer kept)";

#[async_trait]
impl Retention for MemoryLedger {
    async fn count_old(&self, kind: OldKind, before: Timestamp) -> Result<u64, StoreError> {
        self.read(|tables| tables.old(kind, stored_time(before)).len() as u64).await
    }

    async fn note_old_orders(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        self.write(|tables| {
            let old = tables.old(kind, stored_time(before)).into_iter();
            let keys = old.filter_map(|old| match old {
                Old::Order(key) if !tables.gone_orders.contains_key(&key) => Some(key),
                _ => None,
            });
            let keys: Vec<_> = keys.take(rows(limit)).collect();
            keys.iter().for_each(|key| tables.note_gone(key, kind.as_str()));
            Ok(keys.len() as u64)
        })
        .await
    }

    async fn delete_noted_orders(&self, limit: u32, now: Timestamp) -> Result<Deleted, StoreError> {
        self.write(|tables| Ok(tables.delete_noted(limit, now))).await
    }

    async fn delete_old(
        &self,
        kind: OldKind,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.write(|tables| {
            let old: Vec<Old> = match kind.phase() {
                Some(_) => Vec::new(),
                None => {
                    tables.old(kind, stored_time(before)).into_iter().take(rows(limit)).collect()
                }
            };
            old.iter().for_each(|old| tables.delete_record(old));
            tables.count_removed(kind.as_str(), old.len() as u64, now);
            Ok(old.len() as u64)
        })
        .await
    }

    async fn removals(&self) -> Result<Vec<RemovalCount>, StoreError> {
        self.read(|tables| {
            let counts = tables.removals.iter();
            counts
                .map(|(kind, (removed, last))| RemovalCount {
                    kind: kind.clone(),
                    removed: *removed,
                    last: *last,
                })
                .collect()
        })
        .await
    }

    async fn note_removal(
        &self,
        act: &Act,
        action: &str,
        became: String,
    ) -> Result<(), StoreError> {
        self.write(|tables| {
            let deed = Deed::new(action, "retention").changing(String::new(), became);
            tables.write_audit(act, deed)
        })
        .await
    }

    async fn gone_order(&self, key: &OrderKey) -> Result<Option<GoneOrder>, StoreError> {
        self.read(|tables| tables.gone_orders.get(key).map(|gone| gone.left.clone())).await
    }
}

/// Something old.
enum Old {
    Order(OrderKey),
    Exchange((OrderKey, String, usize)),
    Mail(uuid::Uuid),
    Message(uuid::Uuid),
    Audit(uuid::Uuid),
    DeadLetter(uuid::Uuid),
}

impl Tables {
    /// Whether a message of an order that is gone says the same; `None`: the order is not gone.
    pub(super) fn gone_content(&self, key: &OrderKey, placed: Option<&Placed>) -> Option<bool> {
        let gone = self.gone_orders.get(key)?;
        let content = |placed: &Placed| Order::content_digest(&placed.order.document);
        Some(placed.is_none_or(|placed| content(placed)[..] == gone.left.content[..]))
    }

    /// Whether its rows are gone.
    pub(super) fn is_gone(&self, key: &OrderKey) -> bool {
        !self.orders.contains_key(key) && self.gone_orders.contains_key(key)
    }

    /// How many orders are gone.
    pub(super) fn count_gone(&self) -> u64 {
        ORDER_KINDS.iter().filter_map(|kind| Some(self.removals.get(*kind)?.0)).sum()
    }

    fn old(&self, kind: OldKind, before: Timestamp) -> Vec<Old> {
        let is_old_order = |row: &&OrderRow| row.record.updated_at < before && self.may_go(row);
        match kind {
            OldKind::Confirmed | OldKind::Removed => {
                let of_phase = |row: &&OrderRow| Some(row.record.phase.name()) == kind.phase();
                let mut old: Vec<_> =
                    self.orders.values().filter(of_phase).filter(is_old_order).collect();
                old.sort_by_key(|row| (row.record.updated_at, row.record.key.clone()));
                old.into_iter().map(|row| Old::Order(row.record.key.clone())).collect()
            }
            OldKind::Exchanges => {
                let of_old = |(key, ..): &&(OrderKey, String, usize)| {
                    self.orders.get(key).is_some_and(|row| {
                        row.record.phase.state() == OrderState::Confirmed
                            && row.record.updated_at < before
                    })
                };
                self.exchanges.keys().filter(of_old).cloned().map(Old::Exchange).collect()
            }
            OldKind::Mails => {
                let is_old = |mail: &&StoredMail| {
                    mail.status != MailStatus::Waiting
                        && mail.created_at < before
                        && mail.mail.text != EMPTIED
                };
                let mails = self.mails.values().map(|row| &row.mail).filter(is_old);
                let messages = self.channel_messages.values().map(|row| &row.message);
                let messages = messages.filter(|message| {
                    message.status != MessageStatus::Waiting && message.created_at < before
                });
                let mails = mails.map(|mail| Old::Mail(mail.id));
                mails.chain(messages.map(|message| Old::Message(message.id))).collect()
            }
            OldKind::Audit => {
                let old = self.audit.iter().filter(|(_, fact)| fact.entry.at < before);
                old.map(|(id, _)| Old::Audit(*id)).collect()
            }
            OldKind::DeadLetters => {
                let old = self.dead_letters.values();
                let old = old.filter(|l| l.status != "open" && l.last_seen_at < before);
                old.map(|letter| Old::DeadLetter(letter.id)).collect()
            }
        }
    }

    /// Finished, told to everybody, and not in the ERP twice without a person having settled it.
    pub(super) fn may_go(&self, row: &OrderRow) -> bool {
        let key = &row.record.key;
        row.record.phase.state() == OrderState::Confirmed
            && self.notices_of(key).iter().all(|(_, mail)| mail.is_some())
            && self.second_entries_of(key).iter().all(|entry| entry.settled.is_some())
    }

    pub(super) fn note_gone(&mut self, key: &OrderKey, kind: &str) {
        let Some(row) = self.orders.get(key) else { return };
        let left = GoneOrder {
            content: Order::content_digest(&row.document).to_vec(),
            phase: row.record.phase.name().to_owned(),
            erp_order_id: erp_order_id(&row.record).map(str::to_owned),
            kind: kind.to_owned(),
            gone_at: None,
        };
        let version = row.record.version;
        self.gone_orders.insert_new(key.clone(), GoneRow { left, version });
    }

    fn delete_noted(&mut self, limit: u32, now: Timestamp) -> Deleted {
        let noted = self.gone_orders.iter().filter(|(_, gone)| gone.left.gone_at.is_none());
        let noted: Vec<_> =
            noted.map(|(key, gone)| (key.clone(), gone.clone())).take(rows(limit)).collect();
        let mut gone = 0;
        for (key, row) in &noted {
            let same = |order: &OrderRow| order.record.version == row.version && self.may_go(order);
            if !self.orders.get(key).is_some_and(same) {
                self.gone_orders.delete(key);
                continue;
            }
            self.delete_order(key);
            self.gone_orders.update(key, |row| row.left.gone_at = Some(now));
            self.count_removed(&row.left.kind, 1, now);
            gone += 1;
        }
        Deleted { seen: noted.len() as u64, gone }
    }

    fn delete_order(&mut self, key: &OrderKey) {
        if let Some(number) = self.orders.get(key).and_then(|row| erp_order_id(&row.record)) {
            let number = number.to_owned();
            self.in_erp.update(&number, |keys| {
                keys.remove(key);
            });
        }
        self.orders.delete(key);
        self.attempts.delete_where(|(of, ..), _| of == key);
        self.exchanges.delete_where(|(of, ..), _| of == key);
        self.conflicts.delete_where(|(of, _), _| of == key);
        self.revisions.delete_where(|(of, _), _| of == key);
        self.second_entries.delete_where(|(of, _), _| of == key);
        self.total_differences.delete_where(|(of, _), _| of == key);
        for (id, mail) in self.notices_of(key) {
            self.notices.delete(&id);
            self.channel_notices.delete_where(|(_, notice), _| *notice == id);
            self.mail_parts.delete_where(|(_, notice), _| *notice == id);
            let is_empty = |mail: &uuid::Uuid| {
                self.mails.get(mail).is_some_and(|row| row.mail.mail.text == EMPTIED)
                    && !self.notices.values().any(|row| row.mail == Some(*mail))
            };
            if let Some(mail) = mail.filter(is_empty) {
                self.mails.delete(&mail);
            }
        }
    }

    /// The notices of an order, each with the mail that it is in.
    pub(super) fn notices_of(&self, key: &OrderKey) -> Vec<(String, Option<uuid::Uuid>)> {
        let of_order = self.notices.iter().filter(|(_, row)| {
            let detail = &row.notice.detail;
            detail.shop == key.shop.as_str()
                && detail.order_id.as_deref() == Some(key.order_id.as_str())
        });
        of_order.map(|(id, row)| (id.clone(), row.mail)).collect()
    }

    fn delete_record(&mut self, old: &Old) {
        match old {
            Old::Order(_) => {}
            Old::Exchange(place) => drop(self.exchanges.delete(place)),
            Old::Message(id) => {
                self.channel_messages.delete(id);
                self.channel_notices.delete_where(|_, row| row.message == Some(*id));
            }
            Old::Audit(id) => drop(self.audit.delete(id)),
            Old::DeadLetter(id) => drop(self.dead_letters.delete(id)),
            Old::Mail(id) => self.empty_mail(id),
        }
    }

    pub(super) fn empty_mail(&mut self, id: &uuid::Uuid) {
        if !self.notices.values().any(|row| row.mail == Some(*id)) {
            self.mails.delete(id);
            return;
        }
        self.mails.update(id, |row| {
            let mail = &mut row.mail.mail;
            for text in [&mut mail.subject, &mut mail.text, &mut mail.html] {
                EMPTIED.clone_into(text);
            }
            mail.attachment = None;
            if mail.kind == NoticeKind::CustomerConfirmation {
                mail.receivers.clear();
                row.mail.deliveries.clear();
                row.accounts.clear();
            }
        });
    }

    pub(super) fn count_removed(&mut self, kind: &str, removed: u64, now: Timestamp) {
        if removed > 0 {
            let before = self.removals.get(kind).map_or(0, |(removed, _)| *removed);
            self.removals.put(kind.to_owned(), (before + removed, stored_time(now)));
        }
    }
}

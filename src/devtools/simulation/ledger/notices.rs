//! Notices and mails: each notice ends in exactly one mail, with an account for each of its receivers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::{DeliveryAccount, MailRow, NoticeRow, Tables};
use super::values::{rows, stored_text, stored_time};
use crate::domain::notice::DigestWindow;
use crate::ports::audit::Act;
use crate::ports::mail::Mail;
use crate::ports::notices::{
    ClaimedDelivery, MailArchive, MailCounts, MailDelivery, MailDesk, MailFate, MailLevels,
    MailStatus, NewMail, Notice, Outbox, RefusedReceiver, StoredMail,
};
use crate::ports::store_error::StoreError;

#[async_trait]
impl Outbox for MemoryLedger {
    async fn add_notice(&self, notice: Notice) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.insert_notice(&notice);
            Ok(())
        })
        .await
    }

    async fn due_notices(&self, now: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.read(|tables| {
            let due = tables.due_notices(now).take(rows(limit));
            due.map(|row| row.notice.clone()).collect()
        })
        .await
    }

    async fn postpone_notices(&self, ids: &[String], until: Timestamp) -> Result<(), StoreError> {
        self.write(|tables| {
            for id in ids {
                let due_at = stored_time(until);
                tables.notices.update_if(id, |row| row.mail.is_none(), |row| row.due_at = due_at);
            }
            Ok(())
        })
        .await
    }

    async fn digest_window(&self, audience: &str) -> Result<Option<DigestWindow>, StoreError> {
        self.read(|tables| tables.mail_windows.get(audience).copied()).await
    }

    async fn compose_mails(
        &self,
        mails: Vec<NewMail>,
        window: Option<(String, DigestWindow)>,
    ) -> Result<bool, StoreError> {
        self.write(|tables| {
            if !mails.iter().all(|new| tables.compose(new)) {
                tables.roll_back();
                return Ok(false);
            }
            if let Some((audience, window)) = window {
                let started_at = stored_time(window.started_at);
                tables.mail_windows.put(audience, DigestWindow { started_at, ..window });
            }
            Ok(true)
        })
        .await
    }

    async fn claim_deliveries(
        &self,
        _worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<ClaimedDelivery>, StoreError> {
        self.write(|tables| {
            let due: Vec<(Uuid, usize)> = tables.due_deliveries(now).take(rows(limit)).collect();
            let claimed = due.into_iter();
            let mut claimed: Vec<ClaimedDelivery> =
                claimed.filter_map(|(id, place)| tables.claim_delivery(id, place, until)).collect();
            claimed.sort_by_key(|delivery| (delivery.queued_at, delivery.mail_id));
            Ok(claimed)
        })
        .await
    }

    async fn notices_of(&self, mail_id: Uuid) -> Result<Vec<Notice>, StoreError> {
        self.read(|tables| {
            let is_part = |row: &&NoticeRow| {
                row.mail == Some(mail_id)
                    || tables.mail_parts.contains_key(&(mail_id, row.notice.id.clone()))
            };
            let mut notices: Vec<Notice> =
                tables.notices.values().filter(is_part).map(|row| row.notice.clone()).collect();
            notices.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            notices
        })
        .await
    }

    async fn settle_delivery(
        &self,
        mail_id: Uuid,
        receiver: &str,
        fate: MailFate,
    ) -> Result<MailStatus, StoreError> {
        self.write(|tables| Ok(tables.settle_delivery(mail_id, receiver, fate))).await
    }
}

#[async_trait]
impl MailLevels for MemoryLedger {
    async fn count_mails(&self) -> Result<MailCounts, StoreError> {
        self.read(|tables| {
            let deliveries = tables.mails.values().flat_map(|row| &row.mail.deliveries);
            let failed = |delivery: &&MailDelivery| delivery.status == MailStatus::Failed;
            MailCounts {
                waiting: (tables.loose_notices.len() + tables.waiting_deliveries.len()) as u64,
                failed: deliveries.filter(failed).count() as u64,
                unheard: tables.mails.values().filter(|row| row.mail.is_unheard()).count() as u64,
            }
        })
        .await
    }

    async fn refused_receivers(
        &self,
        since: Timestamp,
    ) -> Result<Vec<RefusedReceiver>, StoreError> {
        self.read(|tables| {
            let mut last = BTreeMap::<(&str, &str), (Option<Timestamp>, &MailDelivery)>::new();
            for row in tables.mails.values().filter(|row| row.mail.mail.kind.is_alert()) {
                for (delivery, account) in row.mail.deliveries.iter().zip(&row.accounts) {
                    let key = (row.mail.audience.as_str(), delivery.receiver.as_str());
                    let is_later = last.get(&key).is_none_or(|(at, _)| account.settled_at > *at);
                    if account.settled_at.is_some() && is_later {
                        last.insert(key, (account.settled_at, delivery));
                    }
                }
            }
            let since = Some(stored_time(since));
            let failed = last
                .into_iter()
                .filter(|(_, (at, d))| d.status == MailStatus::Failed && *at >= since);
            failed
                .map(|((audience, receiver), (_, delivery))| RefusedReceiver {
                    audience: audience.to_owned(),
                    receiver: receiver.to_owned(),
                    error: delivery.error.clone().unwrap_or_default(),
                })
                .collect()
        })
        .await
    }

    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.read(|tables| {
            tables.due_notices(now).next().is_some() || tables.due_deliveries(now).next().is_some()
        })
        .await
    }
}

#[async_trait]
impl MailArchive for MemoryLedger {
    async fn list_mails(
        &self,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError> {
        self.read(|tables| {
            let all = tables.mails.values().map(|row| &row.mail);
            let is_in = |mail: &StoredMail, status| {
                mail.status == status || mail.deliveries.iter().any(|d| d.status == status)
            };
            let mut some: Vec<&StoredMail> =
                all.filter(|mail| status.is_none_or(|status| is_in(mail, status))).collect();
            some.sort_by_key(|mail| std::cmp::Reverse((mail.created_at, mail.id)));
            some.into_iter().take(rows(limit)).cloned().collect()
        })
        .await
    }

    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError> {
        self.read(|tables| tables.mails.get(&id).map(|row| row.mail.clone())).await
    }
}

#[async_trait]
impl MailDesk for MemoryLedger {
    async fn resend_mail(
        &self,
        id: Uuid,
        receivers: &[String],
        act: &Act,
    ) -> Result<u32, StoreError> {
        self.write(|tables| {
            let queued = tables.queue_again(id, receivers, act.now);
            if queued > 0 {
                tables.write_audit(act, Deed::new("mail.resend", &format!("mail {id}")))?;
            }
            Ok(queued)
        })
        .await
    }

    async fn acknowledge_mail(&self, id: Uuid, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            let now = Some(stored_time(act.now));
            let is_unheard = |row: &MailRow| row.mail.is_unheard();
            let done =
                tables.mails.update_if(&id, is_unheard, |row| row.mail.acknowledged_at = now);
            if done {
                tables.write_audit(act, Deed::new("mail.acknowledge", &format!("mail {id}")))?;
            }
            Ok(done)
        })
        .await
    }
}

impl Tables {
    /// Stores a notice; nothing when it is there already.
    pub(super) fn insert_notice(&mut self, notice: &Notice) {
        let mut notice = notice.clone();
        notice.created_at = stored_time(notice.created_at);
        let place = (notice.created_at.as_millisecond(), notice.id.clone());
        let id = notice.id.clone();
        let row = NoticeRow { due_at: notice.created_at, notice: notice.clone(), mail: None };
        if self.notices.insert_new(id, row) {
            self.loose_notices.put(place, ());
            self.offer_to_channels(&notice);
        }
    }

    /// Notices that are due and in no mail yet, oldest first.
    fn due_notices(&self, now: Timestamp) -> impl Iterator<Item = &NoticeRow> {
        let now = now.as_millisecond();
        let loose = self.loose_notices.keys().filter_map(|(_, id)| self.notices.get(id));
        loose.filter(move |row| row.due_at.as_millisecond() <= now)
    }

    /// Writes a mail and takes its notices; `false` when it is there, or one of them is in another one.
    fn compose(&mut self, new: &NewMail) -> bool {
        let mail = stored_mail(new);
        let is_new = !self.mails.contains_key(&new.id)
            && self.message_ids.insert_new(mail.mail.message_id.clone(), new.id);
        if !is_new {
            return false;
        }
        let account = DeliveryAccount {
            queued_at: mail.created_at,
            due_at: mail.created_at,
            claimed_until: None,
            settled_at: None,
        };
        let accounts = vec![account; mail.deliveries.len()];
        if mail.status == MailStatus::Waiting {
            for place in 0..mail.deliveries.len() {
                let due = mail.created_at.as_millisecond();
                self.waiting_deliveries.put((due, new.id, place), ());
            }
        }
        self.mails.put(new.id, MailRow { mail, accounts });
        new.notices.iter().all(|notice| self.take_notice(notice, new.id))
    }

    fn take_notice(&mut self, id: &String, mail: Uuid) -> bool {
        let taken =
            self.notices.update_if(id, |row| row.mail.is_none(), |row| row.mail = Some(mail));
        if let Some(row) = self.notices.get(id) {
            let place = (row.notice.created_at.as_millisecond(), id.clone());
            self.loose_notices.delete(&place);
        }
        taken
    }

    /// Deliveries that are due and that nobody has claimed, those due first.
    fn due_deliveries(&self, now: Timestamp) -> impl Iterator<Item = (Uuid, usize)> {
        let now = now.as_millisecond();
        let due = self.waiting_deliveries.range(..=(now, Uuid::max(), usize::MAX));
        due.map(|((_, id, place), ())| (*id, *place)).filter(move |(id, place)| {
            let account = self.mails.get(id).and_then(|row| row.accounts.get(*place));
            let until = account.and_then(|account| account.claimed_until);
            until.is_none_or(|until| until.as_millisecond() <= now)
        })
    }

    fn claim_delivery(
        &mut self,
        id: Uuid,
        place: usize,
        until: Timestamp,
    ) -> Option<ClaimedDelivery> {
        let claim = |row: &mut MailRow| {
            row.accounts[place].claimed_until = Some(stored_time(until));
            row.mail.deliveries[place].tries += 1;
        };
        self.mails.update(&id, claim);
        let row = self.mails.get(&id)?;
        let delivery = row.mail.deliveries.get(place)?;
        Some(ClaimedDelivery {
            mail_id: id,
            audience: row.mail.audience.clone(),
            mail: row.mail.mail.clone(),
            receiver: delivery.receiver.clone(),
            tries: delivery.tries,
            queued_at: row.accounts[place].queued_at,
        })
    }

    /// A part of a mail that is too large for this receiver.
    fn add_part(&mut self, part: &NewMail, receiver: &str) {
        let known = self.message_ids.get(&stored_text(&part.mail.message_id)).copied();
        let id = match known {
            Some(id) => id,
            None => {
                let whole = NewMail { notices: Vec::new(), ..part.clone() };
                self.compose(&whole);
                part.id
            }
        };
        for notice in &part.notices {
            self.mail_parts.put((id, notice.clone()), ());
        }
        let is_in = |row: &MailRow| row.mail.deliveries.iter().any(|d| d.receiver == receiver);
        if self.mails.get(&id).is_some_and(|row| !is_in(row)) {
            self.queue_again(id, &[receiver.to_owned()], part.now);
        }
    }

    /// Queues a mail for receivers that have not got it; how many.
    fn queue_again(&mut self, id: Uuid, receivers: &[String], now: Timestamp) -> u32 {
        let Some(row) = self.mails.get(&id) else { return 0 };
        let mut row = row.clone();
        let now = stored_time(now);
        let mut queued = 0;
        for receiver in receivers.iter().map(|receiver| stored_text(receiver)) {
            let account = DeliveryAccount {
                queued_at: now,
                due_at: now,
                claimed_until: None,
                settled_at: None,
            };
            let place = row.mail.deliveries.iter().position(|d| d.receiver == receiver);
            let place = match place {
                Some(place) => {
                    let delivery = &mut row.mail.deliveries[place];
                    if !matches!(delivery.status, MailStatus::Failed | MailStatus::Kept) {
                        continue;
                    }
                    delivery.status = MailStatus::Waiting;
                    delivery.tries = 0;
                    row.accounts[place] = account;
                    place
                }
                None => {
                    let status = MailStatus::Waiting;
                    row.mail.deliveries.push(MailDelivery {
                        receiver,
                        status,
                        tries: 0,
                        error: None,
                        sent_at: None,
                    });
                    row.accounts.push(account);
                    row.accounts.len() - 1
                }
            };
            self.waiting_deliveries.put((now.as_millisecond(), id, place), ());
            queued += 1;
        }
        if queued > 0 {
            row.mail.acknowledged_at = None;
            row.mail.status = MailStatus::of_all(&row.mail.deliveries);
            self.mails.put(id, row);
        }
        queued
    }

    /// What was sent stays sent, whatever is told later.
    fn settle_delivery(&mut self, id: Uuid, receiver: &str, fate: MailFate) -> MailStatus {
        let Some(row) = self.mails.get(&id) else { return MailStatus::Failed };
        let place = row.mail.deliveries.iter().position(|d| d.receiver == receiver);
        let Some(place) = place else { return row.mail.status };
        let is_waiting = row.mail.deliveries[place].status == MailStatus::Waiting;
        if !is_waiting && !matches!(fate, MailFate::Sent(_)) {
            return row.mail.status;
        }
        if let MailFate::Split { parts, .. } = &fate {
            parts.iter().for_each(|part| self.add_part(part, receiver));
        }
        let Some(row) = self.mails.get(&id) else { return MailStatus::Failed };
        let mut row = row.clone();
        let (delivery, account) = (&mut row.mail.deliveries[place], &mut row.accounts[place]);
        account.claimed_until = None;
        self.waiting_deliveries.delete(&(account.due_at.as_millisecond(), id, place));
        match fate {
            MailFate::Sent(at) => {
                delivery.status = MailStatus::Sent;
                delivery.sent_at = Some(stored_time(at));
                delivery.error = None;
                account.settled_at = Some(stored_time(at));
            }
            MailFate::Later { at, error } => {
                account.due_at = stored_time(at);
                delivery.error = Some(stored_text(&error));
            }
            MailFate::Failed { at, error } => {
                delivery.status = MailStatus::Failed;
                delivery.error = Some(stored_text(&error));
                account.settled_at = Some(stored_time(at));
            }
            MailFate::Split { at, error, .. } => {
                delivery.status = MailStatus::Split;
                delivery.error = Some(stored_text(&error));
                account.settled_at = Some(stored_time(at));
            }
            MailFate::Untried => delivery.tries -= 1,
        }
        if delivery.status == MailStatus::Waiting {
            self.waiting_deliveries.put((account.due_at.as_millisecond(), id, place), ());
        }
        row.mail.status = MailStatus::of_all(&row.mail.deliveries);
        let status = row.mail.status;
        self.mails.put(id, row);
        status
    }
}

fn stored_mail(new: &NewMail) -> StoredMail {
    let NewMail { mail, .. } = new;
    let status = if new.keep_only { MailStatus::Kept } else { MailStatus::Waiting };
    let mut deliveries = Vec::<MailDelivery>::new();
    for receiver in &mail.receivers {
        let receiver = stored_text(receiver);
        if deliveries.iter().all(|known| known.receiver != receiver) {
            deliveries.push(MailDelivery {
                receiver,
                status,
                tries: 0,
                error: None,
                sent_at: None,
            });
        }
    }
    StoredMail {
        id: new.id,
        audience: stored_text(&new.audience),
        mail: Mail {
            kind: mail.kind,
            sender: stored_text(&mail.sender),
            receivers: mail.receivers.clone(),
            subject: stored_text(&mail.subject),
            text: stored_text(&mail.text),
            html: stored_text(&mail.html),
            attachment: mail.attachment.as_deref().map(stored_text),
            message_id: stored_text(&mail.message_id),
            in_reply_to: mail.in_reply_to.as_deref().map(stored_text),
            list_id: mail.list_id.as_deref().map(stored_text),
        },
        status,
        deliveries,
        created_at: stored_time(new.now),
        acknowledged_at: None,
    }
}

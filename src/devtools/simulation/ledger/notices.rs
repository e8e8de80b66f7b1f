//! Notices and mails: each notice ends in exactly one mail.

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::memory::MemoryLedger;
use super::tables::{MailRow, NoticeRow, Tables};
use super::values::{rows, stored_text, stored_time};
use crate::domain::notice::DigestWindow;
use crate::ports::mail::Mail;
use crate::ports::notices::{
    MailArchive, MailCounts, MailFate, MailLevels, MailStatus, NewMail, Notice, Outbox, StoredMail,
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

    async fn claim_mails(
        &self,
        _worker: &str,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StoredMail>, StoreError> {
        self.write(|tables| {
            let due: Vec<Uuid> = tables.due_mails(now).take(rows(limit)).collect();
            let claimed = due.into_iter().filter_map(|id| tables.claim_mail(id, until));
            Ok(claimed.collect())
        })
        .await
    }

    async fn settle_mail(&self, id: Uuid, fate: MailFate) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.settle_mail(id, fate);
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl MailLevels for MemoryLedger {
    async fn count_mails(&self) -> Result<MailCounts, StoreError> {
        self.read(|tables| {
            let failed = |row: &&MailRow| row.mail.status == MailStatus::Failed;
            MailCounts {
                waiting: (tables.loose_notices.len() + tables.waiting_mails.len()) as u64,
                failed: tables.mails.values().filter(failed).count() as u64,
            }
        })
        .await
    }

    async fn has_due_mail(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.read(|tables| {
            tables.due_notices(now).next().is_some() || tables.due_mails(now).next().is_some()
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
            let mut some: Vec<&StoredMail> =
                all.filter(|mail| status.is_none_or(|status| mail.status == status)).collect();
            some.sort_by_key(|mail| std::cmp::Reverse((mail.created_at, mail.id)));
            some.into_iter().take(rows(limit)).cloned().collect()
        })
        .await
    }

    async fn mail(&self, id: Uuid) -> Result<Option<StoredMail>, StoreError> {
        self.read(|tables| tables.mails.get(&id).map(|row| row.mail.clone())).await
    }
}

impl Tables {
    /// Stores a notice; nothing when it is there already.
    pub(super) fn insert_notice(&mut self, notice: &Notice) {
        let mut notice = notice.clone();
        notice.created_at = stored_time(notice.created_at);
        let place = (notice.created_at.as_millisecond(), notice.id.clone());
        let id = notice.id.clone();
        let row = NoticeRow { due_at: notice.created_at, notice, mail: None };
        if self.notices.insert_new(id, row) {
            self.loose_notices.put(place, ());
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
        if mail.status == MailStatus::Waiting {
            self.waiting_mails.put((mail.created_at.as_millisecond(), new.id), ());
        }
        let row = MailRow { due_at: mail.created_at, mail, claimed_until: None };
        self.mails.put(new.id, row);
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

    /// Mails to be sent that nobody has claimed, those due first.
    fn due_mails(&self, now: Timestamp) -> impl Iterator<Item = Uuid> {
        let now = now.as_millisecond();
        let due = self.waiting_mails.range(..=(now, Uuid::max())).map(|((_, id), ())| *id);
        due.filter(move |id| {
            let until = self.mails.get(id).and_then(|row| row.claimed_until);
            until.is_none_or(|until| until.as_millisecond() <= now)
        })
    }

    fn claim_mail(&mut self, id: Uuid, until: Timestamp) -> Option<StoredMail> {
        let claim = |row: &mut MailRow| {
            row.claimed_until = Some(stored_time(until));
            row.mail.tries += 1;
        };
        self.mails.update(&id, claim);
        self.mails.get(&id).map(|row| row.mail.clone())
    }

    /// A mail that was sent stays sent, whatever is told later.
    fn settle_mail(&mut self, id: Uuid, fate: MailFate) {
        let Some(row) = self.mails.get(&id) else { return };
        if row.mail.status != MailStatus::Waiting && !matches!(fate, MailFate::Sent(_)) {
            return;
        }
        let mut row = MailRow { claimed_until: None, ..row.clone() };
        self.waiting_mails.delete(&(row.due_at.as_millisecond(), id));
        match fate {
            MailFate::Sent(at) => {
                row.mail.status = MailStatus::Sent;
                row.mail.sent_at = Some(stored_time(at));
                row.mail.error = None;
            }
            MailFate::Later { at, error } => {
                row.due_at = stored_time(at);
                row.mail.error = Some(stored_text(&error));
                self.waiting_mails.put((row.due_at.as_millisecond(), id), ());
            }
            MailFate::Failed(error) => {
                row.mail.status = MailStatus::Failed;
                row.mail.error = Some(stored_text(&error));
            }
        }
        self.mails.put(id, row);
    }
}

fn stored_mail(new: &NewMail) -> StoredMail {
    let NewMail { mail, .. } = new;
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
            message_id: stored_text(&mail.message_id),
        },
        status: if new.keep_only { MailStatus::Kept } else { MailStatus::Waiting },
        tries: 0,
        error: None,
        created_at: stored_time(new.now),
        sent_at: None,
    }
}

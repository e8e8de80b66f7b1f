//! The right to be forgotten.

use async_trait::async_trait;
use jiff::Timestamp;

use super::audit::Deed;
use super::memory::MemoryLedger;
use super::tables::Tables;
use crate::domain::order::values::{Email, OrderKey};
use crate::ports::audit::Act;
use crate::ports::channels::MessageStatus;
use crate::ports::erasure::{Erasure, Hindrance};
use crate::ports::notices::MailStatus;
use crate::ports::store_error::StoreError;

const ERASED: &str = "(erased)";

#[async_trait]
impl Erasure for MemoryLedger {
    async fn orders_of_customer(&self, customer: &str) -> Result<Vec<OrderKey>, StoreError> {
        self.read(|tables| {
            let of_customer = tables.orders.values().filter(|row| {
                let known = &row.record.facts.customer;
                known.number.as_deref() == Some(customer)
                    || known.email.as_ref().map(Email::as_str) == Some(customer)
            });
            of_customer.map(|row| row.record.key.clone()).collect()
        })
        .await
    }

    async fn hindrance(
        &self,
        order: Option<&OrderKey>,
        spellings: &[String],
    ) -> Result<Option<Hindrance>, StoreError> {
        self.read(|tables| {
            let of_order = order.and_then(|key| tables.hindrance_of(key));
            of_order.or_else(|| {
                let open = tables.dead_letters.values().filter(|letter| letter.status == "open");
                let mut named = open.filter(|letter| names_one(&letter.body, spellings));
                named.next().map(|letter| Hindrance::OpenDeadLetter(letter.id.to_string()))
            })
        })
        .await
    }

    async fn erase_texts(&self, spellings: &[String], _: Timestamp) -> Result<u64, StoreError> {
        self.write(|tables| Ok(tables.erase_texts(spellings))).await
    }

    async fn erase_order(&self, order: &OrderKey, act: &Act) -> Result<bool, StoreError> {
        self.write(|tables| {
            if !tables.orders.get(order).is_some_and(|row| tables.may_go(row)) {
                return Ok(tables.is_gone(order));
            }
            tables.erase_news_of(order);
            tables.note_gone(order, "erased");
            tables.write_audit(act, Deed::on("order.erase", order))?;
            Ok(true)
        })
        .await
    }
}

fn names_one(body: &[u8], spellings: &[String]) -> bool {
    spellings.iter().any(|text| body.windows(text.len().max(1)).any(|part| part == text.as_bytes()))
}

fn erase_in(text: &mut String, spellings: &[String]) -> bool {
    let before = text.clone();
    for spelling in spellings {
        *text = text.replace(spelling, ERASED);
    }
    *text != before
}

impl Tables {
    fn hindrance_of(&self, key: &OrderKey) -> Option<Hindrance> {
        if self.second_entries_of(key).iter().any(|entry| entry.settled.is_none()) {
            return Some(Hindrance::EnteredTwice);
        }
        let is_told = |mail: Option<uuid::Uuid>| {
            let mail = mail.and_then(|mail| self.mails.get(&mail));
            mail.is_some_and(|row| row.mail.status != MailStatus::Waiting)
        };
        let in_channels = |notice: &str| {
            let of_notice = self.channel_notices.iter().filter(|((_, id), _)| id == notice);
            of_notice.map(|(_, row)| row).all(|row| match row.message {
                None => row.is_below,
                Some(id) => self
                    .channel_messages
                    .get(&id)
                    .is_some_and(|row| row.message.status != MessageStatus::Waiting),
            })
        };
        let mut notices = self.notices_of(key).into_iter();
        let all_told = notices.all(|(id, mail)| is_told(mail) && in_channels(&id));
        (!all_told).then_some(Hindrance::WaitingMail)
    }

    fn erase_texts(&mut self, spellings: &[String]) -> u64 {
        let mut rows = 0;
        let named = self.dead_letters.values().filter(|letter| letter.status != "open");
        let named: Vec<_> =
            named.filter(|l| names_one(&l.body, spellings)).map(|letter| letter.id).collect();
        for id in named {
            self.dead_letters.update(&id, |letter| letter.body = ERASED.as_bytes().to_vec());
            rows += 1;
        }
        let ids: Vec<_> = self.audit.keys().copied().collect();
        for id in ids {
            self.audit.update(&id, |fact| {
                let entry = &mut fact.entry;
                let texts = [&mut entry.reason, &mut entry.before, &mut entry.after];
                let erased = texts.into_iter().flatten().map(|text| erase_in(text, spellings));
                rows += u64::from(erased.fold(false, |any, one| any | one));
            });
        }
        let groups: Vec<_> = self.failure_groups.keys().cloned().collect();
        for group in groups {
            self.failure_groups.update(&group, |row| {
                rows += u64::from(erase_in(&mut row.message, spellings));
            });
        }
        rows
    }

    /// What was told and done about an order.
    fn erase_news_of(&mut self, key: &OrderKey) {
        for (id, mail) in self.notices_of(key) {
            if let Some(mail) = mail {
                self.empty_mail(&mail);
            }
            let told = self.channel_notices.iter().filter(|((_, notice), _)| *notice == id);
            let told: Vec<_> = told.filter_map(|(_, row)| row.message).collect();
            for message in told {
                self.channel_messages.delete(&message);
                self.channel_notices.delete_where(|_, row| row.message == Some(message));
            }
        }
        let deeds = self.audit.iter().filter(|(_, fact)| fact.order.as_ref() == Some(key));
        let deeds: Vec<_> = deeds.map(|(id, _)| *id).collect();
        for id in deeds {
            self.audit.update(&id, |fact| {
                fact.entry.reason = Some(ERASED.to_owned());
                (fact.entry.before, fact.entry.after) = (None, None);
            });
        }
    }
}

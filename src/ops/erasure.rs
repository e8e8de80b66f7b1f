//! The right to be forgotten: what is personal goes, what proves that nothing was lost stays.

use std::collections::BTreeSet;

use crate::domain::lifecycle::transitions::InvalidTransition;
use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::domain::personal::{is_telling, spellings, texts_of};
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::erasure::Hindrance;
use crate::ports::order_desk::OrderDetail;
use crate::ports::retention::RETAINED_AT_ONCE;

/// What became of an order that was to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// It is erased; so many rows besides its own had a text of its customer.
    Now {
        /// Rows besides its own.
        elsewhere: u64,
    },
    /// Its rows were gone before.
    Before,
}

impl Ops {
    /// The orders of a customer, by number or mail address.
    pub async fn orders_of_customer(
        &self,
        person: &Principal,
        customer: &str,
    ) -> Result<Vec<OrderKey>, Refusal> {
        person.authorize(Permission::Admin, None)?;
        Ok(self.store.orders_of_customer(customer).await?)
    }

    /// The order with everything that would be erased, if that is possible now; `None`: its rows are gone.
    pub async fn erasable(
        &self,
        person: &Principal,
        key: &OrderKey,
    ) -> Result<Option<OrderDetail>, Refusal> {
        person.authorize(Permission::Admin, None)?;
        let Some(detail) = self.store.order(key).await? else {
            let gone = self.store.gone_order(key).await?;
            return gone.map(|_| None).ok_or_else(|| Refusal::not_found("order", key));
        };
        let phase = &detail.record.phase;
        if phase.state() != OrderState::Confirmed {
            let (state, phase) = (phase.state(), phase.name());
            let invalid = InvalidTransition::InvalidState { state, phase };
            return Err(Refusal::Invalid { key: key.clone(), invalid });
        }
        let texts: Vec<String> = self.texts_of(key).await?.into_iter().collect();
        match self.store.hindrance(Some(key), &all_spellings(&texts)).await? {
            None => Ok(Some(detail)),
            Some(hindrance) => Err(hindered(&key.to_string(), &hindrance)),
        }
    }

    /// Erases a finished order. Killed in the middle, it is finished by doing it again.
    pub async fn erase(&self, key: &OrderKey, act: &Act) -> Result<Erased, Refusal> {
        authorize(act, Permission::Admin, None)?;
        let person = Principal {
            name: act.actor.clone(),
            from: act.from.clone(),
            grants: act.grants.clone(),
        };
        if self.erasable(&person, key).await?.is_none() {
            return Ok(Erased::Before);
        }
        // The order itself goes last: what is looked for elsewhere stands in it.
        let texts: Vec<String> = self.texts_of(key).await?.into_iter().collect();
        let elsewhere = self.store.erase_texts(&all_spellings(&texts), act.now).await?;
        if !self.store.erase_order(key, act).await? {
            return Err(changed(key));
        }
        while self.store.delete_noted_orders(RETAINED_AT_ONCE, act.now).await?.seen > 0 {}
        match self.store.gone_order(key).await? {
            Some(gone) if gone.gone_at.is_some() => Ok(Erased::Now { elsewhere }),
            _ => Err(changed(key)),
        }
    }

    /// Takes the number or mail address of a customer out of everything that is not an order.
    pub async fn erase_traces(&self, customer: &str, act: &Act) -> Result<u64, Refusal> {
        authorize(act, Permission::Admin, None)?;
        if !is_telling(customer) {
            let why = format!("`{customer}` is too short to be looked for in every text");
            return Err(Refusal::Unacceptable(why));
        }
        let texts = all_spellings(&[customer.to_owned()]);
        if let Some(hindrance) = self.store.hindrance(None, &texts).await? {
            return Err(hindered("the customer", &hindrance));
        }
        Ok(self.store.erase_texts(&texts, act.now).await?)
    }

    /// What is personal in an order, as it came and as it was edited.
    async fn texts_of(&self, key: &OrderKey) -> Result<BTreeSet<String>, Refusal> {
        let mut texts = BTreeSet::new();
        let keys = std::slice::from_ref(key);
        for (_, document) in self.store.documents(keys).await? {
            texts.extend(texts_of(&document));
        }
        for (_, document) in self.store.current(keys).await? {
            texts.extend(texts_of(&document));
        }
        Ok(texts)
    }
}

/// Longer ones first: a name stands in an address.
fn all_spellings(texts: &[String]) -> Vec<String> {
    let all: BTreeSet<String> = texts.iter().flat_map(|text| spellings(text)).collect();
    let mut all: Vec<String> = all.into_iter().collect();
    all.sort_by_key(|text| std::cmp::Reverse(text.len()));
    all
}

fn changed(key: &OrderKey) -> Refusal {
    Refusal::Unacceptable(format!("{key} changed while it was erased: erase it again"))
}

fn hindered(what: &str, hindrance: &Hindrance) -> Refusal {
    Refusal::Unacceptable(match hindrance {
        Hindrance::WaitingMail => {
            format!(
                "{what}: somebody still has to be told about it; erase it when the mail is sent"
            )
        }
        Hindrance::EnteredTwice => {
            format!("{what}: the ERP has it twice; settle that first (`orders settle-double`)")
        }
        Hindrance::OpenDeadLetter(id) => format!(
            "{what}: the open dead letter {id} names this customer; replay or discard it first"
        ),
    })
}

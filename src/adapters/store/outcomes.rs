//! The outcomes of attempts in a batch: receipts, failures, claims handed back, exchanges.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord, ReceiptEffect};
use crate::domain::lifecycle::vocabulary::{OrderState, Trigger};
use crate::domain::money::Sum;
use crate::domain::notice::{NoticeKind, order_notice_id};
use crate::domain::order::values::OrderKey;
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;
use crate::ports::orders::{
    ConfirmRequest, Confirmed, FailureRequest, HandBackRequest, KeepRequest, Recorded,
};
use crate::ports::store_error::StoreError;
use crate::sql_args;

use super::batch::{Batch, Loaded};
use super::db::Tx;
use super::gone::gone_order;
use super::moves::{Place, What};
use super::rows;
use super::total_differences::keep_difference;
use super::work::Pending;

impl<T: Tx> Batch<T> {
    /// Receipts, in as many passes as one order has receipts here.
    pub(super) async fn confirm(
        &mut self,
        mut receipts: Vec<&Pending<ConfirmRequest, Confirmed>>,
    ) -> Result<(), StoreError> {
        while !receipts.is_empty() {
            let mut seen = HashSet::new();
            let (mut now, later): (Vec<_>, Vec<_>) =
                receipts.into_iter().partition(|pending| seen.insert(pending.request.key.clone()));
            now.sort_by(|a, b| a.request.key.cmp(&b.request.key));
            self.confirm_each_once(&now).await?;
            receipts = later;
        }
        Ok(())
    }

    async fn confirm_each_once(
        &mut self,
        receipts: &[&Pending<ConfirmRequest, Confirmed>],
    ) -> Result<(), StoreError> {
        let requests: Vec<&ConfirmRequest> =
            receipts.iter().map(|pending| &pending.request).collect();
        let plain = self.tx.confirm_plain(&requests).await?;
        let known: Vec<&ConfirmRequest> =
            requests.into_iter().filter(|request| !plain.contains(&request.key)).collect();
        let mut before = self.confirm_known(&known).await?;
        let first =
            || Before { was_transferred: false, number: None, fail_count: 0, is_new_double: false };
        before.extend(plain.into_iter().map(|key| (key, first())));
        let (mut notices, mut doubles) = (Vec::new(), Vec::new());
        for pending in receipts {
            let request = &pending.request;
            let Some(Before { was_transferred, number: stored, fail_count, is_new_double }) =
                before.remove(&request.key)
            else {
                return Err(StoreError::Corrupt {
                    table: "orders",
                    column: "order_id",
                    row: request.key.to_string(),
                    detail: "the ERP accepted this order, but its row is missing".to_owned(),
                });
            };
            let number = request.erp_order_id.as_deref();
            let effect = ReceiptEffect::of(was_transferred, stored.as_deref(), number);
            let first = effect == ReceiptEffect::First;
            if first {
                notices.extend(request.notice.clone());
            }
            let other_erp_order_id = match effect {
                ReceiptEffect::EnteredTwice(other) => other,
                ReceiptEffect::First | ReceiptEffect::Known => None,
            };
            if is_new_double {
                doubles.push((request, other_erp_order_id.clone()));
            }
            pending.answer(Confirmed { first, fail_count, other_erp_order_id, is_new_double });
        }
        notices.extend(self.notices_of(doubles).await?);
        if notices.is_empty() { Ok(()) } else { self.tx.insert_notices(&notices).await }
    }

    /// Confirms orders that have a state, and counts the move of those that were not transferred yet.
    async fn confirm_known(
        &mut self,
        requests: &[&ConfirmRequest],
    ) -> Result<HashMap<OrderKey, Before>, StoreError> {
        let mut before = HashMap::new();
        if requests.is_empty() {
            return Ok(before);
        }
        let mut at: HashMap<&OrderKey, Timestamp> =
            requests.iter().map(|request| (&request.key, request.now)).collect();
        for mut row in self.tx.confirm_known(requests).await? {
            row.table = "order_states";
            let key = rows::order_key(&mut row)?;
            let (phase, state) = (row.text("phase")?, row.text("state")?);
            let was = Place::stored(&phase, &state, row.text_or_null("error_fingerprint")?);
            let is = Place::plain("transferred");
            let number = row.text_or_null("erp_order_id")?;
            let fail_count = row.number("fail_count")?;
            let (currency, total) = (row.text("currency")?, row.text("total")?);
            let was_transferred = was == is;
            if let Some(now) = at.remove(&key).filter(|_| !was_transferred) {
                let whose = (key.shop.as_str(), currency.as_str());
                let what = (What::Confirmed, 0);
                self.moves.add(whose, (was, is), what, Sum::of_total(&total), now.as_millisecond());
            }
            let is_new_double = row.int("added")? > 0;
            before.insert(key, Before { was_transferred, number, fail_count, is_new_double });
        }
        Ok(before)
    }

    /// Notices about receipts with another number than the one that the ledger had.
    async fn notices_of(
        &mut self,
        doubles: Vec<(&ConfirmRequest, Option<String>)>,
    ) -> Result<Vec<Notice>, StoreError> {
        let loaded = self.load(doubles.iter().map(|(request, _)| &request.key)).await?;
        let notice = |(request, first): (&ConfirmRequest, Option<String>)| {
            let (record, _) = loaded.records.get(&request.key)?;
            let number = request.erp_order_id.as_deref()?;
            Some(Notice::of_second_entry(record, request.attempt, number, first, request.now))
        };
        Ok(doubles.into_iter().filter_map(notice).collect())
    }

    pub(super) async fn record_failures(
        &mut self,
        failures: &[&Pending<FailureRequest, Recorded>],
    ) -> Result<(), StoreError> {
        if failures.is_empty() {
            return Ok(());
        }
        let mut loaded = self.load_or_insert(failures).await?;
        let mut countable = Vec::new();
        for pending in failures {
            match loaded.records.get(&pending.request.key) {
                None => pending.answer(self.unknown(&pending.request.key).await?),
                Some((record, _)) => match refusal(record, &pending.request) {
                    Some(invalid) => pending.answer(Recorded::Invalid(invalid)),
                    None => countable.push(*pending),
                },
            }
        }
        let mut seen = HashSet::new();
        let mut rows: Vec<&FailureRequest> =
            countable.iter().map(|pending| &pending.request).collect();
        rows.retain(|r| is_open(&loaded, r) && seen.insert((&r.key, r.failed.attempt)));
        rows.sort_by(|a, b| (&a.key, a.failed.attempt).cmp(&(&b.key, b.failed.attempt)));
        let mut new = match rows.is_empty() {
            true => HashSet::new(),
            false => self.tx.insert_failures(&rows).await?,
        };
        let mut notices = Vec::new();
        for pending in countable {
            let request = &pending.request;
            let is_new = new.remove(&(request.key.clone(), request.failed.attempt));
            if is_new {
                keep_difference(&mut self.tx, request).await?;
            }
            pending.answer(count(&mut loaded, request, is_new, &mut notices));
        }
        self.save(&loaded).await?;
        if notices.is_empty() { Ok(()) } else { self.tx.insert_notices(&notices).await }
    }

    /// A failure of an order without rows: it never was there, or it is finished and gone.
    async fn unknown(&mut self, key: &OrderKey) -> Result<Recorded, StoreError> {
        let gone = gone_order(&mut self.tx, key).await?;
        Ok(gone.map_or(Recorded::Unknown, |_| {
            let (state, phase) = (OrderState::Confirmed, "no longer in the ledger");
            Recorded::Invalid(InvalidTransition::InvalidState { state, phase })
        }))
    }

    /// Loads the orders that failed; an unknown one that is part of the message is inserted first.
    async fn load_or_insert(
        &mut self,
        failures: &[&Pending<FailureRequest, Recorded>],
    ) -> Result<Loaded, StoreError> {
        let mut fresh = BTreeMap::new();
        for Pending { request, .. } in failures {
            if let Some(placed) = &request.order {
                let record = OrderRecord::received(&placed.order, request.now);
                fresh.entry(record.key.clone()).or_insert((placed, record));
            }
        }
        let rows: Vec<_> = fresh.values().map(|(placed, record)| (*placed, record)).collect();
        self.insert_orders(&rows).await?;
        self.load(failures.iter().map(|pending| &pending.request.key)).await
    }

    pub(super) async fn hand_back(
        &mut self,
        hand_backs: &[&Pending<HandBackRequest, ()>],
    ) -> Result<(), StoreError> {
        let mut loaded = self.load(hand_backs.iter().map(|pending| &pending.request.key)).await?;
        for pending in hand_backs {
            let request = &pending.request;
            if let Some((record, _)) = loaded.records.get_mut(&request.key)
                && record.hand_back(&request.worker, request.how)
            {
                record.updated_at = request.now;
                loaded.changed.insert(record.key.clone());
            }
            pending.answer(());
        }
        self.save(&loaded).await
    }

    pub(super) async fn keep(
        &mut self,
        keeps: &[&Pending<KeepRequest, ()>],
    ) -> Result<(), StoreError> {
        if keeps.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM exchanges
            WHERE shop = $1 AND order_id = $2 AND attempt = $3 AND question = 1 AND worker <> $4";
        let mut asked: Vec<_> = keeps.iter().filter(|keep| keep.request.only_asked).collect();
        asked.sort_by(|a, b| a.request.key.cmp(&b.request.key));
        for Pending { request: r, .. } in asked {
            let (shop, order_id) = (r.key.shop.as_str(), r.key.order_id.as_str());
            self.tx.execute(&sql.into(), sql_args![shop, order_id, r.attempt, &r.worker]).await?;
        }
        let rows: Vec<&KeepRequest> = keeps.iter().map(|keep| &keep.request).collect();
        self.tx.insert_exchanges(&rows).await?;
        keeps.iter().for_each(|keep| keep.answer(()));
        Ok(())
    }
}

/// What the ledger knew of an order before its receipt.
struct Before {
    was_transferred: bool,
    /// The ERP's number.
    number: Option<String>,
    fail_count: u32,
    /// Whether this receipt was added as a second entry.
    is_new_double: bool,
}

fn is_open(loaded: &Loaded, request: &FailureRequest) -> bool {
    loaded
        .records
        .get(&request.key)
        .is_some_and(|(record, _)| record.phase.state() != OrderState::Confirmed)
}

/// A failure that is not possible any more. For an attempt that the ledger knows as ended it is
/// only a late copy; for an unknown attempt it contradicts the ledger.
fn refusal(record: &OrderRecord, request: &FailureRequest) -> Option<InvalidTransition> {
    let is_confirmed = record.phase.state() == OrderState::Confirmed;
    (is_confirmed && request.failed.attempt > record.last_attempt).then(|| {
        InvalidTransition::InvalidState { state: OrderState::Confirmed, phase: record.phase.name() }
    })
}

fn count(
    loaded: &mut Loaded,
    request: &FailureRequest,
    is_new: bool,
    notices: &mut Vec<Notice>,
) -> Recorded {
    let Some((record, _)) = loaded.records.get_mut(&request.key) else { return Recorded::Unknown };
    let before = record.clone();
    let verdict = if is_new {
        match record.fail(&request.failed, &request.policy, request.now) {
            Ok(verdict) => Some(verdict),
            Err(invalid) => return Recorded::Invalid(invalid),
        }
    } else {
        record.verdict_again(&request.failed, &request.policy, request.now)
    };
    if *record != before {
        record.updated_at = request.now;
        loaded.changed.insert(request.key.clone());
    }
    let attempt = request.failed.attempt;
    let notice = order_notice_id(NoticeKind::OrderFailed, &request.key, attempt);
    if is_new {
        let mut detail = NoticeDetail::of_failure(record, &request.failed);
        detail.by_redrive = request.trigger == Trigger::Redrive;
        notices.push(Notice {
            id: notice.clone(),
            kind: NoticeKind::OrderFailed,
            detail,
            created_at: request.now,
        });
    }
    Recorded::Counted { verdict, record: Box::new(record.clone()), notice, new: is_new }
}

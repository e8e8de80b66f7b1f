//! Taking orders in, claiming them, and their receipts.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use super::memory::MemoryLedger;
use super::tables::{OrderRow, Outcome, Tables};
use super::values::{UNSTORABLE, refused, rows, stored_option, stored_text, stored_time};
use crate::domain::lifecycle::claim::Admission;
use crate::domain::lifecycle::transitions::{OrderRecord, ReceiptEffect};
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::ports::erp::Exchange;
use crate::ports::order_desk::{Attempt, Conflict, StoredExchange};
use crate::ports::orders::{
    Accepted, AdmitRequest, Admitted, ConfirmRequest, Confirmed, HandBackRequest, Incoming,
    KeepRequest, OrderIntake, OrderTransfers, Placed, RenewRequest,
};
use crate::ports::store_error::StoreError;

/// Most orders that share a number in the ERP and are told.
const MANY_UNDER: u32 = 20;

#[async_trait]
impl OrderIntake for MemoryLedger {
    async fn accept(&self, placed: Placed, now: Timestamp) -> Result<Accepted, StoreError> {
        self.write(|tables| {
            check_storable(&placed)?;
            Ok(tables.accept(&placed, now))
        })
        .await
    }
}

#[async_trait]
impl OrderTransfers for MemoryLedger {
    async fn admit(&self, request: AdmitRequest) -> Result<Admitted, StoreError> {
        self.write(|tables| {
            if let Incoming::Placed(placed) = &request.incoming {
                check_storable(placed)?;
            }
            Ok(tables.admit(&request))
        })
        .await
    }

    async fn renew_claim(&self, request: RenewRequest) -> Result<bool, StoreError> {
        self.write(|tables| Ok(tables.renew_claim(&request))).await
    }

    async fn hand_back(&self, request: HandBackRequest) -> Result<(), StoreError> {
        self.write(|tables| {
            tables.hand_back(&request);
            Ok(())
        })
        .await
    }

    async fn confirm(&self, request: ConfirmRequest) -> Result<Confirmed, StoreError> {
        self.write(|tables| tables.confirm(&request)).await
    }

    async fn keep_exchanges(&self, request: KeepRequest) -> Result<(), StoreError> {
        self.write(|tables| tables.keep_exchanges(&request)).await
    }

    async fn orders_under(
        &self,
        erp_order_id: &str,
        except: &OrderKey,
    ) -> Result<Vec<OrderKey>, StoreError> {
        self.read(|tables| {
            let under = tables.in_erp.get(&stored_text(erp_order_id)).into_iter().flatten();
            under.filter(|key| *key != except).take(rows(MANY_UNDER)).cloned().collect()
        })
        .await
    }
}

impl Tables {
    fn accept(&mut self, placed: &Placed, now: Timestamp) -> Accepted {
        let Some(row) = self.orders.get(&placed.order.key) else {
            match self.gone_content(&placed.order.key, Some(placed)) {
                Some(true) => return Accepted::Duplicate,
                Some(false) => return Accepted::NumberTaken,
                None => {}
            }
            self.insert_order(placed, received(placed, now));
            return Accepted::New;
        };
        if !is_other_content(row, placed) {
            return Accepted::Duplicate;
        }
        self.keep_conflict(placed, now);
        Accepted::Conflict
    }

    fn admit(&mut self, request: &AdmitRequest) -> Admitted {
        let AdmitRequest { incoming, intent, now } = request;
        let Some(row) = self.orders.get(incoming.key()) else {
            let placed = match incoming {
                Incoming::Placed(placed) => Some(placed),
                Incoming::Again { .. } => None,
            };
            if let Some(same) = self.gone_content(incoming.key(), placed) {
                return Admitted::Gone { same };
            }
            return match incoming {
                Incoming::Placed(placed) => self.admit_new(placed, request),
                Incoming::Again { .. } => Admitted::Unknown,
            };
        };
        let other = match incoming {
            Incoming::Placed(placed) => Some(placed).filter(|placed| is_other_content(row, placed)),
            Incoming::Again { .. } => None,
        };
        let document = row.current_document().clone();
        let mut record = row.record.clone();
        let admission = match other {
            Some(_) => Admission::Stale,
            None => record.admit(incoming.call(), intent, *now),
        };
        let told = record.clone();
        self.save_if_changed(record, *now);
        if let Some(placed) = other {
            self.keep_conflict(placed, *now);
        }
        known(admission, told, document, other.is_some())
    }

    fn admit_new(&mut self, placed: &Placed, request: &AdmitRequest) -> Admitted {
        let mut record = received(placed, request.now);
        let admission = record.admit(request.incoming.call(), &request.intent, request.now);
        self.insert_order(placed, record.clone());
        Admitted::Known {
            admission,
            record: Box::new(record),
            document: placed.order.document.clone(),
            conflict: false,
            new: true,
        }
    }

    fn keep_conflict(&mut self, placed: &Placed, now: Timestamp) {
        let conflict = Conflict {
            document: placed.order.document.to_string(),
            received_at: stored_time(now),
            source: placed.source.as_str().to_owned(),
        };
        self.conflicts.insert_new((placed.order.key.clone(), placed.order.digest), conflict);
    }

    /// The end of a claim changes nothing else of the row, not even when it was swept.
    fn renew_claim(&mut self, request: &RenewRequest) -> bool {
        let worker = stored_text(&request.worker);
        let Some(mut row) = self.orders.get(&request.key).cloned() else { return false };
        let Some(claim) = row.record.claim.as_mut() else { return false };
        if claim.worker != worker || claim.until <= request.now {
            return false;
        }
        claim.until = request.until;
        claim.begun |= request.begins;
        row.record.version += 1;
        self.put_order(row);
        true
    }

    fn hand_back(&mut self, request: &HandBackRequest) {
        let Some(row) = self.orders.get(&request.key) else { return };
        let mut record = row.record.clone();
        if record.hand_back(&request.worker, request.how) {
            record.updated_at = request.now;
            self.save_order(record);
        }
    }

    fn confirm(&mut self, request: &ConfirmRequest) -> Result<Confirmed, StoreError> {
        let Some(row) = self.orders.get(&request.key) else {
            return Err(StoreError::Corrupt {
                table: "orders",
                column: "order_id",
                row: request.key.to_string(),
                detail: "the ERP accepted this order, but its row is missing".to_owned(),
            });
        };
        let mut record = row.record.clone();
        let fail_count = record.fail_count;
        let effect = record.confirm(request.attempt, request.erp_order_id.as_deref());
        if effect != ReceiptEffect::Known {
            self.insert_attempt(&request.key, Outcome::Succeeded, success(request))?;
        }
        let first = effect == ReceiptEffect::First;
        if first {
            record.updated_at = request.now;
            self.save_order(record);
            request.notice.iter().for_each(|notice| self.insert_notice(notice));
        }
        let other_erp_order_id = match effect {
            ReceiptEffect::EnteredTwice(other) => other,
            ReceiptEffect::First | ReceiptEffect::Known => None,
        };
        let is_new_double = self.add_second_entry(request, other_erp_order_id.as_deref());
        Ok(Confirmed { first, fail_count, other_erp_order_id, is_new_double })
    }

    /// Stores how an attempt ended; `false`: that is known already.
    pub(super) fn insert_attempt(
        &mut self,
        key: &OrderKey,
        outcome: Outcome,
        attempt: Attempt,
    ) -> Result<bool, StoreError> {
        check_attempt(attempt.attempt)?;
        Ok(self.attempts.insert_new((key.clone(), attempt.attempt, outcome), attempt))
    }

    fn keep_exchanges(&mut self, request: &KeepRequest) -> Result<(), StoreError> {
        let worker = stored_text(&request.worker);
        if request.only_asked {
            self.forget_questions(&request.key, request.attempt, &worker);
        }
        for (place, exchange) in request.exchanges.iter().enumerate() {
            check_attempt(request.attempt)?;
            let kept = StoredExchange {
                attempt: request.attempt,
                at: stored_time(request.now),
                exchange: stored_exchange(exchange),
            };
            self.exchanges.insert_new((request.key.clone(), worker.clone(), place), kept);
        }
        Ok(())
    }

    /// Earlier questions of that attempt, asked under another claim.
    fn forget_questions(&mut self, key: &OrderKey, attempt: u32, worker: &str) {
        let first = (key.clone(), String::new(), 0);
        let of_order = self.exchanges.range(first..).take_while(|((other, ..), _)| other == key);
        let old = of_order.filter(|((_, other, _), kept)| {
            kept.attempt == attempt && kept.exchange.question && other != worker
        });
        let old: Vec<_> = old.map(|(place, _)| place.clone()).collect();
        for place in old {
            self.exchanges.delete(&place);
        }
    }
}

fn received(placed: &Placed, now: Timestamp) -> OrderRecord {
    OrderRecord { trace: placed.trace.clone(), ..OrderRecord::received(&placed.order, now) }
}

/// Whether a message of a known order says something else than the first one.
fn is_other_content(row: &OrderRow, placed: &Placed) -> bool {
    placed.order.digest != row.digest
        && !Order::says_the_same(&placed.order.document, &row.document)
}

fn known(
    admission: Admission,
    record: OrderRecord,
    document: Arc<str>,
    conflict: bool,
) -> Admitted {
    Admitted::Known { admission, record: Box::new(record), document, conflict, new: false }
}

fn check_storable(placed: &Placed) -> Result<(), StoreError> {
    match placed.order.document.contains(UNSTORABLE) {
        true => Err(refused("a value is too long for an index")),
        false => Ok(()),
    }
}

fn check_attempt(number: u32) -> Result<(), StoreError> {
    if number == 0 { Err(refused("no attempt has the number 0")) } else { Ok(()) }
}

fn success(request: &ConfirmRequest) -> Attempt {
    Attempt {
        attempt: request.attempt,
        outcome: Outcome::Succeeded.as_str().to_owned(),
        trigger: request.trigger.as_str().to_owned(),
        worker: Some(stored_text(&request.worker)),
        class: None,
        code: None,
        message: None,
        stage: None,
        request: Some(stored_text(&request.request)),
        status: Some(request.status),
        occurred_at: stored_time(request.now),
        duration_ms: request.duration_ms.min(i64::MAX.unsigned_abs()),
        erp_order_id: stored_option(request.erp_order_id.as_deref()),
        found: request.found,
    }
}

fn stored_exchange(exchange: &Exchange) -> Exchange {
    Exchange {
        step: stored_text(&exchange.step),
        question: exchange.question,
        method: stored_text(&exchange.method),
        url: stored_text(&exchange.url),
        request_headers: stored_text(&exchange.request_headers),
        request_body: stored_text(&exchange.request_body),
        status: exchange.status,
        stage: exchange.stage,
        meaning: stored_text(&exchange.meaning),
        message: stored_option(exchange.message.as_deref()),
        reply: stored_text(&exchange.reply),
        duration_ms: exchange.duration_ms,
    }
}

//! Failed attempts: counted once, with their verdict and their notice.

use async_trait::async_trait;

use super::memory::MemoryLedger;
use super::tables::{Outcome, Tables};
use super::values::{stored_option, stored_text, stored_time};
use crate::domain::lifecycle::transitions::{InvalidTransition, OrderRecord};
use crate::domain::lifecycle::vocabulary::{OrderState, Trigger};
use crate::domain::notice::{NoticeKind, order_notice_id};
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;
use crate::ports::order_desk::Attempt;
use crate::ports::orders::{FailureRequest, OrderFailures, Recorded};
use crate::ports::store_error::StoreError;

#[async_trait]
impl OrderFailures for MemoryLedger {
    async fn record_failure(&self, request: FailureRequest) -> Result<Recorded, StoreError> {
        self.write(|tables| tables.record_failure(&request)).await
    }
}

impl Tables {
    fn record_failure(&mut self, request: &FailureRequest) -> Result<Recorded, StoreError> {
        if self.is_gone(&request.key) {
            let (state, phase) = (OrderState::Confirmed, "no longer in the ledger");
            return Ok(Recorded::Invalid(InvalidTransition::InvalidState { state, phase }));
        }
        if let Some(placed) = &request.order {
            self.insert_order(placed, OrderRecord::received(&placed.order, request.now));
        }
        let Some(row) = self.orders.get(&request.key) else { return Ok(Recorded::Unknown) };
        let mut record = row.record.clone();
        if let Some(invalid) = refusal(&record, request) {
            return Ok(Recorded::Invalid(invalid));
        }
        let is_open = record.phase.state() != OrderState::Confirmed;
        let new = is_open
            && self.insert_attempt(&request.key, Outcome::Failed, failed_attempt(request))?;
        let before = record.clone();
        let verdict = if new {
            match record.fail(&request.failed, &request.policy, request.now) {
                Ok(verdict) => Some(verdict),
                Err(invalid) => return Ok(Recorded::Invalid(invalid)),
            }
        } else {
            record.verdict_again(&request.failed, &request.policy, request.now)
        };
        if record != before {
            record.updated_at = request.now;
            self.save_order(record.clone());
        }
        let notice = notice(&record, request);
        let id = notice.id.clone();
        if new {
            self.keep_difference(request);
            self.insert_notice(&notice);
        }
        Ok(Recorded::Counted { verdict, record: Box::new(record), notice: id, new })
    }
}

/// A failure that is not possible any more. For an attempt that the ledger knows as ended it is
/// only a late copy; for an unknown attempt it contradicts the ledger.
fn refusal(record: &OrderRecord, request: &FailureRequest) -> Option<InvalidTransition> {
    let state = record.phase.state();
    let is_late = state == OrderState::Confirmed && request.failed.attempt > record.last_attempt;
    is_late.then(|| InvalidTransition::InvalidState { state, phase: record.phase.name() })
}

fn notice(record: &OrderRecord, request: &FailureRequest) -> Notice {
    let mut detail = NoticeDetail::of_failure(record, &request.failed);
    detail.by_redrive = request.trigger == Trigger::Redrive;
    Notice {
        id: order_notice_id(NoticeKind::OrderFailed, &request.key, request.failed.attempt),
        kind: NoticeKind::OrderFailed,
        detail,
        created_at: request.now,
    }
}

fn failed_attempt(request: &FailureRequest) -> Attempt {
    let failed = &request.failed;
    let failure = &failed.failure;
    Attempt {
        attempt: failed.attempt,
        outcome: Outcome::Failed.as_str().to_owned(),
        trigger: request.trigger.as_str().to_owned(),
        worker: stored_option(failed.worker.as_deref()),
        class: Some(failure.class.as_str().to_owned()),
        code: Some(stored_text(&failure.code)),
        message: Some(stored_text(&failure.message)),
        stage: failure.stage.map(|stage| stage.as_str().to_owned()),
        request: stored_option(failure.request.as_deref()),
        status: failure.status,
        occurred_at: stored_time(failed.occurred_at),
        duration_ms: request.duration_ms.min(i64::MAX.unsigned_abs()),
        erp_order_id: None,
        found: false,
    }
}

//! Making the outcome of an attempt durable: a receipt or a failure in the ledger, or the failure as
//! `order_failed` with the broker, a claim handed back, and the exchanges with the ERP.

use std::time::Duration;

use crate::crash::{CrashPoint, reach};
use crate::domain::failure::{ErrorClass, Failure};
use crate::domain::lifecycle::claim::{Doubt, HandBack};
use crate::domain::message::{EventKind, OrderEvent, OrderFailed};
use crate::domain::notice::{NoticeKind, order_notice_id};
use crate::ports::erp::Receipt;
use crate::ports::mail::NoticeDetail;
use crate::ports::notices::Notice;
use crate::ports::orders::{ConfirmRequest, HandBackRequest, KeepRequest};
use crate::ports::store_error::StoreError;
use crate::telemetry::ClassLabel;
use crate::workers::failure_counter::Failed;
use crate::workers::submitter::admit::{Submitter, Work};

impl Submitter {
    /// The exchanges with the ERP are stored for people; the order does not depend on them.
    pub(super) async fn keep_exchanges(&self, work: &Work, only_asked: bool) {
        let exchanges = work.order.journal.take();
        if exchanges.is_empty() {
            return;
        }
        let context = &self.context;
        let request = KeepRequest {
            key: work.record.key.clone(),
            attempt: work.attempt,
            worker: work.claim.clone(),
            exchanges,
            only_asked,
            now: context.now(),
        };
        let kept = context
            .availability
            .retry_until_available(|| self.ledger.keep_exchanges(request.clone()))
            .await;
        if let Err(error) = kept {
            tracing::error!(%error, "exchanges.not_kept");
        }
    }

    pub(super) async fn hand_back(&self, work: &Work, how: HandBack) -> Result<(), StoreError> {
        let context = &self.context;
        let request = || HandBackRequest {
            key: work.record.key.clone(),
            worker: work.claim.clone(),
            how,
            now: context.now(),
        };
        context.availability.retry_until_available(|| self.ledger.hand_back(request())).await?;
        if how == HandBack::Park {
            let mut event = OrderEvent::new(EventKind::Parked, &work.record.key, context.now());
            event.attempt = work.record.last_attempt;
            event.fail_count = work.record.fail_count;
            event.trigger = Some(work.trigger);
            context.publisher.publish_event(&event, &work.trace);
        }
        Ok(())
    }

    pub(super) async fn confirm(
        &self,
        work: &Work,
        receipt: Receipt,
        duration_ms: u64,
    ) -> Result<(), StoreError> {
        let context = &self.context;
        let now = context.now();
        let (record, key) = (&work.record, &work.record.key);
        let has_address = record.facts.customer.usable_email().is_some();
        let is_due = has_address && work.policy.customer.applies(record.fail_count);
        let notice = is_due.then(|| Notice {
            id: order_notice_id(NoticeKind::CustomerConfirmation, key, work.attempt),
            kind: NoticeKind::CustomerConfirmation,
            detail: NoticeDetail {
                erp_order_id: receipt.erp_order_id.clone(),
                ..NoticeDetail::of_order(record, work.attempt, now)
            },
            created_at: now,
        });
        let has_notice = notice.is_some();
        let request = ConfirmRequest {
            key: key.clone(),
            attempt: work.attempt,
            trigger: work.trigger,
            worker: work.claim.clone(),
            erp_order_id: receipt.erp_order_id.clone(),
            request: receipt.request,
            status: receipt.status,
            duration_ms,
            found: receipt.found,
            notice,
            now,
        };
        let confirmed = context
            .availability
            .retry_until_available(|| self.ledger.confirm(request.clone()))
            .await?;
        reach(CrashPoint::Confirmed);
        let (shop, order_id) = (key.shop.as_str(), key.order_id.as_str());
        if let Some(other) = confirmed.other_erp_order_id {
            tracing::error!(
                shop,
                order_id,
                first = other,
                second = receipt.erp_order_id,
                "order.entered_twice"
            );
        }
        if confirmed.first {
            let (metrics, trigger) = (&context.metrics, work.trigger.as_str());
            metrics.orders_confirmed.get_or_create(&metrics.shop(shop)).inc();
            let age =
                Duration::try_from(now.duration_since(record.received_at)).unwrap_or_default();
            metrics.settle_duration_seconds.observe(age.as_secs_f64());
            tracing::info!(
                shop,
                order_id,
                attempt = work.attempt,
                trigger,
                found = receipt.found,
                duration_ms,
                fail_count = confirmed.fail_count,
                max = record.max_count,
                "order.submitted"
            );
        }
        if confirmed.is_new_double {
            context.metrics.entered_twice.inc();
        }
        if has_notice || confirmed.is_new_double {
            context.publisher.notices_wait();
        }
        let mut event = OrderEvent::new(EventKind::Confirmed, key, now);
        event.attempt = work.attempt;
        event.fail_count = confirmed.fail_count;
        event.trigger = Some(work.trigger);
        event.erp_order_id = receipt.erp_order_id;
        context.publisher.publish_event(&event, &work.trace);
        Ok(())
    }

    pub(super) async fn report(&self, work: &Work, failure: &Failure, duration_ms: u64) {
        let context = &self.context;
        let mut event =
            OrderFailed::of(&work.record.key, work.attempt, work.policy.max_count, failure);
        event.trigger = work.trigger;
        event.duration_ms = duration_ms;
        // An interrupted attempt ended with its lease, not when we noticed it.
        event.occurred_at = Some(match (failure.class, work.doubt) {
            (ErrorClass::UnknownOutcome, Some(Doubt::Unclear { since }))
                if failure.code == "interrupted" =>
            {
                since.min(context.now())
            }
            _ => context.now(),
        });
        if !self.count_at_once(work, &event).await {
            context.publisher.publish_failed(&event, &work.claim, &work.trace).await;
            reach(CrashPoint::FailurePublished);
        }
        context.metrics.orders_failed.get_or_create(&ClassLabel::new(failure.class.as_str())).inc();
        if failure.class == ErrorClass::UnknownOutcome {
            context.metrics.outcome_unknown.inc();
        }
    }

    /// Counts a failure without a message; `false` if an error handler has to: none runs in this process, or
    /// the ledger does not answer now, and the broker keeps the failure until it does.
    async fn count_at_once(&self, work: &Work, event: &OrderFailed) -> bool {
        let Some(counter) = &self.counter else { return false };
        let claim = Some(work.claim.clone());
        let failed = Failed { event, claim, order: None, trace: &work.trace };
        counter.count_now(failed).await
    }
}

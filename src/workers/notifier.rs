//! The notifier: turns notices into mails and hands mails to the mail server (docs/architecture.md, row 11).
//!
//! A nudge only says that something waits; the work is what is due in the ledger. First every due
//! notice goes into exactly one mail, rendered and stored; then mails are sent, each until it is
//! accepted and always with the same Message-ID. A mail server that is unavailable delays mails,
//! nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;

use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::message::NoticeWaiting;
use crate::domain::notice::{DigestRule, DigestWindow, Plan, plan};
use crate::domain::retry::later;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::mail::{Composer, MailError, Mailer, NoticeDetail};
use crate::ports::notices::{MailFate, NewMail, Notice, Outbox, StoredMail};
use crate::ports::store_error::StoreError;
use crate::telemetry::KindLabel;
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;

/// Most notices handled at a time, and so the longest digest.
const MAX_NOTICES: u32 = 10_000;
/// Mails taken for sending at a time.
const MAX_MAILS: u32 = 20;
/// The lease on a batch of mails, in multiples of the time limit for one mail.
const LEASE_IN_BUDGETS: u32 = 3;
/// Failures of redrives have a separate window for each audience; no shop has a blank in its name.
const OF_REDRIVES: &str = " (redrives)";
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);
/// A mail that no server accepted for this long is abandoned, and stays visible.
const MAX_MAIL_AGE: Duration = Duration::from_hours(7 * 24);

/// The worker.
pub struct Notifier {
    context: Arc<WorkerContext>,
    outbox: Arc<dyn Outbox>,
    composer: Arc<dyn Composer>,
    mailer: Arc<dyn Mailer>,
    queue: String,
    /// What is left when it is cancelled is sent after the next start.
    stop: CancellationToken,
    /// One run at a time; a nudge during a run waits and then finds nothing to do.
    round: tokio::sync::Mutex<()>,
}

impl Notifier {
    /// A worker over `context`.
    pub fn new(
        context: Arc<WorkerContext>,
        outbox: Arc<dyn Outbox>,
        composer: Arc<dyn Composer>,
        mailer: Arc<dyn Mailer>,
        stop: CancellationToken,
    ) -> Self {
        let queue = context.broker.topology().names.notify();
        Self {
            context,
            outbox,
            composer,
            mailer,
            queue,
            stop,
            round: tokio::sync::Mutex::default(),
        }
    }

    /// Handles everything that is due now, until it has to stop.
    pub async fn send_what_is_due(&self) -> Result<(), StoreError> {
        let _round = self.round.lock().await;
        while !self.stop.is_cancelled() && self.compose().await? {}
        while !self.stop.is_cancelled() && self.send().await? {}
        Ok(())
    }

    /// Puts due notices into mails; whether there may be more.
    async fn compose(&self) -> Result<bool, StoreError> {
        let context = &self.context;
        let now = context.now();
        let due = context
            .availability
            .retry_until_available(|| self.outbox.due_notices(now, MAX_NOTICES))
            .await?;
        if due.is_empty() {
            return Ok(false);
        }
        let is_full = due.len() >= usize::try_from(MAX_NOTICES).unwrap_or(usize::MAX);
        let (digestible, single): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|notice| notice.kind.is_digestible());
        for notice in single {
            if self.stop.is_cancelled() {
                return Ok(false);
            }
            let audience = self.composer.audience(&notice.detail.shop);
            let mails = vec![self.mail(&audience, std::slice::from_ref(&notice), now)];
            self.write(mails, None).await?;
        }
        let mut by_audience = BTreeMap::<String, Vec<Notice>>::new();
        for notice in digestible {
            by_audience
                .entry(self.composer.audience(&notice.detail.shop))
                .or_default()
                .push(notice);
        }
        for (audience, notices) in by_audience {
            let (of_redrives, others): (Vec<_>, Vec<_>) =
                notices.into_iter().partition(|notice| notice.detail.by_redrive);
            let rule = self.composer.digest_rule(&audience);
            self.compose_for(&audience, &audience, &others, rule, now).await?;
            let window = format!("{audience}{OF_REDRIVES}");
            self.compose_for(&audience, &window, &of_redrives, rule.for_redrives(), now).await?;
        }
        reach(CrashPoint::MailsComposed);
        Ok(is_full)
    }

    /// Mails about failed orders: one by one, as a digest, or not yet. `window_name` names the
    /// window.
    async fn compose_for(
        &self,
        audience: &str,
        window_name: &str,
        notices: &[Notice],
        rule: DigestRule,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if notices.is_empty() {
            return Ok(());
        }
        let context = &self.context;
        let window = context
            .availability
            .retry_until_available(|| self.outbox.digest_window(window_name))
            .await?;
        let waiting = u32::try_from(notices.len()).unwrap_or(u32::MAX);
        let (mails, window): (Vec<NewMail>, DigestWindow) = match plan(window, waiting, rule, now) {
            Plan::Each { window } => {
                let each = notices.chunks(1).map(|one| self.mail(audience, one, now));
                (each.collect(), window)
            }
            Plan::Digest { window } => (vec![self.mail(audience, notices, now)], window),
            Plan::Wait { until } => {
                let ids: Vec<String> = notices.iter().map(|notice| notice.id.clone()).collect();
                return context
                    .availability
                    .retry_until_available(|| self.outbox.postpone_notices(&ids, until))
                    .await;
            }
        };
        self.write(mails, Some((window_name.to_owned(), window))).await
    }

    async fn write(
        &self,
        mails: Vec<NewMail>,
        window: Option<(String, DigestWindow)>,
    ) -> Result<(), StoreError> {
        let context = &self.context;
        let written = context
            .availability
            .retry_until_available(|| self.outbox.compose_mails(mails.clone(), window.clone()))
            .await?;
        // Otherwise another process put one of them into a mail first; the rest is taken again.
        for new in mails.iter().filter(|_| written) {
            let (kind, kept) = (new.mail.kind.as_str(), new.keep_only);
            tracing::info!(kind, mail_id = %new.id, notices = new.notices.len(), kept, "mail.composed");
            if kept {
                context.metrics.notices_sent.get_or_create(&KindLabel::new(kind)).inc();
            }
        }
        Ok(())
    }

    fn mail(&self, audience: &str, notices: &[Notice], now: Timestamp) -> NewMail {
        let kind = notices[0].kind;
        let details: Vec<NoticeDetail> =
            notices.iter().map(|notice| notice.detail.clone()).collect();
        let ids: Vec<String> = notices.iter().map(|notice| notice.id.clone()).collect();
        NewMail {
            id: self.context.clock.unique_id(),
            audience: audience.to_owned(),
            mail: self.composer.compose(audience, kind, &details, &ids.join("\n")),
            notices: ids,
            keep_only: self.composer.keeps_only(audience),
            now,
        }
    }

    /// Sends some of the mails that are due; whether there may be more.
    async fn send(&self) -> Result<bool, StoreError> {
        let context = &self.context;
        let now = context.now();
        let budget = self.mailer.send_budget();
        let until = later(now, budget * LEASE_IN_BUDGETS);
        let mails = context
            .availability
            .retry_until_available(|| {
                self.outbox.claim_mails(&context.worker, now, until, MAX_MAILS)
            })
            .await?;
        let any = !mails.is_empty();
        // If the server of an audience is unavailable, the rest of its mails are not attempted.
        let mut away = BTreeMap::<String, String>::new();
        for mail in mails {
            if self.stop.is_cancelled() || later(context.now(), budget) > until {
                // What cannot be sent now or within the lease is left for the next worker.
                break;
            }
            let fate = match away.get(&mail.audience) {
                Some(error) => self.later(&mail, error.clone()),
                None => self.send_one(&mail).await,
            };
            if let MailFate::Later { error, .. } = &fate {
                away.insert(mail.audience.clone(), error.clone());
            }
            self.settle(&mail, fate).await?;
        }
        Ok(any && away.is_empty())
    }

    async fn send_one(&self, mail: &StoredMail) -> MailFate {
        let kind = mail.mail.kind.as_str();
        match self.mailer.send(&mail.audience, &mail.mail).await {
            Ok(()) => {
                reach(CrashPoint::MailSent);
                tracing::info!(kind, mail_id = %mail.id, "mail.sent");
                MailFate::Sent(self.context.now())
            }
            Err(MailError::Later(error)) => {
                // The server's text may contain addresses: it is in `mails show`, not in the log.
                tracing::warn!(kind, mail_id = %mail.id, tries = mail.tries, "mail.delayed");
                self.later(mail, error)
            }
            Err(MailError::Never(error)) => {
                tracing::error!(kind, mail_id = %mail.id, "mail.failed");
                MailFate::Failed(error)
            }
        }
    }

    fn later(&self, mail: &StoredMail, error: String) -> MailFate {
        let now = self.context.now();
        if now >= later(mail.created_at, MAX_MAIL_AGE) {
            return MailFate::Failed(error);
        }
        let pause = FIRST_PAUSE * 2u32.saturating_pow(mail.tries.saturating_sub(1).min(10));
        MailFate::Later { at: later(now, pause.min(LONGEST_PAUSE)), error }
    }

    async fn settle(&self, mail: &StoredMail, fate: MailFate) -> Result<(), StoreError> {
        let context = &self.context;
        let kind = KindLabel::new(mail.mail.kind.as_str());
        match &fate {
            MailFate::Sent(_) => drop(context.metrics.notices_sent.get_or_create(&kind).inc()),
            MailFate::Failed(_) => drop(context.metrics.notices_failed.get_or_create(&kind).inc()),
            MailFate::Later { .. } => {}
        }
        context
            .availability
            .retry_until_available(|| self.outbox.settle_mail(mail.id, fate.clone()))
            .await
    }
}

#[async_trait]
impl Handler for Notifier {
    async fn handle(&self, delivery: &Delivery) -> Settle {
        if let Err(fault) = NoticeWaiting::parse(&delivery.body) {
            return match self.context.dead_letters.keep(&self.queue, delivery, &fault).await {
                Ok(()) => Settle::Ack,
                Err(_) => Settle::Reject,
            };
        }
        if let Err(error) = self.send_what_is_due().await {
            // The notices stay in the ledger, and the sweeper nudges again.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "notifier.refused");
        }
        Settle::Ack
    }
}

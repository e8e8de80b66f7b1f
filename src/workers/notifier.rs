//! The notifier: turns notices into mails and hands mails to the mail server (docs/architecture.md, row 11).
//!
//! A nudge only says that something waits; the work is what is due in the ledger. First every due
//! notice goes into exactly one mail, rendered and stored; then each mail is sent to each of its
//! receivers, until it is accepted and always with the same Message-ID. What one receiver's address
//! does concerns that receiver alone; a mail server that is unavailable delays the mails of its
//! audience, nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::crash::{CrashPoint, reach};
use crate::domain::delivery::sent_again_at;
use crate::domain::message::NoticeWaiting;
use crate::domain::notice::{DigestRule, DigestWindow, Gathering, NoticeKind, Plan, gather, plan};
use crate::domain::retry::later;
use crate::ports::broker::{Delivery, Settle};
use crate::ports::mail::{Composer, MailError, Mailer, NoticeDetail};
use crate::ports::notices::{ClaimedDelivery, MailFate, MailStatus, NewMail, Notice, Outbox};
use crate::ports::store_error::StoreError;
use crate::telemetry::KindLabel;
use crate::workers::consume::Handler;
use crate::workers::context::WorkerContext;

/// Most notices handled at a time, and so the longest digest.
const MAX_NOTICES: u32 = 10_000;
/// Deliveries taken for sending at a time.
const MAX_DELIVERIES: u32 = 20;
/// Deliveries under way at the same time.
const SENT_AT_ONCE: usize = 4;
/// The lease on a batch of deliveries, in multiples of the time limit for one.
const LEASE_IN_BUDGETS: u32 = 3;
/// Failures of redrives have a separate window for each audience; no shop has a blank in its name.
const OF_REDRIVES: &str = " (redrives)";
/// The same of news about types of failures.
const OF_FAILURE_TYPES: &str = " (failure types)";

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
        let away = Away::default();
        while !self.stop.is_cancelled() && self.send(&away).await? {}
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
        let (of_types, due): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|notice| notice.kind.is_of_failure_type());
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
        for (audience, notices) in self.by_audience(of_types) {
            self.compose_news(&audience, notices, now).await?;
        }
        for (audience, notices) in self.by_audience(digestible) {
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

    fn by_audience(&self, notices: Vec<Notice>) -> BTreeMap<String, Vec<Notice>> {
        let mut by_audience = BTreeMap::<String, Vec<Notice>>::new();
        for notice in notices {
            let audience = self.composer.audience(&notice.detail.shop);
            by_audience.entry(audience).or_default().push(notice);
        }
        by_audience
    }

    /// News about types of failures: those of a while together, one mail for each kind of news.
    async fn compose_news(
        &self,
        audience: &str,
        notices: Vec<Notice>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (context, window_name) = (&self.context, format!("{audience}{OF_FAILURE_TYPES}"));
        let window = context
            .availability
            .retry_until_available(|| self.outbox.digest_window(&window_name))
            .await?;
        let every = self.composer.digest_rule(audience).every;
        let until = match gather(window, every, now) {
            Gathering::Now { window } => {
                let of_kind = |kind| -> Vec<Notice> {
                    notices.iter().filter(|notice| notice.kind == kind).cloned().collect()
                };
                let kinds = NoticeKind::ALL.into_iter().map(of_kind);
                let mails = kinds
                    .filter(|notices| !notices.is_empty())
                    .flat_map(|notices| self.digests(audience, &notices, now))
                    .collect();
                return self.write(mails, Some((window_name, window))).await;
            }
            Gathering::Wait { until } => until,
            Gathering::Begin { window, until } => {
                self.write(Vec::new(), Some((window_name, window))).await?;
                until
            }
        };
        let ids: Vec<String> = notices.into_iter().map(|notice| notice.id).collect();
        context
            .availability
            .retry_until_available(|| self.outbox.postpone_notices(&ids, until))
            .await
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
            Plan::Digest { window } => (self.digests(audience, notices, now), window),
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

    /// One digest, or as many as it takes for each to fit.
    fn digests(&self, audience: &str, notices: &[Notice], now: Timestamp) -> Vec<NewMail> {
        let mail = self.mail(audience, notices, now);
        if notices.len() < 2 || self.composer.fits(audience, &mail.mail) {
            return vec![mail];
        }
        self.halves(audience, notices, now)
    }

    fn halves(&self, audience: &str, notices: &[Notice], now: Timestamp) -> Vec<NewMail> {
        let (first, second) = notices.split_at(notices.len() / 2);
        let mut mails = self.digests(audience, first, now);
        mails.extend(self.digests(audience, second, now));
        mails
    }

    /// What is sent in the place of a mail that is too large for a receiver; nothing when it cannot be smaller.
    async fn parts(&self, delivery: &ClaimedDelivery) -> Result<Vec<NewMail>, StoreError> {
        let notices = self
            .context
            .availability
            .retry_until_available(|| self.outbox.notices_of(delivery.mail_id))
            .await?;
        if notices.len() < 2 {
            return Ok(Vec::new());
        }
        let mut parts = self.halves(&delivery.audience, &notices, self.context.now());
        for part in &mut parts {
            part.mail.receivers = vec![delivery.receiver.clone()];
        }
        Ok(parts)
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

    /// Sends some of the deliveries that are due; whether there may be more. An audience in `away` has a server
    /// that takes nothing now: what is due for it is put off without an attempt.
    async fn send(&self, away: &Away) -> Result<bool, StoreError> {
        let context = &self.context;
        let now = context.now();
        let until = later(now, self.mailer.send_budget() * LEASE_IN_BUDGETS);
        let claimed = context
            .availability
            .retry_until_available(|| {
                self.outbox.claim_deliveries(&context.worker, now, until, MAX_DELIVERIES)
            })
            .await?;
        let any = !claimed.is_empty();
        let sending = claimed.into_iter().map(|delivery| async move {
            let fate = self.deliver(&delivery, until, away).await?;
            self.settle(&delivery, fate).await
        });
        // A receiver whose server takes its time holds up those that share its place, not all.
        let mut settled = stream::iter(sending).buffer_unordered(SENT_AT_ONCE);
        while let Some(settled) = settled.next().await {
            settled?;
        }
        Ok(any && !self.stop.is_cancelled())
    }

    async fn deliver(
        &self,
        delivery: &ClaimedDelivery,
        until: Timestamp,
        away: &Away,
    ) -> Result<MailFate, StoreError> {
        let audience = &delivery.audience;
        let budget = self.mailer.send_budget();
        if self.stop.is_cancelled() || later(self.context.now(), budget) > until {
            return Ok(MailFate::Untried);
        }
        if let Some(error) = away.of(audience) {
            return Ok(self.later(delivery, error));
        }
        let (kind, mail_id) = (delivery.mail.kind.as_str(), delivery.mail_id);
        // The server's text may contain addresses: it is in `mails show`, not in the log.
        Ok(match self.mailer.send(audience, &delivery.mail, &delivery.receiver).await {
            Ok(()) => {
                reach(CrashPoint::MailSent);
                tracing::info!(kind, %mail_id, "mail.sent");
                MailFate::Sent(self.context.now())
            }
            Err(MailError::ServerAway { error, of_server }) => {
                tracing::warn!(kind, %mail_id, audience, "mail.server_away");
                away.add(audience, of_server);
                self.later(delivery, error)
            }
            Err(MailError::Later(error)) => {
                tracing::warn!(kind, %mail_id, tries = delivery.tries, "mail.delayed");
                self.later(delivery, error)
            }
            Err(MailError::TooLarge(error)) => {
                let (parts, at) = (self.parts(delivery).await?, self.context.now());
                tracing::warn!(kind, %mail_id, parts = parts.len(), "mail.too_large");
                match parts.is_empty() {
                    true => MailFate::Failed { at, error },
                    false => MailFate::Split { at, error, parts },
                }
            }
            Err(MailError::Never(error)) => {
                tracing::error!(kind, %mail_id, "mail.failed");
                MailFate::Failed { at: self.context.now(), error }
            }
        })
    }

    fn later(&self, delivery: &ClaimedDelivery, error: String) -> MailFate {
        let now = self.context.now();
        match sent_again_at(delivery.queued_at, delivery.tries, now, None) {
            Some(at) => MailFate::Later { at, error },
            None => MailFate::Failed { at: now, error },
        }
    }

    async fn settle(&self, delivery: &ClaimedDelivery, fate: MailFate) -> Result<(), StoreError> {
        let (context, mail) = (&self.context, &delivery.mail);
        let status = context
            .availability
            .retry_until_available(|| {
                self.outbox.settle_delivery(delivery.mail_id, &delivery.receiver, fate.clone())
            })
            .await?;
        let kind = KindLabel::new(mail.kind.as_str());
        match &fate {
            MailFate::Sent(_) => drop(context.metrics.notices_sent.get_or_create(&kind).inc()),
            MailFate::Failed { .. } => {
                context.metrics.notices_failed.get_or_create(&kind).inc();
                if status == MailStatus::Failed && mail.kind.is_alert() {
                    let (kind, mail_id) = (mail.kind.as_str(), delivery.mail_id);
                    tracing::error!(
                        kind,
                        %mail_id,
                        "mail.unheard: no administrator got this mail; see `order-relay mails show`"
                    );
                }
            }
            MailFate::Later { .. } | MailFate::Split { .. } | MailFate::Untried => {}
        }
        Ok(())
    }
}

/// Why the mail servers of audiences take nothing now, as found within one run.
#[derive(Default)]
struct Away(Mutex<BTreeMap<String, String>>);

impl Away {
    fn of(&self, audience: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(audience).cloned()
    }

    fn add(&self, audience: &str, error: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(audience.to_owned(), error);
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

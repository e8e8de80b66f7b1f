//! The workers that a command needs with the in-process transport: no other process could receive
//! its messages. Claims in the ledger keep them and a running service from working on the same
//! order.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::app::open_erps::OpenErps;
use crate::app::store::Store;
use crate::config::settings::Settings;
use crate::ports::broker::Broker;
use crate::ports::clock::Clock;
use crate::workers::consume::{ReadMode, Reading, consume, until_drained};
use crate::workers::error_handler::ErrorHandler;
use crate::workers::failure_counter::FailureCounter;
use crate::workers::notifier::Notifier;
use crate::workers::submitter::admit::Submitter;

use super::supervisor::Supervisor;
use crate::app::wiring::{self, Sending};

/// Orders in progress at the same time: a person transfers one after the other.
const PERMITS: u16 = 4;

/// A submitter, an error handler and a notifier for the length of one command.
pub struct Inline {
    roles: Supervisor,
    stop: CancellationToken,
    broker: Arc<dyn Broker>,
    notifier: Notifier,
}

impl Inline {
    /// Starts them; the submitter only when orders are sent.
    pub async fn start(
        settings: &Settings,
        erps: &OpenErps,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        broker: Arc<dyn Broker>,
        worker: &str,
        sending: Sending,
    ) -> anyhow::Result<Self> {
        let context =
            wiring::context(settings, erps, store.clone(), clock, broker, worker, sending)?;
        let post = wiring::post(settings)?;
        let stop = CancellationToken::new();
        let mut roles = Supervisor::default();
        let names = context.broker.topology().names.clone();
        let reading = |queue: String| {
            let read_mode = watch::channel(ReadMode::Full).1;
            Reading { queue, permits: PERMITS, read_mode, stop: stop.clone() }
        };
        let (failed, submit) = (reading(names.failed()), reading(names.submit()));
        let counter = Arc::new(FailureCounter::new(context.clone(), store.clone()));
        let (handler, of_failed) =
            (ErrorHandler::new(context.clone(), counter.clone()), context.clone());
        roles.start("error-handler", async move { consume(&of_failed, &handler, failed).await });
        if sending == Sending::Yes {
            let (submitter, of_submit) =
                (Submitter::new(context.clone(), store.clone(), Some(counter)), context.clone());
            roles.start("submitter", async move { consume(&of_submit, &submitter, submit).await });
            // Both must read before the first message is sent.
            while context.broker.queue_status(&names.submit()).await?.consumers == 0 {
                tokio::task::yield_now().await;
            }
        }
        let broker = context.broker.clone();
        Ok(Self {
            roles,
            stop,
            broker,
            notifier: Notifier::new(
                context,
                store,
                post.templates,
                post.smtp,
                CancellationToken::new(),
            ),
        })
    }

    /// Finishes the work in progress, then sends the resulting mails.
    pub async fn finish(mut self) {
        until_drained(&*self.broker, &self.broker.topology().names.failed()).await;
        self.stop.cancel();
        self.roles.all_ended().await;
        if let Err(error) = self.notifier.send_what_is_due().await {
            tracing::warn!(%error, "mails stay in the ledger; the service sends them");
        }
    }
}

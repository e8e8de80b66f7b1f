//! Shared by all handlers of the web port. The lowest level: nothing here knows a route.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use futures_util::future::BoxFuture;

use crate::ops::verbs::Ops;
use crate::ports::mail::MailPreviews;
use crate::telemetry::Metrics;
use crate::views::checks::CheckLine;
use crate::web::auth::access::Access;
use crate::web::html::counts::Counts;
use crate::web::html::templates::Pages;

/// Largest request, in bytes: many orders as NDJSON.
pub const MAX_REQUEST: usize = 16 * 1024 * 1024;

/// What the web port needs.
#[derive(Clone)]
pub struct Web {
    /// The operations.
    pub ops: Arc<Ops>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Pages for people.
    pub pages: Arc<Pages>,
    /// What waits for a person.
    pub counts: Arc<Counts>,
    /// Whether everything is reachable and usable.
    pub check: Arc<Check>,
    /// Mails with sample data.
    pub previews: Arc<dyn MailPreviews>,
    /// Set while the process drains.
    pub draining: Arc<AtomicBool>,
    /// How it is reached.
    pub access: Arc<Access>,
    /// Whether this process works with the broker, so that its absence matters.
    pub needs_broker: bool,
}

/// What `order-relay check` says.
pub type Check = dyn Fn() -> BoxFuture<'static, Vec<CheckLine>> + Send + Sync;

//! Points at which tests abort the process.
//!
//! `ORDER_RELAY_CRASH_AT=admitted` (or `admitted:3` for the third time) aborts the process at that
//! point. Only in debug builds; a release build does not contain it. Every point has a test
//! (tests/it/crash_points.rs), and the rows of docs/architecture.md say what must be true
//! afterwards.

/// A point right after an effect became durable, or right before it would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashPoint {
    /// Row 1: a delivery was received, nothing was done.
    Received,
    /// Row 4: the order is in the ledger, claimed.
    Admitted,
    /// Row 5: the ERP answered, nothing was written.
    Answered,
    /// Row 6a: the receipt is written, the delivery is not acknowledged.
    Confirmed,
    /// Row 6c: `order_failed` is published, the delivery is not acknowledged.
    FailurePublished,
    /// Row 8: the failure is counted, the retry is not published.
    FailureRecorded,
    /// Row 9: the retry is published, the delivery is not acknowledged.
    RetryPublished,
    /// Row 11: mails are written, none is sent.
    MailsComposed,
    /// Row 11: a mail is sent and not marked as sent.
    MailSent,
    /// Row 11: a message to a channel is sent and not marked as sent.
    ChannelMessageSent,
    /// Row 12: overdue orders are marked as swept, no message was published.
    Swept,
    /// The dead letter is in the ledger, its message is not acknowledged.
    DeadLetterRecorded,
    /// Row 14: orders of a redrive are marked as sent, no message was published.
    RedriveMarked,
    /// Row 15: the outcome of orders of a redrive is written, the rules were not applied yet.
    RedriveSettled,
    /// Old orders are noted as gone, their rows are there.
    OrdersNoted,
    /// The rows of some of them are deleted.
    OrdersDeleted,
}

crate::names!(CrashPoint {
    Received = "received",
    Admitted = "admitted",
    Answered = "answered",
    Confirmed = "confirmed",
    FailurePublished = "failure_published",
    FailureRecorded = "failure_recorded",
    RetryPublished = "retry_published",
    MailsComposed = "mails_composed",
    MailSent = "mail_sent",
    ChannelMessageSent = "channel_message_sent",
    Swept = "swept",
    DeadLetterRecorded = "dead_letter_recorded",
    RedriveMarked = "redrive_marked",
    RedriveSettled = "redrive_settled",
    OrdersNoted = "orders_noted",
    OrdersDeleted = "orders_deleted",
});

/// Aborts the process, if the environment names this point.
#[cfg(debug_assertions)]
pub fn reach(point: CrashPoint) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static AT: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static REACHED: AtomicU32 = AtomicU32::new(0);
    let at = AT.get_or_init(|| {
        let text = std::env::var("ORDER_RELAY_CRASH_AT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), count.parse().unwrap_or(1)))
    });
    if let Some((name, count)) = at
        && name == point.as_str()
        && REACHED.fetch_add(1, Ordering::AcqRel) + 1 == *count
    {
        // As hard as a kill: no destructor runs, nothing is flushed.
        std::process::abort();
    }
}

/// Nothing in a release.
#[cfg(not(debug_assertions))]
pub fn reach(_point: CrashPoint) {}

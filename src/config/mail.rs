//! `mail.*`: mails about the orders of a shop.

use std::time::Duration;

use secrecy::SecretString;

use crate::domain::alarm::Damping;
use crate::domain::language::Language;
use crate::domain::notice::{CustomerConfirmation, DigestRule};

use super::reader::{ONE_DAY, ONE_MS, Reader};

/// `mail.*`
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The server; `None`: mails are only stored.
    pub smtp_url: Option<SecretString>,
    /// From.
    pub sender: String,
    /// Administrators.
    pub receivers: Vec<String>,
    /// Language of the administrators.
    pub language: Language,
    /// Template of the subject of a failure mail.
    pub order_failed_subject: String,
    /// When a customer gets a confirmation.
    pub customer_confirmation: CustomerConfirmation,
    /// When single failures become a digest.
    pub digest: DigestRule,
    /// When what comes and goes is told as unstable.
    pub damping: Damping,
    /// How long the mail that the ERP is usable again waits for the orders that waited.
    pub erp_back_within: Duration,
    /// Whether types of failures are told.
    pub failure_types: bool,
    /// A type of failures has ended when none failed for so long.
    pub failure_type_ends_after: Duration,
    /// Largest mail.
    pub max_bytes: usize,
    /// How long the server may take for one mail.
    pub patience: Duration,
}

impl MailSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let mail = Self {
            smtp_url: r.secret("mail.smtp_url"),
            sender: r.text("mail.sender"),
            receivers: r.texts("mail.receiver", |_| Ok(())),
            language: r.choice("mail.language", &Language::ALL.map(Language::code)),
            order_failed_subject: r.text("mail.order_failed.subject"),
            customer_confirmation: r
                .choice("mail.customer_confirmation", &["never", "after_failure", "always"]),
            digest: DigestRule {
                after: r.number("mail.digest_after", 1..=1_000),
                every: r.duration("mail.digest_every", ONE_MS..=ONE_DAY),
            },
            damping: Damping {
                unstable_after: r.number("mail.unstable_after", 2..=1_000),
                window: r.duration("mail.unstable_window", ONE_MS..=ONE_DAY * 7),
            },
            erp_back_within: r.duration("mail.erp_back_within", Duration::ZERO..=ONE_DAY),
            failure_types: r.flag("mail.failure_types"),
            failure_type_ends_after: r
                .duration("mail.failure_type_ends_after", ONE_MS..=ONE_DAY * 30),
            max_bytes: r.bytes("mail.max_bytes", 64 * 1024..=100 * 1024 * 1024),
            patience: r.duration("mail.patience", ONE_MS..=Duration::from_mins(10)),
        };
        if mail.smtp_url.is_some() && mail.sender.is_empty() {
            r.fault("mail.sender", "missing: with mail.smtp_url set, mails need a sender");
        }
        if mail.smtp_url.is_some() && mail.receivers.is_empty() {
            r.fault(
                "mail.receiver",
                "missing: with mail.smtp_url set, failure mails need an administrator",
            );
        }
        mail
    }
}

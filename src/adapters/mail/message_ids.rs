//! The identities of mails: Message-ID, the thread that a mail belongs to, and the list of its receivers.
//!
//! All are derived from what the mail is about, so that they are the same when it is sent again (RFC 5322, 3.6.4), and so
//! that all mails about one order, one ERP or one type of failures are one thread.

use sha2::{Digest, Sha256};

use crate::domain::notice::NoticeKind;
use crate::ports::mail::NoticeDetail;

/// Longest name of an audience in a List-Id.
const MAX_LABEL: usize = 60;

/// Where a mail stands.
pub struct Identity {
    pub message_id: String,
    /// The root of its thread, unless the mail is that itself.
    pub in_reply_to: Option<String>,
}

/// The identity of the mail about `notices`, which `seed` distinguishes from every other mail.
pub fn identity(
    audience: &str,
    kind: NoticeKind,
    notices: &[NoticeDetail],
    seed: &str,
    sender: &str,
) -> Identity {
    let own = id(seed, sender);
    let [notice] = notices else { return Identity { message_id: own, in_reply_to: None } };
    let Some(subject) = thread(audience, kind, notice) else {
        return Identity { message_id: own, in_reply_to: None };
    };
    let root = id(&format!("thread of {subject}"), sender);
    match begins(kind, notice) {
        true => Identity { message_id: root, in_reply_to: None },
        false => Identity { message_id: own, in_reply_to: Some(root) },
    }
}

/// What the mails of a thread are about.
fn thread(audience: &str, kind: NoticeKind, notice: &NoticeDetail) -> Option<String> {
    let trouble = notice.trouble.as_ref();
    match kind {
        NoticeKind::OrderFailed | NoticeKind::EnteredTwice => {
            Some(format!("order {}/{}", notice.shop, notice.order_id.as_ref()?))
        }
        NoticeKind::CircuitOpened | NoticeKind::CircuitClosed | NoticeKind::CircuitUnstable => {
            let began_at = trouble?.began_at.as_millisecond();
            Some(format!("ERP {}@{began_at}", notice.erp.as_ref()?))
        }
        NoticeKind::FailureTypeNew
        | NoticeKind::FailureTypeBack
        | NoticeKind::FailureTypeUnstable
        | NoticeKind::FailureTypeEnded => {
            Some(format!("failures {audience}/{}", trouble?.fingerprint.as_ref()?))
        }
        // The only mail about it that its receiver gets.
        NoticeKind::CustomerConfirmation => None,
    }
}

/// Whether a notice is the only one of its thread with this kind and so can be its root: two mails never have the same
/// Message-ID.
fn begins(kind: NoticeKind, notice: &NoticeDetail) -> bool {
    match kind {
        NoticeKind::OrderFailed => notice.attempt == 1,
        NoticeKind::CircuitOpened | NoticeKind::FailureTypeNew => true,
        // Otherwise the same spell began with another mail.
        NoticeKind::CircuitUnstable => notice.trouble.as_ref().is_some_and(|t| t.times == 1),
        _ => false,
    }
}

fn id(seed: &str, sender: &str) -> String {
    let digest = Sha256::digest(seed);
    let id: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("<{id}@{}>", domain(sender))
}

fn domain(sender: &str) -> &str {
    let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain.trim_end_matches('>'));
    if domain.is_empty() { "order-relay.invalid" } else { domain }
}

/// The List-Id of what administrators of an audience get (RFC 2919): mail programs sort by it.
pub fn list_id(audience: &str, sender: &str) -> String {
    let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = audience.chars().take(MAX_LABEL).map(label).collect();
    let domain = idna::domain_to_ascii(domain(sender));
    let domain = domain.unwrap_or_else(|_| "order-relay.invalid".to_owned());
    format!("<{label}.alerts.order-relay.{domain}>")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::ports::mail::Trouble;

    const SENDER: &str = "Shop <shop@example.com>";

    fn of(kind: NoticeKind, notice: &NoticeDetail, seed: &str) -> Identity {
        identity("default", kind, std::slice::from_ref(notice), seed, SENDER)
    }

    fn order(attempt: u32) -> NoticeDetail {
        let erp = NoticeDetail::of_erp("", "de", "", Timestamp::UNIX_EPOCH);
        NoticeDetail { order_id: Some("1".to_owned()), attempt, erp: None, ..erp }
    }

    fn circuit(times: u32) -> NoticeDetail {
        let trouble = Some(Trouble { times, ..Trouble::default() });
        NoticeDetail { trouble, ..NoticeDetail::of_erp("erp", "de", "", Timestamp::UNIX_EPOCH) }
    }

    #[test]
    fn mails_about_one_order_are_one_thread_with_the_first_as_its_root() {
        let root = of(NoticeKind::OrderFailed, &order(1), "1");
        assert_eq!(root.in_reply_to, None);
        let second = of(NoticeKind::OrderFailed, &order(2), "2");
        let third = of(NoticeKind::EnteredTwice, &order(2), "3");
        for reply in [&second, &third] {
            assert_eq!(reply.in_reply_to.as_ref(), Some(&root.message_id));
        }
        assert!(second.message_id != third.message_id && second.message_id != root.message_id);
        let two = identity("default", NoticeKind::OrderFailed, &[order(1), order(2)], "4", SENDER);
        assert_eq!(two.in_reply_to, None, "a mail about many belongs to none");
        assert_ne!(two.message_id, root.message_id);
    }

    #[test]
    fn the_end_of_an_outage_answers_the_mail_about_its_beginning() {
        let opened = of(NoticeKind::CircuitOpened, &circuit(1), "1");
        let closed = of(NoticeKind::CircuitClosed, &circuit(1), "2");
        assert_eq!(closed.in_reply_to, Some(opened.message_id));
        let later = of(NoticeKind::CircuitUnstable, &circuit(3), "3");
        assert_eq!(later.in_reply_to, closed.in_reply_to);
    }

    #[test]
    fn identities_are_valid_whatever_the_names_are() {
        assert_eq!(list_id("de", SENDER), "<de.alerts.order-relay.example.com>");
        assert_eq!(list_id("a>\r\nX: y", ""), "<a---x--y.alerts.order-relay.order-relay.invalid>");
        let id = of(NoticeKind::OrderFailed, &order(1), "1").message_id;
        assert!(id.starts_with('<') && id.ends_with("@example.com>"), "{id}");
    }
}

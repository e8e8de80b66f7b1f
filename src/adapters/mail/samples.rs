//! Every kind of mail with sample data, to be looked at before one is needed: `order-relay mails preview` and its page.

use jiff::{SignedDuration, Timestamp};

use crate::domain::language::Language;
use crate::domain::money::Money;
use crate::domain::notice::NoticeKind;
use crate::ports::mail::{Mail, MailPreviews, NoticeDetail, Trouble};

use super::smtp::as_sent;
use super::templates::{DEFAULT_AUDIENCE, Templates};

/// The mail about many failures has no notice of its own.
const DIGEST: &str = "digest";
/// The notices of a sample.
type Sample = fn() -> Vec<NoticeDetail>;
/// The kinds with their samples.
const KINDS: [(&str, NoticeKind, Sample); 11] = [
    ("order_failed", NoticeKind::OrderFailed, || vec![failed(1)]),
    (DIGEST, NoticeKind::OrderFailed, || (1..=1_310).map(failed).collect()),
    ("circuit_opened", NoticeKind::CircuitOpened, || vec![circuit(ERROR)]),
    ("circuit_closed", NoticeKind::CircuitClosed, || vec![circuit("")]),
    ("circuit_unstable", NoticeKind::CircuitUnstable, || vec![circuit(ERROR)]),
    ("entered_twice", NoticeKind::EnteredTwice, || vec![twice()]),
    ("failure_type_new", NoticeKind::FailureTypeNew, || vec![failures(0), failures(1)]),
    ("failure_type_back", NoticeKind::FailureTypeBack, || vec![failures(0)]),
    ("failure_type_unstable", NoticeKind::FailureTypeUnstable, || vec![failures(0)]),
    ("failure_type_ended", NoticeKind::FailureTypeEnded, || vec![failures(1)]),
    ("customer_confirmation", NoticeKind::CustomerConfirmation, || vec![confirmed()]),
];
const ERROR: &str = "timeout: the ERP did not answer within 30 s";
const MESSAGES: [&str; 3] = [
    "article 4711 is locked",
    "credit limit of customer <C-1001> reached",
    "no price for article 4712",
];

impl MailPreviews for Templates {
    fn kinds(&self) -> Vec<&'static str> {
        KINDS.iter().map(|(name, ..)| *name).collect()
    }

    fn preview(&self, kind: &str, language: Option<Language>) -> Option<Mail> {
        let (name, kind, notices) = KINDS.iter().find(|(name, ..)| *name == kind)?;
        let mut notices = notices();
        for notice in &mut notices {
            let locale = language.unwrap_or(Language::De).code();
            notice.customer_locale = Some(locale.to_owned());
        }
        let seed = format!("preview of {name}");
        let language = language.unwrap_or_else(|| self.language_of(DEFAULT_AUDIENCE));
        let mail = self.write(DEFAULT_AUDIENCE, *kind, &notices, &seed, language);
        // A preview without settings has to look like a mail, too.
        let or =
            |text: String, sample: &str| if text.is_empty() { sample.to_owned() } else { text };
        let receivers = match mail.receivers.is_empty() {
            true => vec!["admin@example.com".to_owned()],
            false => mail.receivers,
        };
        Some(Mail { sender: or(mail.sender, "Shop <shop@example.com>"), receivers, ..mail })
    }

    fn message(&self, mail: &Mail) -> Result<Vec<u8>, String> {
        let receiver = mail.receivers.first().ok_or("the mail has no receiver")?;
        as_sent(mail, receiver)
    }
}

fn at(minutes: i64) -> Timestamp {
    let noon = Timestamp::new(1_795_777_200, 0).unwrap_or(Timestamp::UNIX_EPOCH);
    noon.checked_add(SignedDuration::from_mins(minutes)).unwrap_or(noon)
}

fn of_order(n: u32) -> NoticeDetail {
    let erp = NoticeDetail::of_erp("", "default", "", at(0));
    NoticeDetail {
        order_id: Some((100_041 + n).to_string()),
        currency: Some("EUR".to_owned()),
        total: Some(format!("{}.9", 129 + (n - 1) % 900)),
        customer_number: Some("C-1001".to_owned()),
        customer_name: Some("Erika Muster".to_owned()),
        customer_email: Some("erika@example.com".to_owned()),
        attempt: 1,
        fail_count: 1,
        max_count: Some(3),
        erp: None,
        occurred_at: at(i64::from(n) / 40),
        ..erp
    }
}

fn failed(n: u32) -> NoticeDetail {
    let message = MESSAGES[usize::try_from(n).unwrap_or_default() % MESSAGES.len()];
    let phase = ["parked", "retrying", "outcome_unknown"][usize::try_from(n % 7).unwrap_or(0) % 3];
    NoticeDetail {
        phase: phase.to_owned(),
        next_attempt_at: (phase != "parked").then(|| at(45)),
        class: Some("rejected".to_owned()),
        code: Some("http_422".to_owned()),
        message: Some(message.to_owned()),
        ..of_order(n)
    }
}

fn twice() -> NoticeDetail {
    NoticeDetail {
        erp_order_id: Some("SO-20418".to_owned()),
        first_erp_order_id: Some("SO-20417".to_owned()),
        ..of_order(1)
    }
}

fn confirmed() -> NoticeDetail {
    NoticeDetail { erp_order_id: Some("SO-20417".to_owned()), ..of_order(1) }
}

fn circuit(reason: &str) -> NoticeDetail {
    let trouble = Trouble {
        began_at: at(0),
        until: Some(at(42)),
        lasted_ms: 42 * 60 * 1_000,
        times: 1,
        recent_times: 3,
        recent_since: Some(at(-50)),
        waited: 1_310,
        undecided: 3,
        ..Trouble::default()
    };
    NoticeDetail {
        trouble: Some(trouble),
        ..NoticeDetail::of_erp("default", "default", reason, at(0))
    }
}

fn failures(n: usize) -> NoticeDetail {
    let lost = if n == 0 { 12 } else { 0 };
    let sum = Money {
        currency: "EUR".to_owned(),
        amount: "15480.5".to_owned(),
        orders: lost,
        unsummed: 0,
    };
    let trouble = Trouble {
        began_at: at(-90),
        until: Some(at(5)),
        times: 1,
        fingerprint: Some("0123456789abcdef".to_owned()),
        lost,
        money: if lost > 0 { vec![sum] } else { Vec::new() },
        ..Trouble::default()
    };
    let detail = NoticeDetail::of_failure_type("default", "rejected", "http_422", trouble, at(6));
    NoticeDetail { message: Some(MESSAGES[n].to_owned()), ..detail }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use jiff::tz::TimeZone;

    use super::*;
    use crate::adapters::mail::templates::{AudienceSettings, BUILT_IN};
    use crate::adapters::mail::wording::catalog;
    use crate::domain::notice::DigestRule;
    use crate::ports::mail::Composer;

    fn templates(language: Language) -> Templates {
        let audience = AudienceSettings {
            sender: "Shop <shop@example.com>".to_owned(),
            receivers: vec!["admin@example.com".to_owned()],
            language,
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            subject: "{{ t('Order {order} failed', order=n.order_id) }} ({{ n.counted }})"
                .to_owned(),
            digest: DigestRule { after: 10, every: std::time::Duration::from_secs(300) },
            max_bytes: 1 << 20,
            keep_only: false,
        };
        Templates::new(None, "https://relay.example.com/", audience, BTreeMap::new()).unwrap()
    }

    fn every_preview() -> Vec<(&'static str, Language, Mail)> {
        let mut previews = Vec::new();
        for language in Language::ALL {
            let templates = templates(language);
            for kind in templates.kinds() {
                previews.push((kind, language, templates.preview(kind, Some(language)).unwrap()));
            }
        }
        previews
    }

    /// The sentences that `t` and `count` are called with.
    fn sentences(template: &str) -> Vec<String> {
        let mut found = Vec::new();
        for call in ["t(\"", "count("] {
            for (at, _) in template.match_indices(call) {
                let is_part_of_a_word =
                    template[..at].chars().next_back().is_some_and(char::is_alphanumeric);
                let rest = &template[at + call.len()..];
                if is_part_of_a_word {
                    continue;
                }
                let before = usize::from(call == "count(");
                let mut quoted = rest.split('"').skip(before);
                found.extend(quoted.next().map(str::to_owned));
                if call == "count(" {
                    found.extend(quoted.nth(1).map(str::to_owned));
                }
            }
        }
        found
    }

    /// What the code itself says.
    const OF_CODE: [&str; 5] = [
        "no code",
        "{count} of {max}",
        "without {n}",
        "Order {order} failed",
        "An order could not be transferred to the ERP",
    ];

    #[test]
    fn every_sentence_of_the_mails_has_a_german_one_and_no_other_has() {
        let used: BTreeSet<String> = BUILT_IN
            .iter()
            .flat_map(|(_, template)| sentences(template))
            .chain(OF_CODE.map(str::to_owned))
            .collect();
        let known: BTreeSet<String> = catalog().keys().cloned().collect();
        assert_eq!(used, known);
    }

    #[test]
    fn a_translation_names_the_same_values() {
        let names = |text: &str| -> BTreeSet<String> {
            let parts = text.split('{').skip(1);
            parts.filter_map(|part| Some(part.split_once('}')?.0.to_owned())).collect()
        };
        for (english, german) in &catalog() {
            assert_eq!(names(english), names(german), "{english}");
        }
    }

    /// What is read of an HTML part: text and targets of links, without entities.
    fn read(html: &str) -> String {
        let (_, body) = html.split_once("</head>").unwrap();
        let mut text = String::new();
        for part in body.split('<').skip(1) {
            let (tag, rest) = part.split_once('>').unwrap();
            if let Some((_, link)) = tag.split_once("href=\"") {
                text.push_str(&format!(" {} ", link.split('"').next().unwrap()));
            }
            text.push(' ');
            text.push_str(rest);
        }
        for (entity, c) in [
            ("&#x2f;", "/"),
            ("&#x27;", "'"),
            ("&quot;", "\""),
            ("&lt;", "<"),
            ("&gt;", ">"),
            ("&amp;", "&"),
        ] {
            text = text.replace(entity, c);
        }
        text
    }

    /// Words with a digit, and links: numbers, amounts, times, names of orders.
    fn facts(text: &str) -> BTreeSet<String> {
        let ends = |c: char| "().,:;".contains(c);
        let words = text.split_whitespace().map(|word| word.trim_matches(ends));
        words
            .filter(|word| word.starts_with("http") || word.chars().any(|c| c.is_ascii_digit()))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn both_parts_of_every_mail_tell_the_same_facts() {
        for (kind, language, mail) in every_preview() {
            let (text, html) = (facts(&mail.text), facts(&read(&mail.html)));
            // The HTML of a digest has a link for each order, its text has their list only.
            let shown = |facts: BTreeSet<String>| -> BTreeSet<String> {
                facts
                    .into_iter()
                    .filter(|fact| !fact.contains("/orders/") || kind != DIGEST)
                    .collect()
            };
            assert_eq!(shown(text), shown(html), "{kind} {language:?}");
        }
    }

    #[test]
    fn every_mail_is_complete_in_both_languages() {
        for (kind, language, mail) in every_preview() {
            for part in [&mail.subject, &mail.text, &mail.html] {
                assert!(!part.is_empty() && !part.contains("{n}"), "{kind}: {part}");
                assert!(!part.contains("(template "), "{kind}: {part}");
            }
            // How the engine writes what is missing.
            let missing = mail.text.lines().any(|line| line.ends_with(" none"));
            assert!(!missing, "{kind}: {}", mail.text);
            let lang = format!("<html lang=\"{}\">", language.code());
            assert!(mail.html.contains(&lang), "{kind}");
            assert!(mail.html.contains("prefers-color-scheme: dark"), "{kind}");
        }
    }

    #[test]
    fn the_headers_say_what_a_mail_is_and_where_it_belongs() {
        let templates = templates(Language::En);
        let message = |kind| {
            let mail = templates.preview(kind, None).unwrap();
            (String::from_utf8(templates.message(&mail).unwrap()).unwrap(), mail)
        };
        let (opened, root) = message("circuit_opened");
        let (closed, _) = message("circuit_closed");
        for text in [&opened, &closed] {
            assert!(text.contains("Auto-Submitted: auto-generated\r\n"), "{text}");
            let list = "List-Id: <default.alerts.order-relay.example.com>\r\n";
            assert!(text.contains(list), "{text}");
        }
        assert!(opened.contains(&format!("Message-ID: {}\r\n", root.message_id)), "{opened}");
        for header in ["In-Reply-To", "References"] {
            assert!(closed.contains(&format!("{header}: {}\r\n", root.message_id)), "{closed}");
            assert!(!opened.contains(header), "{opened}");
        }
        let (customer, _) = message("customer_confirmation");
        assert!(!customer.contains("List-Id"), "{customer}");
    }

    #[test]
    fn order_data_is_no_markup() {
        let mail = templates(Language::En).preview("failure_type_new", None).unwrap();
        assert!(mail.html.contains("&lt;C-1001&gt;") && !mail.html.contains("<C-1001>"));
    }

    #[test]
    fn the_sentence_about_the_end_of_an_outage_is_the_readers() {
        let subject =
            |language| templates(language).preview("circuit_closed", None).unwrap().subject;
        assert_eq!(
            subject(Language::En),
            "ERP default is back: it was away for 42 min, 1,310 orders waited, all are through, 3 need a decision"
        );
        assert_eq!(
            subject(Language::De),
            "ERP default ist wieder da: es war 42 Min. nicht nutzbar, 1.310 Bestellungen haben gewartet, \
             alle sind durch, 3 brauchen eine Entscheidung"
        );
    }

    #[test]
    fn a_german_customer_reads_a_german_amount() {
        let templates = templates(Language::En);
        let mail = templates.preview("customer_confirmation", Some(Language::De)).unwrap();
        assert!(mail.text.contains("129,90 €") && mail.html.contains("129,90 €"), "{}", mail.text);
        let detail = NoticeDetail { customer_locale: Some("de-AT".to_owned()), ..confirmed() };
        let kind = NoticeKind::CustomerConfirmation;
        let mail = templates.compose("default", kind, &[detail], "seed");
        assert!(mail.text.contains("129,90 €"), "{}", mail.text);
        assert_eq!(
            (mail.receivers.as_slice(), mail.list_id),
            (["erika@example.com".to_owned()].as_slice(), None)
        );
    }

    #[test]
    fn the_same_sample_is_the_same_mail() {
        let templates = templates(Language::De);
        for kind in templates.kinds() {
            assert_eq!(templates.preview(kind, None), templates.preview(kind, None));
        }
        assert_eq!(templates.preview("nothing", None), None);
    }
}

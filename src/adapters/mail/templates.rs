//! Composing mails from templates: built in, and overridable file by file by a folder.
//!
//! A mail is never lost because of a broken template: if the user's does not render, the built-in
//! one is used and the reason is logged. Texts of orders and ERPs are made printable before they
//! are passed to a template; HTML is escaped by the engine because the template's name ends in
//! `.html`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::domain::csv_cell::cell;
use crate::domain::failure::ErrorClass;
use crate::domain::fingerprint::fingerprint;
use crate::domain::money::{Money, Purse, Sum};
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::domain::text::{one_line, path_segment};
use crate::ports::mail::{Composer, Mail, NoticeDetail, Trouble};

/// Longest piece of order data in a mail, in characters.
const MAX_FACT: usize = 200;
/// Orders that a digest lists; its attachment has all.
const MAX_NEWEST: usize = 50;
/// Types of failures that a digest shows.
const MAX_GROUPS: usize = 20;
const LIST_COLUMNS: [&str; 14] = [
    "shop",
    "order_id",
    "class",
    "code",
    "message",
    "attempt",
    "fail_count",
    "max_count",
    "phase",
    "next_attempt_at",
    "total",
    "currency",
    "occurred_at",
    "link",
];
/// Limit of a template's work, so that none runs for ever (minijinja `fuel`).
const FUEL: u64 = 20_000_000;
const SUBJECT: &str = "order_failed.subject";

const BUILT_IN: [(&str, &str); 27] = [
    ("layout.html", include_str!("../../../templates/mail/layout.html")),
    ("order_failed.txt", include_str!("../../../templates/mail/order_failed.txt")),
    ("order_failed.html", include_str!("../../../templates/mail/order_failed.html")),
    ("digest.subject.txt", include_str!("../../../templates/mail/digest.subject.txt")),
    ("digest.txt", include_str!("../../../templates/mail/digest.txt")),
    ("digest.html", include_str!("../../../templates/mail/digest.html")),
    (
        "circuit_opened.subject.txt",
        include_str!("../../../templates/mail/circuit_opened.subject.txt"),
    ),
    ("circuit_opened.txt", include_str!("../../../templates/mail/circuit_opened.txt")),
    ("circuit_opened.html", include_str!("../../../templates/mail/circuit_opened.html")),
    (
        "circuit_closed.subject.txt",
        include_str!("../../../templates/mail/circuit_closed.subject.txt"),
    ),
    (
        "circuit_closed.txt",
        include_str!("../../../templates/mail/circuit_closed.txt"),
    ),
    (
        "circuit_closed.html",
        include_str!("../../../templates/mail/circuit_closed.html"),
    ),
    (
        "circuit_unstable.subject.txt",
        include_str!("../../../templates/mail/circuit_unstable.subject.txt"),
    ),
    (
        "circuit_unstable.txt",
        include_str!("../../../templates/mail/circuit_unstable.txt"),
    ),
    (
        "circuit_unstable.html",
        include_str!("../../../templates/mail/circuit_unstable.html"),
    ),
    (
        "failure_types.subject.txt",
        include_str!("../../../templates/mail/failure_types.subject.txt"),
    ),
    (
        "failure_types.txt",
        include_str!("../../../templates/mail/failure_types.txt"),
    ),
    (
        "failure_types.html",
        include_str!("../../../templates/mail/failure_types.html"),
    ),
    (
        "entered_twice.subject.txt",
        include_str!("../../../templates/mail/entered_twice.subject.txt"),
    ),
    ("entered_twice.txt", include_str!("../../../templates/mail/entered_twice.txt")),
    ("entered_twice.html", include_str!("../../../templates/mail/entered_twice.html")),
    (
        "customer_confirmation.en.subject.txt",
        include_str!("../../../templates/mail/customer_confirmation.en.subject.txt"),
    ),
    (
        "customer_confirmation.en.txt",
        include_str!("../../../templates/mail/customer_confirmation.en.txt"),
    ),
    (
        "customer_confirmation.en.html",
        include_str!("../../../templates/mail/customer_confirmation.en.html"),
    ),
    (
        "customer_confirmation.de.subject.txt",
        include_str!("../../../templates/mail/customer_confirmation.de.subject.txt"),
    ),
    (
        "customer_confirmation.de.txt",
        include_str!("../../../templates/mail/customer_confirmation.de.txt"),
    ),
    (
        "customer_confirmation.de.html",
        include_str!("../../../templates/mail/customer_confirmation.de.html"),
    ),
];

/// Sender, receivers and rules of one audience.
#[derive(Debug, Clone)]
pub struct AudienceSettings {
    /// From.
    pub sender: String,
    /// The administrators.
    pub receivers: Vec<String>,
    /// Subject template of the mail about one failed order.
    pub subject: String,
    /// When single failures become a digest.
    pub digest: DigestRule,
    /// Largest mail.
    pub max_bytes: usize,
    /// Whether there is no mail server.
    pub keep_only: bool,
}

/// Composes mails.
pub struct Templates {
    own: Option<Environment<'static>>,
    built_in: Environment<'static>,
    public_url: String,
    default: AudienceSettings,
    shops: BTreeMap<String, AudienceSettings>,
}

/// Name of the audience of every shop without mail settings of its own.
pub const DEFAULT_AUDIENCE: &str = "default";

impl Templates {
    /// Templates for these audiences; `folder` overrides built-in ones by file name.
    pub fn new(
        folder: Option<&Path>,
        public_url: &str,
        default: AudienceSettings,
        shops: BTreeMap<String, AudienceSettings>,
    ) -> Result<Self, String> {
        let built_in = environment(&BTreeMap::new())?;
        let own = match folder {
            Some(folder) => Some(environment(&read_folder(folder)?)?),
            None => None,
        };
        let public_url = public_url.trim_end_matches('/').to_owned();
        let templates = Self { own, built_in, public_url, default, shops };
        templates.check_subjects()?;
        Ok(templates)
    }

    fn check_subjects(&self) -> Result<(), String> {
        for settings in self.shops.values().chain([&self.default]) {
            let source = &settings.subject;
            Environment::new()
                .template_from_str(source)
                .map_err(|error| format!("mail.order_failed.subject: {error}"))?;
        }
        Ok(())
    }

    fn settings(&self, audience: &str) -> &AudienceSettings {
        self.shops.get(audience).unwrap_or(&self.default)
    }

    /// Renders with the user's template, or with the built-in one should that fail.
    fn render(&self, name: &str, values: &Value) -> String {
        if let Some(own) = &self.own {
            match own.get_template(name).and_then(|template| template.render(values)) {
                Ok(text) => return text,
                Err(error) => tracing::error!(name, error = %error, "mail.template_failed"),
            }
        }
        self.built_in
            .get_template(name)
            .and_then(|template| template.render(values))
            .unwrap_or_else(|error| format!("(template {name}: {error})\n{values}"))
    }

    fn subject(&self, settings: &AudienceSettings, values: &Value) -> String {
        let own = Environment::new().render_named_str(SUBJECT, &settings.subject, values);
        own.unwrap_or_else(|error| {
            tracing::error!(error = %error, "mail.order_failed.subject");
            "An order could not be transferred to the ERP".to_owned()
        })
    }

    /// The language of mails to a customer.
    fn language(&self, notice: &NoticeDetail) -> &'static str {
        let locale = notice.customer_locale.as_deref().unwrap_or_default();
        match locale.split(['-', '_']).next() {
            Some(language) if language.eq_ignore_ascii_case("de") => "de",
            _ => "en",
        }
    }

    fn view(&self, notice: &NoticeDetail) -> NoticeView {
        let text = |value: &Option<String>| value.as_deref().map(|text| one_line(text, MAX_FACT));
        let link = match &notice.order_id {
            Some(order_id) => {
                let (shop, order_id) = (path_segment(&notice.shop), path_segment(order_id));
                format!("{}/orders/{shop}/{order_id}", self.public_url)
            }
            None => self.public_url.clone(),
        };
        NoticeView {
            shop: one_line(&notice.shop, MAX_FACT),
            order_id: text(&notice.order_id),
            currency: text(&notice.currency),
            total: text(&notice.total),
            customer_number: text(&notice.customer_number),
            customer_name: text(&notice.customer_name),
            attempt: notice.attempt,
            fail_count: notice.fail_count,
            max_count: notice.max_count,
            phase: notice.phase.clone(),
            next_attempt_at: notice.next_attempt_at.map(moment),
            class: text(&notice.class),
            code: text(&notice.code),
            message: notice.message.as_deref().map(|text| one_line(text, 500)),
            erp_order_id: text(&notice.erp_order_id),
            first_erp_order_id: text(&notice.first_erp_order_id),
            erp: text(&notice.erp),
            occurred_at: moment(notice.occurred_at),
            link,
        }
    }

    /// A digest: numbers and money of each type of failure, the newest orders, and links to the rest.
    fn digest(&self, audience: &str, notices: &[NoticeDetail]) -> Value {
        let mut groups = BTreeMap::<(String, String, String), (GroupView, Purse)>::new();
        let mut all = Purse::default();
        for notice in notices {
            let view = self.view(notice);
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            let key = (part(&view.class), part(&view.code), part(&view.message));
            let (group, purse) = groups.entry(key.clone()).or_insert_with(|| {
                let (class, code, message) = key;
                let link = self.group_link(notice);
                let (count, money, notices) = (0, String::new(), Vec::new());
                (GroupView { count, class, code, message, money, link, notices }, Purse::default())
            });
            group.count += 1;
            if let (Some(currency), Some(total)) = (&notice.currency, &notice.total) {
                purse.add(currency, Sum::of_total(total));
                all.add(currency, Sum::of_total(total));
            }
            group.notices.push(view);
        }
        let mut groups: Vec<GroupView> = groups
            .into_values()
            .map(|(group, purse)| GroupView { money: money(purse), ..group })
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        let mut newest: Vec<&NoticeDetail> = notices.iter().collect();
        newest.sort_by_key(|notice| std::cmp::Reverse(notice.occurred_at));
        let newest: Vec<NoticeView> =
            newest.into_iter().take(MAX_NEWEST).map(|notice| self.view(notice)).collect();
        let times = || notices.iter().map(|notice| notice.occurred_at);
        context! {
            audience,
            orders => notices.len(),
            money => money(all),
            first_at => times().min().map(moment),
            last_at => times().max().map(moment),
            more_groups => groups.len().saturating_sub(MAX_GROUPS),
            shown_groups => Value::from(Serde(&groups[..groups.len().min(MAX_GROUPS)])),
            groups => Value::from(Serde(&groups)),
            more_orders => notices.len().saturating_sub(MAX_NEWEST),
            newest => Value::from(Serde(&newest)),
            link => format!("{}/lost-orders", self.public_url),
        }
    }

    /// News about types of failures.
    fn failure_types(&self, kind: NoticeKind, notices: &[NoticeDetail]) -> Value {
        let types: Vec<Value> = notices
            .iter()
            .map(|notice| {
                let trouble = notice.trouble.as_ref().map(TroubleView::of);
                let fingerprint = notice.trouble.as_ref().and_then(|t| t.fingerprint.as_deref());
                let link = match fingerprint {
                    Some(name) => format!("{}/groups/{}", self.public_url, path_segment(name)),
                    None => format!("{}/lost-orders", self.public_url),
                };
                let n = Value::from(Serde(self.view(notice)));
                context! { n, t => Value::from(Serde(trouble)), link }
            })
            .collect();
        let link = format!("{}/lost-orders", self.public_url);
        context! { kind => kind.as_str(), types, link }
    }

    /// The page of the type of a failure.
    fn group_link(&self, notice: &NoticeDetail) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        match notice.class.as_deref().and_then(ErrorClass::from_name) {
            Some(class) => {
                let group = fingerprint(class, &part(&notice.code), &part(&notice.message));
                format!("{}/groups/{group}", self.public_url)
            }
            None => format!("{}/lost-orders", self.public_url),
        }
    }

    /// Every failure as CSV, newest first, without cells that a spreadsheet runs.
    fn list(&self, notices: &[NoticeDetail]) -> String {
        let mut all: Vec<&NoticeDetail> = notices.iter().collect();
        all.sort_by_key(|notice| std::cmp::Reverse(notice.occurred_at));
        let mut list = format!("{}\r\n", LIST_COLUMNS.join(","));
        for notice in all {
            let n = self.view(notice);
            let text = |part: Option<String>| part.unwrap_or_default();
            let max = n.max_count.map_or_else(String::new, |max| max.to_string());
            let cells = [
                n.shop,
                text(n.order_id),
                text(n.class),
                text(n.code),
                text(n.message),
                n.attempt.to_string(),
                n.fail_count.to_string(),
                max,
                n.phase,
                text(n.next_attempt_at),
                text(n.total),
                text(n.currency),
                n.occurred_at,
                n.link,
            ];
            let cells = cells.map(|text| format!("\"{}\"", cell(&text).replace('"', "\"\"")));
            list.push_str(&cells.join(","));
            list.push_str("\r\n");
        }
        list
    }
}

/// The sums of all currencies in one line.
fn money(purse: Purse) -> String {
    sums(purse.into_money())
}

fn sums(money: Vec<Money>) -> String {
    let sum = |money: Money| match money.unsummed {
        0 => format!("{} {}", money.amount, money.currency),
        unsummed => format!("{} {} (without {unsummed})", money.amount, money.currency),
    };
    money.into_iter().map(sum).collect::<Vec<_>>().join(", ")
}

impl Composer for Templates {
    fn audience(&self, shop: &str) -> String {
        if self.shops.contains_key(shop) { shop.to_owned() } else { DEFAULT_AUDIENCE.to_owned() }
    }

    fn compose(
        &self,
        audience: &str,
        kind: NoticeKind,
        notices: &[NoticeDetail],
        seed: &str,
    ) -> Mail {
        let settings = self.settings(audience);
        let first = &notices[0];
        let one =
            || {
                let trouble = first.trouble.as_ref().map(TroubleView::of);
                let n = Value::from(Serde(self.view(first)));
                context! { n, t => Value::from(Serde(trouble)), link => &self.public_url }
            };
        let (values, subject, template, receivers) = match kind {
            NoticeKind::OrderFailed if notices.len() == 1 => {
                let values = one();
                let subject = self.subject(settings, &values);
                (values, subject, "order_failed".to_owned(), settings.receivers.clone())
            }
            NoticeKind::OrderFailed => {
                let values = self.digest(audience, notices);
                let subject = self.render("digest.subject.txt", &values);
                (values, subject, "digest".to_owned(), settings.receivers.clone())
            }
            NoticeKind::FailureTypeNew
            | NoticeKind::FailureTypeBack
            | NoticeKind::FailureTypeUnstable
            | NoticeKind::FailureTypeEnded => {
                let values = self.failure_types(kind, notices);
                let subject = self.render("failure_types.subject.txt", &values);
                (values, subject, "failure_types".to_owned(), settings.receivers.clone())
            }
            NoticeKind::CircuitOpened
            | NoticeKind::CircuitClosed
            | NoticeKind::CircuitUnstable
            | NoticeKind::EnteredTwice => {
                let (values, template) = (one(), kind.as_str());
                let subject = self.render(&format!("{template}.subject.txt"), &values);
                (values, subject, template.to_owned(), settings.receivers.clone())
            }
            NoticeKind::CustomerConfirmation => {
                let values = one();
                let template = format!("customer_confirmation.{}", self.language(first));
                let subject = self.render(&format!("{template}.subject.txt"), &values);
                let to = first.customer_email.iter().cloned().collect();
                (values, subject, template, to)
            }
        };
        let is_digest = template == "digest";
        Mail {
            kind,
            attachment: is_digest.then(|| self.list(notices)),
            sender: settings.sender.clone(),
            receivers,
            subject: one_line(&subject, 200),
            text: self.render(&format!("{template}.txt"), &values),
            html: self.render(&format!("{template}.html"), &values),
            message_id: message_id(seed, &settings.sender),
        }
    }

    fn fits(&self, audience: &str, mail: &Mail) -> bool {
        mail.bytes() <= self.settings(audience).max_bytes
    }

    fn digest_rule(&self, audience: &str) -> DigestRule {
        self.settings(audience).digest
    }

    fn keeps_only(&self, audience: &str) -> bool {
        self.settings(audience).keep_only
    }
}

/// What a template sees of a notice.
#[derive(Serialize)]
struct NoticeView {
    shop: String,
    order_id: Option<String>,
    currency: Option<String>,
    total: Option<String>,
    customer_number: Option<String>,
    customer_name: Option<String>,
    attempt: u32,
    fail_count: u32,
    max_count: Option<u32>,
    phase: String,
    next_attempt_at: Option<String>,
    class: Option<String>,
    code: Option<String>,
    message: Option<String>,
    erp_order_id: Option<String>,
    first_erp_order_id: Option<String>,
    erp: Option<String>,
    occurred_at: String,
    link: String,
}

/// What a template sees of an ERP that was not usable, or of a type of failures.
#[derive(Serialize)]
struct TroubleView {
    began_at: String,
    until: Option<String>,
    lasted: String,
    times: u32,
    recent_times: u32,
    recent_since: Option<String>,
    waited: u64,
    waiting: u64,
    undecided: u64,
    lost: u64,
    money: String,
}

impl TroubleView {
    fn of(trouble: &Trouble) -> Self {
        Self {
            began_at: moment(trouble.began_at),
            until: trouble.until.map(moment),
            lasted: format!("{} min", trouble.lasted_ms.div_ceil(60_000)),
            times: trouble.times,
            recent_times: trouble.recent_times,
            recent_since: trouble.recent_since.map(moment),
            waited: trouble.waited,
            waiting: trouble.waiting,
            undecided: trouble.undecided,
            lost: trouble.lost,
            money: sums(trouble.money.clone()),
        }
    }
}

/// Equal failures in a digest.
#[derive(Serialize)]
struct GroupView {
    count: usize,
    class: String,
    code: String,
    message: String,
    /// The totals of its orders.
    money: String,
    /// Its page.
    link: String,
    notices: Vec<NoticeView>,
}

/// A time as mails show it.
fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The same for the same notices, so that a mail sent twice is recognised as one (RFC 5322, 3.6.4).
fn message_id(seed: &str, sender: &str) -> String {
    let digest = Sha256::digest(seed);
    let id: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let domain = sender.rsplit_once('@').map_or("order-relay.invalid", |(_, domain)| domain);
    format!("<{id}@{}>", domain.trim_end_matches('>'))
}

fn environment(own: &BTreeMap<String, String>) -> Result<Environment<'static>, String> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    for (name, source) in BUILT_IN {
        let source = own.get(name).map_or(source, String::as_str).to_owned();
        environment
            .add_template_owned(name, source)
            .map_err(|error| format!("mail template {name}: {error}"))?;
    }
    Ok(environment)
}

fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, String> {
    if !folder.is_dir() {
        return Err(format!("mail.templates: {} is not a folder", folder.display()));
    }
    let mut own = BTreeMap::new();
    for (name, _) in BUILT_IN {
        let path: PathBuf = folder.join(name);
        match std::fs::read_to_string(&path) {
            Ok(source) => drop(own.insert(name.to_owned(), source)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("mail template {}: {error}", path.display())),
        }
    }
    Ok(own)
}

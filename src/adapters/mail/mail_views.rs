//! What the templates of mails see: the facts of notices, written as the reader writes them. Texts of orders and ERPs are
//! made printable here; HTML is escaped by the engine.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use crate::domain::csv_cell::cell;
use crate::domain::failure::ErrorClass;
use crate::domain::fingerprint::fingerprint;
use crate::domain::language::Language;
use crate::domain::money::{Money, Purse, Sum};
use crate::domain::notice::NoticeKind;
use crate::domain::text::{one_line, path_segment};
use crate::ports::mail::{NoticeDetail, Trouble};

use super::wording::{filled, said};

/// Longest piece of order data in a mail, in characters.
const MAX_FACT: usize = 200;
/// Longest text of an ERP.
const MAX_MESSAGE: usize = 500;
/// Orders that a digest lists; its attachment has all.
const MAX_NEWEST: usize = 50;
/// Types of failures that a mail shows.
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

/// For whom a mail is written.
pub struct Reader<'a> {
    pub language: Language,
    pub zone: &'a TimeZone,
    /// Where links lead.
    pub public_url: &'a str,
}

/// What a template sees of a notice.
#[derive(Serialize)]
struct NoticeView {
    shop: String,
    order_id: Option<String>,
    currency: Option<String>,
    total: Option<String>,
    /// Total and currency as the reader writes them.
    money: String,
    customer_number: Option<String>,
    customer_name: Option<String>,
    /// Both of them.
    customer: String,
    attempt: u32,
    fail_count: u32,
    max_count: Option<u32>,
    /// "1 of 3".
    counted: String,
    phase: String,
    next_attempt_at: Option<String>,
    class: Option<String>,
    code: Option<String>,
    /// Class and code.
    kind_of_error: String,
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
    until: String,
    lasted: String,
    times: u32,
    recent_times: u32,
    recent_since: String,
    waited: u64,
    waiting: u64,
    undecided: u64,
    lost: u64,
    money: String,
}

/// Equal failures in a digest.
#[derive(Serialize)]
struct GroupView {
    count: usize,
    class: String,
    code: String,
    kind_of_error: String,
    message: String,
    /// The totals of its orders.
    money: String,
    /// Its page.
    link: String,
    notices: Vec<NoticeView>,
}

impl Reader<'_> {
    /// One notice.
    pub fn one(&self, notice: &NoticeDetail) -> Value {
        let n = Value::from(Serde(self.notice(notice)));
        let trouble = Value::from(Serde(notice.trouble.as_ref().map(|t| self.trouble(t))));
        context! { n, trouble, link => self.public_url }
    }

    /// News about types of failures.
    pub fn failure_types(&self, kind: NoticeKind, notices: &[NoticeDetail]) -> Value {
        let types: Vec<Value> = notices
            .iter()
            .map(|notice| {
                let named = notice.trouble.as_ref().and_then(|t| t.fingerprint.as_deref());
                let link = match named {
                    Some(name) => format!("{}/groups/{}", self.public_url, path_segment(name)),
                    None => self.lost_orders(),
                };
                context! { link, ..self.one(notice) }
            })
            .collect();
        context! { kind => kind.as_str(), types, link => self.lost_orders() }
    }

    /// A digest: numbers and money of each type of failure, the newest orders, and links to the rest.
    pub fn digest(&self, audience: &str, notices: &[NoticeDetail]) -> Value {
        let (groups, all) = self.groups(notices);
        let mut newest: Vec<&NoticeDetail> = notices.iter().collect();
        newest.sort_by_key(|notice| std::cmp::Reverse(notice.occurred_at));
        let newest: Vec<NoticeView> =
            newest.into_iter().take(MAX_NEWEST).map(|notice| self.notice(notice)).collect();
        let times = || notices.iter().map(|notice| notice.occurred_at);
        context! {
            audience => one_line(audience, MAX_FACT),
            orders => notices.len(),
            money => self.sums(all.into_money()),
            first_at => times().min().map(|at| self.moment(at)),
            last_at => times().max().map(|at| self.moment(at)),
            more_groups => groups.len().saturating_sub(MAX_GROUPS),
            shown_groups => Value::from(Serde(&groups[..groups.len().min(MAX_GROUPS)])),
            groups => Value::from(Serde(&groups)),
            more_orders => notices.len().saturating_sub(MAX_NEWEST),
            newest => Value::from(Serde(&newest)),
            link => self.lost_orders(),
        }
    }

    fn groups(&self, notices: &[NoticeDetail]) -> (Vec<GroupView>, Purse) {
        let mut groups = BTreeMap::<(String, String, String), (GroupView, Purse)>::new();
        let mut all = Purse::default();
        for notice in notices {
            let view = self.notice(notice);
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            let key = (part(&view.class), part(&view.code), part(&view.message));
            let (group, purse) = groups.entry(key.clone()).or_insert_with(|| {
                let (class, code, message) = key;
                let group = GroupView {
                    count: 0,
                    class,
                    code,
                    kind_of_error: view.kind_of_error.clone(),
                    message,
                    money: String::new(),
                    link: self.group_link(notice),
                    notices: Vec::new(),
                };
                (group, Purse::default())
            });
            group.count += 1;
            if let (Some(currency), Some(total)) = (&notice.currency, &notice.total) {
                purse.add(currency, Sum::of_total(total));
                all.add(currency, Sum::of_total(total));
            }
            group.notices.push(view);
        }
        let with_money = |(group, purse): (_, Purse)| GroupView {
            money: self.sums(purse.into_money()),
            ..group
        };
        let mut groups: Vec<GroupView> = groups.into_values().map(with_money).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        (groups, all)
    }

    fn notice(&self, notice: &NoticeDetail) -> NoticeView {
        let text = |value: &Option<String>| value.as_deref().map(|text| one_line(text, MAX_FACT));
        let (number, name) = (text(&notice.customer_number), text(&notice.customer_name));
        let customer: Vec<&str> =
            [&number, &name].into_iter().flatten().map(String::as_str).collect();
        let customer = if customer.is_empty() { "-".to_owned() } else { customer.join(" ") };
        let (currency, total) = (text(&notice.currency), text(&notice.total));
        let money = match (&total, &currency) {
            (Some(total), Some(currency)) => self.language.amount(total, currency),
            _ => "-".to_owned(),
        };
        NoticeView {
            shop: one_line(&notice.shop, MAX_FACT),
            order_id: text(&notice.order_id),
            currency,
            total,
            money,
            customer_number: number,
            customer_name: name,
            customer,
            attempt: notice.attempt,
            fail_count: notice.fail_count,
            max_count: notice.max_count,
            counted: self.counted(notice),
            phase: notice.phase.clone(),
            next_attempt_at: notice.next_attempt_at.map(|at| self.moment(at)),
            class: text(&notice.class),
            code: text(&notice.code),
            kind_of_error: self.kind_of_error(notice),
            message: notice
                .message
                .as_deref()
                .filter(|text| !text.is_empty())
                .map(|text| one_line(text, MAX_MESSAGE)),
            erp_order_id: text(&notice.erp_order_id),
            first_erp_order_id: text(&notice.first_erp_order_id),
            erp: text(&notice.erp),
            occurred_at: self.moment(notice.occurred_at),
            link: link(self.public_url, notice),
        }
    }

    fn counted(&self, notice: &NoticeDetail) -> String {
        let count = self.language.number(notice.fail_count);
        match notice.max_count {
            Some(max) => {
                let max = self.language.number(max);
                filled(self.language, "{count} of {max}", &[("count", &count), ("max", &max)])
            }
            None => count,
        }
    }

    fn kind_of_error(&self, notice: &NoticeDetail) -> String {
        let class = one_line(notice.class.as_deref().unwrap_or("-"), MAX_FACT);
        let code = notice.code.as_deref().filter(|code| !code.is_empty());
        let code = code.map_or_else(
            || said(self.language, "no code").to_owned(),
            |code| one_line(code, MAX_FACT),
        );
        format!("{class} ({code})")
    }

    fn trouble(&self, trouble: &Trouble) -> TroubleView {
        let or_now =
            |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), |at| self.moment(at));
        TroubleView {
            began_at: self.moment(trouble.began_at),
            until: or_now(trouble.until),
            lasted: self.language.duration(Duration::from_millis(trouble.lasted_ms)),
            times: trouble.times,
            recent_times: trouble.recent_times,
            recent_since: or_now(trouble.recent_since),
            waited: trouble.waited,
            waiting: trouble.waiting,
            undecided: trouble.undecided,
            lost: trouble.lost,
            money: self.sums(trouble.money.clone()),
        }
    }

    /// The page of the type of a failure.
    fn group_link(&self, notice: &NoticeDetail) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        match notice.class.as_deref().and_then(ErrorClass::from_name) {
            Some(class) => {
                let group = fingerprint(class, &part(&notice.code), &part(&notice.message));
                format!("{}/groups/{group}", self.public_url)
            }
            None => self.lost_orders(),
        }
    }

    fn lost_orders(&self) -> String {
        format!("{}/lost-orders", self.public_url)
    }

    fn moment(&self, at: Timestamp) -> String {
        self.language.moment(at, self.zone)
    }

    /// The sums of all currencies in one line.
    fn sums(&self, money: Vec<Money>) -> String {
        let sum = |money: Money| {
            let amount = self.language.amount(&money.amount, &money.currency);
            match money.unsummed {
                0 => amount,
                unsummed => {
                    let n = self.language.number(unsummed);
                    format!("{amount} ({})", filled(self.language, "without {n}", &[("n", &n)]))
                }
            }
        };
        money.into_iter().map(sum).collect::<Vec<_>>().join(", ")
    }
}

/// The page of an order.
fn link(public_url: &str, notice: &NoticeDetail) -> String {
    match &notice.order_id {
        Some(order_id) => {
            let (shop, order_id) = (path_segment(&notice.shop), path_segment(order_id));
            format!("{public_url}/orders/{shop}/{order_id}")
        }
        None => public_url.to_owned(),
    }
}

/// Every failure as CSV for programs, newest first, without cells that a spreadsheet runs. Times are UTC.
pub fn list(public_url: &str, notices: &[NoticeDetail]) -> String {
    let mut all: Vec<&NoticeDetail> = notices.iter().collect();
    all.sort_by_key(|notice| std::cmp::Reverse(notice.occurred_at));
    let mut list = format!("{}\r\n", LIST_COLUMNS.join(","));
    let time = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    for n in all {
        let text =
            |part: &Option<String>, most| one_line(part.as_deref().unwrap_or_default(), most);
        let max = n.max_count.map_or_else(String::new, |max| max.to_string());
        let cells = [
            one_line(&n.shop, MAX_FACT),
            text(&n.order_id, MAX_FACT),
            text(&n.class, MAX_FACT),
            text(&n.code, MAX_FACT),
            text(&n.message, MAX_MESSAGE),
            n.attempt.to_string(),
            n.fail_count.to_string(),
            max,
            n.phase.clone(),
            n.next_attempt_at.map(time).unwrap_or_default(),
            text(&n.total, MAX_FACT),
            text(&n.currency, MAX_FACT),
            time(n.occurred_at),
            link(public_url, n),
        ];
        let cells = cells.map(|text| format!("\"{}\"", cell(&text).replace('"', "\"\"")));
        list.push_str(&cells.join(","));
        list.push_str("\r\n");
    }
    list
}

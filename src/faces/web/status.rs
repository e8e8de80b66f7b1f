//! Plain pages to look at, without anything to click that changes something.
//!
//! They have no login yet, so the service shows no personal data on them: numbers, states, order
//! numbers and commands to copy. Only the demo, whose orders are invented, shows everything.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};
use serde::Serialize;

use crate::domain::order::OrderKey;
use crate::domain::state::{OrderRecord, OrderState};
use crate::domain::text::one_line;
use crate::ops::orders::{Ops, Refusal};
use crate::ports::store::{OpenCount, OrderFilter, StoredMail};

/// Orders and mails that a page lists.
const MAX_LISTED: u32 = 50;

const TEMPLATES: [(&str, &str); 5] = [
    ("page.html", include_str!("../../../templates/web/page.html")),
    ("overview.html", include_str!("../../../templates/web/overview.html")),
    ("lost_orders.html", include_str!("../../../templates/web/lost_orders.html")),
    ("order.html", include_str!("../../../templates/web/order.html")),
    ("mail.html", include_str!("../../../templates/web/mail.html")),
];

/// How much the pages tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Nothing personal.
    Numbers,
    /// Everything: the data is invented.
    Everything,
}

/// The pages.
pub struct StatusPages {
    templates: Environment<'static>,
    detail: Detail,
    version: &'static str,
}

#[derive(Serialize)]
struct OrderRow {
    shop: String,
    order_id: String,
    state: &'static str,
    phase: &'static str,
    failed: String,
    error: String,
    next: Option<String>,
    received: String,
    customer: Option<String>,
    total: Option<String>,
    erp_order_id: Option<String>,
}

#[derive(Serialize)]
struct MailRow {
    id: String,
    kind: &'static str,
    status: &'static str,
    to: String,
    subject: String,
    at: String,
}

impl StatusPages {
    /// Pages that tell as much as `detail` allows.
    pub fn new(detail: Detail) -> Result<Self, String> {
        let mut templates = Environment::new();
        for (name, source) in TEMPLATES {
            templates
                .add_template(name, source)
                .map_err(|error| format!("page {name}: {error}"))?;
        }
        Ok(Self { templates, detail, version: env!("CARGO_PKG_VERSION") })
    }

    fn render(&self, name: &str, values: Value) -> Result<String, Refusal> {
        let everything = self.detail == Detail::Everything;
        let values = context! { everything, version => self.version, ..values };
        let rendered = self.templates.get_template(name).and_then(|page| page.render(values));
        rendered.map_err(|error| Refusal::NobodyThere(format!("page {name}: {error}")))
    }

    /// `/`
    pub async fn overview(&self, ops: &Ops) -> Result<String, Refusal> {
        let received = ops.store.count_received().await?;
        let open = ops.store.count_open().await?;
        let circuits = ops.store.circuits().await?;
        let counts = ops.store.count_mails().await?;
        let mails = match self.detail {
            Detail::Numbers => Vec::new(),
            Detail::Everything => ops.store.list_mails(None, MAX_LISTED).await?,
        };
        let sum = |belongs: &dyn Fn(&OpenCount) -> bool| -> u64 {
            open.iter().filter(|count| belongs(count)).map(|count| count.orders).sum()
        };
        let lost_count = sum(&|count| count.state == OrderState::OrderedFailed);
        let queued = sum(&|count| count.phase == "queued");
        let held = sum(&|count| count.phase == "held");
        let open: Vec<Value> = open
            .iter()
            .map(|count| {
                context! {
                    state => count.state.as_str(),
                    phase => count.phase.clone(),
                    orders => count.orders,
                    oldest => count.oldest.map(moment),
                }
            })
            .collect();
        let circuits: Vec<Value> = circuits
            .iter()
            .map(|circuit| {
                context! {
                    erp => circuit.erp.clone(),
                    state => circuit.state.as_str(),
                    reason => circuit.reason.clone(),
                    since => circuit.opened_at.map(moment),
                }
            })
            .collect();
        let mails: Vec<MailRow> = mails.iter().map(mail_row).collect();
        let values = context! {
            received,
            // Whether that is also what the rows say, `ledger check` proves; it reads them all.
            confirmed => received.saturating_sub(lost_count + queued + held),
            lost_count,
            queued,
            held,
            open,
            circuits,
            waiting_mails => counts.waiting,
            failed_mails => counts.failed,
            lost => Value::from(Serde(&self.lost(ops).await?)),
            mails => Value::from(Serde(&mails)),
        };
        self.render("overview.html", values)
    }

    /// `/lost-orders`
    pub async fn lost_orders(&self, ops: &Ops) -> Result<String, Refusal> {
        let lost = self.lost(ops).await?;
        self.render("lost_orders.html", context! { lost => Value::from(Serde(&lost)) })
    }

    /// `/orders/SHOP/ORDER_ID`
    pub async fn order(&self, ops: &Ops, shop: &str, order_id: &str) -> Result<String, Refusal> {
        let key = OrderKey::new(shop, order_id).map_err(Refusal::NotFound)?;
        let detail = ops.show(&key).await?;
        let everything = self.detail == Detail::Everything;
        let attempts: Vec<Value> = detail
            .attempts
            .iter()
            .map(|a| {
                context! {
                    attempt => a.attempt,
                    outcome => a.outcome.clone(),
                    trigger => a.trigger.clone(),
                    class => a.class.clone(),
                    code => a.code.clone(),
                    message => a.message.as_deref().map(|text| one_line(text, 500)),
                    duration_ms => a.duration_ms,
                    status => a.status,
                    at => moment(a.occurred_at),
                }
            })
            .collect();
        let mails: Vec<MailRow> = detail.mails.iter().map(mail_row).collect();
        let values = context! {
            order => Value::from(Serde(&self.row(&detail.record))),
            attempts,
            mails => Value::from(Serde(&mails)),
            document => everything.then(|| detail.document.to_string()),
        };
        self.render("order.html", values)
    }

    /// `/mails/ID`
    pub async fn mail(&self, ops: &Ops, id: &str) -> Result<String, Refusal> {
        let missing = || Refusal::NotFound("there is no such mail".to_owned());
        if self.detail == Detail::Numbers {
            return Err(missing());
        }
        let id = id.parse().map_err(|_| missing())?;
        let mail = ops.store.mail(id).await?.ok_or_else(missing)?;
        let values = context! {
            mail => Value::from(Serde(&mail_row(&mail))),
            text => mail.mail.text,
            sender => mail.mail.sender,
            error => mail.error,
        };
        self.render("mail.html", values)
    }

    async fn lost(&self, ops: &Ops) -> Result<Vec<OrderRow>, Refusal> {
        let lost = OrderFilter { state: Some(OrderState::OrderedFailed), ..Default::default() };
        let orders = ops.list(&lost, MAX_LISTED).await?;
        Ok(orders.iter().map(|order| self.row(order)).collect())
    }

    fn row(&self, order: &OrderRecord) -> OrderRow {
        let everything = self.detail == Detail::Everything;
        let facts = &order.facts;
        let error = order.last_failure.as_ref();
        // The ERP's own words may name people: only its code is shown without a login.
        let error = error.map_or(String::new(), |e| match everything {
            true => format!("{} ({}): {}", e.class.as_str(), e.code, one_line(&e.message, 200)),
            false => format!("{} ({})", e.class.as_str(), e.code),
        });
        OrderRow {
            shop: order.key.shop.to_string(),
            order_id: order.key.order_id.to_string(),
            state: order.phase.state().as_str(),
            phase: order.phase.name(),
            failed: match order.max_count {
                Some(max) => format!("{} of {max}", order.fail_count),
                None => order.fail_count.to_string(),
            },
            error,
            next: order.phase.due_at().map(moment),
            received: moment(order.received_at),
            customer: everything
                .then(|| one_line(facts.customer.name.as_deref().unwrap_or_default(), 100)),
            total: everything.then(|| format!("{} {}", facts.total, facts.currency)),
            erp_order_id: match &order.phase {
                crate::domain::state::Phase::Transferred { erp_order_id } => erp_order_id.clone(),
                _ => None,
            },
        }
    }
}

fn mail_row(stored: &StoredMail) -> MailRow {
    MailRow {
        id: stored.id.to_string(),
        kind: stored.mail.kind.as_str(),
        status: stored.status.as_str(),
        to: stored.mail.receivers.join(", "),
        subject: stored.mail.subject.clone(),
        at: moment(stored.created_at),
    }
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

//! What is shown of an order and of an ERP: the same names on the command line, in files and in the
//! API.

use crate::domain::order::values::Email;
use crate::views::csv::Column;
use schemars::JsonSchema;
use serde::Serialize;

use crate::domain::lifecycle::transitions::OrderRecord;
use crate::domain::lifecycle::vocabulary::Phase;

/// An order.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OrderView {
    pub shop: String,
    pub order_id: String,
    pub state: &'static str,
    pub phase: &'static str,
    /// Failed attempts.
    pub fail_count: u32,
    /// Failed attempts after which it is parked; `null`: never by the count.
    pub max_count: Option<u32>,
    /// Attempts that were started.
    pub attempts: u32,
    /// When the next attempt or question is due.
    pub next_attempt_at: Option<String>,
    pub erp_order_id: Option<String>,
    pub error_class: Option<&'static str>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    /// The key of the failure group.
    pub error_fingerprint: Option<String>,
    pub failed_at: Option<String>,
    pub currency: String,
    pub total: String,
    pub customer_number: Option<String>,
    pub customer_name: Option<String>,
    pub customer_email: String,
    /// A character in it that nobody sees, such as U+200B: no confirmation goes there.
    pub customer_email_unseen: Option<String>,
    /// How it is paid, as far as the document says.
    pub payment: Option<String>,
    pub placed_at: Option<String>,
    pub received_at: String,
    pub updated_at: String,
    /// Whether an attempt is in progress.
    pub transferring: bool,
    /// Number of its newest revision; 0: the original.
    pub revision: u32,
}

impl OrderView {
    /// What is shown of an order.
    pub fn of(order: &OrderRecord) -> Self {
        let failure = order.last_failure.as_ref();
        let (facts, customer) = (&order.facts, &order.facts.customer);
        Self {
            shop: order.key.shop.to_string(),
            order_id: order.key.order_id.to_string(),
            state: order.phase.state().as_str(),
            phase: order.phase.name(),
            fail_count: order.fail_count,
            max_count: order.max_count,
            attempts: order.last_attempt,
            next_attempt_at: order.phase.due_at().map(|at| at.to_string()),
            erp_order_id: match &order.phase {
                Phase::Transferred { erp_order_id } => erp_order_id.clone(),
                _ => None,
            },
            error_class: failure.map(|f| f.summary.class.as_str()),
            error_code: failure.map(|f| f.summary.code.clone()),
            error_message: failure.map(|f| f.summary.message.clone()),
            error_fingerprint: failure.map(|f| f.summary.fingerprint.clone()),
            failed_at: failure.map(|f| f.at.to_string()),
            currency: facts.currency.to_string(),
            total: facts.total.to_string(),
            customer_number: customer.number.clone(),
            customer_name: customer.name.clone(),
            customer_email: customer.email.as_ref().map(ToString::to_string).unwrap_or_default(),
            customer_email_unseen: customer
                .email
                .as_ref()
                .and_then(Email::unseen)
                .map(|unseen| format!("U+{:04X}", u32::from(unseen))),
            payment: facts.payment.clone(),
            placed_at: facts.placed_at.map(|at| at.to_string()),
            received_at: order.received_at.to_string(),
            updated_at: order.updated_at.to_string(),
            transferring: order.claim.is_some(),
            revision: order.revision,
        }
    }
}

/// Everything that is listed of an order, for files.
pub fn export_columns() -> [Column<'static, OrderView>; 25] {
    fn or_empty(text: &Option<String>) -> String {
        text.clone().unwrap_or_default()
    }
    [
        ("shop", &|o| o.shop.clone()),
        ("order_id", &|o| o.order_id.clone()),
        ("state", &|o| o.state.to_owned()),
        ("phase", &|o| o.phase.to_owned()),
        ("fail_count", &|o| o.fail_count.to_string()),
        ("max_count", &|o| o.max_count.map(|max| max.to_string()).unwrap_or_default()),
        ("attempts", &|o| o.attempts.to_string()),
        ("next_attempt_at", &|o| or_empty(&o.next_attempt_at)),
        ("erp_order_id", &|o| or_empty(&o.erp_order_id)),
        ("error_class", &|o| o.error_class.unwrap_or_default().to_owned()),
        ("error_code", &|o| or_empty(&o.error_code)),
        ("error_message", &|o| or_empty(&o.error_message)),
        ("error_fingerprint", &|o| or_empty(&o.error_fingerprint)),
        ("failed_at", &|o| or_empty(&o.failed_at)),
        ("currency", &|o| o.currency.clone()),
        ("total", &|o| o.total.clone()),
        ("customer_number", &|o| or_empty(&o.customer_number)),
        ("customer_name", &|o| or_empty(&o.customer_name)),
        ("customer_email", &|o| o.customer_email.clone()),
        ("payment", &|o| or_empty(&o.payment)),
        ("placed_at", &|o| or_empty(&o.placed_at)),
        ("received_at", &|o| o.received_at.clone()),
        ("updated_at", &|o| o.updated_at.clone()),
        ("transferring", &|o| o.transferring.to_string()),
        ("key", &|o| format!("{}/{}", o.shop, o.order_id)),
    ]
}

//! `/api/v1/orders`: find, show, transfer, remove, restore, reconcile, declare absent.

use crate::web::api::call::{Call, Items, NeededWhy, Nothing, Reply, Why, etag, find, limit};
use axum::http::{Method, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::permission::Permission;
use crate::domain::removal::Removal;
use crate::ops::erasure::Erased;
use crate::ops::reconcile::Reconciled;
use crate::ops::refusal::Refusal;
use crate::ops::transfer::Transferred;
use crate::views::order_detail::DetailView;
use crate::views::order_filter::order_filter;
use crate::views::orders::OrderView;
use crate::views::outcomes::OutcomeView;
use crate::web::api::operation::{About, Routes};
use crate::web::api::paths::OrderPath;
use crate::web::problem::Problem;
use crate::web::state::Web;

const USUAL_PAGE: u32 = 100;

/// The routes of this file.
pub fn add(routes: Routes) -> Routes {
    use Permission::{Admin, Edit, Process, Read, Remove};
    let one = "/orders/{shop}/{order_id}";
    let verb = |verb: &str| format!("{one}/{verb}");
    routes
        .add(&Method::GET, "/orders", About::new(Read, "List orders"), list)
        .add(&Method::GET, one, About::new(Read, "Show an order with its history"), show)
        .add(
            &Method::POST,
            &verb("transfer"),
            About::new(
                Process,
                "Transfer an order to the ERP now: one attempt, whatever its count",
            ),
            transfer,
        )
        .add(
            &Method::POST,
            &verb("reconcile"),
            About::new(Process, "Ask the ERP about an order with an unknown outcome"),
            reconcile,
        )
        .add(
            &Method::POST,
            &verb("declare-absent"),
            About::new(Process, "Send an order with an unknown outcome: it is not in the ERP"),
            declare_absent,
        )
        .add(
            &Method::POST,
            &verb("remove"),
            About::new(Remove, "Remove a lost order from the list, with a reason"),
            remove,
        )
        .add(
            &Method::POST,
            &verb("restore"),
            About::new(Remove, "Restore a removed order"),
            restore,
        )
        .add(
            &Method::POST,
            &verb("settle-double"),
            About::new(Process, "Settle an order that the ERP has twice, with a reason"),
            settle_double,
        )
        .add(
            &Method::POST,
            &verb("erase"),
            About::new(
                Admin,
                "Erase what is personal in a finished order: the right to be forgotten",
            ),
            erase,
        )
        .add(
            &Method::POST,
            &verb("accept-total"),
            About::new(Edit, "Accept the ERP's total of a lost order, with a reason"),
            accept_total,
        )
}

/// Which orders; every part that is given must match.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderQuery {
    /// payed, ordered_failed or confirmed.
    state: Option<String>,
    /// queued, held, retrying, parked, outcome_unknown, transferred or removed.
    phase: Option<String>,
    /// Shop.
    shop: Option<String>,
    /// Number or mail address of the customer.
    customer: Option<String>,
    /// How it is paid.
    payment: Option<String>,
    /// Class of the last failure.
    class: Option<String>,
    /// Code of the last failure.
    code: Option<String>,
    /// Article number of one of its lines.
    sku: Option<String>,
    /// Fingerprint of the last failure.
    fingerprint: Option<String>,
    /// Received at or after: a time, or how long ago, such as 2h.
    since: Option<String>,
    /// Received before.
    until: Option<String>,
    /// Part of the order number, the customer's name or address, or the error text; or the whole of
    /// the ERP's number or the customer's.
    search: Option<String>,
    /// received, changed, failed, due or tries; with `-` before it, the greatest first. Else the newest first.
    sort: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
    /// Orders on a page, at most 1000; else 100.
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<u32>,
}

async fn list(
    web: Web,
    call: Call<Nothing, OrderQuery, Nothing>,
) -> Result<Reply<Items<OrderView>>, Problem> {
    let query = &call.query;
    let filter = order_filter(query, web.ops.now()).map_err(Refusal::from)?;
    let sort = query.sort.as_deref().map(str::parse).transpose().map_err(Refusal::from)?;
    let limit = limit(query.limit, USUAL_PAGE)?;
    let after = query.after.as_deref();
    let page = web.ops.page(&call.person, &filter, sort.unwrap_or_default(), after, limit).await?;
    let items = page.orders.iter().map(OrderView::of).collect();
    Ok(Reply::ok(Items { items, next: page.next }))
}

async fn show(
    web: Web,
    call: Call<OrderPath, Nothing, Nothing>,
) -> Result<Reply<DetailView>, Problem> {
    let key = find(&call)?;
    let detail = web.ops.show(&call.person, &key).await?;
    let etag = etag(detail.record.revision);
    Ok(Reply::ok(DetailView::of(detail)).header(header::ETAG, &etag))
}

fn outcome_of(transferred: Transferred) -> OutcomeView {
    match transferred {
        Transferred::Done { erp_order_id } => {
            OutcomeView { erp_order_id, ..OutcomeView::new("transferred", "the ERP has the order") }
        }
        Transferred::Failed { attempt, .. } => {
            let message = attempt.message.clone();
            let detail = message.unwrap_or_else(|| "the attempt failed".to_owned());
            OutcomeView { attempt: Some(*attempt), ..OutcomeView::new("failed", detail) }
        }
        Transferred::Unclear { .. } => {
            OutcomeView::new("unclear", "sent, but the answer was not seen; the ERP is asked first")
        }
        Transferred::Held => OutcomeView::new(
            "held",
            "the circuit opened in the meantime; the order waits for the ERP",
        ),
        Transferred::StillWaiting => {
            OutcomeView::new("waiting", "no result in time; it continues automatically")
        }
    }
}

async fn transfer(
    web: Web,
    call: Call<OrderPath, Nothing, Why>,
) -> Result<Reply<OutcomeView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let transferred = web.ops.transfer(&key, &act).await?;
    Ok(Reply::ok(outcome_of(transferred)))
}

async fn reconcile(
    web: Web,
    call: Call<OrderPath, Nothing, Why>,
) -> Result<Reply<OutcomeView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    Ok(Reply::ok(match web.ops.reconcile(&key, &act).await? {
        Reconciled::Found { erp_order_id } => OutcomeView {
            erp_order_id,
            ..OutcomeView::new("transferred", "the ERP had the order already")
        },
        Reconciled::Sent(transferred) => outcome_of(transferred),
        Reconciled::Unclear { said, .. } => OutcomeView::new("unclear", said),
        Reconciled::Parked => {
            OutcomeView::new("absent", "it is not there, and no automatic attempt is left")
        }
        Reconciled::Held => outcome_of(Transferred::Held),
        Reconciled::StillWaiting => outcome_of(Transferred::StillWaiting),
    }))
}

async fn declare_absent(
    web: Web,
    call: Call<OrderPath, Nothing, NeededWhy>,
) -> Result<Reply<OutcomeView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, Some(call.body.reason()?));
    let transferred = web.ops.declare_absent(&key, &act).await?;
    Ok(Reply::ok(outcome_of(transferred)))
}

/// Why an order is removed: one of the usual reasons, or a sentence.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RemovalReason {
    /// One of the usual reasons.
    Usual(Removal),
    /// A sentence.
    Sentence {
        /// The sentence.
        reason: String,
    },
}

impl RemovalReason {
    fn sentence(&self) -> Result<String, Problem> {
        let said = match self {
            Self::Usual(removal) => removal.sentence(),
            Self::Sentence { reason } => Removal::Other { text: reason.clone() }.sentence(),
        };
        said.map_err(Problem::unprocessable)
    }
}

async fn remove(
    web: Web,
    call: Call<OrderPath, Nothing, RemovalReason>,
) -> Result<Reply<OrderView>, Problem> {
    let key = find(&call)?;
    let reason = call.body.sentence()?;
    let record = web.ops.remove(&key, &web.ops.act(&call.person, Some(&reason))).await?;
    Ok(Reply::ok(OrderView::of(&record)))
}

async fn restore(
    web: Web,
    call: Call<OrderPath, Nothing, Why>,
) -> Result<Reply<OrderView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, call.body.reason.as_deref());
    let record = web.ops.restore(&key, &act).await?;
    Ok(Reply::ok(OrderView::of(&record)))
}

async fn settle_double(
    web: Web,
    call: Call<OrderPath, Nothing, NeededWhy>,
) -> Result<Reply<DetailView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, Some(call.body.reason()?));
    web.ops.settle_double(&key, &act).await?;
    Ok(Reply::ok(DetailView::of(web.ops.show(&call.person, &key).await?)))
}

/// What became of an order that was to be erased.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErasedView {
    /// erased, or gone: its rows were gone before.
    outcome: &'static str,
    /// Rows besides its own that named its customer.
    elsewhere: u64,
}

async fn erase(
    web: Web,
    call: Call<OrderPath, Nothing, NeededWhy>,
) -> Result<Reply<ErasedView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, Some(call.body.reason()?));
    Ok(Reply::ok(match web.ops.erase(&key, &act).await? {
        Erased::Now { elsewhere } => ErasedView { outcome: "erased", elsewhere },
        Erased::Before => ErasedView { outcome: "gone", elsewhere: 0 },
    }))
}

async fn accept_total(
    web: Web,
    call: Call<OrderPath, Nothing, NeededWhy>,
) -> Result<Reply<DetailView>, Problem> {
    let key = find(&call)?;
    let act = web.ops.act(&call.person, Some(call.body.reason()?));
    web.ops.accept_total(&key, &act).await?;
    Ok(Reply::ok(DetailView::of(web.ops.show(&call.person, &key).await?)))
}

//! The search that stands on every page: an order by its number leads to its page, everything else to the list.

use axum::extract::Query;
use axum::response::{IntoResponse, Redirect};

use crate::domain::order::values::OrderKey;
use crate::domain::order_filter::{OrderFilter, Sort};
use crate::domain::text::path_segment;
use crate::web::html::context::{PageContext, PageResult};
use crate::web::html::forms::{Fields, field, order_address, without_unseen};

/// `GET /find?q=`
pub async fn find(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    let fields = without_unseen(fields);
    let to = match field(&fields, "q") {
        Some(typed) => address(&ctx, typed).await,
        None => "/orders".to_owned(),
    };
    Ok(Redirect::to(&to).into_response())
}

async fn address(ctx: &PageContext, typed: &str) -> String {
    if let Some(found) = named(ctx, typed).await {
        return found;
    }
    let searched = OrderFilter { search: Some(typed.to_owned()), ..OrderFilter::default() };
    let sold = OrderFilter { sku: Some(typed.to_owned()), ..OrderFilter::default() };
    // An article is looked for when nothing else is called that.
    let name = match (has_any(ctx, &searched).await, has_any(ctx, &sold).await) {
        (false, true) => "sku",
        _ => "search",
    };
    format!("/orders?{name}={}", path_segment(typed))
}

/// The page of the order `SHOP/NUMBER`.
async fn named(ctx: &PageContext, typed: &str) -> Option<String> {
    let (shop, order_id) = typed.split_once('/')?;
    let key = OrderKey::new(shop.trim(), order_id.trim()).ok()?;
    let found = ctx.web.ops.show(&ctx.user.person, &key).await;
    found.is_ok().then(|| order_address(&key))
}

async fn has_any(ctx: &PageContext, filter: &OrderFilter) -> bool {
    let page = ctx.web.ops.page(&ctx.user.person, filter, Sort::default(), None, 1).await;
    page.is_ok_and(|page| !page.orders.is_empty())
}

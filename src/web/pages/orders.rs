//! Lists of orders: all of them, and the lost ones with their groups first. The address of the page is
//! the filter.

use crate::key;
use crate::web::html::forms::{Fields, field, quoted, without_unseen};
use crate::web::html::selection::filter_of;
use crate::web::html::{erps, rows};
use axum::extract::Query;
use axum::http::StatusCode;
use minijinja::{Value, context};

use crate::domain::failure::ErrorClass;
use crate::domain::lifecycle::vocabulary::{OrderState, PHASES};
use crate::domain::order_filter::{OrderFilter, Sort, SortBy};
use crate::domain::text::path_segment;
use crate::ops::refusal::Refusal;
use crate::ops::statistics::Page;
use crate::web::html::context::{Failure, PageContext, PageResult};
use crate::web::pages::export;

/// Orders on one page.
const PAGE: u32 = 50;
/// Parts of the filter that are always shown.
const ALWAYS_SHOWN: [&str; 4] = ["search", "state", "phase", "shop"];
/// Groups that are shown above the list.
const MAX_GROUPS: usize = 12;

/// `GET /orders`
pub async fn orders(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    list(ctx, fields, None).await
}

/// `GET /lost-orders`
pub async fn lost_orders(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    list(ctx, fields, Some(OrderState::OrderedFailed)).await
}

/// `GET /orders.csv`
pub async fn orders_csv(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    csv(&ctx, &fields, None)
}

/// `GET /lost-orders.csv`
pub async fn lost_orders_csv(ctx: PageContext, Query(fields): Query<Fields>) -> PageResult {
    csv(&ctx, &fields, Some(OrderState::OrderedFailed))
}

fn csv(ctx: &PageContext, fields: &Fields, state: Option<OrderState>) -> PageResult {
    let filter = filter_of(ctx, fields, state)
        .map_err(|fault| Failure::new(StatusCode::BAD_REQUEST, fault))?;
    Ok(export::orders_csv(ctx.web.ops.clone(), ctx.user.person.clone(), filter))
}

async fn list(ctx: PageContext, fields: Fields, state: Option<OrderState>) -> PageResult {
    let lost = state.is_some();
    let path = if lost { "/lost-orders" } else { "/orders" };
    let fields = without_unseen(fields);
    let (filter, sort, fault) = read(&ctx, &fields, state);
    let ops = &ctx.web.ops;
    let (page, fault) =
        match ops.page(&ctx.user.person, &filter, sort, field(&fields, "after"), PAGE).await {
            Ok(page) => (page, fault),
            Err(Refusal::Value(fault)) => {
                (Page { orders: Vec::new(), next: None }, Some(fault.to_string()))
            }
            Err(error) => return Err(error.into()),
        };
    // Counting what matches is cheap for lost orders; the overview counts all orders.
    let count = match lost {
        true => Some(ops.count(&ctx.user.person, &filter).await?),
        false => None,
    };
    let pairs: Vec<(String, String)> = fields
        .iter()
        .filter(|(name, value)| {
            OrderFilter::NAMES.contains(&name.as_str()) && !value.trim().is_empty()
        })
        .cloned()
        .collect();
    let formatter = ctx.formatter();
    let orders: Vec<Value> =
        page.orders.iter().map(|order| rows::order(&formatter, order)).collect();
    let query = |more: &[(&str, &str)]| address(path, &pairs, sort, more);
    let mut values = context! {
        lost,
        filter => rows::by_name(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
        pairs => &pairs,
        filtered => !pairs.is_empty(),
        more_filters => pairs.iter().any(|(name, _)| !ALWAYS_SHOWN.contains(&name.as_str())),
        fault,
        states => OrderState::ALL.map(OrderState::as_str),
        phases => phases(state),
        classes => ErrorClass::ALL.map(ErrorClass::as_str),
        sorts => sorts(),
        sort => sort.to_string(),
        orders,
        count => count.map(|count| formatter.count(count)),
        count_plain => count,
        next => page.next.as_deref().map(|next| query(&[("after", next)])),
        first => field(&fields, "after").map(|_| query(&[])),
        csv => address(&format!("{path}.csv"), &pairs, sort, &[]),
        command_list => command(if lost { "lost-orders list" } else { "orders list" }, &pairs),
        command_groups => "order-relay lost-orders groups",
        erps => erps::erps(&ctx, None).await?,
    };
    // A filter is about orders; the groups are of all of them.
    if lost && pairs.is_empty() && field(&fields, "after").is_none() {
        let groups = ops.groups(&ctx.user.person).await?;
        let more = groups.len().saturating_sub(MAX_GROUPS);
        let groups: Vec<Value> =
            groups.iter().take(MAX_GROUPS).map(|group| rows::group(&formatter, group)).collect();
        values = context! { groups, more_groups => more, ..values };
    }
    let title = ctx.t(if lost { key!("Lost orders") } else { key!("Orders") });
    ctx.page("orders.html", title, None, values)
}

/// A filter that cannot be read matches nothing, and the page says why.
fn read(
    ctx: &PageContext,
    fields: &Fields,
    state: Option<OrderState>,
) -> (OrderFilter, Sort, Option<String>) {
    let sort = field(fields, "sort").map_or(Ok(Sort::default()), str::parse);
    let filter = filter_of(ctx, fields, state);
    match (filter, sort) {
        (Ok(filter), Ok(sort)) => (filter, sort, None),
        (Err(fault), sort) => (nothing(), sort.unwrap_or_default(), Some(fault)),
        (Ok(_), Err(fault)) => (nothing(), Sort::default(), Some(fault.to_string())),
    }
}

fn nothing() -> OrderFilter {
    OrderFilter {
        shops: crate::domain::order_filter::ShopFilter::Only(Vec::new()),
        ..OrderFilter::default()
    }
}

fn phases(state: Option<OrderState>) -> Vec<&'static str> {
    let belongs = |of: OrderState| state.is_none_or(|state| state == of);
    PHASES.iter().filter(|(of, _)| belongs(*of)).map(|(_, name)| *name).collect()
}

/// Each sort, in its usual and in the reverse order.
fn sorts() -> Vec<String> {
    let both = SortBy::ALL.map(|by| [by.natural(), by.natural().reversed()]);
    both.iter().flatten().map(ToString::to_string).collect()
}

fn address(path: &str, pairs: &[(String, String)], sort: Sort, more: &[(&str, &str)]) -> String {
    let sort = sort.to_string();
    let own = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let sorted = (sort != Sort::default().to_string()).then_some(("sort", sort.as_str()));
    let all: Vec<String> = own
        .chain(sorted)
        .chain(more.iter().copied())
        .map(|(name, value)| format!("{name}={}", path_segment(value)))
        .collect();
    if all.is_empty() { path.to_owned() } else { format!("{path}?{}", all.join("&")) }
}

/// The command that lists the same.
fn command(verb: &str, pairs: &[(String, String)]) -> String {
    let options = pairs.iter().map(|(name, value)| format!(" --{name} {}", quoted(value)));
    format!("order-relay {verb}{}", options.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_to_copy_holds_no_word_that_a_shell_would_obey() {
        let pairs = [("search".to_owned(), "x'; rm -rf $(pwd)".to_owned())];
        assert_eq!(
            command("orders list", &pairs),
            r"order-relay orders list --search 'x'\''; rm -rf $(pwd)'"
        );
        assert_eq!(quoted("--yes"), "'--yes'");
    }

    #[test]
    fn the_address_of_a_page_is_the_filter() {
        let pairs = [("search".to_owned(), "a&b=c".to_owned())];
        assert_eq!(
            address("/orders", &pairs, Sort::default(), &[("after", "x")]),
            "/orders?search=a%26b%3Dc&after=x"
        );
        assert_eq!(address("/orders", &[], SortBy::Due.natural(), &[]), "/orders?sort=due");
    }
}

//! The result of `order-relay check`, and the figures behind the overview: what was received is accounted for,
//! states, queues, workers.

use std::time::Duration;

use crate::key;
use minijinja::{Value, context};

use crate::domain::permission::Permission;
use crate::web::html::context::{PageContext, PageResult};
use crate::web::html::formatter::view;
use crate::web::pages::overview::values;

const DAY: Duration = Duration::from_hours(24);

/// `GET /status`
pub async fn status(ctx: PageContext) -> PageResult {
    ctx.user.person.authorize(Permission::Read, None)?;
    let lines = (ctx.web.check)().await;
    let bad = lines.iter().filter(|line| line.state == "FAULT").count();
    let lines: Vec<Value> = lines.iter().map(view).collect();
    // While the database is away, the checks say so.
    let seen = ctx.web.ops.overview(&ctx.user.person, DAY).await.ok();
    let figures = seen.as_ref().map(|seen| values(&ctx, "24h", seen)).unwrap_or_default();
    let values = context! { lines, bad, seen => seen.is_some(), ..figures };
    ctx.page("status.html", ctx.t(key!("Status")), None, values)
}

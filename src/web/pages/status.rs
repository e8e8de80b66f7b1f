//! The result of `order-relay check`, as a page.

use crate::key;
use minijinja::{Value, context};

use crate::domain::permission::Permission;
use crate::web::html::context::{PageContext, PageResult};
use crate::web::html::formatter::view;

/// `GET /status`
pub async fn status(ctx: PageContext) -> PageResult {
    ctx.user.person.authorize(Permission::Read, None)?;
    let lines = (ctx.web.check)().await;
    let bad = lines.iter().filter(|line| line.state == "FAULT").count();
    let lines: Vec<Value> = lines.iter().map(view).collect();
    ctx.page("status.html", ctx.t(key!("Status")), None, context! { lines, bad })
}

//! Parts of a page that are sent again while it stands open.

use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::future::BoxFuture;
use futures_util::stream;

use crate::web::html::context::{Failure, PageContext};

/// How often an open page is updated.
pub const EVERY: Duration = Duration::from_secs(2);

/// Sends the result of `part` repeatedly until it returns nothing. While the database is
/// unavailable nothing is sent: the page keeps its last content.
pub fn repeated<F>(ctx: PageContext, part: F) -> Response
where
    F: Fn(Arc<PageContext>) -> BoxFuture<'static, Result<Option<String>, Failure>>
        + Send
        + Sync
        + 'static,
{
    let state = (Arc::new(ctx), part, true);
    let events = stream::unfold(state, |(ctx, part, goes_on)| async move {
        if !goes_on || ctx.web.draining.load(Ordering::Acquire) {
            return None;
        }
        tokio::time::sleep(EVERY).await;
        let html = match ctx.user.is_still_in(&ctx.web).await {
            true => part(ctx.clone()).await,
            false => Ok(None),
        };
        let (event, goes_on) = match html {
            Ok(Some(html)) => (Event::default().event("part").data(html), true),
            Ok(None) => (Event::default().event("end").data("over"), false),
            Err(_) => (Event::default().comment("not now"), true),
        };
        Some((Ok::<_, Infallible>(event), (ctx, part, goes_on)))
    });
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}

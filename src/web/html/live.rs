//! Parts of a page that are sent again while it stands open.

use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

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
        let (events, goes_on) = match html {
            Ok(Some(html)) => (vec![counts(&ctx).await, named("part", html)], true),
            Ok(None) => (vec![named("end", "over".to_owned())], false),
            Err(_) => (vec![Event::default().comment("not now")], true),
        };
        let events = stream::iter(events.into_iter().map(Ok::<_, Infallible>));
        Some((events, (ctx, part, goes_on)))
    });
    Sse::new(events.flatten()).keep_alive(KeepAlive::default()).into_response()
}

fn named(name: &str, data: String) -> Event {
    Event::default().event(name).data(data)
}

/// The counts in the navigation and in the title.
async fn counts(ctx: &PageContext) -> Event {
    named("counts", serde_json::json!(ctx.counts().await).to_string())
}

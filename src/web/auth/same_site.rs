//! Refuses what another site sends in a browser's name.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::auth::access::{bearer, is_safe};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// Refuses what changes something and comes from a page of another site. With a bearer token it
/// passes: no other site has one, and a browser sends none by itself.
pub async fn same_site(State(web): State<Web>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let may_be_forged = !is_safe(request.method()) && bearer(headers).is_none();
    if may_be_forged && web.access.is_of_another_site(headers) {
        let detail = "This was sent by a page of another site. Open the page here and try again.";
        return Problem::forbidden(detail).into_response();
    }
    next.run(request).await
}

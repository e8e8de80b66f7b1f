//! Refuses cross-site requests.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::web::auth::access::{bearer, is_safe};
use crate::web::problem::Problem;
use crate::web::state::Web;

/// Refuses changing requests from pages of other sites. A request with a bearer token passes: no
/// other site has one, and a browser never adds one.
pub async fn same_site(State(web): State<Web>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let may_be_forged = !is_safe(request.method()) && bearer(headers).is_none();
    if may_be_forged && web.access.is_of_another_site(headers) {
        let detail = "This was sent by a page of another site. Open the page here and repeat it.";
        return Problem::forbidden(detail).into_response();
    }
    next.run(request).await
}

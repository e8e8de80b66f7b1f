//! Every page and every form of the back office, as data: the router is made of it, and the test that
//! walks every route with every role reads it.

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};

use crate::domain::permission::Permission;
use crate::web::auth::session::SessionUser;
use crate::web::html::assets;
use crate::web::html::context::{Failure, choose_language};
use crate::web::pages::{
    audit, channel_edit, channels, dead_letters, edit, find, groups, mail_previews, mails, order,
    order_actions, orders, overview, people, redrives, status,
};
use crate::web::state::Web;

/// One route.
pub struct PageRoute {
    /// GET: a page; POST: a form.
    pub method: Method,
    /// The address, with its parts in braces.
    pub path: &'static str,
    /// What it needs; `None`: it is open to everybody.
    pub needs: Option<Permission>,
    handler: MethodRouter<Web>,
}

fn page<H, T>(path: &'static str, needs: Option<Permission>, handler: H) -> PageRoute
where
    H: Handler<T, Web>,
    T: 'static,
{
    PageRoute { method: Method::GET, path, needs, handler: get(handler) }
}

fn form<H, T>(path: &'static str, needs: Permission, handler: H) -> PageRoute
where
    H: Handler<T, Web>,
    T: 'static,
{
    PageRoute { method: Method::POST, path, needs: Some(needs), handler: post(handler) }
}

/// Every route of the back office besides logging in and out.
pub fn page_routes() -> Vec<PageRoute> {
    use Permission::{Admin, Edit, Process, Read, Remove};
    let read = Some(Read);
    vec![
        page("/", read, overview::overview),
        page("/live", read, overview::live),
        page("/find", read, find::find),
        form("/erps/{erp}/hold", Process, overview::hold),
        form("/erps/{erp}/release", Process, overview::release),
        page("/lost-orders", read, orders::lost_orders),
        page("/lost-orders.csv", read, orders::lost_orders_csv),
        form("/lost-orders/remove", Remove, groups::remove),
        form("/lost-orders/change", Edit, groups::change),
        page("/groups/{fingerprint}", read, groups::group),
        form("/groups/{fingerprint}/note", Edit, groups::note),
        page("/orders", read, orders::orders),
        page("/orders.csv", read, orders::orders_csv),
        page("/orders/{shop}/{order_id}", read, order::order),
        page("/orders/{shop}/{order_id}/document", read, order::document),
        form("/orders/{shop}/{order_id}/transfer", Process, order_actions::transfer),
        form("/orders/{shop}/{order_id}/ask", Process, order_actions::ask),
        form("/orders/{shop}/{order_id}/absent", Process, order_actions::absent),
        form("/orders/{shop}/{order_id}/remove", Remove, order_actions::remove),
        form("/orders/{shop}/{order_id}/restore", Remove, order_actions::restore),
        form("/orders/{shop}/{order_id}/settle-double", Process, order_actions::settle_double),
        form("/orders/{shop}/{order_id}/accept-total", Edit, order_actions::accept_total),
        page("/orders/{shop}/{order_id}/edit", Some(Edit), edit::edit),
        form("/orders/{shop}/{order_id}/edit", Edit, edit::save),
        page("/redrives", read, redrives::redrives),
        form("/redrives", Process, redrives::plan),
        page("/redrives/{id}", read, redrives::redrive),
        page("/redrives/{id}/live", read, redrives::live),
        page("/redrives/{id}/items.csv", read, redrives::items_csv),
        form("/redrives/{id}/{verb}", Process, redrives::steer),
        page("/dead-letters", read, dead_letters::letters),
        page("/dead-letters/{id}", read, dead_letters::letter),
        page("/dead-letters/{id}/bytes", read, dead_letters::bytes),
        form("/dead-letters/{id}/replay", Process, dead_letters::replay),
        form("/dead-letters/{id}/discard", Remove, dead_letters::discard),
        page("/mails", read, mails::mails),
        page("/mails/{id}", read, mails::mail),
        page("/mails/{id}/html", read, mails::html),
        page("/mails/{id}/failures.csv", read, mails::list),
        form("/mails/{id}/resend", Process, mails::resend),
        form("/mails/{id}/acknowledge", Process, mails::acknowledge),
        page("/mail-previews", read, mail_previews::kinds),
        page("/mail-previews/{kind}", read, mail_previews::preview),
        page("/mail-previews/{kind}/html", read, mail_previews::html),
        page("/channels", read, channels::channels),
        page("/channel-messages", read, channels::messages),
        page("/channel-messages/{id}", read, channels::message),
        form("/channel-messages/{id}/resend", Process, channels::resend),
        form("/channels/{name}/test", Admin, channels::test),
        page("/new-channel", Some(Admin), channel_edit::new),
        page("/channels/{name}/edit", Some(Admin), channel_edit::edit),
        form("/channels", Admin, channel_edit::save),
        form("/channels/{name}/delete", Admin, channel_edit::delete),
        page("/audit", read, audit::audit),
        page("/audit.csv", read, audit::audit_csv),
        page("/status", read, status::status),
        page("/people", Some(Admin), people::people),
        form("/people/users", Admin, people::add_user),
        form("/people/users/{name}/{verb}", Admin, people::change_user),
        form("/people/tokens", Admin, people::add_token),
        form("/people/tokens/{name}/revoke", Admin, people::revoke_token),
        page("/me", read, people::me),
        page("/assets/{build}/{name}", None, assets::asset),
        page("/language/{code}", None, choose_language),
    ]
}

/// The same as a router.
pub fn page_router(web: &Web) -> Router<Web> {
    page_routes().into_iter().fold(Router::new(), |router, route| {
        let handler = match route.needs {
            Some(needs) => {
                route.handler.route_layer(from_fn_with_state((web.clone(), needs), let_in))
            }
            None => route.handler,
        };
        router.route(route.path, handler)
    })
}

/// Refuses callers without the permission before the input is read. The operation checks the shop;
/// users and tokens belong to no shop.
async fn let_in(
    State((web, needs)): State<(Web, Permission)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let user = match SessionUser::from_request_parts(&mut parts, &web).await {
        Ok(user) => user,
        Err(response) => return response,
    };
    let allowed = user.person.authorize_somewhere(needs);
    if let Err(refusal) = allowed {
        return Failure::from(refusal).into_response();
    }
    // The handler need not ask the database again.
    parts.extensions.insert(user);
    next.run(Request::from_parts(parts, body)).await
}

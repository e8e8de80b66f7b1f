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

use super::api::call::insist_somewhere;
use super::front::{Failure, choose_language, show_failures};
use super::router::Web;
use super::visitor::Visitor;
use super::{
    assets, audit_page, edit_page, group_pages, letter_pages, lists, mail_pages, order_page,
    overview, people_pages, redrive_pages, status_page,
};

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
        form("/erps/{erp}/hold", Process, overview::hold),
        form("/erps/{erp}/release", Process, overview::release),
        page("/lost-orders", read, lists::lost_orders),
        page("/lost-orders.csv", read, lists::lost_orders_csv),
        form("/lost-orders/remove", Remove, group_pages::remove),
        form("/lost-orders/change", Edit, group_pages::change),
        page("/groups/{fingerprint}", read, group_pages::group),
        form("/groups/{fingerprint}/note", Edit, group_pages::note),
        page("/orders", read, lists::orders),
        page("/orders.csv", read, lists::orders_csv),
        page("/orders/{shop}/{order_id}", read, order_page::order),
        page("/orders/{shop}/{order_id}/document", read, order_page::document),
        form("/orders/{shop}/{order_id}/transfer", Process, order_page::transfer),
        form("/orders/{shop}/{order_id}/ask", Process, order_page::ask),
        form("/orders/{shop}/{order_id}/absent", Process, order_page::absent),
        form("/orders/{shop}/{order_id}/remove", Remove, order_page::remove),
        form("/orders/{shop}/{order_id}/restore", Remove, order_page::restore),
        page("/orders/{shop}/{order_id}/edit", Some(Edit), edit_page::edit),
        form("/orders/{shop}/{order_id}/edit", Edit, edit_page::save),
        page("/redrives", read, redrive_pages::redrives),
        form("/redrives", Process, redrive_pages::plan),
        page("/redrives/{id}", read, redrive_pages::redrive),
        page("/redrives/{id}/live", read, redrive_pages::live),
        page("/redrives/{id}/items.csv", read, redrive_pages::items_csv),
        form("/redrives/{id}/{verb}", Process, redrive_pages::steer),
        page("/dead-letters", read, letter_pages::letters),
        page("/dead-letters/{id}", read, letter_pages::letter),
        page("/dead-letters/{id}/bytes", read, letter_pages::bytes),
        form("/dead-letters/{id}/replay", Process, letter_pages::replay),
        form("/dead-letters/{id}/discard", Remove, letter_pages::discard),
        page("/mails", read, mail_pages::mails),
        page("/mails/{id}", read, mail_pages::mail),
        page("/mails/{id}/html", read, mail_pages::html),
        page("/audit", read, audit_page::audit),
        page("/audit.csv", read, audit_page::audit_csv),
        page("/status", read, status_page::status),
        page("/people", Some(Admin), people_pages::people),
        form("/people/users", Admin, people_pages::add_user),
        form("/people/users/{name}/{verb}", Admin, people_pages::change_user),
        form("/people/tokens", Admin, people_pages::add_token),
        form("/people/tokens/{name}/revoke", Admin, people_pages::revoke_token),
        page("/me", read, people_pages::me),
        page("/assets/{build}/{name}", None, assets::asset),
        page("/language/{code}", None, choose_language),
    ]
}

/// The same as a router.
pub fn page_router(web: &Web) -> Router<Web> {
    let router = page_routes().into_iter().fold(Router::new(), |router, route| {
        let handler = match route.needs {
            Some(needs) => {
                route.handler.route_layer(from_fn_with_state((web.clone(), needs), let_in))
            }
            None => route.handler,
        };
        router.route(route.path, handler)
    });
    router.layer(from_fn_with_state(web.clone(), show_failures))
}

/// Refuses who may not before anything that was typed is looked at. Where exactly the permission is
/// needed only the verb knows; users and tokens belong to no shop.
async fn let_in(
    State((web, needs)): State<(Web, Permission)>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let visitor = match Visitor::from_request_parts(&mut parts, &web).await {
        Ok(visitor) => visitor,
        Err(response) => return response,
    };
    let allowed = match needs {
        Permission::Admin => visitor.person.insist(needs, None),
        _ => insist_somewhere(&visitor.person, needs),
    };
    if let Err(refusal) = allowed {
        return Failure::from(refusal).into_response();
    }
    // The handler need not ask the database again.
    parts.extensions.insert(visitor);
    next.run(Request::from_parts(parts, body)).await
}

//! Everything that goes wrong, told to whom it concerns: a page with a way back for browsers, a problem document for
//! programs, a short JSON answer for our own script. One layer around every route does it, so that no answer is
//! forgotten: also what axum refuses, unknown addresses, and forms after the end of a session.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use minijinja::context;

use crate::domain::language::Language;
use crate::domain::text::path_segment;
use crate::key;
use crate::web::auth::access::is_safe;
use crate::web::html::context::{Failure, NAVIGATION, PageContext};
use crate::web::html::language::Key;
use crate::web::problem::Problem;
use crate::web::state::Web;

/// What is said about an unknown address.
pub const NOTHING: Key = key!("There is nothing at this address.");
/// Its answer is a word for machines, also when it is no.
const READY: &str = "/readyz";

/// Who reads an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// A person in a browser.
    Person,
    /// The script of a page.
    Script,
    /// Anything else.
    Program,
}

impl Reader {
    fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        match accept.unwrap_or_default() {
            accept if accept.contains("text/html") => Self::Person,
            accept if accept.contains("application/json") => Self::Script,
            _ => Self::Program,
        }
    }
}

/// What went wrong.
struct Told {
    status: StatusCode,
    detail: String,
    /// Whether the body is a problem document already.
    is_document: bool,
    /// Whether it is the refusal of a form that our script can show.
    is_failure: bool,
}

impl Told {
    fn of(response: &Response) -> Option<Self> {
        let (status, extensions) = (response.status(), response.extensions());
        if let Some(Failure { status, detail }) = extensions.get::<Failure>() {
            let (status, detail) = (*status, detail.clone());
            return Some(Self { status, detail, is_document: false, is_failure: true });
        }
        if let Some(problem) = extensions.get::<Problem>() {
            let detail = problem.detail.clone();
            return Some(Self { status, detail, is_document: true, is_failure: false });
        }
        // What axum and the layers refuse: a sentence for developers, or nothing.
        let kind = response.headers().get(header::CONTENT_TYPE);
        let is_plain = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
        let is_error = status.is_client_error() || status.is_server_error();
        let detail = refused_by_the_server(status).into();
        (is_error && is_plain).then_some(Self {
            status,
            detail,
            is_document: false,
            is_failure: false,
        })
    }

    fn problem(self) -> Problem {
        let (kind, title) = match self.status {
            StatusCode::BAD_REQUEST => ("bad-request", "Not understood"),
            StatusCode::FORBIDDEN => ("forbidden", "Not allowed"),
            StatusCode::NOT_FOUND => ("not-found", "Not found"),
            StatusCode::METHOD_NOT_ALLOWED => ("method-not-allowed", "Method not allowed"),
            StatusCode::CONFLICT => ("conflict", "Not possible as it stands"),
            StatusCode::PAYLOAD_TOO_LARGE => ("too-large", "Too large"),
            StatusCode::UNPROCESSABLE_ENTITY => ("unprocessable", "Not acceptable as it is"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "Not available now"),
            _ => ("failed", "That did not work"),
        };
        Problem::new(self.status, kind, title, self.detail)
    }
}

fn refused_by_the_server(status: StatusCode) -> Key {
    match status {
        StatusCode::NOT_FOUND => NOTHING,
        StatusCode::METHOD_NOT_ALLOWED => {
            key!("This address is not a page: something is sent to it by a form.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => {
            key!("This is too large to be sent. Send it in several parts.")
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            key!(
                "This took too long and was given up. Look whether it was done before you repeat it."
            )
        }
        status if status.is_server_error() => {
            key!("Something failed inside the program; the log has the reason.")
        }
        _ => key!("This address or form has a value that cannot be read."),
    }
}

/// The layer.
pub async fn show_errors(State(web): State<Web>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = parts.clone();
    parts.extensions.clone_from(&asked.extensions);
    let response = next.run(Request::from_parts(parts, body)).await;
    if asked.uri.path() == READY && is_safe(&asked.method) {
        return response;
    }
    let Some(told) = Told::of(&response) else { return response };
    let reader = Reader::of(&asked.headers);
    match reader {
        Reader::Person if needs_login(&asked, &told) => to_login(&asked),
        Reader::Person => {
            let shown = page(&web, asked, told).await;
            with_headers_of(&response, shown)
        }
        Reader::Script if told.is_failure => {
            let body = serde_json::json!({ "good": false, "text": told.detail });
            (told.status, axum::Json(body)).into_response()
        }
        Reader::Script | Reader::Program if told.is_document => response,
        Reader::Script | Reader::Program => {
            with_headers_of(&response, told.problem().into_response())
        }
    }
}

/// What the refusal says besides its body: which methods there are, when to come again.
fn with_headers_of(old: &Response, mut new: Response) -> Response {
    let told = [header::CONTENT_TYPE, header::CONTENT_LENGTH];
    let rest = old.headers().iter().filter(|(name, _)| !told.contains(name));
    new.headers_mut().extend(rest.map(|(name, value)| (name.clone(), value.clone())));
    new
}

/// A form whose sender is not logged in any more.
fn needs_login(asked: &Parts, told: &Told) -> bool {
    let path = asked.uri.path();
    told.status == StatusCode::UNAUTHORIZED && path != "/login" && !path.starts_with("/api/")
}

/// After the login the reader is back at the page of the form; the script puts the text in again.
fn to_login(asked: &Parts) -> Response {
    let page = path_segment(&page_of_form(&asked.method, asked.uri.path()));
    Redirect::to(&format!("/login?ended=1&return_to={page}")).into_response()
}

async fn page(web: &Web, mut asked: Parts, told: Told) -> Response {
    let language = Language::of(&asked.headers, &web.access);
    let title = language.t(match told.status {
        StatusCode::NOT_FOUND => key!("Not found"),
        StatusCode::FORBIDDEN => key!("Not allowed"),
        StatusCode::CONFLICT => key!("Not possible as it stands"),
        StatusCode::SERVICE_UNAVAILABLE => key!("Not available now"),
        _ => key!("That did not work"),
    });
    let detail = match told.status {
        StatusCode::METHOD_NOT_ALLOWED => refused_by_the_server(told.status).into(),
        _ => told.detail,
    };
    let values = context! {
        title,
        detail => language.said(&detail),
        back => page_of_form(&asked.method, asked.uri.path()),
    };
    let html = match PageContext::from_request_parts(&mut asked, web).await {
        Ok(ctx) => ctx.part("error.html", title, None, values).ok(),
        Err(_) => web.pages.render(language, "error.html", values).ok(),
    };
    (told.status, Html(html.unwrap_or(detail))).into_response()
}

/// The page that a form stands on, or the list of a thing that is not there.
fn page_of_form(method: &Method, path: &str) -> String {
    let of_one =
        ["/orders/", "/redrives/", "/dead-letters/", "/groups/", "/mails/", "/channel-messages/"];
    let is_form = *method == Method::POST;
    match path {
        "/password" => return "/me".to_owned(),
        _ if is_form && path.ends_with("/edit") => return path.to_owned(),
        _ if is_form && NAVIGATION.iter().any(|(page, _)| *page == path) => return path.to_owned(),
        _ if is_form && of_one.iter().any(|one| path.starts_with(one)) => {
            return path.rsplit_once('/').map_or("/", |(page, _)| page).to_owned();
        }
        _ => {}
    }
    let mut lists = NAVIGATION.into_iter().map(|(list, _)| list);
    let is_below = |list: &str| path.strip_prefix(list).is_some_and(|rest| rest.starts_with('/'));
    lists.find(|list| *list != "/" && is_below(list)).unwrap_or("/").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_failed_leads_back_to_where_the_form_stood() {
        for (method, path, back) in [
            (Method::POST, "/orders/de/1%2F2/transfer", "/orders/de/1%2F2"),
            (Method::POST, "/orders/de/1/edit", "/orders/de/1/edit"),
            (Method::POST, "/lost-orders/remove", "/lost-orders"),
            (Method::POST, "/mails/0198d3a0/resend", "/mails/0198d3a0"),
            (Method::POST, "/people/users/erika/roles", "/people"),
            (Method::POST, "/erps/default/release", "/"),
            (Method::POST, "/redrives", "/redrives"),
            (Method::POST, "/password", "/me"),
            (Method::GET, "/orders/de/none", "/orders"),
            (Method::GET, "/ordersx", "/"),
            (Method::GET, "/audit", "/"),
        ] {
            assert_eq!(page_of_form(&method, path), back, "{method} {path}");
        }
    }

    #[test]
    fn a_browser_a_script_and_a_program_are_told_apart() {
        let reader = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Reader::of(&headers)
        };
        assert_eq!(reader("text/html,application/xhtml+xml,*/*;q=0.8"), Reader::Person);
        assert_eq!(reader("application/json"), Reader::Script);
        assert_eq!(reader("*/*"), Reader::Program);
        assert_eq!(Reader::of(&HeaderMap::new()), Reader::Program);
    }
}

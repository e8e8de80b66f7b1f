//! What `order-relay check` says, on a page.

use minijinja::{Value, context};
use serde::Serialize;

use super::front::{Answer, Front};
use super::letter_pages::insist_on_all_shops;
use super::pages::view;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct CheckLine {
    /// What.
    pub what: String,
    /// `ok`, `note` or `FAULT`.
    pub state: &'static str,
    /// What was found, and the mend.
    pub detail: String,
}

/// `GET /status`
pub async fn status(front: Front) -> Answer {
    insist_on_all_shops(&front)?;
    let lines = (front.web.backstage.check)().await;
    let bad = lines.iter().filter(|line| line.state == "FAULT").count();
    let lines: Vec<Value> = lines.iter().map(view).collect();
    front.page("status.html", front.t("Status"), None, context! { lines, bad })
}

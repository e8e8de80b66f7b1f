//! The demo's checkout: places orders, and makes happen what the story says.

use std::time::Duration;

use crate::devtools::demo::document::document;
use crate::devtools::demo::story::{Event, Fate, NEW_ARTICLE, OLD_ARTICLE, Part, STEPS};
use crate::devtools::demo::text;
use crate::devtools::erp_stub::{ErpStub, StubSettings};
use crate::devtools::narrator;
use crate::domain::order::document::Order;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Grants;
use crate::domain::trace::Trace;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::orders::OrderSource;

use crate::cli::devtools::StubMode;

/// How long the ERP takes for an answer.
pub const LATENCY_MS: u64 = 30;
/// Orders a second after the story, at most.
const EVERYDAY: f64 = 0.2;

/// Places orders.
pub struct Checkout<'a> {
    pub ops: &'a Ops,
    pub person: &'a Principal,
    pub erp: &'a ErpStub,
    /// The address of the back office.
    pub web: String,
    /// The rejected orders.
    rejected: Vec<String>,
    edited: bool,
}

impl<'a> Checkout<'a> {
    pub fn new(ops: &'a Ops, person: &'a Principal, erp: &'a ErpStub, web: String) -> Self {
        Self { ops, person, erp, web, rejected: Vec::new(), edited: false }
    }

    /// Tells the story at that many orders a second. With `orders` it ends with the last of them; without, it takes
    /// three minutes at one a second, and everyday orders follow for ever.
    pub async fn place(mut self, orders: Option<u32>, rate: f64) {
        for number in 0..orders.unwrap_or(u32::MAX) {
            let part = Part::of(number, orders.unwrap_or(STEPS));
            self.place_one(number, part.fate()).await;
            for event in part.events() {
                self.make_happen(event).await;
            }
            let rate = if part.is_after_the_end() { rate.min(EVERYDAY) } else { rate };
            tokio::time::sleep(Duration::from_secs_f64(1.0 / rate)).await;
        }
    }

    async fn place_one(&mut self, number: u32, fate: Fate) {
        let id = format!("D-{}", 1001 + number);
        let article = match fate {
            Fate::OldArticle => OLD_ARTICLE.to_owned(),
            _ => format!("SKU-{}", 4711 + number % 7),
        };
        match fate {
            Fate::BusyOnce => self.erp.script(&id, &[StubMode::Busy]),
            Fate::AnswerLost => self.erp.script(&id, &[StubMode::AcceptThenCut]),
            Fate::Unclear => self.erp.script(&id, &[StubMode::Lagging]),
            Fate::OldArticle => self.rejected.push(id.clone()),
            Fate::Accepted => {}
        }
        let order =
            match Order::parse(document(&id, number, &article).as_bytes(), self.ops.intake()) {
                Ok(order) => order,
                Err(fault) => return narrator::tell(&id, &format!("is not acceptable: {fault}")),
            };
        match self.ops.accept(self.person, order, OrderSource::Api, &Trace::default()).await {
            Ok(_) => narrator::tell(&id, "placed by checkout"),
            Err(error) => narrator::tell(&id, &format!("could not be placed: {error}")),
        }
    }

    async fn make_happen(&mut self, event: Event) {
        let mode = |mode| StubSettings { mode, latency_ms: LATENCY_MS, fail_rate: 0.0 };
        match event {
            Event::OutageBegins => {
                self.erp.set(mode(StubMode::Down));
                text::tell_event("The ERP is down. Watch: few attempts, one mail, nothing lost.");
            }
            Event::OutageEnds => {
                self.erp.set(mode(StubMode::Ok));
                text::tell_event("The ERP is up again. What waited is transferred by itself.");
            }
            Event::DeadLetter => match self.send_what_is_no_order().await {
                Ok(()) => {
                    text::tell_event(
                        "Checkout sent a message that is not an order: a dead letter.",
                    );
                }
                Err(error) => {
                    text::tell_event(&format!("the dead letter could not be sent: {error}"));
                }
            },
            Event::Edit => match self.edit_one().await {
                Ok(Some(id)) => text::tell_event(&format!(
                    "A colleague corrected {id}, and has not sent it yet."
                )),
                Ok(None) => {}
                Err(error) => text::tell_event(&format!("no order could be corrected: {error}")),
            },
            Event::End => text::tell_what_to_look_at(&self.web, self.rejected.len(), self.edited),
        }
    }

    async fn send_what_is_no_order(&self) -> Result<(), Refusal> {
        let faulty =
            document("D-900", 0, "SKU-4711").replace(r#""quantity":"1""#, r#""quantity":"one""#);
        match Order::parse(faulty.as_bytes(), self.ops.intake()) {
            Ok(_) => Ok(()),
            Err(fault) => {
                self.ops.keep_refused(self.person, "api", faulty.as_bytes(), &fault).await
            }
        }
    }

    /// Corrects the newest rejected order that can be: one that is still being sent cannot.
    async fn edit_one(&mut self) -> Result<Option<String>, Refusal> {
        let colleague = Principal { name: "kim".to_owned(), from: None, grants: Grants::all() };
        let act = self.ops.act(&colleague, Some("article renamed in the ERP"));
        for id in self.rejected.iter().rev() {
            let Ok(key) = OrderKey::new("default", id) else { continue };
            let detail = self.ops.show(&colleague, &key).await?;
            let fixed = detail.current().replace(OLD_ARTICLE, NEW_ARTICLE);
            match self.ops.edit(&key, detail.record.revision, &fixed, &act).await {
                Ok(_) => {
                    self.edited = true;
                    return Ok(Some(id.clone()));
                }
                Err(Refusal::Invalid { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

//! An ERP as one process calls it, behind the port that the workers use.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::devtools::simulation::erp::model::{ErpModel, Outcome};
use crate::devtools::simulation::erp::turns::{Mood, Turn};
use crate::devtools::simulation::traps::{Point, Traps};
use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer, Receipt};
use crate::ports::erps::{DEFAULT_ERP, ErpUnusable, Erps};

/// One process's way to an ERP.
pub struct ErpClient {
    model: Arc<ErpModel>,
    /// Who is told in the story.
    name: String,
    /// The traps of the process, and its number.
    traps: Option<(Arc<Traps>, usize)>,
}

impl ErpClient {
    /// The way of people to `model`.
    pub fn of_people(model: Arc<ErpModel>) -> Self {
        Self { model, name: "people".to_owned(), traps: None }
    }

    /// The way of a process to `model`.
    pub fn of_process(model: Arc<ErpModel>, name: &str, traps: Arc<Traps>, process: usize) -> Self {
        Self { model, name: name.to_owned(), traps: Some((traps, process)) }
    }

    async fn pass(&self, point: Point) {
        if let Some((traps, process)) = &self.traps {
            traps.step_on(*process, point).await;
        }
    }

    fn tell(&self, what: std::fmt::Arguments<'_>) {
        self.model.story.tell(&self.name, what);
    }

    async fn meet(&self, request: u64, turn: Turn) -> Result<Receipt, Failure> {
        let pause = tokio::time::sleep;
        match turn {
            Turn::Unbuildable => Err(failure(ErrorClass::Internal, "template", Stage::Before)),
            Turn::Unreachable => {
                pause(Duration::from_millis(20)).await;
                Err(failure(ErrorClass::Unavailable, "connect", Stage::Before))
            }
            Turn::Taken(after) => {
                pause(after).await;
                match self.model.outcome(request) {
                    Some(Outcome::Entered(number)) => Ok(receipt(number, false)),
                    _ => Err(answered(ErrorClass::Rejected, 409, Stage::After)),
                }
            }
            Turn::Unseen { noticed, .. } => {
                pause(noticed).await;
                Err(failure(ErrorClass::UnknownOutcome, "no_answer", Stage::At))
            }
            Turn::Gateway { status, .. } => {
                pause(Duration::from_millis(200)).await;
                Err(answered(ErrorClass::Unavailable, status, Stage::At))
            }
            Turn::Busy => {
                pause(Duration::from_millis(30)).await;
                Err(answered(ErrorClass::Unavailable, 503, Stage::After))
            }
            Turn::Login => {
                pause(Duration::from_millis(30)).await;
                Err(answered(ErrorClass::Unauthorized, 401, Stage::After))
            }
            Turn::TooMany { wait } => {
                pause(Duration::from_millis(10)).await;
                let refused = answered(ErrorClass::Unavailable, 429, Stage::After);
                Err(Failure { retry_after: Some(wait), ..refused })
            }
            Turn::Refused => {
                pause(Duration::from_millis(50)).await;
                Err(answered(ErrorClass::Rejected, 422, Stage::After))
            }
        }
    }
}

fn failure(class: ErrorClass, code: &str, stage: Stage) -> Failure {
    Failure::new(class, code, code, stage)
}

fn answered(class: ErrorClass, status: u16, stage: Stage) -> Failure {
    Failure { status: Some(status), ..failure(class, &format!("http_{status}"), stage) }
}

fn receipt(number: String, found: bool) -> Receipt {
    Receipt {
        erp_order_id: Some(number),
        request: "POST http://erp/orders".to_owned(),
        status: 201,
        found,
        taken: serde_json::Map::new(),
    }
}

#[async_trait]
impl Erp for ErpClient {
    async fn submit(&self, order: &OrderForErp) -> Result<Receipt, Failure> {
        if let Some(steps) = self.model.nature.steps_before {
            self.pass(Point::Prepared).await;
            tokio::time::sleep(steps).await;
        }
        order.permit.begin().await?;
        // From here to the first byte nothing waits: that time is the window which README names.
        let (request, turn) = self.model.receive(&order.key);
        self.tell(format_args!("sends {}: {turn:?}", order.key));
        self.pass(Point::Sent).await;
        let met = self.meet(request, turn).await;
        match &met {
            Ok(receipt) => {
                let number = receipt.erp_order_id.as_deref().unwrap_or_default();
                self.tell(format_args!("hears that {} is {number}", order.key));
            }
            Err(failure) => self.tell(format_args!("hears {} about {}", failure.code, order.key)),
        }
        self.pass(Point::Answered).await;
        met
    }

    async fn ask(&self, order: &OrderForErp) -> ProbeAnswer {
        let unclear = |failure| ProbeAnswer::Unclear(failure);
        let (mood, thinks) = self.model.hear();
        let answer = match mood {
            Some(Mood::Away) => unclear(failure(ErrorClass::Unavailable, "connect", Stage::Before)),
            Some(Mood::Busy | Mood::LimitsRate) => {
                unclear(answered(ErrorClass::Unavailable, 503, Stage::After))
            }
            Some(Mood::RefusesLogin) => {
                unclear(answered(ErrorClass::Unauthorized, 401, Stage::After))
            }
            Some(Mood::BehindGateway) => unclear(answered(ErrorClass::Unavailable, 504, Stage::At)),
            Some(Mood::Hangs | Mood::LosesRequests) => {
                tokio::time::sleep(self.model.nature.budget).await;
                unclear(failure(ErrorClass::Unavailable, "timeout", Stage::At))
            }
            None | Some(Mood::Slow | Mood::LosesAnswers | Mood::Moody) => {
                tokio::time::sleep(thinks).await;
                let found = self.model.find(&order.key);
                tokio::time::sleep(thinks).await;
                match found {
                    Some(number) => ProbeAnswer::Found(receipt(number, true)),
                    None => ProbeAnswer::Absent,
                }
            }
        };
        let said = match &answer {
            ProbeAnswer::Found(_) => "it is there",
            ProbeAnswer::Absent => "it is not there",
            ProbeAnswer::Unclear(_) => "nothing usable",
        };
        self.tell(format_args!("asks about {}: {said}", order.key));
        self.pass(Point::Asked).await;
        answer
    }

    fn rehearse(&self, _: &OrderForErp) -> Result<Vec<Exchange>, Failure> {
        Ok(Vec::new())
    }

    fn has_steps_before(&self) -> bool {
        self.model.nature.steps_before.is_some()
    }

    fn can_ask(&self) -> bool {
        self.model.nature.can_ask
    }

    fn is_idempotent(&self) -> bool {
        self.model.nature.is_idempotent
    }

    fn tells_shops_apart(&self) -> bool {
        true
    }

    fn call_budget(&self) -> Duration {
        self.model.nature.budget
    }
}

/// Name of the ERP of the shop that has one of its own, and of that shop.
pub const SECOND_ERP: &str = "at";

/// The ERPs of all shops.
pub struct SimulatedErps {
    pub default: Arc<ErpModel>,
    pub second: Option<Arc<ErpModel>>,
}

impl SimulatedErps {
    /// The ERP of a shop.
    pub fn of(&self, shop: &str) -> &Arc<ErpModel> {
        self.second.as_ref().filter(|_| shop == SECOND_ERP).unwrap_or(&self.default)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<ErpModel>> {
        std::iter::once(&self.default).chain(&self.second)
    }
}

#[async_trait]
impl Erps for SimulatedErps {
    fn names(&self) -> Vec<&str> {
        self.second.iter().map(|_| SECOND_ERP).chain([DEFAULT_ERP]).collect()
    }

    fn erp_of_shop(&self, shop: &str) -> &str {
        if self.second.is_some() && shop == SECOND_ERP { SECOND_ERP } else { DEFAULT_ERP }
    }

    fn shop_of_erp(&self, erp: &str) -> Option<&str> {
        (self.second.is_some() && erp == SECOND_ERP).then_some(SECOND_ERP)
    }

    fn rehearse(&self, _: &OrderForErp) -> Result<Vec<Exchange>, ErpUnusable> {
        Ok(Vec::new())
    }

    async fn ask(&self, order: &OrderForErp) -> Result<ProbeAnswer, ErpUnusable> {
        let model = self.of(order.key.shop.as_str()).clone();
        Ok(ErpClient::of_people(model).ask(order).await)
    }
}

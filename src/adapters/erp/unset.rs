//! No ERP: for processes that never send an order (an error handler alone, a command that only
//! counts). Whatever is asked of it fails before anything is sent.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::failure::{ErrorClass, Failure, Stage};
use crate::ports::erp::{Erp, Exchange, OrderForErp, ProbeAnswer, Receipt};

/// The absence of an ERP.
pub struct UnsetErp;

fn unset() -> Failure {
    Failure::new(ErrorClass::Unavailable, "erp_not_set", "erp.url is not set", Stage::Before)
}

#[async_trait]
impl Erp for UnsetErp {
    async fn submit(&self, _order: &OrderForErp) -> Result<Receipt, Failure> {
        Err(unset())
    }

    async fn ask(&self, _order: &OrderForErp) -> ProbeAnswer {
        ProbeAnswer::Unclear(unset())
    }

    fn rehearse(&self, _order: &OrderForErp) -> Result<Vec<Exchange>, Failure> {
        Err(unset())
    }

    fn can_ask(&self) -> bool {
        true
    }

    fn call_budget(&self) -> Duration {
        Duration::ZERO
    }
}

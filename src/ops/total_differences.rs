//! Orders that the ERP has with another sum: a person accepts that sum, and says why.

use crate::domain::lifecycle::vocabulary::OrderState;
use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::domain::total::Amount;
use crate::ops::principal::authorize_order;
use crate::ops::refusal::{Refusal, invalid};
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;

impl Ops {
    /// Accepts the sum that the ERP has for a lost order, with a reason; that sum. The next attempt completes the
    /// order there, as long as the sum is still that one.
    pub async fn accept_total(&self, key: &OrderKey, act: &Act) -> Result<Amount, Refusal> {
        authorize_order(act, Permission::Edit, key)?;
        let record = self.record(key).await?;
        if record.phase.state() != OrderState::OrderedFailed {
            return Err(invalid(&record));
        }
        let Some(newest) = self.store.total_differences(key).await?.pop() else {
            return Err(Refusal::not_found("another sum in the ERP for order", key));
        };
        self.store.accept_total(key, newest.attempt, act).await?;
        Ok(newest.difference.found)
    }
}

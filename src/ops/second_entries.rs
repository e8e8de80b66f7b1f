//! Orders that the ERP has twice: a person deals with the second one in the ERP, and says so here.

use crate::domain::order::values::OrderKey;
use crate::domain::permission::Permission;
use crate::ops::principal::authorize_order;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;

impl Ops {
    /// Settles the second entries of an order, with a reason; how many.
    pub async fn settle_double(&self, key: &OrderKey, act: &Act) -> Result<u64, Refusal> {
        authorize_order(act, Permission::Process, key)?;
        self.record(key).await?;
        match self.store.settle_second_entries(key, act).await? {
            0 => Err(Refusal::not_found("open second entry of order", key)),
            settled => Ok(settled),
        }
    }
}

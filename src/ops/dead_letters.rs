//! Dead letters as people look at them. A message that is no order belongs to no shop: only who may see all
//! shops sees it. Replaying and discarding stand in `intake.rs`.

use uuid::Uuid;

use crate::domain::order::fault::{Fault, Reason};
use crate::domain::order::faults::faults;
use crate::domain::permission::Permission;
use crate::domain::topology::ORDER_FAILED;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::dead_letters::DeadLetter;

impl Ops {
    /// Dead letters, newest first.
    pub async fn dead_letters(
        &self,
        principal: &Principal,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, Refusal> {
        principal.authorize(Permission::Read, None)?;
        Ok(self.store.list_dead_letters(open_only, limit).await?)
    }

    /// One of them, by its id.
    pub async fn dead_letter(
        &self,
        principal: &Principal,
        id: &str,
    ) -> Result<DeadLetter, Refusal> {
        self.dead_letter_for(principal, Permission::Read, id).await
    }

    /// The same, for a person who may do that to it.
    pub async fn dead_letter_for(
        &self,
        principal: &Principal,
        needs: Permission,
        id: &str,
    ) -> Result<DeadLetter, Refusal> {
        principal.authorize(Permission::Read, None)?;
        principal.authorize(needs, None)?;
        let missing = || Refusal::not_found("dead letter", id);
        let id: Uuid = id.parse().map_err(|_| missing())?;
        self.store.dead_letter(id).await?.ok_or_else(missing)
    }

    /// Every fault that keeps an open dead letter from being an order, in one pass; none of a message about a
    /// failure, and none that the content of an order does not have.
    pub fn letter_faults(&self, letter: &DeadLetter) -> Vec<Fault> {
        let is_order = letter.routing_key != ORDER_FAILED;
        let is_whole = letter.body.len() == letter.size;
        if letter.status != "open"
            || letter.reason != Reason::Schema.as_str()
            || !is_order
            || !is_whole
        {
            return Vec::new();
        }
        faults(&letter.body, &self.intake)
    }
}

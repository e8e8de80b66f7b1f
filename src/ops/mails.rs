//! Mails as people look at them: only who may see all shops sees them.

use uuid::Uuid;

use crate::domain::permission::Permission;
use crate::ops::principal::Principal;
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::notices::{MailStatus, StoredMail};

impl Ops {
    /// Mails, newest first.
    pub async fn mails(
        &self,
        principal: &Principal,
        status: Option<MailStatus>,
        limit: u32,
    ) -> Result<Vec<StoredMail>, Refusal> {
        principal.authorize(Permission::Read, None)?;
        Ok(self.store.list_mails(status, limit).await?)
    }

    /// One of them, by its id.
    pub async fn mail(&self, principal: &Principal, id: &str) -> Result<StoredMail, Refusal> {
        principal.authorize(Permission::Read, None)?;
        let missing = || Refusal::not_found("mail", id);
        let id: Uuid = id.parse().map_err(|_| missing())?;
        self.store.mail(id).await?.ok_or_else(missing)
    }
}

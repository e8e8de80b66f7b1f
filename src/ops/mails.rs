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

    /// Mails to administrators that none of them got, or 0 while the ledger does not answer. A number without
    /// order data, for everybody who is logged in.
    pub async fn count_unheard(&self) -> u64 {
        self.store.count_mails().await.map_or(0, |counts| counts.unheard)
    }

    /// One of them, by its id.
    pub async fn mail(&self, principal: &Principal, id: &str) -> Result<StoredMail, Refusal> {
        principal.authorize(Permission::Read, None)?;
        let missing = || Refusal::not_found("mail", id);
        let id: Uuid = id.parse().map_err(|_| missing())?;
        self.store.mail(id).await?.ok_or_else(missing)
    }
}

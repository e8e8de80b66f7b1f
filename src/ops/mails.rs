//! Mails as people look at them and send them again: only who may see all shops sees them.

use uuid::Uuid;

use crate::domain::permission::Permission;
use crate::ops::principal::{Principal, authorize};
use crate::ops::refusal::Refusal;
use crate::ops::verbs::Ops;
use crate::ports::audit::Act;
use crate::ports::notices::{MailStatus, StoredMail};

impl Ops {
    /// Sends a mail again to whoever has not got it: an alert to the administrators that the settings name now, a
    /// mail to a customer to its own address. Once for each receiver, however often it is asked for. How many get it.
    pub async fn resend_mail(&self, id: &str, act: &Act) -> Result<u32, Refusal> {
        let mail = self.mail_to_change(id, act).await?;
        let Some(administrators) = self.receivers.of(&mail.audience) else {
            let audience = &mail.audience;
            return Err(Refusal::Unacceptable(format!(
                "no mail server is set for {audience}: set mail.smtp_url"
            )));
        };
        let receivers = match mail.mail.kind.is_alert() {
            true => administrators,
            false => &mail.mail.receivers,
        };
        match self.store.resend_mail(mail.id, receivers, act).await? {
            0 => Err(Refusal::Settled {
                what: "mail",
                name: id.to_owned(),
                status: "with every receiver, or on its way,".to_owned(),
            }),
            queued => Ok(queued),
        }
    }

    /// Says that an alert which no administrator got is known: it is not shown on every page any more.
    pub async fn acknowledge_mail(&self, id: &str, act: &Act) -> Result<(), Refusal> {
        let mail = self.mail_to_change(id, act).await?;
        if self.store.acknowledge_mail(mail.id, act).await? {
            return Ok(());
        }
        Err(Refusal::Unacceptable(format!(
            "mail {id} is no alert that nobody got, or somebody has acknowledged it"
        )))
    }

    async fn mail_to_change(&self, id: &str, act: &Act) -> Result<StoredMail, Refusal> {
        authorize(act, Permission::Read, None)?;
        authorize(act, Permission::Process, None)?;
        let missing = || Refusal::not_found("mail", id);
        let id: Uuid = id.parse().map_err(|_| missing())?;
        self.store.mail(id).await?.ok_or_else(missing)
    }

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

    /// Whether somebody may see mails, and so how they look with sample data.
    pub fn authorize_mails(&self, principal: &Principal) -> Result<(), Refusal> {
        principal.authorize(Permission::Read, None)
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

//! Who gets mails, as the settings name them now: for mails that are sent again.

use std::collections::BTreeMap;

/// The administrators by audience, as the settings name them now.
#[derive(Debug, Clone, Default)]
pub struct MailReceivers {
    /// Of every audience without an entry of its own; `None`: no mail server is set.
    pub default: Option<Vec<String>>,
    pub audiences: BTreeMap<String, Option<Vec<String>>>,
}

impl MailReceivers {
    /// Those of an audience; `None`: it has no mail server.
    pub(super) fn of(&self, audience: &str) -> Option<&[String]> {
        self.audiences.get(audience).unwrap_or(&self.default).as_deref()
    }
}

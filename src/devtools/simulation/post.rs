//! The mail server: takes mails, is away, or takes them and loses its answer. Beside it stands the
//! composer, whose mails name every failed attempt in a form that can be read back.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::ports::mail::{Composer, Mail, MailError, Mailer, NoticeDetail};

/// The only group of receivers.
const AUDIENCE: &str = "default";

/// The mail server.
pub struct PostModel {
    story: Arc<Story>,
    state: Shared<PostState>,
}

struct PostState {
    dice: Dice,
    away_until: Duration,
    silent_until: Duration,
    /// Message-IDs by what they name.
    named: BTreeMap<String, BTreeSet<String>>,
}

impl PostModel {
    /// A mail server that takes everything.
    pub fn new(seed: u64, story: Arc<Story>) -> Self {
        let state = PostState {
            dice: Dice::new(seed, "post"),
            away_until: Duration::ZERO,
            silent_until: Duration::ZERO,
            named: BTreeMap::new(),
        };
        Self { story, state: Shared::new(state) }
    }

    /// It cannot be reached for that long.
    pub fn is_away(&self, lasts: Duration) {
        self.state.get().away_until = self.story.now() + lasts;
    }

    /// Its answers get lost for that long; the mails do not.
    pub fn is_silent(&self, lasts: Duration) {
        self.state.get().silent_until = self.story.now() + lasts;
    }

    /// It is well again.
    pub fn heal(&self) {
        let mut state = self.state.get();
        (state.away_until, state.silent_until) = (Duration::ZERO, Duration::ZERO);
    }

    /// How many different mails name it, each with its Message-ID.
    pub fn naming(&self, attempt: &str) -> usize {
        self.state.get().named.get(attempt).map_or(0, BTreeSet::len)
    }

    /// Everything that a mail about failures named.
    pub fn named(&self) -> Vec<String> {
        self.state.get().named.keys().cloned().collect()
    }
}

#[async_trait]
impl Mailer for PostModel {
    async fn send(&self, _: &str, mail: &Mail) -> Result<(), MailError> {
        let takes = self.state.get().dice.millis(1, 400);
        tokio::time::sleep(takes).await;
        let mut state = self.state.get();
        let now = self.story.now();
        if now < state.away_until {
            return Err(MailError::Later("connection refused".to_owned()));
        }
        if mail.kind == NoticeKind::OrderFailed {
            for named in mail.text.lines() {
                state.named.entry(named.to_owned()).or_default().insert(mail.message_id.clone());
            }
        }
        let names = mail.text.replace('\n', " ");
        self.story.tell("post", format_args!("takes a mail {}: {names}", mail.kind.as_str()));
        if now < state.silent_until && state.dice.chance(50) {
            return Err(MailError::Later("no answer after DATA".to_owned()));
        }
        Ok(())
    }

    fn send_budget(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// Composes mails that are only read by machines.
pub struct PlainComposer {
    pub digest: DigestRule,
}

impl Composer for PlainComposer {
    fn audience(&self, _: &str) -> String {
        AUDIENCE.to_owned()
    }

    fn compose(&self, _: &str, kind: NoticeKind, notices: &[NoticeDetail], seed: &str) -> Mail {
        let mut hasher = DefaultHasher::new();
        seed.hash(&mut hasher);
        let line = |notice: &NoticeDetail| match &notice.order_id {
            Some(order_id) => attempt_name(&notice.shop, order_id, notice.attempt),
            None => notice.erp.clone().unwrap_or_default(),
        };
        Mail {
            kind,
            sender: "shop@example.com".to_owned(),
            receivers: vec!["admin@example.com".to_owned()],
            subject: kind.as_str().to_owned(),
            text: notices.iter().map(line).collect::<Vec<_>>().join("\n"),
            html: String::new(),
            message_id: format!("<{:016x}@example.com>", hasher.finish()),
        }
    }

    fn digest_rule(&self, _: &str) -> DigestRule {
        self.digest
    }

    fn keeps_only(&self, _: &str) -> bool {
        false
    }
}

/// How a mail names an attempt.
pub fn attempt_name(shop: &str, order_id: &str, attempt: u32) -> String {
    format!("{shop}/{order_id}#{attempt}")
}

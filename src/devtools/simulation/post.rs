//! The mail server: takes mails, is away, takes them and loses its answer, or puts off or refuses one of the
//! receivers. Beside it stands the composer, whose mails name every failed attempt in a form that can be read back.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::devtools::simulation::dice::Dice;
use crate::devtools::simulation::shared::Shared;
use crate::devtools::simulation::story::Story;
use crate::domain::notice::{DigestRule, NoticeKind};
use crate::ports::mail::{Composer, Mail, MailError, Mailer, NoticeDetail, Trouble};

/// The only group of receivers.
pub const AUDIENCE: &str = "default";
/// Attempts that one mail may name.
const MAX_NAMED: usize = 8;
/// Attempts that a mail may name while the server takes only small ones.
const FEW: usize = 2;
/// The administrators. The server refuses the second one for good, which must keep nothing from the others.
const RECEIVERS: [&str; 3] = ["first@example.com", REFUSED, "last@example.com"];
const REFUSED: &str = "refused@example.com";

/// All administrators.
pub fn administrators() -> Vec<String> {
    RECEIVERS.map(str::to_owned).to_vec()
}

/// The administrators who get every mail in the end.
pub fn reachable() -> impl Iterator<Item = &'static str> {
    RECEIVERS.into_iter().filter(|receiver| *receiver != REFUSED)
}

/// The mail server.
pub struct PostModel {
    story: Arc<Story>,
    state: Shared<PostState>,
}

struct PostState {
    dice: Dice,
    away_until: Duration,
    silent_until: Duration,
    /// The receiver whose mails are put off, and until when.
    busy: (usize, Duration),
    /// The receiver who gets only small mails, and until when.
    narrow: (usize, Duration),
    /// Message-IDs by receiver and what they name.
    named: BTreeMap<(String, String), BTreeSet<String>>,
    /// The same of news: what began and ended.
    news: BTreeMap<(String, News), BTreeSet<String>>,
}

impl PostModel {
    /// A mail server that takes everything.
    pub fn new(seed: u64, story: Arc<Story>) -> Self {
        let state = PostState {
            dice: Dice::new(seed, "post"),
            away_until: Duration::ZERO,
            silent_until: Duration::ZERO,
            busy: (0, Duration::ZERO),
            narrow: (0, Duration::ZERO),
            named: BTreeMap::new(),
            news: BTreeMap::new(),
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

    /// It puts off every mail to one of the receivers for that long.
    pub fn is_busy(&self, lasts: Duration) {
        let until = self.story.now() + lasts;
        let mut state = self.state.get();
        state.busy = (state.dice.index(RECEIVERS.len()), until);
    }

    /// It takes only small mails for one of the receivers for that long.
    pub fn is_narrow(&self, lasts: Duration) {
        let until = self.story.now() + lasts;
        let mut state = self.state.get();
        state.narrow = (state.dice.index(RECEIVERS.len()), until);
    }

    /// It is well again.
    pub fn heal(&self) {
        let mut state = self.state.get();
        (state.away_until, state.silent_until) = (Duration::ZERO, Duration::ZERO);
        (state.busy.1, state.narrow.1) = (Duration::ZERO, Duration::ZERO);
    }

    /// How many different mails to a receiver name it, each with its Message-ID.
    pub fn naming(&self, receiver: &str, attempt: &str) -> usize {
        let key = (receiver.to_owned(), attempt.to_owned());
        self.state.get().named.get(&key).map_or(0, BTreeSet::len)
    }

    /// The news of that kind about a subject that a receiver got, and in how many different mails.
    pub fn news(&self, receiver: &str, kind: NoticeKind, subject: &str) -> Vec<(News, usize)> {
        let state = self.state.get();
        let theirs = state.news.iter().filter(|((to, news), _)| {
            to == receiver && news.kind == kind && news.subject == subject
        });
        theirs.map(|((_, news), mails)| (news.clone(), mails.len())).collect()
    }

    /// Everything that a mail about failures named.
    pub fn named(&self) -> BTreeSet<String> {
        self.state.get().named.keys().map(|(_, attempt)| attempt.clone()).collect()
    }
}

#[async_trait]
impl Mailer for PostModel {
    async fn send(&self, _: &str, mail: &Mail, receiver: &str) -> Result<(), MailError> {
        let takes = self.state.get().dice.millis(1, 400);
        tokio::time::sleep(takes).await;
        let mut state = self.state.get();
        let now = self.story.now();
        if now < state.away_until {
            let error = "connection refused".to_owned();
            return Err(MailError::ServerAway { of_server: error.clone(), error });
        }
        if receiver == REFUSED {
            return Err(MailError::Never("550 no such user".to_owned()));
        }
        let (busy, until) = state.busy;
        if receiver == RECEIVERS[busy] && now < until {
            return Err(MailError::Later("450 mailbox busy".to_owned()));
        }
        let (narrow, until) = state.narrow;
        let is_large = mail.text.lines().count() > FEW;
        if receiver == RECEIVERS[narrow] && now < until && is_large {
            return Err(MailError::TooLarge("552 too large".to_owned()));
        }
        if mail.kind == NoticeKind::OrderFailed {
            for named in mail.text.lines() {
                let key = (receiver.to_owned(), named.to_owned());
                state.named.entry(key).or_default().insert(mail.message_id.clone());
            }
        }
        for news in mail.text.lines().filter_map(|line| News::of(mail.kind, line)) {
            let key = (receiver.to_owned(), news);
            state.news.entry(key).or_default().insert(mail.message_id.clone());
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
        let line = |notice: &NoticeDetail| match (&notice.order_id, &notice.trouble) {
            (Some(order_id), _) => attempt_name(&notice.shop, order_id, notice.attempt),
            (None, Some(trouble)) => News::line(notice.erp.as_deref(), trouble),
            (None, None) => notice.erp.clone().unwrap_or_default(),
        };
        Mail {
            kind,
            sender: "shop@example.com".to_owned(),
            receivers: administrators(),
            subject: kind.as_str().to_owned(),
            text: notices.iter().map(line).collect::<Vec<_>>().join("\n"),
            html: String::new(),
            attachment: None,
            message_id: format!("<{:016x}@example.com>", hasher.finish()),
            in_reply_to: None,
            list_id: None,
        }
    }

    fn fits(&self, _: &str, mail: &Mail) -> bool {
        mail.text.lines().count() <= MAX_NAMED
    }

    fn digest_rule(&self, _: &str) -> DigestRule {
        self.digest
    }

    fn keeps_only(&self, _: &str) -> bool {
        false
    }
}

/// What a mail said of an ERP or of a type of failures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct News {
    pub kind: NoticeKind,
    /// The ERP or the fingerprint.
    pub subject: String,
    /// When its spell began, in milliseconds.
    pub began: i64,
    /// How often it began in its spell.
    pub times: u32,
}

impl News {
    fn line(erp: Option<&str>, trouble: &Trouble) -> String {
        let subject = erp.or(trouble.fingerprint.as_deref()).unwrap_or_default();
        format!("{subject} since {} times {}", trouble.began_at.as_millisecond(), trouble.times)
    }

    fn of(kind: NoticeKind, line: &str) -> Option<Self> {
        let (subject, rest) = line.split_once(" since ")?;
        let (began, times) = rest.split_once(" times ")?;
        let (began, times) = (began.parse().ok()?, times.parse().ok()?);
        Some(Self { kind, subject: subject.to_owned(), began, times })
    }
}

/// How a mail names an attempt.
pub fn attempt_name(shop: &str, order_id: &str, attempt: u32) -> String {
    format!("{shop}/{order_id}#{attempt}")
}

//! A mail server that takes, refuses or is away, and keeps what it took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use order_relay::domain::notice::NoticeKind;
use order_relay::ports::mail::{Mail, MailError, Mailer};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Service {
    Takes,
    Away,
    Refuses,
}

pub struct FakePost {
    service: Mutex<Service>,
    taken: Mutex<Vec<Mail>>,
    attempts: Mutex<u32>,
}

fn open<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakePost {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            service: Mutex::new(Service::Takes),
            taken: Mutex::default(),
            attempts: Mutex::default(),
        })
    }

    pub fn is(&self, service: Service) {
        *open(&self.service) = service;
    }

    /// Mails that were taken, oldest first.
    pub fn mails(&self) -> Vec<Mail> {
        open(&self.taken).clone()
    }

    /// Their subjects.
    pub fn subjects(&self) -> Vec<String> {
        self.mails().into_iter().map(|mail| mail.subject).collect()
    }

    /// Mails of one kind.
    pub fn of(&self, kind: NoticeKind) -> Vec<Mail> {
        self.mails().into_iter().filter(|mail| mail.kind == kind).collect()
    }

    pub fn attempts(&self) -> u32 {
        *open(&self.attempts)
    }
}

#[async_trait]
impl Mailer for FakePost {
    async fn send(&self, _: &str, mail: &Mail) -> Result<(), MailError> {
        *open(&self.attempts) += 1;
        match *open(&self.service) {
            Service::Takes => open(&self.taken).push(mail.clone()),
            Service::Away => return Err(MailError::Later("connection refused".to_owned())),
            Service::Refuses => return Err(MailError::Never("550 no such user".to_owned())),
        }
        Ok(())
    }

    fn send_budget(&self) -> Duration {
        Duration::from_secs(10)
    }
}

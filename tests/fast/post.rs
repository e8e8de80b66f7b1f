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
    /// Refuses this receiver for good.
    RefusesOnly(&'static str),
    /// Puts off every mail to this receiver.
    IsBusyFor(&'static str),
    /// Refuses mails of more than so many bytes to this receiver.
    TakesSmall(&'static str, usize),
}

pub struct FakePost {
    service: Mutex<Service>,
    taken: Mutex<Vec<Mail>>,
    receivers: Mutex<Vec<String>>,
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
            receivers: Mutex::default(),
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

    /// Who got them, in the same order.
    pub fn receivers(&self) -> Vec<String> {
        open(&self.receivers).clone()
    }

    pub fn attempts(&self) -> u32 {
        *open(&self.attempts)
    }
}

#[async_trait]
impl Mailer for FakePost {
    async fn send(&self, _: &str, mail: &Mail, receiver: &str) -> Result<(), MailError> {
        *open(&self.attempts) += 1;
        let gone = || MailError::Never("550 no such user".to_owned());
        match *open(&self.service) {
            Service::Away => {
                let error = "connection refused".to_owned();
                return Err(MailError::ServerAway { of_server: error.clone(), error });
            }
            Service::Refuses => return Err(gone()),
            Service::RefusesOnly(one) if receiver == one => return Err(gone()),
            Service::IsBusyFor(one) if receiver == one => {
                return Err(MailError::Later(format!("450 {one} is busy")));
            }
            Service::TakesSmall(one, most) if receiver == one && mail.bytes() > most => {
                return Err(MailError::TooLarge("552 too large".to_owned()));
            }
            _ => {}
        }
        open(&self.taken).push(mail.clone());
        open(&self.receivers).push(receiver.to_owned());
        Ok(())
    }

    fn send_budget(&self) -> Duration {
        Duration::from_secs(10)
    }
}

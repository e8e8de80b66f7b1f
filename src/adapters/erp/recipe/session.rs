//! Sessions with an ERP: begun once, used by all requests, begun anew once when the ERP ends one.
//!
//! A caller that needs a session while another one begins it waits for it. A refused login is not
//! repeated: until [`LOGIN_REST`] has passed everybody gets the same refusal without a request, so
//! that an ERP that counts wrong passwords never sees a series of ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use minijinja::value::Value;
use reqwest::header::{COOKIE, HeaderName, HeaderValue};

use crate::domain::failure::{ErrorClass, Failure};
use crate::ports::clock::Stopwatch;

use super::reply::Read;

/// How long a refused login is not repeated.
pub const LOGIN_REST: Duration = Duration::from_secs(30);
/// Most cookies of one session.
const MAX_COOKIES: usize = 100;

/// A session that is used.
pub struct Session {
    /// `session.*` in templates.
    pub values: Value,
    /// Headers of every request.
    pub attach: Vec<(HeaderName, HeaderValue)>,
    /// Values that must not be stored with any exchange.
    pub secrets: Vec<String>,
    /// How long it is used.
    pub lives: Option<Duration>,
    /// Cookies, if they are used.
    pub cookies: Option<Cookies>,
}

/// Cookies of a session, whatever their names.
#[derive(Default)]
pub struct Cookies(Mutex<BTreeMap<String, String>>);

impl Cookies {
    /// Keeps those that `reply` sets.
    pub fn keep(&self, reply: &Read) {
        let mut cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for header in reply.headers("set-cookie") {
            let mut parts = header.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let ends = parts.any(|part| part.trim().eq_ignore_ascii_case("max-age=0"));
            if ends {
                cookies.remove(name.trim());
            } else if cookies.len() < MAX_COOKIES || cookies.contains_key(name.trim()) {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    fn header(&self) -> Option<HeaderValue> {
        let cookies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pairs: Vec<String> =
            cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let header = (!pairs.is_empty()).then(|| HeaderValue::from_str(&pairs.join("; ")).ok());
        header.flatten()
    }
}

impl Session {
    /// Headers that show who we are.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = self.attach.clone();
        let cookie = self.cookies.as_ref().and_then(Cookies::header);
        headers.extend(cookie.map(|cookie| (COOKIE, cookie)));
        headers
    }
}

/// A session and its number, to say which one is over.
#[derive(Clone)]
pub struct Numbered {
    pub session: Arc<Session>,
    pub number: u64,
    began: Stopwatch,
}

/// The session with one ERP.
#[derive(Default)]
pub struct Sessions {
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Numbered>,
    refused: Option<(Stopwatch, Failure)>,
    begun: u64,
}

impl Sessions {
    /// The session in use; `over` is one that the ERP does not take any more. Begins one with
    /// `begin` when there is none.
    pub async fn get<F>(
        &self,
        over: Option<u64>,
        begin: impl FnOnce() -> F,
    ) -> Result<Numbered, Failure>
    where
        F: Future<Output = Result<Session, Failure>>,
    {
        let mut state = self.state.lock().await;
        if let Some(live) = &state.live
            && Some(live.number) != over
            && live.session.lives.is_none_or(|lives| live.began.elapsed() < lives)
        {
            return Ok(live.clone());
        }
        if let Some((since, failure)) = &state.refused
            && since.elapsed() < LOGIN_REST
        {
            return Err(failure.clone());
        }
        state.live = None;
        match begin().await {
            Ok(session) => {
                state.begun += 1;
                let number = state.begun;
                let live =
                    Numbered { session: Arc::new(session), number, began: Stopwatch::start() };
                state.live = Some(live.clone());
                state.refused = None;
                Ok(live)
            }
            Err(failure) => {
                if failure.class == ErrorClass::Unauthorized {
                    state.refused = Some((Stopwatch::start(), failure.clone()));
                }
                Err(failure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::domain::failure::Stage;

    fn session() -> Session {
        Session {
            values: Value::UNDEFINED,
            attach: Vec::new(),
            secrets: Vec::new(),
            lives: None,
            cookies: Some(Cookies::default()),
        }
    }

    #[test]
    fn all_cookies_come_back_whatever_their_names() {
        let cookies = Cookies::default();
        let set = [("set-cookie", "SAP_SESSION=a=b; path=/; HttpOnly"), ("set-cookie", "x=1")];
        cookies.keep(&Read::new(200, &set, ""));
        assert_eq!(cookies.header().unwrap(), "SAP_SESSION=a=b; x=1");
        cookies.keep(&Read::new(200, &[("set-cookie", "x=; Max-Age=0")], ""));
        assert_eq!(cookies.header().unwrap(), "SAP_SESSION=a=b");
    }

    #[tokio::test]
    async fn a_session_is_begun_once_and_a_refused_login_is_not_repeated() {
        let (sessions, logins) = (Sessions::default(), AtomicU32::new(0));
        let begin = || async {
            logins.fetch_add(1, Ordering::Relaxed);
            Ok(session())
        };
        let first = sessions.get(None, begin).await.unwrap();
        let second = sessions.get(None, begin).await.unwrap();
        assert_eq!((first.number, second.number, logins.load(Ordering::Relaxed)), (1, 1, 1));
        let refuse = || async {
            logins.fetch_add(1, Ordering::Relaxed);
            Err(Failure::new(ErrorClass::Unauthorized, "login_refused", "no", Stage::Before))
        };
        assert!(sessions.get(Some(1), refuse).await.is_err());
        assert!(sessions.get(Some(1), refuse).await.is_err());
        assert_eq!(logins.load(Ordering::Relaxed), 2);
    }
}

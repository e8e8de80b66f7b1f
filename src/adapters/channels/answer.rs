//! What the answer of a receiver means, and its text without anything secret.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::domain::channel::ChannelTarget;
use crate::domain::text::one_line;
use crate::ports::channels::ChannelError;

/// Shortest piece of a secret that is looked for in a text.
const MIN_SECRET: usize = 6;
const MAX_TOLD: usize = 300;

/// An answer, as far as it matters.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    pub retry_after: Option<Duration>,
    /// The beginning of the body.
    pub text: String,
}

/// What follows from an answer. No redirect is followed: it could lead anywhere, and would take the secrets along.
pub fn judge(answer: &Answer, target: &ChannelTarget) -> Result<(), ChannelError> {
    let status = answer.status;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said = match answer.text.trim() {
        "" => format!("it answers {status}"),
        text => format!("it answers {status}: {text}"),
    };
    let error = without_secrets(&said, target);
    Err(match status {
        300..400 => {
            let host = answer.location.as_deref().and_then(host_of);
            let to = host.map(|host| format!(" to {host}")).unwrap_or_default();
            let error = format!(
                "it answers {status}, a redirect{to}, which is not followed: set url to the final address"
            );
            ChannelError::Never(without_secrets(&error, target))
        }
        413 => ChannelError::TooLarge(error),
        429 => ChannelError::Away { error, retry_after: answer.retry_after },
        503 if answer.retry_after.is_some() => {
            ChannelError::Away { error, retry_after: answer.retry_after }
        }
        408 | 409 | 421 | 425 => ChannelError::Later(error),
        400..500 => ChannelError::Never(error),
        _ => ChannelError::Later(error),
    })
}

fn host_of(location: &str) -> Option<String> {
    let url = reqwest::Url::parse(location).ok()?;
    Some(one_line(url.host_str()?, 100))
}

/// A text on one line, without the secrets of the channel: a receiver may repeat what it got.
pub fn without_secrets(text: &str, target: &ChannelTarget) -> String {
    let mut text = one_line(text, MAX_TOLD);
    for secret in secrets(target) {
        if text.contains(&secret) {
            text = text.replace(&secret, "***");
        }
    }
    text
}

/// Everything that must not be shown, the longest first.
fn secrets(target: &ChannelTarget) -> Vec<String> {
    let expose = |secret: &SecretString| secret.expose_secret().to_owned();
    let mut all: Vec<String> = [&target.key, &target.authorization]
        .into_iter()
        .flatten()
        .chain(&target.secrets)
        .map(expose)
        .collect();
    let words: Vec<String> = target
        .authorization
        .iter()
        .flat_map(|value| value.expose_secret().split(' ').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.extend(words);
    all.push(target.url.expose_secret().to_owned());
    if let Ok(url) = reqwest::Url::parse(target.url.expose_secret()) {
        all.push(url.to_string());
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        all.extend(parts);
        all.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        all.extend(url.query().map(str::to_owned));
        all.extend(url.password().map(str::to_owned));
        all.push(url.path().to_owned());
    }
    all.retain(|secret| secret.len() >= MIN_SECRET);
    all.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    all
}

#[cfg(test)]
mod tests {
    use super::super::samples::channel;
    use super::*;
    use crate::domain::channel::ChannelType;

    fn judged(status: u16, text: &str) -> Result<(), ChannelError> {
        let retry_after = Some(Duration::from_secs(7)).filter(|_| status == 429);
        let location = Some("https://elsewhere.example/x".to_owned());
        let answer = Answer { status, location, retry_after, text: text.to_owned() };
        judge(&answer, &channel(ChannelType::Webhook).target)
    }

    #[test]
    fn an_answer_says_whether_to_send_again() {
        use ChannelError::{Away, Later, Never, TooLarge};
        for status in [200, 201, 202, 204] {
            assert_eq!(judged(status, ""), Ok(()));
        }
        for status in [408, 425, 500, 502, 503, 504, 599] {
            assert!(matches!(judged(status, ""), Err(Later(_))), "{status}");
        }
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 410, 422] {
            assert!(matches!(judged(status, ""), Err(Never(_))), "{status}");
        }
        assert!(matches!(judged(413, ""), Err(TooLarge(_))));
        let waits = Some(Duration::from_secs(7));
        assert!(matches!(judged(429, ""), Err(Away { retry_after, .. }) if retry_after == waits));
        assert!(
            judged(302, "").unwrap_err().to_string().contains("a redirect to elsewhere.example")
        );
    }

    #[test]
    fn what_a_receiver_repeats_of_our_secrets_is_not_shown() {
        let told = judged(404, "no hook\u{1b}[31m at /services/T0/s3cret-part here")
            .unwrap_err()
            .to_string();
        assert!(!told.contains("s3cret-part") && !told.contains('\u{1b}'), "{told}");
        assert!(told.starts_with("it answers 404: no hook"), "{told}");
    }
}

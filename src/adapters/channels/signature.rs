//! Signatures of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`
//! (<https://www.standardwebhooks.com>, "Signature scheme").

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::webhook_secret::signing_key;

/// The header `webhook-signature`: one signature for each secret, so that a receiver can change its own one first.
/// `None`: there is no secret.
pub fn signatures(
    secrets: &[SecretString],
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Option<String> {
    let keys = secrets.iter().filter_map(|secret| signing_key(secret.expose_secret()));
    let all: Vec<String> = keys.map(|key| signature(&key, id, timestamp, body)).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

fn signature(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification and the libraries of Standard Webhooks share.
    #[test]
    fn the_documented_example_has_the_documented_signature() {
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signatures(std::slice::from_ref(&secret), id, 1_614_265_330, body);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed.as_deref(), Some(expected));
        let two = [SecretString::from("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), secret];
        let signed = signatures(&two, id, 1_614_265_330, body).unwrap();
        assert_eq!(signed.split(' ').count(), 2);
        assert!(signed.ends_with(expected), "{signed}");
        assert_eq!(signatures(&[], id, 1_614_265_330, body), None);
    }
}

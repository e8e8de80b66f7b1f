//! Secrets of Standard Webhooks: `whsec_` and 24 to 64 random bytes in base64
//! (<https://www.standardwebhooks.com>, "Signature scheme").

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const PREFIX: &str = "whsec_";

/// The key of a secret; `None`: it is none.
pub fn signing_key(secret: &str) -> Option<Vec<u8>> {
    let text = secret.strip_prefix(PREFIX).unwrap_or(secret);
    let key = BASE64_STANDARD.decode(text).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

/// A secret of this key.
pub fn webhook_secret(key: &[u8]) -> String {
    format!("{PREFIX}{}", BASE64_STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_24_to_64_bytes_in_base64() {
        let secret = webhook_secret(&[7; 32]);
        assert_eq!(signing_key(&secret).unwrap(), [7; 32]);
        assert_eq!(signing_key(secret.trim_start_matches(PREFIX)).unwrap(), [7; 32]);
        for bad in ["", "whsec_", "whsec_short", "not base64!", &webhook_secret(&[7; 23])] {
            assert!(signing_key(bad).is_none(), "{bad}");
        }
    }
}

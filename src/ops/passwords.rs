//! Hashing passwords (argon2id, RFC 9106), a few at a time: each takes 19 MiB and tens of
//! milliseconds of a core, and logins must not be able to use up both.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Concurrent hashes in one process.
const AT_ONCE: usize = 2;
/// How long a hash may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// A hash that matches no password, with the parameters of all others: an unknown name takes as
/// long as a wrong password.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5aGFzdGhpc29uZQ$\
    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes passwords.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
}

/// Too many are being hashed; this one got no turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many logins at once; try again in a moment")]
pub struct Busy;

impl Default for Passwords {
    fn default() -> Self {
        Self { permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Passwords {
    /// The hash of a password, with a fresh salt, as a PHC string.
    pub async fn hash(&self, password: &str, salt: [u8; 16]) -> Result<String, Busy> {
        let password = password.to_owned();
        self.run(move || {
            let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
            hash.expect("any bytes can be hashed with the usual parameters").to_string()
        })
        .await
    }

    /// Whether `password` is the one of `hash`; as slow without a hash.
    pub async fn fits(&self, password: &str, hash: Option<String>) -> Result<bool, Busy> {
        let password = password.to_owned();
        self.run(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODY.to_owned());
            let fits = PasswordHash::new(&hash).is_ok_and(|hash| {
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            });
            fits && known
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Busy> {
        let turn = self.permits.clone().acquire_owned();
        let permit = tokio::time::timeout(PATIENCE, turn).await.map_err(|_| Busy)?;
        let permit = permit.map_err(|_| Busy)?;
        let done = spawn_blocking(move || {
            // Held until the work ends, even if the caller is gone.
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_and_no_other_does() {
        let passwords = Passwords::default();
        let hash = passwords.hash("correct horse battery", [7; 16]).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(passwords.fits("correct horse battery", Some(hash.clone())).await.unwrap());
        assert!(!passwords.fits("correct horse batterz", Some(hash.clone())).await.unwrap());
        assert!(!passwords.fits("correct horse battery", None).await.unwrap());
        assert!(!passwords.fits("", Some(String::new())).await.unwrap());
        let other = passwords.hash("correct horse battery", [8; 16]).await.unwrap();
        assert_ne!(hash, other, "the salt counts");
    }

    #[tokio::test]
    async fn an_unknown_name_takes_the_work_of_a_wrong_password() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let real = Passwords::default().hash("correct horse battery", [7; 16]).await.unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(nobody.algorithm, real.algorithm);
        assert_eq!(nobody.params.to_string(), real.params.to_string());
        assert_eq!(nobody.hash.unwrap().len(), real.hash.unwrap().len());
    }
}

//! Hashes of what may not stand in a table as it is.

use sha2::{Digest, Sha256};

/// For 256 random bits one round of SHA-256 is as safe as a slow hash.
pub fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Names, passwords, and how long a login has to wait after failures.

use std::time::Duration;

/// Minimum length of a password (NIST SP 800-63B requires 8 in addition to a second factor; there
/// is none here).
pub const MIN_PASSWORD: usize = 12;
/// Maximum length of a password: hashing must stay cheap.
pub const MAX_PASSWORD: usize = 1_000;
/// Failures of one name after which it has to wait.
pub const FREE_BY_NAME: u32 = 5;
/// Failures from one address after which it has to wait; more than for a name, because an office
/// shares one address.
pub const FREE_BY_ADDRESS: u32 = 20;
/// Failures count for that long after the last one.
pub const REMEMBERED: Duration = Duration::from_hours(1);

const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_mins(15);
const LONGEST_SLOWED: Duration = Duration::from_secs(3);
const MAX_NAME: usize = 100;

/// How long the next login has to wait after that many failures, the first `free` of which cost
/// nothing; it doubles with each one up to 15 minutes.
pub fn wait_after(failures: u32, free: u32) -> Option<Duration> {
    let over = failures.checked_sub(free)?;
    Some(FIRST_WAIT.saturating_mul(1 << over.min(10)).min(LONGEST_WAIT))
}

/// How much slower a login is when its name failed so often, from whatever addresses: guessing from many of them gains
/// little, and whoever knows the password gets in all the same.
pub fn slowed_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_BY_ADDRESS) {
        None => Duration::ZERO,
        Some(over) => Duration::from_millis(u64::from(over) * 100).min(LONGEST_SLOWED),
    }
}

/// A user's name as it is stored: lower case, so that one person has one spelling.
pub fn user_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let good = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(good) {
        return Ok(name);
    }
    Err(format!("a user's name is 1 to {MAX_NAME} of A-Z a-z 0-9 . _ @ + -"))
}

/// Refuses passwords that are too easy to guess or too long to hash.
pub fn check_password(name: &str, password: &str) -> Result<(), String> {
    let length = password.chars().count();
    if length < MIN_PASSWORD {
        return Err(format!("a password has at least {MIN_PASSWORD} characters"));
    }
    if length > MAX_PASSWORD {
        return Err(format!("a password has at most {MAX_PASSWORD} characters"));
    }
    let first = password.chars().next();
    let repeats = password.chars().all(|c| Some(c) == first);
    if repeats || password.to_lowercase().replace(name, "").chars().count() < MIN_PASSWORD / 2 {
        return Err("this password is too easy to guess".to_owned());
    }
    Ok(())
}

/// A path within this service that a login may lead back to; anything else is `/`. Browsers read `\`
/// as `/`, and `//host` as another host.
pub fn return_path(text: &str) -> &str {
    let second = text.as_bytes().get(1);
    let local = text.starts_with('/') && !matches!(second, Some(b'/' | b'\\'));
    let plain = text.len() <= 2_000 && text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    let is_login = text.starts_with("/login") || text.starts_with("/logout");
    if local && plain && !is_login { text } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_begins_after_the_free_failures_and_grows_to_a_quarter_of_an_hour() {
        assert_eq!(wait_after(4, 5), None);
        assert_eq!(wait_after(5, 5), Some(Duration::from_secs(5)));
        assert_eq!(wait_after(6, 5), Some(Duration::from_secs(10)));
        assert_eq!(wait_after(u32::MAX, 5), Some(LONGEST_WAIT));
        let all: Vec<_> = (5..40).filter_map(|n| wait_after(n, 5)).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(user_name(" Erika@Example.com "), Ok("erika@example.com".to_owned()));
        for bad in ["", "a b", "a\nb", "ä", "a/b", &"x".repeat(101)] {
            assert!(user_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_neither_short_nor_endless_nor_the_name() {
        assert!(check_password("erika", "correct horse battery").is_ok());
        assert!(check_password("erika", "ünïcödé-pässwörd").is_ok());
        for bad in ["short", "aaaaaaaaaaaaaaaa", "erikaerikaerika", &"ab".repeat(501)] {
            assert!(check_password("erika", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_login_leads_back_only_to_pages_of_ours() {
        for good in ["/", "/orders/de/1?x=%20", "/lost-orders?class=rejected"] {
            assert_eq!(return_path(good), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "/\tx",
            "/a\r\nSet-Cookie: x",
            "/login",
            "/logout",
            "evil",
        ] {
            assert_eq!(return_path(bad), "/", "{bad:?}");
        }
    }
}

//! What groups equal failures: class, code and the message with everything taken out that varies from
//! order to order (quoted parts, numbers, dates, addresses, identifiers).
//!
//! Stored with every failure and compared by equality only. Its shape is a promise to what is stored:
//! whoever changes it raises [`VERSION`], so that old groups stay beside new ones instead of mixing.

use sha2::{Digest, Sha256};

use crate::domain::failure::ErrorClass;

/// The rules below; a part of what is hashed.
const VERSION: u32 = 2;
/// Quotes that open and close differently; `'` is looked at separately.
const QUOTES: [(char, char); 7] =
    [('"', '"'), ('`', '`'), ('„', '“'), ('“', '”'), ('«', '»'), ('»', '«'), ('‹', '›')];

/// 16 hexadecimal characters, the same for failures that only differ in what they are about.
pub fn fingerprint(class: ErrorClass, code: &str, message: &str) -> String {
    let (code, shape) = (shape_of_code(code), shape(message));
    let digest = Sha256::digest(format!("{VERSION}\n{}\n{code}\n{shape}", class.as_str()));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A code says what happened, digits included; only a long number in it is an identifier.
fn shape_of_code(code: &str) -> String {
    let is_id = |part: &str| part.chars().filter(char::is_ascii_digit).count() >= 6;
    let parts: Vec<&str> =
        code.split(':').map(|part| if is_id(part) { "#" } else { part }).collect();
    parts.join(":")
}

/// A message without what varies.
fn shape(message: &str) -> String {
    let mut unquoted = String::with_capacity(message.len());
    let mut rest = message;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let inside = &rest[c.len_utf8()..];
        match quoted(c, before, inside) {
            Some(end) => {
                unquoted.push('*');
                rest = &inside[end..];
                before = '*';
            }
            None => {
                unquoted.push(c);
                rest = inside;
                before = c;
            }
        }
    }
    shape_of_words(&unquoted)
}

/// Where a quoted part that `open` begins ends in `inside`, its closing quote included.
fn quoted(open: char, before: char, inside: &str) -> Option<usize> {
    if matches!(open, '\'' | '‘' | '’') {
        // An apostrophe stands between letters: "l'article", "doesn't", "customers' orders".
        if before.is_alphanumeric() {
            return None;
        }
        let ends = |c: char| matches!(c, '\'' | '’');
        return inside.char_indices().filter(|(_, c)| ends(*c)).find_map(|(at, c)| {
            let end = at + c.len_utf8();
            let after = inside[end..].chars().next();
            after.is_none_or(|after| !after.is_alphanumeric()).then_some(end)
        });
    }
    let (_, close) = QUOTES.iter().find(|(own, _)| *own == open)?;
    // „so” and „so" are written, too.
    let ends = |c: char| c == *close || (open == '„' && matches!(c, '”' | '"'));
    inside.char_indices().find(|(_, c)| ends(*c)).map(|(at, c)| at + c.len_utf8())
}

/// Words in small letters; one that holds a digit or an `@` varies from order to order.
fn shape_of_words(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    let is_part = |c: char| c.is_alphanumeric() || "@._-/:#+".contains(c);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = match is_part(first) {
            true => rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let word = &rest[..end];
        if is_part(first) && varies(word) {
            if !shape.ends_with('#') {
                shape.push('#');
            }
        } else {
            shape.extend(word.chars().flat_map(char::to_lowercase));
        }
        rest = &rest[end..];
    }
    // "1, 2, 3" and "1,234.56": what stands only between numbers is a list, or one of them.
    for gap in ["#, #", "# #", "#,#"] {
        while shape.contains(gap) {
            shape = shape.replace(gap, "#");
        }
    }
    shape
}

/// Numbers, dates, times, identifiers (`SKU-9`, UUIDs, hexadecimal), mail and network addresses.
fn varies(word: &str) -> bool {
    word.contains(|c: char| c == '@' || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> String {
        fingerprint(ErrorClass::Rejected, "http_422", text)
    }

    #[test]
    fn what_a_failure_is_about_does_not_split_it() {
        for (a, b) in [
            ("product 'SKU-1' unknown at 12:30", "product 'SKU-99' unknown at 9:05"),
            ("Artikel „Lampe“ ist gesperrt", "Artikel „Stehlampe“ ist gesperrt"),
            ("article «Lampe» bloqué", "article «Abat-jour d'été» bloqué"),
            ("customer 17 is blocked", "customer 4711 is blocked"),
            ("product SKU-9 is unknown", "product A4711/B is unknown"),
            (
                "request 0d4f7e52-6d15-5d0b-9e0c-4f2a5a9b7c31 failed",
                "request a1b2c3d4-0000-5d0b-9e0c-4f2a5a9b7c99 failed",
            ),
            (
                "no answer from 10.0.0.17:5432",
                "no answer from [::1]:5432".replace("[::1]", "10.0.0.9").as_str(),
            ),
            ("due on 2026-11-26T10:00:00Z", "due on 2027-01-01"),
            ("mail to erika@example.com refused", "mail to k.o@shop.example refused"),
            ("lines 1, 2, 3 are wrong", "lines 4, 5 are wrong"),
            ("Der Kunde 'O'Neil' ist gesperrt", "Der Kunde 'Meier' ist gesperrt"),
        ] {
            assert_eq!(of(a), of(b), "{a} | {b}");
        }
    }

    #[test]
    fn different_causes_are_different_groups() {
        for (a, b) in [
            ("product unknown", "customer unknown"),
            ("l'article n'existe pas", "l'article n'est pas en vente"),
            ("it doesn't exist, and isn't sold", "it doesn't matter, and isn't sold"),
            ("the customer's account is closed", "the customer's limit is reached"),
            ("the customers' list is empty", "the customers' file is empty"),
        ] {
            assert_ne!(of(a), of(b), "{a} | {b}");
        }
        let by = |class, code| fingerprint(class, code, "x");
        assert_ne!(by(ErrorClass::Rejected, "http_422"), by(ErrorClass::Unavailable, "http_422"));
        assert_ne!(by(ErrorClass::Rejected, "http_422"), by(ErrorClass::Rejected, "http_409"));
        assert_ne!(
            by(ErrorClass::Rejected, "http_422:A_B"),
            by(ErrorClass::Rejected, "http_422:C")
        );
    }

    proptest! {
        #[test]
        fn every_text_has_one(text in any::<String>()) {
            prop_assert_eq!(of(&text).len(), 16);
        }
    }
}

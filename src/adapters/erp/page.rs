//! Pages for people where an answer was expected: gateways, logins, error pages, stack traces.
//!
//! The begin of the text decides, not its `Content-Type`: PHP sends JSON as HTML, and a web server
//! its error page as JSON.

/// How much of a page is looked at, in bytes.
const SEEN: usize = 32 * 1024;
/// Words that only a login page has in its title or its address.
const LOGIN_WORDS: [&str; 14] = [
    "login",
    "log-in",
    "log_in",
    "signin",
    "sign-in",
    "sign_in",
    "logon",
    "sso",
    "saml",
    "oauth",
    "oauth2",
    "authorize",
    "authenticate",
    "anmelden",
];
const LOGIN_TITLES: [&str; 11] = [
    "sign in",
    "signin",
    "log in",
    "login",
    "logon",
    "log on",
    "anmelde",
    "anmeldung",
    "einloggen",
    "connexion",
    "iniciar ses",
];

/// Whether `text` is a page, or what a script printed instead of an answer.
pub fn is_page(text: &str) -> bool {
    let begin = head(text).trim_start();
    let begin = begin.get(..begin.len().min(200)).unwrap_or(begin).to_ascii_lowercase();
    let tag = |name: &str| begin.starts_with(&format!("<{name}"));
    let tags =
        ["!doctype html", "html", "head", "body", "br", "b>", "p>", "h1", "h2", "pre", "div"];
    tags.iter().any(|name| tag(name))
        || (tag("!--") && head(text).to_ascii_lowercase().contains("<html"))
        || (tag("?xml") && begin.contains("<html"))
}

/// Whether a page asks somebody to log in.
pub fn is_login_page(text: &str) -> bool {
    let page = head(text).to_lowercase();
    let has_password = ["type=\"password\"", "type='password'", "type=password"];
    let title = page.split_once("<title").and_then(|(_, rest)| rest.split_once('>'));
    let title = title.map_or("", |(_, rest)| rest.split('<').next().unwrap_or_default());
    is_page(text)
        && (has_password.iter().any(|input| page.contains(input))
            || LOGIN_TITLES.iter().any(|word| title.contains(word)))
}

/// Whether a redirect leads to a login.
pub fn is_login_address(location: &str) -> bool {
    let address = location.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    address.split(['/', '.', ':']).any(|part| LOGIN_WORDS.contains(&part))
}

/// The title of a page, for people.
pub fn title(text: &str) -> Option<&str> {
    let page = head(text);
    let begin = page.to_ascii_lowercase().find("<title")?;
    let title = page[begin..].split_once('>')?.1.split('<').next()?.trim();
    (!title.is_empty()).then_some(title)
}

fn head(text: &str) -> &str {
    let mut end = text.len().min(SEEN);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_known_by_how_they_begin() {
        for page in [
            "<!DOCTYPE html><html></html>",
            "\n <HTML lang='de'>",
            "<br />\n<b>Fatal error</b>: Uncaught PDOException",
            "<!-- maintenance --><html>",
            "<?xml version='1.0'?><!DOCTYPE html><html xmlns='x'>",
            "<h1>503</h1>",
        ] {
            assert!(is_page(page), "{page}");
        }
        for answer in ["{}", "", "<s:Envelope>", "<?xml version='1.0'?><a/>", "text <b>x</b>", "ü"]
        {
            assert!(!is_page(answer), "{answer}");
        }
    }

    #[test]
    fn a_login_is_known_by_its_form_its_title_or_its_address() {
        assert!(is_login_page("<html><title>Sign in</title></html>"));
        assert!(is_login_page("<html><title>Shop</title><input name=p type=\"password\"></html>"));
        assert!(is_login_page("<html><title>Odoo - Anmeldung</title></html>"));
        assert!(!is_login_page("<html><title>502 Bad Gateway</title></html>"));
        for address in
            ["/login?next=/orders", "https://sso.example/x", "/web/login", "/oauth2/start"]
        {
            assert!(is_login_address(address), "{address}");
        }
        for address in ["/orders/8003", "https://erp.example/v2/orders", "/blogin"] {
            assert!(!is_login_address(address), "{address}");
        }
        assert_eq!(title("<html><TITLE>Ü 1</TITLE>"), Some("Ü 1"));
    }
}

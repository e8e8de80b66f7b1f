//! Access to the web port: the origin of a request, its cookies, and the refusal of cross-site
//! requests.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, header};

/// The cookie of a session.
pub const SESSION: &str = "order_relay_session";
/// The cookie of a login that continues at the identity provider.
pub const LOGIN: &str = "order_relay_login";
const MAX_ADDRESS: usize = 60;

/// How the web port is reached.
#[derive(Debug, Clone)]
pub struct Access {
    origin: String,
    secure: bool,
    proxies: usize,
}

impl Access {
    /// From `web.public_url` and `web.proxies`.
    pub fn new(public_url: &str, proxies: usize) -> Self {
        let (scheme, rest) = public_url.split_once("://").unwrap_or(("http", public_url));
        let host = rest.split('/').next().unwrap_or(rest);
        Self {
            origin: format!("{scheme}://{host}").to_ascii_lowercase(),
            secure: scheme.eq_ignore_ascii_case("https"),
            proxies,
        }
    }

    /// A `Set-Cookie` that lasts for so many seconds; 0 ends it. The prefix `__Host-` (RFC 6265bis)
    /// keeps other hosts of the domain from setting one.
    pub fn set_cookie(&self, name: &str, value: &str, seconds: u64) -> HeaderValue {
        let (prefix, secure) = if self.secure { ("__Host-", "; Secure") } else { ("", "") };
        let cookie = format!(
            "{prefix}{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
        );
        HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
    }

    /// The value of a cookie of ours.
    pub fn cookie<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let prefix = if self.secure { "__Host-" } else { "" };
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.split_once('='));
        let mut values = pairs
            .filter(|(key, _)| key.trim().strip_prefix(prefix).is_some_and(|rest| rest == name));
        values.next().map(|(_, value)| value.trim())
    }

    /// The client address of a request. `X-Forwarded-For` is trusted as far as our own proxies
    /// wrote it: each appends the address that it saw.
    pub fn address(&self, parts: &Parts) -> Option<String> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map(|ConnectInfo(peer)| peer.ip().to_string());
        if self.proxies == 0 {
            return peer;
        }
        let lines = parts.headers.get_all("x-forwarded-for").iter();
        let all: Vec<&str> =
            lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).collect();
        let seen = all.len().checked_sub(self.proxies).and_then(|at| all.get(at));
        let seen = seen.map(|text| text.trim()).filter(|text| is_address(text));
        seen.map(str::to_owned).or(peer)
    }

    /// Whether a browser sends this for another site. Other clients send neither header, and have
    /// no cookie of a user.
    pub fn is_of_another_site(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if let Some(site) = text("sec-fetch-site") {
            return !matches!(site, "same-origin" | "none");
        }
        let Some(origin) = text("origin") else { return false };
        let origin = origin.to_ascii_lowercase();
        let host = text("host").map(str::to_ascii_lowercase);
        let is_host = match (origin.split_once("://"), host) {
            (Some((_, of_origin)), Some(host)) => of_origin == host,
            _ => false,
        };
        origin != self.origin && !is_host
    }
}

fn is_address(text: &str) -> bool {
    (1..=MAX_ADDRESS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_hexdigit() || b".:[]%".contains(&b))
}

/// Whether a method only reads.
pub fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The token of an `Authorization: Bearer`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |text: &str| HeaderValue::from_str(text).unwrap();
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), value(v))).collect()
    }

    #[test]
    fn another_site_is_known_by_what_the_browser_says() {
        let access = Access::new("https://Relay.example.com/orders", 0);
        let host = ("host", "10.0.0.1:8080");
        for (pairs, is_other) in [
            (vec![host], false),
            (vec![host, ("origin", "https://relay.example.com")], false),
            (vec![host, ("origin", "http://10.0.0.1:8080")], false),
            (vec![host, ("origin", "https://relay.example.com.evil.example")], true),
            (vec![host, ("origin", "http://relay.example.com")], true),
            (vec![host, ("origin", "null")], true),
            (vec![host, ("origin", "http://10.0.0.1")], true),
            (vec![host, ("sec-fetch-site", "same-origin")], false),
            (vec![host, ("sec-fetch-site", "none")], false),
            (vec![host, ("sec-fetch-site", "same-site")], true),
            (
                vec![
                    host,
                    ("sec-fetch-site", "cross-site"),
                    ("origin", "https://relay.example.com"),
                ],
                true,
            ),
        ] {
            assert_eq!(access.is_of_another_site(&headers(&pairs)), is_other, "{pairs:?}");
        }
    }

    #[test]
    fn cookies_are_ours_only_and_secure_behind_tls() {
        let (plain, tls) = (Access::new("http://localhost:8080", 0), Access::new("https://x", 0));
        let sent =
            headers(&[("cookie", "a=1; order_relay_session=p; __Host-order_relay_session=s")]);
        assert_eq!(plain.cookie(&sent, SESSION), Some("p"));
        assert_eq!(tls.cookie(&sent, SESSION), Some("s"));
        assert_eq!(
            tls.set_cookie(SESSION, "t", 60),
            "__Host-order_relay_session=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            plain.set_cookie(SESSION, "t", 60),
            "order_relay_session=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn only_what_our_own_proxies_wrote_is_believed() {
        let parts = |value: &str| {
            let peer: SocketAddr = "10.0.0.9:4711".parse().unwrap();
            let request = Request::builder().header("x-forwarded-for", value);
            let request = request.extension(ConnectInfo(peer)).body(()).unwrap();
            request.into_parts().0
        };
        let address =
            |proxies, value| Access::new("https://x", proxies).address(&parts(value)).unwrap();
        assert_eq!(address(0, "1.2.3.4"), "10.0.0.9");
        assert_eq!(address(1, "6.6.6.6, 1.2.3.4"), "1.2.3.4");
        assert_eq!(address(2, "6.6.6.6, 1.2.3.4, 10.0.0.2"), "1.2.3.4");
        assert_eq!(address(1, "<script>"), "10.0.0.9");
        assert_eq!(address(3, "1.2.3.4"), "10.0.0.9");
    }
}

//! `web.*`: where the pages and the API are reached.

use std::net::SocketAddr;

use super::reader::Reader;

/// `web.*`
#[derive(Debug, Clone)]
pub struct WebSettings {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Its public address, without a slash at the end.
    pub public_url: String,
    /// The number of our own proxies in front.
    pub proxies: usize,
}

impl WebSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let listen = r.checked_text("web.listen", |text| {
            text.parse::<SocketAddr>().map(|_| ()).map_err(|_| {
                format!("`{text}`: expected an address and a port such as 127.0.0.1:8080")
            })
        });
        let listen: SocketAddr = listen.parse().expect("it was checked");
        let public_url = r.checked_text("web.public_url", |text| {
            if text.is_empty() || text.starts_with("http://") || text.starts_with("https://") {
                Ok(())
            } else {
                Err(format!("`{text}`: expected an address such as https://orders.example.com"))
            }
        });
        let public_url = match public_url.trim_end_matches('/') {
            "" => format!("http://{listen}"),
            url => url.to_owned(),
        };
        Self { listen, public_url, proxies: r.number("web.proxies", 0..=10) }
    }
}

//! `web.*` and `metrics.*`: where the pages, the API and the metrics are reached.

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
    /// Where health and metrics of this process are served apart from the pages.
    pub metrics: Option<SocketAddr>,
}

impl WebSettings {
    pub(super) fn read(r: &mut Reader) -> Self {
        let listen = r.checked_text("web.listen", is_place);
        let metrics = r.checked_text("metrics.listen", |text| match text {
            "" => Ok(()),
            text => is_place(text),
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
        let proxies = r.number("web.proxies", 0..=10);
        Self { listen, public_url, proxies, metrics: metrics.parse().ok() }
    }
}

fn is_place(text: &str) -> Result<(), String> {
    text.parse::<SocketAddr>()
        .map(|_| ())
        .map_err(|_| format!("`{text}`: expected an address and a port such as 127.0.0.1:8080"))
}

//! Where a channel may lead: only to the public internet, unless its settings allow other addresses.
//!
//! The check is made on the addresses that a name resolves to, and the connection goes to one of those: a name that
//! resolves to another address a moment later (DNS rebinding) gains nothing.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::domain::public_address::is_public;

/// An address that is not on the public internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateAddress {
    host: String,
    address: IpAddr,
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        let place = match host.trim_matches(['[', ']']) == address.to_string() {
            true => host.clone(),
            false => format!("{host} is {address}, which"),
        };
        write!(
            f,
            "{place} is not on the public internet: set allow_private = true if that is intended"
        )
    }
}

impl std::error::Error for PrivateAddress {}

/// Resolves names to addresses on the public internet only.
pub struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let public = public_only(&host, &found)?;
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Those of `found` that are public. A name with any other address is refused as a whole: nobody publishes such a one
/// by accident.
fn public_only(host: &str, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, PrivateAddress> {
    match found.iter().find(|address| !is_public(address.ip())) {
        Some(address) => Err(PrivateAddress { host: host.to_owned(), address: address.ip() }),
        None => Ok(found.to_vec()),
    }
}

/// Checks an address as far as that is possible without resolving its name: an IP address is used as it stands.
pub fn check(url: &Url) -> Result<(), PrivateAddress> {
    let host = url.host_str().unwrap_or_default();
    // Whatever way it was written, a URL shows an IPv4 address with dots, and IPv6 in brackets.
    let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() else { return Ok(()) };
    match is_public(address) {
        true => Ok(()),
        false => Err(PrivateAddress { host: host.to_owned(), address }),
    }
}

/// The private address that an error is about, if it is about one.
pub fn in_causes<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a PrivateAddress> {
    let mut source = Some(error);
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<PrivateAddress>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_inner_address_is_recognised() {
        for inner in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://017700000001/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data",
            "http://１２７.0.0.1/",
        ] {
            let told = check(&Url::parse(inner).unwrap()).unwrap_err().to_string();
            assert!(told.contains("not on the public internet"), "{inner}: {told}");
        }
        assert!(check(&Url::parse("https://1.1.1.1/hook").unwrap()).is_ok());
        assert!(check(&Url::parse("https://hooks.example.com/").unwrap()).is_ok());
    }

    #[test]
    fn a_name_with_one_inner_address_is_refused() {
        let found = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 0)).collect()
        };
        assert!(public_only("a.example", &found(&["1.1.1.1", "2606:4700::1"])).is_ok());
        let told = public_only("a.example", &found(&["1.1.1.1", "10.0.0.5"])).unwrap_err();
        assert!(told.to_string().starts_with("a.example is 10.0.0.5, which is not"), "{told}");
    }
}

//! Where outbound requests go, and which addresses no name may lead to.
//!
//! A grant names an origin. A name that resolves to this node or its link, where metadata services
//! live, is refused all the same, unless the grant names that address itself.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Scheme, host and port, with the port always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) scheme: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::of(&text.parse().ok()?)
    }

    pub(crate) fn of(uri: &http::Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let standard = if scheme == "https" { 443 } else { 80 };
        let host = uri.host()?.to_ascii_lowercase();
        Some(Self {
            scheme,
            host,
            port: uri.port_u16().unwrap_or(standard),
        })
    }

    /// What the host resolves to. An address stands for itself.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((self.bare_host(), self.port)).await?;
        Ok(found.collect())
    }

    /// Whether the host is an address, or this node by its usual name: then who granted it meant it.
    pub(crate) fn names_an_address(&self) -> bool {
        self.host == "localhost" || self.bare_host().parse::<IpAddr>().is_ok()
    }

    /// The first of the addresses behind the host that no grant by name reaches.
    pub(crate) fn forbidden(&self, addresses: &[SocketAddr]) -> Option<IpAddr> {
        if self.names_an_address() {
            return None;
        }
        addresses.iter().map(SocketAddr::ip).find(is_nearby_or_many)
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// This node, its link, or a group.
fn is_nearby_or_many(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || inner(v6).is_some_and(|v4| is_nearby_or_many(&IpAddr::V4(v4)))
        }
    }
}

/// The IPv4 address that an IPv6 one leads to: mapped or compatible (RFC 4291 §2.5.5), or through
/// the well-known prefix of a translator (RFC 6052 §2.1).
fn inner(v6: &Ipv6Addr) -> Option<Ipv4Addr> {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = v6.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_compare_with_their_ports() {
        let same = |a, b| Origin::parse(a) == Origin::parse(b);
        assert!(same(
            "https://API.example.org",
            "https://api.example.org:443"
        ));
        assert!(!same("https://api.example.org", "http://api.example.org"));
        assert!(!same("http://a:80", "http://a:81"));
        assert!(!same("http://a", "http://a.b"));
    }

    #[test]
    fn addresses_that_no_name_may_lead_to_are_known() {
        for own in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(is_nearby_or_many(&own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "64:ff9b::10.0.0.1"] {
            assert!(!is_nearby_or_many(&other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn a_grant_of_an_address_reaches_it_and_a_grant_of_a_name_does_not() {
        let own: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let forbidden = |text| Origin::parse(text).unwrap().forbidden(&[own]);
        assert_eq!(forbidden("http://sneaky.example.org"), Some(own.ip()));
        assert_eq!(forbidden("http://127.1"), Some(own.ip()));
        assert_eq!(forbidden("http://127.0.0.1"), None);
    }
}

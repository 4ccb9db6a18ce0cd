//! Outbound HTTP of guests: only to origins that the spec grants.
//!
//! A grant names an origin. A name that resolves to this node or its link, where metadata services
//! live, is refused all the same, unless the grant names that address itself.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use http::Request;
use http_body_util::BodyExt;
use mote_core::log::Level;
use mote_core::spec::FunctionSpec;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use super::stdio::CallLog;

/// The hooks of one store.
pub(super) struct Outbound {
    spec: Arc<FunctionSpec>,
    log: Arc<CallLog>,
}

impl Outbound {
    pub(super) fn new(spec: &Arc<FunctionSpec>, log: &Arc<CallLog>) -> Self {
        Self {
            spec: Arc::clone(spec),
            log: Arc::clone(log),
        }
    }

    fn granted(&self, origin: &Origin) -> bool {
        self.spec
            .allow
            .http
            .iter()
            .any(|grant| Origin::parse(grant).as_ref() == Some(origin))
    }
}

type Answer = Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
)>;

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _failure: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Answer> + Send> {
        let origin = Origin::of(request.uri());
        let granted = origin.as_ref().is_some_and(|origin| self.granted(origin));
        let log = Arc::clone(&self.log);
        Box::new(async move {
            let origin = origin.ok_or(Error::HttpRequestUriInvalid)?;
            if !granted {
                let line = format!(
                    "outbound HTTP to {origin} is denied; to grant it write: allow.http = [\"{origin}\"]"
                );
                log.line(Level::Error, &line);
                return Err(Error::HttpRequestDenied);
            }
            if let Some(address) = forbidden_address(&origin).await? {
                log.line(
                    Level::Error,
                    &format!("outbound HTTP to {origin} is denied: it resolves to {address}"),
                );
                return Err(Error::DestinationIpProhibited);
            }
            let (response, connection) =
                wasmtime_wasi_http::default_send_request(request, options).await?;
            Ok((
                response.map(BodyExt::boxed_unsync),
                Box::new(connection) as Box<dyn Future<Output = _> + Send>,
            ))
        })
    }
}

/// Scheme, host and port, with the port always there.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        Self::of(&text.parse().ok()?)
    }

    fn of(uri: &http::Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let standard = if scheme == "https" { 443 } else { 80 };
        let host = uri.host()?.to_ascii_lowercase();
        Some(Self {
            scheme,
            host,
            port: uri.port_u16().unwrap_or(standard),
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match (self.scheme.as_str(), self.port) {
            ("https", 443) | ("http", 80) => Ok(()),
            (_, port) => write!(f, ":{port}"),
        }
    }
}

/// An address behind the name that no grant by name reaches.
async fn forbidden_address(origin: &Origin) -> Result<Option<IpAddr>> {
    let host = origin.host.trim_start_matches('[').trim_end_matches(']');
    if host.parse::<IpAddr>().is_ok() || host == "localhost" {
        return Ok(None);
    }
    let addresses = tokio::net::lookup_host((host, origin.port)).await;
    let addresses = addresses.map_err(|_| Error::DnsError {
        rcode: None,
        info_code: None,
    })?;
    Ok(addresses.map(|address| address.ip()).find(own_or_link))
}

fn own_or_link(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => own_or_link(&IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unspecified() || v6.is_unicast_link_local(),
        },
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
    fn the_nodes_own_addresses_are_known() {
        for own in [
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
        ] {
            assert!(own_or_link(&own.parse().unwrap()), "{own}");
        }
        for other in ["10.0.0.1", "192.0.2.1", "2001:db8::1"] {
            assert!(!own_or_link(&other.parse().unwrap()), "{other}");
        }
    }
}

//! Where requests go: the targets of one run, all of one protocol, with what each is asked.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use ::http::Uri;
use anyhow::{Context, Result, bail, ensure};

use super::options::Options;
use super::{coap, http, http2};

/// Each client has a connection to each.
const TARGETS_MAX: usize = 1000;
/// Stands in a URL for the number of the function that a trace calls.
pub(super) const FUNCTION: &str = "{function}";

/// The targets, by protocol.
#[derive(Debug, Clone)]
pub(super) enum Targets {
    Http(Vec<Arc<http::Target>>),
    Http2(Vec<Arc<http2::request::Target>>),
    Coap(Vec<Arc<coap::Target>>),
}

impl Targets {
    pub(super) fn check(options: &Options, method: &str, body: &[u8]) -> Result<Self> {
        let urls = &options.targets;
        ensure!(
            (1..=TARGETS_MAX).contains(&urls.len()),
            "{} targets, give 1 to {TARGETS_MAX} as http://HOST:PORT/PATH or coap://HOST:PORT/PATH",
            urls.len()
        );
        let targets: Vec<_> = urls
            .iter()
            .map(|url| Target::check(url, options))
            .collect::<Result<_>>()?;
        let scheme = |target: &Target| target.uri.scheme_str().unwrap_or_default().to_owned();
        if let Some(other) = targets
            .iter()
            .find(|other| scheme(other) != scheme(&targets[0]))
        {
            bail!(
                "targets `{}` and `{}` have different protocols, use one run for each",
                urls[0],
                other.uri
            );
        }
        if scheme(&targets[0]) == "coap" {
            ensure!(
                !options.http2,
                "target `{}` is CoAP, leave out --http2",
                urls[0]
            );
            let targets = targets
                .iter()
                .map(|target| target.coap(options, method, body));
            return Ok(Self::Coap(targets.collect::<Result<_>>()?));
        }
        if options.http2 {
            let targets = targets
                .iter()
                .map(|target| target.http2(options, method, body));
            return Ok(Self::Http2(targets.collect::<Result<_>>()?));
        }
        let targets = targets
            .iter()
            .map(|target| target.http(options, method, body));
        Ok(Self::Http(targets.collect::<Result<_>>()?))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Http(targets) => targets.len(),
            Self::Http2(targets) => targets.len(),
            Self::Coap(targets) => targets.len(),
        }
    }

    /// `200`, or `2.05` for CoAP, which is 205 inside.
    pub(super) fn parse_status(&self, text: &str) -> Result<u16> {
        let digits = match self {
            Self::Coap(_) => text.replace('.', ""),
            Self::Http(_) | Self::Http2(_) => text.to_owned(),
        };
        digits
            .parse()
            .ok()
            .filter(|status| digits.len() == 3 && (100..1000).contains(status))
            .with_context(|| {
                format!("status `{text}` is not a status, use for example 200, or 2.05 for CoAP")
            })
    }

    pub(super) fn write_status(&self, status: u16) -> String {
        match self {
            Self::Coap(_) => format!("{}.{:02}", status / 100, status % 100),
            Self::Http(_) | Self::Http2(_) => status.to_string(),
        }
    }
}

/// A URL, taken apart.
struct Target {
    uri: Uri,
    host: String,
    address: SocketAddr,
}

impl Target {
    fn check(url: &str, options: &Options) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| {
            format!(
                "target `{url}` is not a URL, use http://HOST:PORT/PATH or coap://HOST:PORT/PATH"
            )
        })?;
        let host = uri.host().with_context(|| {
            format!("target `{url}` has no scheme or host, use http://HOST:PORT/PATH")
        })?;
        let port = match uri.scheme_str() {
            Some("http") => 80,
            Some("coap") => 5683,
            other => bail!(
                "scheme `{}` of target `{url}` is not supported, use http or coap",
                other.unwrap_or("none")
            ),
        };
        ensure!(
            options.trace.is_some() || !url.contains(FUNCTION),
            "target `{url}` names a function, which only a trace has, add --trace FILE or leave out {FUNCTION}"
        );
        Ok(Self {
            address: resolve(host, uri.port_u16().unwrap_or(port))?,
            host: host.to_owned(),
            uri,
        })
    }

    fn http(&self, options: &Options, method: &str, body: &[u8]) -> Result<Arc<http::Target>> {
        let keep_alive = !options.no_keep_alive;
        let head = http::request::Head::new(&self.uri, method, &options.headers, keep_alive)?;
        Ok(Arc::new(http::Target::new(self.address, head, body)))
    }

    fn http2(
        &self,
        options: &Options,
        method: &str,
        body: &[u8],
    ) -> Result<Arc<http2::request::Target>> {
        ensure!(
            !options.no_keep_alive,
            "HTTP/2 is there to keep connections, leave out --no-keep-alive or --http2"
        );
        let (address, body) = (self.address, body.to_vec());
        let headers = &options.headers;
        let target = http2::request::Target::new(address, &self.uri, method, headers, body)?;
        Ok(Arc::new(target))
    }

    fn coap(&self, options: &Options, method: &str, body: &[u8]) -> Result<Arc<coap::Target>> {
        ensure!(
            options.headers.is_empty(),
            "CoAP has no headers, leave out --header"
        );
        ensure!(
            !options.no_keep_alive,
            "CoAP has no connections, leave out --no-keep-alive"
        );
        // RFC 7252 §6.4: left out when it is the address the request goes to.
        let host = literal(&self.host).is_none().then_some(&*self.host);
        let (path, query) = (self.uri.path(), self.uri.query());
        let head = coap::request::Head::new(method, host, path, query, !options.non)?;
        Ok(Arc::new(coap::Target::new(
            self.address,
            head,
            body.to_vec(),
        )))
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[')
        .trim_end_matches(']')
        .parse()
        .ok()
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr> {
    if let Some(address) = literal(host) {
        return Ok(SocketAddr::new(address, port));
    }
    (host, port)
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve host `{host}`, check the name or use an address"))?
        .next()
        .with_context(|| format!("host `{host}` has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(targets: &[&str], word: &str) {
        let mut options = Options::new("");
        options.targets = targets.iter().map(|&target| target.to_owned()).collect();
        let error = format!("{:#}", Targets::check(&options, "GET", b"").unwrap_err());
        assert!(error.contains(word), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_a_url() {
        refused(&[], "0 targets");
        refused(&["https://127.0.0.1/"], "https");
        refused(&["/x"], "scheme");
        refused(
            &["http://127.0.0.1/", "coap://127.0.0.1/"],
            "one run for each",
        );
        refused(&["http://127.0.0.1/{function}"], "--trace");
        refused(&["http://no such host/"], "not a URL");
        refused(&["http://nowhere.invalid/"], "nowhere.invalid");
    }

    #[test]
    fn a_url_can_name_the_function() {
        let mut options = Options::new("http://127.0.0.1:8000/f{function}/{function}?x=y");
        options.trace = Some("trace.csv".into());
        options.headers = vec!["a: {function}".into()];
        let Targets::Http(targets) = Targets::check(&options, "GET", b"").unwrap() else {
            panic!("http")
        };
        assert_eq!(
            String::from_utf8(targets[0].head.with(b"hi", 12)).unwrap(),
            "GET /f12/12?x=y HTTP/1.1\r\nhost: 127.0.0.1:8000\r\na: {function}\r\ncontent-length: 2\r\n\r\nhi"
        );
    }
}

//! A program's way out: an HTTP proxy that connects to granted origins and to nothing else.
//!
//! A sandbox has no other network. `CONNECT host:port` opens a tunnel, and a request for a whole
//! `http://` URI is passed on; each takes a connection of its own, so what follows the first head
//! reaches only the origin that was checked. Bounded: the connections of a listener, a head's bytes
//! and time, the time to connect, and the time that nothing moves. What moves is not counted, but
//! never read faster than it is written.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{StatusCode, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::accept;
use crate::origin::Origin;

mod tunnel;

/// Takes lines for the function's log. Must not block.
pub type Log = Arc<dyn Fn(&str) + Send + Sync>;

/// Connections at once of one listener; more wait.
const CONNECTIONS_MAX: usize = 64;
/// Most bytes of a request's head, and most lines of it.
const HEAD_MAX: (usize, usize) = (16 << 10, 100);
/// Longest wait for a whole head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest wait for an origin's name and connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A tunnel in which nothing moves for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Serves a listener until the shutdown; then its connections are closed. `grants` are the origins
/// of `allow.http`.
pub async fn serve(
    listener: TcpListener,
    grants: Vec<String>,
    log: Log,
    shutdown: CancellationToken,
) {
    let proxy = Arc::new(Proxy {
        grants: grants
            .iter()
            .filter_map(|text| Origin::parse(text))
            .collect(),
        log,
    });
    let accepting = accept::run(listener, CONNECTIONS_MAX, |stream| {
        let proxy = Arc::clone(&proxy);
        async move { proxy.connection(stream).await }
    });
    shutdown.run_until_cancelled(accepting).await;
}

struct Proxy {
    grants: Vec<Origin>,
    log: Log,
}

/// What a head asks for.
struct Asked {
    origin: Origin,
    /// The head for the origin; `None` for a tunnel.
    head: Option<String>,
}

/// What the program is told instead.
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Proxy {
    /// One connection from begin to end. The program's own failures are its own business.
    async fn connection(&self, mut program: TcpStream) {
        let served = async {
            let (head, rest) = match timeout(HEAD_TIME_MAX, read_head(&mut program)).await {
                Ok(Ok(read)) => read,
                Ok(Err(refusal)) => return Err(refusal),
                Err(_) => {
                    let text = "the request's head took longer than 10 s";
                    return Err(refuse(StatusCode::REQUEST_TIMEOUT, text));
                }
            };
            let asked = parse(&head)?;
            self.check(&asked)?;
            let mut origin = self.connect(&asked.origin).await?;
            let first = match &asked.head {
                None => program.write_all(ESTABLISHED).await,
                Some(head) => origin.write_all(head.as_bytes()).await,
            };
            if first.is_ok() && origin.write_all(&rest).await.is_ok() {
                tunnel::run(&mut program, &mut origin, IDLE_MAX).await;
            }
            Ok(())
        };
        if let Err(refusal) = served.await {
            // The program may be gone; there is nobody else to tell.
            let _ = timeout(HEAD_TIME_MAX, answer(&mut program, &refusal)).await;
        }
    }

    fn check(&self, asked: &Asked) -> Result<(), Refusal> {
        let origin = &asked.origin;
        let granted = match asked.head {
            Some(_) => self.grants.contains(origin),
            // A tunnel shows no scheme.
            None => self
                .grants
                .iter()
                .any(|grant| grant.host == origin.host && grant.port == origin.port),
        };
        if granted {
            return Ok(());
        }
        Err(self.denied(format!(
            "outbound HTTP to {origin} is denied; to grant it write: allow.http = [\"{origin}\"]"
        )))
    }

    /// Connects to one of the addresses that were checked, not to the name again.
    async fn connect(&self, origin: &Origin) -> Result<TcpStream, Refusal> {
        let unreachable = |why: &dyn std::fmt::Display| {
            refuse(
                StatusCode::BAD_GATEWAY,
                format!("cannot reach {origin}: {why}"),
            )
        };
        let late = || {
            let text = format!(
                "cannot reach {origin} within {} s",
                CONNECT_TIME_MAX.as_secs()
            );
            refuse(StatusCode::GATEWAY_TIMEOUT, text)
        };
        let addresses = timeout(CONNECT_TIME_MAX, origin.addresses()).await;
        let addresses = addresses
            .map_err(|_| late())?
            .map_err(|error| unreachable(&error))?;
        if let Some(address) = origin.forbidden(&addresses) {
            return Err(self.denied(format!(
                "outbound HTTP to {origin} is denied: it resolves to {address}"
            )));
        }
        let connected = timeout(CONNECT_TIME_MAX, connect_any(&addresses)).await;
        let stream = connected
            .map_err(|_| late())?
            .map_err(|error| unreachable(&error))?;
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn denied(&self, text: String) -> Refusal {
        (self.log)(&text);
        refuse(StatusCode::FORBIDDEN, text)
    }
}

async fn connect_any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    TcpStream::connect(addresses).await
}

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Reads up to the end of a head. Returns it, and what came after it.
async fn read_head(program: &mut TcpStream) -> Result<(Vec<u8>, Vec<u8>), Refusal> {
    let mut head = Vec::with_capacity(1024);
    loop {
        let seen = head.len();
        let gone = || refuse(StatusCode::BAD_REQUEST, "the request's head breaks off");
        match program.read_buf(&mut head).await {
            Ok(0) | Err(_) => return Err(gone()),
            Ok(_) => {}
        }
        let from = seen.saturating_sub(END.len() - 1);
        let end = head[from..].windows(END.len()).position(|part| part == END);
        let end = end.map(|at| from + at + END.len());
        if end.unwrap_or(head.len()) > HEAD_MAX.0 {
            let text = format!("the request's head is larger than {} bytes", HEAD_MAX.0);
            return Err(refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text));
        }
        if let Some(end) = end {
            let rest = head.split_off(end);
            return Ok((head, rest));
        }
    }
}

const END: &[u8] = b"\r\n\r\n";

/// What a head asks for (RFC 9110 §9.3.6, RFC 9112 §3.2.2).
fn parse(head: &[u8]) -> Result<Asked, Refusal> {
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let mut lines = [httparse::EMPTY_HEADER; HEAD_MAX.1];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        _ => return Err(bad("the request is not HTTP/1.1")),
    }
    let (method, target) = (
        request.method.unwrap_or_default(),
        request.path.unwrap_or_default(),
    );
    let uri: Uri = target
        .parse()
        .map_err(|_| bad("the request's target is not a URI"))?;
    if method == "CONNECT" {
        let scheme = if uri.port_u16() == Some(80) {
            "http"
        } else {
            "https"
        };
        let (None, Some(authority), Some(_)) = (uri.scheme(), uri.authority(), uri.port_u16())
        else {
            return Err(bad("CONNECT takes a host and a port"));
        };
        let origin = Origin::parse(&format!("{scheme}://{authority}"));
        let origin = origin.ok_or_else(|| bad("CONNECT takes a host and a port"))?;
        return Ok(Asked { origin, head: None });
    }
    if uri.scheme_str() == Some("https") {
        return Err(bad("a proxy reaches https:// by CONNECT"));
    }
    let origin = Origin::of(&uri).filter(|origin| origin.scheme == "http");
    let origin = origin.ok_or_else(|| {
        bad("this is a proxy: it takes CONNECT, and requests for a whole http:// URI")
    })?;
    let head = passed_on(method, &uri, &origin, request.headers)
        .ok_or_else(|| bad("a header of the request is not text"))?;
    Ok(Asked {
        origin,
        head: Some(head),
    })
}

/// The head as the origin gets it: for this one request, without what is meant for a proxy.
fn passed_on(
    method: &str,
    uri: &Uri,
    origin: &Origin,
    headers: &[httparse::Header<'_>],
) -> Option<String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut head = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {}", origin.host);
    if origin.port != 80 {
        write!(head, ":{}", origin.port).ok()?;
    }
    head.push_str("\r\nConnection: close\r\n");
    let named: Vec<&str> = headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .collect();
    for header in headers {
        let is = |name: &&str| header.name.eq_ignore_ascii_case(name);
        if !NOT_PASSED_ON.iter().any(&is) && !named.iter().any(is) {
            let value = std::str::from_utf8(header.value).ok()?;
            write!(head, "{}: {value}\r\n", header.name).ok()?;
        }
    }
    head.push_str("\r\n");
    Some(head)
}

/// What is this connection's own. The body's framing stays as it is, for its bytes do.
const NOT_PASSED_ON: [&str; 6] = [
    "host",
    "connection",
    "proxy-connection",
    "keep-alive",
    "proxy-authorization",
    "upgrade",
];

fn refuse(status: StatusCode, text: impl Into<String>) -> Refusal {
    Refusal {
        status,
        text: text.into(),
    }
}

/// Tells the program, and lets it read that: a socket closed with unread bytes takes its last
/// words along.
async fn answer(program: &mut TcpStream, refusal: &Refusal) -> io::Result<()> {
    let Refusal { status, text } = refusal;
    let reply = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    );
    program.write_all(reply.as_bytes()).await?;
    program.shutdown().await?;
    let mut ignored = [0; 4096];
    let mut left = REST_BYTES_MAX;
    while left > 0 {
        match program.read(&mut ignored).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Most bytes of a refused request that are read and dropped.
const REST_BYTES_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;

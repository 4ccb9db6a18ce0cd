//! A small HTTP/1.1 client over a plain socket, for clients that behave badly too.
//!
//! A [`Connection`] sends any bytes and reads replies one by one (RFC 9112): by their length, their
//! chunks, or to the end. Every read and write ends after [`PATIENCE`].

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for the next bytes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A reply that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status.
    pub status: u16,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, String)>,
    /// Body, without chunks.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the status, and gives the reply.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        self
    }

    /// Checks that this is a problem (RFC 9457) of a status and a kind, and gives its detail.
    #[track_caller]
    pub fn problem(&self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank", "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["kind"], kind, "{problem}");
        assert!(problem["title"].is_string(), "{problem}");
        problem["detail"].as_str().unwrap().to_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes as they are; fails when the other side has closed.
    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request with its length.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: test\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes());
        // A server may answer before it has read a body it does not want.
        let _ = self.try_send(body);
    }

    /// Reads the next reply to a request with this method; `None` when the connection ends first.
    pub fn reply(&mut self, method: &str) -> Option<Reply> {
        let mut reply = self.head()?;
        let bare = method == "HEAD" || matches!(reply.status, 100..200 | 204 | 304);
        reply.body = match (bare, reply.header("content-length")) {
            (true, _) => Vec::new(),
            (false, Some(length)) => {
                let mut body = vec![0; length.parse().ok()?];
                self.stream.read_exact(&mut body).ok()?;
                body
            }
            (false, None) if reply.header("transfer-encoding") == Some("chunked") => {
                let mut body = Vec::new();
                while let Some(chunk) = self.chunk() {
                    if chunk.is_empty() {
                        return Some(Reply { body, ..reply });
                    }
                    body.extend(chunk);
                }
                return None;
            }
            (false, None) => {
                let mut body = Vec::new();
                self.stream.read_to_end(&mut body).ok()?;
                body
            }
        };
        Some(reply)
    }

    /// Reads the head of the next reply.
    pub fn head(&mut self) -> Option<Reply> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Reply {
            status,
            headers,
            body: Vec::new(),
        })
    }

    /// Reads the next chunk of a body; an empty one is the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line()?, 16).ok()?;
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(length);
        Some(chunk)
    }

    /// Whether the other side has closed: waits for that, and drops what still comes.
    pub fn ends(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        // It may be closed already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Write);
    }

    fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok()?;
        let text = String::from_utf8(line).ok()?;
        text.strip_suffix("\r\n").map(str::to_owned)
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut connection = Connection::open(address);
    connection.request(method, target, headers, body);
    match connection.reply(method) {
        Some(reply) => reply,
        None => panic!("no reply to {method} {target}"),
    }
}

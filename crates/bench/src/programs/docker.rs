//! A container engine, used directly: what a container costs without a node.
//!
//! The Docker Engine API over its Unix socket, one HTTP/1.0 exchange for each request: the reply ends with the
//! connection, so that nothing has to be parsed but its head. What is made here is removed here.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::image;

/// The name of the image in the engine.
pub(super) const IMAGE: &str = "mote-bench/hello:latest";
const REPOSITORY: &str = "mote-bench/hello";
/// The port on which the program listens in its container.
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(60);
/// A program is asked again after this when it does not listen yet.
const RETRY: Duration = Duration::from_micros(200);

/// An engine.
#[derive(Debug)]
pub(super) struct Docker {
    pub(super) socket: PathBuf,
}

impl Docker {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Makes the image from its root.
    pub(super) fn import(&self, root: &[u8]) -> Result<()> {
        let command = percent(&format!("CMD [\"{}\"]", image::command()));
        let target =
            format!("/images/create?fromSrc=-&repo={REPOSITORY}&tag=latest&changes={command}");
        let kind = "application/x-tar";
        let said = self.exchange("POST", &target, kind, root)?;
        let said = String::from_utf8_lossy(&said);
        ensure!(
            !said.contains("\"error\""),
            "the engine said {}",
            said.trim()
        );
        Ok(())
    }

    /// How many containers there are, whatever they do.
    pub(super) fn containers(&self) -> Result<usize> {
        let list = self.json("GET", "/containers/json?all=1", &Value::Null)?;
        Ok(list.as_array().map_or(0, Vec::len))
    }

    /// A network like those that nodes make.
    pub(super) fn network(&self) -> Result<Network<'_>> {
        let name = format!("mote-bench-{}", std::process::id());
        let settings = json!({"Name": name, "Driver": "bridge", "Internal": true});
        self.json("POST", "/networks/create", &settings)?;
        Ok(Network { docker: self, name })
    }

    fn json(&self, method: &str, target: &str, body: &Value) -> Result<Value> {
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let reply = self.exchange(method, target, "application/json", &body)?;
        if reply.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&reply)?)
    }

    fn exchange(&self, method: &str, target: &str, kind: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("no container engine at {}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = format!(
            "{method} {target} HTTP/1.0\r\nhost: engine\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        let (status, body) = split(&reply).context("the engine's reply is not HTTP")?;
        ensure!(
            (200..300).contains(&status),
            "the engine answered {method} {target} with {status}: {}",
            String::from_utf8_lossy(body).trim()
        );
        Ok(body.to_vec())
    }
}

/// A network, which goes when this is dropped.
#[derive(Debug)]
pub(super) struct Network<'a> {
    docker: &'a Docker,
    name: String,
}

impl Network<'_> {
    /// What `run` does: a container is made and started, and asked until it answers. Milliseconds to the first byte.
    pub(super) fn run(&self) -> Result<f64> {
        let settings = json!({
            "Image": IMAGE,
            "Env": [format!("PORT={PORT}")],
            "HostConfig": {"NetworkMode": self.name},
        });
        let start = Instant::now();
        let made = self.docker.json("POST", "/containers/create", &settings)?;
        let id = made["Id"]
            .as_str()
            .context("the engine names no container")?;
        let container = format!("/containers/{id}");
        let answered = self.start(&container, start);
        let remove = format!("{container}?force=1&v=1");
        self.docker.json("DELETE", &remove, &Value::Null)?;
        answered
    }

    fn start(&self, container: &str, start: Instant) -> Result<f64> {
        let post = format!("{container}/start");
        self.docker.json("POST", &post, &Value::Null)?;
        let get = format!("{container}/json");
        let shown = self.docker.json("GET", &get, &Value::Null)?;
        let address = shown["NetworkSettings"]["Networks"][&self.name]["IPAddress"].as_str();
        let address = address.context("the container has no address")?;
        first_byte(address, start + PATIENCE)?;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        let target = format!("/networks/{}", self.name);
        // Nothing is left to do about a network that cannot be removed.
        let _removed = self.docker.json("DELETE", &target, &Value::Null);
    }
}

fn first_byte(address: &str, until: Instant) -> Result<()> {
    loop {
        match TcpStream::connect((address, PORT)) {
            Ok(mut stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(b"GET / HTTP/1.1\r\nhost: container\r\n\r\n")?;
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error).context("the container cannot be reached"),
        }
        if Instant::now() >= until {
            bail!("the container did not listen");
        }
        thread::sleep(RETRY);
    }
}

/// Status and body of a reply.
fn split(reply: &[u8]) -> Option<(u16, &[u8])> {
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, &reply[end + 4..]))
}

/// Text as part of a query (RFC 3986 §2.1).
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_reply_apart() {
        let reply = b"HTTP/1.0 201 Created\r\na: b\r\n\r\n{}\r\n\r\n";
        assert_eq!(split(reply), Some((201, b"{}\r\n\r\n".as_slice())));
        assert_eq!(split(b"nonsense"), None);
    }

    #[test]
    fn a_query_has_no_spaces() {
        assert_eq!(percent("CMD [\"/a\"]"), "CMD%20%5B%22%2Fa%22%5D");
    }
}

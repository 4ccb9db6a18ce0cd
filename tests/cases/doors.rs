//! The two doors behind one face: a call, and what came of it.
//!
//! HTTP goes through the tests' own client, CoAP through libcoap's, so that blocks, copies and
//! delayed responses are those of a client that somebody else wrote.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mote_tests::node::Node;
use mote_tests::program::clean;

use super::step::Step;

/// Longer than any call takes on a busy machine, in seconds.
const PATIENCE: &str = "120";
/// Media types and their numbers (the registry of RFC 7252 §12.3).
const FORMATS: [(&str, &str); 4] = [
    ("text/plain", "0"),
    ("application/octet-stream", "42"),
    ("application/json", "50"),
    ("application/cbor", "60"),
];

/// Where calls go in.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    Http,
    /// With libcoap's client.
    Coap(PathBuf),
}

/// What came of a call.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The status or the response code, as text.
    pub(crate) code: String,
    pub(crate) body: Vec<u8>,
    /// The reply's media type.
    pub(crate) media_type: Option<String>,
    /// All headers. CoAP has none.
    pub(crate) headers: Vec<(String, String)>,
}

impl Door {
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Coap(_) => "coap",
        }
    }

    /// What a step wants to come of it here.
    pub(crate) fn wanted(&self, step: &Step) -> String {
        match self {
            Self::Http => step.http.to_string(),
            Self::Coap(_) => step
                .coap
                .clone()
                .expect("the case says why CoAP is left out"),
        }
    }

    /// Calls a function as a step says, with this body.
    #[track_caller]
    pub(crate) fn call(&self, node: &Node, function: &str, step: &Step, body: &[u8]) -> Outcome {
        let query = step.query.as_ref().map(|query| format!("?{query}"));
        let target = format!("/{function}{}{}", step.path, query.unwrap_or_default());
        match self {
            Self::Http => over_http(node, &target, step, body),
            Self::Coap(client) => over_coap(client, node, &target, step, body),
        }
    }
}

#[track_caller]
fn over_http(node: &Node, target: &str, step: &Step, body: &[u8]) -> Outcome {
    let mut headers: Vec<(&str, &str)> = Vec::new();
    headers.extend(
        step.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    headers.extend(step.sends.as_deref().map(|kind| ("content-type", kind)));
    let reply = node.call(&step.method, target, &headers, body);
    let media_type = reply.header("content-type");
    let essence = media_type.and_then(|kind| kind.split(';').next());
    Outcome {
        code: reply.status.to_string(),
        media_type: essence.map(|kind| kind.trim().to_owned()),
        headers: reply.headers.clone(),
        body: reply.body,
    }
}

#[track_caller]
fn over_coap(client: &Path, node: &Node, target: &str, step: &Step, body: &[u8]) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let (sent, received) = (folder.path().join("sent"), folder.path().join("received"));
    let mut command = Command::new(client);
    clean(&mut command);
    command.args(["-v", "7", "-B", PATIENCE, "-m", &step.method.to_lowercase()]);
    if let Some(kind) = &step.sends {
        let number = FORMATS.iter().find(|(name, _)| name == kind);
        command.args(["-t", number.expect("a media type of the table").1]);
    }
    if !body.is_empty() {
        std::fs::write(&sent, body).unwrap();
        command.arg("-f").arg(&sent);
    }
    command.arg("-o").arg(&received);
    command.arg(format!("coap://{}{target}", node.coap()));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    // `v:1 t:ACK c:2.05 i:86c4 {01} [ Content-Format:application/json ] :: …`
    let mut responses = told.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("v:1 ")?.split_once(" c:")?;
        let (code, rest) = rest.split_once(' ')?;
        matches!(code.as_bytes(), [b'2' | b'4' | b'5', b'.', ..]).then_some((code, rest))
    });
    let Some((code, rest)) = responses.next_back() else {
        panic!(
            "no response to {target}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let (_, kind) = rest.split_once("Content-Format:").unwrap_or_default();
    let kind = kind.split([',', ' ']).next().unwrap_or_default();
    let body = if code.starts_with('2') {
        // Without a byte there is no file.
        std::fs::read(&received).unwrap_or_default()
    } else {
        // An error goes to standard error: `4.04 no function …`.
        let error = String::from_utf8_lossy(&output.stderr);
        let text = error.trim_end_matches('\n').strip_prefix(code);
        text.unwrap_or_default().trim_start().as_bytes().to_vec()
    };
    Outcome {
        code: code.to_owned(),
        body,
        media_type: (!kind.is_empty()).then(|| kind.to_owned()),
        headers: Vec::new(),
    }
}

/// An observer over CoAP, which writes each value on a line; it is ended with the value.
#[derive(Debug)]
pub(crate) struct Observer {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Observer {
    #[track_caller]
    pub(crate) fn start(client: &Path, node: &Node, function: &str) -> Self {
        let mut command = Command::new(client);
        clean(&mut command);
        command.args(["-w", "-s", PATIENCE, "-B", PATIENCE, "-o", "-"]);
        command.arg(format!("coap://{}/{function}", node.coap()));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next value. The client gives up after a while, which ends its output.
    #[track_caller]
    pub(crate) fn next(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.lines.read_line(&mut line).unwrap();
            assert!(length > 0, "the observer ended");
            if !line.trim().is_empty() {
                return line.trim().to_owned();
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

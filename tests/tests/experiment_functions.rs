//! The functions of the experiments: every row of the table in `experiments/functions/README.md` is
//! deployed as it stands, and answers as the row says.
//!
//! A number measured on a function that answers something else is worth nothing.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use mote_tests::engine::Engine;
use mote_tests::http;
use mote_tests::node::{Node, Up};
use mote_tests::program::repository;
use mote_tests::source::{Source, skipped};

#[path = "../interop/datagram.rs"]
mod datagram;
#[path = "../interop/tools.rs"]
mod tools;

use datagram::{CON, CONTENT, GET, Message, Socket};

/// Where the testbed puts the node; the functions that call others name it.
const TESTBED: &str = "http://10.77.0.2:8080";
const CONTAINER: &str = "container";
/// What programs are that run beside a node.
const NONE: &str = "none";
/// What `mote deploy` says when they cannot be installed.
const NO_PACKAGES: &str = "install the packages into `packages/`";

/// One row of the table.
#[derive(Debug)]
struct Row {
    name: String,
    folder: PathBuf,
    runtime: String,
    method: String,
    target: String,
    body: String,
    reply: Vec<u8>,
}

fn folder() -> PathBuf {
    repository().join("experiments/functions")
}

/// The rows of the table, by the form that its text describes.
fn rows() -> Vec<Row> {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let lines = readme.lines().filter_map(|line| line.strip_prefix("| ["));
    lines.map(row).collect()
}

#[track_caller]
fn row(line: &str) -> Row {
    let cells: Vec<&str> = line.split(" | ").collect();
    let [link, runtime, request, reply, _] = cells.as_slice() else {
        panic!("a row has five cells: {line}");
    };
    let (name, link) = link.split_once("](").unwrap();
    let request = code(request);
    let (method, target) = request[0].split_once(' ').unwrap();
    let reply = match code(reply)[0].strip_prefix('@') {
        Some(file) => std::fs::read(folder().join(file)).unwrap(),
        None => code(reply)[0].replace("\\n", "\n").into_bytes(),
    };
    let body = request.get(1).copied().unwrap_or_default();
    Row {
        name: name.to_owned(),
        folder: folder().join(link.trim_end_matches(')')),
        runtime: (*runtime).to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        body: match body.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(folder().join(file)).unwrap(),
            None => body.to_owned(),
        },
        reply,
    }
}

/// What stands between the marks of code.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

impl Row {
    #[track_caller]
    fn is_answered_by(&self, address: SocketAddr) {
        let json = [("content-type", "application/json")];
        let headers: &[_] = if self.body.starts_with('{') {
            &json
        } else {
            &[]
        };
        let body = self.body.as_bytes();
        let reply = http::request(address, &self.method, &self.target, headers, body).expect(200);
        assert!(
            reply.body == self.reply,
            "{}: {:?} is not {:?}",
            self.name,
            reply.text(),
            String::from_utf8_lossy(&self.reply)
        );
    }

    /// Deploys the folder, with the node's address in place of the testbed's. False where no index
    /// gives the packages that it asks for.
    #[track_caller]
    fn deploy(&self, node: &Node) -> bool {
        let mut source = Source::new();
        for name in files(&self.folder) {
            let mut content = std::fs::read(self.folder.join(&name)).unwrap();
            if name == "mote.toml" {
                let text = String::from_utf8(content).unwrap();
                let here = format!("http://{}", node.http());
                content = text.replace(TESTBED, &here).into_bytes();
            }
            source = source.file(&name, content);
        }
        let ended = node.try_deploy_source(&source);
        let without_packages = ended.stderr.contains(NO_PACKAGES);
        if without_packages && std::env::var_os("MOTE_REQUIRE_TOOLS").is_none() {
            skipped(&format!("{} needs packages: {}", self.name, ended.stderr));
            return false;
        }
        ended.ok();
        true
    }
}

/// The names of the files right in a folder.
fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// A server without a platform, which says where it listens. Ends with the value.
struct Server(Child);

impl Server {
    #[track_caller]
    fn start(mut command: Command, scheme: &str) -> (Self, SocketAddr) {
        command.env("HOST", "127.0.0.1").env("PORT", "0");
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let server = Self(child);
        let line = BufReader::new(stdout).lines().next().unwrap().unwrap();
        let address = line.strip_prefix(&format!("{scheme} {scheme}://"));
        (server, address.unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_function_has_a_row() {
    let entries = std::fs::read_dir(folder()).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.path().is_dir());
    let here: BTreeSet<_> = folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let told: BTreeSet<_> = rows().into_iter().map(|row| row.name).collect();
    let missing: Vec<_> = here.difference(&told).collect();
    assert!(missing.is_empty(), "no row tells of {missing:?}");
    // Guards against a table that is not found any more.
    assert!(told.len() > here.len(), "{told:?}");
}

#[test]
fn wasm_and_process_functions_answer_as_their_rows_say() {
    let node = Node::start();
    for row in rows() {
        let is_here = row.runtime != CONTAINER && !row.runtime.starts_with(NONE);
        if is_here && row.deploy(&node) {
            row.is_answered_by(node.http());
        }
    }
}

#[test]
fn container_functions_answer_as_their_rows_say() {
    let Some(engine) = Engine::start() else {
        return;
    };
    let socket = engine.socket();
    let mut node = Up::new()
        .flag("--container-socket", socket.to_str().unwrap())
        .start();
    for row in rows() {
        if row.runtime == CONTAINER && row.deploy(&node) {
            row.is_answered_by(node.http());
        }
    }
    node.stop();
}

#[test]
fn baselines_answer_as_their_rows_say() {
    for row in rows() {
        if row.runtime == "none, HTTP" {
            let mut command = Command::new("/usr/bin/python3");
            command.arg(&row.folder);
            let (_server, address) = Server::start(command, "http");
            row.is_answered_by(address);
        }
        if row.runtime == "none, CoAP" {
            let Some(package) = tools::tool("node/node_modules/coap/package.json") else {
                continue;
            };
            let mut command = Command::new("/usr/bin/node");
            let modules = package.ancestors().nth(2).unwrap();
            command
                .arg(row.folder.join("server.js"))
                .env("NODE_PATH", modules);
            let (_server, address) = Server::start(command, "coap");
            let reply = Socket::open(address).ask(&Message::request(CON, GET, 1, "sieve"));
            assert_eq!(reply.code, CONTENT);
            assert!(reply.payload == row.reply, "{}", reply.text());
        }
    }
}

/// A folder is deployed whole and nothing else with it, so two that share a file have it twice.
#[test]
fn what_two_folders_share_is_the_same() {
    let file = |path| std::fs::read(folder().join(path)).unwrap();
    assert!(file("sieve-node/handler.js") == file("sieve-node-container/handler.js"));
    assert!(file("predict/server.py") == file("predict-container/server.py"));
    assert!(file("classify/src/weights.bin") == file("classify-python/weights.bin"));
}

#[test]
fn fib_and_chain_refuse_what_they_cannot_do() {
    let node = Node::start();
    let rows = rows();
    let row = |name| rows.iter().find(|row| row.name == name).unwrap();
    assert!(row("fib").deploy(&node));
    for (body, said) in [("0", "0\n"), ("1", "1\n"), (" 20\n", "6765\n")] {
        let reply = node.post("/fib", body.as_bytes()).expect(200);
        assert_eq!(reply.text(), said);
    }
    for body in ["", "-1", "x", "41", "99999999999999999999"] {
        let reply = node.post("/fib", body.as_bytes()).expect(400);
        assert_eq!(reply.text(), "the body must be an integer from 0 to 40\n");
    }
    for name in ["chain", "chain-python"] {
        assert!(row(name).deploy(&node));
        for hops in ["-1", "x", "21"] {
            let reply = node.post(&format!("/{name}?hops={hops}"), b"x").expect(400);
            let said = "hops must be an integer from 0 to 20";
            assert!(reply.text().starts_with(said), "{reply:?}");
        }
        // The longest chain of the experiments, and more than fits into a pipe or a socket's buffer.
        let body = vec![b'x'; 1 << 20];
        let reply = node.post(&format!("/{name}?hops=19"), &body).expect(200);
        assert!(reply.body == body, "{name}");
    }
}

/// The network is one of integers, so that both give the same label and score, whatever they are shown.
#[test]
fn both_classifiers_say_the_same() {
    let node = Node::start();
    let rows = rows();
    let names = ["classify", "classify-python"];
    for row in rows.iter().filter(|row| names.contains(&row.name.as_str())) {
        if !row.deploy(&node) {
            return;
        }
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut labels = BTreeSet::new();
    for number in 0..40 {
        let picture = picture(&mut random, 64 << (number % 3));
        let [wasm, python] = names.map(|name| {
            let reply = node.post(&format!("/{name}"), picture.as_bytes());
            reply.expect(200).text()
        });
        assert_eq!(wasm, python, "{picture}");
        labels.insert(wasm.split('"').nth(3).unwrap().to_owned());
    }
    assert!(labels.len() > 3, "all look alike: {labels:?}");

    let good = picture(&mut random, 64);
    let file = |text: &str| base64(text.as_bytes());
    let bad = [
        String::new(),
        "AAA".to_owned(),
        good.replace('A', "*"),
        good[..good.len() - 4].to_owned(),
        file("P5\n64 128\n255\n"),
        file("P5\n65 65\n255\n"),
        file("P5\n0 0\n255\n"),
        file("P5\n9984 9984\n255\n"),
        file("P5\n64 64\n65535\n"),
        file("P2\n64 64\n255\n"),
    ];
    for body in bad {
        for name in names {
            let reply = node.post(&format!("/{name}"), body.as_bytes()).expect(400);
            let said = "the body must be a picture as binary PGM in base64: ";
            assert!(reply.text().starts_with(said), "{name}: {reply:?}");
        }
    }
}

/// Some rectangles and discs under noise, as PGM in base64.
fn picture(random: &mut fastrand::Rng, side: usize) -> String {
    let mut pixels = vec![random.u8(..); side * side];
    for _ in 0..random.usize(1..3) {
        let (x, y) = (random.usize(..side), random.usize(..side));
        let (half, shade, is_round) = (
            random.usize(side / 8..side / 2),
            random.u8(..),
            random.bool(),
        );
        for (index, pixel) in pixels.iter_mut().enumerate() {
            let (across, down) = ((index % side).abs_diff(x), (index / side).abs_diff(y));
            let is_inside = match is_round {
                true => across.pow(2) + down.pow(2) < half.pow(2),
                false => across < half && down < half / 2,
            };
            if is_inside {
                *pixel = shade;
            }
        }
    }
    let noise = random.u8(1..40);
    for pixel in &mut pixels {
        *pixel = pixel.saturating_add(random.u8(..noise));
    }
    let head = format!("P5\n{side} {side}\n255\n");
    base64(&[head.as_bytes(), &pixels].concat())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for place in 0..4 {
            text.push(match place <= group.len() {
                true => DIGITS[bits >> (18 - 6 * place) & 63].into(),
                false => '=',
            });
        }
    }
    text
}

//! Against what others have: the same request to another server on the same processors.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Bench, Figure, Found, Side, hello};
use crate::baseline;
use crate::process::{Server, address, wait_for_port};

const PORT_TIMEOUT: Duration = Duration::from_secs(20);

impl Bench {
    pub(super) fn against_node_coap(&self) -> Result<Found> {
        let Some(folder) = &self.settings.node_coap else {
            return Ok(Found::Missing(
                "give --node-coap FOLDER after `npm install coap` in it",
            ));
        };
        let package = fs::canonicalize(folder.join("node_modules/coap")).with_context(|| {
            format!(
                "no package in {}, run `npm install coap` there",
                folder.display()
            )
        })?;
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let script = format!(
            "const coap = require({package:?});\n\
             const server = coap.createServer((request, response) => response.end({body:?}));\n\
             server.listen({port}, '127.0.0.1', () => console.log('coap coap://127.0.0.1:{port}'));\n",
            body = baseline::BODY,
        );
        let Some((server, url)) = node_js(&script)? else {
            return Ok(Found::Missing("the program node is not installed"));
        };
        let (_data, node) = self.node_with_hello(&[])?;
        let ours = hello(&node.server, &node.coap, "hello");
        let theirs = hello(&server, &url, "hello");
        self.ratio(Figure::RequestsPerSecond, &ours, &theirs)
    }

    pub(super) fn hello_against_node_http(&self) -> Result<Found> {
        let script = format!(
            "const server = require('node:http').createServer((request, reply) => reply.end({body:?}));\n\
             server.listen(0, '127.0.0.1', () => console.log('http http://127.0.0.1:' + server.address().port));\n",
            body = baseline::BODY,
        );
        let Some((server, url)) = node_js(&script)? else {
            return Ok(Found::Missing("the program node is not installed"));
        };
        let (_data, node) = self.node_with_hello(&[])?;
        let ours = hello(&node.server, &node.http, "hello");
        self.ratio(Figure::RequestsPerSecond, &ours, &hello(&server, &url, ""))
    }

    pub(super) fn hello_against_workerd(&self) -> Result<Found> {
        let Some(program) = &self.settings.workerd else {
            return Ok(Found::Missing(
                "give --workerd PROGRAM, which `npm install workerd` has in its package for this system",
            ));
        };
        let folder = TempDir::new()?;
        // It cannot say which port it got.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = format!(
            "using Workerd = import \"/workerd/workerd.capnp\";\n\
             const config :Workerd.Config = (\n  \
               services = [(name = \"main\", worker = (\n    \
                 serviceWorkerScript = \"addEventListener('fetch', e => e.respondWith(new Response('{body}')))\",\n    \
                 compatibilityDate = \"2024-01-01\"))],\n  \
               sockets = [(name = \"http\", address = \"127.0.0.1:{port}\", http = (), service = \"main\")]);\n",
            body = baseline::BODY.trim(),
        );
        let file = folder.path().join("config.capnp");
        fs::write(&file, settings)?;
        let mut command = Command::new(program);
        let server = Server::start("workerd", command.arg("serve").arg(&file))?;
        let address = ("127.0.0.1", port);
        wait_for_port(&format!("127.0.0.1:{port}"), PORT_TIMEOUT, || {
            Ok(TcpStream::connect(address).map(drop)?)
        })?;
        let (_data, node) = self.node_with_hello(&[])?;
        let ours = hello(&node.server, &node.http, "hello");
        let theirs = hello(&server, &format!("http://127.0.0.1:{port}"), "");
        self.ratio(Figure::RequestsPerSecond, &ours, &theirs)
    }

    /// The least that each has: our own world, and its `wasi:http`.
    pub(super) fn hello_against_wasmtime_serve(&self, reuse: Option<u32>) -> Result<Found> {
        let Some((server, theirs)) = self.wasmtime_serve(reuse)? else {
            return Ok(Found::Missing(WITHOUT_WASMTIME));
        };
        let (_data, node) = self.node_with_hello(&[])?;
        let ours = hello(&node.server, &node.http, "hello");
        let found = self.ratio(Figure::RequestsPerSecond, &ours, &theirs);
        drop(server);
        found
    }

    /// The same component on both.
    pub(super) fn against_wasmtime_serve(&self) -> Result<Found> {
        let Some((server, theirs)) = self.wasmtime_serve(None)? else {
            return Ok(Found::Missing(WITHOUT_WASMTIME));
        };
        let component = self.settings.wasi_http.as_deref();
        let component = component.context("wasmtime was given a component")?;
        let data = TempDir::new()?;
        let node = self.node(&data, &[])?;
        let folder = self.functions("default", &["web".to_owned()], None, component)?;
        self.deploy(&data, folder.path())?;
        let ours = Side {
            target: format!("{}/web", node.http),
            pid: node.server.pid(),
            expect_body: None,
        };
        let found = self.ratio(Figure::RequestsPerSecond, &ours, &theirs);
        drop(server);
        found
    }

    fn wasmtime_serve(&self, reuse: Option<u32>) -> Result<Option<(Server, Side)>> {
        let (Some(wasmtime), Some(component)) = (&self.settings.wasmtime, &self.settings.wasi_http)
        else {
            return Ok(None);
        };
        let component = fs::canonicalize(component)
            .with_context(|| format!("no component at {}", component.display()))?;
        let mut command = Command::new(wasmtime);
        command.args(["serve", "--addr", "127.0.0.1:0"]);
        if let Some(reuse) = reuse {
            command.args(["--max-instance-reuse-count", &reuse.to_string()]);
        }
        let mut server = Server::start("wasmtime serve", command.arg(&component))?;
        let url = server.wait_for("its address", |line| {
            let start = line.find("http://127.0.0.1:")?;
            let url = line[start..].split_whitespace().next()?;
            Some(url.trim_end_matches('/').to_owned())
        })?;
        let side = Side {
            target: format!("{url}/"),
            pid: server.pid(),
            expect_body: None,
        };
        Ok(Some((server, side)))
    }
}

const WITHOUT_WASMTIME: &str = "give --wasmtime PROGRAM and --wasi-http COMPONENT";

/// Runs a script that prints its address. `None` without Node.js.
fn node_js(script: &str) -> Result<Option<(Server, String)>> {
    if Command::new("node").arg("--version").output().is_err() {
        return Ok(None);
    }
    let mut server = Server::start("node", Command::new("node").args(["-e", script]))?;
    let (_, url) = server.wait_for("its address", address)?;
    Ok(Some((server, url)))
}

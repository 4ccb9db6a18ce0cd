//! Servers that people use: those of Python and Node.js, over TCP and a Unix socket.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::*;

struct ToSocket(PathBuf);

impl Connect for ToSocket {
    fn connect(&self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { Ok(UnixStream::connect(&self.0).await?.into()) })
    }
}

/// Starts a server that prints its port, if there is such a program.
async fn started(command: &mut Command) -> Option<(Child, u16)> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: {:?} is not here", command.as_std().get_program());
        return None;
    };
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.next_line().await.unwrap().unwrap().parse().unwrap();
    Some((child, port))
}

/// Echoes bodies; a large reply at `/large`, one in pieces at `/pieces`.
const PYTHON: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = sys.argv[1]
    def do_GET(self):
        body = b"x" * 300000 if self.path == "/large" else self.path.encode()
        self.send_response(200)
        if self.path == "/pieces":
            self.send_header("Connection", "close")
            self.end_headers()
            for part in (b"one", b"two"):
                self.wfile.write(part)
                self.wfile.flush()
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"#;

async fn call(client: &HttpClient, method: Method, target: &'static str, body: &str) -> Reply {
    let body = Body::Bytes(body.as_bytes().to_vec().into());
    let mut offered = Some(invocation(method, target, body));
    client.call(&mut offered, 1 << 20).await.unwrap()
}

async fn check(client: &HttpClient) {
    client
        .ready(Some("/health"), Duration::from_secs(30))
        .await
        .unwrap();
    for _ in 0..3 {
        let reply = call(client, Method::GET, "/hello/a?b=c", "").await;
        assert_eq!(reply.body.collect(100).await.unwrap(), "/a?b=c");
        for body in ["", "a body"] {
            let reply = call(client, Method::POST, "/hello", body).await;
            assert_eq!(reply.status.as_u16(), 201);
            assert_eq!(reply.body.collect(100).await.unwrap(), body);
        }
        let reply = call(client, Method::GET, "/hello/large", "").await;
        assert_eq!(reply.body.collect(1 << 20).await.unwrap().len(), 300_000);
        let reply = call(client, Method::GET, "/hello/pieces", "").await;
        assert_eq!(reply.body.collect(100).await.unwrap(), "onetwo");
    }
}

#[tokio::test]
async fn a_python_server_serves() {
    for (version, most) in [("HTTP/1.1", 8), ("HTTP/1.0", 100)] {
        let mut command = Command::new("python3");
        command.args(["-c", PYTHON, version]);
        let Some((_child, port)) = started(&mut command).await else {
            return;
        };
        let (client, to) = client(([127, 0, 0, 1], port).into());
        check(&client).await;
        let made = to.made.load(Ordering::Relaxed);
        assert!(made <= most, "{made} connections of {version}");
    }
}

const NODE: &str = r#"
const server = require("http").createServer((request, response) => {
    if (request.url === "/pieces") {
        response.write("one");
        return setImmediate(() => response.end("two"));
    }
    const parts = [];
    request.on("data", (part) => parts.push(part)).on("end", () => {
        response.statusCode = request.method === "POST" ? 201 : 200;
        if (request.url === "/large") return response.end("x".repeat(300000));
        response.end(request.method === "POST" ? Buffer.concat(parts) : request.url);
    });
});
server.listen(process.argv[1] || 0, process.argv[1] ? undefined : "127.0.0.1", () => console.log(server.address().port || 0));
"#;

#[tokio::test]
async fn a_node_server_serves() {
    let Some((_child, port)) = started(Command::new("node").args(["-e", NODE])).await else {
        return;
    };
    let (client, to) = client(([127, 0, 0, 1], port).into());
    check(&client).await;
    assert_eq!(to.made.load(Ordering::Relaxed), 1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut command = Command::new("node");
    command.args(["-e", NODE]).arg(&socket);
    let Some((_child, _)) = started(&mut command).await else {
        return;
    };
    let settings = Settings {
        function: "hello".parse().unwrap(),
        connections: 1,
    };
    let client = HttpClient::new(Arc::new(ToSocket(socket)), &settings);
    check(&client).await;
}

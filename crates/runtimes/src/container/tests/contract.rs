//! Programs that ask for calls, and the way out.

use super::*;

/// A program of contract `lambda`, as small as one can be.
const ASKS: &str = "
import json, os, urllib.request as web
api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'
while True:
    with web.urlopen(api + 'next') as call:
        event, id = json.load(call), call.headers['Lambda-Runtime-Aws-Request-Id']
    if event == 'end':
        os._exit(5)
    web.urlopen(web.Request(api + id + '/response', data=json.dumps({'saw': event}).encode()))
";

fn python(spec: &mut FunctionSpec, script: &str) {
    let program = spec.program.as_mut().unwrap();
    program.command = ["python3", "-u", "-c", script].map(str::to_owned).to_vec();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_asks_for_calls_is_reached_by_its_app_only() {
    let Some(node) = Node::new("k") else { return };
    let lambda = |spec: &mut FunctionSpec| {
        python(spec, ASKS);
        spec.program.as_mut().unwrap().contract = Some(Contract::Lambda);
    };
    let prepared = node
        .prepare(b"image: mote-test/python-node", lambda)
        .await
        .unwrap();
    assert_eq!(prepared.instances().unwrap().slots.get(), 1);
    let instance = prepared.start(node.host()).await.unwrap();
    let answer = node
        .send(&*instance, "/", Some(b"{\"a\":1}".to_vec()))
        .await
        .unwrap();
    assert_eq!(answer, r#"{"saw": {"a": 1}}"#);

    let env = node.docker(&[
        "inspect",
        "--format",
        "{{range .Config.Env}}{{println .}}{{end}}",
        &node.names()[0],
    ]);
    let api = env
        .lines()
        .find_map(|line| line.strip_prefix("AWS_LAMBDA_RUNTIME_API="))
        .unwrap();
    let neighbour = node
        .start(|spec| spec.name = "lamp.home".parse().unwrap())
        .await;
    let stranger = node
        .start(|spec| spec.name = "lamp.garden".parse().unwrap())
        .await;
    let open = format!("/open?{api}");
    assert_eq!(node.call(&*neighbour, &open).await.unwrap(), "connected\n");
    assert_ne!(node.call(&*stranger, &open).await.unwrap(), "connected\n");
    drop((neighbour, stranger));

    let error = node
        .send(&*instance, "/", Some(b"\"end\"".to_vec()))
        .await
        .unwrap_err();
    assert!(error.message().contains("exited with status 5"), "{error}");
    drop(instance);
    node.gone().await;
}

/// A server that fetches what its query names, by the proxy.
const FETCHES: &str = "
import http.server, os, urllib.error, urllib.request as web
opener = web.build_opener(web.ProxyHandler({'http': os.environ['HTTP_PROXY']}))
del os.environ['NO_PROXY'], os.environ['no_proxy']
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            text = opener.open('http://' + self.path[2:], timeout=5).read()
        except urllib.error.HTTPError as error:
            text = b'denied: ' + error.read()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)
http.server.HTTPServer(('', int(os.environ['PORT'])), Handler).serve_forever()
";

#[tokio::test(flavor = "multi_thread")]
async fn a_granted_origin_is_reached_by_the_nodes_proxy() {
    let Some(node) = Node::new("l") else { return };
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = outside.local_addr().unwrap();
    let served = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = outside.accept().await.unwrap();
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
        let answer =
            b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nfrom outside";
        stream.write_all(answer).await.unwrap();
    });
    let change = |spec: &mut FunctionSpec| {
        python(spec, FETCHES);
        spec.allow.http = vec![format!("http://{origin}")];
    };
    let prepared = node
        .prepare(b"image: mote-test/python-node", change)
        .await
        .unwrap();
    let instance = prepared.start(node.host()).await.unwrap();
    assert_eq!(
        node.call(&*instance, &format!("/?{origin}/"))
            .await
            .unwrap(),
        "from outside"
    );
    served.await.unwrap();
    let denied = node.call(&*instance, "/?example.org/").await.unwrap();
    assert!(
        denied.starts_with("denied: ") && denied.contains("allow.http"),
        "{denied}"
    );
    let log = node.log.0.lock().unwrap().clone();
    assert!(
        log.iter()
            .any(|line| line.starts_with("error") && line.contains("example.org")),
        "{log:?}"
    );
    drop(instance);
    node.gone().await;
}

//! Handlers written for AWS Lambda run as they are: with other people's runtime clients, and as a
//! `bootstrap` file, over both doors.

use std::path::Path;
use std::process::Command;

use mote_tests::node::Node;
use mote_tests::program::run;
use mote_tests::source::Source;

#[path = "../interop/tools.rs"]
mod tools;

const JSON: (&str, &str) = ("content-type", "application/json");

/// Copies a folder of packages into a function's source.
#[track_caller]
fn with_packages(source: Source, packages: &Path, name: &str) -> Source {
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(packages).arg(source.path().join(name));
    run(copy, &[]).ok();
    source
}

/// A function with a client from PyPI; `None` when it is not installed.
#[track_caller]
fn python(name: &str, lines: &str, handler: &str) -> Option<Source> {
    let marker = tools::tool("lambda/python/awslambdaric/__main__.py")?;
    let packages = marker.parent()?.parent()?.to_owned();
    let lines = format!(
        "runtime = \"process\"\nsource = \".\"\ncontract = \"lambda\"\nmemory = \"128MiB\"\nenv = {{ PYTHONPATH = \"/app/packages\" }}\ncommand = [\"/usr/bin/python3\", \"-m\", \"awslambdaric\", \"handler.handler\"]\n{lines}"
    );
    let source = Source::new()
        .file("handler.py", handler)
        .manifest(name, &lines);
    Some(with_packages(source, &packages, "packages"))
}

#[test]
fn a_python_handler_with_awslambdaric() {
    let handler = r#"
import os, time
calls = 0
def handler(event, context):
    global calls
    calls += 1
    if event.get("fail"):
        raise KeyError("no such room")
    if event.get("hang"):
        time.sleep(600)
    if "requestContext" in event:
        return {"statusCode": 201, "headers": {"x-made": event["rawPath"]}, "body": event.get("body") or event["rawQueryString"]}
    left = context.get_remaining_time_in_millis()
    return {"name": event["name"], "calls": calls, "id": len(context.aws_request_id) > 8, "left": 0 < left <= 2000}
"#;
    let Some(source) = python("l", "timeout = \"2s\"", handler) else {
        return;
    };
    let node = Node::start();
    node.deploy_source(&source);
    for calls in 1..=2 {
        let reply = node
            .call("POST", "/l", &[JSON], br#"{"name":"Ada"}"#)
            .expect(200);
        let expected = serde_json::json!({"name": "Ada", "calls": calls, "id": true, "left": true});
        assert_eq!(reply.json(), expected);
    }
    let url = node.get("/l/rooms?floor=2").expect(201);
    assert_eq!(
        (url.header("x-made"), url.text().as_str()),
        (Some("/rooms"), "floor=2")
    );
    let failed = node
        .call("POST", "/l", &[JSON], br#"{"fail":true}"#)
        .expect(502);
    assert!(
        failed.text().contains("KeyError") && failed.text().contains("no such room"),
        "{failed:?}"
    );
    assert!(
        node.log_of("l").contains("handler.py"),
        "{}",
        node.log_of("l")
    );
    node.call("POST", "/l", &[JSON], br#"{"hang":true}"#)
        .expect(504);
    let after = node
        .call("POST", "/l", &[JSON], br#"{"name":"Eve"}"#)
        .expect(200);
    assert_eq!(after.json()["calls"], 1, "a new process: {}", after.text());
    if let Some(client) = tools::program("coap-client-notls") {
        let mut command = Command::new(client);
        command.args(["-m", "post", "-t", "50", "-e", "{\"name\":\"Bob\"}"]);
        command.arg(format!("coap://{}/l", node.coap()));
        assert!(run(command, &[]).ok().contains("\"name\": \"Bob\""));
    }
}

#[test]
fn a_handler_that_cannot_start_is_refused() {
    let Some(source) = python("l", "", "raise RuntimeError('no configuration')\n") else {
        return;
    };
    let node = Node::start();
    node.try_deploy_source(&source)
        .failed(7, &["no configuration"]);
}

#[test]
fn a_javascript_handler_with_aws_lambda_ric() {
    let Some(marker) = tools::tool("lambda/node/node_modules/aws-lambda-ric/package.json") else {
        return;
    };
    let modules = marker.parent().unwrap().parent().unwrap();
    let handler = "exports.handler = async (event) => ({ hello: event.name });\n";
    let lines = "runtime = \"process\"\nsource = \".\"\ncontract = \"lambda\"\nmemory = \"256MiB\"\nenv = { HOME = \"/tmp\" }\ncommand = [\"/usr/bin/node\", \"node_modules/aws-lambda-ric/bin/index.mjs\", \"handler.handler\"]";
    let source = Source::new()
        .file("handler.js", handler)
        .manifest("l", lines);
    let source = with_packages(source, modules, "node_modules");
    let node = Node::start();
    node.deploy_source(&source);
    let reply = node
        .call("POST", "/l", &[JSON], br#"{"name":"Ada"}"#)
        .expect(200);
    assert_eq!(reply.json(), serde_json::json!({"hello": "Ada"}));
}

#[test]
fn a_bootstrap_file() {
    let Some(_) = tools::program("curl") else {
        return;
    };
    let bootstrap = r#"#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
while :; do
  curl -sS -D /tmp/head -o /tmp/event "$api/invocation/next" || exit 1
  id=$(tr -d '\r' < /tmp/head | awk -F': ' 'tolower($1) == "lambda-runtime-aws-request-id" { print $2 }')
  if grep -q fail /tmp/event; then
    curl -sS -o /dev/null -d '{"errorType":"Odd","errorMessage":"as told"}' "$api/invocation/$id/error"
  else
    curl -sS -o /dev/null -d "{\"got\":$(cat /tmp/event)}" "$api/invocation/$id/response"
  fi
done
"#;
    let lines = "runtime = \"process\"\nsource = \".\"\ncontract = \"lambda\"\ncommand = [\"/app/bootstrap\"]";
    let node = Node::start();
    node.deploy_source(
        &Source::new()
            .file("bootstrap", bootstrap)
            .manifest("b", lines),
    );
    let reply = node.call("POST", "/b", &[JSON], b"[1,2]").expect(200);
    assert_eq!(reply.text(), "{\"got\":[1,2]}");
    let failed = node.call("POST", "/b", &[JSON], b"\"fail\"").expect(502);
    assert!(failed.text().contains("Odd: as told"), "{}", failed.text());
}

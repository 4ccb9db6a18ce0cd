//! The Runtime API with what people run: the runtimes of Python, Node.js and Rust as they are
//! published, and a shell script.
//!
//! `MOTE_TEST_LAMBDA` names the folder that they were installed into, by the commands beside each.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, Command};

use super::*;

/// Where a runtime is, if it was installed.
fn installed(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("MOTE_TEST_LAMBDA");
    let path = folder.map(|folder| Path::new(&folder).join(name));
    let there = path.filter(|path| path.exists());
    if there.is_none() {
        eprintln!("skipped: there is no {name} in the folder that $MOTE_TEST_LAMBDA names");
    }
    there
}

/// A program that asks the API, with only what Lambda's own environment has.
fn start(served: &Served, command: &mut Command, folder: &Path, handler: &str) -> Child {
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("AWS_LAMBDA_RUNTIME_API", served.address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "hello")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "hello")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "1")
        .env("AWS_REGION", "local")
        .env("LAMBDA_TASK_ROOT", folder)
        .env("_HANDLER", handler)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

const START_MAX: Duration = Duration::from_secs(30);

/// What every runtime has to do, told by a handler that echoes or fails.
async fn check(served: &Served) {
    served.api.initialized(START_MAX).await.unwrap();
    for number in 0..3 {
        let call = post(&format!(r#"{{"n":{number}}}"#));
        let id = call.id.to_string();
        let reply = bytes(served.call(call).await.unwrap()).await;
        let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
        assert_eq!(reply["got"]["n"], number);
        assert_eq!(reply["id"], id);
        let arn = "arn:aws:lambda:local:000000000000:function:hello.home";
        assert_eq!(reply["arn"], arn);
    }
    let error = served.call(post(r#"{"fail":true}"#)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FunctionFailed);
    assert!(error.message().contains("as asked"), "{error}");
    // It goes on after that.
    let get = invocation(Method::GET, "/hello/a?b=c", &[], "");
    let reply = bytes(served.call(get).await.unwrap()).await;
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply["got"]["rawPath"], "/a");
}

/// `python3 -m venv python && python/bin/pip install awslambdaric`
#[tokio::test]
async fn awslambdaric_serves() {
    let Some(python) = installed("python/bin/python3") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let source = r#"
def handle(event, context):
    if event.get("fail"):
        raise ValueError("as asked")
    if event.get("large"):
        return "x" * (2 << 20)
    assert context.get_remaining_time_in_millis() > 0
    return {"got": event, "id": context.aws_request_id, "arn": context.invoked_function_arn}
"#;
    std::fs::write(folder.path().join("app.py"), source).unwrap();
    let served = served().await;
    let mut command = Command::new(&python);
    command.args(["-m", "awslambdaric", "app.handle"]);
    let _child = start(&served, &mut command, folder.path(), "app.handle");
    check(&served).await;
    let lines = served.lines.0.lock().unwrap().join("\n");
    assert!(lines.contains("raise ValueError"), "{lines}");
    let error = served.call(post(r#"{"large":true}"#)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn awslambdaric_says_why_it_cannot_start() {
    let Some(python) = installed("python/bin/python3") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.py"), "import not_there\n").unwrap();
    let served = served().await;
    let mut command = Command::new(&python);
    command.args(["-m", "awslambdaric", "app.handle"]);
    let _child = start(&served, &mut command, folder.path(), "app.handle");
    let error = served.api.initialized(START_MAX).await.unwrap_err();
    assert!(error.message().contains("not_there"), "{error}");
}

/// `npm install --prefix nodejs aws-lambda-ric`, which needs cmake, g++, make, autoconf, automake
/// and libtool.
#[tokio::test]
async fn aws_lambda_ric_serves() {
    let Some(runtime) = installed("nodejs/node_modules/aws-lambda-ric/bin/index.mjs") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let source = r#"
exports.handle = async (event, context) => {
    if (event.fail) throw new Error("as asked");
    return { got: event, id: context.awsRequestId, arn: context.invokedFunctionArn };
};
exports.stream = awslambda.streamifyResponse(async (event, out) => {
    out = awslambda.HttpResponseStream.from(out, { statusCode: 203, headers: { "x-a": "b" } });
    for (const part of ["one ", "two ", "three"]) {
        out.write(part);
        await new Promise((done) => setTimeout(done, 10));
    }
    out.end();
});
"#;
    std::fs::write(folder.path().join("app.js"), source).unwrap();
    let served = served().await;
    let mut command = Command::new("node");
    command.arg(&runtime).arg("app.handle");
    let child = start(&served, &mut command, folder.path(), "app.handle");
    check(&served).await;
    drop(child);

    let served = super::served().await;
    let mut command = Command::new("node");
    command.arg(&runtime).arg("app.stream");
    let _child = start(&served, &mut command, folder.path(), "app.stream");
    for _ in 0..2 {
        let reply = served.call(post("{}")).await.unwrap();
        assert_eq!(reply.status.as_u16(), 203);
        assert_eq!(reply.headers["x-a"], "b");
        assert!(matches!(reply.body, Body::Stream(_)));
        assert_eq!(bytes(reply).await, "one two three");
    }
}

/// `cargo build --release` of `rust/`, whose program answers as the others do.
#[tokio::test]
async fn lambda_runtime_serves() {
    let Some(program) = installed("rust/target/release/rustric") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let served = served().await;
    let _child = start(&served, &mut Command::new(&program), folder.path(), "x");
    check(&served).await;
}

#[tokio::test]
async fn a_bootstrap_file_serves() {
    if std::process::Command::new("curl")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: there is no curl");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = r#"
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while event=$(curl -sS --fail -D head "$api/next"); do
    field() { sed -n "s/^$1: *//Ip" head | tr -d '\r'; }
    id=$(field lambda-runtime-aws-request-id)
    case $event in
    *fail*) curl -sS "$api/$id/error" -d '{"errorType":"Shell","errorMessage":"as asked"}' ;;
    *) curl -sS "$api/$id/response" -d "{\"got\":$event,\"id\":\"$id\",\"arn\":\"$(field lambda-runtime-invoked-function-arn)\"}" ;;
    esac
done
"#;
    std::fs::write(folder.path().join("bootstrap"), source).unwrap();
    let served = served().await;
    let mut command = Command::new("sh");
    command.arg("bootstrap");
    let mut child = start(&served, &mut command, folder.path(), "x");
    check(&served).await;
    served.api.gone();
    let status = child.wait().await.unwrap();
    assert!(status.success(), "{status}");
}

//! A handler as anybody writes it with `lambda_runtime`; it knows nothing of the node that runs it.
//!
//! It does what the handlers in the other languages do. As `stream` it writes its answer in two
//! pieces, the second when a file is there; as `broken` it does not start.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, StatusCode};
use lambda_runtime::streaming::{Body, Response, channel};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, MetadataPrelude, run, service_fn};
use serde_json::{Value, json};

static CALLS: AtomicU64 = AtomicU64::new(0);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    match std::env::var("_HANDLER").as_deref() {
        Ok("stream") => run(service_fn(stream)).await,
        Ok("broken") => Err("no configuration".into()),
        _ => run(service_fn(handle)).await,
    }
}

async fn handle(event: LambdaEvent<Value>) -> Result<Value, Diagnostic> {
    let (event, context) = event.into_parts();
    let calls = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
    if event.get("requestContext").is_some() {
        return Ok(url(&event));
    }
    if event["fail"] == true {
        eprintln!("handler.rs: looked for the room");
        return Err(Diagnostic {
            error_type: "LookupError".into(),
            error_message: "no such room".into(),
        });
    }
    if event["hang"] == true {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let left = Duration::from_millis(context.deadline).saturating_sub(now);
    eprintln!("served {}", context.request_id);
    Ok(json!({
        "hello": event["name"],
        "calls": calls,
        "id": context.request_id,
        "left": u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }))
}

fn url(event: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let method = text(&event["requestContext"]["http"]["method"]);
    let floor = text(&event["queryStringParameters"]["floor"]);
    let sent = text(&event["headers"]["x-sent"]);
    json!({
        "statusCode": 201,
        "headers": { "x-made": format!("{method} {}", text(&event["rawPath"])), "content-type": "text/plain" },
        "body": format!("{floor} {sent} {}", text(&event["body"])),
    })
}

async fn stream(event: LambdaEvent<Value>) -> Result<Response<Body>, Error> {
    let gate = PathBuf::from(event.payload["gate"].as_str().unwrap_or_default());
    let (mut pieces, stream) = channel();
    tokio::spawn(async move {
        // A caller that has gone wants no more.
        if pieces.send_data("first ".into()).await.is_err() {
            return;
        }
        while !gate.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = pieces.send_data("second".into()).await;
    });
    let headers = HeaderMap::from_iter([(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain"),
    )]);
    Ok(Response {
        metadata_prelude: MetadataPrelude {
            status_code: StatusCode::NON_AUTHORITATIVE_INFORMATION,
            headers,
            cookies: Vec::new(),
        },
        stream,
    })
}

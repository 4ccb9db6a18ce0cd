//! The log of a function: its last lines, and on request those to come, one JSON value per line.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use mote_api::wire::{LogLine, level};
use mote_core::error::{Error, ErrorKind};
use mote_core::log::Level;
use mote_engine::logs::Line;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::description::{OfFunction, Refused};
use super::functions::parse;
use super::reply::Answer;
use super::{Admin, STREAMS_MAX, permit};

/// A followed log that is quiet sends an empty line this often, so that a client that has gone is
/// noticed and its stream freed.
const BEAT: Duration = Duration::from_secs(15);

/// Which lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogsQuery {
    follow: bool,
    tail: Option<u32>,
    level: Option<String>,
}

/// The lines a function wrote, oldest first; with `follow`, also those to come. Empty lines are
/// sent to keep the connection alive.
#[utoipa::path(
    get, path = "/v1/functions/{name}/logs", security(("token" = [])),
    params(
        OfFunction,
        ("follow" = Option<bool>, Query, description = "go on with new lines"),
        ("tail" = Option<u32>, Query, description = "at most this many past lines"),
        ("level" = Option<String>, Query, description = "the least important level: trace, debug, info, warn, error")
    ),
    responses((status = 200, body = LogLine, content_type = "application/x-ndjson"), Refused)
)]
pub(super) async fn logs(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    query: Result<Query<LogsQuery>, QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|rejection| {
        Error::new(
            ErrorKind::BadRequest,
            format!("the query is not valid: {}", rejection.body_text()),
        )
        .with_hint("known keys are follow, tail and level")
    })?;
    let least = query.level.as_deref().map_or(Ok(Level::Trace), level)?;
    let tail = admin.control.logs(&parse(&name)?)?;

    let past: Vec<&Arc<Line>> = tail
        .lines
        .iter()
        .filter(|line| line.level >= least)
        .collect();
    let wanted = query.tail.map_or(past.len(), |count| count as usize);
    let mut text = Vec::new();
    for line in &past[past.len().saturating_sub(wanted)..] {
        write(&mut text, line);
    }
    let body = if query.follow {
        let permit = permit(&admin.streams, STREAMS_MAX, "log streams")?;
        let follower = Follower {
            live: tail.live,
            least,
            shutdown: admin.shutdown.clone(),
        };
        let first = stream::iter((!text.is_empty()).then(|| Ok(Bytes::from(text))));
        let live = stream::unfold((follower, permit), |(mut follower, permit)| async move {
            let piece = follower.next().await?;
            Some((Ok::<_, std::convert::Infallible>(piece), (follower, permit)))
        });
        Body::from_stream(first.chain(live))
    } else {
        Body::from(text)
    };
    let mut response = Response::new(body);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    Ok(response)
}

struct Follower {
    live: Receiver<Arc<Line>>,
    least: Level,
    shutdown: CancellationToken,
}

impl Follower {
    /// The next piece of the stream; `None` when the function or the node goes.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let received = tokio::select! {
                received = tokio::time::timeout(BEAT, self.live.recv()) => received,
                () = self.shutdown.cancelled() => return None,
            };
            let mut text = Vec::new();
            match received {
                Err(_) => text.push(b'\n'),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(count))) => missed(&mut text, count),
                Ok(Ok(line)) if line.level >= self.least => write(&mut text, &line),
                Ok(Ok(_)) => continue,
            }
            return Some(text.into());
        }
    }
}

fn write(text: &mut Vec<u8>, line: &Line) {
    push(
        text,
        &LogLine {
            time_ms: line.time_ms,
            call: line.call.to_string(),
            level: line.level.label().to_owned(),
            text: line.text.clone(),
        },
    );
}

/// A reader that is too slow is told what it missed.
fn missed(text: &mut Vec<u8>, count: u64) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or_default()
        });
    push(
        text,
        &LogLine {
            time_ms: now,
            call: String::new(),
            level: Level::Warn.label().to_owned(),
            text: format!("({count} lines were missed: the reader is too slow)"),
        },
    );
}

fn push(text: &mut Vec<u8>, line: &LogLine) {
    // A struct of texts and numbers always serialises.
    text.extend(serde_json::to_vec(line).unwrap_or_default());
    text.push(b'\n');
}

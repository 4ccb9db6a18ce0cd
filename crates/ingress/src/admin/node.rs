//! The node itself: health, status, metrics, and removing everything.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use mote_api::problem::Problem;
use mote_api::wire::{Status, WIPE_WORD, Warm, Wipe, Wiped};
use mote_core::error::{Error, ErrorKind};

use super::Admin;
use super::description::Refused;
use super::reply::{Answer, json, read_json, typed};

const TEXT: &str = "text/plain; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the program runs.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn health() -> Answer {
    Ok(typed(TEXT, Bytes::from_static(b"ok\n")))
}

/// Whether the node takes calls.
#[utoipa::path(
    get, path = "/readyz",
    responses((status = 200, body = String, content_type = "text/plain"), (status = 503, body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn ready(State(admin): State<Admin>) -> Answer {
    let status = admin.control.status();
    if status.draining {
        return Err(Error::new(ErrorKind::Overloaded, "the node is about to stop").into());
    }
    if !status.ready {
        return Err(Error::new(ErrorKind::Overloaded, "the node is not ready yet").into());
    }
    Ok(typed(TEXT, Bytes::from_static(b"ready\n")))
}

/// How the node is.
#[utoipa::path(
    get, path = "/v1/status", security(("token" = [])),
    responses((status = 200, body = Status), Refused)
)]
pub(super) async fn status(State(admin): State<Admin>) -> Answer {
    let status = admin.control.status();
    let isolation = admin.control.isolation().await;
    json(
        StatusCode::OK,
        &Status {
            ready: status.ready,
            draining: status.draining,
            node: format!("{:08x}", status.node),
            version: admin.config.version.to_owned(),
            uptime_s: status.uptime.as_secs(),
            functions: status.functions as u64,
            in_flight: status.in_flight,
            waiting: status.waiting,
            calls: status.calls,
            doors: admin.config.doors.clone(),
            memory_bytes: status.memory.limit(),
            memory_reserved_bytes: status.memory.reserved(),
            isolation: isolation
                .into_iter()
                .map(|(kind, line)| (kind.label().to_owned(), line))
                .collect(),
            warm: Warm {
                ready: status.warm.ready,
                taken: status.warm.taken,
                off: status.warm.off,
            },
        },
    )
}

/// Every number the node counts, in the OpenMetrics text format.
#[utoipa::path(
    get, path = "/metrics", security(("token" = [])),
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(admin): State<Admin>) -> Answer {
    Ok(typed(OPENMETRICS, admin.control.metrics().into()))
}

/// Remove every function.
#[utoipa::path(
    post, path = "/v1/wipe", security(("token" = [])), request_body = Wipe,
    responses((status = 200, body = Wiped), Refused)
)]
pub(super) async fn wipe(State(admin): State<Admin>, headers: HeaderMap, body: Body) -> Answer {
    let Wipe { confirm } = read_json(&headers, body, admin.config.body_timeout).await?;
    if confirm != WIPE_WORD {
        return Err(
            Error::new(ErrorKind::BadRequest, "a wipe was not confirmed")
                .with_hint(format!("send {{\"confirm\":\"{WIPE_WORD}\"}}"))
                .into(),
        );
    }
    let permit = admin.change()?;
    let control = admin.control.clone();
    let functions = admin
        .finish(permit, async move { control.wipe().await })
        .await? as u64;
    json(StatusCode::OK, &Wiped { functions })
}

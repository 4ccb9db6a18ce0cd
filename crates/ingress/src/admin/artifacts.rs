//! Code: raw bytes under the digest that they must have.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use mote_api::wire::Artifact;
use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};

use super::Admin;
use super::description::Refused;
use super::reply::{Answer, json, read};

/// Upload code, which a deploy then names by its digest. Uploading the same twice is fine; what no
/// function uses is deleted after an hour.
#[utoipa::path(
    put, path = "/v1/artifacts/{digest}", security(("token" = [])),
    params(("digest" = String, Path, description = "BLAKE3 of the bytes, 64 hexadecimal digits")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = Artifact), Refused)
)]
pub(super) async fn put(
    State(admin): State<Admin>,
    Path(digest): Path<String>,
    body: Body,
) -> Answer {
    let expected: Digest = digest.parse()?;
    // Taken before the body is read: uploads hold their bytes in memory.
    let permit = admin.change()?;
    let bytes = read(
        body,
        admin.config.artifact_bytes_max,
        admin.config.body_timeout,
    )
    .await?;
    if bytes.is_empty() {
        return Err(Error::new(ErrorKind::BadRequest, "the artifact is empty").into());
    }
    let length = bytes.len() as u64;
    let control = admin.control.clone();
    let found = admin
        .finish(permit, async move { control.put_artifact(bytes).await })
        .await?;
    if found != expected {
        // The bytes are kept under their own digest until the sweep; nothing refers to them.
        return Err(Error::new(
            ErrorKind::BadRequest,
            format!("the bytes have digest {found}, not {expected}"),
        )
        .with_hint("upload again: the file changed or the transfer was damaged")
        .into());
    }
    let artifact = Artifact {
        digest: found.to_string(),
        bytes: length,
    };
    json(StatusCode::OK, &artifact)
}

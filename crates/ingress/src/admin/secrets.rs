//! Secrets of apps: set, listed by name, removed. No answer holds a value.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use mote_api::wire::data::SecretList;
use mote_core::error::{Error, ErrorKind};
use mote_core::name::AppName;
use mote_core::secrets::VALUE_BYTES_MAX;

use super::Admin;
use super::description::{InApp, OfSecret, Refused};
use super::reply::{Answer, json, read};

/// The names of an app's secrets.
#[utoipa::path(
    get, path = "/v1/apps/{app}/secrets", security(("token" = [])),
    params(InApp),
    responses((status = 200, body = SecretList), Refused)
)]
pub(super) async fn list(State(admin): State<Admin>, Path(app): Path<String>) -> Answer {
    let app: AppName = app.parse()?;
    let names = admin.data.secrets.names(&app);
    json(StatusCode::OK, &SecretList { names })
}

/// Set a secret to the text of the body. Functions that are granted it see it from their next call.
#[utoipa::path(
    put, path = "/v1/apps/{app}/secrets/{name}", security(("token" = [])),
    params(OfSecret),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "it is set"), Refused)
)]
pub(super) async fn set(
    State(admin): State<Admin>,
    Path((app, name)): Path<(String, String)>,
    body: Body,
) -> Answer {
    let app: AppName = app.parse()?;
    let permit = admin.change()?;
    let limit = VALUE_BYTES_MAX as u64;
    let value = read(body, limit, admin.config.body_timeout).await?;
    let value = std::str::from_utf8(&value).map_err(|_| {
        Error::new(
            ErrorKind::BadRequest,
            "the value of a secret is text in UTF-8",
        )
        .with_hint("encode binary values, for example with base64")
    })?;
    let (secrets, value) = (admin.data.secrets.clone(), value.into());
    let set = async move { secrets.set(&app, &name, value).await };
    admin.finish(permit, set).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Remove a secret.
#[utoipa::path(
    delete, path = "/v1/apps/{app}/secrets/{name}", security(("token" = [])),
    params(OfSecret),
    responses((status = 204, description = "it is gone"), Refused)
)]
pub(super) async fn remove(
    State(admin): State<Admin>,
    Path((app, name)): Path<(String, String)>,
) -> Answer {
    let app: AppName = app.parse()?;
    let permit = admin.change()?;
    let missing = Error::new(
        ErrorKind::NotFound,
        format!("app `{app}` has no secret `{}`", name.escape_debug()),
    )
    .with_hint(format!("`mote secret ls --app {app}` lists them"));
    let secrets = admin.data.secrets.clone();
    let remove = async move { secrets.remove(&app, &name).await };
    match admin.finish(permit, remove).await? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(missing.into()),
    }
}

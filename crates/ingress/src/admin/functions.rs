//! Functions: list, show, deploy, remove, roll back.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use mote_api::spec::FunctionSpec;
use mote_api::wire::{
    Deploy, FunctionInfo, FunctionList, InstancesInfo, Rescale, Rollback, VersionInfo,
};
use mote_core::error::{Error, ErrorKind};
use mote_core::name::{AppName, FunctionName};
use mote_engine::control::FunctionView;

use super::Admin;
use super::description::{OfFunction, Refused};
use super::reply::{Answer, json, read_json};

/// Every function, by name.
#[utoipa::path(
    get, path = "/v1/functions", security(("token" = [])),
    responses((status = 200, body = FunctionList), Refused)
)]
pub(super) async fn list(State(admin): State<Admin>) -> Answer {
    let functions = admin.control.functions();
    let functions = functions.iter().map(|view| info(&admin, view));
    let functions = functions.collect::<Result<_, _>>()?;
    json(StatusCode::OK, &FunctionList { functions })
}

/// One function.
#[utoipa::path(
    get, path = "/v1/functions/{name}", security(("token" = [])),
    params(OfFunction),
    responses((status = 200, body = FunctionInfo), Refused)
)]
pub(super) async fn show(State(admin): State<Admin>, Path(name): Path<String>) -> Answer {
    let view = admin.control.function(&parse(&name)?)?;
    json(StatusCode::OK, &info(&admin, &view)?)
}

/// Deploy the first version of a function, or its next one: all or nothing. The code must have
/// been uploaded; `404` says that it was not.
#[utoipa::path(
    put, path = "/v1/functions/{name}", security(("token" = [])), request_body = Deploy,
    params(OfFunction),
    responses(
        (status = 200, body = FunctionInfo, description = "a new version is live"),
        (status = 201, body = FunctionInfo, description = "the first version is live"),
        Refused
    )
)]
pub(super) async fn deploy(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = parse(&name)?;
    let deploy: Deploy = read_json(&headers, body, admin.config.body_timeout).await?;
    let digest = deploy.digest()?;
    let spec = deploy.spec.into_core(name.clone())?;
    let permit = admin.change()?;
    let control = admin.control.clone();
    let view = admin
        .finish(permit, async move { control.deploy(spec, digest).await })
        .await?;
    let first = view.record.live == 1;
    let status = if first {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let mut response = json(status, &info(&admin, &view)?)?;
    if let (true, Ok(location)) = (
        first,
        HeaderValue::try_from(format!("/v1/functions/{}", name.full())),
    ) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Remove a function with all its versions.
#[utoipa::path(
    delete, path = "/v1/functions/{name}", security(("token" = [])),
    params(OfFunction),
    responses((status = 204, description = "it is gone"), Refused)
)]
pub(super) async fn remove(State(admin): State<Admin>, Path(name): Path<String>) -> Answer {
    let name = parse(&name)?;
    let permit = admin.change()?;
    let control = admin.control.clone();
    admin
        .finish(permit, async move { control.remove(&name).await })
        .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Make an older version live again.
#[utoipa::path(
    post, path = "/v1/functions/{name}/rollback", security(("token" = [])), request_body = Rollback,
    params(OfFunction),
    responses((status = 200, body = FunctionInfo), Refused)
)]
pub(super) async fn rollback(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = parse(&name)?;
    let Rollback { version } = read_json(&headers, body, admin.config.body_timeout).await?;
    let permit = admin.change()?;
    let control = admin.control.clone();
    let view = admin
        .finish(
            permit,
            async move { control.rollback(&name, version).await },
        )
        .await?;
    json(StatusCode::OK, &info(&admin, &view)?)
}

/// Change how many instances the live version may have, from now on. `409` for WebAssembly.
#[utoipa::path(
    post, path = "/v1/functions/{name}/scale", security(("token" = [])), request_body = Rescale,
    params(OfFunction),
    responses((status = 200, body = FunctionInfo), Refused)
)]
pub(super) async fn rescale(
    State(admin): State<Admin>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let name = parse(&name)?;
    let Rescale { min, max } = read_json(&headers, body, admin.config.body_timeout).await?;
    let permit = admin.change()?;
    let control = admin.control.clone();
    let view = admin
        .finish(
            permit,
            async move { control.rescale(&name, min, max).await },
        )
        .await?;
    json(StatusCode::OK, &info(&admin, &view)?)
}

/// A name from an address.
pub(super) fn parse(name: &str) -> Result<FunctionName, Error> {
    name.parse()
}

fn info(admin: &Admin, view: &FunctionView) -> Result<FunctionInfo, Error> {
    let record = &view.record;
    let live = record.live().ok_or_else(|| {
        Error::new(
            ErrorKind::Internal,
            format!("function `{}` has no live version", record.name),
        )
    })?;
    Ok(FunctionInfo {
        name: record.name.short().to_owned(),
        app: record.name.app().to_owned(),
        version: record.live,
        shape: view.shape.to_owned(),
        spec: FunctionSpec::from(&live.spec),
        versions: record
            .versions
            .iter()
            .map(|version| VersionInfo {
                version: version.number,
                live: version.number == record.live,
                artifact: version.artifact.to_string(),
                deployed_ms: version.deployed_ms,
            })
            .collect(),
        state: state(view).to_owned(),
        loaded: view.loaded,
        instances: view.group.as_ref().map(|group| InstancesInfo {
            running: group.running,
            paused: group.paused,
            starting: group.starting,
            deaths: group.deaths,
            decision: group.decision.clone(),
            unhealthy: group.unhealthy.clone(),
        }),
        isolation: view.isolation.clone(),
        warnings: warnings(admin, &live.spec),
        in_flight: view.in_flight,
        waiting: view.waiting,
        calls: view.calls,
        failures: view.failures,
    })
}

/// A deploy may come before the secrets that it needs; then it says so.
fn warnings(admin: &Admin, spec: &mote_core::spec::FunctionSpec) -> Vec<String> {
    let app = AppName::from(&spec.name);
    let granted = spec.allow.secrets.iter();
    let missing = granted.filter(|name| admin.data.secrets.get(&app, name).is_none());
    missing
        .map(|name| {
            format!("secret `{name}` is granted and not set: `mote secret set {name} --app {app}`")
        })
        .collect()
}

/// How far a function is from answering.
fn state(view: &FunctionView) -> &'static str {
    let Some(group) = &view.group else {
        return match (view.shape, view.loaded) {
            ("broken", _) => "broken",
            (_, true) => "hot",
            (_, false) => "cold",
        };
    };
    match group {
        _ if group.running > 0 => "hot",
        _ if group.paused > 0 => "warm",
        _ if group.unhealthy.is_some() => "unhealthy",
        _ => "cold",
    }
}

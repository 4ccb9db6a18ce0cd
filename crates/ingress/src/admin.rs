//! The admin API: what people and programs do to a node, over HTTP on the loopback address.
//!
//! Every address but `/healthz` and `/readyz` needs the bearer token. Every error is a problem
//! document (RFC 9457), the framework's own included. Connections, headers, bodies, changes at once
//! and idle time are bounded. Ends when told to, after the requests that run, within the grace.

mod artifacts;
mod description;
mod functions;
mod key_value;
mod logs;
mod node;
mod reply;
mod secrets;
mod serve;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use mote_api::wire;
use mote_core::error::{Error, ErrorKind};
use mote_core::key_value::KeyValueAdmin;
use mote_core::secrets::SecretStore;
use mote_engine::control::Control;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How the admin door behaves.
#[derive(Clone)]
pub struct AdminConfig {
    /// The bearer token that every request but the health checks must carry.
    pub token: String,
    /// The version of the program, for `/v1/status`.
    pub version: &'static str,
    /// Where the doors listen, for `/v1/status`.
    pub doors: wire::Doors,
    /// Largest artifact.
    pub artifact_bytes_max: u64,
    /// Most connections at once.
    pub connections_max: u32,
    /// Longest wait for a whole head, and so for the next request on an open connection.
    pub header_timeout: Duration,
    /// Longest wait for the next piece of a body.
    pub body_timeout: Duration,
    /// How long requests may go on after shutdown was asked for.
    pub grace: Duration,
}

impl AdminConfig {
    /// The defaults, with this token.
    pub fn new(token: String) -> Self {
        Self {
            token,
            version: env!("CARGO_PKG_VERSION"),
            doors: wire::Doors::default(),
            artifact_bytes_max: 256 << 20,
            connections_max: 64,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            grace: Duration::from_secs(10),
        }
    }
}

impl std::fmt::Debug for AdminConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("AdminConfig")
            .field("version", &self.version)
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}

/// What apps keep on a node.
#[derive(Clone)]
pub struct Data {
    /// Their key-value data.
    pub key_value: Arc<dyn KeyValueAdmin>,
    /// Their secrets.
    pub secrets: Arc<dyn SecretStore>,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").finish_non_exhaustive()
    }
}

/// Serves the admin API until `shutdown`, then lets requests end within the grace.
pub async fn run(
    listener: TcpListener,
    control: Control,
    data: Data,
    config: AdminConfig,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let admin = Admin::new(control, data, config, shutdown);
    let (router, _) = router(admin.clone());
    serve::run(listener, router, &admin).await;
    Ok(())
}

/// The description of the API (OpenAPI 3.1), made from the same routes that answer.
pub fn openapi() -> OpenApi {
    routes().into_openapi()
}

/// Most changes (deploys, uploads, removals) at once: each may hold an artifact in memory.
const CHANGES_MAX: usize = 4;
/// Most log streams at once; fewer than the connections, so that they cannot take them all.
const STREAMS_MAX: usize = 24;

/// What every handler holds.
#[derive(Clone)]
pub(crate) struct Admin {
    control: Control,
    data: Data,
    config: Arc<AdminConfig>,
    shutdown: CancellationToken,
    changes: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Admin {
    fn new(control: Control, data: Data, config: AdminConfig, shutdown: CancellationToken) -> Self {
        Self {
            control,
            data,
            config: Arc::new(config),
            shutdown,
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            tasks: TaskTracker::new(),
        }
    }

    /// The right to make a change.
    fn change(&self) -> Result<OwnedSemaphorePermit, Error> {
        permit(&self.changes, CHANGES_MAX, "changes")
    }

    /// Runs a change to its end, also when the client has gone: half a deploy is none.
    async fn finish<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        change: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let task = self.tasks.spawn(async move {
            let result = change.await;
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change ended without a result");
            Err(Error::new(
                ErrorKind::Internal,
                "the change ended without a result",
            ))
        })
    }
}

fn permit(
    semaphore: &Arc<Semaphore>,
    max: usize,
    what: &str,
) -> Result<OwnedSemaphorePermit, Error> {
    Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
        Error::new(
            ErrorKind::Overloaded,
            format!("{max} {what} run already, which is the limit"),
        )
        .with_hint("try again when one has ended")
        .with_retry_after(Duration::from_secs(1))
    })
}

fn routes() -> OpenApiRouter<Admin> {
    let mut schemes = Components::new();
    schemes.add_security_scheme(
        "token",
        SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
    );
    let base = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Mote admin API")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("Deploy functions to a node and look after them."))
                .build(),
        )
        .components(Some(schemes))
        .build();
    OpenApiRouter::with_openapi(base)
        .routes(routes!(node::health))
        .routes(routes!(node::ready))
        .routes(routes!(node::status))
        .routes(routes!(node::metrics))
        .routes(routes!(node::wipe))
        .routes(routes!(functions::list))
        .routes(routes!(
            functions::show,
            functions::deploy,
            functions::remove
        ))
        .routes(routes!(functions::rollback))
        .routes(routes!(functions::rescale))
        .routes(routes!(logs::logs))
        .routes(routes!(artifacts::put))
        .routes(routes!(key_value::usage))
        .routes(routes!(key_value::buckets, key_value::clear_app))
        .routes(routes!(key_value::keys, key_value::clear_bucket))
        .routes(routes!(key_value::get, key_value::set, key_value::remove))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::remove))
}

/// The routes with what stands around all of them.
fn router(admin: Admin) -> (Router, OpenApi) {
    let (router, openapi) = routes().split_for_parts();
    let document = bytes::Bytes::from(openapi.to_json().unwrap_or_default());
    let router = router
        .route(
            "/openapi.json",
            axum::routing::get(move || async move { reply::typed("application/json", document) }),
        )
        .fallback(reply::no_such_address)
        .layer(axum::middleware::from_fn_with_state(
            admin.clone(),
            token::check,
        ))
        .layer(axum::middleware::map_response(reply::as_problem))
        .with_state(admin);
    (router, openapi)
}

#[cfg(test)]
mod tests;

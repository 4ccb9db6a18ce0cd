//! What the node serves to one container on the network of its app: the Lambda Runtime API, the way
//! out to granted origins, and what the container may ask of the node.
//!
//! A container reaches every address of the node by way of its gateway, so these listeners take
//! connections only from the interface of the app's own network: another app, or another machine,
//! does not reach them. They end with the container.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};
use mote_core::host::Host;
use mote_core::log::Level;
use mote_core::spec::FunctionSpec;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::lines::Lines;
use super::network::Member;
use crate::contract::egress;
use crate::contract::inward::Inward;
use crate::contract::lambda::{LambdaApi, Settings};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;
/// Connections of a program to the Lambda Runtime API: one that waits for a call, one that answers.
const LAMBDA_CONNECTIONS_MAX: usize = 8;

/// The listeners of one container. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Gateway {
    shutdown: CancellationToken,
    _end: DropGuard,
    /// What the container is told of them.
    pub(super) env: Vec<(&'static str, String)>,
}

impl Gateway {
    pub(super) fn new() -> Self {
        let shutdown = CancellationToken::new();
        Self {
            _end: shutdown.clone().drop_guard(),
            shutdown,
            env: Vec::new(),
        }
    }

    /// Ends the listeners and their connections.
    pub(super) fn end(&self) {
        self.shutdown.cancel();
    }

    /// Serves the Lambda Runtime API.
    pub(super) fn lambda(
        &mut self,
        member: &Member,
        spec: &FunctionSpec,
        lines: &Arc<Lines>,
    ) -> Result<Arc<LambdaApi>, Error> {
        let (listener, address) = listen(member)?;
        let lines = Arc::clone(lines);
        let api = LambdaApi::new(Settings {
            function: spec.name.clone(),
            connections: LAMBDA_CONNECTIONS_MAX,
            log: Arc::new(move |text| lines.line(Level::Error, text)),
        });
        tokio::spawn(Arc::clone(&api).serve(listener, self.shutdown.clone()));
        let megabytes = (spec.limits.memory_bytes >> 20).max(1).to_string();
        self.env.extend([
            ("AWS_LAMBDA_RUNTIME_API", address.to_string()),
            ("AWS_LAMBDA_FUNCTION_NAME", spec.name.full().to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", megabytes),
        ]);
        Ok(api)
    }

    /// Serves the way out, when something is granted.
    pub(super) fn egress(
        &mut self,
        member: &Member,
        spec: &FunctionSpec,
        lines: &Arc<Lines>,
    ) -> Result<(), Error> {
        if spec.allow.http.is_empty() {
            return Ok(());
        }
        let (listener, address) = listen(member)?;
        let lines = Arc::clone(lines);
        let log: egress::Log = Arc::new(move |text| lines.line(Level::Error, text));
        tokio::spawn(egress::serve(
            listener,
            spec.allow.http.clone(),
            log,
            self.shutdown.clone(),
        ));
        let proxy = format!("http://{address}");
        for key in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
            self.env.push((key, proxy.clone()));
        }
        // The node's own services are not behind the proxy.
        let near = format!("localhost,127.0.0.1,{}", address.ip());
        self.env
            .extend([("NO_PROXY", near.clone()), ("no_proxy", near)]);
        Ok(())
    }

    /// Listens for what the program asks of the node, when something is granted.
    pub(super) fn inward(
        &mut self,
        member: &Member,
        spec: &FunctionSpec,
        host: Arc<dyn Host>,
    ) -> Result<Option<Arc<Inward>>, Error> {
        if !spec.allow.asks_the_node() {
            return Ok(None);
        }
        let (listener, address) = listen(member)?;
        let inward = Inward::new(host, spec.limits.body_bytes)?;
        tokio::spawn(Arc::clone(&inward).serve(listener, self.shutdown.clone()));
        self.env
            .extend(inward.variables(&format!("http://{address}")));
        Ok(Some(inward))
    }
}

/// A listener that only the containers of one app reach.
fn listen(member: &Member) -> Result<(TcpListener, SocketAddr), Error> {
    let bound = member
        .gateway
        .ok_or_else(|| io::Error::other("the network has no gateway"))
        .and_then(|gateway| bind(gateway, &member.bridge));
    bound.map_err(|error| {
        let message = format!(
            "could not listen on the network {} for its containers: {error}",
            member.network
        );
        Error::new(ErrorKind::Unsupported, message).with_hint(
            "contract `lambda` and the grants of `allow` need networks that are this machine's before a container starts, as Docker's are when it runs as root; or write runtime = \"process\"",
        )
    })
}

fn bind(gateway: IpAddr, bridge: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = match gateway {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind_device(Some(bridge.as_bytes()))?;
    socket.bind(SocketAddr::new(gateway, 0))?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

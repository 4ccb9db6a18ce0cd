//! The network of an app: internal, so that its containers reach each other and the node and
//! nothing else.
//!
//! It is made for the first container and kept as long as the app has functions, since making one
//! takes a fifth of a cold start. Networks without containers are few, though: each takes one of the
//! engine's subnets, so the one that rested longest makes room for another.
//!
//! One task makes and removes networks, one after the other, so that an app never has two and none
//! is removed from under a container that is about to join. It ends with the runtime.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use mote_core::error::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::engine::{Engine, NODE_LABEL, status};

/// Most networks that are kept without a container. Engines have about 30 subnets by default.
const RESTING_MAX: usize = 8;

/// The networks of this node's apps.
#[derive(Debug)]
pub(super) struct Networks {
    engine: Arc<Engine>,
    node: String,
    orders: OnceLock<mpsc::UnboundedSender<Order>>,
}

/// What the task is told. There are two for each container and each version of a function, so they
/// are as bounded as those.
#[derive(Debug)]
enum Order {
    Join {
        app: String,
        answer: oneshot::Sender<Result<Member, Error>>,
    },
    Leave {
        app: String,
    },
    Hold {
        app: String,
    },
    Release {
        app: String,
    },
}

/// A container's right to its app's network.
#[derive(Debug)]
pub(super) struct Member {
    /// Its name in the engine.
    pub(super) network: String,
    /// The node's address on it.
    pub(super) gateway: Option<IpAddr>,
    /// The node's interface of it.
    pub(super) bridge: String,
    app: String,
    orders: mpsc::UnboundedSender<Order>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let app = std::mem::take(&mut self.app);
        // The task is gone when the node's runtime is; then the next start removes the network.
        let _ = self.orders.send(Order::Leave { app });
    }
}

/// A function's right to its app's network, which goes with the last one.
#[derive(Debug)]
pub(super) struct Held {
    app: String,
    orders: mpsc::UnboundedSender<Order>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let app = std::mem::take(&mut self.app);
        let _ = self.orders.send(Order::Release { app });
    }
}

impl Networks {
    pub(super) fn new(engine: &Arc<Engine>, node: &str) -> Self {
        Self {
            engine: Arc::clone(engine),
            node: node.to_owned(),
            orders: OnceLock::new(),
        }
    }

    /// Keeps the network of an app, once it is made, between its containers.
    pub(super) fn hold(&self, app: &str) -> Held {
        let orders = self.orders().clone();
        let app = app.to_owned();
        let _ = orders.send(Order::Hold { app: app.clone() });
        Held { app, orders }
    }

    /// Joins the network of an app, which is made if it is not there. Cancel-safe.
    pub(super) async fn join(&self, app: &str) -> Result<Member, Error> {
        let (answer, answered) = oneshot::channel();
        let app = app.to_owned();
        // Both fail only when the task is gone, which is when the node's runtime ends.
        let _ = self.orders().send(Order::Join { app, answer });
        answered
            .await
            .map_err(|_| Error::new(ErrorKind::Overloaded, "the node is stopping"))?
    }

    fn orders(&self) -> &mpsc::UnboundedSender<Order> {
        self.orders.get_or_init(|| {
            let (orders, received) = mpsc::unbounded_channel();
            let keeper = Keeper {
                engine: Arc::clone(&self.engine),
                node: self.node.clone(),
                apps: HashMap::new(),
                rests: 0,
                orders: orders.downgrade(),
            };
            tokio::spawn(keeper.run(received));
            orders
        })
    }
}

/// The task.
struct Keeper {
    engine: Arc<Engine>,
    node: String,
    apps: HashMap<String, App>,
    /// Counts how often a network was left by its last container.
    rests: u64,
    orders: mpsc::WeakUnboundedSender<Order>,
}

/// Who needs the network of an app.
#[derive(Debug, Default)]
struct App {
    functions: usize,
    containers: usize,
    /// When the last container left, of a network that is kept for the next.
    rests_since: Option<u64>,
}

impl Keeper {
    async fn run(mut self, mut received: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = received.recv().await {
            match order {
                Order::Hold { app } => self.apps.entry(app).or_default().functions += 1,
                Order::Join { app, answer } => {
                    let joined = self.join(app).await;
                    // One that is not waited for any more leaves as it is dropped.
                    let _ = answer.send(joined);
                }
                Order::Leave { app } => self.leave(app).await,
                Order::Release { app } => self.release(app).await,
            }
        }
    }

    async fn join(&mut self, app: String) -> Result<Member, Error> {
        let network = network_name(&self.node, &app);
        let docker = self.engine.connect().await?.docker;
        let found = loop {
            let made = match look(&docker, &network).await {
                Ok(Some(found)) => Ok(found),
                Ok(None) => create(&docker, &network, &self.node).await,
                Err(error) => Err(error),
            };
            match made {
                Ok(found) => break found,
                Err(error) if no_subnet(&error) && self.rest_fewer_than(self.resting()).await => {}
                Err(error) => return Err(self.failed(&network, &error)),
            }
        };
        let ours = found.internal == Some(true)
            && found
                .labels
                .as_ref()
                .and_then(|labels| labels.get(NODE_LABEL))
                == Some(&self.node);
        if !ours {
            let message = format!("the engine has a network {network} that this node did not make");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_hint(format!("remove it: docker network rm {network}")));
        }
        let orders = self
            .orders
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::Overloaded, "the node is stopping"))?;
        let known = self.apps.entry(app.clone()).or_default();
        known.containers += 1;
        known.rests_since = None;
        let config = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        Ok(Member {
            bridge: bridge_name(&network),
            gateway: config
                .iter()
                .find_map(|config| config.gateway.as_deref()?.parse().ok()),
            network,
            app,
            orders,
        })
    }

    /// A container has gone, or with it a function.
    async fn leave(&mut self, name: String) {
        let Some(app) = self.apps.get_mut(&name) else {
            return;
        };
        app.containers = app.containers.saturating_sub(1);
        if app.containers == 0 {
            self.rests += 1;
            app.rests_since = Some(self.rests);
            self.remove_unused(&name).await;
            self.rest_fewer_than(RESTING_MAX + 1).await;
        }
    }

    async fn release(&mut self, name: String) {
        if let Some(app) = self.apps.get_mut(&name) {
            app.functions = app.functions.saturating_sub(1);
            self.remove_unused(&name).await;
        }
    }

    /// Removes the network of an app that has nothing left.
    async fn remove_unused(&mut self, name: &str) {
        let unused = |app: &App| app.functions == 0 && app.containers == 0;
        if self.apps.get(name).is_some_and(unused) {
            let app = self.apps.remove(name);
            if app.is_some_and(|app| app.rests_since.is_some()) {
                self.remove(name).await;
            }
        }
    }

    fn resting(&self) -> usize {
        self.apps
            .values()
            .filter(|app| app.rests_since.is_some())
            .count()
    }

    /// Removes the networks that have rested longest until there are fewer than that. Returns
    /// whether one was removed.
    async fn rest_fewer_than(&mut self, count: usize) -> bool {
        let mut removed = false;
        while self.resting() >= count {
            let resting = self
                .apps
                .iter_mut()
                .filter(|(_, app)| app.rests_since.is_some());
            let Some((name, app)) = resting.min_by_key(|(_, app)| app.rests_since) else {
                break;
            };
            app.rests_since = None;
            let name = name.clone();
            self.remove(&name).await;
            removed = true;
        }
        removed
    }

    async fn remove(&self, app: &str) {
        let network = network_name(&self.node, app);
        let Ok(connected) = self.engine.connect().await else {
            // It stays until an app of this name has containers again, or the node starts again.
            return;
        };
        match connected.docker.remove_network(&network).await {
            Err(error) if status(&error) != Some(404) => {
                tracing::warn!(network, %error, "could not remove the network of an app");
            }
            _ => {}
        }
    }

    fn failed(&self, network: &str, error: &EngineError) -> Error {
        let failed = self
            .engine
            .failed(&format!("make the network {network}"), error);
        if no_subnet(error) {
            return Error::new(ErrorKind::Overloaded, failed.message().to_owned()).with_hint(
                "the engine has no free subnet for another app; give it more with default-address-pools in its daemon.json",
            );
        }
        failed
    }
}

/// Whether the engine has no subnet left for another network.
fn no_subnet(error: &EngineError) -> bool {
    error.to_string().contains("address pool")
}

async fn look(docker: &Docker, network: &str) -> Result<Option<NetworkInspect>, EngineError> {
    match docker
        .inspect_network(network, None::<InspectNetworkOptions>)
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn create(docker: &Docker, network: &str, node: &str) -> Result<NetworkInspect, EngineError> {
    let request = NetworkCreateRequest {
        name: network.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(true),
        enable_ipv6: Some(false),
        labels: Some(HashMap::from([(NODE_LABEL.to_owned(), node.to_owned())])),
        options: Some(HashMap::from([(
            "com.docker.network.bridge.name".to_owned(),
            bridge_name(network),
        )])),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request).await?;
    docker
        .inspect_network(network, None::<InspectNetworkOptions>)
        .await
}

fn network_name(node: &str, app: &str) -> String {
    format!("mote-{node}-{app}")
}

/// The name of an interface has at most 15 bytes.
fn bridge_name(network: &str) -> String {
    let hash = blake3::hash(network.as_bytes()).to_hex();
    format!("mt{}", &hash[..12])
}

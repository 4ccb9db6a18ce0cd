//! The network of an app: internal, so that its containers reach each other and the node and
//! nothing else, and there only while the app has containers.
//!
//! One task makes and removes networks, one after the other, so that an app never has two and none
//! is removed from under a container that is about to join. It ends with the runtime.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bollard::Docker;
use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use mote_core::error::{Error, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::engine::{Engine, NODE_LABEL, status};

/// The networks of this node's apps.
#[derive(Debug)]
pub(super) struct Networks {
    engine: Arc<Engine>,
    node: String,
    orders: OnceLock<mpsc::UnboundedSender<Order>>,
}

/// What the task is told. There is one for each container that starts and ends, so they are as
/// bounded as those.
#[derive(Debug)]
enum Order {
    Join {
        app: String,
        answer: oneshot::Sender<Result<Member, Error>>,
    },
    Leave {
        app: String,
    },
}

/// A container's right to its app's network; the network goes with the last one.
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

impl Networks {
    pub(super) fn new(engine: &Arc<Engine>, node: &str) -> Self {
        Self {
            engine: Arc::clone(engine),
            node: node.to_owned(),
            orders: OnceLock::new(),
        }
    }

    /// Joins the network of an app, which is made if it is not there. Cancel-safe.
    pub(super) async fn join(&self, app: &str) -> Result<Member, Error> {
        let orders = self.orders.get_or_init(|| {
            let (orders, received) = mpsc::unbounded_channel();
            let keeper = Keeper {
                engine: Arc::clone(&self.engine),
                node: self.node.clone(),
                members: HashMap::new(),
                orders: orders.downgrade(),
            };
            tokio::spawn(keeper.run(received));
            orders
        });
        let (answer, answered) = oneshot::channel();
        let app = app.to_owned();
        // Both fail only when the task is gone, which is when the node's runtime ends.
        let _ = orders.send(Order::Join { app, answer });
        answered
            .await
            .map_err(|_| Error::new(ErrorKind::Overloaded, "the node is stopping"))?
    }
}

/// The task.
struct Keeper {
    engine: Arc<Engine>,
    node: String,
    members: HashMap<String, usize>,
    orders: mpsc::WeakUnboundedSender<Order>,
}

impl Keeper {
    async fn run(mut self, mut received: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = received.recv().await {
            match order {
                Order::Join { app, answer } => {
                    let joined = self.join(app).await;
                    // One that is not waited for any more leaves as it is dropped.
                    let _ = answer.send(joined);
                }
                Order::Leave { app } => self.leave(&app).await,
            }
        }
    }

    async fn join(&mut self, app: String) -> Result<Member, Error> {
        let network = network_name(&self.node, &app);
        let docker = self.engine.connect().await?.docker;
        let found = match look(&docker, &network).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => create(&docker, &network, &self.node).await,
            Err(error) => Err(error),
        };
        let found = found.map_err(|error| self.failed(&network, &error))?;
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
        *self.members.entry(app.clone()).or_default() += 1;
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

    async fn leave(&mut self, app: &str) {
        let Some(members) = self.members.get_mut(app) else {
            return;
        };
        *members -= 1;
        if *members > 0 {
            return;
        }
        self.members.remove(app);
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

    fn failed(&self, network: &str, error: &bollard::errors::Error) -> Error {
        let failed = self
            .engine
            .failed(&format!("make the network {network}"), error);
        if failed.message().contains("address pool") {
            return Error::new(ErrorKind::Overloaded, failed.message().to_owned()).with_hint(
                "the engine has no free subnet for another app; give it more with default-address-pools in its daemon.json",
            );
        }
        failed
    }
}

async fn look(
    docker: &Docker,
    network: &str,
) -> Result<Option<NetworkInspect>, bollard::errors::Error> {
    match docker
        .inspect_network(network, None::<InspectNetworkOptions>)
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(error) if status(&error) == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn create(
    docker: &Docker,
    network: &str,
    node: &str,
) -> Result<NetworkInspect, bollard::errors::Error> {
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

//! Binding and running the door.

use std::fs;
use std::hash::RandomState;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use mote_core::error::{Error, ErrorKind};
use mote_engine::invoker::Invoker;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counters::Counters;
use super::echo::Guard;
use super::endpoint::{Endpoint, Settings};
use super::shard::{self, Shard};
use super::udp::{self, Socket};
use super::{Bounds, Config, Time, block, observe};
use crate::workers::Workers;

/// A door that is bound: datagrams wait in the kernel until it runs.
#[derive(Debug)]
pub struct Door {
    config: Config,
    sockets: Vec<UdpSocket>,
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl Door {
    /// Binds the sockets. Fails with `Conflict` when the address is taken, and with `BadRequest`
    /// when the configuration makes no sense.
    pub fn bind(config: &Config) -> Result<Self, Error> {
        if !config.block_size.is_power_of_two() || !(16..=1024).contains(&config.block_size) {
            let message = format!(
                "block size {} is not one of 16, 32 … 1024",
                config.block_size
            );
            return Err(Error::new(ErrorKind::BadRequest, message));
        }
        let sockets = udp::bind(config.address, config.shards.get())
            .map_err(|error| unbound(config, &error))?;
        let address = sockets[0]
            .local_addr()
            .map_err(|error| unbound(config, &error))?;
        Ok(Self {
            config: config.clone(),
            sockets,
            address,
            counters: Arc::default(),
        })
    }

    /// Where it listens, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What it counts; to be read while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves until `shutdown`, then takes no new requests and returns when the calls under way are
    /// done. Dropping it ends them at once.
    pub async fn run(
        self,
        invoker: Invoker,
        workers: Workers,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let echo_key = RandomState::new();
        let shares = self.sockets.len();
        let facts_bytes = self
            .config
            .bounds
            .facts_bytes
            .unwrap_or_else(default_facts_bytes);
        let mut tasks = JoinSet::new();
        for (number, socket) in self.sockets.into_iter().enumerate() {
            let worker = workers.handle(number);
            let bounds = share(&self.config.bounds, shares);
            let settings = Settings {
                separate_after: Time::try_from(self.config.separate_after.as_millis())
                    .unwrap_or(Time::MAX / 2),
                block_size: self.config.block_size,
                facts_bytes: facts_bytes / shares,
                guard: Guard::new(self.config.echo, echo_key.clone(), bounds.verified),
                seed: random_seed()?,
                bounds,
            };
            let socket = {
                // The worker that serves the socket is the one that waits for it.
                let _entered = worker.enter();
                Socket::new(socket)
                    .map_err(|error| io_error("cannot wait for datagrams", &error))?
            };
            let shard = Shard {
                socket,
                endpoint: Endpoint::new(0, settings, Arc::clone(&self.counters)),
                invoker: invoker.clone(),
                counters: Arc::clone(&self.counters),
                started,
            };
            tasks.spawn_on(shard::run(shard, shutdown.clone()), worker);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|error| {
                Error::new(
                    ErrorKind::Internal,
                    format!("a shard of the CoAP door ended: {error}"),
                )
            })?;
        }
        Ok(())
    }
}

/// What one of so many shards may hold.
fn share(bounds: &Bounds, shares: usize) -> Bounds {
    let part = |count: usize| (count / shares).max(1);
    let blocks = |bounds: block::Bounds| block::Bounds {
        count: part(bounds.count),
        count_per_peer: bounds.count_per_peer,
        bytes: part(bounds.bytes),
    };
    Bounds {
        calls: part(bounds.calls),
        facts_bytes: bounds.facts_bytes,
        replies_bytes: part(bounds.replies_bytes),
        exchanges: part(bounds.exchanges),
        uploads: blocks(bounds.uploads),
        transfers: blocks(bounds.transfers),
        observers: observe::Bounds {
            count: part(bounds.observers.count),
            count_per_peer: bounds.observers.count_per_peer,
        },
        verified: part(bounds.verified),
    }
}

/// A 32nd of the machine's memory, within 4 to 256 MiB.
fn default_facts_bytes() -> usize {
    const MIN: usize = 4 << 20;
    const MAX: usize = 256 << 20;
    let total = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok()
    });
    total.map_or(MIN, |kib| (kib.saturating_mul(1024) / 32).clamp(MIN, MAX))
}

fn random_seed() -> Result<u64, Error> {
    getrandom::u64().map_err(|error| {
        Error::new(
            ErrorKind::Internal,
            format!("the system gives no random numbers: {error}"),
        )
    })
}

fn unbound(config: &Config, error: &std::io::Error) -> Error {
    let doing = format!("cannot listen for CoAP on {}", config.address);
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return io_error(&doing, error);
    }
    Error::new(ErrorKind::Conflict, format!("{doing}: the port is in use")).with_hint(
        "end the program that uses it, or choose another port with --coap; port 0 picks a free one",
    )
}

fn io_error(doing: &str, error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Internal, format!("{doing}: {error}"))
}

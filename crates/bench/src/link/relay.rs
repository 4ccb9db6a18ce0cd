//! A link that needs no rights: datagrams and streams are relayed from socket to socket, and arrive when the model says.
//!
//! Datagrams have the fates of packets: each is delayed, lost, doubled, overtaken or dropped for itself. Streams are cut
//! into pieces as long as a segment, which arrive in their order; one that is lost comes later by the time that sending
//! it again takes, and a full queue holds its sender back. A stream opens as TCP does, after a round trip of its own.
//! What is not there is what TCP makes of a network: both its ends are near, so that it neither starts slowly nor slows
//! down after a loss.
//!
//! One thread carries all routes, which share the link's rate and queue. Bounded are clients, the time that a quiet one
//! is remembered, and what waits.

mod datagrams;
mod streams;

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;

use self::datagrams::Datagrams;
use self::streams::Streams;
use super::kind::Kind;
use super::settings::{Impairments, Shape};
use super::tun::wake_precisely;
use super::way::{Counters, Direction, KeptUp, Way};
use super::{Report, of_direction};
use crate::poller::{Events, Poller, allow_sockets};

/// Longest wait, after which it is seen whether the relay is to end.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// Longest time until the thread takes a route: it looks every [`WAIT_MAX`].
const TAKES_MAX: Duration = Duration::from_secs(10);
/// Routes that wait for that.
const ROUTES_WAITING_MAX: usize = 16;
/// Clients of datagrams that are remembered, and streams, when nothing else is asked for.
const CLIENTS: usize = 1000;
/// As long as RFC 4787, REQ-5, recommends for what translates addresses.
const IDLE: Duration = Duration::from_secs(300);

/// A relay for the command line.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// Where clients come: `udp:ADDRESS:PORT` or `tcp:ADDRESS:PORT`; several have a `--to` each
    #[arg(long, required = true)]
    listen: Vec<Endpoint>,

    /// Where the server is, across the link: `udp:HOST:PORT` or `tcp:HOST:PORT`
    #[arg(long, required = true)]
    to: Vec<Endpoint>,

    #[command(flatten)]
    pub(super) shape: Shape,

    /// Clients of UDP, and connections of TCP, at once; more are refused
    #[arg(long, default_value_t = CLIENTS)]
    clients: usize,

    /// How long a client of UDP that is quiet keeps its socket
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    idle: Duration,
}

/// What is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

/// A place on the command line, such as `udp:127.0.0.1:5683`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    protocol: Protocol,
    address: SocketAddr,
}

/// A side of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Near,
    /// The second.
    Far,
}

/// A way for clients of one side to a server of the other.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// What goes there.
    pub protocol: Protocol,
    /// Where clients come; port 0 is any free one.
    pub listen: SocketAddr,
    /// Where the server is.
    pub to: SocketAddr,
    /// Where the clients are.
    pub from: Side,
}

/// What a relay keeps at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Clients of datagrams, and streams.
    pub clients: usize,
    /// How long a client of datagrams that is quiet is remembered.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            clients: CLIENTS,
            idle: IDLE,
        }
    }
}

/// A relay at work, which ends when it is dropped.
#[derive(Debug)]
pub struct Relay {
    impairments: [Impairments; 2],
    routes: SyncSender<Asked>,
    stop: Arc<AtomicBool>,
    counters: Arc<Counters>,
    thread: Option<thread::JoinHandle<Result<[Direction; 2]>>>,
}

/// A route for the thread to take, and who waits until it has.
type Asked = (Opened, SyncSender<Result<()>>);

/// A route whose socket is there.
enum Opened {
    Datagrams(std::net::UdpSocket, Route),
    Streams(std::net::TcpListener, Route),
}

impl Relay {
    /// A link without routes, with what is done to packets from the near side to the far one and back. `seed`: the same
    /// fates for the same packets.
    pub fn up(impairments: [Impairments; 2], seed: u64, bounds: Bounds) -> Result<Self> {
        for direction in &impairments {
            direction.check()?;
        }
        ensure!(
            bounds.clients > 0,
            "--clients 0 lets nobody through, write 1 or more"
        );
        // A client of datagrams has one, a stream two.
        allow_sockets(bounds.clients.saturating_mul(3))?;
        let counters = Arc::new(Counters::default());
        let stop = Arc::new(AtomicBool::new(false));
        let carrier = Carrier::new(&impairments, seed, bounds, &counters)?;
        let (routes, asked) = sync_channel(ROUTES_WAITING_MAX);
        let thread = thread::Builder::new().name("relay".to_owned()).spawn({
            let (stop, counters) = (Arc::clone(&stop), Arc::clone(&counters));
            move || {
                let ran = carrier.run(&asked, &stop);
                counters.ended.store(true, Ordering::Relaxed);
                ran
            }
        });
        Ok(Self {
            impairments,
            routes,
            stop,
            counters,
            thread: Some(thread.context("cannot start a thread for the relay")?),
        })
    }

    /// Carries one more route from now on; where its clients come.
    pub fn carry(&self, route: Route) -> Result<SocketAddr> {
        let context = || format!("cannot listen at {}:{}", route.protocol, route.listen);
        let (opened, address) = match route.protocol {
            Protocol::Udp => {
                let socket = datagrams::listen(route.listen).with_context(context)?;
                let address = socket.local_addr()?;
                (Opened::Datagrams(socket, route), address)
            }
            Protocol::Tcp => {
                let listener = streams::listen(route.listen).with_context(context)?;
                let address = listener.local_addr()?;
                (Opened::Streams(listener, route), address)
            }
        };
        let (tell, told) = sync_channel(1);
        let gone = || anyhow!("the relay has ended");
        self.routes.send((opened, tell)).map_err(|_| gone())?;
        told.recv_timeout(TAKES_MAX).map_err(|_| gone())??;
        Ok(address)
    }

    /// How it kept up so far, both directions together.
    pub(crate) fn kept_up(&self) -> KeptUp {
        self.counters.kept_up()
    }

    /// Ends it and tells what became of the packets.
    pub fn down(mut self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a relay ends once")?;
        let ran = thread.join();
        let [there, back] = ran.map_err(|_| anyhow!("the thread of the relay panicked"))??;
        Ok(Report {
            kind: Kind::Relay,
            settings: self.impairments.clone(),
            there,
            back,
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What it failed of was of interest to whoever asked for the report.
            let _ = thread.join();
        }
    }
}

/// Relays until this program is told to end. Its routes are on standard output as soon as they can be used.
pub(super) fn run(settings: &Settings) -> Result<Report> {
    ensure!(
        settings.listen.len() == settings.to.len(),
        "{} --listen and {} --to are no pairs",
        settings.listen.len(),
        settings.to.len()
    );
    let ended = Arc::new(AtomicBool::new(false));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let impairments = settings.shape.impairments()?;
    let bounds = Bounds {
        clients: settings.clients,
        idle: settings.idle,
    };
    let both = [impairments.clone(), impairments];
    let relay = Relay::up(both, settings.shape.seed, bounds)?;
    let mut out = std::io::stdout();
    for (listen, to) in settings.listen.iter().zip(&settings.to) {
        ensure!(
            listen.protocol == to.protocol,
            "--listen {listen} and --to {to} are not of one protocol"
        );
        let address = relay.carry(Route {
            protocol: listen.protocol,
            listen: listen.address,
            to: to.address,
            from: Side::Near,
        })?;
        writeln!(out, "{}:{address} to {to}", listen.protocol)?;
    }
    while !ended.load(Ordering::Relaxed) && !relay.kept_up().ended {
        thread::sleep(WAIT_MAX);
    }
    relay.down()
}

impl FromStr for Endpoint {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (protocol, place) = text.split_once(':').unwrap_or((text, ""));
        let protocol = match protocol {
            "udp" => Protocol::Udp,
            "tcp" => Protocol::Tcp,
            _ => bail!("`{text}` is no place such as udp:127.0.0.1:5683 or tcp:127.0.0.1:8080"),
        };
        let found = place.to_socket_addrs();
        let mut found = found.with_context(|| format!("cannot find `{place}`"))?;
        let address = found
            .next()
            .with_context(|| format!("`{place}` has no address"))?;
        Ok(Self { protocol, address })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.protocol, self.address)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        })
    }
}

/// What is on its way.
#[derive(Debug, Clone)]
enum Parcel {
    Datagram(datagrams::Parcel),
    Stream(streams::Parcel),
}

/// Whose socket is ready.
#[derive(Debug, Clone, Copy)]
enum Token {
    /// Where datagrams of clients come.
    Door(u64),
    /// The socket of a client of datagrams toward its server.
    Flow(u64),
    /// Where streams are opened.
    Listener(u64),
    /// An end of a stream.
    End(u64, streams::End),
}

/// What both protocols use: the link, and what is to be done.
struct Core {
    started: Instant,
    poller: Poller,
    /// From the near side to the far one, and back.
    ways: [Way<Parcel>; 2],
    /// Sockets that may have more to read although nobody reports them again.
    ready: BTreeSet<u64>,
    last_id: u64,
}

/// The thread of a relay.
struct Carrier {
    core: Core,
    datagrams: Datagrams,
    streams: Streams,
}

impl Core {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A number that nothing had yet.
    fn new_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

impl Carrier {
    fn new(
        impairments: &[Impairments; 2],
        seed: u64,
        bounds: Bounds,
        counters: &Arc<Counters>,
    ) -> Result<Self> {
        let [there, back] = impairments;
        let round_trip = there.delay + back.delay;
        Ok(Self {
            core: Core {
                started: Instant::now(),
                poller: Poller::new()?,
                ways: [
                    Way::new(there, of_direction(seed, 0), counters)?,
                    Way::new(back, of_direction(seed, 1), counters)?,
                ],
                ready: BTreeSet::new(),
                last_id: 0,
            },
            datagrams: Datagrams::new(bounds),
            streams: Streams::new(bounds, round_trip),
        })
    }

    fn run(mut self, asked: &Receiver<Asked>, stop: &AtomicBool) -> Result<[Direction; 2]> {
        wake_precisely();
        let mut events = Events::new();
        while !stop.load(Ordering::Relaxed) {
            for (opened, tell) in asked.try_iter() {
                // Who asked may have given up.
                let _unheard = tell.send(self.open(opened));
            }
            let until = self.core.started + self.until();
            self.core
                .poller
                .wait(Some(until), &mut events)
                .context("cannot wait for packets")?;
            let more = std::mem::take(&mut self.core.ready);
            for token in more.into_iter().chain(events.tokens()) {
                self.serve(token);
            }
            for way in 0..self.core.ways.len() {
                while let Some(parcel) = self.core.ways[way].due(self.core.now()) {
                    match parcel {
                        Parcel::Datagram(parcel) => {
                            self.datagrams.deliver(&mut self.core, way, &parcel);
                        }
                        Parcel::Stream(parcel) => {
                            self.streams.deliver(&mut self.core, way, parcel);
                        }
                    }
                }
            }
            self.streams.go_on(&mut self.core);
            self.datagrams.forget(&self.core);
        }
        Ok(self.core.ways.map(Way::end))
    }

    fn open(&mut self, opened: Opened) -> Result<()> {
        match opened {
            Opened::Datagrams(socket, route) => self.datagrams.open(&mut self.core, socket, route),
            Opened::Streams(listener, route) => self.streams.open(&mut self.core, listener, route),
        }
    }

    /// When there is something to do again.
    fn until(&self) -> Duration {
        if !self.core.ready.is_empty() {
            return Duration::ZERO;
        }
        let due = self.core.ways.iter().filter_map(Way::next).min();
        let latest = self.core.now() + WAIT_MAX;
        due.map_or(latest, |due| due.min(latest))
    }

    fn serve(&mut self, token: u64) {
        match Token::from(token) {
            Token::Door(id) => self.datagrams.read_door(&mut self.core, id),
            Token::Flow(id) => self.datagrams.read_flow(&mut self.core, id),
            Token::Listener(id) => self.streams.accept(&mut self.core, id),
            Token::End(id, end) => self.streams.ready(&mut self.core, id, end),
        }
    }
}

/// The way that leads from a side.
fn way_from(side: Side) -> usize {
    match side {
        Side::Near => 0,
        Side::Far => 1,
    }
}

const TOKEN_KINDS: u64 = 8;

impl From<Token> for u64 {
    fn from(token: Token) -> Self {
        let (kind, id) = match token {
            Token::Door(id) => (0, id),
            Token::Flow(id) => (1, id),
            Token::Listener(id) => (2, id),
            Token::End(id, streams::End::Client) => (3, id),
            Token::End(id, streams::End::Server) => (4, id),
        };
        id * TOKEN_KINDS + kind
    }
}

impl From<u64> for Token {
    fn from(token: u64) -> Self {
        let id = token / TOKEN_KINDS;
        match token % TOKEN_KINDS {
            0 => Self::Door(id),
            1 => Self::Flow(id),
            2 => Self::Listener(id),
            3 => Self::End(id, streams::End::Client),
            _ => Self::End(id, streams::End::Server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in ["udp:127.0.0.1:5683", "tcp:[::1]:80"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for text in [
            "127.0.0.1:5683",
            "sctp:127.0.0.1:1",
            "udp",
            "udp:127.0.0.1",
            "",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}

//! Datagrams across a relay: each client has a socket of its own toward the server, so that replies find it.

use std::collections::HashMap;
use std::io::{ErrorKind, Result as IoResult};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Socket, Type};

use super::{Bounds, Core, Parcel as AnyParcel, Route, Token, way_from};

/// Of IPv4 and UDP, which have their part of a rate.
const HEADER_BYTES: usize = 28;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams that are taken from a socket before others have their turn.
const BATCH: usize = 64;
/// What comes while the thread is busy; the kernel may give less.
const BUFFER_BYTES: usize = 4 << 20;
/// How often quiet clients are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Doors and clients.
pub(super) struct Datagrams {
    doors: HashMap<u64, Door>,
    flows: HashMap<u64, Flow>,
    /// Flows by door and client.
    of_clients: HashMap<(u64, SocketAddr), u64>,
    bounds: Bounds,
    looked: Duration,
    buffer: Vec<u8>,
}

/// Where clients come.
struct Door {
    socket: UdpSocket,
    to: SocketAddr,
    /// The way to the server.
    out: usize,
}

/// A client.
struct Flow {
    door: u64,
    client: SocketAddr,
    /// Toward the server, and connected.
    socket: UdpSocket,
    used: Duration,
}

/// A datagram on its way.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    flow: u64,
    to_server: bool,
    bytes: Box<[u8]>,
}

/// A socket for clients.
pub(super) fn listen(address: SocketAddr) -> IoResult<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    // Less is taken as it is.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl Datagrams {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            doors: HashMap::new(),
            flows: HashMap::new(),
            of_clients: HashMap::new(),
            bounds,
            looked: Duration::ZERO,
            buffer: vec![0; DATAGRAM_BYTES_MAX],
        }
    }

    pub(super) fn open(&mut self, core: &mut Core, socket: UdpSocket, route: Route) -> Result<()> {
        let id = core.new_id();
        core.poller.watch(&socket, Token::Door(id))?;
        let (to, out) = (route.to, way_from(route.from));
        self.doors.insert(id, Door { socket, to, out });
        Ok(())
    }

    /// Takes what clients have sent.
    pub(super) fn read_door(&mut self, core: &mut Core, id: u64) {
        for _ in 0..BATCH {
            let Some(door) = self.doors.get(&id) else {
                return;
            };
            let (length, client) = match door.socket.recv_from(&mut self.buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let (to, out) = (door.to, door.out);
            let now = core.now();
            let Some(flow) = self.flow(core, (id, client), to, now) else {
                core.ways[out].turned_away();
                continue;
            };
            let parcel = AnyParcel::Datagram(Parcel {
                flow,
                to_server: true,
                bytes: self.buffer[..length].into(),
            });
            core.ways[out].send(now, length + HEADER_BYTES, parcel);
        }
        core.ready.insert(Token::Door(id).into());
    }

    /// Takes what a server has sent to a client.
    pub(super) fn read_flow(&mut self, core: &mut Core, id: u64) {
        for _ in 0..BATCH {
            let Some(flow) = self.flows.get_mut(&id) else {
                return;
            };
            let length = match flow.socket.recv(&mut self.buffer) {
                Ok(length) => length,
                // That nobody listens there is told once, for a datagram before.
                Err(error)
                    if [ErrorKind::Interrupted, ErrorKind::ConnectionRefused]
                        .contains(&error.kind()) =>
                {
                    continue;
                }
                Err(_) => return,
            };
            let Some(door) = self.doors.get(&flow.door) else {
                return;
            };
            let now = core.now();
            flow.used = now;
            let parcel = AnyParcel::Datagram(Parcel {
                flow: id,
                to_server: false,
                bytes: self.buffer[..length].into(),
            });
            core.ways[1 - door.out].send(now, length + HEADER_BYTES, parcel);
        }
        core.ready.insert(Token::Flow(id).into());
    }

    /// Hands over a datagram that has arrived.
    pub(super) fn deliver(&mut self, core: &mut Core, way: usize, parcel: &Parcel) {
        let taken = self.flows.get(&parcel.flow).is_some_and(|flow| {
            if !parcel.to_server {
                let door = self.doors.get(&flow.door);
                return door
                    .is_some_and(|door| door.socket.send_to(&parcel.bytes, flow.client).is_ok());
            }
            let sent = flow.socket.send(&parcel.bytes);
            // What is refused is a datagram before, of which the kernel tells now; this one is still here.
            let refused = sent
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
            sent.is_ok() || (refused && flow.socket.send(&parcel.bytes).is_ok())
        });
        if taken {
            core.ways[way].arrived();
        } else {
            core.ways[way].refused();
        }
    }

    /// Forgets clients that were quiet for long.
    pub(super) fn forget(&mut self, core: &Core) {
        let now = core.now();
        if now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        let idle = self.bounds.idle;
        let quiet = |flow: &Flow| now.saturating_sub(flow.used) > idle;
        self.flows.retain(|_, flow| !quiet(flow));
        self.of_clients.retain(|_, id| self.flows.contains_key(id));
    }

    /// The flow of a client, which is made when there is none and room for one.
    fn flow(
        &mut self,
        core: &mut Core,
        (door, client): (u64, SocketAddr),
        to: SocketAddr,
        now: Duration,
    ) -> Option<u64> {
        if let Some(id) = self.of_clients.get(&(door, client)) {
            if let Some(flow) = self.flows.get_mut(id) {
                flow.used = now;
            }
            return Some(*id);
        }
        if self.flows.len() >= self.bounds.clients {
            return None;
        }
        let socket = toward(to).ok()?;
        let id = core.new_id();
        core.poller.watch(&socket, Token::Flow(id)).ok()?;
        let flow = Flow {
            door,
            client,
            socket,
            used: now,
        };
        self.flows.insert(id, flow);
        self.of_clients.insert((door, client), id);
        Some(id)
    }
}

fn toward(server: SocketAddr) -> IoResult<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket)
}

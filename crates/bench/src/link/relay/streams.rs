//! Streams across a relay: what one end writes arrives at the other in its order, later.
//!
//! A connection has two sockets. What is read from one is cut into pieces as long as a segment, and written to the other
//! when it has arrived. Openings, ends and resets are packets too. When too many pieces wait, or a peer does not read,
//! nothing more is read, and TCP holds the sender back.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Result as IoResult, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use rustix::io::Errno;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use super::{Bounds, Core, Parcel as AnyParcel, Route, Token, way_from};

/// What a segment carries over Ethernet.
const PIECE_BYTES_MAX: usize = 1460;
/// Of IPv4 and TCP, which have their part of a rate.
const HEADER_BYTES: usize = 40;
/// What is read at once, before others have their turn.
const READ_BYTES_MAX: usize = 16 << 10;
/// Connections that are taken before others have their turn.
const BATCH: usize = 64;
/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;
/// What Linux waits at least beyond a round trip until it sends a segment again.
const RESEND_MIN: Duration = Duration::from_millis(200);
/// What it waits until it asks again to open a connection (RFC 6298 §2).
const REOPEN: Duration = Duration::from_secs(1);
/// When a peer is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Listeners and connections.
pub(super) struct Streams {
    listeners: HashMap<u64, Listener>,
    connections: HashMap<u64, Connection>,
    bounds: Bounds,
    resend: Duration,
    /// Tokens of ends that are not read because the way from them is full.
    held_back: [BTreeSet<u64>; 2],
    buffer: Vec<u8>,
}

struct Listener {
    socket: TcpListener,
    to: SocketAddr,
    /// The way to the server.
    out: usize,
}

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

struct Connection {
    to: SocketAddr,
    /// The way to the server.
    out: usize,
    ends: [Socketed; 2],
}

/// An end and its socket.
#[derive(Default)]
struct Socketed {
    /// Not there before it is opened, and when it has failed.
    socket: Option<TcpStream>,
    /// Whether it may be read: it is connected, and its peer has heard so.
    is_open: bool,
    may_have_more: bool,
    has_ended: bool,
    /// What has arrived and was not taken yet, and how much of the first piece was.
    out: VecDeque<Box<[u8]>>,
    written: usize,
    /// Nothing comes after `out`.
    is_last: bool,
    is_shut: bool,
    /// When the last piece for it arrives.
    latest: Duration,
}

/// Something of a connection on its way.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    connection: u64,
    to: End,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Connect to the server.
    Open,
    /// It is connected.
    Opened,
    Piece(Box<[u8]>),
    End,
    /// It failed, or the peer wants no more.
    Reset,
}

/// A socket for clients, with room for many at once.
pub(super) fn listen(address: SocketAddr) -> IoResult<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

impl Streams {
    pub(super) fn new(bounds: Bounds, round_trip: Duration) -> Self {
        Self {
            listeners: HashMap::new(),
            connections: HashMap::new(),
            bounds,
            resend: round_trip + RESEND_MIN,
            held_back: Default::default(),
            buffer: vec![0; READ_BYTES_MAX],
        }
    }

    pub(super) fn open(
        &mut self,
        core: &mut Core,
        socket: TcpListener,
        route: Route,
    ) -> Result<()> {
        let id = core.new_id();
        core.poller.watch(&socket, Token::Listener(id))?;
        let (to, out) = (route.to, way_from(route.from));
        self.listeners.insert(id, Listener { socket, to, out });
        Ok(())
    }

    /// Takes clients that have come.
    pub(super) fn accept(&mut self, core: &mut Core, id: u64) {
        for _ in 0..BATCH {
            let Some(listener) = self.listeners.get(&id) else {
                return;
            };
            let socket = match listener.socket.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // It has gone before it was taken.
                Err(error)
                    if [ErrorKind::ConnectionAborted, ErrorKind::Interrupted]
                        .contains(&error.kind()) =>
                {
                    continue;
                }
                Err(_) => return core.ways[listener.out].turned_away(),
            };
            let (to, out) = (listener.to, listener.out);
            let connection = core.new_id();
            let token = Token::End(connection, End::Client);
            let is_full = self.connections.len() >= self.bounds.clients;
            if is_full || prepare(&socket).is_err() || core.poller.watch(&socket, token).is_err() {
                // So that it is reset, and not ended as if all were well.
                let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                core.ways[out].turned_away();
                continue;
            }
            let client = Socketed {
                socket: Some(socket),
                ..Socketed::default()
            };
            let ends = [client, Socketed::default()];
            let new = Connection { to, out, ends };
            self.connections.insert(connection, new);
            self.send(core, connection, End::Server, What::Open);
        }
        core.ready.insert(Token::Listener(id).into());
    }

    /// A socket may be read or written again, or has failed.
    pub(super) fn ready(&mut self, core: &mut Core, id: u64, end: End) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let side = connection.end(end);
        side.may_have_more = true;
        if end == End::Server && !side.is_open {
            let Some(socket) = &side.socket else { return };
            match socket.take_error() {
                Ok(None) if socket.peer_addr().is_ok() => {
                    side.is_open = true;
                    self.send(core, id, End::Client, What::Opened);
                }
                // Not connected yet.
                Ok(None) => return,
                _ => return self.fail(core, id, end),
            }
        }
        self.flush(core, id, end);
        self.read(core, id, end);
    }

    /// What has arrived.
    pub(super) fn deliver(&mut self, core: &mut Core, way: usize, parcel: Parcel) {
        let Parcel {
            connection: id,
            to,
            what,
        } = parcel;
        let Some(connection) = self.connections.get_mut(&id) else {
            return core.ways[way].refused();
        };
        let server = connection.to;
        let side = connection.end(to);
        match what {
            What::Piece(_) if side.socket.is_none() => return core.ways[way].refused(),
            What::Piece(bytes) => {
                side.out.push_back(bytes);
                core.ways[way].hold(1);
                return self.flush(core, id, to);
            }
            What::Open => match connect(server) {
                Ok(socket) if core.poller.watch(&socket, Token::End(id, to)).is_ok() => {
                    side.socket = Some(socket);
                }
                _ => self.fail(core, id, to),
            },
            What::Opened => {
                side.is_open = true;
                self.read(core, id, to);
            }
            What::End => {
                side.is_last = true;
                self.flush(core, id, to);
            }
            What::Reset => {
                if let Some(socket) = &side.socket {
                    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
                }
                self.remove(core, id);
            }
        }
        core.ways[way].arrived();
    }

    /// Reads again from those that were held back, where there is room.
    pub(super) fn go_on(&mut self, core: &mut Core) {
        for (way, held_back) in core.ways.iter().zip(&mut self.held_back) {
            if way.has_room_again() {
                core.ready.append(held_back);
            }
        }
    }

    fn read(&mut self, core: &mut Core, id: u64, end: End) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = connection.way_to(end.other());
        let side = connection.end(end);
        if !side.is_open || !side.may_have_more || side.has_ended {
            return;
        }
        let Some(socket) = &mut side.socket else {
            return;
        };
        let token = Token::End(id, end).into();
        let room = core.ways[way].room() * PIECE_BYTES_MAX;
        if room == 0 {
            self.held_back[way].insert(token);
            return;
        }
        let most = room.min(self.buffer.len());
        match socket.read(&mut self.buffer[..most]) {
            Ok(0) => {
                side.has_ended = true;
                self.send(core, id, end.other(), What::End);
            }
            Ok(length) => {
                core.ready.insert(token);
                let bytes = self.buffer[..length].to_vec();
                for piece in bytes.chunks(PIECE_BYTES_MAX) {
                    self.send(core, id, end.other(), What::Piece(piece.into()));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => side.may_have_more = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                core.ready.insert(token);
            }
            Err(_) => self.fail(core, id, end),
        }
    }

    /// Writes what has arrived, as far as the peer takes it.
    fn flush(&mut self, core: &mut Core, id: u64, end: End) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = connection.way_to(end);
        let side = connection.end(end);
        let Some(socket) = &mut side.socket else {
            return;
        };
        while let Some(piece) = side.out.front() {
            match socket.write(&piece[side.written..]) {
                Ok(length) => side.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.fail(core, id, end),
            }
            if side.written == piece.len() {
                side.out.pop_front();
                side.written = 0;
                core.ways[way].let_go(1);
                core.ways[way].arrived();
            }
        }
        if side.is_last && !side.is_shut {
            side.is_shut = true;
            // One whose peer has gone has nothing to be told.
            let _told = socket.shutdown(Shutdown::Write);
            if connection.ends.iter().all(|side| side.is_shut) {
                self.remove(core, id);
            }
        }
    }

    /// The socket of an end does not work any more, of which the other end hears.
    fn fail(&mut self, core: &mut Core, id: u64, end: End) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = connection.way_to(end);
        let side = connection.end(end);
        side.socket = None;
        side.is_open = false;
        let left = std::mem::take(&mut side.out);
        core.ways[way].let_go(left.len());
        for _ in left {
            core.ways[way].refused();
        }
        self.send(core, id, end.other(), What::Reset);
    }

    fn remove(&mut self, core: &mut Core, id: u64) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        for end in [End::Client, End::Server] {
            let way = connection.way_to(end);
            core.ways[way].let_go(connection.ends[end as usize].out.len());
        }
    }

    /// Sends something across the link to an end.
    fn send(&mut self, core: &mut Core, id: u64, to: End, what: What) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let way = connection.way_to(to);
        let side = connection.end(to);
        let (bytes, resend) = match &what {
            What::Piece(bytes) => (bytes.len(), self.resend),
            What::Open | What::Opened => (0, REOPEN),
            What::End | What::Reset => (0, self.resend),
        };
        let parcel = AnyParcel::Stream(Parcel {
            connection: id,
            to,
            what,
        });
        let now = core.now();
        let latest = (side.latest, resend);
        side.latest = core.ways[way].send_in_stream(now, bytes + HEADER_BYTES, latest, parcel);
    }
}

impl Connection {
    fn end(&mut self, end: End) -> &mut Socketed {
        &mut self.ends[end as usize]
    }

    /// The way by which an end is reached.
    fn way_to(&self, end: End) -> usize {
        match end {
            End::Server => self.out,
            End::Client => 1 - self.out,
        }
    }
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Begins to connect.
fn connect(to: SocketAddr) -> IoResult<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    let stream: TcpStream = socket.into();
    prepare(&stream)?;
    Ok(stream)
}

fn prepare(socket: &TcpStream) -> IoResult<()> {
    socket.set_nonblocking(true)?;
    // What waits was waited for already.
    socket.set_nodelay(true)?;
    let often = TcpKeepalive::new().with_time(KEEP_ALIVE);
    SockRef::from(socket).set_tcp_keepalive(&often)
}

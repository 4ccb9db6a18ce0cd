//! UDP sockets that take and give datagrams in batches: one system call for up to [`BATCH`] of them.
//!
//! The only unsafe code of the doors. The standard library and tokio move one datagram for each
//! system call, which would cost more than the whole protocol does. The arrays that the kernel reads
//! and writes live on the stack for the length of one call.
#![expect(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and socket options have no safe equivalent"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;

use socket2::{Domain, Protocol, Socket as Raw, Type};
use tokio::io::Interest;

use super::Peer;
use super::endpoint::Outbox;

/// Datagrams that one system call moves at most.
pub(super) const BATCH: usize = 32;
/// Largest datagram that is received whole: several times what RFC 7252 §4.6 recommends (1152), for
/// clients that send a larger body without blocks on a local network.
const DATAGRAM_BYTES_MAX: usize = 8 << 10;
/// Room that the kernel is asked to keep for datagrams that wait.
const QUEUE_BYTES: usize = 4 << 20;
/// Room for what the kernel tells beside each datagram: our address, and a count of drops.
const CONTROL_WORDS: usize = 16;

/// Binds `count` sockets to one address; the kernel spreads endpoints over them. The first is bound
/// alone, so that a port which someone else uses is an error and not shared by accident.
pub(super) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = socket(address)?;
    first.bind(&address.into())?;
    let bound = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
    let mut sockets = vec![first];
    if count > 1 {
        sockets[0].set_reuse_port(true)?;
    }
    for _ in 1..count {
        let next = socket(address)?;
        next.set_reuse_port(true)?;
        next.bind(&bound.into())?;
        sockets.push(next);
    }
    Ok(sockets.into_iter().map(UdpSocket::from).collect())
}

fn socket(address: SocketAddr) -> io::Result<Raw> {
    let raw = Raw::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    raw.set_nonblocking(true)?;
    if address.is_ipv6() {
        raw.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Beyond the system's limit only for a privileged process; as much as allowed otherwise.
    let fd = raw.as_raw_fd();
    let bytes = libc::c_int::try_from(QUEUE_BYTES).expect("4 MiB");
    if set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes).is_err() {
        raw.set_recv_buffer_size(QUEUE_BYTES)?;
    }
    // Old kernels may not count drops; nothing depends on it.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
    // Which of our addresses was asked is only in doubt if we listen on all of them.
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
    }
    Ok(raw)
}

fn set_option(fd: RawFd, level: i32, name: i32, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live integer, which is what these options take.
    let result = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            ptr::from_ref(&value).cast(),
            length_of::<libc::c_int>(),
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A socket of one shard.
#[derive(Debug)]
pub(super) struct Socket {
    socket: tokio::net::UdpSocket,
}

/// Datagrams that were received together.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Box<[u8]>,
    received: Vec<Received>,
    /// The kernel's count of drops as of the last datagram.
    drops: u32,
}

#[derive(Clone, Copy, Debug)]
struct Received {
    peer: Peer,
    length: usize,
    truncated: bool,
}

impl Batch {
    /// Room for a batch.
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * DATAGRAM_BYTES_MAX].into(),
            received: Vec::with_capacity(BATCH),
            drops: 0,
        }
    }

    /// Each datagram: from whom, its bytes, and whether there were more.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Peer, &[u8], bool)> {
        let buffers = self.bytes.chunks_exact(DATAGRAM_BYTES_MAX);
        self.received.iter().zip(buffers).map(|(received, buffer)| {
            (
                received.peer,
                &buffer[..received.length],
                received.truncated,
            )
        })
    }
}

impl Socket {
    /// Makes a bound socket wait with the runtime's other ones.
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        Ok(Self { socket })
    }

    /// Waits for datagrams and takes up to [`BATCH`] of them. Returns how many the kernel dropped
    /// since the last time. Cancel-safe.
    pub(super) async fn receive(&self, batch: &mut Batch) -> io::Result<u32> {
        let fd = self.socket.as_raw_fd();
        let take = || receive_now(fd, batch);
        self.socket.async_io(Interest::READABLE, take).await
    }

    /// Takes what is there without waiting; `WouldBlock` if nothing is.
    pub(super) fn try_receive(&self, batch: &mut Batch) -> io::Result<u32> {
        let fd = self.socket.as_raw_fd();
        self.socket
            .try_io(Interest::READABLE, || receive_now(fd, batch))
    }

    /// Waits until the socket takes datagrams again. Cancel-safe.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Sends what the socket takes now. Returns how many went out and how many could not be sent at
    /// all; what is left waits for [`writable`](Self::writable).
    pub(super) fn send(&self, outbox: &mut Outbox) -> (u64, u64) {
        let (mut sent, mut failed) = (0, 0);
        while !outbox.is_empty() {
            let fd = self.socket.as_raw_fd();
            let result = self
                .socket
                .try_io(Interest::WRITABLE, || send_now(fd, outbox));
            match result {
                Ok(count) => {
                    outbox.sent(count);
                    sent += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel refuses this one (no route, unreachable, too long): the next may go.
                Err(_) => {
                    outbox.sent(1);
                    failed += 1;
                }
            }
        }
        (sent, failed + outbox.take_dropped())
    }
}

type Control = [u64; CONTROL_WORDS];

fn receive_now(fd: RawFd, batch: &mut Batch) -> io::Result<u32> {
    let mut names = [MaybeUninit::<libc::sockaddr_storage>::uninit(); BATCH];
    let mut controls: [Control; BATCH] = [[0; CONTROL_WORDS]; BATCH];
    let mut vectors: [libc::iovec; BATCH] = zeroed();
    let mut headers: [libc::mmsghdr; BATCH] = zeroed();
    let buffers = batch.bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX);
    for (place, buffer) in buffers.enumerate() {
        vectors[place].iov_base = buffer.as_mut_ptr().cast();
        vectors[place].iov_len = buffer.len();
        let header = &mut headers[place].msg_hdr;
        header.msg_name = names[place].as_mut_ptr().cast();
        header.msg_namelen = length_of::<libc::sockaddr_storage>();
        header.msg_iov = &raw mut vectors[place];
        header.msg_iovlen = 1;
        header.msg_control = controls[place].as_mut_ptr().cast();
        header.msg_controllen = mem::size_of::<Control>();
    }
    let count = libc::c_uint::try_from(headers.len()).expect("a small batch");
    // SAFETY: every header points to arrays that outlive the call, with their lengths.
    let count = unsafe {
        libc::recvmmsg(
            fd,
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    batch.received.clear();
    let before = batch.drops;
    for (header, name) in headers.iter().zip(&names).take(count) {
        // SAFETY: the kernel wrote `msg_namelen` bytes of address; the family says which kind it is,
        // and the storage is large and aligned enough for all kinds.
        let address = unsafe { address(name.as_ptr()) };
        let told = control(&header.msg_hdr);
        if let Some(drops) = told.drops {
            batch.drops = drops;
        }
        let Some(address) = address else {
            // Not an internet address: cannot happen on our sockets. Taken as an empty datagram.
            batch.received.push(Received {
                peer: Peer::from(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
                length: 0,
                truncated: false,
            });
            continue;
        };
        batch.received.push(Received {
            peer: Peer {
                address,
                local: told.local,
            },
            length: (header.msg_len as usize).min(DATAGRAM_BYTES_MAX),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        });
    }
    Ok(batch.drops.wrapping_sub(before))
}

fn send_now(fd: RawFd, outbox: &Outbox) -> io::Result<usize> {
    let mut names: [libc::sockaddr_storage; BATCH] = zeroed();
    let mut controls: [Control; BATCH] = [[0; CONTROL_WORDS]; BATCH];
    let mut vectors: [libc::iovec; BATCH] = zeroed();
    let mut headers: [libc::mmsghdr; BATCH] = zeroed();
    let mut count: libc::c_uint = 0;
    for (place, (peer, datagram)) in outbox.iter().take(BATCH).enumerate() {
        // The kernel only reads what is sent.
        vectors[place].iov_base = datagram.as_ptr().cast_mut().cast();
        vectors[place].iov_len = datagram.len();
        let header = &mut headers[place].msg_hdr;
        header.msg_namelen = write_address(&mut names[place], peer.address);
        header.msg_name = (&raw mut names[place]).cast();
        header.msg_iov = &raw mut vectors[place];
        header.msg_iovlen = 1;
        if let Some(local) = peer.local {
            header.msg_control = controls[place].as_mut_ptr().cast();
            header.msg_controllen = mem::size_of::<Control>();
            header.msg_controllen = write_source(header, local);
        }
        count += 1;
    }
    // SAFETY: every header points to arrays and datagrams that outlive the call, with their lengths.
    let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// What the kernel told beside a datagram.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    local: Option<IpAddr>,
    drops: Option<u32>,
}

fn control(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: the header is one that the kernel filled, and its control buffer is alive; CMSG_NXTHDR
    // stays within it, and each value is read unaligned, with the type that belongs to its name.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info: libc::in_pktinfo = ptr::read_unaligned(data.cast());
                    told.local =
                        Some(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info: libc::in6_pktinfo = ptr::read_unaligned(data.cast());
                    told.local = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    told.drops = Some(ptr::read_unaligned(data.cast()));
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    // A group address is no source of a reply.
    told.local = told.local.filter(|ip| !ip.is_multicast());
    told
}

/// Says which of our addresses a datagram leaves from; returns the length of the control buffer.
fn write_source(header: &libc::msghdr, local: IpAddr) -> usize {
    match local {
        IpAddr::V4(ip) => {
            let mut info: libc::in_pktinfo = zeroed();
            info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
            write_control(header, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let mut info: libc::in6_pktinfo = zeroed();
            info.ipi6_addr.s6_addr = ip.octets();
            write_control(header, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_control<T>(header: &libc::msghdr, level: i32, kind: i32, value: T) -> usize {
    let length = libc::c_uint::try_from(mem::size_of::<T>()).expect("a small struct");
    // SAFETY: the control buffer is zeroed, aligned, and larger than this one message, which is the
    // first in it; CMSG_FIRSTHDR of such a header is not null.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(length) as _;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast(), value);
        libc::CMSG_SPACE(length) as usize
    }
}

/// Reads an address.
///
/// # Safety
/// `name` points to storage that the kernel wrote an address to.
unsafe fn address(name: *const libc::sockaddr_storage) -> Option<SocketAddr> {
    // SAFETY: the family is the first field of every kind of address, and decides the kind.
    unsafe {
        match i32::from(ptr::addr_of!((*name).ss_family).read()) {
            libc::AF_INET => {
                let v4: libc::sockaddr_in = name.cast::<libc::sockaddr_in>().read();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6: libc::sockaddr_in6 = name.cast::<libc::sockaddr_in6>().read();
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                // The flow label is no part of an endpoint.
                Some(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn write_address(storage: &mut libc::sockaddr_storage, address: SocketAddr) -> libc::socklen_t {
    let storage: *mut libc::sockaddr_storage = storage;
    match address {
        SocketAddr::V4(v4) => {
            let mut raw: libc::sockaddr_in = zeroed();
            raw.sin_family = family(libc::AF_INET);
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
            // SAFETY: the storage is large and aligned enough for every kind of address.
            unsafe { storage.cast::<libc::sockaddr_in>().write(raw) };
            length_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let mut raw: libc::sockaddr_in6 = zeroed();
            raw.sin6_family = family(libc::AF_INET6);
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: as above.
            unsafe { storage.cast::<libc::sockaddr_in6>().write(raw) };
            length_of::<libc::sockaddr_in6>()
        }
    }
}

/// A C struct of integers and pointers, all of them zero.
fn zeroed<T: CStruct>() -> T {
    // SAFETY: the trait is only implemented for structs of which zero bytes are a valid value.
    unsafe { mem::zeroed() }
}

/// C structs of which zero bytes are a valid value.
trait CStruct {}
impl CStruct for libc::sockaddr_storage {}
impl CStruct for libc::sockaddr_in {}
impl CStruct for libc::sockaddr_in6 {}
impl CStruct for libc::in_pktinfo {}
impl CStruct for libc::in6_pktinfo {}
impl CStruct for libc::iovec {}
impl CStruct for libc::mmsghdr {}
impl<T: CStruct, const N: usize> CStruct for [T; N] {}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("families are small numbers")
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).expect("C structs are small")
}

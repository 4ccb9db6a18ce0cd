//! Packets with descriptors over a Unix socket.
//!
//! A packet is at most [`PACKET_BYTES_MAX`] long, and carries at most [`FDS_MAX`] descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// Most bytes of one packet.
pub(super) const PACKET_BYTES_MAX: usize = 192 << 10;

/// Most descriptors of one packet.
pub(super) const FDS_MAX: usize = 32;

/// Two ends; what one sends, the other receives. Closed by `exec`.
pub(super) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for end in [&ends.0, &ends.1] {
        // The system's default takes one such packet already; this is for where it was made smaller.
        rustix::net::sockopt::set_socket_send_buffer_size(end, 2 * PACKET_BYTES_MAX)?;
    }
    Ok(ends)
}

/// Sends one packet.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> rustix::io::Result<()> {
    if bytes.len() > PACKET_BYTES_MAX || fds.len() > FDS_MAX {
        return Err(Errno::MSGSIZE);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::MSGSIZE);
    }
    let flags = SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Receives one packet into `buffer`; nothing when the other end is closed.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> rustix::io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut into = [IoSliceMut::new(buffer)];
        match rustix::net::recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(message) => break message,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if message.bytes == 0 {
        return Ok(None);
    }
    if message
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(Errno::MSGSIZE);
    }
    Ok(Some((message.bytes, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_largest_packet_arrives_whole_and_a_larger_one_is_refused() {
        let (a, b) = pair().unwrap();
        let bytes = vec![7; PACKET_BYTES_MAX];
        let fds = vec![a.as_fd(); FDS_MAX];
        send(a.as_fd(), &bytes, &fds).unwrap();
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        let (length, received) = receive(b.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!((length, received.len()), (PACKET_BYTES_MAX, FDS_MAX));
        assert_eq!(buffer, bytes);
        let larger = vec![7; PACKET_BYTES_MAX + 1];
        assert_eq!(send(a.as_fd(), &larger, &[]), Err(Errno::MSGSIZE));
        drop(received);
        drop(a);
        assert!(receive(b.as_fd(), &mut buffer).unwrap().is_none());
    }
}

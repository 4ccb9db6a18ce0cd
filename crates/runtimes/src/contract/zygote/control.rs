//! The control socket: one JSON object in each packet, bounded, both ways.
//!
//! Sending never waits, so that a dropped call can ask for its worker's death; what the socket does not
//! take at once is kept and sent by the task that also reads. That task ends with the socket or with the
//! last [`Control`].

use std::collections::{HashMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};

/// Largest packet; the loader cuts its own.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// Most packets that wait for a loader that does not read. A worker makes two at most.
const WAITING_MAX: usize = 4096;
/// Most descriptors of one packet: a stream, two pipes, and cgroups.
pub(super) const DESCRIPTORS_MAX: usize = 7;

/// How far the loader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It imports the code.
    Importing,
    /// It forks on demand.
    Ready,
    /// The import failed.
    Failed(String),
    /// Its end of the socket is closed, or it broke the protocol.
    Ended,
}

/// How far a worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Asked,
    Running,
    Refused(String),
    /// `exit 0`, `signal 9`.
    Gone(String),
}

/// What the node says.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Say {
    Fork { id: u64, calls: u32 },
    Kill { id: u64 },
}

/// What the loader says. Fields that are for people's eyes may be missing.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Told {
    Ready {
        #[serde(default)]
        threads: u32,
    },
    Failed {
        why: String,
    },
    Forked {
        id: u64,
    },
    Refused {
        id: u64,
        why: String,
    },
    Gone {
        id: u64,
        how: String,
    },
}

/// The node's end of the socket.
#[derive(Debug)]
pub(super) struct Control {
    socket: Arc<AsyncFd<OwnedFd>>,
    stage: watch::Sender<Stage>,
    lives: Mutex<Lives>,
    waiting: Mutex<VecDeque<Packet>>,
    more: Arc<Notify>,
    reader: Mutex<Option<tokio::task::AbortHandle>>,
}

#[derive(Debug, Default)]
struct Lives {
    last: u64,
    of: HashMap<u64, watch::Sender<Life>>,
}

#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let control = Arc::new(Self {
            socket: Arc::new(watched(socket)?),
            stage: watch::Sender::new(Stage::Importing),
            lives: Mutex::default(),
            waiting: Mutex::default(),
            more: Arc::default(),
            reader: Mutex::default(),
        });
        let task = tokio::spawn(drive(
            Arc::downgrade(&control),
            Arc::clone(&control.socket),
            Arc::clone(&control.more),
        ));
        *control
            .reader
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(control)
    }

    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// A number for a new worker, and where to see how it is.
    pub(super) fn register(&self) -> (u64, watch::Receiver<Life>) {
        let (sender, receiver) = watch::channel(Life::Asked);
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.last += 1;
        let id = lives.last;
        lives.of.insert(id, sender);
        (id, receiver)
    }

    /// Sends now, or keeps it to be sent. The descriptors are copies of the caller's or its own.
    pub(super) fn send(&self, say: &Say, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let packet = Packet {
            bytes: serde_json::to_vec(say)?,
            descriptors,
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            return Err(io::Error::other("the loader does not read its messages"));
        }
        if waiting.is_empty() {
            match packet.send(self.socket.get_ref().as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return sent,
            }
        }
        waiting.push_back(packet);
        self.more.notify_one();
        Ok(())
    }

    /// Sends what waits. Fails with `WouldBlock` when the socket takes no more.
    fn send_waiting(&self) -> io::Result<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(packet) = waiting.front() {
            packet.send(self.socket.get_ref().as_fd())?;
            waiting.pop_front();
        }
        Ok(())
    }

    fn is_sending(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        !waiting.is_empty()
    }

    fn heard(&self, bytes: &[u8]) -> Result<(), serde_json::Error> {
        match serde_json::from_slice(bytes)? {
            Told::Ready { threads } => {
                tracing::debug!(threads, "the code is imported");
                self.stage.send_replace(Stage::Ready);
            }
            Told::Failed { why } => {
                self.stage.send_replace(Stage::Failed(why));
            }
            Told::Forked { id } => self.lives(id, Life::Running, false),
            Told::Refused { id, why } => self.lives(id, Life::Refused(why), true),
            Told::Gone { id, how } => self.lives(id, Life::Gone(how), true),
        }
        Ok(())
    }

    fn lives(&self, id: u64, life: Life, last: bool) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = lives.of.get(&id) {
            sender.send_replace(life);
        }
        if last {
            lives.of.remove(&id);
        }
    }

    /// The loader is gone, and its workers with it.
    fn end(&self) {
        self.stage.send_if_modified(|stage| {
            let failed = matches!(stage, Stage::Failed(_));
            if !failed {
                *stage = Stage::Ended;
            }
            !failed
        });
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, life) in lives.of.drain() {
            life.send_replace(Life::Gone("the function's process ended".to_owned()));
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.clear();
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let reader = self
            .reader
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = reader.take() {
            reader.abort();
        }
    }
}

impl Packet {
    fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let descriptors: Vec<BorrowedFd<'_>> =
            self.descriptors.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors))
        {
            return Err(io::Error::other("too many descriptors for one packet"));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut ancillary, flags)?;
        Ok(())
    }
}

/// The socket, with the runtime watching it.
#[expect(
    unsafe_code,
    reason = "tokio asks for the word that a descriptor stays what it is"
)]
fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: An `OwnedFd` is open, names the same descriptor on every call, and cannot be closed or
    // exchanged behind a shared reference, which is all that `AsyncFd` gives out here.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Reads until the socket ends, and sends what had to wait.
async fn drive(control: Weak<Control>, socket: Arc<AsyncFd<OwnedFd>>, more: Arc<Notify>) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let sending = control
            .upgrade()
            .is_some_and(|control| control.is_sending());
        let interest = if sending {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let mut ready = tokio::select! {
            ready = socket.ready(interest) => match ready {
                Ok(ready) => ready,
                Err(_) => break,
            },
            () = more.notified() => continue,
        };
        let Some(control) = control.upgrade() else {
            return;
        };
        if ready.ready().is_writable() {
            match control.send_waiting() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready_matching(tokio::io::Ready::WRITABLE);
                }
                Err(_) => break,
                Ok(()) => {}
            }
        }
        if ready.ready().is_readable() {
            match receive(socket.get_ref().as_fd(), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready_matching(tokio::io::Ready::READABLE);
                }
                Ok(length) if length > 0 => {
                    if let Err(error) = control.heard(&buffer[..length]) {
                        tracing::warn!(%error, "a loader sent what is no message; it is given up");
                        break;
                    }
                }
                Ok(_) | Err(_) => break,
            }
        }
    }
    if let Some(control) = control.upgrade() {
        control.end();
    }
}

/// One packet. Its descriptors, which nobody asked for, are closed.
fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut ancillary = RecvAncillaryBuffer::default();
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(buffer)],
        &mut ancillary,
        flags,
    )?;
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a packet is too long"));
    }
    Ok(got.bytes)
}

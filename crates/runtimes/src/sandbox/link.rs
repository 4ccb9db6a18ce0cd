//! The node's end of a sandbox: requests out, answers and exits in.
//!
//! One task per sandbox reads. A request that is not answered in [`ANSWER_MAX`] means that the
//! sandbox hangs, and ends it: no caller waits longer than that for anything but a program.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use rustix::process::Signal;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::sync::{Notify, oneshot, watch};

use super::channel;
use super::message::{Event, Failure, Request};
use super::process::{Exit, PROCESSES_MAX};
use super::tier::Tier;

/// The longest time that a sandbox may take for an answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A connection to a sandbox; shared by its handle and its reading task.
#[derive(Debug)]
pub(super) struct Link {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
    processes: Mutex<HashMap<u64, watch::Sender<Option<Exit>>>>,
    ready: watch::Sender<Option<Tier>>,
    over: watch::Sender<bool>,
    stop: Notify,
}

/// What a sandbox gave back.
pub(super) type Answer = Result<Handed, Failure>;

/// Descriptors from a sandbox. If nobody accepts them, because the caller went away meanwhile, a
/// process that is the first of them is killed.
#[derive(Debug)]
pub(super) struct Handed(Vec<OwnedFd>);

impl Handed {
    /// Takes them.
    pub(super) fn accept(mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if let Some(first) = self.0.first() {
            // Refused when it is a socket.
            let _ = rustix::process::pidfd_send_signal(first, Signal::KILL);
        }
    }
}

/// A process that is about to be started; forgotten when it is dropped before.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    link: &'a Link,
    id: u64,
    exit: Option<watch::Receiver<Option<Exit>>>,
}

impl Expected<'_> {
    /// It was started: from now on its end is what makes it forgotten.
    pub(super) fn started(mut self) -> watch::Receiver<Option<Exit>> {
        self.exit.take().expect("nothing else takes it")
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if self.exit.is_some() {
            lock(&self.link.processes).remove(&self.id);
        }
    }
}

impl Link {
    /// Starts reading. `child` is the sandbox's outer process.
    pub(super) fn start(socket: OwnedFd, child: Child) -> io::Result<Arc<Self>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[expect(unsafe_code, reason = "tokio asks for a promise about the descriptor")]
        // SAFETY: An `OwnedFd` is the same open file until it is dropped.
        let socket = unsafe { AsyncFd::register_with_interest(socket, interest) }?;
        let link = Arc::new(Self {
            socket,
            // 0 is the app's network.
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            processes: Mutex::default(),
            ready: watch::Sender::new(None),
            over: watch::Sender::new(false),
            stop: Notify::new(),
        });
        tokio::spawn(Arc::clone(&link).read(child));
        Ok(link)
    }

    /// Waits for the sandbox's first words. Nothing: it ended instead.
    pub(super) async fn ready(&self) -> Option<Tier> {
        let mut ready = self.ready.subscribe();
        let said = async {
            let tier = ready.wait_for(Option::is_some).await.ok()?;
            *tier
        };
        tokio::select! {
            tier = said => tier,
            () = self.over() => None,
            () = tokio::time::sleep(ANSWER_MAX) => None,
        }
    }

    /// An id that was not used yet.
    pub(super) fn id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a process before it is started, so that its end cannot be missed.
    pub(super) fn expect(&self, id: u64) -> Result<Expected<'_>, Error> {
        let mut processes = lock(&self.processes);
        if processes.len() >= PROCESSES_MAX {
            let message = format!("a sandbox has {PROCESSES_MAX} processes, its most");
            return Err(Error::new(ErrorKind::Overloaded, message));
        }
        let (sender, receiver) = watch::channel(None);
        processes.insert(id, sender);
        Ok(Expected {
            link: self,
            id,
            exit: Some(receiver),
        })
    }

    /// Asks the sandbox. When the caller goes away meanwhile, the answer is dropped.
    pub(super) async fn ask(
        &self,
        id: u64,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, Error> {
        let bytes = serde_json::to_vec(request)
            .map_err(|error| Error::new(ErrorKind::BadRequest, error.to_string()))?;
        if bytes.len() > channel::PACKET_BYTES_MAX {
            let (length, most) = (bytes.len(), channel::PACKET_BYTES_MAX);
            let message = format!("a request of {length} bytes to a sandbox, more than {most}");
            return Err(Error::new(ErrorKind::TooLarge, message)
                .with_hint("use fewer or shorter arguments and environment variables"));
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let _forget = Forget { link: self, id };
        let asked = async {
            self.send(&bytes, fds).await?;
            receiver
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        };
        match tokio::time::timeout(ANSWER_MAX, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(ended()),
            Err(_) => {
                self.end();
                let message = format!("a sandbox gave no answer in {} s", ANSWER_MAX.as_secs());
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }

    async fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if *self.over.borrow() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let send = |socket: &OwnedFd| Ok(channel::send(socket.as_fd(), bytes, fds)?);
        self.socket.async_io(Interest::WRITABLE, send).await
    }

    /// Ends the sandbox, whatever it is doing.
    pub(super) fn end(&self) {
        self.stop.notify_one();
    }

    /// Lets the sandbox end as when the node goes: it sees that nobody is there any more.
    pub(super) fn hang_up(&self) {
        let _ = rustix::net::shutdown(self.socket.get_ref(), rustix::net::Shutdown::Both);
    }

    /// Resolves when the sandbox and all in it have ended.
    pub(super) async fn over(&self) {
        let mut over = self.over.subscribe();
        // The sender lives in this very link.
        let _ = over.wait_for(|over| *over).await;
    }

    async fn read(self: Arc<Self>, mut child: Child) {
        let mut buffer = vec![0; channel::PACKET_BYTES_MAX];
        loop {
            let receive = |socket: &OwnedFd| Ok(channel::receive(socket.as_fd(), &mut buffer)?);
            let received = tokio::select! {
                received = self.socket.async_io(Interest::READABLE, receive) => received,
                () = self.stop.notified() => break,
            };
            let Ok(Some((length, fds))) = received else {
                break;
            };
            match serde_json::from_slice(&buffer[..length]) {
                Ok(event) => self.take(event, fds),
                Err(_) => break,
            }
        }
        // Already on its way out, unless it hangs; in that case nobody is waited for.
        let _ = child.start_kill();
        let _ = child.wait().await;
        self.over.send_replace(true);
        lock(&self.waiting).clear();
        for (_, process) in lock(&self.processes).drain() {
            process.send_replace(Some(Exit::Lost));
        }
    }

    fn take(&self, event: Event, fds: Vec<OwnedFd>) {
        match event {
            Event::Ready { tier } => {
                self.ready.send_replace(Some(tier));
            }
            Event::Done { id, failure } => {
                let answer = failure.map_or(Ok(Handed(fds)), Err);
                if let Some(waiting) = lock(&self.waiting).remove(&id) {
                    let _ = waiting.send(answer);
                }
            }
            Event::Exited { id, status } => {
                if let Some(process) = lock(&self.processes).remove(&id) {
                    process.send_replace(Some(Exit::from_status(status)));
                }
            }
        }
    }
}

/// Forgets a request whose caller has gone.
struct Forget<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.link.waiting).remove(&self.id);
    }
}

pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Overloaded, "the sandbox has ended")
        .with_hint("it is made anew with the next start")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks, whatever panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

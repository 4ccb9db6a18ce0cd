//! A host of an emulated network: a network namespace with a device for each of its links.
//!
//! The namespace has no name, so that it goes with the last descriptor and process in it: a run that is killed leaves
//! nothing behind. A host has one address, which all its devices share; each leads to one other host.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// Of packets, headers included.
const MTU: &str = "1500";

/// A host.
#[derive(Debug, Clone)]
pub struct Host {
    address: String,
    namespace: Arc<OwnedFd>,
    devices: Arc<AtomicU32>,
}

impl Host {
    /// A host of this address that reaches nobody yet. Needs root.
    pub fn new(address: &str) -> Result<Self> {
        on_a_thread(|| {
            #[expect(
                unsafe_code,
                reason = "flags that would tear memory apart are possible in general"
            )]
            // SAFETY: Of what threads share, this takes only the network away.
            let apart = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
            apart.context("cannot make a network namespace: emulated links need root")?;
            let namespace: OwnedFd = File::open("/proc/thread-self/ns/net")?.into();
            // Its announcements would be packets that nobody sent.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            // A host that opens thousands of connections a second runs out of ports, and before that each takes
            // milliseconds to find one.
            let _ = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
            let _ = fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65535");
            run("ip", &["link", "set", "lo", "up"])?;
            Ok(Self {
                address: address.to_owned(),
                namespace: Arc::new(namespace),
                devices: Arc::default(),
            })
        })
    }

    /// Its address, as others reach it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs something on this host: sockets that it opens are the host's.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(self.namespace.as_fd(), kind)
                .context("cannot join a host's network")?;
            Ok(what())
        })
    }

    /// Starts a program on this host.
    pub fn spawn(&self, mut command: Command) -> Result<Child> {
        let name = command.get_program().to_string_lossy().into_owned();
        self.within(move || command.spawn())?
            .with_context(|| format!("cannot run `{name}`"))
    }

    /// A name that no device of this host has.
    pub(super) fn next_device(&self) -> String {
        format!("link{}", self.devices.fetch_add(1, Ordering::Relaxed))
    }

    /// A TUN device of this host, to a peer of this address.
    pub(super) fn tun(&self, peer: &str) -> Result<OwnedFd> {
        let name = self.next_device();
        self.within(|| {
            let device =
                tun(&name).context("cannot make a TUN device: emulated links need /dev/net/tun")?;
            self.lead(&name, peer)?;
            Ok(device)
        })?
    }

    /// Makes a device of this host, whose thread this is, lead to a peer of this address.
    pub(super) fn lead(&self, device: &str, peer: &str) -> Result<()> {
        let own = ["address", "add", &self.address, "peer", peer, "dev", device];
        run("ip", &own)?;
        run("ip", &["link", "set", device, "mtu", MTU, "up"])?;
        Ok(())
    }

    /// Where programs that this one starts find the namespace.
    pub(super) fn path(&self) -> PathBuf {
        let descriptor = self.namespace.as_raw_fd();
        PathBuf::from(format!("/proc/{}/fd/{descriptor}", std::process::id()))
    }
}

/// On a thread of its own, which may leave this one's namespaces.
fn on_a_thread<T: Send>(what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(what).join())
        .map_err(|_| anyhow!("a thread of a host panicked"))?
}

/// A device that gives and takes packets without a header of its own, and never blocks.
fn tun(name: &str) -> io::Result<OwnedFd> {
    /// `struct ifreq`, as far as `TUNSETIFF` reads it.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    /// `IFF_TUN | IFF_NO_PI` of `linux/if_tun.h`.
    const FLAGS: u16 = 0x0001 | 0x1000;
    /// `_IOW('T', 202, int)`.
    const TUNSETIFF: u32 = 0x4004_54ca;

    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let device = rustix::fs::open("/dev/net/tun", flags, Mode::empty())?;
    let mut request = Request {
        name: [0; 16],
        flags: FLAGS,
        rest: [0; 22],
    };
    // The kernel's copy ends with a zero.
    let length = name.len().min(request.name.len() - 1);
    request.name[..length].copy_from_slice(&name.as_bytes()[..length]);
    #[expect(
        unsafe_code,
        reason = "the kernel reads and writes the structure that a number stands for"
    )]
    // SAFETY: `TUNSETIFF` reads and writes a `struct ifreq`, which `Request` is laid out as.
    unsafe {
        let set = rustix::ioctl::Updater::<TUNSETIFF, Request>::new(&mut request);
        rustix::ioctl::ioctl(&device, set)?;
    }
    Ok(device)
}

/// A tool of iproute2, in the namespace of this thread: what it writes.
pub(super) fn run(tool: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(tool).args(arguments).output();
    let output = output.with_context(|| format!("cannot run `{tool}`: install iproute2"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_end_matches('.').replace('\n', " | ");
        bail!("`{tool} {}` failed: {said}", arguments.join(" "));
    }
    Ok(output.stdout)
}

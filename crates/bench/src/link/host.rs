//! One end of a link: a network namespace with a TUN device.
//!
//! The namespace has no name, so that it goes with the last descriptor and process in it: a run that is killed leaves
//! nothing behind.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{Mode, OFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The name of each host's device.
const DEVICE: &str = "link0";
/// Of packets, headers included.
const MTU: &str = "1500";

/// A host.
#[derive(Debug)]
pub struct Host {
    address: String,
    namespace: OwnedFd,
    device: OwnedFd,
}

impl Host {
    /// A host of this address that reaches another through the device.
    pub(super) fn new(address: &str, peer: &str) -> Result<Self> {
        on_a_thread(|| {
            #[expect(
                unsafe_code,
                reason = "flags that would tear memory apart are possible in general"
            )]
            // SAFETY: Of what threads share, this takes only the network away.
            let apart = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
            apart.context("cannot make a network namespace: emulated links need root")?;
            let namespace = File::open("/proc/thread-self/ns/net")?.into();
            // Its announcements would be packets that nobody sent.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            // A host that opens thousands of connections a second runs out of ports, and before that each takes
            // milliseconds to find one.
            let _ = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1");
            let _ = fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65535");
            let device =
                tun().context("cannot make a TUN device: emulated links need /dev/net/tun")?;
            ip(&["link", "set", "lo", "up"])?;
            ip(&["address", "add", address, "peer", peer, "dev", DEVICE])?;
            ip(&["link", "set", DEVICE, "mtu", MTU, "up"])?;
            Ok(Self {
                address: address.to_owned(),
                namespace,
                device,
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

    pub(super) fn device(&self) -> io::Result<OwnedFd> {
        self.device.try_clone()
    }
}

/// On a thread of its own, which may leave this one's namespaces.
fn on_a_thread<T: Send>(what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(what).join())
        .map_err(|_| anyhow!("a thread of a host panicked"))?
}

/// A device that gives and takes packets without a header of its own, and never blocks.
fn tun() -> io::Result<OwnedFd> {
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
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
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

/// The tool of iproute2, in the namespace of this thread.
fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.context("cannot run `ip`: install iproute2")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}` failed: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}

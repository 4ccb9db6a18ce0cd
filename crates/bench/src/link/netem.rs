//! Links by the kernel: two virtual Ethernet devices with `netem` where packets leave each of them.
//!
//! Whether the kernel has it is found out by asking for it. Both ends know each other's hardware address, so that no
//! question for it is delayed or lost, and hand over every segment of TCP by itself, so that each has a fate of its own.
//! Not there is an order of packets, and a seed: the fates of a link are others each time.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::host::{Host, run};
use super::settings::{Impairments, Preset};
use super::way::Direction;

/// Why there is no netem on this system, in an error.
pub(super) fn probe() -> Result<()> {
    let host = Host::new("10.77.0.1")?;
    // With a distribution, whose table is a file that may be missing.
    let words = discipline(&Preset::Cld.impairments());
    host.within(|| attach("lo", &words))?
}

/// Connects two hosts: the devices from the first to the second, and back.
pub(super) fn connect(
    near: &Host,
    far: &Host,
    impairments: &[Impairments; 2],
) -> Result<[String; 2]> {
    let [there, back] = impairments;
    wire(near, far, &[discipline(there), discipline(back)])
}

/// What became of the packets that left by a device. Those that were lost and those without room are one number.
pub(super) fn counted(host: &Host, device: &str) -> Result<Direction> {
    #[derive(Deserialize)]
    struct Shown {
        packets: u64,
        drops: u64,
        #[serde(default)]
        root: bool,
    }
    let words = ["-statistics", "-json", "qdisc", "show", "dev", device];
    let text = host.within(|| run("tc", &words))??;
    let shown: Vec<Shown> =
        serde_json::from_slice(&text).context("what `tc` says cannot be read")?;
    let root = shown.iter().find(|shown| shown.root);
    let root = root.with_context(|| format!("`tc` says nothing about {device}"))?;
    Ok(Direction {
        sent: root.packets + root.drops,
        arrived: root.packets,
        lost: root.drops,
        ..Direction::default()
    })
}

/// Two devices that are connected, with a queueing discipline each.
fn wire(near: &Host, far: &Host, disciplines: &[Vec<String>; 2]) -> Result<[String; 2]> {
    let devices = [near.next_device(), far.next_device()];
    let hardware = [near, far].map(|host| hardware(host.address()));
    let [of_near, of_far] = [hardware[0].as_deref(), hardware[1].as_deref()];
    let (of_near, of_far) = of_near.zip(of_far).context("hosts have IPv4 addresses")?;
    let namespace = far.path().display().to_string();
    // A segment each, and not sixty in one packet.
    let words = |device, hardware| ["name", device, "address", hardware, "gso_max_segs", "1"];
    let mut pair = vec!["link", "add"];
    pair.extend(words(&devices[0], of_near));
    pair.extend(["type", "veth", "peer"]);
    pair.extend(words(&devices[1], of_far));
    pair.extend(["netns", &namespace]);
    near.within(|| run("ip", &pair))?
        .context("cannot make virtual Ethernet devices: emulated links need root")?;
    let ends = [(near, far, of_far), (far, near, of_near)];
    for ((index, (host, peer, hardware)), words) in ends.into_iter().enumerate().zip(disciplines) {
        let device = devices[index].as_str();
        host.within(|| -> Result<()> {
            host.lead(device, peer.address())?;
            let neighbour = [
                "neighbour",
                "add",
                peer.address(),
                "lladdr",
                hardware,
                "dev",
                device,
                "nud",
                "permanent",
            ];
            run("ip", &neighbour)?;
            attach(device, words)
        })??;
    }
    Ok(devices)
}

/// Gives a device of this thread's namespace a queueing discipline.
fn attach(device: &str, words: &[String]) -> Result<()> {
    let mut all = vec!["qdisc", "add", "dev", device, "root"];
    all.extend(words.iter().map(String::as_str));
    run("tc", &all).map(drop)
}

/// A hardware address that nobody was sold, for a host of this address.
fn hardware(address: &str) -> Option<String> {
    let [a, b, c, d] = address.parse::<Ipv4Addr>().ok()?.octets();
    Some(format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}"))
}

/// The words of `tc` for what is done to packets.
fn discipline(impairments: &Impairments) -> Vec<String> {
    let mut words = vec![
        "netem".to_owned(),
        "limit".to_owned(),
        impairments.queue.to_string(),
    ];
    let mut add = |more: &[String]| words.extend_from_slice(more);
    let word = str::to_owned;
    let micros = |time: Duration| format!("{}us", time.as_micros());
    let percent = |share: f64| {
        let digits = format!("{:.6}", share * 100.0);
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}%")
    };
    let delayed = impairments.delay + impairments.deviation > Duration::ZERO;
    if delayed {
        add(&[word("delay"), micros(impairments.delay)]);
    }
    if impairments.deviation > Duration::ZERO {
        add(&[micros(impairments.deviation)]);
        if impairments.correlation > 0.0 {
            add(&[percent(impairments.correlation)]);
        }
        add(&[word("distribution"), word("normal")]);
    }
    // Without a delay nobody is ahead of anybody, and netem refuses the word.
    let reorder = if delayed { impairments.reorder } else { 0.0 };
    for (name, share) in [
        ("loss", impairments.loss),
        ("duplicate", impairments.duplicate),
        ("reorder", reorder),
    ] {
        if share > 0.0 {
            add(&[word(name), percent(share)]);
        }
    }
    if let Some(rate) = impairments.rate {
        add(&[word("rate"), format!("{rate:.0}bit")]);
    }
    words
}

#[cfg(test)]
mod tests;

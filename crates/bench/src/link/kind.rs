//! How a link is emulated: by the kernel's netem, packet by packet in this program, or by a relay that needs no rights.
//!
//! What a system can do is found out by doing it, in a network that is thrown away.

use std::fmt;

use anyhow::{Result, anyhow, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::host::Host;
use super::netem;

/// How a link is emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By the kernel, between virtual Ethernet devices.
    Netem,
    /// By this program, which takes each packet off one TUN device and writes it to another.
    Tun,
    /// By this program, which relays datagrams and streams from socket to socket.
    Relay,
}

/// How a link is to be emulated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// The best that this system allows: netem, then TUN devices, then a relay
    #[default]
    Auto,
    /// By the kernel's netem
    Netem,
    /// Packet by packet in this program, between TUN devices
    Tun,
    /// From socket to socket, which needs no root
    Relay,
}

/// Why this system cannot emulate links in one of the ways that need rights; nothing where it can.
#[derive(Debug, Clone)]
pub struct Abilities {
    netem: Option<String>,
    tun: Option<String>,
}

impl Abilities {
    /// Tries what this system can do.
    #[must_use]
    pub fn probe() -> Self {
        let why_not = |tried: Result<()>| tried.err().map(|error| format!("{error:#}"));
        Self {
            netem: why_not(netem::probe()),
            tun: why_not(tun()),
        }
    }

    /// Which kind a link becomes. `in_order`: netem has no such link. Fails when the system cannot have it.
    pub fn kind(&self, choice: Choice, in_order: bool) -> Result<Kind> {
        match choice {
            Choice::Auto if self.netem.is_none() && !in_order => Ok(Kind::Netem),
            Choice::Auto if self.tun.is_none() => Ok(Kind::Tun),
            Choice::Auto | Choice::Relay => Ok(Kind::Relay),
            Choice::Netem if in_order => {
                bail!("netem cannot keep packets in order: choose `tun`, or leave out in_order")
            }
            Choice::Netem => possible(self.netem.as_ref(), Kind::Netem),
            Choice::Tun => possible(self.tun.as_ref(), Kind::Tun),
        }
    }

    /// Why links are not emulated by netem here.
    #[must_use]
    pub fn why_not_netem(&self) -> Option<&str> {
        self.netem.as_deref()
    }

    /// Why they are not emulated between TUN devices.
    #[must_use]
    pub fn why_not_tun(&self) -> Option<&str> {
        self.tun.as_deref()
    }
}

fn possible(why_not: Option<&String>, kind: Kind) -> Result<Kind> {
    match why_not {
        None => Ok(kind),
        Some(why) => Err(anyhow!(
            "links of kind `{kind}` cannot be had here: {why}; choose `auto`"
        )),
    }
}

/// Whether a device can be had.
fn tun() -> Result<()> {
    let host = Host::new("10.77.0.1")?;
    host.tun("10.77.0.2").map(drop)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netem => "netem",
            Self::Tun => "tun",
            Self::Relay => "relay",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(netem: bool, tun: bool) -> Abilities {
        let why_not = |can: bool| (!can).then(|| "there is none".to_owned());
        Abilities {
            netem: why_not(netem),
            tun: why_not(tun),
        }
    }

    #[test]
    fn the_best_that_is_there_is_chosen() {
        let auto = |netem, tun| abilities(netem, tun).kind(Choice::Auto, false).unwrap();
        assert_eq!(auto(true, true), Kind::Netem);
        assert_eq!(auto(false, true), Kind::Tun);
        assert_eq!(auto(false, false), Kind::Relay);
        let in_order = abilities(true, true).kind(Choice::Auto, true).unwrap();
        assert_eq!(in_order, Kind::Tun);
    }

    #[test]
    fn what_is_asked_for_is_had_or_refused() {
        let all = abilities(true, true);
        assert_eq!(all.kind(Choice::Relay, false).unwrap(), Kind::Relay);
        assert_eq!(all.kind(Choice::Tun, false).unwrap(), Kind::Tun);
        assert_eq!(all.kind(Choice::Netem, false).unwrap(), Kind::Netem);
        assert!(all.kind(Choice::Netem, true).is_err());
        for choice in [Choice::Tun, Choice::Netem] {
            let error = abilities(false, false).kind(choice, false).unwrap_err();
            let error = error.to_string();
            assert!(error.contains("there is none"), "{error}");
        }
    }

    #[test]
    fn what_is_probed_can_be_had() {
        let abilities = Abilities::probe();
        // The answer has to be that of the tool, whatever this system can do.
        if let Some(why) = abilities.why_not_netem() {
            assert!(why.contains("netem") || why.contains("need root"), "{why}");
        }
        if abilities.why_not_tun().is_none() {
            tun().unwrap();
        }
    }
}

//! The network between machines of kind `namespace`: which kind of link it has, and how one machine is seen from another.
//!
//! Where links are between hosts, machines are namespaces and every program reaches the others' addresses. Where they are
//! relays, machines share this system's loopback interface with an address each, and what goes from one to another has
//! to be told where the relay listens: addresses in the words of programs are changed for that, and one whose protocol
//! is not written beside it is refused, because it would go around the link.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::file;
use crate::link::relay::{Bounds, Protocol, Route, Side};
use crate::link::{Abilities, Choice, Host, Impairments, KeptUp, Kind, Link, Preset, Relay};

/// What the addresses of hosts begin with, of machines without namespaces, and of relays in front of these.
const HOSTS: [u8; 3] = [10, 77, 0];
const MACHINES: [u8; 3] = [127, 77, 0];
const DOORS: [u8; 3] = [127, 77, 1];
/// What a relay keeps. Each run of a test has clients of its own, and those of the run before are soon forgotten.
pub(super) const BOUNDS: Bounds = Bounds {
    clients: 1000,
    idle: Duration::from_secs(30),
};
/// Most machines of a network: what is left of an address.
const MACHINES_MAX: usize = 254;

/// The machines of links, and the links. Everything ends when this is dropped.
#[derive(Debug)]
pub(super) enum Network {
    /// Namespaces with devices between them.
    Hosts {
        hosts: BTreeMap<String, Host>,
        links: Vec<Link>,
        kinds: Vec<Kind>,
    },
    /// Addresses of one interface with relays between them.
    Relays {
        addresses: BTreeMap<String, Ipv4Addr>,
        relays: Vec<Between>,
    },
}

/// A relay between two machines.
#[derive(Debug)]
pub(super) struct Between {
    machines: [String; 2],
    relay: Relay,
    /// Where it listens for what goes to a server.
    doors: Mutex<BTreeMap<(Protocol, SocketAddr), SocketAddr>>,
}

impl Network {
    /// Makes it as this system can. `seed`: of the links.
    pub(super) fn up(
        links: &BTreeMap<String, file::Link>,
        abilities: &Abilities,
        seed: u64,
    ) -> Result<Self> {
        let kinds = kinds(links, abilities)?;
        let numbered = numbered(links)?;
        let seed_of = |index: usize| seed.wrapping_add((index as u64) << 32);
        let each = links.iter().enumerate();
        if kinds.contains(&Kind::Relay) {
            let relay = |(index, (name, link)): (usize, (&String, &file::Link))| {
                let up = Relay::up(directions(link), seed_of(index), BOUNDS);
                Ok(Between {
                    machines: link.between.clone(),
                    relay: up.with_context(|| format!("link `{name}`"))?,
                    doors: Mutex::default(),
                })
            };
            let address = |(name, number)| (name, address(MACHINES, number));
            return Ok(Self::Relays {
                addresses: numbered.into_iter().map(address).collect(),
                relays: each.map(relay).collect::<Result<_>>()?,
            });
        }
        let mut hosts = BTreeMap::new();
        for (name, number) in numbered {
            let host = Host::new(&address(HOSTS, number).to_string());
            hosts.insert(name, host?);
        }
        let mut up = Vec::new();
        for ((index, (name, link)), kind) in each.zip(&kinds) {
            let [near, far] = &link.between;
            let (near, far) = hosts
                .get(near)
                .zip(hosts.get(far))
                .context("machines of links are hosts")?;
            let link = Link::between(near, far, *kind, directions(link), seed_of(index));
            up.push(link.with_context(|| format!("link `{name}`"))?);
        }
        Ok(Self::Hosts {
            hosts,
            links: up,
            kinds,
        })
    }

    /// A machine of it that is a host.
    pub(super) fn host(&self, machine: &str) -> Option<&Host> {
        match self {
            Self::Hosts { hosts, .. } => hosts.get(machine),
            Self::Relays { .. } => None,
        }
    }

    /// Where a machine is, as it sees itself.
    pub(super) fn address(&self, machine: &str) -> Result<String> {
        let found = match self {
            Self::Hosts { hosts, .. } => hosts.get(machine).map(|host| host.address().to_owned()),
            Self::Relays { addresses, .. } => addresses.get(machine).map(ToString::to_string),
        };
        found.with_context(|| {
            format!("machine `{machine}` has a network of its own, and no link names it")
        })
    }

    /// How its links are emulated.
    pub(super) fn kind(&self) -> Option<String> {
        match self {
            Self::Hosts { kinds, .. } => named(kinds),
            Self::Relays { .. } => named(&[Kind::Relay]),
        }
    }

    /// How its links kept up so far, where that can be said of any.
    pub(super) fn kept_up(&self) -> Option<KeptUp> {
        let sum = |links: &mut dyn Iterator<Item = KeptUp>| links.reduce(|all, one| all + one);
        match self {
            Self::Hosts { links, .. } => sum(&mut links.iter().filter_map(Link::kept_up)),
            Self::Relays { relays, .. } => {
                sum(&mut relays.iter().map(|between| between.relay.kept_up()))
            }
        }
    }

    /// A word of a program on a machine, with the addresses of other machines as that one reaches them.
    pub(super) fn seen_from(&self, from: &str, word: &str) -> Result<String> {
        let Self::Relays { addresses, relays } = self else {
            return Ok(word.to_owned());
        };
        let mut seen = word.to_owned();
        for (to, address) in addresses.iter().filter(|(to, _)| *to != from) {
            seen = replaced(&seen, *address, |protocol, port| {
                let protocol = protocol.with_context(|| {
                    format!(
                        "`{word}` names machine `{to}` and not what goes there: across a relay write http://, coap://, \
                         tcp:// or udp:// before it"
                    )
                })?;
                let between = |between: &&Between| between.side_of(from, to).is_some();
                let found = relays.iter().find(between);
                let found = found.with_context(|| {
                    format!(
                        "`{word}` names machine `{to}`, and there is no link to it from `{from}`"
                    )
                })?;
                found.door(from, to, protocol, (*address, port).into())
            })?;
        }
        Ok(seen)
    }
}

impl Between {
    /// On which side a machine is, when the other is on the other.
    fn side_of(&self, from: &str, to: &str) -> Option<Side> {
        let [near, far] = self.machines.each_ref().map(String::as_str);
        match (from == near, to == far, from == far, to == near) {
            (true, true, ..) => Some(Side::Near),
            (_, _, true, true) => Some(Side::Far),
            _ => None,
        }
    }

    /// Where the relay listens for what goes from one machine to a server on the other.
    fn door(
        &self,
        from: &str,
        to: &str,
        protocol: Protocol,
        server: SocketAddr,
    ) -> Result<SocketAddr> {
        let side = self.side_of(from, to).context("it is between these two")?;
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(door) = doors.get(&(protocol, server)) {
            return Ok(*door);
        }
        let number = match side {
            Side::Near => 1,
            Side::Far => 2,
        };
        let door = self.relay.carry(Route {
            protocol,
            listen: (address(DOORS, number), 0).into(),
            to: server,
            from: side,
        })?;
        doors.insert((protocol, server), door);
        Ok(door)
    }
}

/// The kinds that links become on this system, in their order. All are relays or none.
pub(super) fn kinds(
    links: &BTreeMap<String, file::Link>,
    abilities: &Abilities,
) -> Result<Vec<Kind>> {
    let kinds = links.iter().map(|(name, link)| {
        let kind = abilities.kind(link.kind, link.in_order);
        kind.with_context(|| format!("link `{name}`"))
    });
    let mut kinds = kinds.collect::<Result<Vec<Kind>>>()?;
    if kinds.contains(&Kind::Relay) {
        for ((name, link), kind) in links.iter().zip(&mut kinds) {
            ensure!(
                matches!(link.kind, Choice::Auto | Choice::Relay),
                "link `{name}` is of kind `{kind}`, and another a relay: machines are namespaces, or share this system's \
                 network"
            );
            *kind = Kind::Relay;
        }
    }
    Ok(kinds)
}

/// Kinds in words, each once.
pub(super) fn named(kinds: &[Kind]) -> Option<String> {
    let mut kinds = kinds.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let words: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    (!words.is_empty()).then(|| words.join(" and "))
}

/// What a reader has to know about links that are not what was asked for, packet by packet.
pub(super) fn notes(
    links: &BTreeMap<String, file::Link>,
    abilities: &Abilities,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for ((name, link), kind) in links.iter().zip(kinds(links, abilities)?) {
        if kind != Kind::Relay {
            continue;
        }
        let why = match (link.kind, abilities.why_not_tun()) {
            (Choice::Auto, Some(why)) => format!("because {why}"),
            _ => "as the file says".to_owned(),
        };
        notes.push(format!(
            "link `{name}` is a relay of datagrams and streams, {why}: it delays and loses datagrams as packets, and pieces \
             of TCP in their order, but TCP's own windows do not feel the network"
        ));
        let both = directions(link);
        if both.iter().any(|way| way.duplicate + way.reorder > 0.0) {
            notes.push(format!(
                "link `{name}` is a relay, which doubles and reorders datagrams only"
            ));
        }
    }
    Ok(notes)
}

/// Whether there can be such links between machines.
pub(super) fn check(
    machines: &BTreeMap<String, file::Machine>,
    links: &BTreeMap<String, file::Link>,
) -> Result<()> {
    let mut pairs: Vec<(&String, [&String; 2])> = Vec::new();
    for (name, link) in links {
        for machine in &link.between {
            let kind = machines.get(machine).map(|machine| machine.kind);
            ensure!(
                kind == Some(file::MachineKind::Namespace),
                "link `{name}` needs machine `{machine}` to be there with kind = \"namespace\""
            );
        }
        let mut pair = link.between.each_ref();
        ensure!(
            pair[0] != pair[1],
            "link `{name}` is between `{}` and itself",
            pair[0]
        );
        pair.sort();
        if let Some((other, _)) = pairs.iter().find(|(_, other)| *other == pair) {
            bail!("links `{other}` and `{name}` are between the same machines");
        }
        pairs.push((name, pair));
        for direction in directions(link) {
            direction
                .check()
                .with_context(|| format!("link `{name}`"))?;
        }
    }
    numbered(links).map(drop)
}

/// The machines that links name, with numbers from 1 in the order in which they do.
fn numbered(links: &BTreeMap<String, file::Link>) -> Result<Vec<(String, u8)>> {
    let mut numbered: Vec<(String, u8)> = Vec::new();
    for machine in links.values().flat_map(|link| &link.between) {
        if numbered.iter().any(|(known, _)| known == machine) {
            continue;
        }
        let number = u8::try_from(numbered.len() + 1).ok();
        let number = number.filter(|number| usize::from(*number) <= MACHINES_MAX);
        let number =
            number.ok_or_else(|| anyhow!("links name more than {MACHINES_MAX} machines"))?;
        numbered.push((machine.clone(), number));
    }
    Ok(numbered)
}

fn address([a, b, c]: [u8; 3], number: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, number)
}

/// What is done to packets there and back.
fn directions(link: &file::Link) -> [Impairments; 2] {
    [link.there, link.back].map(|direction| impairments(link, direction))
}

fn impairments(link: &file::Link, direction: Option<Preset>) -> Impairments {
    let preset = direction
        .or(link.preset)
        .unwrap_or(Preset::Loc)
        .impairments();
    let share = |percent: Option<f64>, preset: f64| percent.map_or(preset, |value| value / 100.0);
    Impairments {
        delay: link.delay.unwrap_or(preset.delay),
        deviation: link.deviation.unwrap_or(preset.deviation),
        correlation: link.correlation.unwrap_or(preset.correlation),
        loss: share(link.loss, preset.loss),
        duplicate: share(link.duplicate, preset.duplicate),
        reorder: share(link.reorder, preset.reorder),
        rate: link.rate.map(|megabits| megabits * 1e6).or(preset.rate),
        queue: link.queue.unwrap_or(preset.queue),
        in_order: link.in_order || preset.in_order,
    }
}

/// A text with another place instead of each of an address: `door` has the place for a protocol and port.
fn replaced(
    text: &str,
    address: Ipv4Addr,
    door: impl Fn(Option<Protocol>, u16) -> Result<SocketAddr>,
) -> Result<String> {
    let address = address.to_string();
    let is_number = |c: char| c.is_ascii_digit();
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(&address) {
        let (before, after) = (&rest[..at], &rest[at + address.len()..]);
        if before.ends_with(is_number) || after.starts_with(is_number) {
            // A longer address that has this one in it.
            done.push_str(&rest[..at + address.len()]);
            rest = after;
            continue;
        }
        let (protocol, default_port) = match before.strip_suffix("://").map(scheme) {
            Some("http") => (Some(Protocol::Tcp), Some(80)),
            Some("coap") => (Some(Protocol::Udp), Some(5683)),
            Some("tcp") => (Some(Protocol::Tcp), None),
            Some("udp") => (Some(Protocol::Udp), None),
            _ => (None, None),
        };
        let digits = after.strip_prefix(':').map_or("", |port| {
            &port[..port.find(|c| !is_number(c)).unwrap_or(port.len())]
        });
        let port = digits.parse().ok().or(default_port);
        let port = match (protocol, port) {
            (Some(_), None) => bail!("`{text}` has no port after {address}"),
            (_, port) => port.unwrap_or_default(),
        };
        done.push_str(before);
        done.push_str(&door(protocol, port)?.to_string());
        let skipped = if digits.is_empty() {
            0
        } else {
            digits.len() + 1
        };
        rest = &after[skipped..];
    }
    done.push_str(rest);
    Ok(done)
}

/// The last word of a text, as a scheme is.
fn scheme(text: &str) -> &str {
    let begin = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c)));
    begin.map_or(text, |at| {
        let width = text[at..].chars().next().map_or(0, char::len_utf8);
        &text[at + width..]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(between: [&str; 2], kind: Choice) -> file::Link {
        let [a, b] = between;
        let text = format!("between = [\"{a}\", \"{b}\"]\npreset = \"eopt\"");
        file::Link {
            kind,
            ..toml::from_str(&text).unwrap()
        }
    }

    fn chain(kinds: [Choice; 2]) -> BTreeMap<String, file::Link> {
        let [first, second] = kinds;
        BTreeMap::from([
            ("one".to_owned(), link(["user", "near"], first)),
            ("two".to_owned(), link(["near", "far"], second)),
        ])
    }

    fn relays() -> Network {
        let links = chain([Choice::Relay, Choice::Auto]);
        Network::up(&links, &Abilities::probe(), 1).unwrap()
    }

    #[test]
    fn machines_are_numbered_as_links_name_them() {
        let network = relays();
        let address = |machine| network.address(machine).unwrap();
        assert_eq!(address("user"), "127.77.0.1");
        assert_eq!(address("near"), "127.77.0.2");
        assert_eq!(address("far"), "127.77.0.3");
        let error = network.address("other").unwrap_err().to_string();
        assert!(error.contains("no link names it"), "{error}");
    }

    #[test]
    fn a_machine_across_a_relay_is_seen_where_the_relay_listens() {
        let network = relays();
        let seen = |word: &str| network.seen_from("user", word).unwrap();
        let through = seen("http://127.77.0.2:8080/hello?at=127.77.0.1");
        assert!(
            through.starts_with("http://127.77.1.1:") && through.ends_with("/hello?at=127.77.0.1"),
            "{through}"
        );
        // The same door each time, and another for another protocol.
        assert_eq!(seen("http://127.77.0.2:8080/"), {
            through.replace("hello?at=127.77.0.1", "")
        });
        let [tcp, udp] = ["tcp", "udp"].map(|name| seen(&format!("{name}://127.77.0.2:8080")));
        assert_ne!(tcp[6..], udp[6..]);
        // Itself, and others whose addresses begin alike.
        for word in ["127.77.0.1:9", "10.127.77.0.25", "--peer", "127.77.0.22"] {
            assert_eq!(seen(word), word);
        }
        // The other way, by the other side of the relay.
        let back = network.seen_from("near", "coap://127.77.0.1/a").unwrap();
        assert!(
            back.starts_with("coap://127.77.1.2:") && back.ends_with("/a"),
            "{back}"
        );
    }

    #[test]
    fn nothing_goes_around_a_relay() {
        let network = relays();
        let error = |from, word| network.seen_from(from, word).unwrap_err().to_string();
        let unnamed = error("user", "127.77.0.2:8080");
        assert!(
            unnamed.contains("`near`") && unnamed.contains("http://"),
            "{unnamed}"
        );
        let apart = error("user", "http://127.77.0.3:80/");
        assert!(
            apart.contains("`far`") && apart.contains("no link"),
            "{apart}"
        );
        let elsewhere = error("laptop", "http://127.77.0.3:80/");
        assert!(elsewhere.contains("no link"), "{elsewhere}");
    }

    #[test]
    fn all_links_are_relays_or_none() {
        let abilities = Abilities::probe();
        let kinds = |choices| kinds(&chain(choices), &abilities);
        let mixed = kinds([Choice::Relay, Choice::Auto]).unwrap();
        assert_eq!(mixed, [Kind::Relay; 2]);
        assert!(kinds([Choice::Relay, Choice::Tun]).is_err());
        let notes = notes(&chain([Choice::Relay; 2]), &abilities).unwrap();
        assert!(
            notes.len() == 2 && notes[0].contains("as the file says"),
            "{notes:?}"
        );
        assert_eq!(
            named(&[Kind::Tun, Kind::Netem, Kind::Tun]).unwrap(),
            "netem and tun"
        );
        assert_eq!(named(&[]), None);
    }
}

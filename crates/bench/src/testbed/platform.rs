//! What is measured: a node with its functions, or any other program.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::file::{self, PlatformKind, Ready};
use super::fill;
use super::machine::{Machines, Program};
use crate::environment;
use crate::process::{Server, address, wait_for_port};

/// The doors of a node on a machine with a network of its own.
const HTTP_PORT: u16 = 8080;
const COAP_PORT: u16 = 5683;
const PORT_TIMEOUT: Duration = Duration::from_secs(30);
const INSTANCES_TIMEOUT: Duration = Duration::from_secs(60);
const PORT_POLL: Duration = Duration::from_millis(20);

/// A platform at work, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) on: String,
    /// Of its program.
    pub(super) id: u32,
    /// What `{http}` and `{coap}` stand for, as far as it has said where they are, and its own words.
    pub(super) words: BTreeMap<String, String>,
    pub(super) node: Option<Node>,
    /// Whether what it runs is not below it.
    pub(super) has_containers: bool,
    /// What it is, for runs that measure it.
    pub(super) stamp: environment::Platform,
    server: Server,
}

/// A node that can be told things.
#[derive(Debug)]
pub(super) struct Node {
    on: String,
    mote: String,
    data: String,
}

/// How many instances a function has.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Instances {
    pub(super) running: u64,
    pub(super) paused: u64,
    pub(super) deaths: u64,
}

#[derive(Deserialize)]
struct Shown {
    instances: Instances,
}

/// What platforms are made with.
pub(super) struct Ground<'a> {
    pub(super) machines: &'a Machines,
    /// The experiment file's folder, from which its paths count.
    pub(super) folder: &'a Path,
    pub(super) mote: &'a Path,
    /// For data folders on this system.
    pub(super) scratch: &'a Path,
    pub(super) places: &'a BTreeMap<String, String>,
    pub(super) stop: &'a AtomicBool,
}

impl Running {
    /// Starts it and waits until it is ready.
    pub(super) fn up(name: &str, platform: &file::Platform, ground: &Ground<'_>) -> Result<Self> {
        let mut running = match platform.kind {
            PlatformKind::Mote => Self::start_node(name, platform, ground)?,
            PlatformKind::Command => Self::start_command(name, platform, ground)?,
        };
        for folder in &platform.functions {
            let path = ground
                .folder
                .join(fill::with_places(folder, ground.places)?);
            let path = ground.machines.place(&running.on, &path)?;
            running
                .node()?
                .mote(&["deploy", &path], ground)
                .context("cannot deploy")?;
        }
        for words in &platform.then {
            let words = ground.filled(&running.on, words)?;
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            running.node()?.mote(&words, ground)?;
        }
        if let Some(Ready::Instances(instances)) = &platform.ready {
            running.node()?.wait_for(instances, ground)?;
        }
        for (word, text) in &platform.words {
            let text = fill::with_places(text, ground.places)?;
            running.words.insert(word.clone(), text);
        }
        Ok(running)
    }

    fn start_node(name: &str, platform: &file::Platform, ground: &Ground<'_>) -> Result<Self> {
        let machines = ground.machines;
        let mote = machines.place(&platform.on, ground.mote)?;
        let data = machines.scratch(&platform.on, ground.scratch, name)?;
        let address_of_all = ground.own_address(&platform.on)?;
        // A name may be that of a way to it, and no address that it has itself.
        let numbers = address_of_all.parse::<IpAddr>().is_ok();
        let host = if numbers { address_of_all } else { "0.0.0.0" };
        let (http, coap) = if machines.shares_ports(&platform.on)? {
            (0, 0)
        } else {
            (HTTP_PORT, COAP_PORT)
        };
        let mut words = vec![
            mote.clone(),
            "up".to_owned(),
            "--data-dir".to_owned(),
            data.clone(),
        ];
        for (door, host, port) in [
            ("--http", host, http),
            ("--coap", host, coap),
            ("--admin", "127.0.0.1", 0),
        ] {
            words.extend([door.to_owned(), format!("{host}:{port}")]);
        }
        words.extend(ground.filled(&platform.on, &platform.command)?);
        let program = Program {
            words,
            env: ground.filled_env(&platform.on, &platform.env)?,
            folder: Some(ground.folder.to_owned()),
            outside: false,
        };
        let (mut server, id) =
            machines.start(&platform.on, &format!("platform `{name}`"), &program)?;
        let mut doors = BTreeMap::new();
        while doors.len() < 3 {
            let (door, url) = server.wait_for("its three addresses", address)?;
            doors.insert(door, url.replace("0.0.0.0", address_of_all));
        }
        Ok(Self {
            on: platform.on.clone(),
            id,
            words: doors,
            stamp: ground.stamp(name, platform, &program.words[..1])?,
            has_containers: platform
                .command
                .iter()
                .any(|word| word == "--container-socket"),
            node: Some(Node {
                on: platform.on.clone(),
                mote,
                data,
            }),
            server,
        })
    }

    fn start_command(name: &str, platform: &file::Platform, ground: &Ground<'_>) -> Result<Self> {
        let program = Program {
            words: ground.filled(&platform.on, &platform.command)?,
            env: ground.filled_env(&platform.on, &platform.env)?,
            folder: Some(ground.folder.to_owned()),
            outside: false,
        };
        if let Some(Ready::Port(port)) = &platform.ready {
            let host = ground.own_address(&platform.on)?;
            let connected = ground.machines.connect(&platform.on, (host, *port));
            let taken = connected.is_ok();
            ensure!(!taken, "something else listens at port {port} already");
        }
        let (mut server, id) =
            ground
                .machines
                .start(&platform.on, &format!("platform `{name}`"), &program)?;
        let mut doors = BTreeMap::new();
        match &platform.ready {
            Some(Ready::Line(begin)) => {
                let line = server
                    .wait_for(&format!("a line that begins with `{begin}`"), |line| {
                        line.starts_with(begin.as_str()).then(|| line.to_owned())
                    })?;
                doors.extend(address(&line));
            }
            Some(Ready::Port(port)) => {
                let host = ground.own_address(&platform.on)?;
                // As seen from the machine itself.
                let connect = || ground.machines.connect(&platform.on, (host, *port));
                wait_for_port(&format!("{host}:{port}"), PORT_TIMEOUT, connect)?;
            }
            Some(Ready::Instances(_)) | None => {}
        }
        Ok(Self {
            on: platform.on.clone(),
            id,
            words: doors,
            stamp: ground.stamp(name, platform, &program.words)?,
            has_containers: false,
            node: None,
            server,
        })
    }

    /// Whether its program has not ended.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        self.server.is_running()
    }

    fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("this platform is no node")
    }
}

impl Node {
    /// Waits until functions have so many instances.
    fn wait_for(&self, instances: &BTreeMap<String, u64>, ground: &Ground<'_>) -> Result<()> {
        let until = Instant::now() + INSTANCES_TIMEOUT;
        for (function, wanted) in instances {
            loop {
                let there = self.instances(function, ground)?.running;
                if there == *wanted {
                    break;
                }
                ensure!(
                    Instant::now() < until,
                    "`{function}` has {there} instances and not {wanted} after {} s",
                    INSTANCES_TIMEOUT.as_secs()
                );
                std::thread::sleep(PORT_POLL);
            }
        }
        Ok(())
    }

    /// What `mote show` says about the instances of a function.
    pub(super) fn instances(&self, function: &str, ground: &Ground<'_>) -> Result<Instances> {
        let shown = self.mote(&["show", function, "--json"], ground)?;
        let shown: Shown = serde_json::from_slice(&shown).with_context(|| {
            format!("what `mote show {function}` says about instances cannot be read")
        })?;
        Ok(shown.instances)
    }

    /// A command of the node's program to this node, and what it wrote.
    pub(super) fn mote(&self, words: &[&str], ground: &Ground<'_>) -> Result<Vec<u8>> {
        let mut all = vec![self.mote.clone()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        all.extend(["--data-dir".to_owned(), self.data.clone()]);
        let program = Program {
            words: all,
            env: BTreeMap::new(),
            folder: Some(PathBuf::from("/")),
            // What asks is no part of what is measured.
            outside: true,
        };
        ground.machines.run(&self.on, &program, ground.stop)
    }
}

impl Ground<'_> {
    /// Words of a program on a machine.
    fn filled(&self, on: &str, words: &[String]) -> Result<Vec<String>> {
        words.iter().map(|word| self.word(on, word)).collect()
    }

    fn filled_env(
        &self,
        on: &str,
        env: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        let filled = env
            .iter()
            .map(|(name, value)| Ok((name.clone(), self.word(on, value)?)));
        filled.collect()
    }

    fn word(&self, on: &str, word: &str) -> Result<String> {
        let filled = fill::with_places(word, self.places)?;
        self.machines.seen_from(on, &filled)
    }

    /// What a platform is; `words`: of its command those that say which program it is.
    fn stamp(
        &self,
        name: &str,
        platform: &file::Platform,
        words: &[String],
    ) -> Result<environment::Platform> {
        let machine = &platform.on;
        let stamp = self.machines.stamp(machine, words, self.folder, self.stop);
        let stamp = stamp.with_context(|| format!("machine `{machine}`"))?;
        let here = self.machines.is_here(machine)?;
        Ok(environment::Platform {
            name: name.to_owned(),
            program: stamp.program,
            system: (!here).then_some(stamp.system),
        })
    }

    /// Where a machine is, as it sees itself.
    fn own_address(&self, machine: &str) -> Result<&str> {
        let address = self.places.get(machine);
        Ok(address.context("a machine has an address")?)
    }
}

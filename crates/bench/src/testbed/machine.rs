//! Where programs of an experiment run: this system, a network of its own on it, or another system over ssh.
//!
//! All three start programs in the same way and reach each other by address; what differs is in this file.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::file::{self, MachineKind};
use super::network::{self, Network};
use crate::cgroup::{Cgroup, Limits};
use crate::environment::Stamp;
use crate::link::{Abilities, Host, KeptUp};
use crate::process::Server;

/// How soon a program is ended when it is to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// The machines of an experiment, with the network between them. Everything ends when this is dropped.
#[derive(Debug)]
pub(super) struct Machines {
    machines: BTreeMap<String, Machine>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Machine {
    settings: file::Machine,
    address: String,
    cgroup: Option<Cgroup>,
    /// Of another system: where its files are.
    folder: Option<String>,
    /// Holds that folder.
    session: Option<Child>,
}

/// A program to run on a machine.
#[derive(Debug, Clone, Default)]
pub(super) struct Program {
    pub(super) words: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) folder: Option<PathBuf>,
    /// Not in the machine's cgroup.
    pub(super) outside: bool,
}

impl Machines {
    /// Makes them. `abilities`: of this system, for links; `seed`: of these.
    pub(super) fn up(
        machines: &BTreeMap<String, file::Machine>,
        links: &BTreeMap<String, file::Link>,
        abilities: Option<&Abilities>,
        seed: u64,
    ) -> Result<Self> {
        check(machines, links)?;
        let network = abilities.filter(|_| !links.is_empty());
        let network = network.map(|abilities| Network::up(links, abilities, seed));
        let mut up = Self {
            machines: BTreeMap::new(),
            network: network.transpose()?,
        };
        for (name, settings) in machines {
            let machine = up.machine(name, settings);
            let machine = machine.with_context(|| format!("machine `{name}`"))?;
            up.machines.insert(name.clone(), machine);
        }
        Ok(up)
    }

    fn machine(&self, name: &str, settings: &file::Machine) -> Result<Machine> {
        let address = match settings.kind {
            MachineKind::Process => "127.0.0.1".to_owned(),
            MachineKind::Namespace => self.network()?.address(name)?,
            MachineKind::Ssh => {
                let host = settings
                    .host
                    .as_deref()
                    .context("kind = \"ssh\" needs a `host`")?;
                let name = host.rsplit('@').next().unwrap_or(host);
                settings.address.clone().unwrap_or_else(|| name.to_owned())
            }
        };
        let limits = limits(settings)?;
        let cgroup = limits.map(|limits| Cgroup::new(name, limits)).transpose();
        let cgroup = cgroup.context("size, cpus and memory need root and cgroups of version 1")?;
        let mut machine = Machine {
            settings: settings.clone(),
            address,
            cgroup,
            folder: None,
            session: None,
        };
        if settings.kind == MachineKind::Ssh {
            machine.session(name)?;
        }
        Ok(machine)
    }

    /// How the links kept up so far, where that can be said.
    pub(super) fn kept_up(&self) -> Option<KeptUp> {
        self.network.as_ref()?.kept_up()
    }

    /// How the links are emulated.
    pub(super) fn network_kind(&self) -> Option<String> {
        self.network.as_ref()?.kind()
    }

    /// A word of a program on a machine, with the addresses of other machines as that one reaches them.
    pub(super) fn seen_from(&self, machine: &str, word: &str) -> Result<String> {
        match &self.network {
            Some(network) => network.seen_from(machine, word),
            None => Ok(word.to_owned()),
        }
    }

    fn network(&self) -> Result<&Network> {
        let network = self.network.as_ref();
        network.context("it has a network of its own, and there is no link")
    }

    /// The namespace of a machine that is one.
    fn host(&self, machine: &str) -> Option<&Host> {
        self.network.as_ref()?.host(machine)
    }

    fn get(&self, machine: &str) -> Result<&Machine> {
        let found = self.machines.get(machine);
        let known = || self.machines.keys().cloned().collect::<Vec<_>>().join(", ");
        found.with_context(|| format!("there is no machine `{machine}`, there are: {}", known()))
    }

    /// What words in braces stand for: `{NAME}` is a machine's address, `{NAME.cgroup}` its cgroup.
    pub(super) fn places(&self) -> BTreeMap<String, String> {
        let mut places = BTreeMap::new();
        for (name, machine) in &self.machines {
            places.insert(name.clone(), machine.address.clone());
            let cgroup = machine.cgroup.as_ref().map(Cgroup::name);
            places.insert(format!("{name}.cgroup"), cgroup.unwrap_or_default());
        }
        places
    }

    /// Whether others share this one's network, so that ports may be taken.
    pub(super) fn shares_ports(&self, machine: &str) -> Result<bool> {
        let kind = self.get(machine)?.settings.kind;
        Ok(kind != MachineKind::Ssh && self.host(machine).is_none())
    }

    /// Whether its processes are seen from here.
    pub(super) fn is_here(&self, machine: &str) -> Result<bool> {
        Ok(self.get(machine)?.settings.kind != MachineKind::Ssh)
    }

    /// Where a file of this system is found on a machine, which is sent there when it has to be.
    pub(super) fn place(&self, machine: &str, path: &Path) -> Result<String> {
        let machine = self.get(machine)?;
        if let Some(folder) = &machine.folder
            && std::env::current_exe().is_ok_and(|own| own == path)
        {
            return Ok(format!("{folder}/mote-bench"));
        }
        let path = path
            .canonicalize()
            .with_context(|| format!("no file {}", path.display()))?;
        let Some(folder) = &machine.folder else {
            return Ok(path.display().to_string());
        };
        let there = format!("{folder}{}", path.display());
        machine.send(&path, &there)?;
        Ok(there)
    }

    /// A folder of its own on a machine that may be written to, and that goes with the machine.
    pub(super) fn scratch(&self, machine: &str, local: &Path, name: &str) -> Result<String> {
        match &self.get(machine)?.folder {
            Some(folder) => Ok(format!("{folder}/{name}")),
            None => Ok(local.join(name).display().to_string()),
        }
    }

    /// Starts a program on a machine and waits until it is there. It ends when the server is dropped.
    pub(super) fn start(&self, on: &str, name: &str, program: &Program) -> Result<(Server, u32)> {
        let child = self.spawn(on, program);
        let mut server = Server::of(name, child.with_context(|| format!("cannot start {name}"))?);
        let id = server.wait_for("its id", |line| line.strip_prefix("pid ")?.parse().ok())?;
        Ok((server, id))
    }

    /// Runs a program on a machine to its end, and returns what it wrote. Ends it when the flag is set.
    pub(super) fn run(&self, on: &str, program: &Program, stop: &AtomicBool) -> Result<Vec<u8>> {
        let what = || program.words.first().cloned().unwrap_or_default();
        let mut child = self
            .spawn(on, program)
            .with_context(|| format!("cannot run {}", what()))?;
        let alive = child.stdin.take();
        let over = AtomicBool::new(false);
        let output = thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    thread::park_timeout(STOP_POLL);
                }
                drop(alive);
            });
            let output = child.wait_with_output();
            over.store(true, Ordering::Relaxed);
            output
        })?;
        ensure!(!stop.load(Ordering::Relaxed), "it was stopped");
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = if said.trim().is_empty() {
                output.status.to_string()
            } else {
                said.trim().replace('\n', " | ")
            };
            bail!("{} on `{on}`: {said}", what());
        }
        // The first line is the program's id.
        let begin = output.stdout.iter().position(|byte| *byte == b'\n');
        Ok(output.stdout[begin.map_or(0, |at| at + 1)..].to_vec())
    }

    /// What a machine is, and which program the words of a command start there. `folder`: from which they count.
    pub(super) fn stamp(
        &self,
        on: &str,
        words: &[String],
        folder: &Path,
        stop: &AtomicBool,
    ) -> Result<Stamp> {
        if self.is_here(on)? {
            return Ok(Stamp::read(words, folder));
        }
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut asked = vec![self.place(on, &own)?, "stamp".to_owned(), "--".to_owned()];
        asked.extend_from_slice(words);
        let program = Program {
            words: asked,
            outside: true,
            ..Program::default()
        };
        let answer = self.run(on, &program, stop)?;
        serde_json::from_slice(&answer).context("what it says about itself cannot be read")
    }

    /// Whether a TCP port answers, as seen from the machine if that is on this system, and from here if not.
    pub(super) fn connect(&self, from: &str, address: (&str, u16)) -> Result<()> {
        let connect = || TcpStream::connect(address).map(drop);
        let connected = match self.host(from) {
            Some(host) => host.within(connect)?,
            None => connect(),
        };
        Ok(connected?)
    }

    /// With its output in pipes. It ends when its standard input does.
    fn spawn(&self, on: &str, program: &Program) -> Result<Child> {
        let machine = self.get(on)?;
        let mut command = machine.command(program)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        match self.host(on) {
            Some(host) => host.spawn(command),
            None => Ok(command.spawn()?),
        }
    }
}

impl Machine {
    /// Of another system: makes its folder, which goes when this program does, and sends this program there.
    fn session(&mut self, name: &str) -> Result<()> {
        let folder = format!("/tmp/mote-bench-ssh-{}-{name}", std::process::id());
        let host = self.settings.host.clone().unwrap_or_default();
        let asked = self.ssh("uname -m").stdin(Stdio::null()).output();
        let asked = asked.context("cannot run `ssh`")?;
        ensure!(
            asked.status.success(),
            "cannot reach {host}: {}",
            String::from_utf8_lossy(&asked.stderr).trim()
        );
        let machine = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        ensure!(
            machine == std::env::consts::ARCH,
            "{host} is {machine} and this program for {}: run the experiment from a system of its kind",
            std::env::consts::ARCH
        );
        let place = quoted(&folder);
        // Longer than a keeper gives what it keeps.
        let line = format!("mkdir -p {place} && cat >/dev/null; sleep 16; rm -rf {place}");
        let session = self
            .ssh(&line)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run `ssh`")?;
        self.session = Some(session);
        let own = std::env::current_exe().context("cannot find this program")?;
        self.send(&own, &format!("{folder}/mote-bench"))?;
        self.folder = Some(folder);
        Ok(())
    }

    fn command(&self, program: &Program) -> Result<Command> {
        let mut kept = vec!["keep".to_owned()];
        let cgroup = self.cgroup.iter().filter(|_| !program.outside);
        for entry in cgroup.flat_map(Cgroup::entries) {
            kept.extend(["--join".to_owned(), entry.display().to_string()]);
        }
        kept.push("--".to_owned());
        kept.extend(program.words.iter().cloned());
        let Some(folder) = &self.folder else {
            let own = std::env::current_exe().context("cannot find this program")?;
            let mut command = Command::new(own);
            // A node reads them, and would be another here than on another system.
            for (name, _) in std::env::vars_os() {
                if name.as_encoded_bytes().starts_with(b"MOTE_") {
                    command.env_remove(name);
                }
            }
            command.args(kept).envs(&program.env);
            if let Some(folder) = &program.folder {
                command.current_dir(folder);
            }
            return Ok(command);
        };
        let mut words = vec![
            "cd".to_owned(),
            quoted(folder),
            "&&".to_owned(),
            "exec".to_owned(),
        ];
        words.push("env".to_owned());
        words.extend(
            program
                .env
                .iter()
                .map(|(name, value)| quoted(&format!("{name}={value}"))),
        );
        words.push("./mote-bench".to_owned());
        words.extend(kept.iter().map(|word| quoted(word)));
        Ok(self.ssh(&words.join(" ")))
    }

    fn ssh(&self, line: &str) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"])
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"])
            .args(&self.settings.options)
            .arg("--")
            .arg(self.settings.host.as_deref().unwrap_or_default())
            .arg(line)
            .process_group(0);
        command
    }

    /// Sends a file or folder to another system.
    fn send(&self, from: &Path, to: &str) -> Result<()> {
        let parent = Path::new(to)
            .parent()
            .unwrap_or(Path::new("/"))
            .display()
            .to_string();
        let (folder, name) = (
            from.parent().unwrap_or(Path::new("/")),
            from.file_name().unwrap_or_default(),
        );
        let mut pack = Command::new("tar")
            .arg("-C")
            .arg(folder)
            .arg("-cf")
            .arg("-")
            .arg(name)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run `tar`")?;
        let packed = pack.stdout.take().context("the output of tar is a pipe")?;
        let parent = quoted(&parent);
        let unpack = self
            .ssh(&format!("mkdir -p {parent} && tar -C {parent} -xf -"))
            .stdin(packed)
            .output()
            .context("cannot run `ssh`")?;
        let packed = pack.wait()?;
        ensure!(
            unpack.status.success() && packed.success(),
            "cannot send {} to {}: {}",
            from.display(),
            self.settings.host.as_deref().unwrap_or_default(),
            String::from_utf8_lossy(&unpack.stderr).trim()
        );
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(folder) = &self.folder {
            // Nothing is left to do about a system that cannot be reached any more.
            let _removed = self.ssh(&format!("rm -rf {}", quoted(folder))).output();
        }
        if let Some(mut session) = self.session.take() {
            // What it waits for is done.
            let _ended = session.kill().and_then(|()| session.wait());
        }
    }
}

/// What of a machine this system cannot give, for the report.
pub(super) fn note(name: &str, settings: &file::Machine) -> Result<Option<String>> {
    let there = processors();
    let cpus = asked_for(settings)?.cpus.filter(|cpus| *cpus >= there);
    Ok(cpus.map(|cpus| {
        let all = if cpus > there { "" } else { "all of them, " };
        format!(
            "machine `{name}` asks for {cpus} processors; this system has {there}, {all}which it shares with the other \
             machines, the load generator and the network"
        )
    }))
}

/// What a machine's programs may use together.
fn limits(settings: &file::Machine) -> Result<Option<Limits>> {
    let Limits { memory_bytes, cpus } = asked_for(settings)?;
    let limits = Limits {
        memory_bytes,
        // More than there are cannot be given.
        cpus: cpus.filter(|cpus| *cpus < processors()),
    };
    Ok(Some(limits).filter(|limits| limits.memory_bytes.is_some() || limits.cpus.is_some()))
}

fn asked_for(settings: &file::Machine) -> Result<Limits> {
    let size = settings.size.map(file::Size::limits);
    let cpus = settings.cpus.or(size.map(|(cpus, _)| cpus));
    let memory_bytes = match &settings.memory {
        Some(text) => {
            let size: Option<bytesize::ByteSize> = text.parse().ok();
            let size =
                size.with_context(|| format!("memory = \"{text}\" is no size such as \"1 GiB\""))?;
            Some(size.as_u64())
        }
        None => size.map(|(_, bytes)| bytes),
    };
    if let Some(cpus) = cpus {
        ensure!(
            cpus.is_finite() && cpus >= 0.01,
            "cpus = {cpus} is no number of processors"
        );
    }
    Ok(Limits { memory_bytes, cpus })
}

#[expect(clippy::cast_precision_loss, reason = "systems have few processors")]
fn processors() -> f64 {
    std::thread::available_parallelism().map_or(1, usize::from) as f64
}

/// Whether there can be such machines and links.
pub(super) fn check(
    machines: &BTreeMap<String, file::Machine>,
    links: &BTreeMap<String, file::Link>,
) -> Result<()> {
    for (name, settings) in machines {
        let limits = asked_for(settings).with_context(|| format!("machine `{name}`"))?;
        match settings.kind {
            MachineKind::Ssh => {
                ensure!(
                    settings.host.is_some(),
                    "machine `{name}`: kind = \"ssh\" needs a `host`"
                );
                ensure!(
                    limits.cpus.is_none() && limits.memory_bytes.is_none(),
                    "machine `{name}`: another system has the size that it has: leave out size, cpus and memory"
                );
            }
            MachineKind::Namespace => ensure!(
                links.values().any(|link| link.between.contains(name)),
                "machine `{name}` has a network of its own, and no link names it"
            ),
            MachineKind::Process => {}
        }
    }
    network::check(machines, links)
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

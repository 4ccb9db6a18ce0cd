//! What every section needs: the node's program, the program it runs, and nodes with functions.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::Settings;
use super::docker::Docker;
use super::image;
use crate::cgroup::Cgroup;
use crate::footprint::Footprint;
use crate::process::{self, Node, Server, address};

/// Names in manifests of what can be deployed.
pub(super) const PROGRAM: &str = "hello-program";
pub(super) const IMAGE: &str = "image.tar";
const HANDLER: &str = "python/handler.py";
pub(super) const SCRIPT: &str = "javascript/server.js";

/// Plain source that imports nothing: its language, what runs that, and its file in a folder that
/// is called like what runs it.
pub(super) const PLAIN: [(&str, &str, &str); 2] = [
    ("Python", "python3", "fn.py"),
    ("JavaScript", "node", "handler.js"),
];

/// What the zygote imports once; the same modules are imported by a bare Python to compare it with.
pub(super) const PYTHON_IMPORTS: &str = "import json, http.server, asyncio";

/// The same server as people write it.
const SERVER_JS: &str = "\
const server = require('node:http').createServer((request, reply) => reply.end('hello, world\\n'));
server.listen(process.env.PORT, process.env.LISTEN, () =>
  console.log('http http://127.0.0.1:' + server.address().port));
";

const WAIT_MAX: Duration = Duration::from_secs(60);
/// What an environment takes at most until it waits.
const WARM_REST: Duration = Duration::from_millis(500);
const WAIT_STEP: Duration = Duration::from_millis(50);

/// The programs and the settings.
pub(super) struct Stage {
    pub(super) settings: Settings,
    pub(super) mote: PathBuf,
    pub(super) program: PathBuf,
}

impl Stage {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let mote = beside(
            settings.mote.as_deref(),
            "mote",
            "cargo build --release -p mote",
        )?;
        let program = beside(
            settings.program.as_deref(),
            PROGRAM,
            "make bench-programs, which links it statically",
        )?;
        ensure!(
            !asks_for_a_loader(&program)?,
            "{} is not linked statically, build it with `cargo rustc --release -p mote-bench --bin {PROGRAM} -- \
             -C target-feature=+crt-static`",
            program.display()
        );
        Ok(Self {
            settings: settings.clone(),
            mote,
            program,
        })
    }

    /// A node in an empty folder.
    pub(super) fn node(&self) -> Result<Staged> {
        Staged::up(&self.mote, &self.mote, &[])
    }

    /// A node on which one instance of each environment waits.
    pub(super) fn node_that_waits(&self) -> Result<Staged> {
        Staged::up(&self.mote, &self.mote, &["--warm-instances", "1"])
    }

    /// A node that uses this engine.
    pub(super) fn node_with(&self, docker: &Docker) -> Result<Staged> {
        let socket = docker.socket.to_string_lossy();
        Staged::up(&self.mote, &self.mote, &["--container-socket", &socket])
    }

    /// A node in this cgroup, from before its first instruction on.
    pub(super) fn node_in(&self, cgroup: &Cgroup, flags: &[&str]) -> Result<Staged> {
        let folder = TempDir::new()?;
        let script = folder.path().join("mote-in-cgroup");
        let mut text = "#!/bin/sh\n".to_owned();
        for entry in cgroup.entries() {
            text += &format!("echo $$ >'{}' &&\n", entry.display());
        }
        text += &format!("exec '{}' \"$@\"\n", self.mote.display());
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Staged::up(&script, &self.mote, flags)
    }

    /// The program itself, as an HTTP server without a node. `rounds`: how long each call computes.
    pub(super) fn bare(&self, rounds: u64) -> Result<(Server, String)> {
        let mut command = Command::new(&self.program);
        command
            .env("PORT", "0")
            .env("LISTEN", "127.0.0.1")
            .env("WORK_ROUNDS", rounds.to_string());
        let mut server = Server::start("the bare program", &mut command)?;
        let (_, url) = server.wait_for("its address", address)?;
        Ok((server, format!("{url}/")))
    }

    /// The server in JavaScript, without a node. `None` when no program runs JavaScript here.
    pub(super) fn bare_javascript(&self) -> Result<Option<(Server, String)>> {
        let Some(program) = on_system("node") else {
            return Ok(None);
        };
        let mut command = Command::new(program);
        command
            .args(["-e", SERVER_JS])
            .env("PORT", "0")
            .env("LISTEN", "127.0.0.1");
        let mut server = Server::start("the bare server in JavaScript", &mut command)?;
        let (_, url) = server.wait_for("its address", address)?;
        Ok(Some((server, format!("{url}/"))))
    }

    /// How many rounds the program computes in a millisecond.
    pub(super) fn rounds_per_ms(&self) -> Result<u64> {
        let output = Command::new(&self.program).arg("calibrate").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim()
            .parse()
            .with_context(|| format!("the program said `{}`", text.trim()))
    }

    /// The engine that was given, with the image in it.
    pub(super) fn docker(&self) -> Result<Option<Docker>> {
        let Some(socket) = &self.settings.container_socket else {
            return Ok(None);
        };
        let docker = Docker::new(socket);
        let folder = TempDir::new()?;
        let archive = folder.path().join("root.tar");
        image::root_archive(&self.program, &archive)?;
        docker.import(&fs::read(&archive)?)?;
        Ok(Some(docker))
    }

    /// Deploys this manifest, with everything that it can name beside it.
    pub(super) fn deploy(&self, staged: &Staged, manifest: &str) -> Result<()> {
        let folder = TempDir::new()?;
        let place = |name: &str| folder.path().join(name);
        fs::write(place("mote.toml"), format!("version = 1\n{manifest}"))?;
        fs::copy(&self.program, place(PROGRAM))?;
        fs::create_dir(place("python"))?;
        let handler = format!(
            "{PYTHON_IMPORTS}\n\n\ndef handle(*_):\n    return {:?}\n",
            super::rounds::REPLY
        );
        fs::write(place(HANDLER), handler)?;
        fs::create_dir(place("javascript"))?;
        fs::write(place(SCRIPT), SERVER_JS)?;
        let reply = super::rounds::REPLY;
        for (_, program, file) in PLAIN {
            let text = match program {
                "node" => format!("module.exports = (req, res) => res.send({reply:?});\n"),
                _ => format!("def fn(*_):\n    return {reply:?}\n"),
            };
            fs::create_dir(place(program))?;
            fs::write(place(program).join(file), text)?;
        }
        if manifest.contains(IMAGE) {
            image::oci_archive(&self.program, &place(IMAGE))?;
        }
        process::deploy(&self.mote, staged.data.path(), folder.path())
    }
}

/// A node with the folder that it lives in, which goes when the node has ended.
pub(super) struct Staged {
    pub(super) node: Node,
    data: TempDir,
    mote: PathBuf,
}

impl Staged {
    /// `start` starts the node, which is `mote` in the end.
    pub(super) fn up(start: &Path, mote: &Path, flags: &[&str]) -> Result<Self> {
        let data = TempDir::new()?;
        let node = Node::up(start, data.path(), flags)?;
        Ok(Self {
            node,
            data,
            mote: mote.to_owned(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.node.server.pid()
    }

    /// Where a function is called.
    pub(super) fn target(&self, function: &str) -> String {
        format!("{}/{function}", self.node.http)
    }

    /// What `mote show --json` says about a function.
    pub(super) fn show(&self, function: &str) -> Result<Value> {
        let output = Command::new(&self.mote)
            .args(["show", function, "--json", "--data-dir"])
            .arg(self.data.path())
            .stdin(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "`mote show {function}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// What keeps a function apart from others.
    pub(super) fn isolation(&self, function: &str) -> Result<String> {
        let isolation = self.show(function)?["isolation"].clone();
        Ok(format!(
            "isolation: {}",
            isolation.as_str().unwrap_or("unknown")
        ))
    }

    /// Waits until the instances of a function are like this.
    pub(super) fn wait(
        &self,
        function: &str,
        what: &str,
        are: impl Fn(&Instances) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let instances = Instances::of(&self.show(function)?)?;
            if are(&instances) {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("`{function}` did not become {what}: {instances:?}");
            }
            thread::sleep(WAIT_STEP);
        }
    }

    /// Waits until a function has no instance, and nothing of one is left below the node.
    pub(super) fn wait_for_zero(&self, function: &str) -> Result<()> {
        self.wait_for_processes(function, 1)
    }

    /// The same where one instance waits for code: it is a program in a sandbox of two processes.
    pub(super) fn wait_for_warm(&self, function: &str) -> Result<()> {
        self.wait_for_processes(function, 4)?;
        // What is there may not wait yet.
        thread::sleep(WARM_REST);
        self.wait_for_processes(function, 4)
    }

    fn wait_for_processes(&self, function: &str, count: usize) -> Result<()> {
        self.wait(function, "cold", Instances::is_zero)?;
        let until = Instant::now() + WAIT_MAX;
        while Footprint::of(self.pid())?.processes != count {
            ensure!(
                Instant::now() < until,
                "there are not {count} processes a minute after `{function}` was scaled to zero"
            );
            thread::sleep(WAIT_STEP);
        }
        Ok(())
    }
}

/// How many instances there are, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Instances {
    pub(super) running: u64,
    pub(super) paused: u64,
    pub(super) starting: u64,
    pub(super) deaths: u64,
    pub(super) decision: String,
}

impl Instances {
    /// As `mote show --json` has them.
    pub(super) fn of(shown: &Value) -> Result<Self> {
        let instances = &shown["instances"];
        let number = |key: &str| {
            let value = instances[key].as_u64();
            value.with_context(|| format!("`mote show` says nothing about {key} instances"))
        };
        Ok(Self {
            running: number("running")?,
            paused: number("paused")?,
            starting: number("starting")?,
            deaths: number("deaths")?,
            decision: instances["decision"].as_str().unwrap_or("?").to_owned(),
        })
    }

    /// Those that are there, awake or not.
    pub(super) fn there(&self) -> u64 {
        self.running + self.paused
    }

    pub(super) fn is_zero(&self) -> bool {
        self.there() + self.starting == 0
    }
}

/// A program that functions find too: other places are not in their root.
pub(super) fn on_system(name: &str) -> Option<PathBuf> {
    let places = ["/usr/local/bin", "/usr/bin"];
    let mut paths = places.into_iter().map(|place| Path::new(place).join(name));
    paths.find(|path| path.is_file())
}

/// A program that was given, or the one beside this program. Absolute, because nodes run elsewhere.
fn beside(given: Option<&Path>, name: &str, build: &str) -> Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let own = std::env::current_exe().context("cannot find this program")?;
            own.with_file_name(name)
        }
    };
    fs::canonicalize(&path)
        .with_context(|| format!("no program at {}, build it with `{build}`", path.display()))
}

/// Whether an ELF file names a loader, which is not there in a root without libraries.
fn asks_for_a_loader(path: &Path) -> Result<bool> {
    const PT_INTERP: u32 = 3;
    let mut bytes = Vec::new();
    fs::File::open(path)?.read_to_end(&mut bytes)?;
    ensure!(
        bytes.starts_with(b"\x7fELF"),
        "{} is not an ELF file",
        path.display()
    );
    // ELF-64 with this machine's byte order: e_phoff, e_phentsize and e_phnum, then p_type first in each header.
    let number = |at: usize, length: usize| -> Option<u64> {
        let mut whole = [0; 8];
        whole[..length].copy_from_slice(bytes.get(at..at + length)?);
        Some(u64::from_le_bytes(whole))
    };
    let header = (number(32, 8), number(54, 2), number(56, 2));
    let (Some(first), Some(size), Some(count)) = header else {
        bail!("{} is cut short", path.display());
    };
    Ok((0..count).any(|index| {
        let at = usize::try_from(first + index * size).ok();
        at.and_then(|at| number(at, 4)) == Some(PT_INTERP.into())
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_show_says() {
        let shown = json!({"instances": {"running": 1, "paused": 0, "starting": 2, "deaths": 3, "decision": "why"}});
        let instances = Instances::of(&shown).unwrap();
        assert!(!instances.is_zero());
        assert_eq!((instances.deaths, instances.decision.as_str()), (3, "why"));
        assert!(Instances::of(&json!({"instances": null})).is_err());
    }

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        let shell = fs::canonicalize("/bin/sh").unwrap();
        assert!(asks_for_a_loader(&shell).unwrap());
        assert!(asks_for_a_loader(Path::new("/etc/hostname")).is_err());
    }
}

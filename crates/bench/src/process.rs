//! Starts the servers of a comparison, learns their addresses from what they print, and ends them.
//!
//! A server is ended when its [`Server`] is dropped, by the process that was started and no other. Both output streams
//! are read to the end, because a full pipe would stop the server; the last lines are kept for error messages.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// A cold disk and a busy machine included.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// More than a keeper gives what it keeps.
const KEPT_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_POLL: Duration = Duration::from_millis(5);
const PORT_POLL: Duration = Duration::from_millis(20);
const LINES_KEPT: usize = 20;
const LINES_WAITING_MAX: usize = 1024;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    lines: Receiver<String>,
    kept: VecDeque<String>,
}

impl Server {
    /// Starts `command`, whose output becomes ours to read. However this program ends, the server is asked to end: the
    /// kernel does it when the thread that started it is gone.
    pub(crate) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let child = ended_with_us(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: {}", command.get_program().display()))?;
        Ok(Self::of(name, child))
    }

    /// One that was started with its output in pipes.
    pub(crate) fn of(name: &str, mut child: Child) -> Self {
        let (tx, lines) = sync_channel(LINES_WAITING_MAX);
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let tx = tx.clone();
            thread::spawn(move || {
                // Not every program writes text.
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    // When nobody reads, the line is lost and the server goes on.
                    let _unread = tx.try_send(line);
                }
            });
        }
        Self {
            name: name.to_owned(),
            child,
            lines,
            kept: VecDeque::new(),
        }
    }

    /// Waits for a line in which `find` finds something.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + START_TIMEOUT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = find(&line);
                    self.kept.push_back(line);
                    if self.kept.len() > LINES_KEPT {
                        self.kept.pop_front();
                    }
                    if let Some(found) = found {
                        return Ok(found);
                    }
                }
                Err(problem) => {
                    let problem = match problem {
                        RecvTimeoutError::Timeout => "did not print",
                        RecvTimeoutError::Disconnected => "ended without printing",
                    };
                    let said = Vec::from(self.kept.clone()).join(" | ");
                    bail!("{} {problem} {what}; it said: {said}", self.name);
                }
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Asks the server to end, and makes it end when it does not.
    pub(crate) fn stop(&mut self) -> Result<()> {
        stop(&self.name, &mut self.child)
    }
}

/// A program that is asked to end when the thread that starts it ends, this program being killed included.
fn ended_with_us(command: &mut Command) -> &mut Command {
    let ours = rustix::process::getpid();
    let ask = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
        // Before that, nobody would have asked it.
        if rustix::process::getppid() != Some(ours) {
            return Err(std::io::Error::other("who started it is gone"));
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "in a fork, much of a program cannot be used")]
    // SAFETY: It makes two calls to the kernel, and takes no memory when they succeed.
    unsafe {
        command.pre_exec(ask)
    }
}

/// Until something listens at a port: `connect` tries it. Fails after `patience`.
pub(crate) fn wait_for_port(
    place: &str,
    patience: Duration,
    mut connect: impl FnMut() -> Result<()>,
) -> Result<()> {
    let until = Instant::now() + patience;
    while connect().is_err() {
        ensure!(
            Instant::now() < until,
            "nothing listened at {place} after {} s",
            patience.as_secs()
        );
        thread::sleep(PORT_POLL);
    }
    Ok(())
}

/// Asks a program to end, and makes it end when it does not.
pub(crate) fn stop(name: &str, child: &mut Child) -> Result<()> {
    // One that is kept running by its input hears of it so, and ends what it runs before itself.
    if child.stdin.take().is_some() && ends_within(child, KEPT_TIMEOUT)? {
        return Ok(());
    }
    if child.try_wait()?.is_some() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.context("a child's id is positive")?, Signal::TERM)?;
    if ends_within(child, STOP_TIMEOUT)? {
        return Ok(());
    }
    child.kill()?;
    child.wait()?;
    bail!(
        "{name} did not end within {} s of SIGTERM",
        STOP_TIMEOUT.as_secs()
    )
}

fn ends_within(child: &mut Child, time: Duration) -> Result<bool> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        thread::sleep(STOP_POLL);
    }
    Ok(child.try_wait()?.is_some())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to do about a server that cannot be ended.
        let _ended = self.stop();
    }
}

/// A node with its data directory and the addresses that it printed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) server: Server,
    pub(crate) http: String,
    pub(crate) coap: String,
}

impl Node {
    /// `mote up` on free ports.
    pub(crate) fn up(mote: &Path, data_dir: &Path, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(mote);
        command.arg("up").arg("--data-dir").arg(data_dir);
        for door in ["--http", "--coap", "--admin"] {
            command.args([door, "127.0.0.1:0"]);
        }
        let mut server = Server::start("the node", command.args(flags))?;
        // In whatever order they come.
        let (mut http, mut coap, mut admin) = (None, None, None);
        while http.is_none() || coap.is_none() || admin.is_none() {
            let (door, url) = server.wait_for("its three addresses", address)?;
            match door.as_str() {
                "http" => http = Some(url),
                "coap" => coap = Some(url),
                _ => admin = Some(url),
            }
        }
        let (Some(http), Some(coap)) = (http, coap) else {
            bail!("the node printed no address");
        };
        Ok(Self { server, http, coap })
    }
}

/// `mote deploy` to the node of `data_dir`.
pub(crate) fn deploy(mote: &Path, data_dir: &Path, what: &Path) -> Result<()> {
    let output = Command::new(mote)
        .arg("deploy")
        .arg(what)
        .arg("--data-dir")
        .arg(data_dir)
        .env("MOTE_DATA_DIR", data_dir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", mote.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "cannot deploy {}: {}",
            what.display(),
            said.trim().replace('\n', " | ")
        );
    }
    Ok(())
}

/// The address in a line such as `http http://127.0.0.1:8000`.
pub(crate) fn address(line: &str) -> Option<(String, String)> {
    let (door, url) = line.trim().split_once(' ')?;
    let scheme = if door == "coap" { "coap://" } else { "http://" };
    let known = matches!(door, "http" | "coap" | "admin") && url.starts_with(scheme);
    known.then(|| (door.to_owned(), url.trim().trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_addresses_and_nothing_else() {
        assert_eq!(
            address("http http://127.0.0.1:1/"),
            Some(("http".into(), "http://127.0.0.1:1".into()))
        );
        assert_eq!(
            address("coap coap://127.0.0.1:2").unwrap().1,
            "coap://127.0.0.1:2"
        );
        assert_eq!(address("coap http://127.0.0.1:2"), None);
        assert_eq!(address("listening on http://127.0.0.1:2"), None);
    }

    #[test]
    fn says_what_a_server_said_that_did_not_start() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck >&2"]);
        let mut server = Server::start("a shell", &mut command).unwrap();
        let error = server
            .wait_for("its address", address)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a shell") && error.contains("no luck"),
            "{error}"
        );
    }

    #[test]
    fn stops_what_it_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo http http://127.0.0.1:9; exec sleep 60"]);
        let mut server = Server::start("a shell", &mut command).unwrap();
        assert_eq!(server.wait_for("its address", address).unwrap().0, "http");
        server.stop().unwrap();
        assert!(server.child.try_wait().unwrap().is_some());
    }
}

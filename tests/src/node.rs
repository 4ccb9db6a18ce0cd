//! A node: the program with `up`, on ports that the system picked, in a folder of its own.
//!
//! It ends with the value at the latest. What it logs is read all the time and the end of it kept,
//! and printed when a test fails.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use mote_api::client::Client;
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::eventually::within;
use crate::http::{self, Reply};
use crate::program::{Ended, clean, command, mote, run};

/// Longest start and longest stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a node's log is kept.
const LOG_BYTES_MAX: usize = 1 << 20;
/// How long a node that nobody stopped may take to end when its test does.
const END_MAX: Duration = Duration::from_secs(3);
/// The addresses that let the system pick the ports; flags that come later replace them.
const ANY_PORT: [(&str, &str); 3] = [
    ("--http", "127.0.0.1:0"),
    ("--coap", "127.0.0.1:0"),
    ("--admin", "127.0.0.1:0"),
];

/// How to start a node.
#[derive(Clone, Debug, Default)]
pub struct Up {
    flags: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    address_space_kib: Option<u64>,
    data_dir: Option<PathBuf>,
}

impl Up {
    /// With defaults, in a new folder.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a flag: `flag("--calls-max", "4")`.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this much address space (`ulimit -v`, KiB).
    #[must_use]
    pub fn address_space_kib(mut self, kib: u64) -> Self {
        self.address_space_kib = Some(kib);
        self
    }

    /// In this folder, which stays.
    #[must_use]
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Node {
        let folder = match &self.data_dir {
            Some(path) => Folder::Given(path.clone()),
            None => Folder::Own(tempfile::tempdir().unwrap()),
        };
        match Running::start(&self, folder.path()) {
            Ok(running) => Node {
                up: self,
                folder,
                running: Some(running),
            },
            Err(ended) => panic!("the node did not start: {ended:?}"),
        }
    }

    /// The command that starts it in this folder.
    pub fn command(&self, data_dir: &Path) -> Command {
        let mut command = match self.address_space_kib {
            None => Command::new(mote()),
            Some(kib) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -v {kib} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script]).arg(mote());
                shell
            }
        };
        clean(&mut command);
        command.arg("up").arg("--data-dir").arg(data_dir);
        for (name, address) in ANY_PORT {
            if !self.flags.iter().any(|(flag, _)| flag == name) {
                command.args([name, address]);
            }
        }
        for (name, value) in &self.flags {
            command.args([name, value]);
        }
        for (name, value) in &self.environment {
            command.env(name, value);
        }
        command
    }
}

#[derive(Debug)]
enum Folder {
    Own(TempDir),
    Given(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }
}

/// A node and its folder.
#[derive(Debug)]
pub struct Node {
    up: Up,
    folder: Folder,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    http: Option<SocketAddr>,
    coap: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    token: String,
    log: Arc<Mutex<Vec<u8>>>,
}

impl Node {
    /// A node with defaults.
    #[track_caller]
    pub fn start() -> Self {
        Up::new().start()
    }

    /// Where functions are called over HTTP.
    #[track_caller]
    pub fn http(&self) -> SocketAddr {
        self.running().http.expect("the HTTP door is open")
    }

    /// Where functions are called over CoAP.
    #[track_caller]
    pub fn coap(&self) -> SocketAddr {
        self.running().coap.expect("the CoAP door is open")
    }

    /// Where the admin API is.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.running().admin.expect("the admin door is open")
    }

    /// The admin token.
    pub fn token(&self) -> &str {
        &self.running().token
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    /// Its folder.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged so far; the end of it when that is much.
    pub fn log(&self) -> String {
        let log = self.running().log.lock().unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A field of `/proc/<pid>/status` in KiB: `memory_kib("VmRSS")`.
    #[track_caller]
    pub fn memory_kib(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_else(|| panic!("no {field} in {text}"))
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        let running = self.running.as_mut().expect("the node was started");
        running.child.try_wait().unwrap().is_none()
    }

    /// Calls a function with GET.
    #[track_caller]
    pub fn get(&self, target: &str) -> Reply {
        self.call("GET", target, &[], &[])
    }

    /// Calls a function with POST.
    #[track_caller]
    pub fn post(&self, target: &str, body: &[u8]) -> Reply {
        self.call("POST", target, &[], body)
    }

    /// Calls a function over HTTP.
    #[track_caller]
    pub fn call(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        http::request(self.http(), method, target, headers, body)
    }

    /// Asks the admin API with the token.
    #[track_caller]
    pub fn ask(&self, method: &str, target: &str, body: &[u8]) -> Reply {
        let token = format!("Bearer {}", self.token());
        let mut headers = vec![("authorization", token.as_str())];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        http::request(self.admin(), method, target, &headers, body)
    }

    /// The product's own client of the admin API, for tests that await.
    pub fn client(&self) -> Client {
        Client::new(mote_api::client::node::Node::local(self.data_dir()).unwrap())
    }

    /// Runs the program against this node.
    #[track_caller]
    pub fn mote<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Ended {
        run(self.mote_command(arguments), &[])
    }

    /// The program with its environment set to this node.
    pub fn mote_command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        let mut command = command(arguments);
        command.env("MOTE_DATA_DIR", self.data_dir());
        command
    }

    /// The sum of all series of a metric with each of these labels: `metric("mote_calls_total",
    /// &["function=\"hello\""])`.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = self.ask("GET", "/metrics", &[]).expect(200).text();
        let lines = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let whole = rest.is_empty() || rest.starts_with('{');
            let fits = whole && labels.iter().all(|label| rest.contains(label));
            fits.then(|| value.parse::<f64>().unwrap())
        });
        lines.sum()
    }

    /// Checks that the node answers: deploys `hello` when it is not there, and calls it.
    #[track_caller]
    pub fn answers_hello(&self) {
        if self.get("/hello").status == 404 {
            self.deploy_example("hello");
        }
        let reply = self.get("/hello").expect(200);
        assert!(reply.text().to_lowercase().contains("hello"), "{reply:?}");
    }

    /// Tells it to stop, waits, and checks that it ended well.
    #[track_caller]
    pub fn stop(&mut self) {
        let status = self.stop_status();
        assert!(status.success(), "the node ended with {status}");
    }

    /// Tells it to stop and waits.
    #[track_caller]
    pub fn stop_status(&mut self) -> ExitStatus {
        self.terminate();
        self.wait()
    }

    /// Tells it to stop and does not wait.
    #[track_caller]
    pub fn terminate(&self) {
        let pid = Pid::from_child(&self.running().child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("the node was started");
        let Some(status) = within(PATIENCE, || running.child.try_wait().unwrap()) else {
            panic!("the node did not end within {PATIENCE:?}: {}", self.log());
        };
        self.running = None;
        status
    }

    /// Ends it at once, as a power cut would.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the node was started");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Starts it again in its folder, after [`stop`](Self::stop) or [`kill`](Self::kill).
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(self.running.is_none(), "the node still runs");
        match Running::start(&self.up, self.folder.path()) {
            Ok(running) => self.running = Some(running),
            Err(ended) => panic!("the node did not start again: {ended:?}"),
        }
    }

    #[track_caller]
    fn running(&self) -> &Running {
        self.running.as_ref().expect("the node was started")
    }
}

impl Running {
    /// Starts it and reads the lines that say where it listens.
    fn start(up: &Up, data_dir: &Path) -> Result<Self, Ended> {
        let mut child = up
            .command(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().unwrap();
        let keeper = {
            let log = Arc::clone(&log);
            thread::spawn(move || keep(stderr, &log))
        };
        let mut running = Self {
            child,
            http: None,
            coap: None,
            admin: None,
            token: String::new(),
            log,
        };
        let mut said = String::new();
        let stdout = running.child.stdout.take().unwrap();
        for line in BufReader::new(stdout).lines() {
            let line = line.unwrap();
            let (what, value) = line.split_once(' ').unwrap_or_default();
            let address = || value.rsplit('/').next().unwrap().parse().unwrap();
            match what {
                "http" => running.http = Some(address()),
                "coap" => running.coap = Some(address()),
                "admin" => running.admin = Some(address()),
                // The last line.
                "token" => {
                    let token = std::fs::read_to_string(value).unwrap();
                    running.token = token.trim().to_owned();
                    return Ok(running);
                }
                _ => {}
            }
            said.push_str(&line);
            said.push('\n');
        }
        let status = running.child.wait().unwrap();
        keeper.join().unwrap();
        let stderr = String::from_utf8_lossy(&running.log.lock().unwrap()).into_owned();
        Err(Ended {
            code: status.code(),
            stdout: said,
            stderr,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self
                .log
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            let end = log.len().saturating_sub(8 << 10);
            eprintln!("the node logged:\n{}", String::from_utf8_lossy(&log[end..]));
        }
        // A node that is killed leaves its cgroups for its next start, and this one's folder has none.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
            within(END_MAX, || self.child.try_wait().ok().flatten());
        }
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads all of a log and keeps the end.
fn keep(mut from: impl std::io::Read, log: &Mutex<Vec<u8>>) {
    let mut piece = [0; 8192];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        let mut log = log.lock().unwrap();
        log.extend_from_slice(&piece[..count]);
        let over = log.len().saturating_sub(LOG_BYTES_MAX);
        log.drain(..over);
    }
}

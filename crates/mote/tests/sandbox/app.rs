//! An app in a sandbox, and how to run programs in it.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mote_runtimes::sandbox::process::{Exit, Spawn};
use mote_runtimes::sandbox::root::{Base, Bind, Root, RootId};
use mote_runtimes::sandbox::tier::Layer;
use mote_runtimes::sandbox::{Sandbox, Settings};

/// Bytes of `/tmp`.
pub(super) const TMP_BYTES: u64 = 1 << 20;

/// A sandbox with one root, in which this test is `/app/probe`.
pub(super) struct App {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) root: RootId,
    pub(super) code: tempfile::TempDir,
}

impl App {
    pub(super) async fn start(name: &str) -> Self {
        let code = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(code.path(), open.clone()).unwrap();
        let probe = code.path().join("probe");
        std::fs::copy(std::env::current_exe().unwrap(), &probe).unwrap();
        std::fs::set_permissions(&probe, open).unwrap();
        static UID: AtomicU32 = AtomicU32::new(100_000);
        let settings = Settings {
            program: env!("CARGO_BIN_EXE_mote").into(),
            name: name.to_owned(),
            uid: UID.fetch_add(1, Ordering::Relaxed),
        };
        let sandbox = Sandbox::start(settings).await.unwrap();
        let root = Root {
            base: Base::System,
            binds: vec![bind(code.path(), "/app")],
            tmp_bytes: TMP_BYTES,
        };
        let root = sandbox.add_root(root).await.unwrap();
        Self {
            sandbox,
            root,
            code,
        }
    }

    /// An app whose sandbox is as good as it can be; nothing where the system denies that, which is
    /// then said.
    pub(super) async fn start_private(name: &str) -> Option<Self> {
        let app = Self::start(name).await;
        let tier = *app.sandbox.tier();
        let needed = [
            Layer::PrivateRoot,
            Layer::PidNamespace,
            Layer::NetworkNamespace,
            Layer::UserNamespace,
        ];
        if needed.iter().all(|layer| tier.has(*layer)) {
            return Some(app);
        }
        eprintln!("skipped: this system allows no private sandbox ({tier})");
        None
    }

    pub(super) fn spawn(&self, command: &[&str], stdout: OwnedFd) -> Spawn<'static> {
        Spawn {
            root: self.root,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())],
            directory: "/app".to_owned(),
            stdin: nothing(),
            stderr: stdout.try_clone().unwrap(),
            stdout,
            extra: Vec::new(),
            cgroup: None,
            own_network: false,
            cpu_seconds: None,
            files_max: 256,
        }
    }

    /// Runs a program to its end: how it ended, and what it wrote.
    pub(super) async fn run(&self, command: &[&str]) -> (Exit, String) {
        let (output, stdout) = std::io::pipe().unwrap();
        self.finish(self.spawn(command, stdout.into()), output)
            .await
    }

    pub(super) async fn finish(
        &self,
        spawn: Spawn<'_>,
        output: std::io::PipeReader,
    ) -> (Exit, String) {
        let process = self.sandbox.spawn(spawn).await.unwrap();
        let text = tokio::task::spawn_blocking(move || read(output))
            .await
            .unwrap();
        (process.exited().await, text)
    }

    pub(super) async fn shell(&self, script: &str) -> (Exit, String) {
        self.run(&["sh", "-c", script]).await
    }

    pub(super) fn probing(&self, what: &str, stdout: OwnedFd) -> Spawn<'static> {
        let command = ["/app/probe", "probe", "--exact", "--nocapture"];
        let mut spawn = self.spawn(&command, stdout);
        spawn.env.push(("MOTE_PROBE".to_owned(), what.to_owned()));
        spawn
    }

    /// Runs [`probe`] and returns the lines that it said.
    pub(super) async fn probe(&self, what: &str) -> Vec<String> {
        let (output, stdout) = std::io::pipe().unwrap();
        let (_, text) = self.finish(self.probing(what, stdout.into()), output).await;
        said(&text)
    }
}

pub(super) fn bind(host: &Path, guest: &str) -> Bind {
    Bind {
        host: host.to_owned(),
        guest: guest.into(),
    }
}

pub(super) fn nothing() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

pub(super) fn read(mut from: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn said(text: &str) -> Vec<String> {
    // The test harness writes its own words, without a line end before ours.
    text.lines()
        .filter_map(|line| line.split_once("@@").map(|(_, said)| said.to_owned()))
        .collect()
}

#[expect(clippy::print_stdout, reason = "this is how a probe answers")]
pub(super) fn say(line: &str) {
    println!("\n@@{line}");
}

/// Reads until a line was said, and gives the rest back.
pub(super) fn wait_for_line(mut output: std::io::PipeReader, line: &str) -> std::io::PipeReader {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(&format!("@@{line}\n")) {
        output
            .read_exact(&mut byte)
            .unwrap_or_else(|_| panic!("{text}"));
        text.push(byte[0].into());
    }
    output
}

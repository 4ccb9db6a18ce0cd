//! Runs a program on a machine of an experiment for as long as the controller lives.
//!
//! The controller starts this in between, with a pipe as standard input: when that ends, however the controller ended
//! and over however many hops, the program is asked to end, and made to. So nothing is left of a run that was killed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long a program may take to end: a node drains its calls for ten seconds.
const GRACE: Duration = Duration::from_secs(14);
const POLL: Duration = Duration::from_millis(20);

/// A program to run until standard input ends.
#[derive(Debug, Args)]
pub struct Settings {
    /// A file of a cgroup that the program's id is written to before it runs
    #[arg(long = "join")]
    join: Vec<PathBuf>,

    /// The program and what it is told
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs it. The first line of standard output is its id.
pub fn run(settings: &Settings) -> Result<ExitCode> {
    // The program inherits them; that this small one is in them too changes nothing.
    for file in &settings.join {
        fs::write(file, std::process::id().to_string())
            .with_context(|| format!("cannot join the cgroup of {}", file.display()))?;
    }
    // The end of standard input is the word to end; a signal before that would leave the program alone.
    let ignored = Arc::new(AtomicBool::new(false));
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&ignored))?;
    }
    // It waits for a word before it becomes the program, whose output comes after its id that way.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read -r _ && exec \"$@\" </dev/null", "sh"])
        .args(&settings.command)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("cannot run /bin/sh")?;
    let go = child.stdin.take();
    let id = child.id();
    let mut out = std::io::stdout();
    // Nobody reads it any more when the controller is gone, which standard input tells as well.
    let _unread = writeln!(out, "pid {id}").and_then(|()| out.flush());
    go.context("the input of a shell is a pipe")?
        .write_all(b"\n")?;

    let group = Arc::new(Mutex::new(i32::try_from(id).ok().and_then(Pid::from_raw)));
    let over = Arc::new(AtomicBool::new(false));
    let watch = (Arc::clone(&group), Arc::clone(&over));
    thread::spawn(move || {
        let _end = std::io::stdin().read_to_end(&mut Vec::new());
        let (group, over) = watch;
        signal(&group, Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until && !over.load(Ordering::Relaxed) {
            thread::sleep(POLL);
        }
        signal(&group, Signal::KILL);
    });
    let status = child.wait()?;
    over.store(true, Ordering::Relaxed);
    // What it has left behind in its group goes too.
    signal(&group, Signal::KILL);
    *group.lock().unwrap_or_else(PoisonError::into_inner) = None;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    ))
}

/// A group that is empty has nobody to hear it.
fn signal(group: &Mutex<Option<Pid>>, signal: Signal) {
    let group = group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(group) = *group {
        let _unheard = kill_process_group(group, signal);
    }
}

//! The command line: one file for each command.
//!
//! Data goes to standard output, talk to standard error. Every read takes `--json`. Exit codes are
//! those of the error table.

mod companion;
mod completions;
mod config;
mod deploy;
mod flags;
mod invoke;
mod kv;
mod logs;
mod ls;
mod observe;
mod output;
mod rm;
mod rollback;
mod scale;
mod secret;
mod show;
mod status;
mod target;
mod up;
mod value;
mod wipe;

use std::pin::Pin;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mote_core::error::{Error, ErrorKind};

/// A small node that runs functions, and the commands to look after it.
#[derive(Debug, Parser)]
#[command(name = "mote", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Up),
    /// Start a function: a folder with its source, ready to build.
    New(companion::Dev),
    /// Build the functions of a folder.
    Build(companion::Dev),
    /// Build, run and try functions, again whenever a file is saved.
    Dev(companion::Dev),
    /// Send the recorded requests of a folder and compare the replies.
    Test(companion::Dev),
    Deploy(deploy::Deploy),
    Invoke(invoke::Invoke),
    Ls(ls::Ls),
    Show(show::Show),
    Rm(rm::Rm),
    Rollback(rollback::Rollback),
    Scale(scale::Scale),
    Logs(logs::Logs),
    Kv(kv::Kv),
    Secret(secret::Secret),
    Status(status::Status),
    Wipe(wipe::Wipe),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(config::Config),
    /// Measure a node, or any server, and repeat the experiments of papers.
    Bench(companion::Bench),
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Up(up) => up.run()?,
            Command::New(dev) => dev.run("new")?,
            Command::Build(dev) => dev.run("build")?,
            Command::Dev(dev) => dev.run("dev")?,
            Command::Test(dev) => dev.run("test")?,
            Command::Deploy(deploy) => wait(deploy.run())?,
            Command::Invoke(invoke) => return wait(invoke.run()),
            Command::Ls(ls) => wait(ls.run())?,
            Command::Show(show) => wait(show.run())?,
            Command::Rm(rm) => wait(rm.run())?,
            Command::Rollback(rollback) => wait(rollback.run())?,
            Command::Scale(scale) => wait(scale.run())?,
            Command::Logs(logs) => wait(logs.run())?,
            Command::Kv(kv) => wait(kv.run())?,
            Command::Secret(secret) => wait(secret.run())?,
            Command::Status(status) => wait(status.run())?,
            Command::Wipe(wipe) => wait(wipe.run())?,
            Command::Config(config) => config.run()?,
            Command::Bench(bench) => bench.run()?,
            Command::Completions(completions) => completions.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs a client's command on this thread.
fn wait<T>(command: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let mut result = None;
    block_on(Box::pin(async {
        result = Some(command.await);
    }))?;
    result.expect("the command has ended")
}

/// Not generic: the program would have the runtime's loop once for each command.
fn block_on(command: Pin<Box<dyn Future<Output = ()> + '_>>) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot start: {error}")))?
        .block_on(command);
    Ok(())
}

//! What a function runs: from its spec and what was found in its artifact to a command, a contract
//! and a root.

use std::path::{Component, Path, PathBuf};

use mote_core::error::{Error, ErrorKind};
use mote_core::spec::{Contract, FunctionSpec, Program};

use super::warm::Code;
use crate::environment::{APP, ENVIRONMENT, Environment, Environments, Serving};
use crate::sandbox::root::{Base, Bind, Root};
use crate::tree::{self, ImageConfig, Kind, Tree};

/// Where programs are looked for, if nothing else says so.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a function runs.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) serving: Serving,
    pub(super) command: Vec<String>,
    /// Variables of every process of it.
    pub(super) env: Vec<(String, String)>,
    /// Where it starts.
    pub(super) directory: String,
    pub(super) root: Root,
    /// The path that answers when it is ready.
    pub(super) ready: Option<String>,
    /// How an instance that waits serves it, if it may.
    pub(super) code: Option<Code>,
    /// What it turned out to be, for people.
    pub(super) shape: &'static str,
}

impl Plan {
    /// Decides what to run. Fails with `BadRequest` when there is nothing that could be run.
    pub(super) fn new(
        spec: &FunctionSpec,
        folder: &Path,
        tree: &Tree,
        environments: &Environments,
    ) -> Result<Self, Error> {
        let program = spec
            .program
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "a process without a program"))?;
        let code = bind(folder.to_owned(), APP);
        let mut plan = match (&tree.image, tree.kind) {
            (Some(image), _) => of_image(program, folder, image)?,
            (None, Kind::Image) => of_image(program, folder, &ImageConfig::default())?,
            (None, _) if !program.command.is_empty() => Self {
                serving: Serving::Program(program.contract.unwrap_or(Contract::Stdio)),
                command: program.command.clone(),
                env: variables(&[], APP),
                directory: APP.to_owned(),
                root: Root {
                    base: Base::System,
                    binds: vec![code],
                    tmp_bytes: 0,
                },
                ready: None,
                code: None,
                shape: "",
            },
            (None, _) => of_environment(program, folder, environments)?,
        };
        if plan.root.base == Base::System {
            check_machine(&plan.command, folder)?;
        }
        plan.root.tmp_bytes = program.tmp_bytes;
        let granted = spec.allow.read.iter();
        plan.root.binds.extend(granted.map(|grant| Bind {
            host: grant.host.clone(),
            guest: PathBuf::from(&grant.guest),
        }));
        for (key, value) in &spec.env {
            plan.env.retain(|(known, _)| known != key);
            plan.env.push((key.clone(), value.clone()));
        }
        plan.code = plan.code.filter(|code| code.suits(spec));
        plan.ready = program.ready.clone().or(plan.ready);
        plan.shape = match plan.serving {
            Serving::Zygote => "zygote",
            Serving::Program(contract) => contract.label(),
        };
        Ok(plan)
    }
}

/// Refuses a command that is for another machine, where it is a file of the function's own code.
fn check_machine(command: &[String], folder: &Path) -> Result<(), Error> {
    let first = command.first().map_or("", String::as_str);
    let own = match first.strip_prefix(APP) {
        Some(below) => below.trim_start_matches('/'),
        None if first.starts_with('/') || !first.contains('/') => return Ok(()),
        None => first,
    };
    let inside = Path::new(own)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let file = folder.join(own);
    if inside && file.is_file() {
        // Where the file is on the node is nobody's business.
        let told = |error: Error| {
            let message = error.message().replace(&*file.to_string_lossy(), first);
            Error::new(error.kind(), message)
                .with_hint("build it for this machine, or deploy it to a node of that kind")
        };
        tree::check_machine(&file).map_err(told)?;
    }
    Ok(())
}

/// Plain source, or a bare program.
fn of_environment(
    program: &Program,
    folder: &Path,
    environments: &Environments,
) -> Result<Plan, Error> {
    let has = |file: &str| folder.join(file).is_file();
    let name = program.environment.as_deref();
    let (environment, handler) = environments.for_code(name, has)?;
    let Environment { folder: own, .. } = &environment;
    Ok(Plan {
        serving: match program.contract {
            Some(contract) if !program.command.is_empty() => Serving::Program(contract),
            Some(contract) if environment.serving == Serving::Program(Contract::Stdio) => {
                Serving::Program(contract)
            }
            _ => environment.serving,
        },
        command: environment.command_for(&handler),
        env: variables(&[], APP),
        directory: APP.to_owned(),
        root: Root {
            base: Base::System,
            binds: vec![bind(folder.to_owned(), APP), bind(own.clone(), ENVIRONMENT)],
            tmp_bytes: 0,
        },
        ready: environment.ready.clone(),
        code: Code::of(&environment, &handler),
        shape: "",
    })
}

/// An image without an engine: its files are the root.
fn of_image(program: &Program, folder: &Path, image: &ImageConfig) -> Result<Plan, Error> {
    let command: Vec<String> = if program.command.is_empty() {
        let words = image.entrypoint.iter().chain(&image.cmd);
        words.cloned().collect()
    } else {
        program.command.clone()
    };
    if command.is_empty() {
        return Err(Error::new(
            ErrorKind::BadRequest,
            "the image has neither entrypoint nor command",
        )
        .with_hint("write command = [\"/PROGRAM\"] in the manifest"));
    }
    let directory = match image.working_dir.as_str() {
        "" => "/",
        directory => directory,
    };
    Ok(Plan {
        serving: Serving::Program(program.contract.unwrap_or(Contract::Http)),
        env: variables(&image.env, "/"),
        directory: directory.to_owned(),
        root: Root {
            base: Base::Image(folder.to_owned()),
            binds: Vec::new(),
            tmp_bytes: 0,
        },
        command,
        ready: None,
        code: None,
        shape: "",
    })
}

/// These variables and those that every program expects.
pub(super) fn variables(given: &[(String, String)], home: &str) -> Vec<(String, String)> {
    let mut variables = given.to_vec();
    for (key, value) in [("PATH", PATH), ("HOME", home), ("TMPDIR", "/tmp")] {
        if !variables.iter().any(|(known, _)| known == key) {
            variables.push((key.to_owned(), value.to_owned()));
        }
    }
    variables
}

pub(super) fn bind(host: PathBuf, guest: &str) -> Bind {
    Bind {
        host,
        guest: PathBuf::from(guest),
    }
}

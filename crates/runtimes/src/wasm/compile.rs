//! Compilation, in a child process.
//!
//! A compiler is large and its input hostile, so it runs apart: the node starts itself again with
//! [`CHILD_ARGUMENT`], under limits of memory, CPU time and wall time, and reads back an image. What
//! goes wrong there is an error of the deploy and nothing else.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::{Artifact, Image};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::process::Command;
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::CompileLimits;
use super::engines::{Engines, Tier, compiling};
use super::image::{Images, NO_ROOM_HINT, Shape};

/// The first argument of the child. Whoever starts with it must call [`child`] at once.
pub const CHILD_ARGUMENT: &str = "__compile";

/// Most bytes of the child's complaint that are shown.
const COMPLAINT_BYTES_MAX: usize = 2000;

/// Compiles, one artifact at a time.
#[derive(Debug)]
pub(super) struct Compiler {
    program: PathBuf,
    limits: CompileLimits,
    turn: Semaphore,
}

impl Compiler {
    pub(super) fn new(limits: CompileLimits) -> Result<Self, Error> {
        // The running program may have been replaced on disk; this path still leads to it.
        let program = Path::new("/proc/self/exe");
        let program = if program.exists() {
            program.to_owned()
        } else {
            std::env::current_exe().map_err(|error| own_path(&error))?
        };
        Ok(Self {
            program,
            limits,
            turn: Semaphore::new(1),
        })
    }

    /// Compiles an artifact into the folder of images.
    pub(super) async fn compile(
        &self,
        artifact: &Artifact,
        engines: &Engines,
        images: &Images,
    ) -> Result<(Image, Shape), Error> {
        let _turn = self
            .turn
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let temporary = images.temporary()?;
        let limits = &self.limits;
        let mut command = Command::new(&self.program);
        command
            .arg(CHILD_ARGUMENT)
            .arg(engines.tier().label())
            .arg(limits.memory_bytes.to_string())
            .arg(limits.cpu.as_secs().max(1).to_string())
            .arg(&artifact.path)
            .arg(temporary.path())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let run = async { command.spawn()?.wait_with_output().await };
        let output = match tokio::time::timeout(limits.timeout, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    format!("could not start the compiler: {error}"),
                ));
            }
            Err(_) => {
                return Err(over(
                    &format!("took longer than {:?}", limits.timeout),
                    "compile_timeout",
                ));
            }
        };
        if !output.status.success() {
            return Err(self.complaint(&output));
        }
        let Some(shape) = std::str::from_utf8(&output.stdout)
            .ok()
            .and_then(|text| Shape::parse(text.trim()))
        else {
            return Err(Error::new(
                ErrorKind::Internal,
                "the compiler did not say what it compiled",
            ));
        };
        let image = images
            .keep(temporary, artifact, engines.fingerprint(), shape)
            .await?;
        Ok((image, shape))
    }

    fn complaint(&self, output: &std::process::Output) -> Error {
        use std::os::unix::process::ExitStatusExt;
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.trim();
        if output.status.code() == Some(NO_ROOM.into()) {
            return Error::new(ErrorKind::StorageFull, text.to_owned()).with_hint(NO_ROOM_HINT);
        }
        // A failed allocation aborts, and CPU time over the limit is a signal too.
        match output.status.signal() {
            Some(signal) if text.contains("memory allocation") || signal == 9 || signal == 11 => {
                over(
                    &format!(
                        "needs more than {} bytes of memory",
                        self.limits.memory_bytes
                    ),
                    "compile_memory_bytes",
                )
            }
            Some(24) => over(
                &format!("needs more than {:?} of CPU time", self.limits.cpu),
                "compile_cpu",
            ),
            Some(signal) if text.is_empty() => Error::new(
                ErrorKind::BadRequest,
                format!("compiling the code ended with signal {signal}"),
            ),
            _ if text.contains("memory allocation") || text.contains("Cannot allocate memory") => {
                over(
                    &format!(
                        "needs more than {} bytes of memory",
                        self.limits.memory_bytes
                    ),
                    "compile_memory_bytes",
                )
            }
            _ => {
                let text = &text[..text.floor_char_boundary(COMPLAINT_BYTES_MAX)];
                Error::new(
                    ErrorKind::BadRequest,
                    format!("the code is not valid: {text}"),
                )
            }
        }
    }
}

fn over(what: &str, key: &str) -> Error {
    Error::new(ErrorKind::BadRequest, format!("compiling the code {what}")).with_hint(format!(
        "make it smaller, or raise `{key}` in the node's configuration"
    ))
}

fn own_path(error: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("could not find the node's own program: {error}"),
    )
}

/// The child's whole life: compiles by these arguments (what follows [`CHILD_ARGUMENT`]), says the
/// shape on standard output, or what is wrong on standard error. Returns the exit code.
pub fn child(arguments: &[OsString]) -> u8 {
    match compile(arguments) {
        Ok(shape) => {
            use std::io::Write;
            u8::from(writeln!(std::io::stdout(), "{}", shape.label()).is_err())
        }
        Err(Complaint { text, exit }) => {
            eprintln!("{text}");
            exit
        }
    }
}

/// What the child says when it cannot do its work, and its exit code.
struct Complaint {
    text: String,
    exit: u8,
}

/// The exit code of a child that found no room for its image.
const NO_ROOM: u8 = 3;

impl From<String> for Complaint {
    fn from(text: String) -> Self {
        Self { text, exit: 1 }
    }
}

impl From<&str> for Complaint {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

fn unwritten(error: &std::io::Error) -> Complaint {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let full = matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge);
    Complaint {
        text: format!("could not write the image: {error}"),
        exit: if full { NO_ROOM } else { 1 },
    }
}

fn compile(arguments: &[OsString]) -> Result<Shape, Complaint> {
    let [tier, memory, cpu, input, output] = arguments else {
        return Err("this is how the node compiles code; it is not for people".into());
    };
    let tier = Tier::ALL
        .into_iter()
        .find(|known| *tier == *known.label())
        .ok_or("unknown tier")?;
    limit(Resource::As, memory, 0)?;
    // A second from the one to the other, so that it is the soft limit, and its signal, that ends it.
    limit(Resource::Cpu, cpu, 1)?;
    let code =
        std::fs::read(input).map_err(|error| format!("could not read the artifact: {error}"))?;
    let engine = compiling(tier).map_err(|error| format!("{error:#}"))?;
    let (image, shape) = translate(&engine, &code)?;
    std::fs::write(output, image).map_err(|error| unwritten(&error))?;
    Ok(shape)
}

fn limit(resource: Resource, value: &OsString, slack: u64) -> Result<(), String> {
    let value: u64 = value
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or("a limit is not a number")?;
    let limits = Rlimit {
        current: Some(value),
        maximum: Some(value.saturating_add(slack)),
    };
    setrlimit(resource, limits).map_err(|error| format!("could not limit the compiler: {error}"))
}

/// Compiles code of any shape, and says which.
fn translate(engine: &Engine, code: &[u8]) -> Result<(Vec<u8>, Shape), String> {
    // The layer in the header tells components from core modules.
    match code.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => {
            let component =
                Component::from_binary(engine, code).map_err(|error| format!("{error:#}"))?;
            let shape = Shape::of_component(engine, &component)?;
            Ok((
                component
                    .serialize()
                    .map_err(|error| format!("{error:#}"))?,
                shape,
            ))
        }
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => {
            let module = Module::from_binary(engine, code).map_err(|error| format!("{error:#}"))?;
            let shape = Shape::of_module(&module)?;
            Ok((
                module.serialize().map_err(|error| format!("{error:#}"))?,
                shape,
            ))
        }
        _ => Err("this is not WebAssembly; deploy a component or a WASI command (.wasm)".into()),
    }
}

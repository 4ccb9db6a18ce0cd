//! WebAssembly on an embedded wasmtime.
//!
//! Code is compiled once, at deploy, in a child process with limits ([`compile`]); the compiled
//! image stays on disk and is mapped when the function is first called (`image`). A call runs in a
//! fresh store from a pool; there is a pool for each worker thread (`engines`), because threads
//! that share one wait for each other in the kernel. Guests are interrupted every millisecond to
//! give way to others and to check their CPU time (`meter`).
//!
//! Guests of four shapes: components of the world in `sdk/wit` (`function`), components that
//! export `wasi:http/incoming-handler` (`http`), WASI preview-1 commands (`command`), and modules
//! that were compiled for FunLess (`funless`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mote_core::error::Error;
use mote_core::runtime::{Artifact, BoxFuture, Image, Prepared, Runtime};
use mote_core::spec::FunctionSpec;

use self::compile::Compiler;
use self::engines::Engines;
use self::image::Images;
use self::prepared::WasmFunction;

mod command;
pub mod compile;
mod engines;
mod failure;
mod function;
mod funless;
mod http;
mod image;
mod meter;
mod outbound;
mod prepared;
mod stdio;
mod store;
mod world;

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder of compiled images; nobody else may write to it.
    pub images: PathBuf,
    /// Engines, one for each worker thread.
    pub shards: usize,
    /// Calls at once, over all functions.
    pub calls_max: u32,
    /// Bytes of memory that stay with a place for a call when the call has ended. A call whose memory was made by a
    /// snapshot writes to many pages of it; those that stay are written back, the others are fetched again by faults.
    pub resident_bytes: usize,
    /// What a compilation may use.
    pub compile: CompileLimits,
}

/// What the child process that compiles may use.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    /// Address space.
    pub memory_bytes: u64,
    /// CPU time.
    pub cpu: Duration,
    /// Wall time.
    pub timeout: Duration,
}

/// The runtime.
#[derive(Clone, Debug)]
pub struct Wasm {
    engines: Arc<Engines>,
    images: Arc<Images>,
    compiler: Arc<Compiler>,
}

impl Wasm {
    /// Sets up engines and the folder of images. When address space is short it falls back to
    /// smaller reservations, and says so in one line of the log.
    pub fn new(config: Config) -> Result<Self, Error> {
        let engines = Arc::new(Engines::new(
            config.shards,
            config.calls_max,
            config.resident_bytes,
        )?);
        let images = Arc::new(Images::new(config.images));
        let compiler = Arc::new(Compiler::new(config.compile)?);
        Ok(Self {
            engines,
            images,
            compiler,
        })
    }
}

/// What keeps Wasm functions apart.
const ISOLATION: &str = "memory of its own for each call, nothing granted by default";

/// Whether an image is what was recorded; one that is not is deleted, and the code compiled again.
/// The first call looks once more, because it is the file of that moment which is mapped.
async fn is_whole(images: &Arc<Images>, image: &Image) -> bool {
    let (images, known) = (Arc::clone(images), image.clone());
    let verified = tokio::task::spawn_blocking(move || images.verify(&known)).await;
    match verified {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(image = image.file, %error, "compiling again");
            false
        }
        Err(_) => false,
    }
}

impl Runtime for Wasm {
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        Box::pin(async move {
            if let Some((image, shape)) = self.images.known(artifact, self.engines.fingerprint())
                && is_whole(&self.images, &image).await
            {
                let function = WasmFunction::new(spec, image, shape, self);
                // Compiled for another deploy: this one's limits were not tried yet.
                if artifact.image.is_none() {
                    function.try_out().await?;
                }
                return Ok(Arc::new(function) as Arc<dyn Prepared>);
            }
            let (image, shape) = self
                .compiler
                .compile(artifact, &self.engines, &self.images)
                .await?;
            let function = WasmFunction::new(spec, image, shape, self);
            function.try_out().await?;
            Ok(Arc::new(function) as Arc<dyn Prepared>)
        })
    }

    fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        self.images.sweep(used)
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async { ISOLATION.to_owned() })
    }
}

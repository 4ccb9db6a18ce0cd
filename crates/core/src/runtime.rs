//! The traits that every way of running code implements.
//!
//! A [`Runtime`] turns an artifact into something [`Prepared`], once, at deploy. A prepared function
//! starts [`Instance`]s, and an instance serves calls. A guest's failure is a value: whatever a
//! guest does, these methods return.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::log::LogSink;
use crate::reply::Reply;
use crate::spec::FunctionSpec;

/// A boxed future: one allocation for a call, instead of a type that names every layer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Immutable bytes on this node, addressed by digest.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// BLAKE3 of the bytes.
    pub digest: Digest,
    /// Where they are.
    pub path: PathBuf,
    /// What an earlier [`Runtime::prepare`] made of them, if it is known.
    pub image: Option<Image>,
}

/// What a runtime made of an artifact and keeps on disk. The runtime trusts the file only if its
/// digest is the one recorded here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The file's name inside the folder of images.
    pub file: String,
    /// BLAKE3 of the file.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// A way to run code.
pub trait Runtime: Send + Sync {
    /// Makes an artifact ready on this node, so that no call has to. Idempotent: with a known image
    /// that is still valid it costs next to nothing. Bad code is a `BadRequest` that names what is
    /// wrong with it. Cancel-safe.
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>>;

    /// Deletes images that no function uses any more. `used` holds the file names still in use.
    fn sweep(&self, used: &dyn Fn(&str) -> bool) -> Result<(), Error>;
}

/// A function made ready on this node; costs no memory worth mentioning until started.
pub trait Prepared: Send + Sync {
    /// Starts an instance. Cancel-safe.
    fn start(&self) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>>;

    /// What to record beside the version, so that the next start finds it.
    fn image(&self) -> Option<Image>;

    /// What the code turned out to be, for people: `mote:function`, `wasi:http`, `wasi command`.
    fn shape(&self) -> &'static str;

    /// Whether the function reads its request as a stream; others are given whole bodies.
    fn streams(&self) -> bool;
}

/// A function ready to take calls.
pub trait Instance: Send + Sync {
    /// Serves one call. Dropping the future, or the reply's stream, ends the guest and frees what
    /// the call held.
    fn call<'a>(
        &'a self,
        invocation: Invocation,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>>;

    /// Bytes of memory that the instance holds while idle; an estimate for eviction.
    fn idle_bytes(&self) -> u64;
}

/// What belongs to one call and not to the instance.
#[derive(Clone)]
pub struct CallContext {
    /// Where the guest's lines go.
    pub log: Arc<dyn LogSink>,
}

impl std::fmt::Debug for CallContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallContext").finish_non_exhaustive()
    }
}

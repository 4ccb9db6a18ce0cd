//! The traits that every way of running code implements.
//!
//! A [`Runtime`] turns an artifact into something [`Prepared`], once, at deploy. A prepared function
//! starts [`Instance`]s, and an instance serves calls. A guest's failure is a value: whatever a
//! guest does, these methods return.

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};
use crate::host::{Caller, Host};
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

    /// Removes what a node that was killed left running: called once, before anything is prepared.
    fn clear(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    /// Removes what it made on this system and does not need any more: called last, when none of its
    /// instances runs.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// What keeps its functions apart here, for people, in one line.
    fn isolation(&self) -> BoxFuture<'_, String>;

    /// What it keeps ready that is no function's yet.
    fn warm(&self) -> Warm {
        Warm::default()
    }
}

/// Instances of environments that wait for the code of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Warm {
    /// How many wait, by environment.
    pub ready: BTreeMap<String, u32>,
    /// How many were given to functions so far.
    pub taken: u64,
    /// Why there are none although some were asked for.
    pub off: Option<String>,
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

    /// What an instance takes. `None`: one instance lives in the node and takes every call that is
    /// admitted.
    fn instances(&self) -> Option<Instances> {
        None
    }

    /// What keeps this function apart, for people, in one line.
    fn isolation(&self) -> String;
}

/// What instances that live outside of the node take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instances {
    /// Calls that one takes at once.
    pub slots: NonZeroU32,
    /// Bytes of memory that one may use, reserved while it runs.
    pub memory_bytes: u64,
    /// Most of them, whatever the function's scale says; one whose instance makes a process for
    /// each call needs no second.
    pub max: u32,
}

/// A function ready to take calls. Dropping the last reference ends it at once.
pub trait Instance: Send + Sync {
    /// Serves one call: the one that is offered. An instance takes it out when it hands it over to
    /// the guest; when it fails before that, another instance may be offered the same call.
    /// Dropping the future, or the reply's stream, ends the guest's work and frees what the call held.
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>>;

    /// Bytes of memory that the instance holds while idle; an estimate for eviction.
    fn idle_bytes(&self) -> u64;

    /// Resolves when it has ended by itself, with how. Cancel-safe.
    fn exited(&self) -> BoxFuture<'_, Exit> {
        Box::pin(std::future::pending())
    }

    /// Stops it from using processors while it is idle. Returns whether this kind can do that.
    fn pause(&self) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async { Ok(false) })
    }

    /// Ends a pause.
    fn resume(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    /// Asks it to end, and ends it when it has not within the grace.
    fn stop(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// How an instance ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// For people: `exited with status 1`, `killed by signal 9 (out of memory)`.
    pub how: String,
    /// Whether the node did that on purpose, because of one call; such an end says nothing about
    /// the function's health.
    pub on_purpose: bool,
}

/// The call that is offered, for instances that need it whole. Fails when it was taken already,
/// which is a bug of the caller.
pub fn take(offered: &mut Option<Invocation>) -> Result<Invocation, Error> {
    offered
        .take()
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a call was offered that is taken"))
}

/// What belongs to one call and not to the instance.
#[derive(Clone)]
pub struct CallContext {
    /// What the call may reach, and where the guest's lines go.
    pub host: Arc<dyn Host>,
    /// The call, for what it asks of the host.
    pub caller: Caller,
}

impl CallContext {
    /// Where the guest's lines go.
    pub fn log(&self) -> Arc<dyn LogSink> {
        Arc::clone(&self.host) as Arc<dyn LogSink>
    }
}

impl std::fmt::Debug for CallContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallContext")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

//! What a node remembers of its functions, and where it keeps their code.

use std::path::PathBuf;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::Error;
use crate::name::FunctionName;
use crate::runtime::{BoxFuture, Image};
use crate::spec::FunctionSpec;

/// How many versions of a function are kept, the live one included.
pub const VERSIONS_KEPT: usize = 5;

/// A function as it is remembered: the versions that are kept, newest last, and which one is live.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionRecord {
    /// Full name.
    pub name: FunctionName,
    /// The number of the live version; one of `versions`.
    pub live: u32,
    /// Kept versions, by rising number.
    pub versions: Vec<Version>,
}

/// One version of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Counts up from 1 for each function, never reused while the function exists.
    pub number: u32,
    /// Limits and grants.
    pub spec: FunctionSpec,
    /// Its code.
    pub artifact: Digest,
    /// What the runtime made of it.
    pub image: Option<Image>,
    /// When it was deployed, milliseconds of Unix time. For people; nothing depends on it.
    pub deployed_ms: u64,
}

impl FunctionRecord {
    /// The live version.
    pub fn live(&self) -> Option<&Version> {
        self.versions
            .iter()
            .find(|version| version.number == self.live)
    }
}

/// The durable list of functions.
pub trait Registry: Send + Sync {
    /// Every function, by name. Called once at start.
    fn functions(&self) -> BoxFuture<'_, Result<Vec<FunctionRecord>, Error>>;

    /// Writes a function's record, replacing an older one whole. Durable on return: it survives a
    /// power cut. A full disk is `StorageFull`, and the older record stays.
    fn save(&self, record: FunctionRecord) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets a function. Durable on return; forgetting what is not there is fine.
    fn remove(&self, name: FunctionName) -> BoxFuture<'_, Result<(), Error>>;
}

/// The code of functions, as files named by their digest.
pub trait ArtifactStore: Send + Sync {
    /// Keeps bytes, and returns their digest. Durable on return, idempotent.
    fn put(&self, bytes: Bytes) -> BoxFuture<'_, Result<Digest, Error>>;

    /// Where the bytes are, if they are here.
    fn path(&self, digest: &Digest) -> Option<PathBuf>;

    /// Deletes what no function uses and is older than the grace that an upload gets. Returns how
    /// many files went.
    fn sweep<'a>(
        &'a self,
        used: &'a (dyn Fn(&Digest) -> bool + Sync),
    ) -> BoxFuture<'a, Result<usize, Error>>;
}

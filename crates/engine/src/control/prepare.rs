//! From a spec and a digest to code that is ready, and known to start.

use std::sync::Arc;

use mote_core::digest::Digest;
use mote_core::error::{Error, ErrorKind};
use mote_core::runtime::{Artifact, Image, Instance, Prepared, Runtime};
use mote_core::spec::{FunctionSpec, RuntimeKind};

use super::Control;
use super::identity::Identity;

impl Control {
    pub(super) async fn prepare(
        &self,
        spec: &FunctionSpec,
        digest: Digest,
        image: Option<Image>,
    ) -> Result<Arc<dyn Prepared>, Error> {
        let runtime = self.runtime(spec.runtime)?;
        let Some(path) = self.shared.parts.artifacts.path(&digest) else {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("artifact {} is not on this node", digest.short()),
            )
            .with_hint("upload it first: PUT /v1/artifacts/<digest>"));
        };
        runtime
            .prepare(
                &Arc::new(spec.clone()),
                &Artifact {
                    digest,
                    path,
                    image,
                },
            )
            .await
    }

    fn runtime(&self, kind: RuntimeKind) -> Result<&Arc<dyn Runtime>, Error> {
        self.shared.parts.runtimes.get(&kind).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("runtime `{}` is not available on this node", kind.label()),
            )
        })
    }

    /// Starts a version once before anything is changed, so that code that cannot start is refused
    /// at deploy and not at the first call. What was started becomes its first instance.
    pub(super) async fn check(
        &self,
        spec: &FunctionSpec,
        prepared: &Arc<dyn Prepared>,
        own: &Identity,
    ) -> Result<Arc<dyn Instance>, Error> {
        let memory = &self.shared.parts.memory;
        // An instance, or each of its calls: one of them must fit.
        let needs = match prepared.instances() {
            Some(_) => spec.limits.memory_bytes,
            None => 0,
        };
        if needs > memory.limit() {
            let message = format!(
                "function `{}` asks for {} MiB of memory, and this node has {} MiB for instances",
                spec.name,
                needs >> 20,
                memory.limit() >> 20
            );
            return Err(Error::new(ErrorKind::BadRequest, message).with_hint(
                "write a smaller `memory` in its manifest, or raise the node's `memory_bytes_max`",
            ));
        }
        let host = self.host(own, &Arc::new(spec.clone()));
        prepared
            .start(Arc::new(host))
            .await
            .map_err(|error| error.context(format_args!("function `{}`", spec.name)))
    }
}

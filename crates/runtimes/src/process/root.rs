//! A function's root in the sandbox of its app, kept for as long as something uses it.

use std::sync::Arc;

use mote_core::error::Error;

use crate::sandbox::Sandbox;
use crate::sandbox::root::{Root, RootId};

/// A root that was made.
#[derive(Debug)]
pub(super) struct SeatedRoot {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) id: RootId,
}

impl SeatedRoot {
    pub(super) async fn make(sandbox: Arc<Sandbox>, root: Root) -> Result<Self, Error> {
        let id = sandbox.add_root(root).await?;
        Ok(Self { sandbox, id })
    }
}

impl Drop for SeatedRoot {
    fn drop(&mut self) {
        let (sandbox, id) = (Arc::clone(&self.sandbox), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { sandbox.remove_root(id).await });
        }
    }
}

//! What stays the same over the versions of a function, and what a version may reach.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mote_core::invocation::FunctionId;
use mote_core::name::FunctionName;
use mote_core::spec::FunctionSpec;

use super::Control;
use crate::plan::{Entry, FunctionState};
use crate::siblings::FunctionHost;

/// What stays the same over the versions of a function.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) id: FunctionId,
    pub(super) state: Arc<FunctionState>,
}

impl Identity {
    /// That of a deployed function.
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            id: entry.id,
            state: Arc::clone(&entry.state),
        }
    }
}

impl Control {
    /// That of the deployed function of this name, or a new one's.
    pub(super) fn identity(&self, name: &FunctionName) -> Identity {
        let plan = self.shared.invoker.catalog();
        if let Some(entry) = plan.resolve(name.full()) {
            return Identity::of(entry);
        }
        Identity {
            id: FunctionId(self.shared.next_id.fetch_add(1, Ordering::Relaxed)),
            state: Arc::default(),
        }
    }

    /// What a version may reach.
    pub(super) fn host(&self, own: &Identity, spec: &Arc<FunctionSpec>) -> FunctionHost {
        FunctionHost::new(own.id, spec, &own.state.log, &self.shared.invoker)
    }
}

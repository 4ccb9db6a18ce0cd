//! Admission of one call: a permit of its function, and one of the node unless it has that already.

use std::sync::Arc;

use mote_core::error::Error;
use mote_core::host::Ancestors;

use super::Shared;
use super::call::Held;
use super::refusal::{circle, overloaded, throttled};
use crate::admission::Permit;
use crate::plan::Entry;
use crate::pool::Kept;
use crate::waits::{Hands, Place};

/// The permits of a call that runs.
pub(super) struct Admitted<'a> {
    function: Permit<'a>,
    /// A nested call runs under that of the call it comes from.
    node: Option<Permit<'a>>,
}

impl Shared {
    /// Admits a call from outside. Fails when a queue is full.
    pub(super) async fn admit<'a>(&'a self, entry: &'a Entry) -> Result<Admitted<'a>, Error> {
        let function = entry.gate.enter().await.map_err(|_| throttled(entry))?;
        let node = match self.gate.try_enter() {
            Some(node) => node,
            // Boxed, so that calls that do not wait do not carry the room for it along.
            None => Box::pin(self.wait_for_node(entry)).await?,
        };
        Ok(Admitted {
            function,
            node: Some(node),
        })
    }

    /// Holds a permit of the function meanwhile, which nested calls may wait for.
    async fn wait_for_node(&self, entry: &Entry) -> Result<Permit<'_>, Error> {
        let hands = Hands {
            waits: &self.waits,
            ancestors: None,
            permit: Some(entry.id),
            node: false,
        };
        let _waiting = hands.wait_for(Place::Node).map_err(|_| overloaded())?;
        self.gate.wait_outer().await.map_err(|_| overloaded())
    }

    /// Admits a call that others wait for: it needs no permit of the node, and waits for one of its
    /// function only if that cannot last for ever.
    pub(super) async fn admit_nested<'a>(
        &'a self,
        entry: &'a Entry,
        ancestors: &Ancestors,
    ) -> Result<Admitted<'a>, Error> {
        let function = match entry.gate.try_enter_nested() {
            Some(function) => function,
            None => {
                let hands = Hands {
                    waits: &self.waits,
                    ancestors: Some(ancestors),
                    permit: None,
                    node: true,
                };
                let wanted = Place::Permit(entry.id);
                let waiting = hands.wait_for(wanted);
                let _waiting = waiting.map_err(|_| circle(&entry.name, "place for a call"))?;
                entry
                    .gate
                    .wait_nested()
                    .await
                    .map_err(|_| throttled(entry))?
            }
        };
        Ok(Admitted {
            function,
            node: None,
        })
    }
}

impl Admitted<'_> {
    /// Whether the call had to wait for one of them.
    pub(super) fn waited(&self) -> bool {
        self.function.waited || self.node.as_ref().is_some_and(|node| node.waited)
    }

    /// Keeps them for a reply that is on its way, with the instance that writes it.
    pub(super) fn keep(self, entry: &Arc<Entry>, node: &Arc<Shared>, instance: Kept) -> Held {
        self.function.keep();
        let has_node = self.node.map(Permit::keep).is_some();
        Held {
            _instance: instance,
            entry: Arc::clone(entry),
            node: has_node.then(|| Arc::clone(node)),
        }
    }
}

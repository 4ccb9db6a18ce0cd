//! Who waits for what while it holds something, so that no calls wait for each other.
//!
//! Calls from outside wait for their function's permit with empty hands. Three kinds of calls wait
//! with something in them, and each registers here before it does:
//!
//! | who | holds | waits for |
//! | --- | --- | --- |
//! | a call from outside that found a permit of its function, on a full node | that permit | the node's permit |
//! | a nested call of a function that runs as many as it may | what its ancestors hold | a permit of its function |
//! | a call of a program whose instances are all busy | its permits, and what its ancestors hold | a slot of an instance |
//!
//! Calls can only wait for each other in a circle: each of them waits for a place (the node, a
//! function's permits, a function's slots) of which the next one holds a part. Whoever comes last
//! into such a circle finds all the others registered, because registering is one step under one
//! lock and nobody lets go of anything, or takes more, while it waits. It is refused instead, so
//! there never is a circle. Everything else that a call waits for (a guest that runs, a start, the
//! disk) ends by itself, so every call that waits here is reached in the end, or its budget ends.
//!
//! Places are told apart by function and not by version or single permit. That can refuse a wait
//! that would have ended, when another permit would have become free; it never allows one that
//! would not.
//!
//! Bounded by the queues of those that wait. Calls that do not wait do not come here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use mote_core::host::Ancestors;
use mote_core::invocation::FunctionId;

/// Something of which there is a limited number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// The node's permits.
    Node,
    /// A function's permits.
    Permit(FunctionId),
    /// Slots of a function's instances.
    Slot(FunctionId),
}

/// Everybody who waits with something in hand.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many hold the one and wait for the other.
    edges: BTreeMap<(Place, Place), u32>,
    /// How many wait for a place.
    wanted: BTreeMap<Place, u32>,
}

/// What a call holds. Cheap to make: nothing is looked at before it has to wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hands<'a> {
    pub(crate) waits: &'a Waits,
    /// The calls that wait for it, if it is nested.
    pub(crate) ancestors: Option<&'a Ancestors>,
    /// The function of which it holds a permit.
    pub(crate) permit: Option<FunctionId>,
    /// Whether the node has admitted it, or the call that it is nested in.
    pub(crate) node: bool,
}

/// One that waits; until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting<'a> {
    waits: &'a Waits,
    held: Vec<Place>,
    wanted: Place,
}

/// Waiting might never end: what is waited for is held by one that waits for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle;

impl<'a> Hands<'a> {
    /// Registers that the call waits, if that cannot last for ever.
    pub(crate) fn wait_for(&self, wanted: Place) -> Result<Waiting<'a>, Circle> {
        self.waits.register(self.places(), wanted)
    }

    /// The same for a slot of an instance of the function whose permit is held.
    pub(crate) fn wait_for_slot(&self) -> Result<Option<Waiting<'a>>, Circle> {
        let slot = self.permit.map(Place::Slot);
        slot.map(|slot| self.wait_for(slot)).transpose()
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        places.extend(self.node.then_some(Place::Node));
        places.extend(self.permit.map(Place::Permit));
        for function in self.ancestors.into_iter().flat_map(Ancestors::functions) {
            places.extend([Place::Permit(function), Place::Slot(function)]);
        }
        places.sort_unstable();
        places.dedup();
        places
    }
}

impl Waits {
    fn register(&self, held: Vec<Place>, wanted: Place) -> Result<Waiting<'_>, Circle> {
        let mut state = self.lock();
        if held.contains(&wanted) || state.leads_back(wanted, &held) {
            return Err(Circle);
        }
        for place in &held {
            *state.edges.entry((*place, wanted)).or_default() += 1;
        }
        *state.wanted.entry(wanted).or_default() += 1;
        drop(state);
        Ok(Waiting {
            waits: self,
            held,
            wanted,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        let state = self.lock();
        state.edges.is_empty() && state.wanted.is_empty()
    }
}

impl State {
    /// Whether one that holds a part of `wanted` waits, by way of others or not, for one of `held`.
    fn leads_back(&self, wanted: Place, held: &[Place]) -> bool {
        // Nearly always nobody waits for anything that is held.
        if !held.iter().any(|place| self.wanted.contains_key(place)) {
            return false;
        }
        let mut seen = BTreeSet::from([wanted]);
        let mut next = vec![wanted];
        while let Some(place) = next.pop() {
            let from_here = self.edges.range((place, Place::Node)..);
            let from_here = from_here.take_while(|((from, _), _)| *from == place);
            for ((_, to), _) in from_here {
                if held.contains(to) {
                    return true;
                }
                if seen.insert(*to) {
                    next.push(*to);
                }
            }
        }
        false
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.waits.lock();
        for place in &self.held {
            lower(&mut state.edges, &(*place, self.wanted));
        }
        lower(&mut state.wanted, &self.wanted);
    }
}

/// Takes one away; what is none any more is forgotten.
fn lower<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const A: FunctionId = FunctionId(1);
    const B: FunctionId = FunctionId(2);

    /// A chain of callers, innermost first.
    fn chain(functions: &[FunctionId]) -> Option<Arc<Ancestors>> {
        let outermost_first = functions.iter().rev();
        outermost_first.fold(None, |before, function| {
            Some(Arc::new(Ancestors {
                function: *function,
                before,
            }))
        })
    }

    fn nested<'a>(waits: &'a Waits, ancestors: Option<&'a Ancestors>) -> Hands<'a> {
        Hands {
            waits,
            ancestors,
            permit: None,
            node: true,
        }
    }

    #[test]
    fn two_that_call_each_other_do_not_both_wait() {
        let waits = Waits::default();
        let (from_a, from_b) = (chain(&[A]), chain(&[B]));
        let first = nested(&waits, from_a.as_deref()).wait_for(Place::Permit(B));
        let first = first.unwrap();
        // More of the same may wait as well.
        let same = nested(&waits, from_a.as_deref()).wait_for(Place::Permit(B));
        let other_way = || nested(&waits, from_b.as_deref()).wait_for(Place::Permit(A));
        assert_eq!(other_way().err(), Some(Circle));
        drop(first);
        assert_eq!(other_way().err(), Some(Circle));
        drop(same);
        drop(other_way().unwrap());
        assert!(waits.is_empty());
    }

    #[test]
    fn nobody_waits_for_an_ancestor() {
        let waits = Waits::default();
        let ancestors = chain(&[B, A]);
        let hands = nested(&waits, ancestors.as_deref());
        for place in [Place::Permit(A), Place::Permit(B), Place::Slot(A)] {
            assert_eq!(hands.wait_for(place).err(), Some(Circle));
        }
        assert!(waits.is_empty());
    }

    #[test]
    fn a_call_from_outside_that_waits_for_the_node_counts() {
        let waits = Waits::default();
        let from_a = chain(&[A]);
        // The permit of B is held by one that waits for the node, which the nested call holds.
        let outside = Hands {
            waits: &waits,
            ancestors: None,
            permit: Some(B),
            node: false,
        };
        let queued = outside.wait_for(Place::Node).unwrap();
        let hands = nested(&waits, from_a.as_deref());
        assert_eq!(hands.wait_for(Place::Permit(B)).err(), Some(Circle));
        drop(queued);
        // And the other way round.
        let waiting = hands.wait_for(Place::Permit(B)).unwrap();
        assert_eq!(outside.wait_for(Place::Node).err(), Some(Circle));
        drop(waiting);
        // Those that wait for a slot of the same program do not disturb each other.
        let busy = Hands {
            node: true,
            ..outside
        };
        let slots = [busy.wait_for(Place::Slot(B)), busy.wait_for(Place::Slot(B))];
        assert!(slots.iter().all(Result::is_ok));
        drop(slots);
        assert!(waits.is_empty());
    }

    proptest! {
        /// Any calls that come and go: those that wait never wait for each other. Checked with a
        /// closure that knows nothing of the way the circle is looked for.
        #[test]
        fn there_never_is_a_circle(steps in prop::collection::vec(
            (prop::collection::vec(0..5_u32, 0..4), 0..5_u32, 0..4_u8), 0..40,
        )) {
            let ancestors = |functions: &Vec<u32>| {
                let functions: Vec<_> = functions.iter().copied().map(FunctionId).collect();
                chain(&functions)
            };
            let chains: Vec<_> = steps.iter().map(|(functions, ..)| ancestors(functions)).collect();
            let waits = Waits::default();
            let mut waiting: Vec<Waiting<'_>> = Vec::new();
            for ((_, wanted, kind), ancestors) in steps.into_iter().zip(&chains) {
                let wanted = FunctionId(wanted);
                let hands = nested(&waits, ancestors.as_deref());
                let registered = match kind {
                    0 if !waiting.is_empty() => {
                        waiting.remove(wanted.0 as usize % waiting.len());
                        continue;
                    }
                    0 | 1 => hands.wait_for(Place::Permit(wanted)),
                    2 => Hands { permit: Some(wanted), ..hands }.wait_for(Place::Slot(wanted)),
                    _ => {
                        let root = Hands { permit: Some(wanted), node: false, ancestors: None, ..hands };
                        root.wait_for(Place::Node)
                    }
                };
                waiting.extend(registered);
                // Who can be served when everybody that waits for nobody is done?
                let mut left: Vec<&Waiting<'_>> = waiting.iter().collect();
                loop {
                    let stuck: Vec<_> = left
                        .iter()
                        .copied()
                        .filter(|one| left.iter().any(|other| other.held.contains(&one.wanted)))
                        .collect();
                    if stuck.len() == left.len() {
                        break;
                    }
                    left = stuck;
                }
                prop_assert!(left.is_empty(), "{left:?}");
            }
            waiting.clear();
            prop_assert!(waits.is_empty());
        }
    }
}

//! The pool of a version of a function: the instances that take its calls.
//!
//! A function that lives in the node has one instance (`single`), on the fast path. One that
//! lives outside of it, as processes or containers, has a [`group`] of them that comes and goes
//! with the load.

use std::sync::Arc;

use mote_core::error::Error;
use mote_core::runtime::{Instance, Prepared};
use tokio::time::Instant;

pub mod group;
mod member;
mod single;

use self::group::{Group, GroupParts, SeatLease};
use self::single::{Single, SingleLease};
use crate::waits::Hands;

/// The instances of one version of a function.
#[derive(Debug)]
pub enum Pool {
    /// One, in the node.
    Single(Single),
    /// Several, outside of it.
    Group(Group),
}

/// The right to use an instance for one call; given back on drop.
#[derive(Debug)]
pub enum Lease {
    /// Of the one in the node.
    Single(SingleLease),
    /// One slot of one of several.
    Seat(SeatLease),
}

/// What a call with a streamed reply holds of its instance until that has been read.
#[derive(Debug)]
pub enum Kept {
    /// The instance in the node.
    Single(KeptInstance),
    /// A slot.
    Seat(SeatLease),
}

/// An instance that is kept alive.
pub struct KeptInstance(#[expect(dead_code, reason = "kept for its drop")] Arc<dyn Instance>);

impl Pool {
    /// A pool of what was prepared, with nothing started.
    pub fn new(prepared: Arc<dyn Prepared>, parts: GroupParts, now: Instant) -> Self {
        match prepared.instances() {
            None => Self::Single(Single::new(prepared, now)),
            Some(instances) => Self::Group(Group::new(prepared, instances, parts)),
        }
    }

    /// A slot of an instance, started if need be. Fails with what starting fails with, and when a
    /// call with these hands may not wait. Cancel-safe.
    pub(crate) async fn lease(&self, now: Instant, hands: &Hands<'_>) -> Result<Lease, Error> {
        match self {
            Self::Single(single) => single.lease(now).await.map(Lease::Single),
            // Boxed, so that calls in the node do not carry the room for it along.
            Self::Group(group) => Box::pin(group.lease(hands)).await.map(Lease::Seat),
        }
    }

    /// Bytes that the instance in the node holds while idle; `None` when there is none.
    pub fn loaded_bytes(&self) -> Option<u64> {
        match self {
            Self::Single(single) => single.loaded_bytes(),
            Self::Group(_) => None,
        }
    }

    /// The instances outside of the node.
    pub fn group(&self) -> Option<&Group> {
        match self {
            Self::Single(_) => None,
            Self::Group(group) => Some(group),
        }
    }

    /// The instance in the node.
    pub fn single(&self) -> Option<&Single> {
        match self {
            Self::Single(single) => Some(single),
            Self::Group(_) => None,
        }
    }
}

impl Lease {
    /// What to call.
    pub fn instance(&self) -> &Arc<dyn Instance> {
        match self {
            Self::Single(lease) => lease.instance(),
            Self::Seat(lease) => lease.instance(),
        }
    }

    /// Whether the call had to wait for a start.
    pub fn is_cold(&self) -> bool {
        match self {
            Self::Single(lease) => lease.cold,
            Self::Seat(lease) => lease.cold,
        }
    }

    /// Whether the instance is one of several, which another may stand in for.
    pub fn is_seat(&self) -> bool {
        matches!(self, Self::Seat(_))
    }

    /// What a call with a streamed reply goes on holding.
    pub fn keep(self) -> Kept {
        match self {
            Self::Single(lease) => Kept::Single(KeptInstance(Arc::clone(lease.instance()))),
            Self::Seat(lease) => Kept::Seat(lease),
        }
    }
}

impl std::fmt::Debug for KeptInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptInstance").finish_non_exhaustive()
    }
}

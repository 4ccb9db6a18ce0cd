//! What the state machine asks of the engine and is told at once. A small trait, so that tests can
//! stand in for the engine.

use std::sync::Arc;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{FunctionId, InvocationId};
use mote_core::name::FunctionName;
use mote_engine::published::{Published, Resource};

/// The functions of this node.
pub trait Functions {
    /// The function of this name.
    fn resolve(&self, name: &str) -> Option<Function>;

    /// Shows every function, by name.
    fn links(&self, visit: &mut dyn FnMut(Link<'_>));

    /// A fresh id for a call.
    fn next_id(&self) -> InvocationId;

    /// Counts a request that was refused before it was a call.
    fn refused(&self, kind: ErrorKind);

    /// Begins to follow a published value, and returns the one there is. Following what is followed
    /// already only returns the value.
    fn watch(&mut self, resource: &Resource) -> Result<Option<Arc<Published>>, Error>;

    /// Follows it no more.
    fn unwatch(&mut self, resource: &Resource);
}

/// What the door needs to know about a function.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The plan's handle.
    pub id: FunctionId,
    /// Largest body, both ways.
    pub body_bytes: u64,
    /// Longest call.
    pub timeout: Duration,
    /// Whether it has published values.
    pub observable: bool,
}

/// A function as discovery shows it.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Full name.
    pub name: &'a FunctionName,
    /// Whether it has published values.
    pub observable: bool,
}

//! The brain of a node: every call goes through [`invoker::Invoker::invoke`], every change through
//! [`control::Control`].
//!
//! The data path reads an immutable [`plan::Plan`] and adds to per-function atomics; control loops
//! observe those, decide by pure functions and publish a new plan.
//!
//! What is not here: protocols, databases, runtimes. The engine knows them as traits of
//! `mote-core` and cannot name one.

pub mod admission;
mod bounded;
pub mod control;
pub mod eviction;
pub mod health;
pub mod invoker;
pub mod logs;
pub mod metrics;
pub mod outcome;
pub mod plan;
pub mod pool;
pub mod published;
pub mod scale;
pub mod scaler;
pub mod siblings;
mod spawned;
mod waits;

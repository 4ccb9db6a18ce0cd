//! The words of the domain: names, specs, invocations, errors, and the traits that parts implement.
//!
//! What is not here: I/O. This crate opens no file or socket, starts no thread and reads no clock,
//! so nothing in it can fail for a reason other than its input. It knows no runtime, database or
//! protocol by name.

pub mod body;
pub mod digest;
pub mod error;
pub mod host;
pub mod invocation;
pub mod key_value;
pub mod log;
pub mod memory;
pub mod name;
pub mod registry;
pub mod reply;
pub mod runtime;
pub mod secrets;
pub mod spec;

//! The ways to run code: [`wasm`] in the node itself, [`process`] in a sandbox of this system,
//! [`container`] in an engine, and a scripted [`fake`] for tests.
//!
//! What is not here: when and how often code runs. A runtime makes code ready and serves calls; how
//! many at once, for how long and on whose behalf is decided above it.

pub mod container;
pub mod fake;
pub mod process;
pub mod wasm;

pub mod contract;
pub mod environment;
pub mod heap;
mod origin;
pub mod sandbox;
pub mod tree;
pub mod trees;

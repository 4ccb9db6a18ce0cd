//! The ways to run code: [`wasm`] in the node itself, and a scripted [`fake`] for tests.
//!
//! What is not here: when and how often code runs. A runtime makes code ready and serves calls; how
//! many at once, for how long and on whose behalf is decided above it.

pub mod fake;
pub mod wasm;

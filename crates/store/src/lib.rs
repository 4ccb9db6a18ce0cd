//! What a node keeps on its disk: the data folder, the registry of functions with their secrets,
//! their artifacts, and the key-value data of apps.
//!
//! What is not here: decisions. This crate writes what it is given and says whether it is durable;
//! which version is live, what may be deleted and what a spec means is decided elsewhere. It is the
//! only crate that knows the embedded database, and no type of it shows in a public signature.
//!
//! The promise, tested with `kill -9` and with storage that loses what was not synced: what was
//! acknowledged survives a power cut whole, and what was not is there whole or not at all. For
//! key-value data an app may choose less, see [`key_value`].

pub mod data_dir;

pub mod registry;

pub mod secrets;

pub mod artifacts;

pub mod key_value;

mod database;

mod failure;

#[cfg(test)]
mod power_cut;

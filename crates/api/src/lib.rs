//! The admin API's wire types, the manifest, and small clients of a node: what the admin door, the
//! command line and the testbed share.
//!
//! What is not here: any server, any decision about a call, and any file but those a caller names.
//! Domain types do not derive serialisation; the types here do, and convert.

pub mod client;
pub mod coap;
pub mod manifest;
pub mod nearest;
pub mod problem;
pub mod recorded;
pub mod spec;
pub mod units;
pub mod wire;

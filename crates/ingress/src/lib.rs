//! The doors: bytes from the network become invocations, replies become bytes again.
//!
//! What is not here: any decision about a call. Doors know names, limits and protocols; admission,
//! routing and running are the engine's. The admin API is the one door that holds a `Control`.

pub mod admin;
pub mod coap;
pub mod http;
pub mod workers;

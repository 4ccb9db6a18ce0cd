//! How the node talks to a program that runs: a process in its sandbox, or a container.
//!
//! Three ways, called contracts: [`http`] to a program that listens, [`lambda`] for one that asks
//! for calls, and the variables of [`headers`] for one that is started for each call. [`egress`] is
//! the program's way out, and [`inward`] what it may ask of its node. Nothing here starts or ends programs.

mod accept;
pub mod egress;
pub mod headers;
pub mod http;
pub mod inward;
pub mod lambda;
pub mod zygote;

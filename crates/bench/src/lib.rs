//! The testbed: measures how well a node, or anything else that speaks HTTP or CoAP, does its work.
//!
//! A promise about speed is worth something only when anybody can repeat the measurement, so the load generator, the
//! servers that results are compared with and the table of promised ratios ship with the product.
//! `load` drives one server, `baseline` is the least that any server on the same libraries must cost, `compare`
//! holds a node against those, and `programs` holds what it does for programs and containers against the bare program.
//! `link` puts an emulated network between hosts or sockets. `results` is what an experiment leaves, `report` what is made of it.
//!
//! What is not here: anything that knows how a node works inside. The testbed sees what a client sees, and what the
//! kernel says about the process it measures.

pub mod load;

pub mod baseline;
pub mod compare;
pub mod languages;
pub mod programs;

pub mod link;
pub mod report;
pub mod results;
pub mod testbed;

mod cgroup;
mod poller;
mod process;

pub mod environment;
pub mod footprint;

//! The load generator against real servers in this process: the baselines, and servers that misbehave on purpose.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

mod servers;

mod blocks;
mod coap;
mod http2;
mod operations;
mod outcomes;
mod schedules;

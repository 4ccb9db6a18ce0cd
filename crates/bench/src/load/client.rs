//! What a protocol has to do for the loop of a load thread, and what the thread lends it.

use std::time::Instant;

use anyhow::Result;

use super::poller::Poller;
use super::tally::{Outcome, Wire};

/// Datagrams and reads go through one buffer per thread.
const SCRATCH_BYTES: usize = 64 << 10;

/// What the clients of one thread share.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) poller: Poller,
    pub(super) scratch: Vec<u8>,
    pub(super) wire: Wire,
}

impl Lane {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            scratch: vec![0; SCRATCH_BYTES],
            wire: Wire::default(),
        })
    }
}

/// One request to send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job {
    pub(super) now: Instant,
    pub(super) deadline: Instant,
    /// It goes on with a chain: its body is that of the last reply.
    pub(super) follows: bool,
    /// The function of a trace that it calls.
    pub(super) function: u32,
}

/// One connection or socket to one target. Each method may end the request in flight; then it returns how.
pub(super) trait Client {
    /// Sends a request.
    fn begin(&mut self, lane: &mut Lane, job: Job) -> Option<Outcome>;
    /// The socket may be readable or writable.
    fn ready(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// The time of [`Client::next_wake`] has come.
    fn wake(&mut self, lane: &mut Lane, now: Instant) -> Option<Outcome>;
    /// When to wake the client if nothing arrives.
    fn next_wake(&self) -> Option<Instant>;
}

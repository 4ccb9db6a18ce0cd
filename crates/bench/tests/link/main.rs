//! Emulated links as sockets see them: between hosts, which need root and `/dev/net/tun`, and relays, which do not.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail where they are")]

mod accuracy;

mod command;
mod hosts;
mod relay;

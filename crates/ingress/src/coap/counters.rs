//! What the door counts, for the metrics page. Atomics that all shards share; read at any time.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident;)*) => {
        /// The door's counters. Those that end in `_now` rise and fall.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[doc = $doc])* pub $name: Count,)* }

        impl Counters {
            /// Name, description and value of each.
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($doc),*), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Datagrams received.
    datagrams_in;
    /// Datagrams sent.
    datagrams_out;
    /// Datagrams that are no messages, and messages that nobody waits for.
    malformed;
    /// Requests that were copies of earlier ones.
    duplicates;
    /// Requests handed to functions.
    calls;
    /// Copies whose reply was forgotten already.
    refused_reply_gone;
    /// Requests refused because no more can be remembered.
    refused_facts;
    /// Requests refused because too many calls are under way.
    refused_calls;
    /// Blocks refused because too many uploads are under way.
    refused_uploads;
    /// Replies that were larger than what may be kept for block-wise transfer.
    refused_transfers;
    /// Observations answered once only, because there are too many.
    refused_observers;
    /// Confirmable messages that were sent once only, because too many are under way.
    refused_exchanges;
    /// Datagrams larger than what is received at once.
    refused_datagrams;
    /// Datagrams not sent because the socket did not take them.
    dropped_out;
    /// Datagrams that the kernel dropped before they were received.
    dropped_in;
    /// Requests of unverified addresses that were asked for an Echo, or too short to be.
    challenged;
    /// Empty acknowledgements ahead of separate responses.
    separate;
    /// Confirmable messages sent again.
    retransmissions;
    /// Confirmable messages that nobody acknowledged.
    given_up;
    /// Notifications sent to observers.
    notifications;
    /// Observers registered.
    observers_now;
    /// Requests put together from blocks.
    uploads;
    /// Replies cut into blocks.
    transfers;
    /// Bytes of the tables against running twice.
    dedup_bytes_now;
}

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    #[inline]
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// From one value of this shard to another.
    pub fn shift(&self, from: usize, to: usize) {
        // Wrapping: the sum over all shards is never negative.
        let (from, to) = (from as u64, to as u64);
        self.0.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

//! Whose socket it is that became ready, as the poller knows it: a number.

/// There are far fewer clients, and fewer targets than the other bits can tell apart.
const CLIENT_BITS: u32 = 32;
const CLIENT_MASK: u64 = u32::MAX as u64;

/// Whose socket it is: which client of the thread, and which of its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) client: usize,
    pub(super) target: usize,
}

impl From<Place> for u64 {
    fn from(place: Place) -> Self {
        (place.target as u64) << CLIENT_BITS | place.client as u64
    }
}

impl From<u64> for Place {
    fn from(token: u64) -> Self {
        Self {
            client: usize::try_from(token & CLIENT_MASK).unwrap_or(usize::MAX),
            target: usize::try_from(token >> CLIENT_BITS).unwrap_or(usize::MAX),
        }
    }
}

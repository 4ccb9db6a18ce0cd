//! Block-wise transfers (RFC 7959): bodies that are larger than a datagram, both ways.
//!
//! Uploads are put together in [`Assemblies`], and replies are cut up from [`Transfers`]. Both are
//! bounded by count, by count for one endpoint, and by bytes, and both let go of what was idle for
//! longer than a client keeps trying.

mod assembly;
mod transfer;

pub use assembly::{Assemblies, Bounds, Part, Refusal};
pub use transfer::{Transfer, Transfers};

use crate::coap::Time;

/// How long an unfinished transfer is kept after its last block: MAX_TRANSMIT_WAIT, the longest that
/// a client waits for an answer before it gives up (RFC 7252 §4.8.2).
pub const IDLE_MS: Time = 93_000;

/// The value of a Block1 or Block2 option (RFC 7959 §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Which block.
    pub number: u32,
    /// Whether others follow.
    pub more: bool,
    /// The size's exponent, 0 (16 bytes) to 6 (1024 bytes).
    pub exponent: u8,
}

impl Block {
    /// Reads the option. The size 7 is reserved, and so refused.
    pub fn from_option(value: u32) -> Option<Self> {
        let exponent = value.to_be_bytes()[3] & 0b111;
        (exponent < 7 && value < 1 << 24).then_some(Self {
            number: value >> 4,
            more: value & 0b1000 != 0,
            exponent,
        })
    }

    /// The option's value.
    pub fn to_option(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent)
    }

    /// Bytes of each block.
    pub fn size(self) -> usize {
        16 << self.exponent
    }

    /// Where in the body the block begins.
    pub fn offset(self) -> usize {
        usize::try_from(self.number).expect("20 bits") << (self.exponent + 4)
    }
}

/// The exponent of the largest block that is not larger than `size` bytes.
pub fn exponent(size: u16) -> u8 {
    u8::try_from(size.clamp(16, 1024).ilog2() - 4).expect("at most 6")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_both_ways() {
        for value in 0..1_u32 << 12 {
            match Block::from_option(value) {
                Some(block) => assert_eq!(block.to_option(), value),
                None => assert_eq!(value & 7, 7),
            }
        }
        assert_eq!(Block::from_option(1 << 24), None);
        assert_eq!((exponent(16), exponent(1000), exponent(1024)), (0, 5, 6));
    }
}

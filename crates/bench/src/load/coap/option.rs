//! The options of CoAP that a load client writes or reads, and the values they hold.

/// RFC 7252 §5.10.
pub(super) const URI_HOST: u16 = 3;
pub(super) const ETAG: u16 = 4;
pub(super) const URI_PATH: u16 = 11;
pub(super) const URI_QUERY: u16 = 15;
/// RFC 7959 §2.1 and §4.
pub(super) const BLOCK2: u16 = 23;
pub(super) const BLOCK1: u16 = 27;
pub(super) const SIZE1: u16 = 60;
/// RFC 9175 §3.2.
pub(super) const REQUEST_TAG: u16 = 292;

/// The value of a Block1 or Block2 option (RFC 7959 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u32,
    pub(super) more: bool,
    /// Blocks have `16 << exponent` bytes.
    pub(super) exponent: u8,
}

impl Block {
    /// 1,024 bytes.
    pub(super) const EXPONENT_MAX: u8 = 6;

    /// Reads the option. Three bytes hold 20 bits of number; the exponent 7 is reserved.
    pub(super) fn from_option(value: &[u8]) -> Option<Self> {
        if value.len() > 3 {
            return None;
        }
        let value = value
            .iter()
            .fold(0, |number, &byte| number << 8 | u32::from(byte));
        let exponent = value.to_be_bytes()[3] & 0b111;
        (exponent <= Self::EXPONENT_MAX).then_some(Self {
            number: value >> 4,
            more: value & 0b1000 != 0,
            exponent,
        })
    }

    pub(super) fn to_option(self) -> Uint {
        Uint::new(self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent))
    }

    /// Where in the body it starts.
    pub(super) fn start(self) -> usize {
        usize::try_from(self.number).expect("20 bits") << (self.exponent + 4)
    }
}

/// A number as the value of an option: without zeros in front (RFC 7252 §3.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Uint {
    bytes: [u8; 4],
    zeros: usize,
}

impl Uint {
    pub(super) fn new(number: u32) -> Self {
        let zeros = usize::try_from(number.leading_zeros() / 8).expect("at most 4");
        Self {
            bytes: number.to_be_bytes(),
            zeros,
        }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.zeros..]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn blocks_go_both_ways(number in 0u32..1 << 20, more in any::<bool>(), exponent in 0u8..=6) {
            let block = Block { number, more, exponent };
            prop_assert_eq!(Block::from_option(block.to_option().as_slice()), Some(block));
            prop_assert_eq!(block.start(), (number as usize) * (16 << exponent));
        }
    }

    #[test]
    fn refuses_what_is_no_block() {
        assert_eq!(Block::from_option(&[7]), None);
        assert_eq!(Block::from_option(&[0; 4]), None);
        assert_eq!(Block::from_option(&[]).unwrap().number, 0);
        assert!(Uint::new(0).as_slice().is_empty());
        assert_eq!(Uint::new(256).as_slice(), [1, 0]);
    }
}

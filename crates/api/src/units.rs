//! Sizes and durations as people write them: `64MiB`, `10s`.
//!
//! Both print in the largest unit that divides them, so what is printed parses back to the same
//! value. Longer texts than any value needs are refused unread.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use mote_core::error::{Error, ErrorKind};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// Longest text of a size or a duration.
const TEXT_BYTES_MAX: usize = 64;

/// A number of bytes: `64MiB`, `1kB`, or a plain number.
///
/// ```
/// use mote_api::units::Size;
/// assert_eq!("64MiB".parse::<Size>().unwrap(), Size(64 << 20));
/// assert_eq!(Size(1536).to_string(), "1536B");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, example = "64MiB")]
pub struct Size(pub u64);

const SIZE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS[..3]
            .iter()
            .find(|(_, unit)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match binary {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: &str| {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{}` is not a size: {why}", shown(text)),
            )
            .with_hint("write a number and a unit, such as \"64MiB\", \"512KiB\" or \"1MB\"")
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = match number.parse() {
            Ok(number) => number,
            Err(_) if digits == 0 => return Err(bad("it does not start with a number")),
            Err(_) => return Err(bad("the number is too large")),
        };
        let unit = unit.trim();
        let factor = if unit.is_empty() {
            1
        } else {
            SIZE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, factor)| *factor)
                .ok_or_else(|| bad("the unit is not one of B, KiB, MiB, GiB, kB, MB, GB"))?
        };
        number
            .checked_mul(factor)
            .map(Self)
            .ok_or_else(|| bad("the number is too large"))
    }
}

/// A length of time: `10s`, `250ms`, `1h 30m`.
///
/// ```
/// use mote_api::units::Period;
/// use std::time::Duration;
/// assert_eq!("1m 30s".parse::<Period>().unwrap().0, Duration::from_secs(90));
/// assert_eq!(Period(Duration::from_millis(1500)).to_string(), "1500ms");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ToSchema)]
#[schema(value_type = String, example = "10s")]
pub struct Period(pub Duration);

const PERIOD_UNITS: [(&str, u128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match PERIOD_UNITS
            .iter()
            .find(|(_, unit)| nanos != 0 && nanos.is_multiple_of(*unit))
        {
            Some((name, unit)) => write!(f, "{}{name}", nanos / unit),
            None => f.write_str("0s"),
        }
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |why: Cow<'_, str>| {
            Error::new(
                ErrorKind::BadRequest,
                format!("`{}` is not a duration: {why}", shown(text)),
            )
            .with_hint("write a number and a unit, such as \"10s\", \"250ms\" or \"5m\"")
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(bad("it is too long".into()));
        }
        humantime::parse_duration(text.trim())
            .map(Self)
            .map_err(|error| bad(error.to_string().into()))
    }
}

fn shown(text: &str) -> String {
    let start: String = text.chars().take(TEXT_BYTES_MAX).collect();
    start.escape_debug().to_string()
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64MiB\", or a number of bytes")
    }

    fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
        Ok(Size(bytes))
    }

    fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
        u64::try_from(bytes)
            .map(Size)
            .map_err(|_| E::custom(format!("a size cannot be negative ({bytes})")))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(|error| E::custom(error))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeriodVisitor)
    }
}

struct PeriodVisitor;

impl Visitor<'_> for PeriodVisitor {
    type Value = Period;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"10s\"")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Period, E> {
        text.parse().map_err(|error| E::custom(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_in_every_unit() {
        for (text, expect) in [
            ("0", 0),
            ("17", 17),
            ("64MiB", 64 << 20),
            ("64 mib", 64 << 20),
            ("1kB", 1000),
            ("2GB", 2_000_000_000),
            ("4GiB", 4 << 30),
        ] {
            assert_eq!(text.parse::<Size>().expect(text).0, expect);
        }
        for text in ["", "MiB", "-1", "1.5MiB", "64M", "99999999999GiB", "1 2"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_without_unit_is_no_duration() {
        assert!("10".parse::<Period>().is_err());
        assert!(serde_json::from_str::<Period>("10").is_err());
        assert_eq!(serde_json::from_str::<Size>("10").unwrap(), Size(10));
    }

    proptest! {
        #[test]
        fn a_printed_size_parses_back(bytes in any::<u64>(), shift in 0u32..40) {
            for size in [Size(bytes), Size(bytes >> shift << shift)] {
                prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
            }
        }

        #[test]
        fn a_printed_duration_parses_back(secs in 0u64..1 << 32, nanos in 0u32..1_000_000_000) {
            for period in [Duration::new(secs, nanos), Duration::from_secs(secs), Duration::from_millis(secs)] {
                prop_assert_eq!(Period(period).to_string().parse::<Period>().unwrap().0, period);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,80}", number in "[0-9]{0,25} ?[a-zA-Z]{0,4}") {
            for text in [&text, &number] {
                let _ = text.parse::<Size>();
                let _ = text.parse::<Period>();
            }
        }
    }
}

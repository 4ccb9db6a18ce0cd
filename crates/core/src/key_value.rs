//! Key-value data: small values that the functions of an app share and that outlive their calls.
//!
//! A value is found by app, bucket and key. Apps share nothing. A bucket is a name space of its app
//! that needs no making: it is there as long as it has a key. What an app may keep is bounded in
//! keys and in bytes, and every name and value on its own by the constants here; what is over a
//! bound is refused by name and leaves the old value as it was.
//!
//! How long a write takes to be safe from a power cut is the app's choice and the store's business.
//! In every case a write that returned is seen by every read that begins after it, of any function.

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::name::AppName;
use crate::runtime::BoxFuture;

/// The bucket of functions that name none.
pub const DEFAULT_BUCKET: &str = "default";
/// Longest bucket name, a DNS label as far as length goes (RFC 1035 §2.3.4).
pub const BUCKET_LENGTH_MAX: usize = 63;
/// Longest key, in bytes of UTF-8: room for a path or a topic, and far below a page of the disk.
pub const KEY_BYTES_MAX: usize = 512;
/// Largest value. Larger things are files, and belong behind a function of their own.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// What every key costs beside its own bytes and those of its value: the names of app and bucket,
/// and the database's own lists.
pub const KEY_OVERHEAD_BYTES: u64 = 64;
/// Most keys of one page of a list; who asks for more gets so many.
pub const PAGE_KEYS_MAX: u32 = 1000;

/// The data that functions read and write.
///
/// Errors of every method: `BadRequest` for a name that is not valid, `Overloaded` when too much is
/// asked at once, `StorageFull` when the disk is full, `Internal` when it fails. A write that was
/// refused leaves the old value; after one that the disk failed it is the old one or the new one.
///
/// Dropping a future of a write leaves it open whether the write happens.
pub trait KeyValue: Send + Sync {
    /// The value of a key.
    fn get<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>>;

    /// Sets a key. `TooLarge` for a value over [`VALUE_BYTES_MAX`], `StorageFull` when the app has
    /// no room left.
    fn set<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        value: Bytes,
    ) -> BoxFuture<'a, Result<(), Error>>;

    /// Removes a key, and says whether it was there.
    fn delete<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, Error>>;

    /// Adds to a number and returns the sum, with nothing in between. See [`incremented`] for what
    /// a number is; a key that is not there counts as 0 and is made. `StorageFull` as for `set`.
    fn increment<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        by: i64,
    ) -> BoxFuture<'a, Result<i64, Error>>;

    /// Sets a key if its value is the expected one, `None` being a key that is not there, and says
    /// whether it was; with nothing in between. Errors as for `set`.
    fn swap<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        key: &'a str,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> BoxFuture<'a, Result<bool, Error>>;

    /// A page of a bucket's keys in the order of their bytes: those after a key, or from the first.
    /// The key need not be there (any more). At most `max` keys, and at most [`PAGE_KEYS_MAX`]; at
    /// least one if there is one. A bucket without keys is an empty page.
    fn list<'a>(
        &'a self,
        app: &'a AppName,
        bucket: &'a str,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>>;
}

/// Some keys of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPage {
    /// In the order of their bytes.
    pub keys: Vec<String>,
    /// Where the next page begins: the last key of this one, to be given as `after`. `None` when
    /// there are no more keys.
    pub next: Option<String>,
}

/// What people do with the data of apps, beside reading and writing it.
pub trait KeyValueAdmin: KeyValue {
    /// Every app that has keys, by name, with what it keeps. Cheap: nothing is read.
    fn usage(&self) -> Vec<(AppName, Usage)>;

    /// A page of an app's buckets, as [`KeyValue::list`] gives keys.
    fn buckets<'a>(
        &'a self,
        app: &'a AppName,
        after: Option<&'a str>,
        max: u32,
    ) -> BoxFuture<'a, Result<KeyPage, Error>>;

    /// Removes every key of a bucket, or of the app, and returns how many there were. Works in
    /// steps, so that others are not held up: after an error some are gone and the rest are there,
    /// and keys that are written meanwhile may be gone or not. On the disk when it returns.
    fn clear<'a>(
        &'a self,
        app: &'a AppName,
        bucket: Option<&'a str>,
    ) -> BoxFuture<'a, Result<u64, Error>>;
}

/// What an app keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Keys in all buckets.
    pub keys: u64,
    /// Bytes of keys and values, and [`KEY_OVERHEAD_BYTES`] for each key.
    pub bytes: u64,
}

/// What one key counts against an app's bytes.
///
/// ```
/// use mote_core::key_value::cost;
/// assert_eq!(cost("name", 6), 4 + 6 + 64);
/// ```
pub fn cost(key: &str, value_bytes: usize) -> u64 {
    key.len() as u64 + value_bytes as u64 + KEY_OVERHEAD_BYTES
}

/// Checks a bucket's name: 1 to 63 lower-case letters, digits and hyphens. Fails with `BadRequest`.
///
/// ```
/// use mote_core::key_value::check_bucket;
/// assert!(check_bucket("default").is_ok() && check_bucket("2026-11").is_ok());
/// assert!(check_bucket("").is_err() && check_bucket("My bucket").is_err());
/// ```
pub fn check_bucket(bucket: &str) -> Result<(), Error> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=BUCKET_LENGTH_MAX).contains(&bucket.len()) && bucket.bytes().all(letter) {
        return Ok(());
    }
    let message = format!("bucket name `{}` is not valid", shown(bucket));
    Err(Error::new(ErrorKind::BadRequest, message)
        .with_hint("use 1 to 63 lower-case letters, digits and hyphens"))
}

/// Checks a key: any text of 1 to [`KEY_BYTES_MAX`] bytes. Fails with `BadRequest`.
pub fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::new(ErrorKind::BadRequest, "the key is empty")),
        1..=KEY_BYTES_MAX => Ok(()),
        length => Err(Error::new(
            ErrorKind::BadRequest,
            format!(
                "key `{}` has {length} bytes: the limit is {KEY_BYTES_MAX} bytes",
                shown(key)
            ),
        )),
    }
}

/// Checks the size of a key's value. Fails with `TooLarge`, naming the key.
///
/// ```
/// use mote_core::key_value::check_value;
/// let error = check_value("x", 70_000).unwrap_err();
/// assert_eq!(error.message(), "value of 70000 bytes for key `x`: the limit is 65536 bytes");
/// ```
pub fn check_value(key: &str, bytes: usize) -> Result<(), Error> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!(
            "value of {bytes} bytes for key `{}`: the limit is {VALUE_BYTES_MAX} bytes",
            shown(key)
        ),
    ))
}

/// What an increment makes of a value.
///
/// A number is decimal text of a 64-bit signed integer, as `set` would write it for a person:
/// `42`, `-7`; a sign and zeros in front are read and not written back. A key that is not there
/// counts as 0. A value that is no number, or a sum that has no room in 64 bits, is a `BadRequest`
/// that names the key, and the value stays.
///
/// ```
/// use mote_core::key_value::incremented;
/// assert_eq!(incremented("visits", None, 1).unwrap(), 1);
/// assert_eq!(incremented("visits", Some(b"41"), 1).unwrap(), 42);
/// let error = incremented("visits", Some(b"many"), 1).unwrap_err();
/// assert_eq!(error.message(), "the value of key `visits` is not a number: it cannot be incremented");
/// ```
pub fn incremented(key: &str, value: Option<&[u8]>, by: i64) -> Result<i64, Error> {
    let bad = |what: &str| {
        let message = format!("the value of key `{}` {what}", shown(key));
        Error::new(ErrorKind::BadRequest, message)
    };
    let number = match value {
        None => 0,
        Some(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| {
                bad("is not a number: it cannot be incremented")
                    .with_hint("set it to decimal text such as `0` first")
            })?,
    };
    number
        .checked_add(by)
        .ok_or_else(|| bad(&format!("is {number}: adding {by} leaves 64 bits")))
}

/// The beginning of a name, printable, for messages.
fn shown(name: &str) -> String {
    let some: String = name.chars().take(BUCKET_LENGTH_MAX + 1).collect();
    let more = if some.len() < name.len() { "…" } else { "" };
    format!("{}{more}", some.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        assert!(check_bucket(&"b".repeat(63)).is_ok());
        assert!(check_bucket(&"b".repeat(64)).is_err());
        assert!(check_key(&"k".repeat(512)).is_ok());
        assert!(check_key(&"k".repeat(513)).is_err());
        assert!(check_key("").is_err());
        assert!(check_value("k", 65_536).is_ok());
        let error = check_value("k", 65_537).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_sum_without_room_is_refused() {
        for (value, by) in [(i64::MAX, 1), (i64::MIN, -1), (1, i64::MAX)] {
            let text = value.to_string();
            let error = incremented("n", Some(text.as_bytes()), by).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadRequest);
            assert!(error.message().contains("key `n`"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_what_the_pattern_says(name in "\\PC{0,70}|[a-z0-9-]{0,70}") {
            let pattern = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
            let valid = name.chars().all(pattern) && (1..=63).contains(&name.len());
            prop_assert_eq!(check_bucket(&name).is_ok(), valid);
        }

        #[test]
        fn a_refusal_is_short_and_printable(name in "(?s).{0,2000}") {
            let refusals = [
                check_bucket(&name).err(),
                check_key(&name).err(),
                check_value(&name, VALUE_BYTES_MAX + 1).err(),
                incremented(&name, Some(b"x"), 1).err(),
            ];
            for error in refusals.into_iter().flatten() {
                prop_assert!(error.message().len() < 1000);
                prop_assert!(!error.message().contains(|c: char| c.is_control()));
            }
        }

        #[test]
        fn increments_add_up(start: i64, by: i64) {
            let text = start.to_string();
            let sum = incremented("n", Some(text.as_bytes()), by).ok();
            prop_assert_eq!(sum, start.checked_add(by));
        }

        #[test]
        fn only_numbers_are_incremented(value in prop::collection::vec(any::<u8>(), 0..24)) {
            let number = String::from_utf8(value.clone()).ok().and_then(|text| text.parse::<i64>().ok());
            prop_assert_eq!(incremented("n", Some(&value), 0).ok(), number);
        }
    }
}

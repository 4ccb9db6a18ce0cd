//! Data that outlives a call, shared by the functions of an app. Needs `allow.keyvalue = true`.
//!
//! ```no_run
//! use mote_function::keyvalue;
//!
//! fn visits() -> Result<i64, keyvalue::Error> {
//!     keyvalue::open("default")?.increment("visits", 1)
//! }
//! ```

use std::fmt;

use crate::bindings::wasi::keyvalue::{atomics, store};

/// A name space of keys; `default` is always there.
#[derive(Debug)]
pub struct Bucket(store::Bucket);

/// Why data could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no bucket of this name.
    NoSuchBucket,
    /// The manifest does not grant it.
    Denied,
    /// A limit, or a fault of the node, in its words.
    Other(String),
}

/// Keys of a bucket, and where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Some keys.
    pub keys: Vec<String>,
    /// What the next call of [`Bucket::keys`] takes; `None` after the last key.
    pub cursor: Option<String>,
}

/// A value that is to be replaced; see [`Bucket::swap`].
#[derive(Debug)]
pub struct Swap(atomics::Cas);

/// Opens a bucket: `default`, or another name of lower-case letters, digits and hyphens.
pub fn open(bucket: &str) -> Result<Bucket, Error> {
    Ok(Bucket(store::open(bucket)?))
}

impl Bucket {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(key)?)
    }

    /// The value of a key as text; what is not UTF-8 is replaced.
    pub fn get_text(&self, key: &str) -> Result<Option<String>, Error> {
        let value = self.get(key)?;
        Ok(value.map(|value| String::from_utf8_lossy(&value).into_owned()))
    }

    /// Writes a value.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), Error> {
        Ok(self.0.set(key, value.as_ref())?)
    }

    /// Removes a key; one that is not there is no error.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.0.delete(key)?)
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        Ok(self.0.exists(key)?)
    }

    /// Adds to a number, which begins at zero, and gives what it is then. No other call comes in between.
    pub fn increment(&self, key: &str, by: i64) -> Result<i64, Error> {
        Ok(atomics::increment(&self.0, key, by)?)
    }

    /// Some of the keys; `None` begins.
    pub fn keys(&self, cursor: Option<&str>) -> Result<Page, Error> {
        let page = self.0.list_keys(cursor)?;
        Ok(Page {
            keys: page.keys,
            cursor: page.cursor,
        })
    }

    /// Reads a value in order to replace it with [`Swap::set`], if nobody else did meanwhile.
    ///
    /// ```no_run
    /// use mote_function::keyvalue;
    ///
    /// fn add_line(line: &str) -> Result<(), keyvalue::Error> {
    ///     let bucket = keyvalue::open("default")?;
    ///     let mut swap = bucket.swap("lines")?;
    ///     loop {
    ///         let mut lines = swap.current()?.unwrap_or_default();
    ///         lines.extend_from_slice(line.as_bytes());
    ///         match swap.set(lines)? {
    ///             None => return Ok(()),
    ///             Some(again) => swap = again,
    ///         }
    ///     }
    /// }
    /// ```
    pub fn swap(&self, key: &str) -> Result<Swap, Error> {
        Ok(Swap(atomics::Cas::new(&self.0, key)?))
    }

    /// The value of a key, from JSON.
    #[cfg(feature = "json")]
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let value = self.get(key)?;
        let read = value
            .map(|value| serde_json::from_slice(&value))
            .transpose();
        read.map_err(|error| Error::Other(format!("the value of key `{key}`: {error}")))
    }

    /// Writes a value as JSON.
    #[cfg(feature = "json")]
    pub fn set_json<T: serde::Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
    ) -> Result<(), Error> {
        let text = serde_json::to_vec(value)
            .map_err(|error| Error::Other(format!("the value of key `{key}`: {error}")))?;
        self.set(key, text)
    }
}

impl Swap {
    /// The value as it was read; `None` when the key was not there.
    pub fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.current()?)
    }

    /// Writes a value if the key still has the one that was read. Otherwise gives what to try again with.
    pub fn set(self, value: impl AsRef<[u8]>) -> Result<Option<Self>, Error> {
        match atomics::swap(self.0, value.as_ref()) {
            Ok(()) => Ok(None),
            Err(atomics::CasError::CasFailed(again)) => Ok(Some(Self(again))),
            Err(atomics::CasError::StoreError(error)) => Err(error.into()),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchBucket,
            store::Error::AccessDenied => Self::Denied,
            store::Error::Other(words) => Self::Other(words),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBucket => f.write_str("there is no bucket of this name"),
            Self::Denied => f.write_str(
                "key-value data is not granted: write allow.keyvalue = true into mote.toml",
            ),
            Self::Other(words) => f.write_str(words),
        }
    }
}

impl std::error::Error for Error {}

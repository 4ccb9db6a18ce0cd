//! Bodies of invocations and replies: bytes in memory, or a bounded stream of them.

use std::fmt;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;

use crate::error::{Error, ErrorKind};

/// A stream of body frames. Whoever makes one bounds it; whoever reads one passes its own limit.
pub type BodyStream = Pin<Box<dyn http_body::Body<Data = Bytes, Error = Error> + Send>>;

/// The bytes of a request or a reply.
pub enum Body {
    /// All of them are here.
    Bytes(Bytes),
    /// They come as they are read. Dropping the stream ends what produces it.
    Stream(BodyStream),
}

impl Body {
    /// No bytes at all.
    pub const fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    /// The length when it is known beforehand.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint().exact(),
        }
    }

    /// Reads the whole body. Fails with `TooLarge` as soon as more than `limit` bytes came, and
    /// with whatever the stream itself fails with. Cancel-safe in that nothing leaks; what was read
    /// is lost.
    pub async fn collect(self, limit: u64) -> Result<Bytes, Error> {
        match self {
            Self::Bytes(bytes) if bytes.len() as u64 > limit => Err(too_large(limit)),
            Self::Bytes(bytes) => Ok(bytes),
            // Boxed, so that bodies that are all there do not carry the room for it along.
            Self::Stream(stream) => Box::pin(collect(stream, limit)).await,
        }
    }
}

async fn collect(mut stream: BodyStream, limit: u64) -> Result<Bytes, Error> {
    if stream.size_hint().lower() > limit {
        return Err(too_large(limit));
    }
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| stream.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if (first.len() + all.len() + data.len()) as u64 > limit {
            return Err(too_large(limit));
        }
        // A body of one frame, by far the most common, is handed on without a copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// The error for a body over its limit.
pub fn too_large(limit: u64) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("the body is larger than the limit of {limit} bytes"),
    )
    .with_hint("send less, or raise `body` in the function's manifest")
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Self::Bytes(Bytes::from_static(text.as_bytes()))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(stream) => write!(f, "Stream({:?})", stream.size_hint().exact()),
        }
    }
}

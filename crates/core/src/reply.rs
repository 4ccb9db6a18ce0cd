//! The answer to an invocation. A guest's own 5xx is a reply, not an error.

use http::{HeaderMap, StatusCode};

use crate::body::Body;

/// What a function answered.
#[derive(Debug, Default)]
pub struct Reply {
    /// The status; doors map it to their own codes.
    pub status: StatusCode,
    /// Headers for the caller. Hop-by-hop headers are removed by the door.
    pub headers: HeaderMap,
    /// The body.
    pub body: Body,
    /// Whether the guest asked that this become the published value of the called path and query.
    pub publish: bool,
}

impl Reply {
    /// A reply with status 200.
    pub fn ok(body: impl Into<Body>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }
}

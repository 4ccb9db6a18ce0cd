//! One call of one function, whatever door it came by.

use std::fmt;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

use crate::body::Body;

/// Calls may nest this deep; one more is refused, so forwarding and recursion end.
pub const HOPS_MAX: u8 = 16;

/// One request to run one function. Built at a door, immutable after admission.
#[derive(Debug)]
pub struct Invocation {
    /// Unique on this node, ordered by time.
    pub id: InvocationId,
    /// Which function, interned by the plan.
    pub function: FunctionId,
    /// Method, path, query, headers.
    pub meta: Meta,
    /// What was sent.
    pub body: Body,
    /// Time left for the whole call, hard. The function's own timeout may shorten it.
    pub budget: Duration,
    /// Who asked.
    pub origin: Origin,
    /// How many calls led to this one.
    pub hops: u8,
}

/// The plan's handle for a function: stays the same over redeploys, is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionId(pub u32);

/// Names a call in logs, headers and traces: a node's mark and a counter that starts at the node's
/// start time, so ids of one node are ordered and ids of two nodes differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvocationId {
    /// Time-ordered part.
    pub sequence: u64,
    /// The node's mark, random at start.
    pub node: u32,
}

impl InvocationId {
    /// The id as 24 hexadecimal digits, without a formatter: it is written on every reply.
    pub fn hex(self) -> [u8; 24] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 24];
        let value = u128::from(self.sequence) << 32 | u128::from(self.node);
        for (place, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(value >> (4 * (23 - place)) & 0xf) as usize];
        }
        text
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex()
            .iter()
            .try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

/// Method, target and headers of a call. Whoever needs a part reads it; nothing is copied before.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The method. CoAP's appear under their HTTP names, `FETCH` and `IPATCH` as they are.
    pub method: Method,
    /// Path and query as they came.
    pub target: PathAndQuery,
    /// How many bytes of the path name the function; the rest is the function's own.
    pub prefix: u16,
    /// Headers; CoAP options appear under the headers they map to.
    pub headers: HeaderMap,
}

impl Meta {
    /// The path after the function's name: empty, or starting with `/`.
    pub fn path(&self) -> &str {
        self.target
            .path()
            .get(usize::from(self.prefix)..)
            .unwrap_or_default()
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.query()
    }
}

/// Where an invocation came from; the label `door` of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The HTTP door.
    Http,
    /// The CoAP door.
    Coap,
    /// Another function of the same app.
    Function,
}

impl Origin {
    /// Every origin.
    pub const ALL: &'static [Origin] = &[Origin::Http, Origin::Coap, Origin::Function];

    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Coap => "coap",
            Self::Function => "function",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_in_order() {
        let id = |sequence| InvocationId {
            sequence,
            node: 0xdead_beef,
        };
        assert_eq!(id(1).to_string(), "0000000000000001deadbeef");
        assert!(id(u64::MAX).to_string() > id(255).to_string());
    }

    #[test]
    fn the_path_is_what_follows_the_name() {
        let meta = Meta {
            method: Method::GET,
            target: PathAndQuery::from_static("/light/a/b?x=1"),
            prefix: 6,
            headers: HeaderMap::new(),
        };
        assert_eq!((meta.path(), meta.query()), ("/a/b", Some("x=1")));
    }
}

//! The error table: every kind of failure, with its HTTP status, CoAP code, exit code, and whether
//! trying again may help. One place; doors, CLI and metrics all read it.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

/// A CoAP response code, class and detail as in RFC 7252 §5.9 (`4.04` is `(4, 4)`).
pub type CoapCode = (u8, u8);

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident = $http:literal, $class:literal . $detail:literal, exit $exit:literal, retry $retry:literal, $label:literal, $title:literal;)*) => {
        /// What went wrong, as a closed set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)*];

            /// The HTTP status.
            pub const fn http_status(self) -> StatusCode {
                let code = match self { $(Self::$kind => $http,)* };
                match StatusCode::from_u16(code) {
                    Ok(status) => status,
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
                }
            }

            /// The CoAP response code.
            pub const fn coap_code(self) -> CoapCode {
                match self { $(Self::$kind => ($class, $detail),)* }
            }

            /// The exit code of the command line.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$kind => $exit,)* }
            }

            /// Whether the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Self::$kind => $retry,)* }
            }

            /// The label under which calls with this outcome are counted.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$kind => $label,)* }
            }

            /// A short title for people (RFC 9457 `title`).
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }

            /// The kind with this label, if there is one.
            pub fn from_label(label: &str) -> Option<Self> {
                match label { $($label => Some(Self::$kind),)* _ => None }
            }
        }
    };
}

error_kinds! {
    /// The request makes no sense.
    BadRequest = 400, 4 . 0, exit 2, retry false, "bad_request", "Bad request";
    /// No credentials, or wrong ones.
    Unauthorized = 401, 4 . 1, exit 3, retry false, "unauthorized", "Unauthorized";
    /// The credentials do not allow this.
    Forbidden = 403, 4 . 3, exit 3, retry false, "forbidden", "Forbidden";
    /// There is no such thing.
    NotFound = 404, 4 . 4, exit 4, retry false, "not_found", "Not found";
    /// The thing exists and does not take this method.
    MethodNotAllowed = 405, 4 . 5, exit 2, retry false, "method_not_allowed", "Method not allowed";
    /// The thing is in a state that does not allow this.
    Conflict = 409, 4 . 9, exit 5, retry false, "conflict", "Conflict";
    /// A body or value over its limit.
    TooLarge = 413, 4 . 13, exit 2, retry false, "too_large", "Too large";
    /// A format, version or feature this node does not have.
    Unsupported = 415, 4 . 15, exit 2, retry false, "unsupported", "Unsupported";
    /// This caller or this function is over its limit.
    Throttled = 429, 4 . 29, exit 6, retry true, "throttled", "Too many calls";
    /// The guest trapped, exited, or answered something invalid.
    FunctionFailed = 502, 5 . 2, exit 7, retry false, "function_failed", "Function failed";
    /// This node has no room.
    Overloaded = 503, 5 . 3, exit 6, retry true, "overloaded", "Node overloaded";
    /// The budget of the call was used up.
    Timeout = 504, 5 . 4, exit 8, retry true, "timeout", "Timed out";
    /// The disk or a quota is full.
    StorageFull = 507, 5 . 0, exit 9, retry false, "storage_full", "Storage full";
    /// A bug in the node.
    Internal = 500, 5 . 0, exit 70, retry false, "internal", "Internal error";
}

/// A failure with what a person needs to go on: what happened, with which value, and what to do.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of a kind. The message is lower case, has no full stop, and names thing and value.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            retry_after: None,
        }))
    }

    /// Adds the next step: a command to run or a line to write.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says when trying again makes sense (`Retry-After`, `Max-Age`).
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Puts what was being done in front of the message.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = format!("{doing}: {}", self.0.message).into();
        self
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// When to try again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        for kind in ErrorKind::ALL {
            let (class, detail) = kind.coap_code();
            assert_eq!(
                u16::from(class),
                kind.http_status().as_u16() / 100,
                "{kind:?}"
            );
            assert!(detail < 32, "a CoAP detail has five bits");
            assert!(
                kind.exit_code() != 0 && kind.exit_code() != 1,
                "0 is success, 1 is for anything unnamed"
            );
            assert_eq!(ErrorKind::from_label(kind.label()), Some(*kind));
        }
    }
}

//! Calls of other functions of the same app, without a door in between.
//!
//! ```no_run
//! use mote_function::call::{self, Call};
//!
//! fn both() -> Result<String, call::Error> {
//!     let lamp = Call::get("lamp").start()?;
//!     let door = Call::post("door", "close").target("/front?slowly").send()?;
//!     Ok(format!("{} {}", lamp.wait()?.text(), door.text()))
//! }
//! ```

use std::fmt;

use crate::bindings::mote::function::call as host;

/// What is asked of a function.
#[derive(Clone, Debug)]
pub struct Call {
    function: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What it answered. Its 5xx is an answer, not an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A call that runs. Dropping it ends the call.
#[derive(Debug)]
pub struct Pending(host::Pending);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong.
    pub kind: Kind,
    /// The same for people.
    pub message: String,
}

/// What went wrong, of the platform's table of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The request makes no sense.
    BadRequest,
    /// Another app, or not allowed.
    Forbidden,
    /// No such function.
    NotFound,
    /// A body over its limit.
    TooLarge,
    /// The function has too many calls.
    Throttled,
    /// It trapped, exited, or answered something invalid.
    FunctionFailed,
    /// The node has no room, or the calls go in a circle.
    Overloaded,
    /// The time of the call was used up.
    Timeout,
    /// The disk is full.
    StorageFull,
    /// A fault of the node.
    Internal,
}

impl Call {
    /// A call of `lamp`, or `lamp.home` when the app is `home`.
    pub fn new(method: &str, function: &str) -> Self {
        Self {
            function: function.to_owned(),
            method: method.to_owned(),
            target: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// A GET.
    pub fn get(function: &str) -> Self {
        Self::new("GET", function)
    }

    /// A POST.
    pub fn post(function: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", function).body(body)
    }

    /// With a path and a query after the function's name: empty, or starting with `/` or `?`.
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        target.clone_into(&mut self.target);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a value as the body.
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(self, value: &T) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(value)?;
        Ok(self.body(body).header("content-type", "application/json"))
    }

    /// Calls, and waits for the answer.
    pub fn send(self) -> Result<Answer, Error> {
        Ok(host::invoke(&self.lower())?.into())
    }

    /// Begins the call, so that several run at once.
    pub fn start(self) -> Result<Pending, Error> {
        Ok(Pending(host::start(&self.lower())?))
    }

    /// Hands the call over to the node, which runs it later. Gives its id; its answer goes nowhere.
    pub fn spawn(self) -> Result<String, Error> {
        Ok(host::spawn(&self.lower())?)
    }

    fn lower(self) -> host::Request {
        host::Request {
            function: self.function,
            method: self.method,
            target: self.target,
            headers: self.headers,
            body: self.body,
        }
    }
}

impl Pending {
    /// Waits for the answer.
    pub fn wait(self) -> Result<Answer, Error> {
        Ok(self.0.wait()?.into())
    }
}

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first value of a header; case does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as a value.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

impl From<host::Reply> for Answer {
    fn from(reply: host::Reply) -> Self {
        Self {
            status: reply.status,
            headers: reply.headers,
            body: reply.body,
        }
    }
}

impl From<host::Error> for Error {
    fn from(error: host::Error) -> Self {
        let kind = match error.kind {
            host::ErrorKind::BadRequest => Kind::BadRequest,
            host::ErrorKind::Forbidden => Kind::Forbidden,
            host::ErrorKind::NotFound => Kind::NotFound,
            host::ErrorKind::TooLarge => Kind::TooLarge,
            host::ErrorKind::Throttled => Kind::Throttled,
            host::ErrorKind::FunctionFailed => Kind::FunctionFailed,
            host::ErrorKind::Overloaded => Kind::Overloaded,
            host::ErrorKind::Timeout => Kind::Timeout,
            host::ErrorKind::StorageFull => Kind::StorageFull,
            host::ErrorKind::Internal => Kind::Internal,
        };
        Self {
            kind,
            message: error.message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

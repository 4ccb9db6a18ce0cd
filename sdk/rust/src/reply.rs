//! The reply to a call.

use std::borrow::Cow;
use std::fmt::Display;

/// What a call is answered with.
///
/// ```
/// # use mote_function::Reply;
/// let reply = Reply::text("no such lamp\n").status(404);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) publish: bool,
}

impl Reply {
    /// Bytes.
    pub fn bytes(body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::default()
        }
    }

    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into()).header("content-type", "text/plain; charset=utf-8")
    }

    /// A page.
    pub fn html(text: impl Into<String>) -> Self {
        Self::bytes(text.into()).header("content-type", "text/html; charset=utf-8")
    }

    /// A value as JSON. Fails for what JSON cannot say, such as a map with keys that are no texts.
    ///
    /// ```
    /// # use mote_function::Reply;
    /// let reply = Reply::json(&["on", "off"]).unwrap();
    /// # assert_eq!(reply, Reply::bytes("[\"on\",\"off\"]").header("content-type", "application/json"));
    /// ```
    #[cfg(feature = "json")]
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(value)?;
        Ok(Self::bytes(body).header("content-type", "application/json"))
    }

    /// Nothing but a status.
    pub fn empty(status: u16) -> Self {
        Self::default().status(status)
    }

    /// With a status, 200 to 599; any other ends the call as a failure.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// With a header, instead of what it had under this name. A name or value that HTTP does not allow, and a header
    /// of the connection such as `transfer-encoding`, ends the call as a failure.
    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
        self
    }

    /// With one more header, beside what it has under this name.
    #[must_use]
    pub fn append_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Published: what observers of this path and query are shown from now on. The function needs
    /// `observable = true`.
    #[must_use]
    pub fn publish(mut self) -> Self {
        self.publish = true;
        self
    }
}

/// What a handler may give.
pub trait IntoReply {
    /// The reply, or why there is none: the caller gets status 500 with that text, and it is logged.
    fn into_reply(self) -> Result<Reply, String>;
}

impl IntoReply for Reply {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(self)
    }
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(Reply::empty(204))
    }
}

impl IntoReply for String {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(Reply::text(self))
    }
}

impl IntoReply for &str {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(Reply::text(self))
    }
}

impl IntoReply for Vec<u8> {
    fn into_reply(self) -> Result<Reply, String> {
        Ok(Reply::bytes(self))
    }
}

impl<R: IntoReply> IntoReply for (u16, R) {
    fn into_reply(self) -> Result<Reply, String> {
        self.1.into_reply().map(|reply| reply.status(self.0))
    }
}

/// Nothing is 404.
impl<R: IntoReply> IntoReply for Option<R> {
    fn into_reply(self) -> Result<Reply, String> {
        match self {
            Some(reply) => reply.into_reply(),
            None => Ok(Reply::empty(404)),
        }
    }
}

impl<R: IntoReply, E: Display> IntoReply for Result<R, E> {
    fn into_reply(self) -> Result<Reply, String> {
        match self {
            Ok(reply) => reply.into_reply(),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(feature = "http")]
impl<B: Into<Vec<u8>>> IntoReply for http::Response<B> {
    /// Header values that are no text are an error.
    fn into_reply(self) -> Result<Reply, String> {
        let (head, body) = self.into_parts();
        let mut reply = Reply::bytes(body).status(head.status.as_u16());
        for (name, value) in &head.headers {
            let text = value
                .to_str()
                .map_err(|error| format!("header `{name}`: {error}"))?;
            reply = reply.append_header(name.as_str().to_owned(), text);
        }
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_gives_becomes_a_reply() {
        assert_eq!("a".into_reply(), Ok(Reply::text("a")));
        assert_eq!(().into_reply(), Ok(Reply::empty(204)));
        assert_eq!((201, "a").into_reply(), Ok(Reply::text("a").status(201)));
        assert_eq!(None::<String>.into_reply(), Ok(Reply::empty(404)));
        let failed: Result<String, _> = "x".parse::<u8>().map(|n| n.to_string());
        assert_eq!(
            failed.into_reply(),
            Err("invalid digit found in string".to_owned())
        );
    }

    #[test]
    fn a_header_is_replaced_or_added() {
        let reply = Reply::text("x").header("Content-Type", "text/css");
        assert_eq!(
            reply.headers,
            [("Content-Type".into(), "text/css".to_owned())]
        );
        assert_eq!(reply.append_header("content-type", "a").headers.len(), 2);
    }
}

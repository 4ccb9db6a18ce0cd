//! The request of a call.

use std::borrow::Cow;

use crate::bindings::mote::function::request as host;
use crate::percent;

/// What a call asks: method, path, query and headers, which are read from the node when they are asked for, and the
/// body, which is here.
#[derive(Clone, Debug)]
pub struct Request {
    body: Vec<u8>,
    /// What is asked about a call that no node makes.
    given: Option<Given>,
}

#[derive(Clone, Debug)]
struct Given {
    method: String,
    path: String,
    query: Option<String>,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn of_this_call(body: Vec<u8>) -> Self {
        Self { body, given: None }
    }

    /// A request of no call, to test a handler with. The target is what follows the function's name.
    ///
    /// ```
    /// # use mote_function::Request;
    /// let request = Request::new("POST", "/lamps/1?colour=red", "on").with_header("accept", "text/plain");
    /// assert_eq!(request.path(), "/lamps/1");
    /// assert_eq!(request.query_value("colour").as_deref(), Some("red"));
    /// assert_eq!(request.header("Accept").as_deref(), Some("text/plain"));
    /// ```
    pub fn new(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            body: body.into(),
            given: Some(Given {
                method: method.to_owned(),
                path: path.to_owned(),
                query,
                headers: Vec::new(),
            }),
        }
    }

    /// With a header, for a request from [`new`](Self::new).
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Some(given) = &mut self.given {
            given.headers.push((name.to_lowercase(), value.to_owned()));
        }
        self
    }

    /// `GET`, `POST` and so on. CoAP's methods have their HTTP names, `FETCH` and `IPATCH` their own.
    pub fn method(&self) -> String {
        match &self.given {
            Some(given) => given.method.clone(),
            None => host::method(),
        }
    }

    /// What follows the function's name in the path: empty, or starting with `/`.
    pub fn path(&self) -> String {
        match &self.given {
            Some(given) => given.path.clone(),
            None => host::path(),
        }
    }

    /// The query without its question mark, as it was sent.
    pub fn query(&self) -> Option<String> {
        match &self.given {
            Some(given) => given.query.clone(),
            None => host::query(),
        }
    }

    /// The first value of this name in the query, decoded: `Ada L` of `?name=Ada+L`, empty of `?name`.
    pub fn query_value(&self, name: &str) -> Option<String> {
        let query = self.query()?;
        query.split('&').find_map(|item| {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            (percent::decode(key) == name).then(|| percent::decode(value))
        })
    }

    /// The first value of a header; case does not matter. CoAP's options appear as the headers they stand for.
    pub fn header(&self, name: &str) -> Option<String> {
        match &self.given {
            Some(given) => {
                let mut headers = given.headers.iter();
                let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone())
            }
            None => host::header(name),
        }
    }

    /// Every header in its order, names in lower case.
    pub fn headers(&self) -> Vec<(String, String)> {
        match &self.given {
            Some(given) => given.headers.clone(),
            None => host::headers(),
        }
    }

    /// The id of this call, as it is in the log; empty for a request from [`new`](Self::new).
    pub fn id(&self) -> String {
        match &self.given {
            Some(_) => String::new(),
            None => host::id(),
        }
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, for keeps.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// The body as text; what is not UTF-8 is replaced by `\u{fffd}`.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as a value. The error says where it does not fit.
    ///
    /// ```
    /// # use mote_function::Request;
    /// let [a, b]: [u32; 2] = Request::new("POST", "", "[1, 2]").json().unwrap();
    /// assert_eq!(a + b, 3);
    /// ```
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

#[cfg(feature = "http")]
impl From<Request> for http::Request<Vec<u8>> {
    /// Headers that the crate `http` does not take are left out.
    fn from(request: Request) -> Self {
        let path = request.path();
        let path = if path.is_empty() { "/" } else { &path };
        let target = match request.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let headers = request.headers();
        let mut out = Self::default();
        if let Ok(method) = request.method().parse() {
            *out.method_mut() = method;
        }
        if let Ok(uri) = target.parse() {
            *out.uri_mut() = uri;
        }
        for (name, value) in headers {
            let name = http::HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, http::HeaderValue::try_from(value)) {
                out.headers_mut().append(name, value);
            }
        }
        *out.body_mut() = request.body;
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_query_are_decoded() {
        let request = Request::new("GET", "/x?a=1&b=%C3%A9t%C3%A9+2&c&a=3&%64=4&e=100%", "");
        for (name, value) in [
            ("a", Some("1")),
            ("b", Some("été 2")),
            ("c", Some("")),
            ("d", Some("4")),
            ("e", Some("100%")),
            ("f", None),
        ] {
            assert_eq!(request.query_value(name).as_deref(), value, "{name}");
        }
        assert_eq!(Request::new("GET", "/x", "").query_value("a"), None);
    }
}

//! What a call may reach beside its own instance: siblings, data of its app, settings, its log.
//!
//! The engine makes one [`Host`] for each version of a function and gives it to every call of it, by
//! reference count. It checks what the function was granted, so that every way of running code asks
//! the same questions and gets the same answers. What belongs to the call alone is in [`Caller`]:
//! plain values, so that a call that reaches for nothing pays nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use crate::error::{Error, ErrorKind};
use crate::invocation::{FunctionId, InvocationId};
use crate::key_value::{KeyPage, KeyValue, check_bucket};
use crate::log::{Level, LogSink};
use crate::name::AppName;
use crate::runtime::BoxFuture;

/// Most bytes of the headers of a request to a sibling, [`HEADER_OVERHEAD_BYTES`] for each included.
pub const HEADER_BYTES_MAX: usize = 32 << 10;
/// What a header counts beside its name and value (RFC 9113 §6.5.2).
pub const HEADER_OVERHEAD_BYTES: usize = 32;
/// Longest target of a request to a sibling.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Calls that one call may have started and not waited for.
pub const STARTED_MAX: usize = 64;

/// What one function may reach. Everything not granted is `Forbidden`, with what to write to grant it.
pub trait Host: LogSink {
    /// Calls a sibling and waits for its reply. `Forbidden` for another app, `NotFound` for a name
    /// that nobody has, `TooLarge` and `BadRequest` for a request that the sibling would not take,
    /// `Overloaded` where waiting could last for ever, and whatever the call itself ends with.
    /// Dropping the future ends the call.
    fn call(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>>;

    /// Begins a call that runs whether or not anybody polls the future. Otherwise like
    /// [`Host::call`]. Whoever starts calls bounds them by [`STARTED_MAX`].
    fn start(
        &self,
        caller: &Caller,
        request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>>;

    /// Hands a call over to the node and gives its id. It is a call of its own, with the whole
    /// budget of the sibling. `Overloaded` when the node has too many of them, otherwise what is
    /// wrong with the request.
    fn spawn(&self, caller: &Caller, request: SiblingRequest) -> Result<InvocationId, Error>;

    /// A bucket of the app's data. `Forbidden` without the grant, `BadRequest` for a name that is
    /// not valid.
    fn bucket(&self, name: &str) -> Result<Bucket, Error>;

    /// A setting: a granted secret, or else a variable of the function's environment.
    fn setting(&self, key: &str) -> Option<Arc<str>>;

    /// Every setting, in the order of their keys.
    fn settings(&self) -> Vec<(String, Arc<str>)>;
}

impl fmt::Debug for dyn Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// The call on whose behalf something is asked.
#[derive(Clone, Debug)]
pub struct Caller {
    /// When its time is up, on the host's clock; nobody else can read it.
    pub deadline: Duration,
    /// How many calls led to it.
    pub hops: u8,
    /// The calls that wait for it, if it is nested: whose permits are held until it ends.
    pub ancestors: Option<Arc<Ancestors>>,
}

/// The functions whose calls wait for a nested call, innermost first; as long as its hops at most.
#[derive(Debug)]
pub struct Ancestors {
    /// The function that called.
    pub function: FunctionId,
    /// Those that led to its call.
    pub before: Option<Arc<Ancestors>>,
}

impl Ancestors {
    /// Every function of the chain, innermost first.
    pub fn functions(&self) -> impl Iterator<Item = FunctionId> {
        std::iter::successors(Some(self), |link| link.before.as_deref()).map(|link| link.function)
    }
}

impl Caller {
    /// A call from outside, that nothing waits for.
    pub fn root(deadline: Duration) -> Self {
        Self {
            deadline,
            hops: 0,
            ancestors: None,
        }
    }
}

/// What is asked of a sibling. Not checked yet.
#[derive(Clone, Debug)]
pub struct SiblingRequest {
    /// Its name: `resize`, or `resize.home` with the caller's own app.
    pub function: String,
    /// The method.
    pub method: Method,
    /// Path and query after the name: empty, or starting with `/` or `?`.
    pub target: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What a sibling answered, all of it. Its 5xx is a reply, not an error.
#[derive(Clone, Debug)]
pub struct SiblingReply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within the sibling's own limit.
    pub body: Bytes,
}

/// A bucket of an app's data. Whoever holds one was granted it.
#[derive(Clone)]
pub struct Bucket {
    data: Arc<dyn KeyValue>,
    app: AppName,
    name: Arc<str>,
}

impl Bucket {
    /// A bucket of an app. Fails with `BadRequest` when the name is not valid.
    pub fn new(data: Arc<dyn KeyValue>, app: AppName, name: &str) -> Result<Self, Error> {
        check_bucket(name)?;
        let name = name.into();
        Ok(Self { data, app, name })
    }

    /// See [`KeyValue::get`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.data.get(&self.app, &self.name, key).await
    }

    /// See [`KeyValue::set`].
    pub async fn set(&self, key: &str, value: Bytes) -> Result<(), Error> {
        self.data.set(&self.app, &self.name, key, value).await
    }

    /// See [`KeyValue::delete`].
    pub async fn delete(&self, key: &str) -> Result<bool, Error> {
        self.data.delete(&self.app, &self.name, key).await
    }

    /// See [`KeyValue::increment`].
    pub async fn increment(&self, key: &str, by: i64) -> Result<i64, Error> {
        self.data.increment(&self.app, &self.name, key, by).await
    }

    /// See [`KeyValue::swap`].
    pub async fn swap(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Bytes,
    ) -> Result<bool, Error> {
        let (app, name) = (&self.app, &self.name);
        self.data.swap(app, name, key, expected, new).await
    }

    /// See [`KeyValue::list`].
    pub async fn list(&self, after: Option<&str>, max: u32) -> Result<KeyPage, Error> {
        self.data.list(&self.app, &self.name, after, max).await
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("app", &self.app)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A host that has a log and settings, and nothing else: for a trial at deploy, and for tests of
/// instances.
#[derive(Clone)]
pub struct Alone {
    log: Arc<dyn LogSink>,
    settings: BTreeMap<String, Arc<str>>,
}

impl Alone {
    /// One with this log.
    pub fn new(log: Arc<dyn LogSink>) -> Self {
        let settings = BTreeMap::new();
        Self { log, settings }
    }

    /// The same with these settings.
    #[must_use]
    pub fn with_settings(mut self, variables: &BTreeMap<String, String>) -> Self {
        let settings = variables.iter();
        self.settings = settings
            .map(|(key, value)| (key.clone(), value.as_str().into()))
            .collect();
        self
    }

    fn refusal() -> Error {
        Error::new(
            ErrorKind::Forbidden,
            "only a call reaches siblings and data, and this is none",
        )
    }
}

impl LogSink for Alone {
    fn line(&self, call: InvocationId, level: Level, text: &str) {
        self.log.line(call, level, text);
    }
}

impl Host for Alone {
    fn call(
        &self,
        _caller: &Caller,
        _request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        Box::pin(std::future::ready(Err(Self::refusal())))
    }

    fn start(
        &self,
        _caller: &Caller,
        _request: SiblingRequest,
    ) -> BoxFuture<'static, Result<SiblingReply, Error>> {
        Box::pin(std::future::ready(Err(Self::refusal())))
    }

    fn spawn(&self, _caller: &Caller, _request: SiblingRequest) -> Result<InvocationId, Error> {
        Err(Self::refusal())
    }

    fn bucket(&self, _name: &str) -> Result<Bucket, Error> {
        Err(Self::refusal())
    }

    fn setting(&self, key: &str) -> Option<Arc<str>> {
        self.settings.get(key).cloned()
    }

    fn settings(&self) -> Vec<(String, Arc<str>)> {
        self.settings.clone().into_iter().collect()
    }
}

impl fmt::Debug for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alone").finish_non_exhaustive()
    }
}

//! A runtime that follows a script, for tests of everything above runtimes.
//!
//! The artifact's bytes are not read: what a call does is said by its path.
//! `/sleep/MS` answers after so many milliseconds, `/status/N` answers with that status, `/fail`
//! fails like a trap, `/panic` panics, `/publish` publishes its body, `/size/N` answers N bytes;
//! everything else echoes the body.
//!
//! `/call/NAME/REST` calls the sibling NAME with the path `/REST` and answers what that answers,
//! `/start/N/NAME/REST` starts N such calls and answers how many were answered with 2xx,
//! `/spawn/NAME/REST` hands one over and answers its id. Where that fails, the status is the
//! error's, and the body its message. Instances outside of the node, see [`Fake::with_instances`],
//! also know `/die`, which ends the instance with the call, and answer with their number in the
//! header `instance`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::SiblingRequest;
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use mote_core::runtime::{
    Artifact, BoxFuture, CallContext, Exit, Image, Instance, Instances, Prepared, Runtime, take,
};
use mote_core::spec::FunctionSpec;
use tokio::sync::watch;

/// The scripted runtime. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    counts: Arc<Counts>,
    instances: Option<Instances>,
}

/// What the fake was asked to do.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls that began.
    pub calls: AtomicU64,
    /// Instances started.
    pub starts: AtomicU64,
    /// Instances asked to stop.
    pub stops: AtomicU64,
    /// Pauses.
    pub pauses: AtomicU64,
    /// Ends of pauses.
    pub resumes: AtomicU64,
    /// Whether starts fail.
    pub broken: AtomicBool,
    /// How long a start takes, in milliseconds.
    pub start_ms: AtomicU64,
}

impl Fake {
    /// One whose instances live outside of the node, as processes and containers do.
    pub fn with_instances(instances: Instances) -> Self {
        Self {
            counts: Arc::default(),
            instances: Some(instances),
        }
    }

    /// What happened so far, and what is to happen.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Runtime for Fake {
    fn prepare<'a>(
        &'a self,
        spec: &'a Arc<FunctionSpec>,
        _artifact: &'a Artifact,
    ) -> BoxFuture<'a, Result<Arc<dyn Prepared>, Error>> {
        let prepared = FakeFunction {
            fake: self.clone(),
            body_bytes: spec.limits.body_bytes,
        };
        Box::pin(async move { Ok(Arc::new(prepared) as Arc<dyn Prepared>) })
    }

    fn sweep(&self, _used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        Ok(())
    }

    fn isolation(&self) -> BoxFuture<'_, String> {
        Box::pin(async { "none: a script".to_owned() })
    }
}

struct FakeFunction {
    fake: Fake,
    body_bytes: u64,
}

impl Prepared for FakeFunction {
    fn start(&self) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        let counts = Arc::clone(&self.fake.counts);
        let body_bytes = self.body_bytes;
        Box::pin(async move {
            let wait = counts.start_ms.load(Ordering::Relaxed);
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
            let number = counts.starts.fetch_add(1, Ordering::Relaxed) + 1;
            if counts.broken.load(Ordering::Relaxed) {
                let message = "the script says that it does not start";
                return Err(Error::new(ErrorKind::FunctionFailed, message));
            }
            let instance = FakeInstance {
                counts,
                body_bytes,
                number,
                dead: watch::Sender::new(false),
            };
            Ok(Arc::new(instance) as Arc<dyn Instance>)
        })
    }

    fn image(&self) -> Option<Image> {
        None
    }

    fn shape(&self) -> &'static str {
        "fake"
    }

    fn streams(&self) -> bool {
        false
    }

    fn instances(&self) -> Option<Instances> {
        self.fake.instances
    }

    fn isolation(&self) -> String {
        "none: a script".to_owned()
    }
}

/// What a call of siblings comes to.
async fn siblings(
    verb: &str,
    path: &str,
    context: &CallContext,
) -> Result<(StatusCode, Bytes), Error> {
    let rest = &path[verb.len() + 2..];
    let (count, rest) = match verb {
        "start" => rest.split_once('/').unwrap_or_default(),
        _ => ("1", rest),
    };
    let (function, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let request = || SiblingRequest {
        function: function.to_owned(),
        method: Method::POST,
        target: format!("/{rest}"),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"from a sibling"),
    };
    let (host, caller) = (&context.host, &context.caller);
    match verb {
        "call" => {
            let reply = host.call(caller, request()).await?;
            Ok((reply.status, reply.body))
        }
        "spawn" => {
            let id = host.spawn(caller, request())?;
            Ok((StatusCode::OK, Bytes::from(id.to_string())))
        }
        _ => {
            let count: usize = count.parse().unwrap_or_default();
            let calls: Vec<_> = (0..count).map(|_| host.start(caller, request())).collect();
            let mut answered = 0;
            for call in calls {
                let reply = call.await;
                answered += u32::from(reply.is_ok_and(|reply| reply.status.is_success()));
            }
            Ok((StatusCode::OK, Bytes::from(answered.to_string())))
        }
    }
}

struct FakeInstance {
    counts: Arc<Counts>,
    body_bytes: u64,
    number: u64,
    dead: watch::Sender<bool>,
}

impl Instance for FakeInstance {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        Box::pin(async move {
            if *self.dead.borrow() {
                return Err(Error::new(ErrorKind::FunctionFailed, "it is dead already"));
            }
            let invocation = take(offered)?;
            self.counts.calls.fetch_add(1, Ordering::Relaxed);
            let path = invocation.meta.path().to_owned();
            let mut parts = path.split('/').skip(1);
            let (verb, number) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let number: u64 = number.parse().unwrap_or_default();
            context.host.line(invocation.id, Level::Info, &path);
            let mut reply = Reply::ok(invocation.body.collect(self.body_bytes).await?);
            if let Some(content_type) = invocation.meta.headers.get(http::header::CONTENT_TYPE) {
                reply
                    .headers
                    .insert(http::header::CONTENT_TYPE, content_type.clone());
            }
            reply.headers.insert("instance", self.number.into());
            match verb {
                "call" | "start" | "spawn" => {
                    let answer = siblings(verb, &path, &context).await;
                    let (status, body) = answer.unwrap_or_else(|error| {
                        let message = Bytes::from(error.message().to_owned());
                        (error.kind().http_status(), message)
                    });
                    reply.status = status;
                    reply.body = Body::Bytes(body);
                }
                "die" => {
                    self.dead.send_replace(true);
                    return Err(Error::new(ErrorKind::FunctionFailed, "the instance died"));
                }
                "sleep" => tokio::time::sleep(Duration::from_millis(number)).await,
                "status" => {
                    reply.status = u16::try_from(number)
                        .ok()
                        .and_then(|code| StatusCode::from_u16(code).ok())
                        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                }
                "fail" => return Err(Error::new(ErrorKind::FunctionFailed, "the script says so")),
                "panic" => panic!("the script says so"),
                "publish" => reply.publish = true,
                "size" => {
                    let bytes = number.min(self.body_bytes);
                    reply.body =
                        Body::Bytes(Bytes::from(vec![b'x'; usize::try_from(bytes).unwrap_or(0)]));
                }
                _ => {}
            }
            Ok(reply)
        })
    }

    fn idle_bytes(&self) -> u64 {
        1
    }

    fn exited(&self) -> BoxFuture<'_, Exit> {
        let mut dead = self.dead.subscribe();
        Box::pin(async move {
            // The sender is this instance, which outlives whoever waits for its end.
            let _ = dead.wait_for(|dead| *dead).await;
            Exit {
                how: "exited with status 1".to_owned(),
                on_purpose: false,
            }
        })
    }

    fn pause(&self) -> BoxFuture<'_, Result<bool, Error>> {
        self.counts.pauses.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(true) })
    }

    fn resume(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.counts.resumes.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }

    fn stop(&self, _grace: Duration) -> BoxFuture<'_, ()> {
        self.counts.stops.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    }
}

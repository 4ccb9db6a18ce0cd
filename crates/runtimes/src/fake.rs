//! A runtime that follows a script, for tests of everything above runtimes.
//!
//! The artifact's bytes are not read: what a call does is said by its path.
//! `/sleep/MS` answers after so many milliseconds, `/status/N` answers with that status, `/fail`
//! fails like a trap, `/panic` panics, `/publish` publishes its body, `/size/N` answers N bytes;
//! everything else echoes the body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::Invocation;
use mote_core::log::Level;
use mote_core::reply::Reply;
use mote_core::runtime::{Artifact, BoxFuture, CallContext, Image, Instance, Prepared, Runtime};
use mote_core::spec::FunctionSpec;

/// The scripted runtime. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    counts: Arc<Counts>,
}

/// What the fake was asked to do.
#[derive(Debug, Default)]
pub struct Counts {
    /// Calls that began.
    pub calls: AtomicU64,
    /// Instances started.
    pub starts: AtomicU64,
}

impl Fake {
    /// What happened so far.
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
            counts: Arc::clone(&self.counts),
            body_bytes: spec.limits.body_bytes,
        };
        Box::pin(async move { Ok(Arc::new(prepared) as Arc<dyn Prepared>) })
    }

    fn sweep(&self, _used: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        Ok(())
    }
}

#[derive(Clone)]
struct FakeFunction {
    counts: Arc<Counts>,
    body_bytes: u64,
}

impl Prepared for FakeFunction {
    fn start(&self) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        self.counts.starts.fetch_add(1, Ordering::Relaxed);
        let instance = self.clone();
        Box::pin(async move { Ok(Arc::new(instance) as Arc<dyn Instance>) })
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
}

impl Instance for FakeFunction {
    fn call<'a>(
        &'a self,
        invocation: Invocation,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let path = invocation.meta.path().to_owned();
            let mut parts = path.split('/').skip(1);
            let (verb, number) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let number: u64 = number.parse().unwrap_or_default();
            context.log.line(invocation.id, Level::Info, &path);
            let mut reply = Reply::ok(invocation.body.collect(self.body_bytes).await?);
            if let Some(content_type) = invocation.meta.headers.get(http::header::CONTENT_TYPE) {
                reply
                    .headers
                    .insert(http::header::CONTENT_TYPE, content_type.clone());
            }
            match verb {
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
}

//! The contract `lambda`: the program asks for calls, one after the other, by the AWS Lambda
//! Runtime API of 2018-06-01, and the node is its server.
//!
//! One [`LambdaApi`] for each instance. A call waits until the program asks for one, is handed out,
//! and is answered by a second request of the program. A call whose caller has gone is answered
//! into the void, and the next one waits until then. Bounded: connections, heads, both bodies, and
//! one call at a time; a call has no time limit of its own.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::invocation::{Invocation, InvocationId};
use mote_core::log::LogSink;
use mote_core::name::FunctionName;
use mote_core::reply::Reply;
use mote_core::runtime::take;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::event::Event;

mod answer;
mod event;
mod server;

/// What an instance's server needs to know.
#[derive(Clone)]
pub struct Settings {
    /// Whose program it is.
    pub function: FunctionName,
    /// Most connections of the program at once; more wait.
    pub connections: usize,
    /// Takes what the program says when it fails to start, line by line. Must not block.
    pub log: Arc<dyn Fn(&str) + Send + Sync>,
}

/// The Runtime API of one instance.
pub struct LambdaApi {
    settings: Settings,
    state: Mutex<State>,
    changed: Notify,
    /// Calls take their turn in the order in which they came.
    turn: Semaphore,
    /// Ends what is under way when the instance has.
    over: CancellationToken,
}

#[derive(Default)]
struct State {
    start: Start,
    /// The program waits for a call.
    asking: Option<oneshot::Sender<Event>>,
    /// The call that was handed out and is not answered to its end.
    current: Option<Current>,
    gone: bool,
}

#[derive(Default)]
enum Start {
    #[default]
    UnderWay,
    Done,
    Failed(Error),
}

/// A call in the hands of the program.
struct Current {
    id: InvocationId,
    /// Taken by the request that answers it.
    answer: Option<Answer>,
}

/// Where the answer of a call goes.
struct Answer {
    reply: oneshot::Sender<Result<Reply, Error>>,
    body_bytes_max: u64,
    log: Arc<dyn LogSink>,
}

impl LambdaApi {
    /// The server's side of one instance that is being started.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            settings,
            state: Mutex::default(),
            changed: Notify::new(),
            turn: Semaphore::new(1),
            over: CancellationToken::new(),
        })
    }

    /// Answers the program's requests until the shutdown, or until the instance is gone; then its
    /// connections are closed.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let over = self.over.clone();
        tokio::select! {
            () = server::serve(self, listener) => {}
            () = shutdown.cancelled() => {}
            () = over.cancelled() => {}
        }
    }

    /// Waits until the program has asked for its first call. Fails with `FunctionFailed` when it
    /// says that it cannot start, ends, or does not ask `within` that time. Cancel-safe.
    pub async fn initialized(&self, within: Duration) -> Result<(), Error> {
        let started = self.until(|state| match &state.start {
            _ if state.gone => Some(Err(ended_before())),
            Start::UnderWay => None,
            Start::Done => Some(Ok(())),
            Start::Failed(error) => Some(Err(error.clone())),
        });
        let late = |_| {
            Err(failed(format!(
                "not ready after {} ms: the program has not asked for a call",
                within.as_millis()
            ))
            .with_hint(
                "a custom program has to ask the address that $AWS_LAMBDA_RUNTIME_API names",
            ))
        };
        timeout(within, started).await.unwrap_or_else(late)
    }

    /// Serves one call: takes the one that is offered as soon as the program asks for one. When it
    /// has ended or ends before, the call is still on offer.
    ///
    /// Both bodies may have `body_bytes_max` bytes. Dropping the future, or the reply's stream,
    /// leaves the program busy until it has answered.
    pub async fn call(
        &self,
        offered: &mut Option<Invocation>,
        body_bytes_max: u64,
        log: &Arc<dyn LogSink>,
    ) -> Result<Reply, Error> {
        let event = self.event(offered, body_bytes_max).await?;
        let turn = self.turn.acquire().await;
        let (reply, answered) = oneshot::channel();
        let mut answer = Some(Answer {
            reply,
            body_bytes_max,
            log: Arc::clone(log),
        });
        let id = event.id;
        let mut event = Some(event);
        self.until(|state| {
            if state.gone {
                return Some(Err(ended_before()));
            }
            if let Start::Failed(error) = &state.start {
                return Some(Err(error.clone()));
            }
            let asking = state.asking.take()?;
            match asking.send(event.take()?) {
                Ok(()) => {
                    let answer = answer.take();
                    state.current = Some(Current { id, answer });
                    Some(Ok(()))
                }
                // It has hung up since; it will ask again.
                Err(unsent) => {
                    event = Some(unsent);
                    None
                }
            }
        })
        .await?;
        drop(turn);
        // Handed out: whatever happens now, no other instance may serve it.
        drop(take(offered));
        let broken_off = |_| Err(failed("the program broke off its answer"));
        answered.await.unwrap_or_else(broken_off)
    }

    /// The instance has ended. A call that it holds fails; calls that it never got stay on offer.
    pub fn gone(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.asking = None;
        let current = state.current.take();
        drop(state);
        if let Some(answer) = current.and_then(|current| current.answer) {
            answer.give(Err(failed("the program ended during the call")));
        }
        self.over.cancel();
        self.changed.notify_waiters();
    }

    /// Whether the program holds a call, also one that nobody waits for any more.
    pub fn busy(&self) -> bool {
        self.lock().current.is_some()
    }

    /// Waits until the program holds no call. Cancel-safe.
    pub async fn idle(&self) {
        self.until(|state| state.current.is_none().then_some(()))
            .await;
    }

    /// What the program gets. The body is read first; until then the call stays where it is.
    async fn event(
        &self,
        offered: &mut Option<Invocation>,
        body_bytes_max: u64,
    ) -> Result<Event, Error> {
        let body = match offered {
            Some(invocation) => std::mem::take(&mut invocation.body),
            None => Body::empty(),
        };
        let body = match body.collect(body_bytes_max).await {
            Ok(body) => body,
            Err(error) => {
                // It can be sent to nobody.
                *offered = None;
                return Err(error);
            }
        };
        let Some(invocation) = offered else {
            return Err(Error::new(
                ErrorKind::Internal,
                "a call was offered that is taken",
            ));
        };
        invocation.body = Body::Bytes(body.clone());
        Ok(Event::new(invocation, &body, &self.settings.function))
    }

    /// Waits until `look` finds something in the state.
    async fn until<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    fn give(self, reply: Result<Reply, Error>) {
        // Nobody waits for the answer of a call that was cancelled.
        let _ = self.reply.send(reply);
    }
}

fn ended_before() -> Error {
    failed("the program ended before it asked for the call")
}

fn failed(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::FunctionFailed, message)
}

impl fmt::Debug for LambdaApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LambdaApi")
            .field("function", &self.settings.function)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

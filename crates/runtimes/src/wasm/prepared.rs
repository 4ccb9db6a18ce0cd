//! A Wasm function that is ready on this node: an image on disk, and per engine what is needed to
//! start calls from it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, Method};
use mote_core::body::Body;
use mote_core::error::{Error, ErrorKind};
use mote_core::host::{Alone, Caller, Host};
use mote_core::invocation::{Invocation, InvocationId, Meta};
use mote_core::log::{Level, LogSink};
use mote_core::reply::Reply;
use mote_core::runtime::{BoxFuture, CallContext, Image, Instance, Prepared, take};
use mote_core::spec::FunctionSpec;
use wasmtime::component::Linker;
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};

use super::Wasm;
use super::command::{self, CommandPre};
use super::engines::{Engines, Place};
use super::failure::guest_error;
use super::function;
use super::funless::{self, FunlessPre};
use super::http;
use super::image::{Images, Shape, load_component, load_module};
use super::store::{Call, CallState};
use super::world::{self, Function, FunctionPre};

/// One version of a Wasm function, made ready.
#[derive(Clone)]
pub(super) struct WasmFunction {
    pub(super) spec: Arc<FunctionSpec>,
    image: Image,
    shape: Shape,
    engines: Arc<Engines>,
    images: Arc<Images>,
}

impl WasmFunction {
    pub(super) fn new(spec: &Arc<FunctionSpec>, image: Image, shape: Shape, wasm: &Wasm) -> Self {
        let (engines, images) = (Arc::clone(&wasm.engines), Arc::clone(&wasm.images));
        Self {
            spec: Arc::clone(spec),
            image,
            shape,
            engines,
            images,
        }
    }

    /// Loads the code and instantiates it once, which finds imports that the node does not offer,
    /// memories over the limit, and code that fails as it starts.
    pub(super) async fn try_out(&self) -> Result<(), Error> {
        let loaded = self.load().await?;
        let trial = loaded.instantiate_once();
        match tokio::time::timeout(self.spec.limits.timeout, trial).await {
            Ok(Err(error)) => Err(match error.kind() {
                ErrorKind::FunctionFailed | ErrorKind::Timeout => {
                    Error::new(ErrorKind::BadRequest, error.message().to_owned())
                }
                // The node's own trouble says nothing about the code.
                _ => error,
            }),
            Ok(Ok(())) => Ok(()),
            Err(_) => Err(Error::new(
                ErrorKind::BadRequest,
                "the code did not start within the function's timeout",
            )),
        }
    }

    async fn load(&self) -> Result<Arc<Loaded>, Error> {
        let function = self.clone();
        let loading = tokio::task::spawn_blocking(move || {
            function.images.verify(&function.image)?;
            // For all engines now, while the file is what was verified.
            let engines = function.engines.all().iter().enumerate();
            let shards: Result<Vec<_>, _> = engines
                .map(|(number, engine)| function.link(number, engine))
                .collect();
            let loaded = Loaded {
                shards: shards?,
                function,
            };
            Ok(Arc::new(loaded))
        });
        loading
            .await
            .map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?
    }

    fn link(&self, number: usize, engine: &Engine) -> Result<Shard, Error> {
        let WasmFunction {
            shape,
            image,
            images,
            ..
        } = self;
        let path = images.path(image);
        let failed = |error: wasmtime::Error| {
            Error::new(
                ErrorKind::Internal,
                format!("image {} cannot be loaded: {error:#}", image.file),
            )
        };
        let refused = |error: wasmtime::Error| {
            Error::new(
                ErrorKind::BadRequest,
                format!("the code asks for what this node does not offer: {error:#}"),
            )
            .with_hint("build it for mote:function, wasi:http 0.2 or WASI preview 1")
        };
        let (code, needs) = match shape {
            Shape::Function => {
                let component = load_component(engine, &path).map_err(failed)?;
                let needs = component.resources_required();
                let linker = component_linker(engine).map_err(failed)?;
                let pre = linker
                    .instantiate_pre(&component)
                    .and_then(FunctionPre::new);
                (Code::Function(pre.map_err(refused)?), needs)
            }
            Shape::Http => {
                let component = load_component(engine, &path).map_err(failed)?;
                let needs = component.resources_required();
                let linker = component_linker(engine).map_err(failed)?;
                let pre = linker.instantiate_pre(&component).and_then(ProxyPre::new);
                (Code::Http(pre.map_err(refused)?), needs)
            }
            Shape::Command => {
                let module = load_module(engine, &path).map_err(failed)?;
                let needs = Some(module.resources_required());
                let pre = CommandPre::new(engine, &module).map_err(refused)?;
                (Code::Command(pre), needs)
            }
            Shape::Funless => {
                let module = load_module(engine, &path).map_err(failed)?;
                let needs = Some(module.resources_required());
                let pre = FunlessPre::new(engine, &module).map_err(refused)?;
                (Code::Funless(pre), needs)
            }
        };
        // What cannot be told beforehand is taken to be all that the pool allows for a component.
        let (memories, tables) =
            needs.map_or((16, 32), |needs| (needs.num_memories, needs.num_tables));
        Ok(Shard {
            extra: self.engines.extra_parts(memories, tables),
            number,
            engine: engine.clone(),
            code,
            spec: Arc::new(self.spec.as_ref().clone()),
            warm: Mutex::default(),
        })
    }
}

impl Prepared for WasmFunction {
    fn start(&self, _host: Arc<dyn Host>) -> BoxFuture<'_, Result<Arc<dyn Instance>, Error>> {
        Box::pin(async move { Ok(self.load().await? as Arc<dyn Instance>) })
    }

    fn image(&self) -> Option<Image> {
        Some(self.image.clone())
    }

    fn shape(&self) -> &'static str {
        self.shape.title()
    }

    fn streams(&self) -> bool {
        self.shape == Shape::Http
    }

    fn isolation(&self) -> String {
        super::ISOLATION.to_owned()
    }
}

/// A function that is mapped into memory.
pub(super) struct Loaded {
    pub(super) function: WasmFunction,
    shards: Vec<Shard>,
}

/// A function on one engine.
pub(super) struct Shard {
    /// The engine's number.
    pub(super) number: usize,
    pub(super) engine: Engine,
    pub(super) code: Code,
    /// The function's, copied: every call counts a reference, and threads that count the same ones
    /// slow each other down.
    spec: Arc<FunctionSpec>,
    /// Parts of the pool that a call takes beyond its own.
    extra: u32,
    /// Stores that may serve more calls, when the spec allows reuse.
    warm: Mutex<Vec<Kept>>,
}

/// What a shape needs to start a call.
pub(super) enum Code {
    Function(FunctionPre<CallState>),
    Http(ProxyPre<CallState>),
    Command(CommandPre),
    Funless(FunlessPre),
}

/// A store that has served calls and may serve more.
pub(super) struct Warm {
    pub(super) store: Store<CallState>,
    pub(super) guest: Guest,
    pub(super) calls: u32,
}

/// A warm store in its place. The store goes before the place does.
struct Kept {
    warm: Warm,
    _place: Place,
}

/// An instance inside a store.
pub(super) enum Guest {
    Function(Function),
    Http(Proxy),
}

/// An instance that has served calls, and how many.
type Used = (Guest, u32);

impl Loaded {
    /// The function on this thread's engine.
    fn shard(&self) -> &Shard {
        &self.shards[self.function.engines.current()]
    }

    /// A store for this call: a warm one if there is one, otherwise fresh.
    pub(super) fn store(
        &self,
        shard: &Shard,
        call: Call,
    ) -> Result<(Store<CallState>, Option<Used>), Error> {
        if self.function.spec.reuse > 1
            && let Some(Kept { warm, .. }) = shard.warm().pop()
        {
            let Warm {
                mut store,
                guest,
                calls,
            } = warm;
            let nested = self.nested_place(shard, &call)?;
            store.data_mut().renew(call);
            store.data_mut().nested = nested;
            super::store::begin_slice(&mut store);
            return Ok((store, Some((guest, calls))));
        }
        Ok((self.fresh_store(shard, call)?, None))
    }

    /// A store for this call, with room for what its code needs.
    pub(super) fn fresh_store(&self, shard: &Shard, call: Call) -> Result<Store<CallState>, Error> {
        let nested = self.nested_place(shard, &call)?;
        let mut store = CallState::store(&shard.engine, &shard.spec, call);
        store.data_mut().nested = nested;
        if shard.extra > 0 {
            let extra = self.function.engines.extra(shard.number, shard.extra);
            let extra = extra.ok_or_else(|| {
                Error::new(
                    ErrorKind::Overloaded,
                    "this node has no room for another instance with so many memories or tables",
                )
                .with_retry_after(Duration::from_secs(1))
            });
            store.data_mut().extra = Some(extra?);
        }
        Ok(store)
    }

    /// Room for a call, if it is nested in another: its caller has that of a call from outside.
    fn nested_place(&self, shard: &Shard, call: &Call) -> Result<Option<Place>, Error> {
        if call.context.caller.ancestors.is_none() {
            return Ok(None);
        }
        let place = self.function.engines.nested(shard.number);
        place.map(Some).ok_or_else(|| {
            let message = "this node has no room for another nested call";
            Error::new(ErrorKind::Overloaded, message).with_retry_after(Duration::from_secs(1))
        })
    }

    /// Keeps a store for another call, if the spec allows one more.
    pub(super) fn keep(&self, shard: &Shard, mut warm: Warm) {
        warm.store.data_mut().end_call();
        if warm.calls < self.function.spec.reuse
            && let Some(place) = self.function.engines.place(shard.number)
        {
            shard.warm().push(Kept {
                warm,
                _place: place,
            });
        }
    }

    pub(super) fn ticker(&self) -> &Arc<super::meter::Ticker> {
        self.function.engines.ticker()
    }

    async fn instantiate_once(&self) -> Result<(), Error> {
        let shard = &self.shards[0];
        let mut store = self.fresh_store(shard, trial_call(&self.function.spec))?;
        let meter = Arc::clone(&store.data().meter);
        let trial = async {
            match &shard.code {
                Code::Function(pre) => pre.instantiate_async(&mut store).await.map(drop),
                Code::Http(pre) => pre.instantiate_async(&mut store).await.map(drop),
                // A command does nothing before it is called, and its environment is that of a call.
                Code::Command(_) => Ok(()),
                Code::Funless(pre) => pre.try_out(&mut store).await,
            }
        };
        let tried = meter.run(self.ticker(), shard.number, pin!(trial)).await;
        tried.map_err(|error| guest_error(&error, Some(store.data())))
    }
}

impl Shard {
    fn warm(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Instance for Loaded {
    fn call<'a>(
        &'a self,
        offered: &'a mut Option<Invocation>,
        context: CallContext,
    ) -> BoxFuture<'a, Result<Reply, Error>> {
        let invocation = match take(offered) {
            Ok(invocation) => invocation,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        let shard = self.shard();
        // A box for each shape, as large as that shape needs.
        match &shard.code {
            Code::Function(pre) => Box::pin(function::call(self, shard, pre, invocation, context)),
            Code::Http(pre) => Box::pin(http::call(self, shard, pre, invocation, context)),
            Code::Command(pre) => Box::pin(command::call(self, shard, pre, invocation, context)),
            Code::Funless(pre) => Box::pin(funless::call(self, shard, pre, invocation, context)),
        }
    }

    fn idle_bytes(&self) -> u64 {
        self.function.image.bytes
    }
}

/// Everything that components may import; what is not granted is denied when it is used.
fn component_linker(engine: &Engine) -> wasmtime::Result<Linker<CallState>> {
    let mut linker = Linker::new(engine);
    world::add_to_linker(&mut linker)?;
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// The call that a trial at deploy pretends to serve; its log goes nowhere.
fn trial_call(spec: &FunctionSpec) -> Call {
    struct Nowhere;
    impl LogSink for Nowhere {
        fn line(&self, _: InvocationId, _: Level, _: &str) {}
    }
    let meta = Meta {
        method: Method::GET,
        target: PathAndQuery::from_static("/"),
        prefix: 1,
        headers: HeaderMap::new(),
    };
    Call::new(
        InvocationId {
            sequence: 0,
            node: 0,
        },
        meta,
        CallContext {
            host: Arc::new(Alone::new(Arc::new(Nowhere)).with_settings(&spec.env)),
            caller: Caller::root(spec.limits.timeout),
        },
        spec,
    )
}

/// A reply's body within the function's limit.
pub(super) fn checked_body(bytes: Vec<u8>, spec: &FunctionSpec) -> Result<Body, Error> {
    if bytes.len() as u64 > spec.limits.body_bytes {
        let too_large =
            wasmtime::Error::from(super::failure::ReplyTooLarge(spec.limits.body_bytes));
        return Err(guest_error(&too_large, None));
    }
    Ok(Body::Bytes(bytes.into()))
}

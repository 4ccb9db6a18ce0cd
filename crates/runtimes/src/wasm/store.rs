//! What a guest's store holds: the call it serves, its limits, and, once it asks for it, WASI.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use mote_core::invocation::{InvocationId, Meta};
use mote_core::log::Level;
use mote_core::runtime::CallContext;
use mote_core::spec::FunctionSpec;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::engines::Place;
use super::failure::CpuUsedUp;
use super::funless::Exchange;
use super::meter::Meter;
use super::outbound::Outbound;
use super::stdio::{CallLog, LogStream};
use super::world::{Opened, Started};

/// The data of a store.
pub(super) struct CallState {
    pub(super) spec: Arc<FunctionSpec>,
    pub(super) meter: Arc<Meter>,
    pub(super) limiter: Limiter,
    pub(super) call: Call,
    /// Most guests never touch WASI, and its context costs more than they do.
    wasi: Option<Box<Wasi>>,
    /// Set for commands and FunLess modules, which cannot do without.
    pub(super) command: Option<Box<WasiP1Ctx>>,
    /// What a FunLess module is asked and answers.
    pub(super) exchange: Option<Box<Exchange>>,
    /// What the guest opened of its app's data.
    pub(super) opened: Option<Box<Opened>>,
    /// The number of the next call that the guest starts; one that was used is never used again.
    pub(super) next_started: u32,
    /// Room for what the guest needs beyond its part of the pool.
    pub(super) extra: Option<Place>,
    /// Room for a call that is nested in another.
    pub(super) nested: Option<Place>,
}

/// The call that a store serves now.
pub(super) struct Call {
    pub(super) id: InvocationId,
    pub(super) meta: Meta,
    pub(super) context: CallContext,
    /// Most calls write nothing.
    log: OnceCell<Arc<CallLog>>,
    log_bytes: u64,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) header_bytes: usize,
    pub(super) publish: bool,
    /// Calls of siblings that it started. They end with it.
    pub(super) started: Started,
}

struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    outbound: Outbound,
}

impl Call {
    pub(super) fn new(
        id: InvocationId,
        meta: Meta,
        context: CallContext,
        spec: &FunctionSpec,
    ) -> Self {
        Self {
            id,
            meta,
            context,
            log: OnceCell::new(),
            log_bytes: spec.limits.log_bytes,
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            header_bytes: 0,
            publish: false,
            started: Started::default(),
        }
    }

    /// Where the guest's lines go.
    pub(super) fn log(&self) -> &Arc<CallLog> {
        self.log
            .get_or_init(|| Arc::new(CallLog::new(self.id, self.context.log(), self.log_bytes)))
    }
}

impl CallState {
    /// A store for a call, with limits and interruption set up.
    pub(super) fn store(engine: &Engine, spec: &Arc<FunctionSpec>, call: Call) -> Store<CallState> {
        let limits = &spec.limits;
        let state = CallState {
            spec: Arc::clone(spec),
            meter: Arc::new(Meter::new()),
            limiter: Limiter::new(limits.memory_bytes, limits.table_elements),
            call,
            wasi: None,
            command: None,
            exchange: None,
            opened: None,
            next_started: 0,
            extra: None,
            nested: None,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(copied_max(limits.memory_bytes));
        interrupt(&mut store, limits.cpu);
        store
    }

    /// Lets go of what belongs to a call that is over, though the store stays.
    pub(super) fn end_call(&mut self) {
        self.call.started = Started::default();
        self.nested = None;
    }

    /// Makes a store that has served a call ready for another one.
    pub(super) fn renew(&mut self, call: Call) {
        self.call = call;
        match Arc::get_mut(&mut self.meter) {
            Some(meter) => *meter = Meter::new(),
            None => self.meter = Arc::new(Meter::new()),
        }
        self.limiter.refused.store(false, Ordering::Relaxed);
        // Handles that the guest keeps live in the table; only where its lines go is of the call.
        if let Some(wasi) = &mut self.wasi {
            wasi.context = context(&self.spec, self.call.log()).build();
            wasi.outbound = Outbound::new(&self.spec, self.call.log());
        }
    }

    fn wasi(&mut self) -> &mut Wasi {
        self.wasi.get_or_insert_with(|| {
            let mut table = ResourceTable::new();
            table.set_max_capacity(RESOURCES_MAX);
            let mut http = WasiHttpCtx::new();
            http.set_field_size_limit(FIELDS_BYTES_MAX);
            Box::new(Wasi {
                context: context(&self.spec, self.call.log()).build(),
                table,
                http,
                outbound: Outbound::new(&self.spec, self.call.log()),
            })
        })
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self.wasi();
        WasiCtxView {
            ctx: &mut wasi.context,
            table: &mut wasi.table,
        }
    }
}

impl WasiHttpView for CallState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let wasi = self.wasi();
        WasiHttpCtxView {
            hooks: &mut wasi.outbound,
            table: &mut wasi.table,
            ctx: &mut wasi.http,
        }
    }
}

/// Most bytes that the node copies for one call of the guest to the host. A list may name the same
/// memory over and over; without that, four times what the guest has is more than it can ask for.
fn copied_max(memory_bytes: u64) -> usize {
    const MAX: usize = 128 << 20;
    usize::try_from(memory_bytes.saturating_mul(4)).map_or(MAX, |bytes| bytes.min(MAX))
}

/// Lets a guest run for one tick from now.
pub(super) fn begin_slice(store: &mut Store<CallState>) {
    store.set_epoch_deadline(1);
}

/// Lets a guest run for one tick, then makes it give way, until its CPU time is used up.
fn interrupt(store: &mut Store<CallState>, cpu: Duration) {
    begin_slice(store);
    store.epoch_deadline_callback(move |state| {
        if state.data().meter.used() > cpu {
            return Err(CpuUsedUp(cpu).into());
        }
        Ok(UpdateDeadline::Yield(1))
    });
}

/// Most resources (streams, headers, files, requests) that a guest may hold: they are the node's
/// memory and descriptors, not the guest's.
pub(super) const RESOURCES_MAX: usize = 1000;
/// Most bytes of one set of headers that a guest may build.
const FIELDS_BYTES_MAX: usize = 32 << 10;

/// What a guest of this function finds of the world: its grants and nothing else.
pub(super) fn context(spec: &FunctionSpec, log: &Arc<CallLog>) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .stdout(LogStream::new(log, Level::Info))
        .stderr(LogStream::new(log, Level::Warn));
    for (key, value) in &spec.env {
        builder.env(key, value);
    }
    for grant in &spec.allow.read {
        if let Err(error) = builder.preopened_dir(&grant.host, &grant.guest, FsPerms::ReadOnly) {
            log.line(
                Level::Warn,
                &format!(
                    "allow.read `{}` cannot be opened: {error}",
                    grant.host.display()
                ),
            );
        }
    }
    builder
}

/// Limits the sum of a store's memories and tables.
#[derive(Debug)]
pub(super) struct Limiter {
    memory_left: u64,
    table_left: u64,
    /// Whether the guest was refused something; explains a trap that follows.
    pub(super) refused: AtomicBool,
}

impl Limiter {
    fn new(memory_bytes: u64, table_elements: u64) -> Self {
        Self {
            memory_left: memory_bytes,
            table_left: table_elements,
            refused: AtomicBool::new(false),
        }
    }

    fn take(left: &mut u64, refused: &AtomicBool, current: usize, desired: usize) -> bool {
        let growth = desired.saturating_sub(current) as u64;
        match left.checked_sub(growth) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => {
                refused.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(Self::take(
            &mut self.memory_left,
            &self.refused,
            current,
            desired,
        ))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _max: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(Self::take(
            &mut self.table_left,
            &self.refused,
            current,
            desired,
        ))
    }
}

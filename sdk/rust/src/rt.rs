//! What the generated bindings stand on, and the way of a call through a handler.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::panic;
use std::ptr::{self, NonNull};
use std::sync::Once;

use crate::bindings::mote::function::response;
use crate::log::{Level, log};
use crate::{IntoReply, Request};

/// Serves the call that this instance was made for.
pub fn serve<R: IntoReply>(handler: fn(Request) -> R, body: Vec<u8>) -> Result<Vec<u8>, String> {
    static PANICS: Once = Once::new();
    // A panic ends the call with a trap, which has no words; these go to the function's log before.
    PANICS.call_once(|| panic::set_hook(Box::new(|panic| log(Level::Error, &panic.to_string()))));
    let reply = handler(Request::of_this_call(body)).into_reply()?;
    if let Some(status) = reply.status {
        response::set_status(status);
    }
    for (name, value) in &reply.headers {
        response::set_header(name, value);
    }
    if reply.publish {
        response::publish();
    }
    Ok(reply.body)
}

/// Memory for a list on its way to the host; given back when the call is over.
pub(crate) struct Cleanup {
    block: NonNull<u8>,
    layout: Layout,
}

impl Cleanup {
    pub(crate) fn new(layout: Layout) -> (*mut u8, Option<Self>) {
        if layout.size() == 0 {
            return (ptr::without_provenance_mut(layout.align()), None);
        }
        // SAFETY: the size is not zero.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        (block.as_ptr(), Some(Self { block, layout }))
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        // SAFETY: the block came from `alloc` with this layout, and is given back once.
        unsafe { dealloc(self.block.as_ptr(), self.layout) }
    }
}

/// Constructors of C++ and of linked libraries run before the first call, and not before each export as they would
/// when nothing called them.
#[cfg(target_arch = "wasm32")]
pub(crate) fn run_ctors_once() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static RAN: AtomicBool = AtomicBool::new(false);
    unsafe extern "C" {
        fn __wasm_call_ctors();
    }
    if !RAN.swap(true, Ordering::Relaxed) {
        // SAFETY: the linker makes it, and it is called once.
        unsafe { __wasm_call_ctors() }
    }
}

/// Memory for what the host passes in, as the canonical ABI asks for it.
#[cfg_attr(target_arch = "wasm32", unsafe(export_name = "cabi_realloc"))]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    size: usize,
) -> *mut u8 {
    if size == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the host passes what it got before, and alignments of the canonical ABI, which are powers of two.
    unsafe {
        let layout = Layout::from_size_align_unchecked(size, align);
        let block = if old_size == 0 {
            alloc(layout)
        } else {
            realloc(
                old,
                Layout::from_size_align_unchecked(old_size, align),
                size,
            )
        };
        if block.is_null() {
            handle_alloc_error(layout);
        }
        block
    }
}

/// Called by what every binding refers to, so that no linker takes `cabi_realloc` for unused.
pub(crate) fn maybe_link_cabi_realloc() {
    #[used]
    static KEEP: unsafe extern "C" fn(*mut u8, usize, usize, usize) -> *mut u8 = cabi_realloc;
}

//! What a small guest has in place of the standard library: an allocator and a panic handler.
//!
//! A guest lives for one call, so an allocator that hands out memory from a rising mark and takes
//! back only what lies on top costs a few instructions and half a kilobyte of code, where a general
//! one costs many times that. When nothing is allocated any more the mark falls back to the start;
//! that is what keeps an instance that serves many calls (`reuse`) from growing.
//! Bounded by the memory limit of the function: past it an allocation fails and the guest traps.
//!
//! A guest says `use lean as _;` and needs nothing else from here.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32;
use core::cell::Cell;
use core::panic::PanicInfo;
use core::ptr;

const PAGE_BYTES: usize = 64 * 1024;

#[global_allocator]
static HEAP: Heap = Heap {
    top: Cell::new(0),
    live: Cell::new(0),
};

/// A mark that rises with each allocation.
struct Heap {
    /// The first free address; zero until the first allocation.
    top: Cell<usize>,
    /// Blocks handed out and not yet returned.
    live: Cell<usize>,
}

// SAFETY: a guest has one thread, so nothing else can see the cells while they change.
unsafe impl Sync for Heap {}

unsafe extern "C" {
    /// Placed by the linker where the stack and the static data end.
    static __heap_base: u8;
}

impl Heap {
    fn base() -> usize {
        &raw const __heap_base as usize
    }

    /// Moves the mark to `end`, with more memory from the host when it takes that.
    fn raise(&self, end: usize) -> bool {
        let pages = wasm32::memory_size::<0>();
        if end > pages * PAGE_BYTES {
            let missing = end.div_ceil(PAGE_BYTES) - pages;
            if wasm32::memory_grow::<0>(missing) == usize::MAX {
                return false;
            }
        }
        self.top.set(end);
        true
    }
}

// SAFETY: `alloc` returns addresses between the mark before and after the call, aligned as asked,
// inside the memory `raise` made sure of; the mark falls only below blocks that were given back.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let top = match self.top.get() {
            0 => Self::base(),
            top => top,
        };
        let start = (top + layout.align() - 1) & !(layout.align() - 1);
        let Some(end) = start.checked_add(layout.size()) else {
            return ptr::null_mut();
        };
        if !self.raise(end) {
            return ptr::null_mut();
        }
        self.live.set(self.live.get() + 1);
        start as *mut u8
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let live = self.live.get() - 1;
        self.live.set(live);
        if live == 0 {
            self.top.set(Self::base());
        } else if block as usize + layout.size() == self.top.get() {
            self.top.set(block as usize);
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let on_top = block as usize + layout.size() == self.top.get();
        if on_top {
            // The usual case, a vector that grows: it grows in place.
            return match (block as usize).checked_add(size) {
                Some(end) if self.raise(end) => block,
                _ => ptr::null_mut(),
            };
        }
        // SAFETY: the caller vouches for `size` and for the block; the new one is elsewhere.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// A guest that panics traps, and the platform answers for it; the text would only cost bytes.
#[panic_handler]
fn trap(_: &PanicInfo<'_>) -> ! {
    wasm32::unreachable()
}

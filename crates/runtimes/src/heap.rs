//! The node's own heap.

/// Gives memory that was freed, and that the allocator keeps for later, back to the system: deploys and starts leave
/// some of it between what stays. For when the node comes to rest: it holds up other threads that allocate for
/// about a millisecond. Does nothing where the allocator is not glibc's.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(
            unsafe_code,
            reason = "a function of the C library, without arguments that matter"
        )]
        // SAFETY: malloc_trim(3) may be called at any time, from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

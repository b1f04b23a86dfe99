//! What the allocator gives back to the system, and when.
//!
//! *Why.* By default mimalloc keeps what was freed for a second before it lets go of the pages, and the system backs its arenas with
//! huge pages. A receiver frees as much as it takes in: at 100 MB/s a second of that is a fifth of the default memory limit,
//! and a huge page stays resident for one small object in it. Huge pages are off (`no_thp`), and the second is a fraction of one.
//! What that costs is in `docs/performance/memory.md`.

use std::ffi::{c_int, c_long};

/// Bound here rather than through the bindings' `extended` feature, which needs one more crate for two functions.
#[expect(unsafe_code, reason = "the allocator has no other face")]
mod c {
    use super::{c_int, c_long};

    unsafe extern "C" {
        pub(super) fn mi_option_set(option: c_int, value: c_long);
        pub(super) fn mi_collect(force: bool);
    }
}

/// The allocator of the process.
pub type Allocator = mimalloc::MiMalloc;

/// `mi_option_purge_delay`: the same number in every version since 2.0.
const PURGE_DELAY: c_int = 15;

/// Long enough that what one request frees is there for the next, short enough to be little at any rate.
const PURGE_DELAY_MS: c_long = 50;

/// Sets how soon freed memory goes back. To be called once, before the first thread is started.
#[expect(unsafe_code, reason = "see the module")]
pub fn tune() {
    // SAFETY: the signature is that of mimalloc.h. The option is read by allocating threads without synchronisation; there is
    // only the calling one yet. An unknown number or value is ignored by the function.
    unsafe { c::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Gives back now what was freed. Takes milliseconds: for when memory is short.
#[expect(unsafe_code, reason = "see the module")]
pub(crate) fn collect() {
    // SAFETY: the signature is that of mimalloc.h; the function may be called from any thread at any time, also where another
    // allocator serves the process, which it then leaves alone.
    unsafe { c::mi_collect(true) }
}

//! What the allocator gives back to the system, and when.
//!
//! *Why.* What was freed and has not gone back to the system is taken again without a page fault, and a receiver takes as much
//! as it frees: where everything free went back every 50 ms, taking it again cost 8 to 16 parts in a hundred of all processor
//! time. So it is kept, and goes back when somebody asks: `serve::memory` does, when memory comes near its limit or
//! is not in use. Huge pages are off (`no_thp`): one small object keeps 2 MiB of them. What both cost is in
//! `docs/performance/memory.md`.

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

/// A backstop for commands that nobody watches. Zero would let everything go at once, less than that would keep it from ever going.
const PURGE_DELAY_MS: c_long = 10_000;

/// Sets how soon freed memory goes back by itself. To be called once, before the first thread is started.
#[expect(unsafe_code, reason = "see the module")]
pub fn tune() {
    // SAFETY: the signature is that of mimalloc.h. The option is read by allocating threads without synchronisation; there is
    // only the calling one yet. An unknown number or value is ignored by the function.
    unsafe { c::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Gives back now what was freed. Takes milliseconds, and as much again when it is taken back.
#[expect(unsafe_code, reason = "see the module")]
pub(crate) fn collect() {
    // SAFETY: the signature is that of mimalloc.h; the function may be called from any thread at any time, also where another
    // allocator serves the process, which it then leaves alone.
    unsafe { c::mi_collect(true) }
}

/// Lets go of what the calling thread keeps for its next allocations; the pages stay with the process. For threads that have just done
/// something large: they keep a page of each size up to 4 MiB that they used, for as long as they sleep.
#[expect(unsafe_code, reason = "see the module")]
pub(crate) fn let_go() {
    // Pages that became empty are kept for up to four rounds.
    for _ in 0..4 {
        // SAFETY: as above.
        unsafe { c::mi_collect(false) }
    }
}

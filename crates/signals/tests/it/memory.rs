//! What the state holds, counted byte by byte as it is allocated.
//!
//! The allocator of this program counts for each thread apart, and each test runs on its own: what other tests do does not
//! show.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_signals::{SignalLimits, SignalState};

use crate::build::{CLIENT, SERVER, Sent, send, span, text};

struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn add(bytes: isize) {
    // At the end of a thread the counter may be gone already; nobody reads it then.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes to the system's allocator as it came and its answer is returned as it is; counting neither
// allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: as above; `at` came from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread holds.
pub(crate) fn held() -> isize {
    HELD.with(Cell::get)
}

/// One request of an operation with a call to another service: of many latencies, some failed, from many places.
fn request(operation: u64, number: u64, at: u64) -> [Sent; 3] {
    const SERVICES: [&str; 4] = ["a", "b", "c", "d"];
    let service = SERVICES[(operation % 4) as usize];
    let trace = u128::from(operation) << 64 | u128::from(number) << 32 | u128::from(at);
    let took = 20 + (operation * 7 + number * number * 31) % 400;
    let letter = char::from_u32(0x4e00 + operation as u32).expect("there are thousands of letters from there on");
    let mut served = span(service, SERVER, &format!("GET /{letter}"), 1, 0, at, at + took)
        .trace(trace)
        .with("http.response.status_code", Value::IntValue(if number.is_multiple_of(20) { 503 } else { 200 }))
        .with("region", text(["eu", "us", "ap"][(number % 3) as usize]))
        .with("tenant", text(["red", "blue", "green", "white"][(number % 4) as usize]));
    if number.is_multiple_of(20) {
        served = served.failed().throws("TimeoutException", "no answer in time", "");
    }
    let call = span(service, CLIENT, "call", 2, 1, at + 2, at + took - 2).trace(trace);
    [served, call, span("store", SERVER, "read", 3, 2, at + 4, at + took - 4).trace(trace)]
}

#[test]
fn a_live_operation_takes_at_most_twenty_kibibytes_with_its_open_traces() {
    // A fifth of ten thousand operations, with a fifth of the room that there is for the cells of all.
    const OPERATIONS: u64 = 2_000;
    let whole = SignalLimits::default();
    let limits = SignalLimits {
        rolling_cells_max: whole.rolling_cells_max / 5,
        pending_cells_max: whole.pending_cells_max / 5,
        side_cells_max: whole.side_cells_max / 5,
        ..whole
    };
    let before = held();
    let mut state = SignalState::new(limits);
    let mut most = 0;
    for bucket in 0..18_u64 {
        for number in 0..6 {
            let at = bucket * 10_000 + number * 1_500;
            let spans: Vec<Sent> =
                (0..OPERATIONS).flat_map(|operation| request(operation, bucket * 6 + number, at)).collect();
            send(&mut state, at + 500, &spans);
        }
        most = most.max(held() - before);
        state.take_rows();
    }
    assert!(state.size().operations > 2_000 && state.size().rolling_cells > 20_000, "{:?}", state.size());
    assert!(state.counters().dropped == 0, "{:?}", state.counters());
    let each = most / OPERATIONS as isize;
    assert!(each <= 20 * 1_024, "{each} bytes");
    assert!(each >= 1_024, "{each} bytes are too few to be counted right");
}

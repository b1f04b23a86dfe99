//! Values that become more text than they are on the wire: bounded before the text is made.
//!
//! The allocator of this program counts for each thread apart what was asked of it. What is made has to have room, so that the
//! bytes asked for bound the work as well, without a clock. Shared columns are what is measured: they reserve nothing ahead.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use plimsoll_otlp::{RowBuilder, Signal, decode, decode_within};

use crate::malformed::nest;
use crate::rows::RECEIVED;

struct Counting;

thread_local! {
    static ASKED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn ask(bytes: usize) {
    // At the end of a thread the counter may be gone already; nobody reads it then.
    let _ = ASKED.try_with(|asked| {
        let (total, largest) = asked.get();
        asked.set((total + bytes, largest.max(bytes)));
    });
}

// SAFETY: every call goes to the system's allocator as it came and its answer is returned as it is; counting neither
// allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ask(layout.size());
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; `at` came from the same allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ask(size);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a request made: rows or the problem, the bytes asked for in all, and the most at once.
struct Made {
    rows: Result<usize, String>,
    total: usize,
    largest: usize,
}

fn push(signal: Signal, request: &[u8]) -> Made {
    let mut builder = RowBuilder::new(signal);
    ASKED.set((0, 0));
    let pushed = builder.push(request, RECEIVED);
    let (total, largest) = ASKED.get();
    let rows = pushed.map(|pushed| pushed.rows).map_err(|error| {
        assert!(error.is_too_large, "{error}");
        assert_eq!((builder.rows(), builder.bytes()), (0, 0), "nothing of it is left");
        error.problem
    });
    Made { rows, total, largest }
}

/// Where a value may stand.
const PLACES: [&str; 11] =
    ["resource", "scope", "log", "body", "span", "event", "link", "point", "histogram", "exemplar", "metadata"];

/// A request of one record with these attributes, or bodies, in one place.
fn request(place: &str, values: &[Vec<u8>]) -> (Signal, Vec<u8>) {
    let field = |number: u8| -> Vec<u8> {
        let one = |value: &Vec<u8>| nest(number, &[nest(1, b"bomb"), nest(2, value)].concat());
        values.iter().flat_map(one).collect()
    };
    let metric = |fields: &[u8]| (Signal::Metrics, nest(1, &nest(2, &nest(2, fields))));
    let log = |fields: &[u8]| (Signal::Logs, nest(1, &nest(2, &nest(2, fields))));
    let ids = [nest(1, &[1; 16]), nest(2, &[2; 8])].concat();
    let span = |fields: Vec<u8>| (Signal::Traces, nest(1, &nest(2, &nest(2, &[ids.clone(), fields].concat()))));
    match place {
        "resource" => (Signal::Logs, nest(1, &[nest(1, &field(1)), nest(2, &nest(2, &[]))].concat())),
        "scope" => (Signal::Logs, nest(1, &nest(2, &[nest(1, &field(3)), nest(2, &[])].concat()))),
        "log" => log(&field(6)),
        "body" => log(&values.iter().flat_map(|value| nest(5, value)).collect::<Vec<u8>>()),
        "span" => span(field(9)),
        "event" => span(nest(11, &field(3))),
        "link" => span(nest(13, &[ids.clone(), field(4)].concat())),
        "point" => metric(&nest(5, &nest(1, &field(7)))),
        "histogram" => metric(&nest(9, &nest(1, &field(9)))),
        "exemplar" => metric(&nest(5, &nest(1, &nest(5, &field(7))))),
        "metadata" => metric(&[nest(5, &nest(1, &[])), field(12)].concat()),
        other => unreachable!("{other} is no place"),
    }
}

fn string(bytes: usize) -> Vec<u8> {
    nest(1, &vec![1; bytes])
}

fn list(items: &[u8]) -> Vec<u8> {
    nest(5, items)
}

/// A list of one string of control characters.
fn list_of(bytes: usize) -> Vec<u8> {
    list(&nest(1, &string(bytes)))
}

fn map_with(key: &[u8], value: &[u8]) -> Vec<u8> {
    nest(6, &nest(1, &[nest(1, key), nest(2, value)].concat()))
}

/// Short of 16 MiB by what stands around a string in a list or a map.
const MOST: usize = (16 << 20) - 64;

/// What a request takes that makes no text.
const LITTLE: usize = 64 << 10;

#[test]
fn sixteen_mebibytes_of_control_characters_are_never_made_six_times_as_much() {
    for place in PLACES {
        // Nine become more than a value may as well, and are sooner made.
        let whole = matches!(place, "resource" | "scope" | "log");
        let most = if whole { MOST } else { 9 << 20 };
        let mut values =
            vec![("a string", string(most)), ("a list", list_of(most)), ("a map", map_with(b"k", &string(most)))];
        if whole {
            values.extend([
                ("a key", map_with(&vec![1; most], &[])),
                ("lists in a list", list(&nest(1, &list(&nest(1, &list_of(most)))))),
                ("maps in a list", list(&nest(1, &map_with(b"k", &string(most))))),
            ]);
        }
        for (what, value) in values {
            let (signal, bytes) = request(place, &[value]);
            let made = push(signal, &bytes);
            // Resources and scopes are kept as they came as well; a body is read before it is known whether it is kept.
            let kept = match (place, what) {
                ("resource" | "scope", _) => bytes.len(),
                ("body", "a string") => 2 * bytes.len(),
                (_, "a string") => bytes.len(),
                _ => 0,
            };
            assert!(made.total <= kept + LITTLE, "{what} in {place}: {} bytes", made.total);
            let taken = place == "scope" || (what == "a string" && place != "resource");
            assert_eq!(made.rows.is_ok(), taken, "{what} in {place}: {:?}", made.rows);
            if let Err(problem) = made.rows {
                let name = if place == "body" { "the body" } else { "attribute `bomb`" };
                let rule =
                    "it is more than 50331648 bytes as JSON, where a control character takes six; send less in one";
                assert_eq!(problem, format!("{name}: {rule}"), "{what} in {place}");
            }
        }
    }
    let (signal, bytes) = request("resource", &[list_of(MOST)]);
    let alone = decode(signal, &bytes, RECEIVED).map(|decoded| decoded.batch.num_rows());
    assert!(alone.is_err_and(|error| error.is_too_large && error.message == "AnyValue"), "alone it is refused as well");
}

#[test]
fn many_short_strings_become_no_more_text_than_one_value_may() {
    let short = nest(1, &string(64)).repeat(MOST / 68);
    for place in PLACES.into_iter().filter(|place| *place != "scope") {
        let (signal, bytes) = request(place, &[list(&short)]);
        let made = push(signal, &bytes);
        assert!(made.rows.is_err_and(|problem| problem.contains("it is more than 50331648 bytes")), "{place}");
        assert!(made.largest <= 64 << 20, "{place}: {} bytes at once", made.largest);
        assert!(made.total <= 160 << 20, "{place}: {} bytes", made.total);
    }
}

#[test]
fn the_text_of_a_request_is_bounded_over_all_its_columns() {
    // As text 42 MiB each: three fit.
    let value = list_of(7 << 20);
    let (attribute, key) = (|number: u8, key: &[u8]| nest(number, &[nest(1, key), nest(2, &value)].concat()), b"bomb");
    let ids = [nest(1, &[1; 16]), nest(2, &[2; 8])].concat();
    let span = [ids.clone(), attribute(9, key), nest(11, &attribute(3, key)), nest(13, &attribute(4, key))].concat();
    let point = [attribute(7, key), nest(5, &attribute(7, key))].concat();
    let metric = [nest(5, &nest(1, &point)), attribute(12, key)].concat();
    let log = [attribute(6, key), nest(5, &value)].concat();
    let in_resource = nest(1, &attribute(1, key));
    let records = |records: &[u8]| nest(1, &[in_resource.clone(), nest(2, records)].concat());
    for (signal, three, four) in [
        (Signal::Traces, nest(1, &nest(2, &nest(2, &span))), records(&nest(2, &span))),
        (Signal::Metrics, nest(1, &nest(2, &nest(2, &metric))), records(&nest(2, &metric))),
        (Signal::Logs, records(&nest(2, &log)), records(&[nest(2, &log), nest(2, &log)].concat())),
    ] {
        assert_eq!(push(signal, &three).rows, Ok(1), "{signal:?}");
        let made = push(signal, &four);
        let problem = made.rows.expect_err("a fourth is too much");
        assert!(problem.contains("of the request are more than 134217728 bytes as text; send smaller"), "{problem}");
        assert!(made.largest <= 128 << 20, "{signal:?}: {} bytes at once", made.largest);
    }
}

#[test]
fn what_is_dropped_again_counts_as_work() {
    let attribute = |key: u8| nest(1, &[nest(1, &[key]), nest(2, &string(7 << 20))].concat());
    let resources = |keys: &[u8]| -> Vec<u8> {
        let without_records = |key: &u8| nest(1, &nest(1, &attribute(*key)));
        keys.iter().flat_map(without_records).collect()
    };
    assert_eq!(push(Signal::Logs, &resources(b"abc")).rows, Ok(0));
    let problem = push(Signal::Logs, &resources(b"abcd")).rows.expect_err("as much text as four make");
    assert!(problem.starts_with("attribute `d`: with it the lists, maps, bytes and resources"), "{problem}");
    let bytes = nest(6, &nest(2, &nest(7, &vec![0; 34 << 20])));
    let late = [&[0x09][..], &u64::MAX.to_le_bytes()].concat();
    let record = nest(2, &[late, bytes].concat());
    assert_eq!(push(Signal::Logs, &nest(1, &nest(2, &record.repeat(2)))).rows, Ok(0), "both are left out");
    push(Signal::Logs, &nest(1, &nest(2, &record.repeat(3)))).rows.expect_err("three are too much");
}

#[test]
fn values_longer_than_any_list_and_long_keys_are_refused_by_their_name() {
    let too_long = (16 << 20) + 1;
    let of = |number: u8, key: &[u8], value: &[u8]| nest(number, &[nest(1, key), nest(2, value)].concat());
    let resource = |entry: Vec<u8>| nest(1, &nest(1, &entry));
    let log = |entry: Vec<u8>| nest(1, &nest(2, &nest(2, &entry)));
    let letters = vec![b'k'; too_long];
    let shown = format!("attribute `{}..`: its key has more than 16777216 bytes; send less in one", "k".repeat(64));
    let less = "more than 16777216 bytes; send less in one";
    for (bytes, problem) in [
        (resource(of(1, b"a\nb", &nest(1, &letters))), format!("attribute `a\\nb`: its value has {less}")),
        (resource(of(1, &letters, &[])), shown.clone()),
        (log(of(6, &letters, &[])), shown),
        (log(of(6, b"k", &list_of(too_long))), format!("attribute `k`: a list or a map in one value has {less}")),
        (log(nest(5, &list_of(too_long))), format!("the body: a list or a map in one value has {less}")),
    ] {
        let made = push(Signal::Logs, &bytes);
        assert_eq!(made.rows, Err(problem));
        assert!(made.total <= bytes.len() + LITTLE, "{} bytes", made.total);
    }
}

#[test]
fn what_is_large_and_ordinary_is_taken() {
    let quotes = nest(1, &nest(1, &b"\"\n".repeat(MOST / 2)));
    let doubles = nest(1, &[&[0x21][..], &(1.0_f64 / 3.0).to_le_bytes()].concat()).repeat(MOST / 11);
    for (what, value) in [
        ("quotes and line ends", list(&quotes)),
        ("doubles", list(&doubles)),
        ("bytes", nest(7, &vec![0xff; 48 << 20])),
        ("some control characters", list_of((8 << 20) - 64)),
    ] {
        let (signal, bytes) = request("log", &[value]);
        assert_eq!(push(signal, &bytes).rows, Ok(1), "{what}");
    }
    let (signal, bytes) = request("span", &[string(60 << 20)]);
    assert_eq!(push(signal, &bytes).rows, Ok(1), "a long string is as long as it was");
    let (signal, bytes) = request("resource", &[nest(1, &vec![b'x'; MOST])]);
    assert_eq!(push(signal, &bytes).rows, Ok(1), "a resource's too");
}

#[test]
fn a_request_that_becomes_more_than_it_may_ends_as_soon_as_that_is_known() {
    const MOST: usize = 1 << 20;
    let points = nest(1, &nest(2, &nest(2, &nest(5, &b"\x0a\x00".repeat(200_000)))));
    let logs = nest(1, &nest(2, &b"\x12\x00".repeat(200_000)));
    let attributes = nest(1, &nest(2, &nest(2, &b"\x32\x00".repeat(1_000_000))));
    for (signal, request) in [(Signal::Metrics, &points), (Signal::Logs, &logs), (Signal::Logs, &attributes)] {
        ASKED.set((0, 0));
        let error = decode_within(signal, request, RECEIVED, MOST).expect_err("becomes more");
        let (total, _) = ASKED.get();
        assert!(error.is_too_large && error.is_beyond, "{error}");
        assert!(total < 12 * MOST, "{signal:?}: {total} bytes were asked for");
        assert!(decode(signal, request, RECEIVED).is_ok(), "{signal:?}: whole it may");

        let mut builder = RowBuilder::new(signal);
        let record = if signal == Signal::Metrics { nest(5, &nest(1, &[])) } else { Vec::new() };
        let few = nest(1, &nest(2, &nest(2, &record)));
        for _ in 0..3 {
            assert_eq!(builder.push_within(&few, RECEIVED, MOST).expect("is little").rows, 1);
        }
        assert!(builder.push_within(request, RECEIVED, MOST).expect_err("becomes more").is_beyond);
        assert_eq!(builder.rows(), 3, "nothing of it is left");
    }
}

#[test]
fn what_a_request_may_become_is_its_own_and_not_that_of_others_in_the_same_columns() {
    let logs = nest(1, &nest(2, &b"\x12\x00".repeat(1_000)));
    let mut builder = RowBuilder::new(Signal::Logs);
    let one = builder.push(&logs, RECEIVED).expect("is well-formed").bytes;
    for _ in 0..5 {
        assert_eq!(builder.push_within(&logs, RECEIVED, one).expect("is as much as it may be").rows, 1_000);
    }
    assert!(builder.push_within(&logs, RECEIVED, one / 2).is_err());
}

#[test]
fn a_request_that_no_bound_would_let_in_is_told_from_one_that_another_bound_would() {
    let most = plimsoll_otlp::REQUEST_ROWS_MAX;
    let logs = |records: usize| nest(1, &nest(2, &b"\x12\x00".repeat(records)));
    assert!(decode_within(Signal::Logs, &logs(most), RECEIVED, 1 << 20).expect_err("becomes more").is_beyond);
    let error = decode(Signal::Logs, &logs(most + 1), RECEIVED).expect_err("is too much");
    assert!(error.is_too_large && !error.is_beyond, "{error}");
    let malformed = decode_within(Signal::Logs, b"\x0a", RECEIVED, 1 << 20).expect_err("ends early");
    assert!(!malformed.is_too_large && !malformed.is_beyond, "{malformed}");
}

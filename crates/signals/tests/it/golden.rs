//! The rows of a seeded mixture of whatever may come, held as a digest: what counts how is not to change by the way.

use arrow::array::Array;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_signals::{SignalLimits, SignalState};
use xxhash_rust::xxh3::Xxh3;

use crate::build::{CLIENT, CONSUMER, INTERNAL, SERVER, Sent, send, span, text};

/// What was counted of the mixture when its digest was taken, without what is drawn.
const DIGESTS: [u64; 2] = [8_550_153_940_244_814_192, 8_303_446_561_345_134_849];
/// The requests drawn of it.
const DRAWN: [u64; 2] = [2_898_332_157_697_169_889, 14_405_938_497_174_702_381];

const SERVICES: [&str; 6] = ["front", "cart", "catalog", "payment", "store", "mail"];
const STATES: [&str; 3] = ["", "ot=th:c", "ot=th:8"];

/// Numbers that only look random.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd) >> 24
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A trace of one to forty spans, with whatever may be wrong with one.
fn trace(dice: &mut Dice, number: u64, at: u64) -> Vec<Sent> {
    let id = u128::from(dice.next()) << 64 | u128::from(number);
    let spans = if dice.one_in(8) { 10 + dice.below(31) } else { 1 + dice.below(9) };
    let scale = 1 + dice.below(1_000_000);
    let mut made: Vec<Sent> = Vec::new();
    for place in 0..spans {
        let up = (place > 0 && !dice.one_in(20)).then(|| dice.below(place) as usize);
        let kind = [SERVER, SERVER, CLIENT, CLIENT, INTERNAL, INTERNAL, CONSUMER, 4][dice.below(8) as usize];
        let service = match up {
            Some(up) if !dice.one_in(3) => made[up].service,
            _ => SERVICES[dice.below(6) as usize],
        };
        let parent = match up {
            Some(up) => made[up].id,
            None if dice.one_in(3) => dice.next(),
            None => 0,
        };
        let skew = if dice.one_in(40) { 5_000 } else { 0 };
        let start = up.map_or(at, |up| made[up].at + dice.below(20)) + skew;
        let took = if dice.one_in(10) { 0 } else { dice.below(200) };
        let name = format!("GET /{}", ["a", "b", "users/17", "users/18", "x-9f3c4e1a2b"][dice.below(5) as usize]);
        let mut sent = span(service, kind, &name, dice.next() | 1, parent, start, start + took).trace(id);
        sent.version = ["1", "1", "2", ""][dice.below(4) as usize].to_owned();
        sent.instance = ["i-1", "i-2", ""][dice.below(3) as usize];
        sent.trace_state = STATES[if dice.one_in(5) { dice.below(3) as usize } else { 0 }];
        if dice.one_in(6) {
            sent = sent.failed();
        }
        if dice.one_in(12) {
            let kind = ["Boom", "Timeout"][dice.below(2) as usize];
            sent = sent.throws(kind, "no answer", "at shop.Pay.charge(Pay.java:41)");
        }
        if dice.one_in(3) {
            sent = sent.with("region", text(["eu", "us", "ap"][dice.below(3) as usize]));
        }
        if dice.one_in(4) {
            let status = [200, 200, 404, 503][dice.below(4) as usize];
            sent = sent.with("http.response.status_code", Value::IntValue(status));
        }
        if dice.one_in(10) {
            let variant = text(["on", "off"][dice.below(2) as usize]);
            sent = sent.with("feature_flag.key", text("new-basket")).with("feature_flag.result.variant", variant);
        }
        if dice.one_in(60) {
            sent.end = sent.at - sent.at.min(scale % 50);
        }
        if dice.one_in(80) {
            made.push(sent.clone());
        }
        if dice.one_in(100) && place > 0 {
            // Two that are above each other.
            made[place as usize - 1].parent = sent.id;
        }
        made.push(sent);
    }
    made
}

fn add(digest: &mut Xxh3, drawn: &mut Xxh3, state: &mut SignalState) {
    for (table, batch) in state.take_rows() {
        digest.update(table.name().as_bytes());
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            let digest = if field.name().ends_with("_draws") { &mut *drawn } else { &mut *digest };
            for row in 0..batch.num_rows() {
                digest.update(format!("{:?}", column.slice(row, 1)).as_bytes());
            }
        }
    }
}

/// Folds the mixture: batches of spans of many traces, out of order, some long after the others of their trace.
fn digest(seed: u64, limits: SignalLimits) -> [u64; 2] {
    let mut dice = Dice(seed);
    let mut state = SignalState::new(limits);
    let (mut digest, mut drawn) = (Xxh3::new(), Xxh3::new());
    let mut waiting: Vec<Sent> = Vec::new();
    let mut number = 0;
    for second in 0..75_u64 {
        let received = second * 1_000;
        for _ in 0..16 {
            number += 1;
            waiting.extend(trace(&mut dice, number, received));
        }
        let (mut now, mut later) = (Vec::new(), Vec::new());
        for sent in waiting {
            if dice.one_in(12) { later.push(sent) } else { now.push(sent) }
        }
        for at in (1..now.len()).rev() {
            if dice.one_in(3) {
                now.swap(at, dice.below(at as u64 + 1) as usize);
            }
        }
        waiting = later;
        for part in now.chunks(1 + dice.below(60) as usize) {
            send(&mut state, received + 900, part);
        }
        if second % 25 == 24 {
            add(&mut digest, &mut drawn, &mut state);
        }
    }
    state.close_traces();
    add(&mut digest, &mut drawn, &mut state);
    digest.update(format!("{:?} {:?}", state.counters(), state.size()).as_bytes());
    for service in SERVICES {
        let words = state.data_quality(&crate::build::key(service));
        digest.update(format!("{words:?}").as_bytes());
    }
    [digest.digest(), drawn.digest()]
}

#[test]
fn a_mixture_of_everything_gives_the_rows_that_it_always_gave() {
    let narrow = SignalLimits {
        open_spans_max: 600,
        spans_per_trace_max: 24,
        entries_per_cell_max: 3,
        paths_per_entry_max: 5,
        side_series_max: 200,
        ..SignalLimits::default()
    };
    let [[counted, drawn], [counted_narrow, drawn_narrow]] = [digest(1, SignalLimits::default()), digest(2, narrow)];
    assert_eq!([counted, counted_narrow], DIGESTS);
    assert_eq!([drawn, drawn_narrow], DRAWN);
}

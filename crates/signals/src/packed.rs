//! Cells that are kept for hours and hardly ever added to: as few bytes as they can be told in.
//!
//! *Layout.* Numbers of seven bits a byte, the lowest first; what may be negative with its sign in the lowest bit; what
//! ascends as differences; what mostly follows from another number as what it differs by. What a glance needs comes first:
//!
//! ```text
//! requests errors origins assembled log_sum | weights log_sum_sq self_time_ns
//! latency self_time: n (index count)*          callees: n (party calls critical_ns)*
//! values: n (attribute value weight requests errors log_sum)*
//! draws: n (number n (attribute value)*)*      good slow: n id16*
//! rare: 0 | 1 classes exceptions blame failed draws
//! ```
//!
//! It never leaves the process. *Cost.* A quarter of the bytes of a [`Cell`]; taking one apart allocates nothing where the
//! cell it is put into has room.

use plimsoll_model::aggregates::Vitals;
use plimsoll_model::drill::Outcome;
use plimsoll_model::signal::{CalleeTime, ExceptionCount, Exemplars, Fingerprint, WEIGHT_UNIT};

use crate::cell::{Cell, Sparse};
use crate::draws::Draws;
use crate::drill::Entry;

/// A settled cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed(Box<[u8]>);

impl Packed {
    /// Tells a cell in few bytes; `room` is any buffer, to be used again.
    pub(crate) fn of(cell: &Cell, room: &mut Vec<u8>) -> Self {
        room.clear();
        let mut to = Writer(room);
        [cell.requests, cell.errors, cell.error_origins, cell.assembled].into_iter().for_each(|count| to.number(count));
        to.signed(cell.log_sum);
        to.differing(cell.weighted_requests, cell.requests.wrapping_mul(WEIGHT_UNIT));
        to.differing(cell.weighted_errors, cell.errors.wrapping_mul(WEIGHT_UNIT));
        to.signed(cell.log_sum_sq);
        to.number(cell.self_time_ns);
        to.histogram(&cell.latency);
        to.histogram(&cell.self_time);
        to.number(cell.callees.len() as u64);
        for (party, time) in &cell.callees {
            [u64::from(*party), time.calls, time.critical_ns].into_iter().for_each(|number| to.number(number));
        }
        to.number(cell.values.0.len() as u64);
        for entry in &cell.values.0 {
            let Outcome { requests, errors, log_latency_sum } = entry.outcome;
            [u64::from(entry.attribute), u64::from(entry.value), requests, errors]
                .into_iter()
                .for_each(|number| to.number(number));
            to.signed(log_latency_sum);
            to.differing(u64::from(entry.weight()), Entry::usual_weight(&entry.outcome));
        }
        to.draws(&cell.draws);
        to.exemplars(&cell.good);
        to.exemplars(&cell.slow);
        let Some(rare) = &cell.rare else {
            to.number(0);
            return Self(room.as_slice().into());
        };
        to.number(1);
        to.counts(&rare.classes);
        to.number(rare.exceptions.len() as u64);
        for (fingerprint, seen) in &rare.exceptions {
            to.0.extend_from_slice(&fingerprint.0.to_le_bytes());
            to.text(&seen.exception_type);
            to.text(&seen.message);
            to.number(seen.count);
        }
        to.counts(&rare.blame);
        to.exemplars(&rare.failed);
        to.draws(&rare.draws);
        Self(room.as_slice().into())
    }

    /// Takes it apart.
    pub(crate) fn cell(&self) -> Cell {
        let mut cell = Cell::default();
        self.put_into(&mut cell);
        cell
    }

    /// Takes it apart into a cell that is used again; what that held is gone.
    pub(crate) fn put_into(&self, cell: &mut Cell) {
        let mut from = Reader(&self.0);
        [cell.requests, cell.errors, cell.error_origins, cell.assembled] = [(); 4].map(|()| from.number());
        cell.log_sum = from.signed();
        cell.weighted_requests = from.differing(cell.requests.wrapping_mul(WEIGHT_UNIT));
        cell.weighted_errors = from.differing(cell.errors.wrapping_mul(WEIGHT_UNIT));
        cell.log_sum_sq = from.signed();
        cell.self_time_ns = from.number();
        from.histogram(&mut cell.latency);
        from.histogram(&mut cell.self_time);
        cell.callees.clear();
        for _ in 0..from.number() {
            let party = from.number() as u32;
            let time = CalleeTime { calls: from.number(), critical_ns: from.number() };
            cell.callees.push((party, time));
        }
        cell.values.0.clear();
        for _ in 0..from.number() {
            let [attribute, value] = [(); 2].map(|()| from.number() as u32);
            let [requests, errors] = [(); 2].map(|()| from.number());
            let outcome = Outcome { requests, errors, log_latency_sum: from.signed() };
            let weight = from.differing(Entry::usual_weight(&outcome)) as u32;
            cell.values.0.push(Entry::new(attribute, value, weight, outcome));
        }
        from.draws(&mut cell.draws);
        from.exemplars(&mut cell.good);
        from.exemplars(&mut cell.slow);
        if from.number() == 0 {
            cell.rare = None;
            return;
        }
        let rare = cell.rare.get_or_insert_default();
        from.counts(&mut rare.classes);
        rare.exceptions.clear();
        for _ in 0..from.number() {
            let fingerprint = Fingerprint(u64::from_le_bytes(from.bytes()));
            let (exception_type, message) = (from.text(), from.text());
            rare.exceptions.push((fingerprint, ExceptionCount { exception_type, message, count: from.number() }));
        }
        from.counts(&mut rare.blame);
        from.exemplars(&mut rare.failed);
        from.draws(&mut rare.draws);
    }

    /// Returns how the operation fared, at a glance.
    pub(crate) fn vitals(&self) -> Vitals {
        let mut from = Reader(&self.0);
        let [requests, errors, origins, assembled] = [(); 4].map(|()| from.number());
        let log_sum = from.signed();
        Cell { requests, errors, error_origins: origins, assembled, log_sum, ..Cell::default() }.vitals()
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    fn differing(&mut self, number: u64, usual: u64) {
        self.signed(number.wrapping_sub(usual) as i64);
    }

    fn histogram(&mut self, histogram: &Sparse<i16>) {
        self.number(histogram.0.len() as u64);
        let mut before = 0;
        for (index, count) in &histogram.0 {
            self.signed(i64::from(*index) - before);
            self.number(*count);
            before = i64::from(*index);
        }
    }

    fn counts(&mut self, counts: &Sparse<u32>) {
        self.number(counts.0.len() as u64);
        for (key, count) in &counts.0 {
            self.number(u64::from(*key));
            self.number(*count);
        }
    }

    fn exemplars(&mut self, exemplars: &Exemplars) {
        self.number(exemplars.0.len() as u64);
        exemplars.0.iter().for_each(|id| self.0.extend_from_slice(id));
    }

    fn draws(&mut self, draws: &Draws) {
        let mut before = 0;
        self.number(draws.each().count() as u64);
        for (number, values) in draws.each() {
            self.number(number - before);
            self.number(values.clone().count() as u64);
            values.for_each(|(attribute, value)| {
                self.number(u64::from(attribute));
                self.number(u64::from(value));
            });
            before = number;
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }
}

/// Past the end there are zeros; there is no past the end of what [`Writer`] wrote.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    #[inline]
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.0.split_first() {
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << (shift & 63);
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn signed(&mut self) -> i64 {
        let number = self.number();
        (number >> 1) as i64 ^ -((number & 1) as i64)
    }

    fn differing(&mut self, usual: u64) -> u64 {
        usual.wrapping_add(self.signed() as u64)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *bytes
    }

    fn histogram(&mut self, into: &mut Sparse<i16>) {
        into.0.clear();
        let mut index = 0;
        for _ in 0..self.number() {
            index += self.signed();
            into.0.push((index as i16, self.number()));
        }
    }

    fn counts(&mut self, into: &mut Sparse<u32>) {
        into.0.clear();
        for _ in 0..self.number() {
            into.0.push((self.number() as u32, self.number()));
        }
    }

    fn exemplars(&mut self, into: &mut Exemplars) {
        into.0.clear();
        for _ in 0..self.number() {
            into.0.push(self.bytes());
        }
    }

    fn draws(&mut self, into: &mut Draws) {
        into.clear();
        let mut number = 0;
        for _ in 0..self.number() {
            number += self.number();
            let values = self.number();
            into.push(number, (0..values).map(|_| (self.number() as u32, self.number() as u32)));
        }
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.number()).unwrap_or(usize::MAX).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cell::Rare;
    use crate::drill::Drill;

    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![0..4_u64, any::<u64>(), Just(u64::MAX)]
    }

    fn sparse<K: std::fmt::Debug + Ord + Copy>(key: impl Strategy<Value = K>) -> impl Strategy<Value = Sparse<K>> {
        prop::collection::btree_map(key, count(), 0..6).prop_map(|map| Sparse(map.into_iter().collect()))
    }

    fn exemplars() -> impl Strategy<Value = Exemplars> {
        prop::collection::vec(any::<[u8; 16]>(), 0..4).prop_map(Exemplars)
    }

    fn draws() -> impl Strategy<Value = Draws> {
        let values = prop::collection::vec(any::<(u32, u32)>(), 1..4);
        prop::collection::btree_map(0..1_u64 << 48, values, 0..4).prop_map(|all| {
            let mut draws = Draws::default();
            all.into_iter().for_each(|(number, values)| draws.push(number, values.into_iter()));
            draws
        })
    }

    prop_compose! {
        fn entry()(attribute: u32, value: u32, weight: u32, requests in count(), errors in count(), log_latency_sum: i64)
            -> Entry {
            Entry::new(attribute, value, weight, Outcome { requests, errors, log_latency_sum })
        }
    }

    prop_compose! {
        fn rare()(
            classes in sparse(any::<u32>()), blame in sparse(any::<u32>()), failed in exemplars(), draws in draws(),
            exceptions in prop::collection::vec((any::<u64>(), ".{0,9}", ".{0,9}", count()), 0..4),
        ) -> Rare {
            let seen = |(print, exception_type, message, count)| {
                (Fingerprint(print), ExceptionCount { exception_type, message, count })
            };
            Rare { classes, exceptions: exceptions.into_iter().map(seen).collect(), blame, failed, draws }
        }
    }

    prop_compose! {
        fn cell()(
            counts in prop::array::uniform7(count()), log_sum: i64, log_sum_sq: i64,
            latency in sparse(any::<i16>()), self_time in sparse(any::<i16>()),
            callees in prop::collection::vec((any::<u32>(), count(), count()), 0..4),
            values in prop::collection::vec(entry(), 0..6), slow in exemplars(), good in exemplars(),
            draws in draws(), rare in prop::option::of(rare()),
        ) -> Cell {
            let [requests, errors, weighted_requests, weighted_errors, error_origins, self_time_ns, assembled] = counts;
            let callees = callees.into_iter().map(|(party, calls, critical_ns)| (party, CalleeTime { calls, critical_ns }));
            Cell {
                requests, errors, weighted_requests, weighted_errors, error_origins, log_sum, log_sum_sq, latency, self_time,
                self_time_ns, assembled, callees: callees.collect(), values: Drill(values), draws, slow, good,
                rare: rare.map(Box::new),
            }
        }
    }

    proptest! {
        #[test]
        fn a_cell_comes_back_as_it_was_whatever_the_room_held(one in cell(), other in cell()) {
            let mut bytes = vec![1, 2, 3];
            let [packed, before] = [&one, &other].map(|cell| Packed::of(cell, &mut bytes));
            prop_assert_eq!(format!("{:?}", packed.cell()), format!("{one:?}"));
            let mut room = before.cell();
            packed.put_into(&mut room);
            prop_assert_eq!(format!("{room:?}"), format!("{one:?}"));
            prop_assert_eq!(packed.vitals().requests, one.requests);
            prop_assert_eq!(packed.vitals().log_latency_sum, one.log_sum);
        }
    }

    #[test]
    fn a_quiet_cell_takes_a_hundred_bytes() {
        let mut cell = Cell::default();
        (0..6).for_each(|at| {
            cell.record_request(20_000_000 + at * 7_000_000, u128::from(at) << 64, WEIGHT_UNIT);
        });
        assert!(Packed::of(&cell, &mut Vec::new()).0.len() <= 100);
    }
}

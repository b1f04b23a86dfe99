//! A few requests of a cell with all their values: which values come together, among the failures and among the rest.
//!
//! A request is drawn by a number that follows from the ids of its trace and span. Of the failed ones a cell keeps those with the
//! smallest numbers; of the others likewise, but only of those in the first sixteenth of all numbers: most requests succeed.
//!
//! *Invariants.* What is kept of two parts together is what is kept of the whole, whatever came first. The numbers are stored, so
//! the mixture never changes.
//!
//! *Cost.* Two multiplications a request; a request that is kept is copied, sixteen bytes a value.
//!
//! *Source.* Cohen and Kaplan, "Summarizing data using bottom-k sketches" (PODC 2007).

/// Bits of a number.
const BITS: u32 = 48;
/// Numbers of successful requests that are looked at: one in sixteen.
const GOOD_BELOW: u64 = 1 << (BITS - 4);
/// Values of one request that are kept, the first of those that it told: an attribute may be told many times.
const VALUES_MAX: usize = 32;

/// Returns the number that a request is drawn by.
#[inline]
pub(crate) fn number_of(trace: u128, span: u64) -> u64 {
    let mixed = ((trace as u64) ^ ((trace >> 64) as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ span;
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> (u64::BITS - BITS)
}

/// Says whether a successful request of this number is looked at.
#[inline]
pub(crate) fn looked_at(number: u64) -> bool {
    number < GOOD_BELOW
}

/// Requests, each as one entry a value: its number, the attribute, the value. Numbers ascend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Draws {
    entries: Vec<(u64, u32, u32)>,
    requests: usize,
}

impl Draws {
    /// Offers one request; one without values tells nothing.
    pub(crate) fn offer(&mut self, number: u64, values: impl Iterator<Item = (u32, u32)>, max: usize) {
        if self.requests >= max && self.entries.last().is_none_or(|(last, ..)| number > *last) {
            return;
        }
        let at = self.entries.partition_point(|(known, ..)| *known < number);
        if self.entries.get(at).is_some_and(|(known, ..)| *known == number) {
            return;
        }
        let before = self.entries.len();
        self.entries.extend(values.take(VALUES_MAX).map(|(attribute, value)| (number, attribute, value)));
        let more = self.entries.len() - before;
        if more == 0 {
            return;
        }
        self.entries[at..].rotate_right(more);
        self.requests += 1;
        if self.requests > max
            && let Some((last, ..)) = self.entries.last().copied()
        {
            self.entries.truncate(self.entries.partition_point(|(known, ..)| *known < last));
            self.requests -= 1;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self, max: usize) {
        for (number, values) in other.each() {
            self.offer(number, values, max);
        }
    }

    /// Returns the requests with their values.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u64, impl Iterator<Item = (u32, u32)> + Clone + '_)> {
        let runs = self.entries.chunk_by(|a, b| a.0 == b.0);
        runs.map(|run| (run[0].0, run.iter().map(|(_, attribute, value)| (*attribute, *value))))
    }

    /// Returns each value of each request, with the number of the request.
    pub(crate) fn entries(&self) -> &[(u64, u32, u32)] {
        &self.entries
    }

    /// Adds a request whose number is larger than those of all that are there.
    pub(crate) fn push(&mut self, number: u64, values: impl Iterator<Item = (u32, u32)>) {
        let before = self.entries.len();
        self.entries.extend(values.map(|(attribute, value)| (number, attribute, value)));
        self.requests += usize::from(self.entries.len() > before);
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.requests = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &[u64], max: usize) -> Draws {
        let mut draws = Draws::default();
        for number in numbers {
            let values = (0..number % 4).map(|value| (value as u32, *number as u32));
            draws.offer(*number, values, max);
        }
        draws
    }

    proptest! {
        #[test]
        fn the_smallest_stay_whatever_comes_first_and_in_however_many_parts(
            numbers in prop::collection::vec(0..200_u64, 0..60), cut in any::<prop::sample::Index>(), max in 1..9_usize,
        ) {
            let whole = of(&numbers, max);
            let (one, other) = numbers.split_at(cut.index(numbers.len() + 1));
            let mut merged = of(other, max);
            merged.merge(&of(one, max), max);
            prop_assert_eq!(&merged, &whole);
            let mut smallest: Vec<u64> = numbers.iter().copied().filter(|number| number % 4 > 0).collect();
            smallest.sort_unstable();
            smallest.dedup();
            smallest.truncate(max);
            prop_assert_eq!(whole.each().map(|(number, _)| number).collect::<Vec<_>>(), smallest);
            prop_assert!(whole.each().all(|(number, values)| values.count() as u64 == number % 4));
        }
    }

    #[test]
    fn one_in_sixteen_is_looked_at_however_ids_are_given_out() {
        for ids in [|i: u64| (u128::from(i), 1), |i| (7, i), |i| (u128::from(i) << 64, i), |i| (u128::from(i) << 40, 0)]
        {
            let looked: usize = (0..64_000).filter(|i| looked_at(number_of(ids(*i).0, ids(*i).1))).count();
            assert!((3_600..4_400).contains(&looked), "{looked}");
        }
    }

    #[test]
    fn the_numbers_are_those_that_were_stored() {
        // Computed by other means.
        let ids = [(1, 2), (u128::MAX, u64::MAX), (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)];
        let numbers = ids.map(|(trace, span)| number_of(trace, span));
        assert_eq!(numbers, [24_403_835_718_088, 75_377_377_448_094, 148_851_839_141_206]);
    }
}

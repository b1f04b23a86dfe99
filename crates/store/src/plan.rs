//! Which segments become one: a pure function of their sizes and days.
//!
//! Neighbours of one day (UTC) are merged in steps of about eight, so that a row is written again a few times at most on its way
//! to a segment of about [`ROWS_MAX`] rows. Once a day is over, what is left of it is packed without waiting for more.

use std::ops::Range;

use plimsoll_catalog::SegmentRecord;
use plimsoll_model::UnixNanos;

/// Rows of a merged segment, at most.
pub(crate) const ROWS_MAX: u64 = 1 << 20;
/// Bytes of its inputs, at most.
const BYTES_MAX: u64 = 512 << 20;
/// Inputs of one merge, at most: each is an open file and a few pages in memory.
const INPUTS_MAX: usize = 64;
/// A segment of so many rows is left as it is.
const LARGE: u64 = ROWS_MAX / 2;
/// Segments below one of these sizes are of one kind; so many times smaller than the next as neighbours make a merge.
const TIERS: [u64; 4] = [1 << 9, 1 << 12, 1 << 15, 1 << 18];
/// So many neighbours of one tier make a merge worth its while.
const NEIGHBOURS: usize = 8;
/// So many do where one more would be too much.
const FULL: usize = 4;

const DAY_NANOS: u64 = 86_400_000_000_000;

/// A segment as far as the plan is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    rows: u64,
    bytes: u64,
    /// The day on which it was sealed.
    day: u64,
}

impl Candidate {
    pub(crate) fn of(record: &SegmentRecord) -> Self {
        Self { rows: record.rows, bytes: record.bytes, day: record.created_at.0 / DAY_NANOS }
    }
}

/// Returns the first run of neighbours to merge, smallest first; `None` where everything is as it should be.
pub(crate) fn plan(segments: &[Candidate], now: UnixNanos) -> Option<Range<usize>> {
    let today = now.0 / DAY_NANOS;
    let step = TIERS.into_iter().find_map(|tier| {
        runs(segments, tier).find(|(run, full)| run.len() >= if *full { FULL } else { NEIGHBOURS }).map(|(run, _)| run)
    });
    let pack =
        || runs(segments, LARGE).map(|(run, _)| run).find(|run| run.len() >= 2 && segments[run.start].day < today);
    step.or_else(pack)
}

/// Cuts segments of less than `below` rows into runs of neighbours that fit into one; says of each whether one more would not fit.
fn runs(segments: &[Candidate], below: u64) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        while segments.get(at)?.rows >= below {
            at += 1;
        }
        let start = at;
        let (mut rows, mut bytes) = (0, 0);
        let mut full = false;
        while let Some(next) = segments.get(at).filter(|s| s.rows < below && s.day == segments[start].day) {
            full = rows + next.rows > ROWS_MAX || bytes + next.bytes > BYTES_MAX || at - start == INPUTS_MAX;
            if full {
                break;
            }
            (rows, bytes, at) = (rows + next.rows, bytes + next.bytes, at + 1);
        }
        // A segment that is too large by itself is a run of one.
        at = at.max(start + 1);
        Some((start..at, full))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_3: UnixNanos = UnixNanos(3 * DAY_NANOS);

    fn sized(rows: u64) -> Candidate {
        Candidate { rows, bytes: rows * 40, day: 3 }
    }

    #[test]
    fn neighbours_of_one_size_are_merged_and_large_ones_left() {
        assert_eq!(plan(&[sized(10); NEIGHBOURS - 1], DAY_3), None);
        assert_eq!(plan(&[sized(10); NEIGHBOURS + 3], DAY_3), Some(0..NEIGHBOURS + 3));
        assert_eq!(plan(&[sized(LARGE); 50], DAY_3), None);
        assert_eq!(plan(&[sized(100_000); 20], DAY_3), Some(0..10), "about a million rows are enough");
        assert_eq!(plan(&[sized(240_000); 20], DAY_3), Some(0..4));
    }

    #[test]
    fn the_smallest_go_first_so_that_a_large_one_is_not_written_for_a_few_rows() {
        let mut segments = vec![sized(200_000)];
        segments.extend([sized(10); NEIGHBOURS]);
        assert_eq!(plan(&segments, DAY_3), Some(1..NEIGHBOURS + 1));
        assert_eq!(plan(&[sized(200_000), sized(10), sized(200_000), sized(10)], DAY_3), None, "they wait for more");
    }

    #[test]
    fn what_is_left_of_a_day_is_packed_once_it_is_over() {
        let tomorrow = UnixNanos(4 * DAY_NANOS);
        let left = [sized(LARGE), sized(300_000), sized(10), sized(300_000), Candidate { day: 4, ..sized(10) }];
        assert_eq!(plan(&left, DAY_3), None);
        assert_eq!(plan(&left, tomorrow), Some(1..4));
    }

    proptest! {
        #[test]
        fn a_plan_stays_within_one_day_and_every_bound_and_comes_to_an_end(
            sizes in prop::collection::vec((0..LARGE * 2, 0_u64..3), 0..80), today in 0_u64..4
        ) {
            let mut segments: Vec<Candidate> =
                sizes.iter().map(|(rows, day)| Candidate { rows: *rows >> (*rows % 17), bytes: *rows, day: *day }).collect();
            segments.sort_by_key(|segment| segment.day);
            let mut steps = 0;
            while let Some(run) = plan(&segments, UnixNanos(today * DAY_NANOS)) {
                let inputs = &segments[run.clone()];
                prop_assert!(inputs.len() >= 2 && inputs.len() <= INPUTS_MAX);
                prop_assert!(inputs.iter().all(|s| s.day == inputs[0].day && s.rows < LARGE));
                let merged = Candidate {
                    rows: inputs.iter().map(|s| s.rows).sum(),
                    bytes: inputs.iter().map(|s| s.bytes).sum(),
                    day: inputs[0].day,
                };
                prop_assert!(merged.rows <= ROWS_MAX && merged.bytes <= BYTES_MAX);
                segments.splice(run, [merged]);
                steps += 1;
            }
            prop_assert!(steps < 80, "each step leaves fewer");
        }
    }
}

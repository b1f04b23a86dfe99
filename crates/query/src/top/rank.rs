//! Where a row stands in a sort by one column of numbers or times: a number, the largest of which comes first.
//!
//! *Invariants.* Of two values the one that the sort puts first has the larger rank; nulls have one of their own, before or behind
//! every value.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::Result;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;

/// The place of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(i128);

impl Rank {
    /// Before all others: of what nothing is known.
    pub(super) const FIRST: Self = Self(i128::MAX);
    /// Behind all others.
    pub(super) const LAST: Self = Self(i128::MIN);
}

/// How one column is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direction {
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

/// Says whether values of a type have ranks.
pub(super) fn takes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int32 | DataType::Int64 | DataType::Timestamp(..))
}

impl Direction {
    /// Returns the rank of a value.
    pub(super) fn rank(self, value: Option<i64>) -> Rank {
        match value {
            None if self.nulls_first => Rank::FIRST,
            None => Rank::LAST,
            Some(value) if self.descending => Rank(i128::from(value)),
            Some(value) => Rank(-i128::from(value)),
        }
    }

    /// Returns the ranks of a column.
    ///
    /// # Errors
    /// Its type has none ([`takes`]).
    pub(super) fn ranks(self, column: &ArrayRef) -> Result<Vec<Rank>> {
        // Of times the same numbers under another name.
        let numbers = cast(column, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        if numbers.null_count() == 0 {
            return Ok(numbers.values().iter().map(|value| self.rank(Some(*value))).collect());
        }
        Ok(numbers.iter().map(|value| self.rank(value)).collect())
    }

    /// Returns the best rank that a value between two bounds can have.
    fn best(self, bounds: Option<(i64, i64)>, nulls: bool) -> Rank {
        let of_values = bounds.map(|(least, greatest)| self.rank(Some(if self.descending { greatest } else { least })));
        let of_nulls = nulls.then(|| self.rank(None));
        of_values.max(of_nulls).unwrap_or(Rank::LAST)
    }

    /// Returns the best rank that a row of page `page` of a flat column can have; `nullable` says whether values may be absent.
    pub(super) fn of_page(
        self,
        footer: &ParquetMetaData,
        (group, leaf, page): (usize, usize, usize),
        nullable: bool,
    ) -> Rank {
        let index = footer.column_index().and_then(|index| index.get(group)?.get(leaf));
        let Some(index) = index else { return Rank::FIRST };
        // Where it is not said how many are absent, some may be.
        let nulls = nullable && index.null_counts().and_then(|counts| counts.get(page)).is_none_or(|count| *count != 0);
        let pages = usize::try_from(index.num_pages()).unwrap_or(0);
        if page >= pages {
            return Rank::FIRST;
        }
        match index {
            ColumnIndexMetaData::INT64(index) => {
                self.best(index.min_value(page).copied().zip(index.max_value(page).copied()), nulls)
            }
            ColumnIndexMetaData::INT32(index) => {
                let wide = |value: Option<&i32>| value.copied().map(i64::from);
                self.best(wide(index.min_value(page)).zip(wide(index.max_value(page))), nulls)
            }
            _ => Rank::FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, TimestampNanosecondArray};
    use std::sync::Arc;

    #[test]
    fn ranks_stand_as_the_sort_does_with_nulls_on_their_side() {
        let values = [Some(i64::MIN), Some(-1), None, Some(0), Some(i64::MAX)];
        for descending in [false, true] {
            for nulls_first in [false, true] {
                let direction = Direction { descending, nulls_first };
                let mut sorted = values.to_vec();
                sorted.sort_by_key(|value| std::cmp::Reverse(direction.rank(*value)));
                let nulls = sorted.iter().position(Option::is_none);
                assert_eq!(nulls, Some(if nulls_first { 0 } else { 4 }));
                sorted.retain(Option::is_some);
                assert!(sorted.is_sorted_by(|a, b| if descending { a >= b } else { a <= b }));
            }
        }
    }

    #[test]
    fn columns_of_times_and_numbers_have_the_ranks_of_their_values() {
        let direction = Direction { descending: true, nulls_first: true };
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None]));
        let ranks = direction.ranks(&numbers).expect("numbers have ranks");
        assert_eq!(ranks, [direction.rank(Some(3)), Rank::FIRST]);
        let times: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![7]).with_timezone("UTC"));
        assert_eq!(direction.ranks(&times).expect("times have ranks"), [direction.rank(Some(7))]);
    }

    #[test]
    fn a_page_is_as_good_as_its_best_row_can_be() {
        let newest = Direction { descending: true, nulls_first: false };
        assert_eq!(newest.best(Some((1, 9)), false), newest.rank(Some(9)));
        assert_eq!(newest.best(Some((1, 9)), true), newest.rank(Some(9)));
        assert_eq!(newest.best(None, true), Rank::LAST);
        let nulls_first = Direction { descending: false, nulls_first: true };
        assert_eq!(nulls_first.best(Some((1, 9)), false), nulls_first.rank(Some(1)));
        assert_eq!(nulls_first.best(Some((1, 9)), true), Rank::FIRST);
    }
}

//! Rows that are asked for by a value that has to be among a few: a trace by its id.
//!
//! Row groups have bloom filters of such columns. They are asked while the query is planned, a block each, so that only row groups
//! that may hold a value are opened at all, and those of one segment can be read by several threads.

use std::collections::BTreeMap;

use datafusion::common::ScalarValue;
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use parquet::file::metadata::ParquetMetaData;
use plimsoll_store::{SegmentRead, may_hold};

/// Values that are looked for one by one; with more, filters are read whole.
const VALUES_MAX: usize = 16;

/// What has to be in a row: of each column one of some values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lookups(BTreeMap<String, Vec<Vec<u8>>>);

impl Lookups {
    /// Finds in a filter what it looks up.
    pub(super) fn of(filter: Option<&Expr>) -> Self {
        let mut found = BTreeMap::new();
        for test in filter.map(split_conjunction).unwrap_or_default() {
            if let Some((column, values)) = looked_up(test).filter(|(_, values)| values.len() <= VALUES_MAX) {
                // A second test of the same column narrows further; one of them is enough to go by.
                found.entry(column).or_insert(values);
            }
        }
        Self(found)
    }

    /// Says that there is nothing to look up.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the row groups of a segment that may hold rows.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn groups(&self, file: &dyn SegmentRead, footer: &ParquetMetaData) -> std::io::Result<Vec<usize>> {
        let mut groups = Vec::new();
        for (number, group) in footer.row_groups().iter().enumerate() {
            let mut may = true;
            for (column, values) in &self.0 {
                let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == *column);
                let place = chunk.and_then(|chunk| {
                    let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
                    Some(start..start + u64::try_from(chunk.bloom_filter_length()?).ok()?)
                });
                let Some(place) = place else { continue };
                let mut any = false;
                for value in values {
                    if may_hold(file, place.clone(), value)? {
                        any = true;
                        break;
                    }
                }
                if !any {
                    may = false;
                    break;
                }
            }
            if may {
                groups.push(number);
            }
        }
        Ok(groups)
    }
}

/// Deals the row groups of a segment out to as many plans as there are threads, or fewer.
pub(super) fn plans(groups: &[usize], of: usize, threads: usize) -> Vec<ParquetAccessPlan> {
    let count = groups.len().min(threads.max(1));
    let mut plans = vec![ParquetAccessPlan::new_none(of); count];
    for (at, group) in groups.iter().enumerate() {
        plans[at % count].scan(*group);
    }
    plans
}

fn looked_up(test: &Expr) -> Option<(String, Vec<Vec<u8>>)> {
    let id = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::FixedSizeBinary(_, Some(id)), _) => Some(id.clone()),
        _ => None,
    };
    match test {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match (left.as_ref(), right.as_ref()) {
            (Expr::Column(column), value) | (value, Expr::Column(column)) => {
                Some((column.name.clone(), vec![id(value)?]))
            }
            _ => None,
        },
        Expr::InList(InList { expr, list, negated: false }) => match expr.as_ref() {
            Expr::Column(column) => Some((column.name.clone(), list.iter().map(id).collect::<Option<_>>()?)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::logical_expr::{col, lit};

    fn id(byte: u8) -> Expr {
        Expr::Literal(ScalarValue::FixedSizeBinary(2, Some(vec![byte; 2])), None)
    }

    #[test]
    fn values_are_looked_up_where_every_row_has_to_have_one() {
        let of = |filter: Expr| Lookups::of(Some(&filter)).0.into_iter().collect::<Vec<_>>();
        let one = vec![("trace_id".to_owned(), vec![vec![1, 1]])];
        assert_eq!(of(col("trace_id").eq(id(1))), one);
        assert_eq!(of(col("x").gt(lit(1)).and(id(1).eq(col("trace_id")))), one);
        let two = vec![("trace_id".to_owned(), vec![vec![1, 1], vec![2, 2]])];
        assert_eq!(of(col("trace_id").in_list(vec![id(1), id(2)], false)), two);
        for nothing in [
            col("trace_id").eq(id(1)).or(col("x").eq(lit(1))),
            col("trace_id").not_eq(id(1)),
            col("trace_id").in_list(vec![id(1)], true),
            col("trace_id").eq(lit("text")),
            col("trace_id").in_list((0..=VALUES_MAX as u8).map(id).collect(), false),
        ] {
            assert!(Lookups::of(Some(&nothing)).is_empty(), "{nothing}");
        }
        assert!(Lookups::of(None).is_empty());
    }

    #[test]
    fn every_row_group_is_in_one_plan() {
        let plans = plans(&[1, 4, 6], 8, 2);
        let taken: Vec<Vec<usize>> = plans.iter().map(ParquetAccessPlan::row_group_indexes).collect();
        assert_eq!(taken, [vec![1, 6], vec![4]]);
        assert!(super::plans(&[], 8, 2).is_empty());
    }
}

//! The longest and the shortest of lengths of time: `max`, `min`, `greatest` and `least` of intervals.
//!
//! *Invariants.* Of intervals of one length the same one is chosen in whatever order they come: the one with more months, then more days.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalMonthDayNano, IntervalMonthDayNanoType};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::lengths::{INTERVAL, intervals, total};

/// Returns what the aggregate `function` is of intervals, where that is something of its own.
pub(crate) fn of_many(function: &str) -> Option<Arc<AggregateUDF>> {
    static ALL: LazyLock<[Arc<AggregateUDF>; 2]> = LazyLock::new(|| {
        [Ordering::Less, Ordering::Greater].map(|wins| {
            let signature = Signature::any(1, Volatility::Immutable);
            Arc::new(AggregateUDF::from(Longest { wins, signature }))
        })
    });
    ALL.iter().find(|own| own.name() == function).cloned()
}

/// Returns what the function `function` is of intervals, where that is something of its own.
pub(crate) fn of_some(function: &str) -> Option<Arc<ScalarUDF>> {
    static ALL: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
        [Ordering::Less, Ordering::Greater].map(|wins| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(ScalarUDF::from(Longest { wins, signature }))
        })
    });
    ALL.iter().find(|own| own.name() == function).cloned()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Longest {
    /// How what wins compares with what does not.
    wins: Ordering,
    signature: Signature,
}

/// What intervals are ordered by: their length, then what they are made of.
type Key = (i128, i32, i32);

fn key(interval: IntervalMonthDayNano) -> Key {
    (total(interval), interval.months, interval.days)
}

/// Says whether `one` is to be shown rather than `other`.
fn better(wins: Ordering, one: IntervalMonthDayNano, other: IntervalMonthDayNano) -> bool {
    let (one, other) = (key(one), key(other));
    match one.0.cmp(&other.0) {
        Ordering::Equal => one > other,
        unequal => unequal == wins,
    }
}

impl ScalarUDFImpl for Longest {
    fn name(&self) -> &str {
        if self.wins == Ordering::Less { "least" } else { "greatest" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut best: Vec<Option<IntervalMonthDayNano>> = vec![None; rows];
        for arg in args.args {
            let lengths = intervals(&arg.into_array(rows)?)?;
            for (best, length) in best.iter_mut().zip(&lengths) {
                *best = match (*best, length) {
                    (Some(best), Some(length)) if !better(self.wins, length, best) => Some(best),
                    (best, length) => length.or(best),
                };
            }
        }
        Ok(ColumnarValue::Array(Arc::new(IntervalMonthDayNanoArray::from(best))))
    }
}

impl AggregateUDFImpl for Longest {
    fn name(&self) -> &str {
        if self.wins == Ordering::Less { "min" } else { "max" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(INTERVAL)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "length"), INTERVAL, true))])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Best { wins: self.wins, best: None }))
    }

    fn create_sliding_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Sliding { wins: self.wins, held: BTreeMap::new() }))
    }
}

fn present(values: &[ArrayRef]) -> Result<Vec<IntervalMonthDayNano>> {
    let [lengths] = values else { return exec_err!("the shortest and the longest are of one value") };
    let lengths = cast(lengths, &INTERVAL)?;
    Ok(lengths.as_primitive::<IntervalMonthDayNanoType>().iter().flatten().collect())
}

#[derive(Debug)]
struct Best {
    wins: Ordering,
    best: Option<IntervalMonthDayNano>,
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for length in present(values)? {
            if self.best.is_none_or(|best| better(self.wins, length, best)) {
                self.best = Some(length);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::IntervalMonthDayNano(self.best))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
}

/// Of a window that moves: rows leave it again.
#[derive(Debug)]
struct Sliding {
    wins: Ordering,
    held: BTreeMap<Key, (IntervalMonthDayNano, u64)>,
}

impl Accumulator for Sliding {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for length in present(values)? {
            self.held.entry(key(length)).or_insert((length, 0)).1 += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for length in present(values)? {
            let key = key(length);
            if let Some((_, times)) = self.held.get_mut(&key) {
                *times = times.saturating_sub(1);
                if *times == 0 {
                    self.held.remove(&key);
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let longest = self.held.last_key_value();
        let chosen = match (self.wins, longest) {
            // Of the shortest the same one as ever.
            (Ordering::Less, Some(_)) => self
                .held
                .first_key_value()
                .and_then(|((length, ..), _)| self.held.range(..=(*length, i32::MAX, i32::MAX)).next_back()),
            _ => longest,
        };
        Ok(ScalarValue::IntervalMonthDayNano(chosen.map(|(_, (length, _))| *length)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.held.len() * size_of::<(Key, (IntervalMonthDayNano, u64))>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn column(lengths: &[(i32, i32, i64)]) -> ArrayRef {
        let of = |(months, days, hours): &(i32, i32, i64)| {
            IntervalMonthDayNano::new(*months, *days, hours * 3_600_000_000_000)
        };
        Arc::new(IntervalMonthDayNanoArray::from(lengths.iter().map(of).collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn a_window_that_moves_gives_what_one_that_stands_gives(
            lengths in prop::collection::vec((-1_i32..2, -31_i32..32, -30_i64..30), 1..40), size in 1_usize..10
        ) {
            for wins in [Ordering::Less, Ordering::Greater] {
                let mut sliding = Sliding { wins, held: BTreeMap::new() };
                for at in 0..lengths.len() {
                    sliding.update_batch(&[column(&lengths[at..=at])]).expect("intervals");
                    if at >= size {
                        sliding.retract_batch(&[column(&lengths[at - size..=at - size])]).expect("intervals");
                    }
                    let mut standing = Best { wins, best: None };
                    let within = &lengths[(at + 1).saturating_sub(size)..=at];
                    standing.update_batch(&[column(within)]).expect("intervals");
                    prop_assert_eq!(sliding.evaluate().expect("a value"), standing.evaluate().expect("a value"));
                }
            }
        }
    }
}

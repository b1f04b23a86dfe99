//! `error_rate(status_code)`: the share of rows that failed; `error_rate(errors, requests)`: the same of counts, as
//! `operations` has them. Null where there was nothing.
//!
//! *Cost.* Two sums a group, and a comparison a row.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
};

/// Name of the function.
pub(crate) const NAME: &str = "error_rate";
/// The word and the number of a status that says that something failed.
const FAILED: (&str, i64) = ("error", 2);

/// What a status may be.
const STATUSES: ([&str; 3], std::ops::RangeInclusive<i64>) = (["unset", "ok", "error"], 0..=2);

fn no_status<T>(value: &str) -> Result<T> {
    exec_err!(
        "`{NAME}` of one argument takes a status, and `{value}` is none: write `{NAME}(status_code)`, or `{NAME}(errors, requests)` of counts"
    )
}

/// Returns the aggregate.
pub(crate) fn udaf() -> Arc<AggregateUDF> {
    static UDAF: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        Arc::new(AggregateUDF::from(ErrorRate { signature: Signature::variadic_any(Volatility::Immutable) }))
    });
    Arc::clone(&UDAF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ErrorRate {
    signature: Signature,
}

impl AggregateUDFImpl for ErrorRate {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [DataType::Utf8 | DataType::Utf8View | DataType::Dictionary(..) | DataType::Boolean] => {
                Ok(DataType::Float64)
            }
            [status] if status.is_integer() => Ok(DataType::Float64),
            [errors, requests] if errors.is_integer() && requests.is_integer() => Ok(DataType::Float64),
            _ => plan_err!("`{NAME}` takes a status, `{NAME}(status_code)`, or two counts, `{NAME}(errors, requests)`"),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name| Arc::new(Field::new(format_state_name(args.name, name), DataType::UInt64, true));
        Ok(vec![field("failed"), field("all")])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Share>::default())
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::<Shares>::default())
    }
}

/// Returns for each row how many failed and how many there were; null where it does not count.
fn tallies(values: &[ArrayRef]) -> Result<(UInt64Array, UInt64Array)> {
    match values {
        [errors, requests] => {
            let count =
                |column: &ArrayRef| Ok::<_, datafusion::error::DataFusionError>(cast(column, &DataType::UInt64)?);
            Ok((
                count(errors)?.as_primitive::<UInt64Type>().clone(),
                count(requests)?.as_primitive::<UInt64Type>().clone(),
            ))
        }
        [status] => {
            let failed: UInt64Array = match status.data_type() {
                DataType::Boolean => {
                    let failed = status.as_boolean();
                    let ones = failed.iter().map(|failed| failed.map(|_| 1)).collect();
                    return Ok((failed.iter().map(|failed| failed.map(u64::from)).collect(), ones));
                }
                data_type if data_type.is_integer() => {
                    let numbers = cast(status, &DataType::Int64)?;
                    let numbers = numbers.as_primitive::<Int64Type>();
                    if let Some(other) = numbers.iter().flatten().find(|number| !STATUSES.1.contains(number)) {
                        return no_status(&other.to_string());
                    }
                    numbers.iter().map(|number| Some(u64::from(number == Some(FAILED.1)))).collect()
                }
                _ => {
                    let words = cast(status, &DataType::Utf8)?;
                    let words = words.as_string::<i32>();
                    if let Some(other) = words.iter().flatten().find(|word| !STATUSES.0.contains(word)) {
                        return no_status(other);
                    }
                    words.iter().map(|word| Some(u64::from(word == Some(FAILED.0)))).collect()
                }
            };
            let ones = UInt64Array::from_value(1, failed.len());
            Ok((failed, ones))
        }
        _ => exec_err!("`{NAME}` takes one or two arguments"),
    }
}

fn share(failed: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| failed as f64 / all as f64)
}

#[derive(Debug, Default)]
struct Share {
    failed: u64,
    all: u64,
}

impl Share {
    fn add(&mut self, failed: &UInt64Array, all: &UInt64Array, sign: fn(u64, u64) -> u64) {
        for (failed, all) in failed.iter().zip(all) {
            if let (Some(failed), Some(all)) = (failed, all) {
                self.failed = sign(self.failed, failed);
                self.all = sign(self.all, all);
            }
        }
    }
}

impl Accumulator for Share {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (failed, all) = tallies(values)?;
        self.add(&failed, &all, u64::saturating_add);
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (failed, all) = tallies(values)?;
        self.add(&failed, &all, u64::saturating_sub);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(share(self.failed, self.all)))
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::UInt64(Some(self.failed)), ScalarValue::UInt64(Some(self.all))])
    }
}

#[derive(Debug, Default)]
struct Shares {
    failed: Vec<u64>,
    all: Vec<u64>,
}

impl GroupsAccumulator for Shares {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.failed.resize(total_num_groups, 0);
        self.all.resize(total_num_groups, 0);
        let (failed, all) = tallies(values)?;
        for (row, group) in group_indices.iter().enumerate() {
            let counts = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if counts && failed.is_valid(row) && all.is_valid(row) {
                self.failed[*group] = self.failed[*group].saturating_add(failed.value(row));
                self.all[*group] = self.all[*group].saturating_add(all.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.update_batch(values, group_indices, None, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let (failed, all) = tallies(values)?;
        let counts = |row| opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let kept = |tally: &UInt64Array| -> ArrayRef {
            Arc::new(
                (0..tally.len())
                    .map(|row| (counts(row) && tally.is_valid(row)).then(|| tally.value(row)))
                    .collect::<UInt64Array>(),
            )
        };
        Ok(vec![kept(&failed), kept(&all)])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (failed, all) = (emit_to.take_needed(&mut self.failed), emit_to.take_needed(&mut self.all));
        Ok(Arc::new(failed.into_iter().zip(all).map(|(failed, all)| share(failed, all)).collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (failed, all) = (emit_to.take_needed(&mut self.failed), emit_to.take_needed(&mut self.all));
        Ok(vec![Arc::new(UInt64Array::from(failed)), Arc::new(UInt64Array::from(all))])
    }

    fn size(&self) -> usize {
        size_of::<Self>() + (self.failed.capacity() + self.all.capacity()) * size_of::<u64>()
    }
}

//! The forms in which histograms are given to functions, by the types of the arguments, and their rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int32Type, UInt64Type};
use datafusion::common::{Result, plan_err};
use plimsoll_model::signal::HISTOGRAM_SCALE;

use super::merged::{LATENCY_FACTOR, Merged, data_type};

/// What arguments of these types are, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A value of this module.
    Merged,
    /// Buckets and counts of a latency.
    Latency,
    /// Bounds and counts.
    Explicit,
    /// Scale, zero count, and offset and counts of both signs.
    Exponential,
}

/// Says what arguments of these types are.
pub(crate) fn form(function: &str, types: &[DataType]) -> Result<Form> {
    let item = |data_type: &DataType| match data_type {
        DataType::List(item) => Some(item.data_type().clone()),
        _ => None,
    };
    Ok(match types {
        [only] if *only == data_type() => Form::Merged,
        [buckets, counts] if item(counts).is_some() => match item(buckets) {
            Some(item) if item.is_integer() => Form::Latency,
            Some(item) if item.is_floating() => Form::Explicit,
            _ => return usage(function),
        },
        [_, _, _, positive, _, negative] if item(positive).is_some() && item(negative).is_some() => Form::Exponential,
        _ => return usage(function),
    })
}

fn usage<T>(function: &str) -> Result<T> {
    plan_err!(
        "`{function}` takes a histogram: `latency_buckets, latency_counts` of `operations`; of `metrics` `explicit_bounds, bucket_counts`, \
         or `scale, zero_count, positive_offset, positive_bucket_counts, negative_offset, negative_bucket_counts`; or what \
         `histogram_merge` gave"
    )
}

/// Arguments as columns that rows can be read from.
pub(crate) struct Columns {
    form: Form,
    columns: Vec<ArrayRef>,
}

impl Columns {
    /// Brings `columns` to the types that their form has.
    pub(crate) fn new(form: Form, columns: &[ArrayRef]) -> Result<Self> {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        let types = match form {
            Form::Merged => vec![data_type()],
            Form::Latency => vec![list(DataType::Int32), list(DataType::UInt64)],
            Form::Explicit => vec![list(DataType::Float64), list(DataType::UInt64)],
            Form::Exponential => vec![
                DataType::Int32,
                DataType::UInt64,
                DataType::Int32,
                list(DataType::UInt64),
                DataType::Int32,
                list(DataType::UInt64),
            ],
        };
        let columns =
            columns.iter().zip(&types).map(|(column, wanted)| cast(column, wanted)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { form, columns })
    }

    /// Adds row `row` to `merged`; a row without a histogram adds nothing.
    pub(crate) fn add(&self, row: usize, merged: &mut Merged) -> Result<()> {
        let columns = self.columns.as_slice();
        match self.form {
            Form::Merged => {
                let rows = columns[0].as_struct();
                let parts = rows.columns();
                if rows.is_null(row) {
                    return Ok(());
                }
                if parts[0].is_valid(row) {
                    let scale = parts[0].as_primitive::<Int32Type>().value(row);
                    let factor = parts[1].as_primitive::<Float64Type>().value(row);
                    merged.rescale(scale, factor)?;
                    merged.add_zero(parts[2].as_primitive::<UInt64Type>().value(row));
                    sparse(&parts[3], &parts[4], row, |index, count| merged.add_bucket(true, scale, index, count));
                    sparse(&parts[5], &parts[6], row, |index, count| merged.add_bucket(false, scale, index, count));
                    merged.shrink();
                } else if parts[7].is_valid(row) {
                    merged.add_explicit(&floats(&parts[7], row), &counts(&parts[8], row))?;
                }
            }
            Form::Latency => {
                if columns[0].is_null(row) || columns[1].is_null(row) {
                    return Ok(());
                }
                let scale = HISTOGRAM_SCALE as i32;
                merged.rescale(scale, LATENCY_FACTOR)?;
                sparse(&columns[0], &columns[1], row, |index, count| merged.add_bucket(true, scale, index, count));
                merged.shrink();
            }
            Form::Explicit => {
                if columns[0].is_null(row) || columns[1].is_null(row) {
                    return Ok(());
                }
                merged.add_explicit(&floats(&columns[0], row), &counts(&columns[1], row))?;
            }
            Form::Exponential => {
                if columns[0].is_null(row) {
                    return Ok(());
                }
                let scale = columns[0].as_primitive::<Int32Type>().value(row);
                merged.rescale(scale, 1.0)?;
                if columns[1].is_valid(row) {
                    merged.add_zero(columns[1].as_primitive::<UInt64Type>().value(row));
                }
                for (offset, dense, sign) in [(2, 3, true), (4, 5, false)] {
                    if columns[dense].is_null(row) {
                        continue;
                    }
                    let offset = columns[offset].as_primitive::<Int32Type>();
                    let offset = if offset.is_valid(row) { offset.value(row) } else { 0 };
                    for (at, count) in counts(&columns[dense], row).into_iter().enumerate() {
                        let index = i32::try_from(at).map_or(i32::MAX, |at| offset.saturating_add(at));
                        merged.add_bucket(sign, scale, index, count);
                    }
                }
                merged.shrink();
            }
        }
        Ok(())
    }
}

/// Calls `each` with the pairs of two lists of row `row`.
fn sparse(indices: &ArrayRef, counted: &ArrayRef, row: usize, mut each: impl FnMut(i32, u64)) {
    let (indices, counted) = (indices.as_list::<i32>(), counted.as_list::<i32>());
    if indices.is_null(row) || counted.is_null(row) {
        return;
    }
    let from = (indices.value_offsets()[row] as usize, counted.value_offsets()[row] as usize);
    let length = indices.value_length(row).min(counted.value_length(row)) as usize;
    let values = (indices.values().as_primitive::<Int32Type>(), counted.values().as_primitive::<UInt64Type>());
    for at in 0..length {
        each(values.0.value(from.0 + at), values.1.value(from.1 + at));
    }
}

fn floats(list: &ArrayRef, row: usize) -> Vec<f64> {
    list.as_list::<i32>().value(row).as_primitive::<Float64Type>().values().to_vec()
}

fn counts(list: &ArrayRef, row: usize) -> Vec<u64> {
    list.as_list::<i32>().value(row).as_primitive::<UInt64Type>().values().to_vec()
}

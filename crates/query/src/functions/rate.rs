//! `rate(value, time)` and `increase(value, time)`: how fast a counter grew, and by how much, its resets seen through.
//!
//! Further arguments name the series, for instance `rate(value, time, service_instance_id, attributes)`: each series is measured by
//! itself and the rates add up. A value below the one before it is a counter that began again at zero. Of two points of one time the
//! greater counts. A series with a single point says nothing. Both are null where no series says anything.
//!
//! As a window function, `rate(value, time) OVER (PARTITION BY .. ORDER BY time RANGE ..)`, points leave the window as they came.
//!
//! *Cost.* Points are held until the group is over, sixteen bytes each and the name of the series once: they may come in any order.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Float64Builder, Int64Builder, ListBuilder, UInt64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, UInt64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use plimsoll_otlp::schema::timestamp;

const NANOS_PER_SECOND: f64 = 1e9;

/// Returns both aggregates.
pub(crate) fn udafs() -> [Arc<AggregateUDF>; 2] {
    static ALL: LazyLock<[Arc<AggregateUDF>; 2]> = LazyLock::new(|| {
        [true, false].map(|per_second| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(AggregateUDF::from(Rate { per_second, signature }))
        })
    });
    ALL.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rate {
    per_second: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Rate {
    fn name(&self) -> &str {
        if self.per_second { "rate" } else { "increase" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [value, DataType::Timestamp(..), ..] if value.is_numeric() => Ok(DataType::Float64),
            _ => plan_err!(
                "`{0}` takes a number, its time and whatever tells series apart, for instance `{0}(value, time, attributes)`",
                self.name()
            ),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |name: &str, item| {
            let list = DataType::List(Arc::new(Field::new_list_field(item, true)));
            Arc::new(Field::new(format_state_name(args.name, name), list, true))
        };
        Ok(vec![
            list("series", DataType::Binary),
            list("points", DataType::UInt64),
            list("times", DataType::Int64),
            list("values", DataType::Float64),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let fields = args.expr_fields.iter().skip(2).map(|field| SortField::new(field.data_type().clone())).collect();
        let names = RowConverter::new(fields)?;
        Ok(Box::new(Growth { per_second: self.per_second, names, series: HashMap::new(), held: 0 }))
    }
}

#[derive(Debug)]
struct Growth {
    per_second: bool,
    names: RowConverter,
    series: HashMap<Box<[u8]>, Vec<(i64, f64)>>,
    held: usize,
}

impl Growth {
    fn each(&self, values: &[ArrayRef], mut each: impl FnMut(&[u8], (i64, f64))) -> Result<()> {
        let [value, time, names @ ..] = values else { return exec_err!("a rate takes a number and its time") };
        let value = cast(value, &DataType::Float64)?;
        let time = cast(&cast(time, &timestamp())?, &DataType::Int64)?;
        let (value, time) = (value.as_primitive::<Float64Type>(), time.as_primitive::<Int64Type>());
        let names = match names {
            [] => None,
            names => Some(self.names.convert_columns(names)?),
        };
        for row in 0..value.len() {
            if value.is_valid(row) && time.is_valid(row) && !value.value(row).is_nan() {
                let name = names.as_ref().map(|names| names.row(row));
                each(name.as_ref().map_or(&[][..], |name| name.as_ref()), (time.value(row), value.value(row)));
            }
        }
        Ok(())
    }
}

fn push(series: &mut HashMap<Box<[u8]>, Vec<(i64, f64)>>, held: &mut usize, name: &[u8], point: (i64, f64)) {
    *held += size_of_val(&point);
    match series.get_mut(name) {
        Some(points) => points.push(point),
        None => {
            *held += name.len() + 64;
            series.insert(name.into(), vec![point]);
        }
    }
}

impl Accumulator for Growth {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (mut series, mut held) = (std::mem::take(&mut self.series), self.held);
        let done = self.each(values, |name, point| push(&mut series, &mut held, name, point));
        (self.series, self.held) = (series, held);
        done
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [names, counts, times, values] = states else { return exec_err!("the state of a rate has four parts") };
        for row in 0..names.len() {
            let of = |list: &ArrayRef| list.as_list::<i32>().value(row);
            let (names, counts, times, values) = (of(names), of(counts), of(times), of(values));
            let (times, values) = (times.as_primitive::<Int64Type>(), values.as_primitive::<Float64Type>());
            let mut at = 0;
            for (name, count) in names.as_binary::<i32>().iter().zip(counts.as_primitive::<UInt64Type>()) {
                for _ in 0..count.unwrap_or(0) {
                    let point = (times.value(at), values.value(at));
                    push(&mut self.series, &mut self.held, name.unwrap_or_default(), point);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let mut series = std::mem::take(&mut self.series);
        let done = self.each(values, |name, point| {
            if let Some(points) = series.get_mut(name)
                && let Some(at) =
                    points.iter().position(|held| held.0 == point.0 && held.1.to_bits() == point.1.to_bits())
            {
                points.remove(at);
            }
        });
        self.series = series;
        done
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        // In the order of their names, so that the same points always give the same sum.
        let mut names: Vec<&[u8]> = self.series.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        let grown = names.iter().filter_map(|name| {
            let mut points = self.series.get(*name)?.clone();
            grown(&mut points).map(|(by, nanos)| if self.per_second { by * NANOS_PER_SECOND / nanos } else { by })
        });
        Ok(ScalarValue::Float64(grown.reduce(|a, b| a + b)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.names.size() + self.held
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut names = ListBuilder::new(BinaryBuilder::new());
        let mut counts = ListBuilder::new(UInt64Builder::new());
        let mut times = ListBuilder::new(Int64Builder::new());
        let mut values = ListBuilder::new(Float64Builder::new());
        for (name, points) in &self.series {
            names.values().append_value(name);
            counts.values().append_value(points.len() as u64);
            for (time, value) in points {
                times.values().append_value(*time);
                values.values().append_value(*value);
            }
        }
        names.append(true);
        counts.append(true);
        times.append(true);
        values.append(true);
        Ok(vec![
            ScalarValue::List(Arc::new(names.finish())),
            ScalarValue::List(Arc::new(counts.finish())),
            ScalarValue::List(Arc::new(times.finish())),
            ScalarValue::List(Arc::new(values.finish())),
        ])
    }
}

/// Returns by how much a counter grew, and in how many nanoseconds; `None` where there are no two times.
fn grown(points: &mut Vec<(i64, f64)>) -> Option<(f64, f64)> {
    points.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)));
    points.dedup_by_key(|point| point.0);
    let (first, last) = (points.first()?, points.last()?);
    let nanos = last.0.checked_sub(first.0).filter(|nanos| *nanos > 0)?;
    let steps = points.windows(2).map(|pair| if pair[1].1 >= pair[0].1 { pair[1].1 - pair[0].1 } else { pair[1].1 });
    Some((steps.sum(), nanos as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_begins_again_has_still_grown() {
        let mut points = vec![(30, 5.0), (0, 100.0), (20, 2.0), (10, 110.0), (10, 105.0)];
        assert_eq!(grown(&mut points), Some((10.0 + 2.0 + 3.0, 30.0)));
        assert_eq!(grown(&mut vec![(7, 1.0)]), None);
        assert_eq!(grown(&mut vec![(7, 1.0), (7, 9.0)]), None);
    }
}

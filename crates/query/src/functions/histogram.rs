//! Scalar functions over histograms: of `operations`, of `metrics`, and merged ones.
//!
//! - `histogram(..)`: one row's histogram as a value that merges ([`crate::functions::merged`]).
//! - `quantile(histogram, q)`, also `histogram_quantile(buckets, counts, q)`: milliseconds for latencies, else the metric's unit.
//! - `histogram_count(histogram)`: observations.
//! - `count_above(buckets, counts, index)`: observations of a latency in buckets above `index`.
//! - `bucket_index(ms)`: the index of the latency bucket that holds a time.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array, UInt64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use plimsoll_model::signal::Histogram;

use super::forms::{Columns, Form, form};
use super::merged::{Merged, data_type, share, to_array};

const NANOS_PER_MILLI: f64 = 1e6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scalar {
    Make,
    Quantile,
    Count,
    CountAbove,
    BucketIndex,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HistogramFunction {
    which: Scalar,
    aliases: Vec<String>,
    signature: Signature,
}

fn function(which: Scalar, aliases: &[&str]) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(HistogramFunction {
        which,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        signature: Signature::variadic_any(Volatility::Immutable),
    }))
}

static ALL: LazyLock<Vec<Arc<ScalarUDF>>> = LazyLock::new(|| {
    vec![
        function(Scalar::Make, &[]),
        function(Scalar::Quantile, &["histogram_quantile"]),
        function(Scalar::Count, &[]),
        function(Scalar::CountAbove, &["histogram_count_above"]),
        function(Scalar::BucketIndex, &[]),
    ]
});

/// Returns every function of this module.
pub(crate) fn udfs() -> Vec<Arc<ScalarUDF>> {
    ALL.clone()
}

/// Calls `each` with the merged histogram of every row.
fn for_each(name: &str, given: &[ArrayRef], mut each: impl FnMut(usize, Merged)) -> Result<()> {
    let types: Vec<DataType> = given.iter().map(|column| column.data_type().clone()).collect();
    let columns = Columns::new(form(name, &types)?, given)?;
    for row in 0..given.first().map_or(0, |column| column.len()) {
        let mut merged = Merged::Empty;
        columns.add(row, &mut merged)?;
        each(row, merged);
    }
    Ok(())
}

impl ScalarUDFImpl for HistogramFunction {
    fn name(&self) -> &str {
        match self.which {
            Scalar::Make => "histogram",
            Scalar::Quantile => "quantile",
            Scalar::Count => "histogram_count",
            Scalar::CountAbove => "count_above",
            Scalar::BucketIndex => "bucket_index",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(match (self.which, args) {
            (Scalar::Make, args) => form(self.name(), args).map(|_| data_type())?,
            (Scalar::Quantile, [histogram @ .., q])
                if (q.is_numeric() || q.is_null()) && form(self.name(), histogram).is_ok() =>
            {
                DataType::Float64
            }
            (Scalar::Quantile, _) => {
                return plan_err!(
                    "`quantile` takes a histogram and a number from 0 to 1, for instance \
                     `quantile(histogram_merge(latency_buckets, latency_counts), 0.95)`; of plain values write \
                     `approx_percentile_cont(duration_ns, 0.95)`"
                );
            }
            (Scalar::Count, args) => form(self.name(), args).map(|_| DataType::UInt64)?,
            (Scalar::CountAbove, [histogram @ .., _]) if form(self.name(), histogram)? == Form::Latency => {
                DataType::UInt64
            }
            (Scalar::BucketIndex, [ms]) if ms.is_numeric() || ms.is_null() => DataType::Int64,
            (Scalar::CountAbove, _) => {
                return plan_err!("`count_above` takes `latency_buckets, latency_counts` and an index");
            }
            (Scalar::BucketIndex, _) => return plan_err!("`bucket_index` takes a time in milliseconds"),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.iter().map(|arg| arg.clone().into_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let result: ArrayRef = match (self.which, given.as_slice()) {
            (Scalar::Make, given) => {
                let mut rows = Vec::with_capacity(args.number_rows);
                for_each(self.name(), given, |_, merged| rows.push(merged))?;
                Arc::new(to_array(&rows)?)
            }
            (Scalar::Quantile, [histogram @ .., q]) => {
                let q = cast(q, &DataType::Float64)?;
                let q = q.as_primitive::<Float64Type>();
                q.iter().flatten().try_for_each(|q| share(self.name(), q))?;
                let mut values = Vec::with_capacity(q.len());
                for_each(self.name(), histogram, |row, merged| {
                    values.push(q.is_valid(row).then(|| merged.quantile(q.value(row))).flatten());
                })?;
                Arc::new(Float64Array::from(values))
            }
            (Scalar::Count, given) => {
                let mut values = Vec::with_capacity(args.number_rows);
                for_each(self.name(), given, |_, merged| values.push(merged.count()))?;
                Arc::new(UInt64Array::from(values))
            }
            (Scalar::CountAbove, [buckets, counts, limit]) => count_above(buckets, counts, limit)?,
            (Scalar::BucketIndex, [ms]) => {
                let ms = cast(ms, &DataType::Float64)?;
                let ms: &Float64Array = ms.as_primitive::<Float64Type>();
                let index = |ms: f64| i64::from(Histogram::index_of((ms * NANOS_PER_MILLI).max(0.0) as u64));
                Arc::new(ms.iter().map(|ms| ms.map(index)).collect::<Int64Array>())
            }
            _ => return exec_err!("`{}` has too few arguments", self.name()),
        };
        Ok(ColumnarValue::Array(result))
    }
}

fn count_above(buckets: &ArrayRef, counts: &ArrayRef, limit: &ArrayRef) -> Result<ArrayRef> {
    let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
    let (buckets, counts) = (cast(buckets, &list(DataType::Int64))?, cast(counts, &list(DataType::UInt64))?);
    let (buckets, counts) = (buckets.as_list::<i32>(), counts.as_list::<i32>());
    let limit = cast(limit, &DataType::Int64)?;
    let limit = limit.as_primitive::<Int64Type>();
    let mut out = UInt64Builder::with_capacity(limit.len());
    for row in 0..limit.len() {
        if buckets.is_null(row) || counts.is_null(row) || limit.is_null(row) {
            out.append_null();
            continue;
        }
        let (indices, counted) = (buckets.value(row), counts.value(row));
        let pairs = indices.as_primitive::<Int64Type>().iter().zip(counted.as_primitive::<UInt64Type>().iter());
        let above = pairs.filter(|(index, _)| index.is_some_and(|index| index > limit.value(row)));
        out.append_value(above.fold(0_u64, |sum, (_, count)| sum.saturating_add(count.unwrap_or(0))));
    }
    Ok(Arc::new(out.finish()))
}

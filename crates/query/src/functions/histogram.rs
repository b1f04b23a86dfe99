//! Functions over the stored sparse histograms of `operations`: parallel lists of bucket index and count, over nanoseconds.
//!
//! - `histogram_quantile(buckets, counts, q)`: milliseconds, of one row.
//! - `count_above(buckets, counts, index)`: observations in buckets above `index`.
//! - `bucket_index(ms)`: the index of the bucket that holds a time.
//! - `merged_quantile(buckets, counts, q)`: an aggregate; milliseconds, of all rows together.
//!
//! *Source.* `plimsoll_model::signal::Histogram`: exponential buckets at scale 4, so a quantile is within 2.2 %.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Float64Builder, Int16Array, Int16Builder, Int64Array, UInt64Array,
    UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int16Type, Int64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use plimsoll_model::signal::Histogram;

const NANOS_PER_MILLI: f64 = 1e6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scalar {
    Quantile,
    CountAbove,
    BucketIndex,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HistogramFunction {
    which: Scalar,
    aliases: Vec<String>,
    signature: Signature,
}

fn function(which: Scalar, arguments: usize, aliases: &[&str]) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(HistogramFunction {
        which,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        signature: Signature::any(arguments, Volatility::Immutable),
    }))
}

pub(crate) fn quantile() -> Arc<ScalarUDF> {
    static UDF: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| function(Scalar::Quantile, 3, &["quantile"]));
    Arc::clone(&UDF)
}

pub(crate) fn count_above() -> Arc<ScalarUDF> {
    static UDF: LazyLock<Arc<ScalarUDF>> =
        LazyLock::new(|| function(Scalar::CountAbove, 3, &["histogram_count_above"]));
    Arc::clone(&UDF)
}

pub(crate) fn bucket_index() -> Arc<ScalarUDF> {
    static UDF: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| function(Scalar::BucketIndex, 1, &[]));
    Arc::clone(&UDF)
}

/// The rows of two parallel list columns.
struct Histograms {
    buckets: ArrayRef,
    counts: ArrayRef,
}

impl Histograms {
    fn of(buckets: &ArrayRef, counts: &ArrayRef) -> Result<Self> {
        if buckets.as_list_opt::<i32>().is_none() || counts.as_list_opt::<i32>().is_none() {
            return exec_err!("a histogram is two lists, for instance `latency_buckets, latency_counts`");
        }
        Ok(Self { buckets: Arc::clone(buckets), counts: Arc::clone(counts) })
    }

    /// Calls `each` with the buckets of every row; `None` where the row has no histogram.
    fn for_each(&self, mut each: impl FnMut(Option<(&Int16Array, &UInt64Array)>)) -> Result<()> {
        let (buckets, counts) = (self.buckets.as_list::<i32>(), self.counts.as_list::<i32>());
        for row in 0..buckets.len() {
            if buckets.is_null(row) || counts.is_null(row) {
                each(None);
                continue;
            }
            let index = cast(&buckets.value(row), &DataType::Int16)?;
            let count = cast(&counts.value(row), &DataType::UInt64)?;
            each(Some((index.as_primitive::<Int16Type>(), count.as_primitive::<UInt64Type>())));
        }
        Ok(())
    }
}

fn add(histogram: &mut Histogram, index: &Int16Array, count: &UInt64Array) {
    for (index, count) in index.iter().zip(count.iter()) {
        if let (Some(index), Some(count)) = (index, count) {
            let sum = histogram.0.entry(index).or_default();
            *sum = sum.saturating_add(count);
        }
    }
}

impl ScalarUDFImpl for HistogramFunction {
    fn name(&self) -> &str {
        match self.which {
            Scalar::Quantile => "histogram_quantile",
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

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(match self.which {
            Scalar::Quantile => DataType::Float64,
            Scalar::CountAbove => DataType::UInt64,
            Scalar::BucketIndex => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let given = args.args.iter().map(|arg| arg.clone().into_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let result: ArrayRef = match (self.which, given.as_slice()) {
            (Scalar::Quantile, [buckets, counts, q]) => {
                let q = cast(q, &DataType::Float64)?;
                let q = q.as_primitive::<Float64Type>();
                let mut out = Float64Builder::with_capacity(q.len());
                let mut row = 0;
                Histograms::of(buckets, counts)?.for_each(|pair| {
                    let value = pair.filter(|_| q.is_valid(row)).and_then(|(index, count)| {
                        let mut histogram = Histogram::default();
                        add(&mut histogram, index, count);
                        histogram.quantile(q.value(row))
                    });
                    out.append_option(value.map(|nanos| nanos / NANOS_PER_MILLI));
                    row += 1;
                })?;
                Arc::new(out.finish())
            }
            (Scalar::CountAbove, [buckets, counts, limit]) => {
                let limit = cast(limit, &DataType::Int64)?;
                let limit = limit.as_primitive::<Int64Type>();
                let mut out = UInt64Builder::with_capacity(limit.len());
                let mut row = 0;
                Histograms::of(buckets, counts)?.for_each(|pair| {
                    let value = pair.filter(|_| limit.is_valid(row)).map(|(index, count)| {
                        let above = |i: &Option<i16>| i.is_some_and(|i| i64::from(i) > limit.value(row));
                        index
                            .iter()
                            .zip(count.iter())
                            .filter(|(i, _)| above(i))
                            .fold(0_u64, |sum, (_, count)| sum.saturating_add(count.unwrap_or(0)))
                    });
                    out.append_option(value);
                    row += 1;
                })?;
                Arc::new(out.finish())
            }
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

/// The aggregate.
pub(crate) fn merged_quantile() -> Arc<AggregateUDF> {
    static UDF: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        Arc::new(AggregateUDF::from(MergedQuantile { signature: Signature::any(3, Volatility::Immutable) }))
    });
    Arc::clone(&UDF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MergedQuantile {
    signature: Signature,
}

impl AggregateUDFImpl for MergedQuantile {
    fn name(&self) -> &str {
        "merged_quantile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = |item| DataType::List(Arc::new(Field::new_list_field(item, true)));
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "buckets"), list(DataType::Int16), true)),
            Arc::new(Field::new(format_state_name(args.name, "counts"), list(DataType::UInt64), true)),
            Arc::new(Field::new(format_state_name(args.name, "q"), DataType::Float64, true)),
        ])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<Merged>::default())
    }
}

#[derive(Debug, Default)]
struct Merged {
    histogram: Histogram,
    q: Option<f64>,
}

impl Merged {
    fn merge(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let [buckets, counts, q] = columns else { return exec_err!("`merged_quantile` takes three arguments") };
        let histogram = &mut self.histogram;
        Histograms::of(buckets, counts)?.for_each(|pair| {
            if let Some((index, count)) = pair {
                add(histogram, index, count);
            }
        })?;
        let q = cast(q, &DataType::Float64)?;
        self.q = self.q.or_else(|| q.as_primitive::<Float64Type>().iter().flatten().next());
        Ok(())
    }
}

impl Accumulator for Merged {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.merge(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let nanos = self.q.and_then(|q| self.histogram.quantile(q));
        Ok(ScalarValue::Float64(nanos.map(|nanos| nanos / NANOS_PER_MILLI)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.histogram.0.len() * 32
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut buckets = Int16Builder::new();
        let mut counts = UInt64Builder::new();
        for (index, count) in &self.histogram.0 {
            buckets.append_value(*index);
            counts.append_value(*count);
        }
        Ok(vec![list(Arc::new(buckets.finish())), list(Arc::new(counts.finish())), ScalarValue::Float64(self.q)])
    }
}

fn list(values: ArrayRef) -> ScalarValue {
    datafusion::common::utils::SingleRowListArrayBuilder::new(values).build_list_scalar()
}

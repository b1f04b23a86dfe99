//! Aggregates over histograms: `histogram_merge(..)`, which gives one that takes part in further merging, and
//! `merged_quantile(.., q)`, the quantile of what was merged.
//!
//! *Cost.* An addition for each bucket of each row. A group holds its buckets, at most 2,048 of each sign.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::forms::{Columns, Form, form};
use super::merged::{Merged, data_type, share};

/// Returns both aggregates.
pub(crate) fn udafs() -> [Arc<AggregateUDF>; 2] {
    static ALL: LazyLock<[Arc<AggregateUDF>; 2]> = LazyLock::new(|| {
        [false, true].map(|quantile| {
            let signature = Signature::variadic_any(Volatility::Immutable);
            Arc::new(AggregateUDF::from(Merge { quantile, signature }))
        })
    });
    ALL.clone()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Merge {
    quantile: bool,
    signature: Signature,
}

impl Merge {
    /// Says what the arguments that make the histogram are.
    fn form(&self, args: &[DataType]) -> Result<Form> {
        match (self.quantile, args) {
            (false, histogram) => form(self.name(), histogram),
            (true, [histogram @ .., q]) if q.is_numeric() => form(self.name(), histogram),
            (true, _) => plan_err!(
                "`merged_quantile` takes a histogram and a number from 0 to 1, for instance \
                 `merged_quantile(latency_buckets, latency_counts, 0.95)`"
            ),
        }
    }
}

impl AggregateUDFImpl for Merge {
    fn name(&self) -> &str {
        if self.quantile { "merged_quantile" } else { "histogram_merge" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        self.form(args)?;
        Ok(if self.quantile { DataType::Float64 } else { data_type() })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![
            Arc::new(Field::new(format_state_name(args.name, "histogram"), data_type(), true)),
            Arc::new(Field::new(format_state_name(args.name, "q"), DataType::Float64, true)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let types: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let form = self.form(&types)?;
        Ok(Box::new(Merging { quantile: self.quantile, form, merged: Merged::Empty, q: None }))
    }
}

#[derive(Debug)]
struct Merging {
    quantile: bool,
    form: Form,
    merged: Merged,
    q: Option<f64>,
}

impl Merging {
    fn add(&mut self, form: Form, histograms: &[ArrayRef]) -> Result<()> {
        let columns = Columns::new(form, histograms)?;
        for row in 0..histograms.first().map_or(0, |column| column.len()) {
            columns.add(row, &mut self.merged)?;
        }
        Ok(())
    }

    fn note(&mut self, q: &ArrayRef) -> Result<()> {
        let q = cast(q, &DataType::Float64)?;
        q.as_primitive::<Float64Type>().iter().flatten().try_for_each(|q| share("merged_quantile", q))?;
        self.q = self.q.or_else(|| q.as_primitive::<Float64Type>().iter().flatten().next());
        Ok(())
    }
}

impl Accumulator for Merging {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match (self.quantile, values) {
            (true, [histograms @ .., q]) => {
                self.note(q)?;
                self.add(self.form, histograms)
            }
            _ => self.add(self.form, values),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [histograms, q] = states else { return exec_err!("the state of a histogram has two parts") };
        self.note(q)?;
        self.add(Form::Merged, std::slice::from_ref(histograms))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.quantile {
            return Ok(ScalarValue::Float64(self.q.and_then(|q| self.merged.quantile(q))));
        }
        self.merged.to_scalar()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.merged.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.merged.to_scalar()?, ScalarValue::Float64(self.q)])
    }
}

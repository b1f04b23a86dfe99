//! `min` and `max` of attributes: a number comes before a larger one however they are written, and before any other text.
//!
//! *Cost.* A number is parsed a row; one text a group.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use super::{FACE, FACE_ATTRIBUTE};

/// Returns what `function` is of attributes, where that is something of its own.
pub(crate) fn of_attributes(function: &str) -> Option<Arc<AggregateUDF>> {
    static ALL: LazyLock<[Arc<AggregateUDF>; 2]> = LazyLock::new(|| {
        [Ordering::Less, Ordering::Greater].map(|wins| {
            let signature = Signature::any(1, Volatility::Immutable);
            Arc::new(AggregateUDF::from(Extreme { wins, signature }))
        })
    });
    ALL.iter().find(|own| own.name() == function).cloned()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    /// How what wins compares with what does not.
    wins: Ordering,
    signature: Signature,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        if self.wins == Ordering::Less { "min" } else { "max" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field(&self, _args: &[FieldRef]) -> Result<FieldRef> {
        let face = [(FACE.to_owned(), FACE_ATTRIBUTE.to_owned())].into();
        Ok(Arc::new(Field::new(self.name(), DataType::Utf8, true).with_metadata(face)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "text"), DataType::Utf8, true))])
    }

    fn accumulator(&self, _args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Best { wins: self.wins, best: None }))
    }
}

#[derive(Debug)]
struct Best {
    wins: Ordering,
    best: Option<(Option<f64>, String)>,
}

/// Numbers first, by size; then text; what is equal so far by how it is written.
fn compare(a: (Option<f64>, &str), b: (Option<f64>, &str)) -> Ordering {
    let by_number = match (a.0, b.0) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    };
    by_number.then_with(|| a.1.cmp(b.1))
}

impl Accumulator for Best {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [texts] = values else { return exec_err!("the least and the greatest are of one value") };
        let texts = cast(texts, &DataType::Utf8)?;
        let numbers = cast(&texts, &DataType::Float64)?;
        let (texts, numbers) = (texts.as_string::<i32>(), numbers.as_primitive::<Float64Type>());
        for row in (0..texts.len()).filter(|row| texts.is_valid(*row)) {
            let candidate = (numbers.is_valid(row).then(|| numbers.value(row)), texts.value(row));
            let better = match &self.best {
                Some((number, text)) => compare(candidate, (*number, text)) == self.wins,
                None => true,
            };
            if better {
                self.best = Some((candidate.0, candidate.1.to_owned()));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Utf8(self.best.as_ref().map(|(_, text)| text.clone())))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.best.as_ref().map_or(0, |(_, text)| text.capacity())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }
}

//! Enumerations of the wire as words: `kind`, `status_code`, `temporality`.
//!
//! *Source.* `Span.SpanKind`, `Status.StatusCode` and `AggregationTemporality` of OTLP. A number without a word is shown as
//! the number.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Int32Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::FACE;

/// One enumeration.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Names {
    /// Name of the function that gives the words; also the face of its result.
    pub(crate) function: &'static str,
    /// What the constants of the protocol begin with.
    prefix: &'static str,
    /// The words, by number.
    words: &'static [&'static str],
    /// True where null is shown as the first word.
    pub(crate) null_is_first: bool,
}

/// Span kinds.
pub(crate) const KIND: Names = Names {
    function: "span_kind",
    prefix: "span_kind_",
    words: &["unspecified", "internal", "server", "client", "producer", "consumer"],
    null_is_first: false,
};

/// Status codes of spans.
pub(crate) const STATUS: Names =
    Names { function: "span_status", prefix: "status_code_", words: &["unset", "ok", "error"], null_is_first: true };

/// Temporalities of metrics.
pub(crate) const TEMPORALITY: Names = Names {
    function: "metric_temporality",
    prefix: "aggregation_temporality_",
    words: &["unspecified", "delta", "cumulative"],
    null_is_first: false,
};

/// Every enumeration.
pub(crate) const ALL: [&Names; 3] = [&KIND, &STATUS, &TEMPORALITY];

impl Names {
    pub(crate) fn udf(&'static self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Name { names: self, signature: Signature::any(1, Volatility::Immutable) }))
    }

    /// Returns the word, or the number as text where there is none.
    pub(crate) fn word(&self, number: i64) -> String {
        match usize::try_from(number).ok().and_then(|n| self.words.get(n)) {
            Some(word) => (*word).to_owned(),
            None => number.to_string(),
        }
    }

    /// Brings any spelling (`SERVER`, `SPAN_KIND_SERVER`, `2`) to the one shown.
    pub(crate) fn canonical(&self, text: &str) -> String {
        let lower = text.trim().to_lowercase();
        let word = lower.strip_prefix(self.prefix).unwrap_or(&lower);
        match word.parse::<i64>() {
            Ok(number) => self.word(number),
            Err(_) => word.to_owned(),
        }
    }

    /// Returns the number that is shown as `word`, and whether null is shown so too.
    pub(crate) fn number(&self, word: &str) -> Option<(i32, bool)> {
        let number = match self.words.iter().position(|known| *known == word) {
            Some(at) => i32::try_from(at).ok()?,
            None => word.parse().ok()?,
        };
        Some((number, self.null_is_first && number == 0))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Name {
    names: &'static Names,
    signature: Signature,
}

impl ScalarUDFImpl for Name {
    fn name(&self) -> &str {
        self.names.function
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = !self.names.null_is_first && args.arg_fields.iter().any(|field| field.is_nullable());
        let face = HashMap::from([(FACE.to_owned(), self.names.function.to_owned())]);
        Ok(Arc::new(Field::new(self.names.function, DataType::Utf8, nullable).with_metadata(face)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.into_iter().next() else { return exec_err!("one argument is needed") };
        let numbers = cast(&first.into_array(args.number_rows)?, &DataType::Int32)?;
        let numbers = numbers.as_primitive::<Int32Type>();
        let mut words = StringBuilder::with_capacity(numbers.len(), numbers.len() * 8);
        for number in numbers {
            match number {
                Some(number) => match usize::try_from(number).ok().and_then(|n| self.names.words.get(n)) {
                    Some(word) => words.append_value(word),
                    None => words.append_value(number.to_string()),
                },
                None if self.names.null_is_first => words.append_value(self.names.words[0]),
                None => words.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(words.finish())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_kind_means_the_same() {
        for spelling in ["server", "SERVER", "SPAN_KIND_SERVER", "2"] {
            assert_eq!(KIND.canonical(spelling), "server");
        }
        assert_eq!(STATUS.canonical("STATUS_CODE_ERROR"), "error");
        assert_eq!(KIND.canonical("17"), "17");
        assert_eq!(KIND.number("17"), Some((17, false)));
        assert_eq!(STATUS.number("unset"), Some((0, true)));
    }
}

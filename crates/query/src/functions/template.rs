//! `log_template(body)`: the message without its variable parts, so that like messages fall together.
//!
//! The templates are those that deploys are judged by (`plimsoll_model::template`), of each line for itself: words that only
//! many lines together show to vary stand as they are.
//!
//! *Cost.* One pass over the bytes; three buffers for a batch.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use plimsoll_model::template::{append_spelt, skeleton};

/// Name of the function.
pub(crate) const NAME: &str = "log_template";

static UDF: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(LogTemplate { signature: Signature::any(1, Volatility::Immutable) })));

pub(crate) fn udf() -> Arc<ScalarUDF> {
    Arc::clone(&UDF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LogTemplate {
    signature: Signature,
}

impl ScalarUDFImpl for LogTemplate {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.into_iter().next() else { return exec_err!("`{NAME}` takes one argument") };
        let bodies = cast(&first.into_array(args.number_rows)?, &DataType::Utf8)?;
        let bodies = bodies.as_string::<i32>();
        let mut out = StringBuilder::with_capacity(bodies.len(), bodies.value_data().len());
        let (mut bones, mut text) = (Vec::new(), String::new());
        for body in bodies {
            match body {
                Some(body) => {
                    text.clear();
                    skeleton(body, &mut bones);
                    append_spelt(&bones, &mut text);
                    out.append_value(&text);
                }
                None => out.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

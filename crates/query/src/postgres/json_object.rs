//! `json_build_object(key, value, ..)`: programs that reflect tables ask for options of columns in this form.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use super::functions::any;
use crate::format::{Cells, json_cells};

/// The function under both of its names; the answer is text.
pub(super) fn scalar() -> impl Iterator<Item = ScalarUDF> {
    ["json_build_object", "jsonb_build_object"]
        .into_iter()
        .map(|name| ScalarUDF::from(JsonBuildObject { name, signature: any() }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct JsonBuildObject {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for JsonBuildObject {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        if !args.len().is_multiple_of(2) {
            return plan_err!("`{}` takes keys and values in turn, {} arguments were given", self.name, args.len());
        }
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays: Vec<ArrayRef> = args.args.iter().map(|value| value.to_array(rows)).collect::<Result<_>>()?;
        let mut keys = Vec::with_capacity(arrays.len() / 2);
        let mut values = Vec::with_capacity(arrays.len() / 2);
        for (pair, fields) in arrays.chunks_exact(2).zip(args.arg_fields.chunks_exact(2)) {
            keys.push(cast(&pair[0], &DataType::Utf8)?);
            values.push(cells(&pair[1], &fields[1])?);
        }
        let mut out = StringBuilder::new();
        let mut text = Vec::new();
        for row in 0..rows {
            text.clear();
            text.push(b'{');
            for (at, (keys, values)) in keys.iter().zip(&values).enumerate() {
                if keys.is_null(row) {
                    return exec_err!("a key of `{}` is null", self.name);
                }
                if at > 0 {
                    text.extend_from_slice(b", ");
                }
                let key = serde_json::Value::from(keys.as_string::<i32>().value(row));
                text.extend_from_slice(key.to_string().as_bytes());
                text.extend_from_slice(b" : ");
                values.json(row, &mut text);
            }
            text.push(b'}');
            out.append_value(String::from_utf8_lossy(&text));
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

fn cells(array: &ArrayRef, field: &Field) -> Result<Cells> {
    let field = Field::new("value", array.data_type().clone(), true).with_metadata(field.metadata().clone());
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(array)])?;
    Ok(json_cells(&batch, 0)?)
}

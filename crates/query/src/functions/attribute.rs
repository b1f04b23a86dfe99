//! `attribute(attributes, key)`: one value out of an attribute map or out of a JSON object; what `attributes['key']` means.
//!
//! The value is text, or null where the key is absent. Of a repeated key the first entry counts. In a JSON object, text is
//! given without quotes and anything else as JSON.
//!
//! *Cost.* A map is walked, without allocation but for the output. A JSON object is parsed once for each distinct text
//! of a dictionary, so once a resource and not once a row.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use serde_json::Value;

use super::{FACE, FACE_ATTRIBUTE};

/// Name of the function.
pub(crate) const NAME: &str = "attribute";

static UDF: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(Attribute { signature: Signature::any(2, Volatility::Immutable) })));

pub(crate) fn udf() -> Arc<ScalarUDF> {
    Arc::clone(&UDF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Attribute {
    signature: Signature,
}

impl ScalarUDFImpl for Attribute {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        match args.arg_fields.first().map(|field| field.data_type()) {
            Some(data_type) if holds_attributes(data_type) => {
                let face = HashMap::from([(FACE.to_owned(), FACE_ATTRIBUTE.to_owned())]);
                Ok(Arc::new(Field::new(NAME, DataType::Utf8, true).with_metadata(face)))
            }
            _ => plan_err!("`{NAME}` takes a map or JSON text, and a key"),
        }
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        match args {
            // Beside the scan a column may stand for it: see `tables::attributes`.
            [ExpressionPlacement::Column, ExpressionPlacement::Literal] => ExpressionPlacement::MoveTowardsLeafNodes,
            _ => ExpressionPlacement::KeepInPlace,
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut given = args.args.into_iter();
        let (Some(object), Some(key)) = (given.next(), given.next()) else {
            return exec_err!("`{NAME}` takes a map or JSON text, and a key");
        };
        let object = object.into_array(args.number_rows)?;
        let values = match key {
            ColumnarValue::Scalar(
                ScalarValue::Utf8(Some(key)) | ScalarValue::Utf8View(Some(key)) | ScalarValue::LargeUtf8(Some(key)),
            ) => constant(&object, &key)?,
            ColumnarValue::Scalar(key) if key.is_null() => Arc::new(StringArray::new_null(object.len())),
            key => varying(&object, &cast(&key.into_array(args.number_rows)?, &DataType::Utf8)?)?,
        };
        Ok(ColumnarValue::Array(values))
    }
}

/// Says whether values of `data_type` have attributes in them.
pub(crate) fn holds_attributes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => true,
        DataType::Dictionary(_, value) => holds_attributes(value),
        _ => false,
    }
}

fn constant(object: &ArrayRef, key: &str) -> Result<ArrayRef> {
    match object.data_type() {
        DataType::Map(..) => by_row(object, |_| Some(key)),
        DataType::Dictionary(..) => {
            let dictionary = object.as_any_dictionary();
            let values = constant(dictionary.values(), key)?;
            Ok(take(&values, dictionary.keys(), None)?)
        }
        _ => by_row(object, |_| Some(key)),
    }
}

fn varying(object: &ArrayRef, keys: &ArrayRef) -> Result<ArrayRef> {
    let keys = keys.as_string::<i32>();
    let plain = match object.data_type() {
        DataType::Dictionary(_, value) => cast(object, value)?,
        _ => Arc::clone(object),
    };
    by_row(&plain, |row| keys.is_valid(row).then(|| keys.value(row)))
}

fn by_row<'k>(object: &ArrayRef, key: impl Fn(usize) -> Option<&'k str>) -> Result<ArrayRef> {
    let mut out = StringBuilder::with_capacity(object.len(), object.len() * 8);
    if let Some(map) = object.as_map_opt() {
        let names = cast(map.keys(), &DataType::Utf8)?;
        let texts = cast(map.values(), &DataType::Utf8)?;
        let (names, texts) = (names.as_string::<i32>(), texts.as_string::<i32>());
        for row in 0..map.len() {
            let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            let found = match key(row) {
                Some(key) if map.is_valid(row) => (from..to).find(|at| names.value(*at) == key),
                _ => None,
            };
            match found {
                Some(at) if texts.is_valid(at) => out.append_value(texts.value(at)),
                _ => out.append_null(),
            }
        }
    } else {
        let texts = cast(object, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        for row in 0..texts.len() {
            match (texts.is_valid(row), key(row)) {
                (true, Some(key)) => out.append_option(member(texts.value(row), key)),
                _ => out.append_null(),
            }
        }
    }
    Ok(Arc::new(out.finish()))
}

fn member(object: &str, key: &str) -> Option<String> {
    // The common miss costs a search and not a parse. A key that JSON must escape is never found as it stands.
    if !object.contains(key) && !object.contains('\\') {
        return None;
    }
    match serde_json::from_str(object).ok()? {
        Value::Object(mut members) => match members.remove(key)? {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_json_objects_come_without_quotes() {
        let object = r#"{"a":"text","b":7,"c":null,"d":[1],"q\"":"quoted"}"#;
        assert_eq!(member(object, "a").as_deref(), Some("text"));
        assert_eq!(member(object, "b").as_deref(), Some("7"));
        assert_eq!(member(object, "c"), None);
        assert_eq!(member(object, "d").as_deref(), Some("[1]"));
        assert_eq!(member(object, "q\"").as_deref(), Some("quoted"));
        assert_eq!(member("no json", "a"), None);
    }
}

//! `attribute(attributes, key)`: one value out of an attribute map or out of a JSON object; what `attributes['key']` means.
//!
//! The value is text, or null where the key is absent. Of a repeated key the first entry counts. In a JSON object, text is
//! given without quotes and anything else as JSON.
//!
//! *Cost.* A map is walked by the numbers of its names, the key looked for once among the distinct ones, without allocation
//! but for the output. A JSON object is parsed once for each distinct text
//! of a dictionary, so once a resource and not once a row.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, StringArray, StringBuilder};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, UInt32Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use plimsoll_otlp::schema::shared_text;
use serde_json::Value;

use super::{FACE, FACE_ATTRIBUTE};
use crate::format::json_text;

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
        let texts = cast(map.values(), &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        let keys = cast(map.keys(), &shared_text())?;
        let mut names = Names::of(keys.as_dictionary());
        for row in 0..map.len() {
            let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
            let found = match key(row) {
                Some(key) if map.is_valid(row) => names.find(from..to, key),
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

/// The keys of a map's entries: numbers of distinct names.
struct Names<'a, 'k> {
    numbers: &'a [u32],
    names: &'a StringArray,
    /// What was looked for last, and its numbers: a dictionary may hold a name more than once.
    last: Option<(&'k str, Vec<u32>)>,
}

impl<'a, 'k> Names<'a, 'k> {
    fn of(keys: &'a DictionaryArray<UInt32Type>) -> Self {
        Self { numbers: keys.keys().values(), names: keys.values().as_string(), last: None }
    }

    fn find(&mut self, entries: Range<usize>, key: &'k str) -> Option<usize> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != key) {
            let same = |at: &u32| self.names.is_valid(*at as usize) && self.names.value(*at as usize) == key;
            self.last = Some((key, (0..self.names.len() as u32).filter(same).collect()));
        }
        let (_, wanted) = self.last.as_ref()?;
        let mut numbers = self.numbers[entries.clone()].iter();
        let found = match wanted.as_slice() {
            [] => None,
            [one] => numbers.position(|number| number == one),
            many => numbers.position(|number| many.contains(number)),
        };
        found.map(|at| entries.start + at)
    }
}

fn member(object: &str, key: &str) -> Option<String> {
    // The common miss costs a search and not a parse. A key that JSON must escape is never found as it stands.
    if !object.contains(key) && !object.contains('\\') {
        return None;
    }
    match json_text::object(object)?.remove(key)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
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
        assert_eq!(member(r#"{"a":1,"a":2}"#, "a").as_deref(), Some("1"), "the first counts");
    }
}

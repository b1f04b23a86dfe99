//! `hex_id(bytes)`: an id as lower-case hexadecimal text; of a list of ids, the list of texts.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::{FACE, FACE_HEX};

/// Name of the function.
pub(crate) const NAME: &str = "hex_id";

static UDF: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ScalarUDF::from(HexId { signature: Signature::any(1, Volatility::Immutable) })));

pub(crate) fn udf() -> Arc<ScalarUDF> {
    Arc::clone(&UDF)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct HexId {
    signature: Signature,
}

impl ScalarUDFImpl for HexId {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [DataType::FixedSizeBinary(_) | DataType::Binary | DataType::Null] => Ok(DataType::Utf8),
            [DataType::List(item)] => {
                let inner = self.return_type(&[item.data_type().clone()])?;
                Ok(DataType::List(Arc::new(Field::new("item", inner, item.is_nullable()))))
            }
            _ => plan_err!("`{NAME}` takes bytes or a list of bytes"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let Some(first) = args.arg_fields.first() else { return plan_err!("`{NAME}` takes one argument") };
        let data_type = self.return_type(&[first.data_type().clone()])?;
        let mut field = Field::new(NAME, data_type, first.is_nullable());
        if field.data_type() == &DataType::Utf8 {
            field.set_metadata(HashMap::from([(FACE.to_owned(), FACE_HEX.to_owned())]));
        }
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        match args.args.into_iter().next() {
            Some(ColumnarValue::Array(array)) => Ok(ColumnarValue::Array(encode(&array)?)),
            Some(ColumnarValue::Scalar(scalar)) => Ok(ColumnarValue::Array(encode(&scalar.to_array_of_size(rows)?)?)),
            None => exec_err!("`{NAME}` takes one argument"),
        }
    }
}

fn encode(array: &ArrayRef) -> Result<ArrayRef> {
    if let Some(list) = array.as_list_opt::<i32>() {
        let values = encode(list.values())?;
        let nullable = values.is_nullable();
        let item = match array.data_type() {
            DataType::List(item) => Field::new("item", values.data_type().clone(), item.is_nullable() || nullable),
            _ => Field::new("item", values.data_type().clone(), true),
        };
        return Ok(Arc::new(ListArray::try_new(
            Arc::new(item),
            list.offsets().clone(),
            values,
            list.nulls().cloned(),
        )?));
    }
    let binary = cast(array, &DataType::Binary)?;
    let binary = binary.as_binary::<i32>();
    let mut text = StringBuilder::with_capacity(binary.len(), binary.value_data().len() * 2);
    let mut digits = String::with_capacity(32);
    for bytes in binary {
        match bytes {
            Some(bytes) => {
                digits.clear();
                push_hex(&mut digits, bytes);
                text.append_value(&digits);
            }
            None => text.append_null(),
        }
    }
    Ok(Arc::new(text.finish()))
}

/// Appends `bytes` as lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

/// Writes an id as it is stored: in lower case, and without the dashes that programs write which take it for a UUID.
pub(crate) fn spelled(text: &str) -> String {
    let lower = text.to_lowercase();
    let dashed = |(at, byte): (usize, u8)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23);
    if lower.len() == 36 && lower.bytes().enumerate().all(dashed) { lower.replace('-', "") } else { lower }
}

/// Reads lower-case hexadecimal digits; `None` where they are not exactly `width` bytes.
pub(crate) fn parse(text: &str, width: usize) -> Option<Vec<u8>> {
    fn digit(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let bytes = text.as_bytes();
    if bytes.len() != width * 2 {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ids_survive_their_hexadecimal_form(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut text = String::new();
            push_hex(&mut text, &bytes);
            prop_assert_eq!(parse(&text, bytes.len()), Some(bytes));
        }
    }
}

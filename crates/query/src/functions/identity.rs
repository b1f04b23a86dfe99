//! What rows that sum up many spans still know of the service and the operation that they are about, as attributes.
//!
//! - `service_attributes(name, namespace, version, environment)`: the resource attributes that all of them share, as JSON.
//! - `operation_attributes(operation)`: method and route of an operation that is called by them; else none.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, MapBuilder, MapFieldNames, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use plimsoll_otlp::schema::plain_attributes;
use serde_json::{Map, Value};

const SERVICE: &str = "service_attributes";
const OPERATION: &str = "operation_attributes";

/// What requests are called by.
const METHODS: [&str; 10] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
/// The names of what a service is known by, in the order of the arguments.
const KEYS: [&str; 4] = ["service.name", "service.namespace", "service.version", "deployment.environment.name"];

/// Returns both functions.
pub(crate) fn udfs() -> [Arc<ScalarUDF>; 2] {
    static ALL: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
        [(SERVICE, KEYS.len()), (OPERATION, 1)].map(|(name, arguments)| {
            let signature = Signature::any(arguments, Volatility::Immutable);
            Arc::new(ScalarUDF::from(Identity { name, signature }))
        })
    });
    ALL.clone()
}

/// Writes the resource attributes of a service; what is empty is left out.
pub(crate) fn service_attributes(values: [&str; 4]) -> String {
    let members = KEYS.iter().zip(values).filter(|(_, value)| !value.is_empty());
    let members: Map<String, Value> = members.map(|(key, value)| ((*key).to_owned(), value.into())).collect();
    Value::Object(members).to_string()
}

/// Returns method and route of an operation that is called by them.
fn request(operation: &str) -> Option<(Option<&str>, &str)> {
    match operation.split_once(' ') {
        Some((method, route)) if METHODS.contains(&method) && route.starts_with('/') => Some((Some(method), route)),
        None if operation.starts_with('/') => Some((None, operation)),
        _ => None,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Identity {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Identity {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(if self.name == SERVICE { DataType::Utf8 } else { plain_attributes() })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let texts = args.args.into_iter().map(|arg| Ok(cast(&arg.into_array(rows)?, &DataType::Utf8)?));
        let texts = texts.collect::<Result<Vec<ArrayRef>>>()?;
        let value = |column: usize, row: usize| {
            let column = texts[column].as_string::<i32>();
            if column.is_valid(row) { column.value(row) } else { "" }
        };
        let array: ArrayRef = match (self.name, texts.len()) {
            (SERVICE, 4) => {
                let mut out = StringBuilder::new();
                for row in 0..rows {
                    out.append_value(service_attributes([0, 1, 2, 3].map(|column| value(column, row))));
                }
                Arc::new(out.finish())
            }
            (OPERATION, 1) => {
                let names =
                    MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
                let mut out = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
                    .with_keys_field(Field::new("key", DataType::Utf8, false))
                    .with_values_field(Field::new("value", DataType::Utf8, true));
                for row in 0..rows {
                    if let Some((method, route)) = request(value(0, row)) {
                        if let Some(method) = method {
                            out.keys().append_value("http.request.method");
                            out.values().append_value(method);
                        }
                        out.keys().append_value("http.route");
                        out.values().append_value(route);
                    }
                    out.append(true)?;
                }
                Arc::new(out.finish())
            }
            _ => return exec_err!("`{}` was given too few or too many values", self.name),
        };
        Ok(ColumnarValue::Array(array))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_that_are_called_by_method_and_route_have_both() {
        assert_eq!(request("POST /charge"), Some((Some("POST"), "/charge")));
        assert_eq!(request("/charge"), Some((None, "/charge")));
        for other in ["", "charge", "pick /up", "GET", "GET charge", "/a b"] {
            assert_eq!(request(other), None, "{other}");
        }
    }

    #[test]
    fn a_service_is_written_with_what_is_known_of_it() {
        assert_eq!(service_attributes(["a\"b", "", "1", ""]), r#"{"service.name":"a\"b","service.version":"1"}"#);
    }
}

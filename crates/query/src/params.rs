//! Parameters: JSON values put into the syntax tree as literals, so that no text is ever pasted into SQL.

use datafusion::sql::sqlparser::ast::Value as Literal;
use serde_json::Value;

use crate::error::QueryError;

/// Returns parameter `$number` as a literal. Times are RFC 3339 text and become times where they meet one.
pub(crate) fn literal(number: usize, value: &Value) -> Result<Literal, QueryError> {
    match value {
        Value::Null => Ok(Literal::Null),
        Value::Bool(value) => Ok(Literal::Boolean(*value)),
        Value::Number(value) => Ok(Literal::Number(value.to_string(), false)),
        Value::String(value) => Ok(Literal::SingleQuotedString(value.clone())),
        Value::Array(_) | Value::Object(_) => Err(QueryError::Invalid(format!(
            "parameter `${number}` is a list or an object: give text, a number, true, false or null"
        ))),
    }
}

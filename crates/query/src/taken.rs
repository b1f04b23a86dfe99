//! What functions take where a parameter may be given to them: types of arguments, as Postgres has them.
//!
//! Text is not listed: what nothing says otherwise of is text.

use arrow::datatypes::DataType;

use crate::friendly::NUMERIC_AGGREGATES;
use crate::implied::{LENGTH, instant};

/// Functions whose arguments, and what they come to, are of one type.
pub(crate) const ALIKE: &[&str] = &["coalesce", "greatest", "least", "nullif", "nvl", "ifnull"];

/// Functions of real numbers; aggregates of them are [`NUMERIC_AGGREGATES`].
const OF_NUMBERS: &[&str] = &[
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "cot", "degrees",
    "exp", "floor", "ln", "log", "log10", "log2", "power", "radians", "signum", "sin", "sinh", "sqrt", "tan", "tanh",
    "isnan", "iszero", "nanvl",
];

/// Functions of whole numbers.
const OF_WHOLE_NUMBERS: &[&str] =
    &["factorial", "gcd", "lcm", "to_hex", "from_unixtime", "bit_and", "bit_or", "bit_xor"];

/// Returns what `function` takes for its argument `at`, counted from zero; `None` where that is text, or anything.
pub(crate) fn argument(function: &str, at: usize) -> Option<DataType> {
    Some(match (function, at) {
        _ if OF_NUMBERS.contains(&function) || NUMERIC_AGGREGATES.contains(&function) => DataType::Float64,
        _ if OF_WHOLE_NUMBERS.contains(&function) => DataType::Int64,
        ("bool_and" | "bool_or", 0) => DataType::Boolean,
        ("round" | "trunc", 0) | ("to_timestamp", 0) => DataType::Float64,
        ("round" | "trunc", 1) => DataType::Int32,
        ("substr" | "substring", 1 | 2) | ("left" | "right", 1) | ("split_part", 2) | ("overlay", 2 | 3) => {
            DataType::Int32
        }
        ("chr", 0) | ("make_date", 0..=2) => DataType::Int32,
        ("array_element", 1) | ("array_slice", 1..=3) | ("array_length", 1) => DataType::Int64,
        ("lag" | "lead" | "nth_value", 1) | ("ntile", 0) => DataType::Int32,
        ("quantile" | "histogram_count_above", 1) => DataType::Float64,
        ("date_bin", 0) => LENGTH,
        ("date_bin", 1 | 2) | ("date_trunc" | "date_part", 1) | ("at_time_zone", 0) | ("to_char", 0) => instant(),
        ("latest_deploy", 2) => instant(),
        ("encode" | "sha224" | "sha256" | "sha384" | "sha512", 0) => DataType::Binary,
        _ => return None,
    })
}

//! Attribute values as text, and back.
//!
//! Every `AnyValue` of OTLP becomes a text and a letter that says what it was:
//!
//! | letter | value | text |
//! |---|---|---|
//! | `s` | string | as it is |
//! | `b` | bool | `true` or `false` |
//! | `i` | integer | decimal |
//! | `d` | double | the shortest decimal that reads back as the same double, always with `.` or an exponent; `NaN`, `Infinity`, `-Infinity` |
//! | `y` | bytes | base64, standard alphabet, padded |
//! | `a` | array | a JSON array |
//! | `k` | key-value list | a JSON object, keys in the order of the wire, repeated ones included |
//! | `n` | empty | no text: null |
//!
//! Inside `a` and `k`: strings, bools and integers (never with `.`) as in JSON, doubles always with `.` or an exponent, an
//! empty value `null`, bytes `{"$bytes":"<base64>"}`, doubles that are not finite `{"$double":"NaN"}`. A key that begins
//! with `$` gets one more `$` in front, so that no list of the sender's is mistaken for those two.
//!
//! Nothing is lost but two things that mean the same: a key-value entry without a value becomes one with an empty value,
//! and every NaN becomes the one NaN.

mod read;
mod room;
mod write;

pub(crate) use read::write_value;
pub(crate) use room::{Room, check_key, of_attribute, within};
pub(crate) use write::{append_member, append_text};

/// A string.
pub const STRING: u8 = b's';
/// A bool.
pub const BOOL: u8 = b'b';
/// A 64-bit integer.
pub const INT: u8 = b'i';
/// A double.
pub const DOUBLE: u8 = b'd';
/// Bytes.
pub const BYTES: u8 = b'y';
/// An array.
pub const ARRAY: u8 = b'a';
/// A list of key-value entries.
pub const KVLIST: u8 = b'k';
/// No value.
pub const EMPTY: u8 = b'n';

/// How deep arrays and key-value lists may nest within one value.
pub const DEPTH_MAX: usize = 64;

/// Returns the letter of the entry at `index`, given its row of an `attribute_types` column.
pub fn letter(types: Option<&str>, index: usize) -> u8 {
    types.and_then(|types| types.as_bytes().get(index).copied()).unwrap_or(STRING)
}

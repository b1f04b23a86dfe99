//! `AnyValue` off the wire, into text.
//!
//! *Cost.* No allocation but the growth of the text.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ARRAY, BOOL, BYTES, DEPTH_MAX, DOUBLE, EMPTY, INT, KVLIST, NESTED_BYTES_MAX, STRING};
use crate::proto::{any_value, array_value, key_value, key_value_list};
use crate::wire::{Reader, Result};

/// What one `AnyValue` holds; of several fields the last counts.
enum Value<'a> {
    Empty,
    /// With the offset it was read at, for errors.
    Text(&'a [u8], usize),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(&'a [u8]),
    Array(Reader<'a>),
    Kvlist(Reader<'a>),
}

fn read<'a>(reader: &mut Reader<'a>) -> Result<Value<'a>> {
    let mut value = Value::Empty;
    while let Some(tag) = reader.tag()? {
        value = match tag {
            any_value::STRING => {
                let text = reader.bytes()?;
                Value::Text(text, reader.offset() - text.len())
            }
            any_value::BOOL => Value::Bool(reader.bool()?),
            any_value::INT => Value::Int(reader.varint()? as i64),
            any_value::DOUBLE => Value::Double(reader.double()?),
            any_value::ARRAY => Value::Array(reader.message(&array_value::MESSAGE)?),
            any_value::KVLIST => Value::Kvlist(reader.message(&key_value_list::MESSAGE)?),
            any_value::BYTES => Value::Bytes(reader.bytes()?),
            other => {
                reader.skip(other)?;
                continue;
            }
        };
    }
    Ok(value)
}

/// Appends the text of the `AnyValue` under `reader` and returns its letter. A plain string is appended as it came: whether
/// it is UTF-8 is for the caller to see.
pub(crate) fn append_text(mut reader: Reader<'_>, out: &mut Vec<u8>) -> Result<u8> {
    Ok(match read(&mut reader)? {
        Value::Empty => EMPTY,
        Value::Text(text, _) => {
            out.extend_from_slice(text);
            STRING
        }
        Value::Bool(value) => {
            out.extend_from_slice(if value { b"true" } else { b"false" });
            BOOL
        }
        Value::Int(value) => {
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            INT
        }
        Value::Double(value) => {
            append_double(value, out);
            DOUBLE
        }
        Value::Bytes(value) => {
            append_base64(value, out);
            BYTES
        }
        Value::Array(inner) => {
            check_nested(&inner)?;
            append_array(inner, out, 1)?;
            ARRAY
        }
        Value::Kvlist(inner) => {
            check_nested(&inner)?;
            append_kvlist(inner, out, 1)?;
            KVLIST
        }
    })
}

/// Refuses a list or a map that would become too much text before anybody could look.
fn check_nested(inner: &Reader<'_>) -> Result<()> {
    if inner.rest().len() <= NESTED_BYTES_MAX {
        return Ok(());
    }
    Err(inner
        .too_large(format!("a list or a map in one value has more than {NESTED_BYTES_MAX} bytes; send less in one")))
}

fn append_double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"Infinity" } else { b"-Infinity" });
    }
}

fn append_base64(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + value.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(value, &mut out[start..]).expect("four characters hold three bytes");
}

/// Appends the JSON form of a value that stands inside an array or a key-value list.
fn append_json(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    match read(&mut reader)? {
        Value::Empty => out.extend_from_slice(b"null"),
        Value::Text(text, offset) => append_json_string(&reader, "stringValue", text, offset, out)?,
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Value::Double(value) if value.is_finite() => append_double(value, out),
        Value::Double(value) => {
            out.extend_from_slice(br#"{"$double":""#);
            append_double(value, out);
            out.extend_from_slice(br#""}"#);
        }
        Value::Bytes(value) => {
            out.extend_from_slice(br#"{"$bytes":""#);
            append_base64(value, out);
            out.extend_from_slice(br#""}"#);
        }
        Value::Array(inner) => append_array(inner, out, depth + 1)?,
        Value::Kvlist(inner) => append_kvlist(inner, out, depth + 1)?,
    }
    Ok(())
}

fn check_depth(reader: &Reader<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(reader.error(reader.offset(), format!("values nest deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn append_array(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check_depth(&reader, depth)?;
    out.push(b'[');
    let mut first = true;
    while let Some(tag) = reader.tag()? {
        match tag {
            array_value::VALUES => {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                append_json(reader.message(&any_value::MESSAGE)?, out, depth)?;
            }
            other => reader.skip(other)?,
        }
    }
    out.push(b']');
    Ok(())
}

fn append_kvlist(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<()> {
    check_depth(&reader, depth)?;
    out.push(b'{');
    let mut first = true;
    while let Some(tag) = reader.tag()? {
        match tag {
            key_value_list::VALUES => {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                append_entry(reader.message(&key_value::MESSAGE)?, out, depth)?;
            }
            other => reader.skip(other)?,
        }
    }
    out.push(b'}');
    Ok(())
}

/// Appends one key-value entry as a member of a JSON object that stands `depth` levels deep; returns its key and where its
/// value stands, if it has one.
pub(crate) fn append_entry<'a>(
    mut reader: Reader<'a>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(&'a [u8], Option<Reader<'a>>)> {
    let mut key = (&b""[..], reader.offset());
    let mut value = None;
    while let Some(tag) = reader.tag()? {
        match tag {
            key_value::KEY => {
                let text = reader.bytes()?;
                key = (text, reader.offset() - text.len());
            }
            key_value::VALUE => value = Some(reader.message(&any_value::MESSAGE)?),
            other => reader.skip(other)?,
        }
    }
    let start = out.len();
    append_json_string(&reader, "key", key.0, key.1, out)?;
    if key.0.first() == Some(&b'$') {
        out.insert(start + 1, b'$');
    }
    out.push(b':');
    match value {
        Some(value) => append_json(value, out, depth)?,
        None => out.extend_from_slice(b"null"),
    }
    Ok((key.0, value))
}

fn append_json_string(reader: &Reader<'_>, field: &str, text: &[u8], offset: usize, out: &mut Vec<u8>) -> Result<()> {
    if simdutf8::basic::from_utf8(text).is_err() {
        return Err(reader.error(offset, format!("`{field}` is not valid UTF-8")));
    }
    out.push(b'"');
    let mut plain = 0;
    for (index, &byte) in text.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => br#"\""#,
            b'\\' => br"\\",
            b'\n' => br"\n",
            b'\r' => br"\r",
            b'\t' => br"\t",
            ..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&text[plain..index]);
        plain = index + 1;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}").expect("a vector takes any write");
        } else {
            out.extend_from_slice(escape);
        }
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
    Ok(())
}

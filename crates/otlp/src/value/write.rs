//! `AnyValue` off the wire, into text.
//!
//! *Cost.* No allocation but the growth of the text, and no text beyond [`Room`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::room::{Bound, Room, check_bytes, check_key, check_nested, of_attribute};
use super::{ARRAY, BOOL, BYTES, DEPTH_MAX, DOUBLE, EMPTY, INT, KVLIST, STRING};
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
/// it is UTF-8 is for the caller to see. What becomes more text than it was is within `room`.
pub(crate) fn append_text(mut reader: Reader<'_>, out: &mut Vec<u8>, room: &mut Room) -> Result<u8> {
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
            room.take(&reader, base64_len(value))?;
            append_base64(value, out);
            BYTES
        }
        Value::Array(inner) => {
            check_nested(&inner)?;
            room.one_value(out, |out, bound| append_array(inner, out, 1, bound))?;
            ARRAY
        }
        Value::Kvlist(inner) => {
            check_nested(&inner)?;
            room.one_value(out, |out, bound| append_kvlist(inner, out, 1, bound))?;
            KVLIST
        }
    })
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

/// Four characters hold three bytes.
fn base64_len(value: &[u8]) -> usize {
    value.len().div_ceil(3) * 4
}

fn append_base64(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + base64_len(value), 0);
    STANDARD.encode_slice(value, &mut out[start..]).expect("there is room for all of it");
}

/// Appends the JSON form of a value that stands inside an array or a key-value list.
fn append_json(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize, bound: Bound) -> Result<()> {
    match read(&mut reader)? {
        Value::Empty => out.extend_from_slice(b"null"),
        Value::Text(text, offset) => append_json_string(&reader, "stringValue", text, offset, out, bound)?,
        Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Value::Int(value) => out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()),
        Value::Double(value) if value.is_finite() => append_double(value, out),
        Value::Double(value) => {
            out.extend_from_slice(br#"{"$double":""#);
            append_double(value, out);
            out.extend_from_slice(br#""}"#);
        }
        Value::Bytes(value) => {
            bound.check(&reader, out.len() + base64_len(value))?;
            out.extend_from_slice(br#"{"$bytes":""#);
            append_base64(value, out);
            out.extend_from_slice(br#""}"#);
        }
        Value::Array(inner) => append_array(inner, out, depth + 1, bound)?,
        Value::Kvlist(inner) => append_kvlist(inner, out, depth + 1, bound)?,
    }
    Ok(())
}

fn check_depth(reader: &Reader<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(reader.error(reader.offset(), format!("values nest deeper than {DEPTH_MAX} levels")));
    }
    Ok(())
}

fn append_array(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize, bound: Bound) -> Result<()> {
    check_depth(&reader, depth)?;
    out.push(b'[');
    let mut first = true;
    while let Some(tag) = reader.tag()? {
        match tag {
            array_value::VALUES => {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                append_json(reader.message(&any_value::MESSAGE)?, out, depth, bound)?;
                bound.check(&reader, out.len())?;
            }
            other => reader.skip(other)?,
        }
    }
    out.push(b']');
    Ok(())
}

fn append_kvlist(mut reader: Reader<'_>, out: &mut Vec<u8>, depth: usize, bound: Bound) -> Result<()> {
    check_depth(&reader, depth)?;
    out.push(b'{');
    let mut first = true;
    while let Some(tag) = reader.tag()? {
        match tag {
            key_value_list::VALUES => {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                append_entry(reader.message(&key_value::MESSAGE)?, out, depth, bound)?;
                bound.check(&reader, out.len())?;
            }
            other => reader.skip(other)?,
        }
    }
    out.push(b'}');
    Ok(())
}

/// An attribute's key, and where its value stands, if it has one.
type Member<'a> = (&'a [u8], Option<Reader<'a>>);

/// Appends one attribute as a member of a JSON object, within `room`.
pub(crate) fn append_member<'a>(reader: Reader<'a>, out: &mut Vec<u8>, room: &mut Room) -> Result<Member<'a>> {
    room.one_value(out, |out, bound| append_entry(reader, out, 0, bound))
        .map_err(|error| of_attribute(error, key_of(reader)))
}

/// Returns the key of an entry that could not be taken.
#[cold]
fn key_of(mut entry: Reader<'_>) -> &[u8] {
    let mut key = &b""[..];
    while let Ok(Some(tag)) = entry.tag() {
        match tag {
            key_value::KEY => key = entry.bytes().unwrap_or(key),
            other if entry.skip(other).is_err() => break,
            _ => {}
        }
    }
    key
}

/// Appends one key-value entry as a member of a JSON object that stands `depth` levels deep.
fn append_entry<'a>(mut reader: Reader<'a>, out: &mut Vec<u8>, depth: usize, bound: Bound) -> Result<Member<'a>> {
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
    check_key(&reader, key.0)?;
    check_bytes(&reader, "its value", value.map_or(0, |value| value.rest().len()))?;
    let start = out.len();
    append_json_string(&reader, "key", key.0, key.1, out, bound)?;
    if key.0.first() == Some(&b'$') {
        out.insert(start + 1, b'$');
    }
    out.push(b':');
    match value {
        Some(value) => append_json(value, out, depth, bound)?,
        None => out.extend_from_slice(b"null"),
    }
    Ok((key.0, value))
}

/// The control characters in JSON that have no short form, and room for those that have.
const CONTROL: [[u8; 6]; 0x20] = {
    let mut escapes = [*br"\u0000"; 0x20];
    let mut byte = 0;
    while byte < escapes.len() {
        escapes[byte][4] = b'0' + (byte >> 4) as u8;
        escapes[byte][5] = b"0123456789abcdef"[byte & 0xf];
        byte += 1;
    }
    escapes
};

fn append_json_string(
    reader: &Reader<'_>,
    field: &str,
    text: &[u8],
    offset: usize,
    out: &mut Vec<u8>,
    bound: Bound,
) -> Result<()> {
    bound.check_string(reader, out.len(), text)?;
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
            ..0x20 => &CONTROL[usize::from(byte)],
            _ => continue,
        };
        out.extend_from_slice(&text[plain..index]);
        plain = index + 1;
        out.extend_from_slice(escape);
    }
    out.extend_from_slice(&text[plain..]);
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::value::room::escaped_len;

    /// A list of one string as text.
    fn listed(text: &str) -> String {
        let wrap = |tag: u32, inner: &[u8]| [&[tag as u8, inner.len() as u8][..], inner].concat();
        let item = wrap(any_value::STRING, text.as_bytes());
        let value = wrap(any_value::ARRAY, &wrap(array_value::VALUES, &item));
        let mut out = Vec::new();
        let letter = append_text(Reader::new(&value, &any_value::MESSAGE), &mut out, &mut Room::default());
        assert_eq!(letter.map_err(|error| error.to_string()), Ok(ARRAY));
        String::from_utf8(out).expect("JSON is text")
    }

    #[test]
    fn every_control_character_has_its_escape() {
        for byte in 0..0x20_u8 {
            let escape = match byte {
                b'\n' => r"\n".to_owned(),
                b'\r' => r"\r".to_owned(),
                b'\t' => r"\t".to_owned(),
                other => format!("\\u{other:04x}"),
            };
            let text = format!("a{}b", char::from(byte));
            assert_eq!(listed(&text), format!(r#"["a{escape}b"]"#));
        }
    }

    proptest! {
        #[test]
        fn the_length_of_a_string_in_json_is_known_before(text in "[\\x00-\\x7fä]{0,50}") {
            prop_assert_eq!(listed(&text).len(), escaped_len(text.as_bytes()) + 4);
        }
    }
}

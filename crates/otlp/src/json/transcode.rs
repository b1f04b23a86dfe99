//! Objects and arrays into messages and repeated fields, driven by the table of messages.

use super::lexer::{Lexer, Next};
use super::scalar;
use super::{JsonError, beginning};
use crate::decode::REQUEST_PARTS_MAX;
use crate::proto::{Field, Kind, LEN, Message, packed};
use crate::value::DEPTH_MAX;
use crate::wire::Writer;

type Result<T> = std::result::Result<T, JsonError>;

/// Levels of messages: those above values, and three for each level that a value nests.
const LEVELS_MAX: usize = 3 * DEPTH_MAX + 16;

/// How much longer than its text a request may become by its arrays of numbers: so many times, and so many bytes. Four times is what a text
/// of nothing but `0,` would; histograms as they are sent become shorter.
const GROWTH_MAX: (usize, usize) = (2, 1 << 20);

/// Levels of arrays and objects in a field that is not known.
const UNKNOWN_LEVELS_MAX: usize = 128;

/// Writes the fields of the object that comes next.
pub(super) fn message(lexer: &mut Lexer<'_>, writer: &mut Writer, message: &Message) -> Result<()> {
    fields(lexer, writer, message, LEVELS_MAX)
}

fn fields(lexer: &mut Lexer<'_>, writer: &mut Writer, message: &Message, levels_left: usize) -> Result<()> {
    if levels_left == 0 {
        return Err(format!("values nest deeper than {DEPTH_MAX} levels").into());
    }
    if lexer.next()? != Next::Object {
        return Err(format!("`{}` must be an object", message.name).into());
    }
    lexer.begin_object()?;
    let mut first = true;
    let mut expected = 0;
    while let Some(key) = lexer.member(first)? {
        first = false;
        match find(message.fields, &key, &mut expected) {
            Some(field) => {
                field_value(lexer, writer, field, levels_left).map_err(|error| error.within(field.name))?;
            }
            None => {
                lexer.skip(UNKNOWN_LEVELS_MAX).map_err(|problem| JsonError::from(problem).within(beginning(&key)))?
            }
        }
    }
    Ok(())
}

/// Finds a field by its name, first where the one after the last is `expected`: senders keep to an order.
fn find<'f>(fields: &'f [Field], key: &str, expected: &mut usize) -> Option<&'f Field> {
    let (before, after) = fields.split_at((*expected).min(fields.len()));
    let exact = after.iter().chain(before).position(|field| field.name == key).map(|ahead| {
        let at = *expected + ahead;
        if at >= fields.len() { at - fields.len() } else { at }
    });
    let found = exact.or_else(|| fields.iter().position(|field| key.contains('_') && is_named(field.name, key)))?;
    *expected = found + 1;
    fields.get(found)
}

/// Says whether `key` is the lowerCamelCase `name` in snake_case.
fn is_named(name: &str, key: &str) -> bool {
    let mut rest = key.bytes();
    name.bytes().all(|byte| {
        if byte.is_ascii_uppercase() {
            rest.next() == Some(b'_') && rest.next() == Some(byte.to_ascii_lowercase())
        } else {
            rest.next() == Some(byte)
        }
    }) && rest.next().is_none()
}

fn field_value(lexer: &mut Lexer<'_>, writer: &mut Writer, field: &Field, levels_left: usize) -> Result<()> {
    match lexer.next()? {
        Next::Null => Ok(lexer.null()?),
        Next::Array if field.repeated && field.kind.wire_type() != LEN => numbers(lexer, writer, field),
        Next::Array if field.repeated => {
            lexer.begin_array()?;
            let mut index = 0_usize;
            while lexer.element(index == 0)? {
                one(lexer, writer, field, levels_left).map_err(|error| error.within(&format!("[{index}]")))?;
                index += 1;
            }
            Ok(())
        }
        _ if field.repeated => Err("it must be an array".to_owned().into()),
        _ => one(lexer, writer, field, levels_left),
    }
}

/// Writes an array of numbers in packed form: eight bytes for the two characters that a number takes at least, and no tag with each.
fn numbers(lexer: &mut Lexer<'_>, writer: &mut Writer, field: &Field) -> Result<()> {
    lexer.begin_array()?;
    let mut open = None;
    let mut index = 0_usize;
    while lexer.element(index == 0)? {
        if index == REQUEST_PARTS_MAX {
            return Err(format!("it has more than {REQUEST_PARTS_MAX} numbers; send smaller batches").into());
        }
        open.get_or_insert_with(|| writer.open(packed(field.number << 3 | field.kind.wire_type())));
        number(lexer, writer, field.kind).map_err(|problem| JsonError::from(problem).within(&format!("[{index}]")))?;
        index += 1;
    }
    if let Some(open) = open {
        writer.close(open);
    }
    let most = lexer.len().saturating_mul(GROWTH_MAX.0).saturating_add(GROWTH_MAX.1);
    if writer.len() > most {
        let problem = format!(
            "the numbers in the request's arrays take more than the {most} bytes that a request of {} may become; send smaller batches",
            lexer.len()
        );
        return Err(problem.into());
    }
    Ok(())
}

/// Writes a number as it stands in a packed field.
fn number(lexer: &mut Lexer<'_>, writer: &mut Writer, kind: Kind) -> std::result::Result<(), String> {
    match kind {
        Kind::Fixed64 => writer.raw(&scalar::integer::<u64>(lexer)?.to_le_bytes()),
        Kind::Double => writer.raw(&scalar::double(lexer)?.to_le_bytes()),
        Kind::UInt64 => writer.varint(scalar::integer::<u64>(lexer)?),
        _ => unreachable!("no message repeats numbers of other kinds"),
    }
    Ok(())
}

fn one(lexer: &mut Lexer<'_>, writer: &mut Writer, field: &Field, levels_left: usize) -> Result<()> {
    let tag = field.number << 3 | field.kind.wire_type();
    match field.kind {
        Kind::Message(message) => {
            let open = writer.open(tag);
            fields(lexer, writer, message, levels_left - 1)?;
            writer.close(open);
        }
        Kind::Bool => writer.uint(tag, u64::from(scalar::bool(lexer)?)),
        Kind::UInt32 => writer.uint(tag, u64::from(scalar::integer::<u32>(lexer)?)),
        Kind::UInt64 => writer.uint(tag, scalar::integer::<u64>(lexer)?),
        Kind::Int64 => writer.uint(tag, scalar::integer::<i64>(lexer)? as u64),
        Kind::SInt32 => writer.sint32(tag, scalar::integer::<i32>(lexer)?),
        Kind::Enum(names) => writer.uint(tag, i64::from(scalar::enumeration(lexer, names)?) as u64),
        Kind::Fixed32 => writer.fixed32(tag, scalar::integer::<u32>(lexer)?),
        Kind::Fixed64 => writer.fixed64(tag, scalar::integer::<u64>(lexer)?),
        Kind::SFixed64 => writer.fixed64(tag, scalar::integer::<i64>(lexer)? as u64),
        Kind::Double => writer.double(tag, scalar::double(lexer)?),
        Kind::Text => writer.bytes(tag, scalar::text(lexer)?.as_bytes()),
        Kind::Bytes => writer.bytes(tag, &scalar::base64(lexer)?),
        Kind::Id => scalar::hex(lexer, writer, tag)?,
    }
    Ok(())
}

//! Text and letter back into an `AnyValue` on the wire.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ARRAY, BOOL, BYTES, DEPTH_MAX, DOUBLE, EMPTY, INT, KVLIST, STRING};
use crate::json::lexer::{Lexer, Next};
use crate::proto::{any_value, array_value, key_value, key_value_list};
use crate::wire::Writer;

type Result<T> = std::result::Result<T, String>;

/// Writes the fields of the `AnyValue` that became `text` (null for an empty one) and `letter`.
///
/// # Errors
/// The text is not one that this letter can have.
pub(crate) fn write_value(writer: &mut Writer, letter: u8, text: Option<&str>) -> Result<()> {
    let Some(text) = text else {
        return if letter == EMPTY { Ok(()) } else { Err("a value is null, and its letter is not `n`".to_owned()) };
    };
    match letter {
        STRING => writer.bytes(any_value::STRING, text.as_bytes()),
        BOOL => match text {
            "true" => writer.uint(any_value::BOOL, 1),
            "false" => writer.uint(any_value::BOOL, 0),
            _ => return Err(format!("`{text}` is not a bool")),
        },
        INT => write_int(writer, text)?,
        DOUBLE => write_double(writer, text)?,
        BYTES => write_bytes(writer, text)?,
        ARRAY | KVLIST => {
            let mut lexer = Lexer::new(text);
            write_json(writer, &mut lexer, 0)?;
            lexer.end()?;
        }
        EMPTY => {}
        other => return Err(format!("`{}` is not the letter of a type", char::from(other))),
    }
    Ok(())
}

fn write_int(writer: &mut Writer, text: &str) -> Result<()> {
    let value: i64 = text.parse().map_err(|_| format!("`{text}` is not a 64-bit integer"))?;
    writer.uint(any_value::INT, value as u64);
    Ok(())
}

fn write_double(writer: &mut Writer, text: &str) -> Result<()> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    writer.double(any_value::DOUBLE, value);
    Ok(())
}

fn write_bytes(writer: &mut Writer, text: &str) -> Result<()> {
    let value = STANDARD.decode(text).map_err(|_| format!("`{text}` is not base64"))?;
    writer.bytes(any_value::BYTES, &value);
    Ok(())
}

fn write_json(writer: &mut Writer, lexer: &mut Lexer<'_>, depth: usize) -> Result<()> {
    if depth > DEPTH_MAX {
        return Err(format!("values nest deeper than {DEPTH_MAX} levels"));
    }
    match lexer.next()? {
        Next::Null => lexer.null()?,
        Next::Bool => writer.uint(any_value::BOOL, u64::from(lexer.bool()?)),
        Next::Number => match lexer.number()? {
            double if double.contains(['.', 'e', 'E']) => write_double(writer, double)?,
            int => write_int(writer, int)?,
        },
        Next::Text => writer.bytes(any_value::STRING, lexer.string()?.as_bytes()),
        Next::Array => {
            lexer.begin_array()?;
            let array = writer.open(any_value::ARRAY);
            let mut first = true;
            while lexer.element(first)? {
                first = false;
                let element = writer.open(array_value::VALUES);
                write_json(writer, lexer, depth + 1)?;
                writer.close(element);
            }
            writer.close(array);
        }
        Next::Object => write_object(writer, lexer, depth)?,
    }
    Ok(())
}

/// Writes a key-value list, or the bytes or the double that stand in the form of one.
fn write_object(writer: &mut Writer, lexer: &mut Lexer<'_>, depth: usize) -> Result<()> {
    lexer.begin_object()?;
    let mut member = lexer.member(true)?;
    if let Some(name @ ("$bytes" | "$double")) = member.as_deref() {
        let text = lexer.string()?;
        match name {
            "$bytes" => write_bytes(writer, &text)?,
            _ => write_double(writer, &text)?,
        }
        return match lexer.member(false)? {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` does not stand alone")),
        };
    }
    let list = writer.open(any_value::KVLIST);
    while let Some(key) = member {
        let entry = writer.open(key_value_list::VALUES);
        let key = match key.strip_prefix('$') {
            Some(stripped) if stripped.starts_with('$') => stripped,
            Some(_) => return Err(format!("`{key}` has one `$` in front, where two would be a key")),
            None => &key,
        };
        writer.bytes(key_value::KEY, key.as_bytes());
        let value = writer.open(key_value::VALUE);
        write_json(writer, lexer, depth + 1)?;
        writer.close(value);
        writer.close(entry);
        member = lexer.member(false)?;
    }
    writer.close(list);
    Ok(())
}

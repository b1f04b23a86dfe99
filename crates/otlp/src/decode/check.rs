//! The strict reading of a request: finds the string that is not UTF-8.
//!
//! Ordinary decoding checks text a column at a time and so knows only that one is bad; this walk, driven by the table of
//! messages, finds which. It also serves what no column shows: parts of a
//! resource, and the attributes of a scope.

use crate::proto::{Kind, LEN};
use crate::value::DEPTH_MAX;
use crate::wire::{Reader, Result};

/// Levels of messages above and between the arrays and lists of a value.
const LEVELS_MAX: usize = 3 * DEPTH_MAX + 16;

/// Reads every field of a message and of the messages in it.
pub(super) fn check(reader: Reader<'_>) -> Result<()> {
    check_level(reader, LEVELS_MAX)
}

fn check_level(mut reader: Reader<'_>, levels_left: usize) -> Result<()> {
    if levels_left == 0 {
        return Err(reader.error(reader.offset(), "messages nest too deep".to_owned()));
    }
    while let Some(tag) = reader.tag()? {
        match reader.field(tag).filter(|_| tag & 7 == LEN) {
            Some(field) => match field.kind {
                Kind::Text => drop(reader.text(field.name)?),
                Kind::Message(message) => check_level(reader.message(message)?, levels_left - 1)?,
                _ => reader.skip(tag)?,
            },
            None => reader.skip(tag)?,
        }
    }
    Ok(())
}

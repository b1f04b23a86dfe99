//! A reader over one message within a request.
//!
//! *Invariants.* Nothing outside the message is ever read; a length is checked against what remains before it is used,
//! so a gigabyte-sized prefix costs nothing. Offsets in errors count from the start of the request.
//!
//! *Cost.* No allocation unless there is an error; tags, lengths and numbers of one byte take the short way, those of two a call.
//!
//! *Source.* protobuf.dev, "Encoding". Groups (wire types 3 and 4) do not occur in OTLP and are refused.

use crate::decode::DecodeError;
use crate::proto::{Field, Message, packed};

/// The error is boxed so that a result fits in two registers.
pub(crate) type Result<T> = std::result::Result<T, Box<DecodeError>>;

/// A position in one message. `bytes` is the request up to the message's end.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    message: &'static Message,
}

impl<'a> Reader<'a> {
    /// Begins at the start of a whole request.
    pub(crate) fn new(request: &'a [u8], message: &'static Message) -> Self {
        Self { bytes: request, at: 0, message }
    }

    /// Returns where the reader stands, from the start of the request.
    pub(crate) fn offset(&self) -> usize {
        self.at
    }

    /// Returns the table's entry for the field a tag belongs to, if the message has it.
    pub(crate) fn field(&self, tag: u32) -> Option<&'static Field> {
        self.message.field(tag >> 3)
    }

    /// Returns the bytes not yet read.
    #[inline(always)]
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// Returns the bytes read since `from`, an earlier [`Self::offset`].
    pub(crate) fn since(&self, from: usize) -> &'a [u8] {
        &self.bytes[from..self.at]
    }

    /// Returns the next field's tag (number and wire type), or `None` at the end of the message.
    #[inline(always)]
    pub(crate) fn tag(&mut self) -> Result<Option<u32>> {
        match self.bytes.get(self.at) {
            None => Ok(None),
            Some(&byte @ 8..0x80) => {
                self.at += 1;
                Ok(Some(u32::from(byte)))
            }
            Some(_) => self.tag_slow().map(Some),
        }
    }

    fn tag_slow(&mut self) -> Result<u32> {
        let start = self.at;
        let tag = self.varint()?;
        match u32::try_from(tag) {
            Ok(tag) if tag >> 3 != 0 => Ok(tag),
            Ok(_) => Err(self.error(start, "field number 0 is not allowed".to_owned())),
            Err(_) => Err(self.error(start, format!("field number {} is too large", tag >> 3))),
        }
    }

    /// Reads a varint.
    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64> {
        match self.bytes.get(self.at) {
            Some(&byte @ ..0x80) => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.varint_slow(),
        }
    }

    fn varint_slow(&mut self) -> Result<u64> {
        if let [low, high @ ..0x80, ..] = self.rest() {
            self.at += 2;
            return Ok(u64::from(low & 0x7f) | u64::from(*high) << 7);
        }
        let mut value = 0_u64;
        for (index, &byte) in self.rest().iter().take(10).enumerate() {
            // The tenth byte has room for one bit only.
            if index == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(if self.bytes.len() - self.at < 10 {
            self.error(self.at, "the message ends within a varint".to_owned())
        } else {
            self.error(self.at, "a varint is longer than 64 bits".to_owned())
        })
    }

    /// Reads a varint as 32 bits; as protobuf has it, higher bits are dropped.
    #[inline(always)]
    pub(crate) fn uint32(&mut self) -> Result<u32> {
        Ok(self.varint()? as u32)
    }

    /// Reads a varint as an enumeration's number.
    #[inline(always)]
    pub(crate) fn int32(&mut self) -> Result<i32> {
        Ok(self.varint()? as i32)
    }

    /// Reads a zigzag varint.
    pub(crate) fn sint32(&mut self) -> Result<i32> {
        let raw = self.uint32()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    /// Reads a bool.
    pub(crate) fn bool(&mut self) -> Result<bool> {
        Ok(self.varint()? != 0)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest().first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.short(N as u64)),
        }
    }

    /// Reads four bytes.
    #[inline(always)]
    pub(crate) fn fixed32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Reads eight bytes.
    #[inline(always)]
    pub(crate) fn fixed64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads a double.
    #[inline(always)]
    pub(crate) fn double(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    #[inline(always)]
    fn length(&mut self) -> Result<usize> {
        let length = self.varint()?;
        if length > (self.bytes.len() - self.at) as u64 {
            return Err(self.short(length));
        }
        Ok(length as usize)
    }

    /// Reads a length and that many bytes.
    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length()?;
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    /// Reads a length and returns a reader over that many bytes, which are a `message`.
    #[inline(always)]
    pub(crate) fn message(&mut self, message: &'static Message) -> Result<Reader<'a>> {
        let length = self.length()?;
        let inner = Reader { bytes: &self.bytes[..self.at + length], at: self.at, message };
        self.at += length;
        Ok(inner)
    }

    /// Reads a length and as much text, which must be UTF-8.
    pub(crate) fn text(&mut self, field: &str) -> Result<&'a str> {
        let bytes = self.bytes()?;
        simdutf8::basic::from_utf8(bytes)
            .map_err(|_| self.error(self.at - bytes.len(), format!("`{field}` is not valid UTF-8")))
    }

    /// Deals with a field whose tag was not expected: skips one that is not known, refuses a known one of another type.
    pub(crate) fn skip(&mut self, tag: u32) -> Result<()> {
        let start = self.at;
        if let Some(field) = self.field(tag) {
            let expected = field.kind.wire_type();
            if tag & 7 != expected && !(field.repeated && tag == packed(tag)) {
                let problem = format!("field {} `{}` has wire type {}, not {expected}", tag >> 3, field.name, tag & 7);
                return Err(self.error(start, problem));
            }
        }
        match tag & 7 {
            0 => drop(self.varint()?),
            1 => drop(self.fixed64()?),
            2 => drop(self.bytes()?),
            5 => drop(self.fixed32()?),
            3 | 4 => return Err(self.error(start, format!("field {} is a group, which OTLP does not have", tag >> 3))),
            other => {
                return Err(
                    self.error(start, format!("field {} has wire type {other}, which does not exist", tag >> 3))
                );
            }
        }
        Ok(())
    }

    #[cold]
    fn short(&self, needed: u64) -> Box<DecodeError> {
        let remaining = self.bytes.len() - self.at;
        self.error(self.at, format!("{needed} bytes are needed, and {remaining} remain in the message"))
    }

    /// Makes an error about this message.
    #[cold]
    pub(crate) fn error(&self, offset: usize, problem: String) -> Box<DecodeError> {
        Box::new(DecodeError { message: self.message.name, offset, problem, is_too_large: false, is_beyond: false })
    }

    /// Says that this message, as far as it was read, is more than is taken.
    #[cold]
    pub(crate) fn too_large(&self, problem: String) -> Box<DecodeError> {
        Box::new(DecodeError { is_too_large: true, ..*self.error(self.offset(), problem) })
    }
}

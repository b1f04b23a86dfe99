//! How much text the values of a request may become.
//!
//! *Why.* As JSON a control character takes six times its byte, and an empty value of two bytes five: a request of 60 KiB that inflates
//! to 60 MiB would become 360 MiB of text.
//!
//! *Invariants.* Nothing is made that is beyond: what a string becomes is known before it is appended. What one request makes is
//! counted over all columns, what is dropped again included, so that it bounds the work as well as the memory. Strings that stand
//! alone, numbers and bools take about what they are on the wire and are not counted.

use crate::decode::{DecodeError, Most};
use crate::wire::{Reader, Result};

/// The longest list or map in one value, and the longest key; in a resource the longest value of any type. On the wire.
const VALUE_BYTES_MAX: usize = 16 << 20;

/// The most text that one list, map or attribute of a resource may become. Ordinary text, quotes, line ends and numbers stay below.
const VALUE_TEXT_MAX: usize = 3 * VALUE_BYTES_MAX;

/// The most text that the lists, maps, bytes and resources of one request may become.
const REQUEST_TEXT_MAX: usize = 128 << 20;

/// Bytes of a key that are shown in an error.
const SHOWN_BYTES: usize = 64;

/// What is left for the text of one request, and how much else it may become.
pub(crate) struct Room {
    left: usize,
    pub(crate) most: Most,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: REQUEST_TEXT_MAX, most: Most::default() }
    }
}

impl Room {
    /// Lets a request become `most`.
    pub(crate) fn within(most: Most) -> Self {
        Self { most, ..Self::default() }
    }

    /// Runs `append`, which keeps within the bound that it is given, and counts what it appended.
    pub(super) fn one_value<T>(
        &mut self,
        out: &mut Vec<u8>,
        append: impl FnOnce(&mut Vec<u8>, Bound) -> Result<T>,
    ) -> Result<T> {
        let start = out.len();
        let of_request = self.left < VALUE_TEXT_MAX;
        let appended = append(out, Bound { end: start + self.left.min(VALUE_TEXT_MAX), of_request })?;
        self.left = self.left.saturating_sub(out.len() - start);
        Ok(appended)
    }

    /// Returns how many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Counts text that was within its bounds before, where that is sure to be so again: any one value has room behind it. False where it is
    /// not, and nothing changes.
    pub(crate) fn take_again(&mut self, bytes: usize) -> bool {
        let left = self.left.checked_sub(bytes).filter(|left| *left >= VALUE_TEXT_MAX);
        left.inspect(|left| self.left = *left).is_some()
    }

    /// Counts text of a known length that is about to be made.
    pub(super) fn take(&mut self, reader: &Reader<'_>, bytes: usize) -> Result<()> {
        Bound { end: self.left, of_request: true }.check(reader, bytes)?;
        self.left -= bytes;
        Ok(())
    }
}

/// Where the text of a value has to end.
#[derive(Clone, Copy)]
pub(super) struct Bound {
    end: usize,
    /// The request's room is what ends there, not the value's.
    of_request: bool,
}

impl Bound {
    /// Refuses text that would end at `end`.
    #[inline]
    pub(super) fn check(self, reader: &Reader<'_>, end: usize) -> Result<()> {
        if end <= self.end {
            return Ok(());
        }
        Err(reader.too_large(if self.of_request {
            format!(
                "with it the lists, maps, bytes and resources of the request are more than {REQUEST_TEXT_MAX} bytes as text; send \
                 smaller batches"
            )
        } else {
            format!("it is more than {VALUE_TEXT_MAX} bytes as JSON, where a control character takes six; send less in one")
        }))
    }

    /// Refuses a string that would be too much at `start`; counts its bytes only where that may be.
    #[inline]
    pub(super) fn check_string(self, reader: &Reader<'_>, start: usize, text: &[u8]) -> Result<()> {
        // In front and behind a quote, and in front of some keys one `$`.
        if start + 6 * text.len() + 3 <= self.end {
            return Ok(());
        }
        self.check(reader, start + escaped_len(text) + 3)
    }
}

/// Returns how long a string is in JSON, without its quotes.
pub(super) fn escaped_len(text: &[u8]) -> usize {
    let short = |byte: u8| matches!(byte, b'"' | b'\\' | b'\n' | b'\r' | b'\t');
    let control = text.iter().filter(|byte| **byte < 0x20 && !short(**byte)).count();
    let short = text.iter().filter(|byte| short(**byte)).count();
    text.len() + 5 * control + short
}

/// Refuses a list or a map that is too long.
pub(super) fn check_nested(inner: &Reader<'_>) -> Result<()> {
    check_bytes(inner, "a list or a map in one value", inner.rest().len())
}

/// Refuses a key that is too long.
#[inline]
pub(crate) fn check_key(reader: &Reader<'_>, key: &[u8]) -> Result<()> {
    check_bytes(reader, "its key", key.len())
}

/// Refuses what is too long to be made text.
#[inline]
pub(super) fn check_bytes(reader: &Reader<'_>, what: &str, bytes: usize) -> Result<()> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    Err(reader.too_large(format!("{what} has more than {VALUE_BYTES_MAX} bytes; send less in one")))
}

/// Says which attribute is too large.
#[cold]
pub(crate) fn of_attribute(error: Box<DecodeError>, key: &[u8]) -> Box<DecodeError> {
    let shown = String::from_utf8_lossy(&key[..key.len().min(SHOWN_BYTES)]);
    let more = if key.len() > SHOWN_BYTES { ".." } else { "" };
    within(error, &format!("attribute `{}{more}`", shown.escape_debug()))
}

/// Says where that is which is too large.
#[cold]
pub(crate) fn within(mut error: Box<DecodeError>, place: &str) -> Box<DecodeError> {
    if error.is_too_large {
        error.problem = format!("{place}: {}", error.problem);
    }
    error
}

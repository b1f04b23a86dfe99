//! The identity of an exception, stable from build to build.
//!
//! A fingerprint hashes the type and the normalised frames of the application, outermost detail removed: no line
//! numbers, addresses, argument values or generated suffixes, and no frames of the language's runtime and its common
//! frameworks. Where only such frames are known they are used; where there is no stack, the message with its numbers,
//! hexadecimal words and quoted text masked.

use plimsoll_model::signal::{ExceptionCount, Fingerprint};
use xxhash_rust::xxh3::Xxh3Default;

use crate::frame::frames_of;
use crate::name::{is_id, truncated};

/// Longest type kept, in bytes.
const TYPE_BYTES_MAX: usize = 200;
/// Longest message kept, in bytes.
const MESSAGE_BYTES_MAX: usize = 300;
/// Stack text looked at, in bytes.
const STACK_BYTES_MAX: usize = 64 * 1024;
/// Frames hashed.
const FRAMES_MAX: usize = 24;

/// Reads one exception: its fingerprint, and what it looks like with a count of one.
pub fn exception(exception_type: &str, message: &str, stack: &str) -> (Fingerprint, ExceptionCount) {
    let mut hash = Xxh3Default::new();
    let mut part = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    part(exception_type);
    let frames = frames_of(truncated(stack, STACK_BYTES_MAX));
    let own = frames.iter().any(|frame| frame.in_app);
    let mut hashed = 0;
    for frame in frames.iter().filter(|frame| frame.in_app || !own).take(FRAMES_MAX) {
        part(&frame.name);
        hashed += 1;
    }
    if hashed == 0 {
        part(&masked(truncated(message, MESSAGE_BYTES_MAX)));
    }
    // Zero stands for `{other}`.
    let fingerprint = Fingerprint(hash.digest().max(1));
    let seen = ExceptionCount {
        exception_type: truncated(exception_type, TYPE_BYTES_MAX).to_owned(),
        message: truncated(message, MESSAGE_BYTES_MAX).to_owned(),
        count: 1,
    };
    (fingerprint, seen)
}

/// Replaces what differs from one occurrence to the next.
fn masked(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut quote = None;
    let mut word = String::new();
    let flush = |word: &mut String, text: &mut String| {
        let address = word.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if address || is_id(word) {
            text.push('#');
        } else {
            text.extend(word.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }));
        }
        word.clear();
    };
    for c in message.chars() {
        match quote {
            Some(open) if c == open => {
                quote = None;
                text.push('?');
            }
            Some(_) => {}
            None if matches!(c, '"' | '`') || (c == '\'' && word.is_empty()) => {
                flush(&mut word, &mut text);
                quote = Some(c);
            }
            None if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') => word.push(c),
            None => {
                flush(&mut word, &mut text);
                text.push(c);
            }
        }
    }
    flush(&mut word, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_differ_only_in_values_are_one() {
        let of = |message| exception("Declined", message, "").0;
        assert_eq!(of("card 1234 of 'ann' declined at 0x7f3a"), of("card 99 of 'bob' declined at 0x11"));
        assert_eq!(
            of("order 0b5f0e6c-3d6e-4b6e-9d57-1f3f6a1f2b11 lost"),
            of("order 1b5f0e6c-3d6e-4b6e-9d57-1f3f6a1f2b12 lost")
        );
        assert_ne!(of("card declined"), of("card expired"));
        assert_ne!(of("card declined"), exception("Other", "card declined", "").0);
    }
}

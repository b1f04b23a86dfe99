//! Values that are neither objects nor arrays, in every form a sender may choose.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Quoted;
use super::lexer::{Lexer, Next};
use crate::wire::Writer;

type Result<T> = std::result::Result<T, String>;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Takes a bool.
pub(super) fn bool(lexer: &mut Lexer<'_>) -> Result<bool> {
    match lexer.next()? {
        Next::Bool => lexer.bool(),
        _ => Err("it must be `true` or `false`".to_owned()),
    }
}

/// Takes a string.
pub(super) fn text<'a>(lexer: &mut Lexer<'a>) -> Result<Cow<'a, str>> {
    match lexer.next()? {
        Next::Text => lexer.string(),
        _ => Err("it must be a string".to_owned()),
    }
}

/// Takes a number, or a string that is to hold one.
fn digits<'a>(lexer: &mut Lexer<'a>) -> Result<Cow<'a, str>> {
    match lexer.next()? {
        Next::Number => lexer.number().map(Cow::Borrowed),
        Next::Text => lexer.string(),
        _ => Err("it must be a number".to_owned()),
    }
}

/// Takes an integer: a number or a string; one with a fraction of zero or an exponent is taken too.
pub(super) fn integer<T: TryFrom<i128>>(lexer: &mut Lexer<'_>) -> Result<T> {
    let digits = digits(lexer)?;
    whole(&digits)
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("{} is not an integer of {} bits", Quoted(&digits), size_of::<T>() * 8))
}

fn whole(digits: &str) -> Option<i128> {
    if let 1..=19 = digits.len()
        && digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        // Nineteen digits fit, and almost every number is of that kind.
        let value = digits.bytes().fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
        return Some(i128::from(value));
    }
    if let Ok(value) = digits.parse() {
        return Some(value);
    }
    let value: f64 = digits.parse().ok()?;
    // Beyond 2^63 no field could take it, and every double is whole anyway.
    (value.fract() == 0.0 && value.abs() <= 18_446_744_073_709_551_615.0).then_some(value as i128)
}

/// Takes a double: a number or a string, `NaN`, `Infinity` and `-Infinity` among them.
pub(super) fn double(lexer: &mut Lexer<'_>) -> Result<f64> {
    let digits = digits(lexer)?;
    digits.parse().map_err(|_| format!("{} is not a number", Quoted(&digits)))
}

/// Takes an enumeration's value: its number or one of its names.
pub(super) fn enumeration(lexer: &mut Lexer<'_>, names: &[(&str, i32)]) -> Result<i32> {
    if lexer.next()? != Next::Text {
        return integer(lexer);
    }
    let name = lexer.string()?;
    match names.iter().find(|(known, _)| *known == name) {
        Some((_, number)) => Ok(*number),
        None => name
            .parse()
            .map_err(|_| format!("{} is neither a number nor a name such as `{}`", Quoted(&name), names[0].0)),
    }
}

/// Takes bytes in base64, of either alphabet, padded or not.
pub(super) fn base64(lexer: &mut Lexer<'_>) -> Result<Vec<u8>> {
    let text = text(lexer)?;
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text.as_bytes()).map_err(|_| format!("{} is not base64", Quoted(&text)))
}

/// Takes an id in hexadecimal and writes the field that it is.
pub(super) fn hex(lexer: &mut Lexer<'_>, writer: &mut Writer, tag: u32) -> Result<()> {
    let text = text(lexer)?;
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut wrong = !rest.is_empty();
    let bytes = pairs.iter().map(|[high, low]| {
        let (high, low) = (NIBBLES[usize::from(*high)], NIBBLES[usize::from(*low)]);
        wrong |= (high | low) > 0xf;
        high << 4 | low & 0xf
    });
    writer.bytes_of(tag, bytes);
    if wrong { Err(format!("{} is not hexadecimal", Quoted(&text))) } else { Ok(()) }
}

/// The value of each hexadecimal digit; more than 15 for what is none.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        nibbles[b"0123456789ABCDEF"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

//! `numeric` in its binary form: digits to the base ten thousand (PostgreSQL `numeric_send`).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::wire::Malformed;

const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITE: u16 = 0xd000;
const NEGATIVE_INFINITE: u16 = 0xf000;
/// What a group of four digits stays below.
const BASE: u16 = 10_000;

/// Appends a number given by its decimal digits.
pub(super) fn write(out: &mut BytesMut, text: &str) {
    let (sign, digits) = text.strip_prefix('-').map_or((POSITIVE, text), |digits| (NEGATIVE, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0');
    // Groups of four digits, counted from the point.
    let mut groups: Vec<u16> = Vec::new();
    let head = whole.len() % 4;
    let number = |digits: &str| digits.parse::<u16>().unwrap_or_default();
    if head > 0 {
        groups.push(number(&whole[..head]));
    }
    let pieces = |digits: &str| -> Vec<u16> {
        digits
            .as_bytes()
            .chunks(4)
            .map(|chunk| {
                chunk.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0')))
                    * 10_u16.pow(4 - u32::try_from(chunk.len()).unwrap_or(4))
            })
            .collect()
    };
    groups.extend(pieces(&whole[head..]));
    let mut weight = i16::try_from(groups.len()).unwrap_or(i16::MAX) - 1;
    groups.extend(pieces(fraction));
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let zeros = groups.iter().take_while(|group| **group == 0).count();
    groups.drain(..zeros);
    weight -= i16::try_from(zeros).unwrap_or_default();
    out.put_u16(u16::try_from(groups.len()).unwrap_or(u16::MAX));
    out.put_i16(if groups.is_empty() { 0 } else { weight });
    out.put_u16(if groups.is_empty() { POSITIVE } else { sign });
    out.put_u16(u16::try_from(fraction.len()).unwrap_or(u16::MAX));
    groups.into_iter().for_each(|group| out.put_u16(group));
}

/// Reads a number into its decimal digits.
pub(super) fn read(mut bytes: Bytes) -> Result<String, Malformed> {
    let wrong = || Malformed("a number whose digits do not add up".to_owned());
    let count = usize::from(bytes.try_get_u16().map_err(|_| wrong())?);
    let weight = i32::from(bytes.try_get_i16().map_err(|_| wrong())?);
    let sign = bytes.try_get_u16().map_err(|_| wrong())?;
    let scale = usize::from(bytes.try_get_u16().map_err(|_| wrong())?);
    match sign {
        POSITIVE | NEGATIVE => {}
        NAN => return Ok("NaN".to_owned()),
        INFINITE => return Ok("Infinity".to_owned()),
        NEGATIVE_INFINITE => return Ok("-Infinity".to_owned()),
        _ => return Err(wrong()),
    }
    if bytes.len() != count * 2 || weight.unsigned_abs() > 1_000 || scale > 4_000 {
        return Err(wrong());
    }
    let mut groups = Vec::with_capacity(count);
    while let Ok(group) = bytes.try_get_u16() {
        if group >= BASE {
            return Err(wrong());
        }
        groups.push(group);
    }
    let group = |at: i32| usize::try_from(at).ok().and_then(|at| groups.get(at)).copied().unwrap_or_default();
    let mut whole: String = (0..=weight).map(|at| format!("{:04}", group(at))).collect();
    let zeros = whole.bytes().take_while(|digit| *digit == b'0').count().min(whole.len().saturating_sub(1));
    whole.drain(..zeros);
    if whole.is_empty() {
        whole.push('0');
    }
    let after = i32::try_from(scale.div_ceil(4)).unwrap_or_default();
    let mut fraction: String = (weight + 1..weight + 1 + after.max(0)).map(|at| format!("{:04}", group(at))).collect();
    if weight < -1 {
        // Groups between the point and the first digit.
        fraction = (0..after).map(|at| format!("{:04}", group(at + weight + 1))).collect();
    }
    fraction.truncate(scale);
    let sign = if sign == NEGATIVE { "-" } else { "" };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_has_the_bytes_that_postgres_sends() {
        let mut out = BytesMut::new();
        write(&mut out, "-12345.678");
        // Three groups (1, 2345, 6780), the first worth ten thousand, negative, three digits behind the point.
        assert_eq!(out.to_vec(), [0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
    }

    proptest! {
        #[test]
        fn numbers_survive_their_binary_form(number in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,12})?") {
            let mut out = BytesMut::new();
            write(&mut out, &number);
            let wanted = match number.strip_prefix('-') {
                // There is no negative zero.
                Some(digits) if digits.bytes().all(|digit| matches!(digit, b'0' | b'.')) => digits.to_owned(),
                _ => number,
            };
            prop_assert_eq!(read(out.freeze()), Ok(wanted));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(Bytes::from(bytes));
        }
    }
}

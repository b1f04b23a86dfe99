//! Parquet's hybrid of run lengths and packed bits, and its packed differences.
//!
//! *Layout.* Hybrid: a run is `varint(count << 1)` and the value in whole bytes; packed values are
//! `varint(groups << 1 | 1)` and eight values a group, lowest bits first. Differences: block size, miniblocks, count and the
//! first value, then for every block the least difference, a width for each miniblock, and what is above the least in that width.
//!
//! *Source.* <https://parquet.apache.org/docs/file-format/data-pages/encodings/>

/// A level or a number of a dictionary entry.
pub(super) trait Code: Copy + PartialEq {
    fn code(self) -> u32;

    /// Packs eight of one or two bits, where that takes less than one by one.
    #[inline(always)]
    fn packed(_group: &[Self; 8], _width: usize) -> Option<u64> {
        None
    }
}

impl Code for u8 {
    #[inline(always)]
    fn code(self) -> u32 {
        u32::from(self)
    }

    #[inline(always)]
    fn packed(group: &[Self; 8], width: usize) -> Option<u64> {
        let word = u64::from_le_bytes(*group);
        // A product whose terms do not meet: each value comes to stand where it belongs in the highest bits.
        match width {
            1 => Some(word.wrapping_mul(0x0102_0408_1020_4080) >> 56),
            2 => {
                let four = |word: u64| (word.wrapping_mul(0x0104_1040) >> 24) & 0xFF;
                Some(four(word & 0xFFFF_FFFF) | four(word >> 32) << 8)
            }
            _ => None,
        }
    }
}

impl Code for u32 {
    #[inline(always)]
    fn code(self) -> u32 {
        self
    }
}

/// Returns how many bits hold every number up to `max`, at least one.
pub(super) fn width(max: u32) -> u32 {
    (u32::BITS - max.leading_zeros()).max(1)
}

pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

/// Appends one value `count` times.
pub(super) fn run(value: u32, count: usize, width: u32, out: &mut Vec<u8>) {
    varint((count as u64) << 1, out);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Appends `values` as the hybrid, each below `1 << width`.
pub(super) fn hybrid<T: Code>(values: &[T], width: u32, out: &mut Vec<u8>) {
    // A run costs its header and another one after it: less than that many values are packed.
    let worth = (64 / width as usize).max(8);
    let (mut at, mut packed) = (0, 0);
    while let Some(group) = values[at..].first_chunk::<8>() {
        let first = group[0];
        if *group != [first; 8] {
            at += 8;
            continue;
        }
        let same = 8 + same(first, &values[at + 8..]);
        if same < worth && at + same < values.len() {
            at += 8;
            continue;
        }
        pack(&values[packed..at], width, out);
        run(first.code(), same, width, out);
        at += same;
        packed = at;
    }
    pack(&values[packed..], width, out);
}

/// Returns how many values from the first on are this one.
fn same<T: Code>(value: T, values: &[T]) -> usize {
    let (groups, _) = values.as_chunks::<8>();
    let whole = 8 * groups.iter().take_while(|group| **group == [value; 8]).count();
    whole + values[whole..].iter().take_while(|other| **other == value).count()
}

/// Appends packed groups; the last is filled up with zeros, so it must be the last of its page or whole.
fn pack<T: Code>(values: &[T], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    varint((values.len().div_ceil(8) as u64) << 1 | 1, out);
    let width = width as usize;
    let mut at = out.len();
    // Groups are written eight or sixteen bytes at a time, each over the end of the one before.
    out.resize(at + values.len().div_ceil(8) * width + 32, 0);
    let mut groups = values.chunks_exact(8);
    for group in &mut groups {
        let group: &[T; 8] = group.try_into().expect("a chunk of eight has eight");
        if let Some(bits) = T::packed(group, width) {
            out[at..at + 8].copy_from_slice(&bits.to_le_bytes());
        } else {
            let mut codes = [0; 8];
            codes.iter_mut().zip(group).for_each(|(to, from)| *to = from.code());
            pack_group(&codes, width, &mut out[at..]);
        }
        at += width;
    }
    let rest = groups.remainder();
    if !rest.is_empty() {
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = from.code());
        pack_group(&last, width, &mut out[at..]);
        at += width;
    }
    out.truncate(at);
}

/// Writes the `width` bytes of a group and zeros or garbage behind them.
#[inline(always)]
fn pack_group(group: &[u32; 8], width: usize, out: &mut [u8]) {
    if width <= 8 {
        let bits = group.iter().rev().fold(0_u64, |bits, value| bits << width | u64::from(*value));
        out[..8].copy_from_slice(&bits.to_le_bytes());
    } else if width <= 16 {
        let half = |values: &[u32]| values.iter().rev().fold(0_u64, |bits, value| bits << width | u64::from(*value));
        let bits = u128::from(half(&group[..4])) | u128::from(half(&group[4..])) << (4 * width);
        out[..16].copy_from_slice(&bits.to_le_bytes());
    } else {
        let mut writer = BitWriter::default();
        let mut at = 0;
        for value in group {
            if let Some(word) = writer.push(u64::from(*value), width as u32) {
                out[at..at + 8].copy_from_slice(&word.to_le_bytes());
                at += 8;
            }
        }
        out[at..at + 8].copy_from_slice(&writer.bits.to_le_bytes());
    }
}

/// Bits on their way into words.
#[derive(Default)]
struct BitWriter {
    bits: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the low `width` bits of a value that has no others; returns a word once it is full.
    #[inline(always)]
    fn push(&mut self, value: u64, width: u32) -> Option<u64> {
        self.bits |= value << self.filled;
        let filled = self.filled + width;
        if filled < u64::BITS {
            self.filled = filled;
            return None;
        }
        let word = self.bits;
        self.filled = filled - u64::BITS;
        // Nothing is left of a value that fits exactly; shifting it by its whole width would not give zero.
        self.bits = if self.filled == 0 { 0 } else { value >> (width - self.filled) };
        Some(word)
    }
}

const BLOCK: usize = 128;
const MINIBLOCK: usize = 32;

/// Appends `values` as packed differences.
pub(super) fn differences(values: &[i64], out: &mut Vec<u8>) {
    varint(BLOCK as u64, out);
    varint((BLOCK / MINIBLOCK) as u64, out);
    varint(values.len() as u64, out);
    let Some(first) = values.first() else { return varint(0, out) };
    varint(zigzag(*first), out);
    let mut deltas = [0_i64; BLOCK];
    for from in (1..values.len()).step_by(BLOCK) {
        let block = &values[from - 1..values.len().min(from + BLOCK)];
        let count = block.len() - 1;
        for (delta, pair) in deltas.iter_mut().zip(block.windows(2)) {
            *delta = pair[1].wrapping_sub(pair[0]);
        }
        let least = deltas[..count].iter().copied().fold(i64::MAX, i64::min);
        varint(zigzag(least), out);
        // What is left of the last block counts as the least, which takes no room.
        deltas[count..].fill(least);
        let widths = out.len();
        out.extend_from_slice(&[0; BLOCK / MINIBLOCK]);
        for (number, miniblock) in deltas.chunks_exact(MINIBLOCK).enumerate() {
            let above = |delta: &i64| delta.wrapping_sub(least) as u64;
            let all = miniblock.iter().map(above).fold(0, |all, value| all | value);
            let width = u64::BITS - all.leading_zeros();
            out[widths + number] = width as u8;
            if width == 0 {
                continue;
            }
            let mut writer = BitWriter::default();
            for value in miniblock.iter().map(above) {
                if let Some(word) = writer.push(value, width) {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
            // Thirty-two values of any width are whole bytes, but not always whole words.
            out.extend_from_slice(&writer.bits.to_le_bytes()[..writer.filled.div_ceil(8) as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn levels_are_packed_as_numbers_are(width in 1_u32..4, values in prop::collection::vec(0_u8..8, 0..70)) {
            let values: Vec<u8> = values.iter().map(|value| value & ((1 << width) - 1)).collect();
            let (mut levels, mut numbers) = (Vec::new(), Vec::new());
            hybrid(&values, width, &mut levels);
            hybrid(&values.iter().map(|value| u32::from(*value)).collect::<Vec<u32>>(), width, &mut numbers);
            prop_assert_eq!(levels, numbers);
        }
    }
}

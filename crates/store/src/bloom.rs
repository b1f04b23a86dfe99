//! Asking the bloom filters of a segment for single values.
//!
//! A filter of a row group has a hundred kilobytes and more, and what it knows of one value is in 32 of them: so those are read alone,
//! and not the filter.
//!
//! *Layout.* A header of some bytes, and then blocks of 32, as many as a power of two ([`crate::encode`] writes no others). A filter
//! of another size is not asked.
//!
//! *Source.* The Parquet format, "Bloom Filter": split block filters, xxHash with seed 0.

use std::io;
use std::ops::Range;

use parquet::bloom_filter::Sbbf;
use twox_hash::XxHash64;

use crate::files::SegmentRead;

/// Bytes of a block.
const BLOCK: u64 = 32;
/// What headers are shorter than.
const HEADER_MAX: u64 = 64;

/// Says whether `value` may be among those of which the filter at `filter` knows; `true` where it cannot be asked.
///
/// *Cost.* One read of 32 bytes, which the checksums of the file make one of 8 KiB.
///
/// # Errors
/// The file cannot be read, or is not what was written.
pub fn may_hold(file: &dyn SegmentRead, filter: Range<u64>, value: &[u8]) -> io::Result<bool> {
    let length = filter.end.saturating_sub(filter.start);
    let Some(bytes) = length.checked_ilog2().map(|power| 1_u64 << power) else { return Ok(true) };
    let header = length - bytes;
    if bytes < BLOCK || header == 0 || header > HEADER_MAX {
        return Ok(true);
    }
    // The upper half of the hash chooses the block, the lower half the bits in it.
    let number = (XxHash64::oneshot(0, value) >> 32).saturating_mul(bytes / BLOCK) >> 32;
    let block = file.read_at(filter.start + header + number * BLOCK, BLOCK as usize)?;
    Ok(Sbbf::new(&block).check(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn written(values: &[[u8; 16]], before: usize) -> (Bytes, Range<u64>) {
        let mut filter = Sbbf::new_with_ndv_fpp(values.len().max(1) as u64, 0.01).expect("a filter");
        values.iter().for_each(|value| filter.insert(value.as_slice()));
        let mut file = vec![7; before];
        filter.write(&mut file).expect("memory takes all");
        let end = file.len() as u64;
        (Bytes::from(file), before as u64..end)
    }

    proptest! {
        #[test]
        fn a_block_says_what_the_whole_filter_says(
            values in prop::collection::vec(any::<[u8; 16]>(), 0..400),
            others in prop::collection::vec(any::<[u8; 16]>(), 0..100),
            before in 0_usize..100,
        ) {
            let mut whole = Sbbf::new_with_ndv_fpp(values.len().max(1) as u64, 0.01).expect("a filter");
            values.iter().for_each(|value| whole.insert(value.as_slice()));
            let (file, at) = written(&values, before);
            for value in values.iter().chain(&others) {
                let said = may_hold(&file, at.clone(), value).expect("memory can be read");
                prop_assert_eq!(said, whole.check(value.as_slice()));
            }
        }
    }

    #[test]
    fn what_cannot_be_a_filter_rules_nothing_out() {
        let file = Bytes::from(vec![0; 4096]);
        for at in [0..0, 9..9, 0..31, 0..32, 0..1024 + 65, 0..2047] {
            assert!(may_hold(&file, at, &[1; 16]).expect("it is not read"));
        }
        let (file, at) = written(&[[1; 16]], 0);
        assert!(may_hold(&file.slice(..20), at, &[1; 16]).is_err(), "it is cut short");
    }
}

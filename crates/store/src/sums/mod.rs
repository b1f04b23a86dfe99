//! Checksums of a whole segment file, in the file: what Parquet leaves without one (bounds, bloom filters, page headers, the footer)
//! could otherwise change and give wrong answers instead of errors.
//!
//! *Layout.* Between what Parquet wrote last and the footer, where no reader of Parquet looks:
//!
//! ```text
//! | bytes of Parquet, guarded | CRC-32 of each block of them | trailer (28) | footer, its length, PAR1 |
//!
//! trailer:  0  8  guarded bytes
//!           8  4  bytes of a block; the last may be shorter
//!          12  4  CRC-32 of the footer, its length and PAR1
//!          16  4  CRC-32 of the blocks' CRCs and of the sixteen bytes above
//!          20  8  "PLIMSUMS"
//! ```
//!
//! Numbers are little-endian. A footer with the key [`KEY`] belongs to a file that has them; files from before are read unchecked.

mod checked;
mod writer;

pub(crate) use checked::{Checked, check};
pub(crate) use writer::Summed;

/// Bytes that have a checksum of their own: a read of a few bytes takes in this many around them.
pub(crate) const BLOCK: usize = 8 << 10;
/// The key in the footer that says that there are checksums.
pub(crate) const KEY: &str = "plimsoll.sums";

const TRAILER: usize = 28;
const MAGIC: &[u8; 8] = b"PLIMSUMS";
/// What a Parquet file ends with: the length of its footer and four letters.
const END: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use crate::files::SegmentRead;

    const FOOTER: &[u8] = b"keys: plimsoll.sums";

    fn file(pages: &[u8], index: &[u8]) -> Bytes {
        let mut file = Vec::new();
        let mut summed = Summed::new(&mut file);
        summed.write_all(pages).expect("memory takes all");
        summed.hold();
        let end = [FOOTER, &(FOOTER.len() as u32).to_le_bytes(), b"PAR1"].concat();
        summed.write_all(index).and_then(|()| summed.write_all(&end)).expect("memory takes all");
        summed.finish().expect("memory takes all");
        Bytes::from(file)
    }

    #[test]
    fn a_file_is_laid_out_as_documented() {
        let file = file(b"page", b"index");
        let (guarded, rest) = file.split_at(9);
        assert_eq!(guarded, b"pageindex");
        let hex: String = rest[..32].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "c00b925a0900000000000000002000001f59660d79c7cb32504c494d53554d53");
        assert_eq!(&rest[32..], [FOOTER, b"\x13\0\0\0PAR1"].concat());
    }

    #[test]
    fn a_file_from_before_is_read_as_it_is_and_one_that_lost_its_checksums_is_not() {
        let before = Bytes::from_static(b"pages and footer\x06\0\0\0PAR1");
        assert!(check(Arc::new(before.clone()), before.len() as u64).is_ok());
        let lost = Bytes::from([FOOTER, b"\x13\0\0\0PAR1"].concat());
        assert!(check(Arc::new(lost.clone()), lost.len() as u64).is_err());
    }

    #[test]
    fn a_footer_whose_length_was_changed_is_seen_and_a_row_that_names_the_key_is_none() {
        let whole = file(&vec![7; 2 * BLOCK], b"index");
        for length in 0..FOOTER.len() as u32 {
            let mut changed = whole.to_vec();
            let at = changed.len() - END;
            changed[at..at + 4].copy_from_slice(&length.to_le_bytes());
            assert!(check(Arc::new(Bytes::from(changed)), whole.len() as u64).is_err(), "a length of {length}");
        }
        let before = Bytes::from_static(b"a row: plimsoll.sums, and 20 bytes more PLIMSUMS\x06\0\0\0PAR1");
        assert!(check(Arc::new(before.clone()), before.len() as u64).is_ok());
    }

    proptest! {
        #[test]
        fn any_range_is_read_as_it_is_and_no_byte_can_change_unseen(
            pages in prop::collection::vec(any::<u8>(), 0..3 * BLOCK),
            index in prop::collection::vec(any::<u8>(), 0..300),
            (from, length, at) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            bit in 0_u32..8,
        ) {
            let file = file(&pages, &index);
            let from = from.index(file.len());
            let length = length.index(file.len() - from + 1);
            let checked = Checked::new(Arc::new(file.clone()), file.len() as u64);
            prop_assert_eq!(checked.read_at(from as u64, length).expect("is whole"), file.slice(from..from + length));
            let mut changed = file.to_vec();
            changed[at.index(file.len())] ^= 1 << bit;
            prop_assert!(check(Arc::new(Bytes::from(changed)), file.len() as u64).is_err());
        }
    }
}

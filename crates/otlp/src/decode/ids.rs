//! Columns of trace and span ids.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray};
use arrow::buffer::{Buffer, NullBuffer};

use super::taking::Taking;

/// Ids of `N` bytes that are all there.
pub(super) fn ids<const N: usize>(bytes: Vec<u8>) -> ArrayRef {
    Arc::new(FixedSizeBinaryArray::new(N as i32, Buffer::from_vec(bytes), None))
}

/// Ids of `N` bytes, or null.
#[derive(Default)]
pub(super) struct OptionalIds<const N: usize> {
    bytes: Vec<u8>,
    present: Vec<bool>,
}

impl<const N: usize> OptionalIds<N> {
    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.bytes.reserve_exact(N * rows);
        self.present.reserve_exact(rows);
    }

    /// Pushes an id; one of another length becomes null. Returns false where that was none.
    #[inline(always)]
    pub(super) fn push(&mut self, id: &[u8]) -> bool {
        let exact = <&[u8; N]>::try_from(id).ok();
        self.bytes.extend_from_slice(exact.unwrap_or(&[0; N]));
        self.present.push(exact.is_some());
        exact.is_some() || id.is_empty()
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.bytes.truncate(N * rows);
        self.present.truncate(rows);
    }

    pub(super) fn finish(&mut self, taking: &Taking) -> ArrayRef {
        let nulls = NullBuffer::from(self.present.as_slice());
        self.present.clear();
        Arc::new(FixedSizeBinaryArray::new(N as i32, Buffer::from_vec(taking.take(&mut self.bytes)), Some(nulls)))
    }
}

//! Growing columns: what a decoder pushes into and Arrow arrays are made of without copying.
//!
//! *Invariants.* Text is not checked while it is pushed but once for the whole column when it is finished, which for short
//! strings is several times faster; a column whose text is not UTF-8 gives [`NotUtf8`] and no array. Where several requests share
//! columns, what each has pushed is checked as it ends. Every column can be cut back to a row that it had before.
//!
//! Offsets are 32 bits: a request is at most [`super::REQUEST_BYTES_MAX`] long and its text grows at most sixfold.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, PrimitiveArray, StringArray};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowNativeType, ArrowPrimitiveType, DataType, FieldRef};

use super::taking::Taking;

/// A text column holds bytes that are not UTF-8, or a string that ends within a character.
pub(super) struct NotUtf8;

/// Text or bytes, none of them null.
pub(super) struct Text {
    offsets: Vec<i32>,
    bytes: Vec<u8>,
}

impl Default for Text {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Makes room for so many values of so many bytes, all together.
    pub(super) fn reserve(&mut self, values: usize, bytes: usize) {
        self.offsets.reserve_exact(values);
        self.bytes.reserve_exact(bytes);
    }

    /// Returns the bytes of all values.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline(always)]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.seal();
    }

    /// Returns the buffer, to append to before [`Self::seal`].
    pub(super) fn open(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Ends the value that was appended to [`Self::open`].
    #[inline(always)]
    pub(super) fn seal(&mut self) {
        self.offsets.push(self.bytes.len() as i32);
    }

    /// Returns the bytes of the value at `row`.
    pub(super) fn get(&self, row: usize) -> &[u8] {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// Returns what was appended since the last sealed value.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.offsets[self.len()] as usize..]
    }

    /// Drops every value from `rows` on, and what was appended since.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.bytes.truncate(self.offsets[rows] as usize);
    }

    /// Says whether every value from `row` on is text.
    pub(super) fn is_text(&self, row: usize) -> bool {
        let Some(from) = self.offsets.get(row) else { return true };
        let bytes = &self.bytes[*from as usize..];
        if bytes.is_ascii() {
            return true;
        }
        match simdutf8::basic::from_utf8(bytes) {
            Ok(text) => self.offsets[row..].iter().all(|offset| text.is_char_boundary((offset - from) as usize)),
            Err(_) => false,
        }
    }

    fn parts(&mut self, taking: &Taking) -> (OffsetBuffer<i32>, Buffer) {
        let offsets = taking.take_offsets(&mut self.offsets);
        (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(taking.take(&mut self.bytes)))
    }

    pub(super) fn finish(&mut self, taking: &Taking) -> Result<ArrayRef, NotUtf8> {
        self.finish_with(None, taking)
    }

    pub(super) fn finish_with(&mut self, nulls: Option<NullBuffer>, taking: &Taking) -> Result<ArrayRef, NotUtf8> {
        let (offsets, bytes) = self.parts(taking);
        Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|_| NotUtf8)?))
    }

    pub(super) fn finish_bytes(&mut self, taking: &Taking) -> ArrayRef {
        let (offsets, bytes) = self.parts(taking);
        Arc::new(BinaryArray::new(offsets, bytes, None))
    }
}

/// Which rows of a column are not null; costs nothing for the rows after the last that is not.
#[derive(Default)]
pub(super) struct Presence(Vec<bool>);

impl Presence {
    #[inline(always)]
    fn set(&mut self, row: usize) {
        // Columns are mostly set in every row or in few.
        if self.0.len() != row {
            self.0.resize(row, false);
        }
        self.0.push(true);
    }

    /// Sets rows that lie behind all that were set before.
    pub(super) fn set_all(&mut self, rows: std::ops::Range<usize>) {
        self.0.resize(rows.start, false);
        self.0.resize(rows.end, true);
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows);
    }

    /// Says whether no row was set, as far as that is known without a look at each.
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn finish(&mut self, rows: usize) -> NullBuffer {
        if self.0.is_empty() {
            return NullBuffer::new_null(rows);
        }
        self.0.resize(rows, false);
        let nulls = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits(&self.0)), 0, rows));
        self.0.clear();
        nulls
    }
}

/// Packs flags, the first in the lowest bit: eight of them by one product, whose highest byte gathers a bit of each.
fn bits(flags: &[bool]) -> Vec<u8> {
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let byte = |flags: [bool; 8]| (u64::from_le_bytes(flags.map(u8::from)).wrapping_mul(GATHER) >> 56) as u8;
    let (whole, rest) = flags.as_chunks::<8>();
    let mut bytes = Vec::with_capacity(flags.len().div_ceil(8));
    bytes.extend(whole.iter().map(|flags| byte(*flags)));
    if !rest.is_empty() {
        let mut last = [false; 8];
        last[..rest.len()].copy_from_slice(rest);
        bytes.push(byte(last));
    }
    bytes
}

/// Text that is mostly null: only rows with a value are pushed, in ascending order.
#[derive(Default)]
pub(super) struct OptionalText {
    text: Text,
    present: Presence,
}

impl OptionalText {
    /// Makes room for so many rows; for their text where something is said of it.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.text.offsets.reserve_exact(rows);
        self.present.0.reserve_exact(rows);
    }

    #[inline(always)]
    fn fill(&mut self, row: usize) {
        if self.text.offsets.len() != row + 1 {
            let end = self.text.bytes.len() as i32;
            self.text.offsets.resize(row + 1, end);
        }
    }

    /// Sets the value at `row`, which lies behind all that were set before.
    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, value: &[u8]) {
        self.fill(row);
        self.text.push(value);
        self.present.set(row);
    }

    /// Sets the value at `row` unless it is empty: what proto3 leaves out is null.
    #[inline(always)]
    pub(super) fn set_unless_empty(&mut self, row: usize, value: &[u8]) {
        if !value.is_empty() {
            self.set(row, value);
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        if self.text.len() > rows {
            self.text.truncate(rows);
            self.present.0.truncate(rows);
        }
    }

    /// Says whether every value from `row` on is text.
    pub(super) fn is_text(&self, row: usize) -> bool {
        self.text.is_text(row)
    }

    pub(super) fn finish(&mut self, rows: usize, taking: &mut Taking) -> Result<ArrayRef, NotUtf8> {
        if self.present.is_empty() {
            self.text.truncate(0);
            return Ok(taking.absent(&DataType::Utf8, rows, || Arc::new(StringArray::new_null(rows))));
        }
        self.fill(rows);
        let nulls = self.present.finish(rows);
        self.text.finish_with(Some(nulls), taking)
    }
}

/// Numbers that may be null; only rows with a value are pushed, in ascending order.
pub(super) struct OptionalNumber<T> {
    values: Vec<T>,
    present: Presence,
}

impl<T> Default for OptionalNumber<T> {
    fn default() -> Self {
        Self { values: Vec::new(), present: Presence::default() }
    }
}

impl<T: Copy + Default> OptionalNumber<T> {
    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.values.reserve_exact(rows);
        self.present.0.reserve_exact(rows);
    }

    /// Sets the value at `row`, which lies behind all that were set before.
    #[inline(always)]
    pub(super) fn set(&mut self, row: usize, value: T) {
        if self.values.len() != row {
            self.values.resize(row, T::default());
        }
        self.values.push(value);
        self.present.set(row);
    }

    /// Sets the value of rows that lie behind all that were set before.
    pub(super) fn set_all(&mut self, rows: std::ops::Range<usize>, value: T) {
        self.values.resize(rows.start, T::default());
        self.values.resize(rows.end, value);
        self.present.set_all(rows);
    }

    #[inline(always)]
    pub(super) fn set_some(&mut self, row: usize, value: Option<T>) {
        if let Some(value) = value {
            self.set(row, value);
        }
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.values.truncate(rows);
        self.present.0.truncate(rows);
    }

    /// Returns the values and their validity, ready for an array; `None` where no row has one.
    pub(super) fn parts(&mut self, rows: usize, taking: &Taking) -> Option<(Vec<T>, NullBuffer)> {
        if self.present.is_empty() {
            self.values.clear();
            return None;
        }
        self.values.resize(rows, T::default());
        Some((taking.take(&mut self.values), self.present.finish(rows)))
    }

    /// Returns the column.
    pub(super) fn finish<P>(&mut self, rows: usize, taking: &mut Taking) -> ArrayRef
    where
        P: ArrowPrimitiveType<Native = T>,
        T: ArrowNativeType,
    {
        match self.parts(rows, taking) {
            Some((values, nulls)) => Arc::new(PrimitiveArray::<P>::new(values.into(), Some(nulls))),
            None => taking.absent(&P::DATA_TYPE, rows, || Arc::new(PrimitiveArray::<P>::new_null(rows))),
        }
    }
}

/// Where the rows of a list column begin and end in its items.
pub(super) struct Offsets(Vec<i32>);

impl Default for Offsets {
    fn default() -> Self {
        Self(vec![0])
    }
}

impl Offsets {
    pub(super) fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Returns how many items the sealed rows have.
    pub(super) fn items(&self) -> usize {
        self.0[self.len()] as usize
    }

    /// Returns how many items the first `rows` rows have.
    pub(super) fn end(&self, rows: usize) -> usize {
        self.0[rows] as usize
    }

    /// Makes room for so many rows.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.0.reserve_exact(rows);
    }

    /// Ends a row whose items end at `items`.
    #[inline(always)]
    pub(super) fn seal(&mut self, items: usize) {
        self.0.push(items as i32);
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.0.truncate(rows + 1);
    }

    pub(super) fn finish(&mut self, taking: &Taking) -> OffsetBuffer<i32> {
        OffsetBuffer::new(ScalarBuffer::from(taking.take_offsets(&mut self.0)))
    }

    /// Returns the list column of the items.
    pub(super) fn finish_lists(&mut self, item: FieldRef, items: ArrayRef, taking: &Taking) -> ArrayRef {
        Arc::new(ListArray::new(item, self.finish(taking), items, None))
    }
}

/// Lists of numbers that may be null: items are appended first, then given to a row.
pub(super) struct OptionalList<T> {
    items: Vec<T>,
    offsets: Vec<i32>,
    present: Presence,
}

impl<T> Default for OptionalList<T> {
    fn default() -> Self {
        Self { items: Vec::new(), offsets: vec![0], present: Presence::default() }
    }
}

impl<T> OptionalList<T> {
    /// Appends an item for the row that [`Self::set`] will name.
    #[inline(always)]
    pub(super) fn push(&mut self, item: T) {
        self.items.push(item);
    }

    /// Appends items for the row that [`Self::set`] will name.
    pub(super) fn extend(&mut self, items: impl ExactSizeIterator<Item = T>) {
        self.items.extend(items);
    }

    /// Returns how many items were appended for all rows.
    pub(super) fn items(&self) -> usize {
        self.items.len()
    }

    fn sealed(&self) -> i32 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Gives what was appended to `row`, which lies behind all that were set before.
    pub(super) fn set(&mut self, row: usize) {
        let sealed = self.sealed();
        self.offsets.resize(row + 1, sealed);
        self.offsets.push(self.items.len() as i32);
        self.present.set(row);
    }

    /// Drops what was appended since the last row.
    pub(super) fn drop_row(&mut self) {
        self.items.truncate(self.sealed() as usize);
    }

    /// Drops every row from `rows` on, and what was appended since.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.present.0.truncate(rows);
        self.drop_row();
    }

    /// Returns the list column of the items made of them by `items`.
    pub(super) fn finish(
        &mut self,
        rows: usize,
        item: FieldRef,
        taking: &mut Taking,
        items: impl FnOnce(Vec<T>) -> ArrayRef,
    ) -> ArrayRef
    where
        T: Clone,
    {
        if self.present.is_empty() {
            self.truncate(0);
            let of = DataType::List(Arc::clone(&item));
            return taking.absent(&of, rows, || Arc::new(ListArray::new_null(item, rows)));
        }
        let sealed = self.sealed();
        self.offsets.resize(rows + 1, sealed);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(taking.take_offsets(&mut self.offsets)));
        let items = items(taking.take(&mut self.items));
        Arc::new(ListArray::new(item, offsets, items, Some(self.present.finish(rows))))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn flags_are_packed_as_arrow_packs_them(flags in proptest::collection::vec(any::<bool>(), 0..40)) {
            let packed = BooleanBuffer::new(Buffer::from_vec(bits(&flags)), 0, flags.len());
            prop_assert_eq!(packed, BooleanBuffer::from(flags));
        }
    }
}

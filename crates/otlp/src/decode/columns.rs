//! Growing columns: what a decoder pushes into and Arrow arrays are made of without copying.
//!
//! *Invariants.* Text is not checked while it is pushed but once for the whole column when it is finished, which for short
//! strings is several times faster; a column whose text is not UTF-8 gives [`NotUtf8`] and no array.
//!
//! Offsets are 32 bits: a request is at most [`super::REQUEST_BYTES_MAX`] long and its text grows at most sixfold.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, ListArray, StringArray, StructArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Fields};

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

    pub(super) fn extend(&mut self, value: &[u8], rows: usize) {
        (0..rows).for_each(|_| self.push(value));
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

    fn parts(self) -> (OffsetBuffer<i32>, Buffer) {
        (OffsetBuffer::new(ScalarBuffer::from(self.offsets)), Buffer::from_vec(self.bytes))
    }

    pub(super) fn finish(self) -> Result<ArrayRef, NotUtf8> {
        self.finish_with(None)
    }

    pub(super) fn finish_with(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, NotUtf8> {
        let (offsets, bytes) = self.parts();
        Ok(Arc::new(StringArray::try_new(offsets, bytes, nulls).map_err(|_| NotUtf8)?))
    }

    pub(super) fn finish_bytes(self) -> ArrayRef {
        let (offsets, bytes) = self.parts();
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

    fn finish(mut self, rows: usize) -> NullBuffer {
        self.0.resize(rows, false);
        NullBuffer::from(self.0)
    }
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

    pub(super) fn finish(mut self, rows: usize) -> Result<ArrayRef, NotUtf8> {
        self.fill(rows);
        let nulls = self.present.finish(rows);
        self.text.finish_with(Some(nulls))
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

    /// Returns the values and their validity, ready for an array.
    pub(super) fn parts(mut self, rows: usize) -> (Vec<T>, NullBuffer) {
        self.values.resize(rows, T::default());
        (self.values, self.present.finish(rows))
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

    pub(super) fn finish(self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(ScalarBuffer::from(self.0))
    }
}

/// Makes a list column of structs.
pub(super) fn list_of(fields: Fields, rows: Offsets, columns: Vec<ArrayRef>) -> ArrayRef {
    let items = StructArray::new(fields, columns, None);
    list(rows, Arc::new(items), None)
}

/// Makes a list column.
pub(super) fn list(rows: Offsets, items: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    let item = Field::new("item", items.data_type().clone(), false);
    Arc::new(ListArray::new(Arc::new(item), rows.finish(), items, nulls))
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

    /// Returns the items and the list column made of them by `items`.
    pub(super) fn finish(mut self, rows: usize, items: impl FnOnce(Vec<T>) -> ArrayRef) -> ArrayRef {
        let sealed = self.sealed();
        self.offsets.resize(rows + 1, sealed);
        list(Offsets(self.offsets), items(self.items), Some(self.present.finish(rows)))
    }
}

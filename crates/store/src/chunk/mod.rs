//! Columns of rows as chunks of a Parquet row group.
//!
//! Parquet's own writer takes Arrow arrays whose rows stand in their final order, hashes every text of every row, and goes
//! over every level of lists that are empty. Here rows are named by their places in batches laid end to end, text with a number in
//! its batch's dictionary is never hashed again, what is constant, absent or empty costs next to nothing, and memory that is far
//! is read in a row: columns are numbered or copied as they lie, and only numbers are put in order. The file is
//! Parquet as any other writer's: data pages of the first version, zstd, dictionaries, packed differences, plain.
//!
//! | file | owns |
//! |---|---|
//! | `slots` | places of rows and items, levels of lists, maps and nulls, where pages end |
//! | `text`, `interner` | text and bytes; the distinct ones and their numbers |
//! | `number` | numbers, booleans and ids |
//! | `bits` | hybrid runs and packed differences |
//! | `crew` | several columns at a time |
//! | `page` | pages, their headers, compression, offsets and bounds; a finished chunk |
//!
//! *Cost.* What one column of one row group takes: at most 44 bytes an item (numbers of entries, entries and their table, or
//! the items themselves), ten for which of them are there, and its pages as compressed. The memory is used again for the next column and the next row group.

mod bits;
mod crew;
mod interner;
mod number;
mod page;
mod slots;
mod text;

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

pub(crate) use crew::{Column, Crew};
pub(crate) use interner::Interner;
use page::{Finished, Scratch};
use slots::Slots;
pub(crate) use slots::{Places, Run, push};

/// How one column of a table is written beyond what its values say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// Filters compare its text with bounds.
    pub(crate) bounded: bool,
    /// Single values are looked for.
    pub(crate) looked_up: bool,
}

/// What is spent on making pages smaller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// The level of zstd.
    pub(crate) level: i32,
    /// Pages are compressed where that takes off one of so many bytes.
    pub(crate) worth: usize,
}

/// Encodes columns, one after the other; keeps what they are made in.
pub(crate) struct Encoder {
    scratch: Scratch,
    buffers: Buffers,
    /// Columns of the row group that were null here and there, the last first.
    present: Vec<Present>,
}

/// In which rows something is, and their slots: many columns are there in the same rows, as those of one type of metric.
struct Present {
    /// Of each batch, with how many rows it has.
    nulls: Vec<(usize, Option<NullBuffer>)>,
    below: Slots<'static>,
}

/// So many are looked back at.
const PRESENT: usize = 2;

/// What the items of one leaf pass through.
#[derive(Default)]
struct Buffers {
    /// Numbers of entries by place, then by item.
    placed: Vec<u32>,
    codes: Vec<u32>,
    /// What a batch's own numbers or those of the first round became.
    moved: Vec<u32>,
    /// The table of an interner.
    table: Vec<u64>,
    /// Numbers by place, then by item.
    wide: Vec<i64>,
    values: Vec<i64>,
    /// Ids or booleans by place, then by item.
    bytes: Vec<u8>,
    ids: Vec<u8>,
}

/// Where the leaves of a column go.
struct Target<'t> {
    descriptors: std::slice::Iter<'t, ColumnDescPtr>,
    how: Use,
    out: &'t mut dyn FnMut(Finished<'_>) -> Result<()>,
}

impl Encoder {
    /// Begins with nothing.
    pub(crate) fn new(effort: Effort) -> Result<Self> {
        Ok(Self { scratch: Scratch::new(effort)?, buffers: Buffers::default(), present: Vec::new() })
    }

    /// Appends all columns of `rows` to a row group; `columns` gives for each its field, its arrays, which lie end to end, and its
    /// use. Each column's arrays are asked for when those before are written, and dropped before the next.
    pub(crate) fn append<'a, W: Write + Send, E: From<ParquetError>>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        schema: &SchemaDescriptor,
        rows: &Places<'_>,
        columns: impl Iterator<Item = std::result::Result<(&'a Field, Vec<ArrayRef>, Use), E>>,
    ) -> std::result::Result<(), E> {
        let rows = Slots::rows(rows);
        let mut leaves = schema.columns();
        self.forget();
        for column in columns {
            let (field, arrays, how) = column?;
            let mut append = |leaf: Finished<'_>| group.append_column(&leaf.bytes, leaf.close);
            leaves = self.column(leaves, &Column { field, arrays, how }, &rows, &mut append)?;
        }
        self.forget();
        Ok(())
    }

    /// Encodes a column whose leaves are the first of `leaves`, and hands each `out`; returns the leaves behind it. Columns of other rows
    /// than those of the one before come behind [`Self::forget`].
    fn column<'l>(
        &mut self,
        leaves: &'l [ColumnDescPtr],
        column: &Column<'_>,
        rows: &Slots<'_>,
        out: &mut dyn FnMut(Finished<'_>) -> Result<()>,
    ) -> Result<&'l [ColumnDescPtr]> {
        let mut target = Target { descriptors: leaves.iter(), how: column.how, out };
        self.field(&mut target, column.field, &column.arrays, rows)?;
        let left = target.descriptors.len();
        Ok(&leaves[leaves.len() - left..])
    }

    /// Forgets what columns of the same rows may have in common.
    fn forget(&mut self) {
        self.present.clear();
    }

    fn field(&mut self, target: &mut Target<'_>, field: &Field, arrays: &[ArrayRef], slots: &Slots<'_>) -> Result<()> {
        if field.is_nullable() {
            let nulls: Vec<(usize, Option<NullBuffer>)> =
                arrays.iter().map(|array| (array.len(), array.logical_nulls())).collect();
            if let Some(below) = slots.all_or_none(&nulls) {
                return self.value(target, field.data_type(), arrays, &below);
            }
            let known = self.present.iter().position(|known| slots.are_rows() && known.nulls == nulls);
            let present = match known {
                Some(at) => self.present.remove(at),
                None => Present { below: slots.optional(&nulls, &mut self.buffers.bytes), nulls },
            };
            self.value(target, field.data_type(), arrays, &present.below)?;
            if slots.are_rows() {
                self.present.truncate(PRESENT - 1);
                self.present.insert(0, present);
            }
            return Ok(());
        }
        if arrays.iter().any(|array| array.is_nullable()) {
            return Err(ParquetError::ArrowError(format!("column `{}` holds nulls and must not", field.name())));
        }
        self.value(target, field.data_type(), arrays, slots)
    }

    fn value(
        &mut self,
        target: &mut Target<'_>,
        data_type: &DataType,
        arrays: &[ArrayRef],
        slots: &Slots<'_>,
    ) -> Result<()> {
        match data_type {
            DataType::List(item) => {
                let lists = || arrays.iter().map(|array| array.as_list::<i32>());
                let offsets: Vec<&[i32]> = lists().map(|list| list.value_offsets()).collect();
                let items: Vec<ArrayRef> = lists().map(|list| within(list.values(), list.value_offsets())).collect();
                self.field(target, item, &items, &slots.repeated(&offsets)?)
            }
            DataType::Map(entries, _) => {
                let maps = || arrays.iter().map(|array| array.as_map());
                let offsets: Vec<&[i32]> = maps().map(|map| map.value_offsets()).collect();
                let items = maps().map(|map| {
                    let entries: ArrayRef = Arc::new(map.entries().clone());
                    within(&entries, map.value_offsets())
                });
                let items: Vec<ArrayRef> = items.collect();
                self.field(target, entries, &items, &slots.repeated(&offsets)?)
            }
            DataType::Struct(fields) => {
                for (at, field) in fields.iter().enumerate() {
                    let members: Vec<ArrayRef> =
                        arrays.iter().map(|array| ArrayRef::clone(array.as_struct().column(at))).collect();
                    self.field(target, field, &members, slots)?;
                }
                Ok(())
            }
            leaf => self.leaf(target, leaf, arrays, slots),
        }
    }

    fn leaf(
        &mut self,
        target: &mut Target<'_>,
        data_type: &DataType,
        arrays: &[ArrayRef],
        slots: &Slots<'_>,
    ) -> Result<()> {
        let too_many = || ParquetError::General("the file has fewer columns than the rows".to_owned());
        let descriptor = target.descriptors.next().ok_or_else(too_many)?;
        let (scratch, buffers) = (&mut self.scratch, &mut self.buffers);
        let finished = match data_type {
            DataType::Utf8 | DataType::Binary | DataType::Dictionary(..) => {
                text::encode(scratch, buffers, descriptor, arrays, slots, target.how.bounded)?
            }
            DataType::Boolean => number::booleans(scratch, buffers, descriptor, arrays, slots)?,
            DataType::FixedSizeBinary(width) => {
                let width = usize::try_from(*width).unwrap_or(0);
                number::ids(scratch, buffers, descriptor, arrays, slots, (width, target.how.looked_up))?
            }
            number => number::encode(scratch, buffers, descriptor, arrays, slots, number)?,
        };
        (target.out)(finished)
    }
}

/// The items that the lists of a batch hold, which of a slice are some of those that its array has.
fn within(items: &ArrayRef, offsets: &[i32]) -> ArrayRef {
    let (from, to) = (offsets.first().copied().unwrap_or(0) as usize, offsets.last().copied().unwrap_or(0) as usize);
    if from == 0 && to == items.len() { ArrayRef::clone(items) } else { items.slice(from, to - from) }
}

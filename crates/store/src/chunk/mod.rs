//! Columns of rows as chunks of a Parquet row group.
//!
//! Parquet's own writer takes Arrow arrays whose rows stand in their final order, hashes every text of every row, and goes
//! over every level of lists that are empty. Here rows are named by runs of the batches they stand in, text with a number in
//! its batch's dictionary is never hashed again, and what is constant, absent or empty costs next to nothing. The file is
//! Parquet as any other writer's: data pages of the first version, zstd, dictionaries, packed differences, plain.
//!
//! | file | owns |
//! |---|---|
//! | `slots` | runs of rows and items, levels of lists, maps and nulls |
//! | `text`, `interner` | text and bytes; the distinct ones and their numbers |
//! | `number` | numbers, booleans and ids |
//! | `bits` | hybrid runs and packed differences |
//! | `page` | pages, their headers, compression, offsets and bounds; a finished chunk |
//!
//! *Cost.* What one column of one row group takes: at most 44 bytes an item (numbers of entries, entries and their table, or
//! the items themselves), its pages as compressed, and twelve bytes a run.

mod bits;
mod interner;
mod number;
mod page;
mod slots;
mod text;

use std::io::Write;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field};
use parquet::errors::{ParquetError, Result};
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

pub(crate) use interner::Interner;
use page::Scratch;
use slots::Slots;
pub(crate) use slots::{Run, push};

/// How one column of a table is written beyond what its values say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Use {
    /// Filters compare its text with bounds.
    pub(crate) bounded: bool,
    /// Single values are looked for.
    pub(crate) looked_up: bool,
}

/// Encodes columns, one after the other; keeps what they are made in.
pub(crate) struct Encoder {
    scratch: Scratch,
    codes: Vec<u32>,
}

/// A row group that is written column by column.
struct Target<'g, 'f, W: Write + Send> {
    group: &'g mut SerializedRowGroupWriter<'f, W>,
    descriptors: std::slice::Iter<'g, ColumnDescPtr>,
    how: Use,
}

impl Encoder {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { scratch: Scratch::new()?, codes: Vec::new() })
    }

    /// Appends all columns of `runs` to a row group; `columns` gives for each its field, its arrays, one a batch, and its use.
    pub(crate) fn append<'a, W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        schema: &SchemaDescriptor,
        runs: &[Run],
        columns: impl Iterator<Item = (&'a Field, Vec<ArrayRef>, Use)>,
    ) -> Result<()> {
        let rows = Slots::rows(runs);
        let mut target = Target { group, descriptors: schema.columns().iter(), how: Use::default() };
        for (field, arrays, how) in columns {
            target.how = how;
            self.field(&mut target, field, &arrays, &rows)?;
        }
        Ok(())
    }

    fn field<W: Write + Send>(
        &mut self,
        target: &mut Target<'_, '_, W>,
        field: &Field,
        arrays: &[ArrayRef],
        slots: &Slots<'_>,
    ) -> Result<()> {
        if field.is_nullable() {
            let nulls: Vec<Option<NullBuffer>> = arrays.iter().map(|array| array.logical_nulls()).collect();
            return self.value(target, field.data_type(), arrays, &slots.optional(&nulls));
        }
        if arrays.iter().any(|array| array.is_nullable()) {
            return Err(ParquetError::ArrowError(format!("column `{}` holds nulls and must not", field.name())));
        }
        self.value(target, field.data_type(), arrays, slots)
    }

    fn value<W: Write + Send>(
        &mut self,
        target: &mut Target<'_, '_, W>,
        data_type: &DataType,
        arrays: &[ArrayRef],
        slots: &Slots<'_>,
    ) -> Result<()> {
        match data_type {
            DataType::List(item) => {
                let offsets: Vec<&[i32]> = arrays.iter().map(|array| array.as_list::<i32>().value_offsets()).collect();
                let items: Vec<ArrayRef> =
                    arrays.iter().map(|array| ArrayRef::clone(array.as_list::<i32>().values())).collect();
                self.field(target, item, &items, &slots.repeated(&offsets))
            }
            DataType::Map(entries, _) => {
                let offsets: Vec<&[i32]> = arrays.iter().map(|array| array.as_map().value_offsets()).collect();
                let items: Vec<ArrayRef> = arrays
                    .iter()
                    .map(|array| std::sync::Arc::new(array.as_map().entries().clone()) as ArrayRef)
                    .collect();
                self.field(target, entries, &items, &slots.repeated(&offsets))
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

    fn leaf<W: Write + Send>(
        &mut self,
        target: &mut Target<'_, '_, W>,
        data_type: &DataType,
        arrays: &[ArrayRef],
        slots: &Slots<'_>,
    ) -> Result<()> {
        let too_many = || ParquetError::General("the file has fewer columns than the rows".to_owned());
        let descriptor = target.descriptors.next().ok_or_else(too_many)?;
        let (scratch, codes) = (&mut self.scratch, &mut self.codes);
        let finished = match data_type {
            DataType::Utf8 | DataType::Binary | DataType::Dictionary(..) => {
                text::encode(scratch, codes, descriptor, arrays, slots, target.how.bounded)?
            }
            DataType::Boolean => number::booleans(scratch, descriptor, arrays, slots)?,
            DataType::FixedSizeBinary(width) => {
                let width = usize::try_from(*width).unwrap_or(0);
                number::ids(scratch, descriptor, arrays, slots, width, target.how.looked_up)?
            }
            number => number::encode(scratch, codes, descriptor, arrays, slots, number)?,
        };
        target.group.append_column(&finished.bytes, finished.close)
    }
}

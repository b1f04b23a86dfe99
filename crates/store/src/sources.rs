//! One input of a merge: a segment read column by column, a range of rows at a time.
//!
//! *Cost.* An open file, its footer and page index, and for the column being read a page or two and the rows asked for. Text that is
//! stored by number comes by number ([`Source::stored`]): its values are there once a row group.

use std::collections::HashMap;
use std::io::{self, BufReader, Read};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::basic::{Encoding, PageType};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, PageEncodingStats, PageIndexPolicy, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};
use plimsoll_catalog::SegmentRecord;
use plimsoll_otlp::Table;

use crate::error::StoreError;
use crate::files::SegmentRead;
use crate::flush::unreadable;
use crate::shared::Shared;
use crate::sums::Checked;

/// Rows decoded at once.
const BATCH: usize = 8_192;

/// A segment that is read.
pub(crate) struct Source {
    pub(crate) record: SegmentRecord,
    file: Opened,
    metadata: ArrowReaderMetadata,
    /// What a row takes in memory in its widest column.
    pub(crate) row_bytes: u64,
}

impl Source {
    pub(crate) fn open(shared: &Shared, record: &SegmentRecord) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Io { path: record.path.clone(), source };
        let file = shared.files.open(&record.path).map_err(failed)?;
        let file = Opened { file: Arc::new(Checked::new(file, record.bytes)), bytes: record.bytes };
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let metadata = ArrowReaderMetadata::load(&file, options).map_err(|e| unreadable(&record.path, &e))?;
        let rows = metadata.metadata().file_metadata().num_rows();
        if u64::try_from(rows) != Ok(record.rows) {
            let problem = format!("holds {rows} rows, the catalog says {}", record.rows);
            return Err(StoreError::Segment { path: record.path.clone(), problem });
        }
        let row_bytes = row_bytes(metadata.metadata());
        Ok(Self { record: record.clone(), file, metadata, row_bytes })
    }

    pub(crate) fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.metadata.schema()
    }

    /// Reads one column of some rows, an array a row group: text and bytes as dictionaries where they are stored so.
    pub(crate) fn stored(&self, column: &str, rows: Range<u64>) -> Result<Vec<ArrayRef>, ParquetError> {
        let schema = self.metadata.schema();
        let root = schema.index_of(column)?;
        let wanted = Table::parse(&self.record.table).and_then(|table| table.schema().field_with_name(column).ok());
        if wanted.is_none_or(|wanted| wanted.data_type() != schema.field(root).data_type()) {
            // A segment of before: its types are not those of the table.
            let mut cursor = self.read(&[column], rows.clone())?;
            return Ok(vec![cursor.column(usize::try_from(rows.end - rows.start).unwrap_or(0))?]);
        }
        let metadata = self.metadata.metadata();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), [root]);
        let mut arrays = Vec::new();
        let mut at = 0;
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let begin = at;
            at += u64::try_from(group.num_rows()).unwrap_or(0);
            let (from, to) = (rows.start.max(begin), rows.end.min(at));
            if from >= to {
                continue;
            }
            let leaves = group.columns().iter().enumerate();
            let leaves = leaves.filter(|(leaf, _)| self.metadata.parquet_schema().get_column_root_idx(*leaf) == root);
            let mut numbered = leaves.map(|(_, chunk)| is_numbered(chunk));
            let mut fields: Vec<FieldRef> = schema.fields().iter().cloned().collect();
            fields[root] = Arc::new(by_number(&fields[root], &mut numbered));
            let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
            let typed = ArrowReaderMetadata::try_new(Arc::clone(metadata), options)?;
            let length = usize::try_from(to - from).unwrap_or(usize::MAX);
            let skipped = usize::try_from(from - begin).unwrap_or(usize::MAX);
            let selection = vec![RowSelector::skip(skipped), RowSelector::select(length)];
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), typed)
                .with_projection(mask.clone())
                .with_row_groups(vec![number])
                .with_row_selection(RowSelection::from(selection))
                .with_batch_size(length)
                .build()?;
            for batch in reader {
                arrays.push(Arc::clone(batch?.column(0)));
            }
        }
        let found: usize = arrays.iter().map(|array| array.len()).sum();
        if found as u64 != rows.end - rows.start {
            return Err(ParquetError::EOF(format!("{found} rows of `{column}` where there should be more")));
        }
        Ok(arrays)
    }

    /// Reads some columns of some rows, in the order of the schema.
    pub(crate) fn read(&self, columns: &[&str], rows: Range<u64>) -> Result<Cursor, ParquetError> {
        let schema = self.metadata.schema();
        let mut roots = columns.iter().map(|column| schema.index_of(column)).collect::<Result<Vec<_>, _>>()?;
        roots.sort_unstable();
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), roots.iter().copied());
        let (mut groups, mut skipped, mut at) = (Vec::new(), 0, 0);
        for (number, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            let end = at + u64::try_from(group.num_rows()).unwrap_or(0);
            if end > rows.start && at < rows.end {
                if groups.is_empty() {
                    skipped = rows.start - at;
                }
                groups.push(number);
            }
            at = end;
        }
        let wide = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
        let selection = vec![RowSelector::skip(wide(skipped)), RowSelector::select(wide(rows.end - rows.start))];
        let table = Table::parse(&self.record.table);
        let stored = |field: &Field| table.and_then(|table| table.schema().field_with_name(field.name()).ok());
        let types = roots.iter().map(|at| {
            let field = schema.field(*at);
            stored(field).unwrap_or(field).data_type().clone()
        });
        let types = types.collect();
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(groups)
            .with_row_selection(RowSelection::from(selection))
            .with_batch_size(BATCH)
            .build()?;
        Ok(Cursor { reader, types, current: None })
    }
}

/// Says whether all values of a chunk stand in its dictionary.
fn is_numbered(chunk: &ColumnChunkMetaData) -> bool {
    let numbers = |page: &PageEncodingStats| match page.page_type {
        PageType::DICTIONARY_PAGE => true,
        _ => matches!(page.encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY),
    };
    chunk.dictionary_page_offset().is_some()
        && match (chunk.page_encoding_stats(), chunk.page_encoding_stats_mask()) {
            (Some(pages), _) => pages.iter().all(numbers),
            (None, Some(mask)) => mask.is_only(Encoding::RLE_DICTIONARY),
            (None, None) => false,
        }
}

/// Returns the field with text and bytes as dictionaries, where the next of `numbered`, one a leaf, says so.
fn by_number(field: &Field, numbered: &mut impl Iterator<Item = bool>) -> Field {
    let below = |field: &FieldRef, numbered: &mut _| Arc::new(by_number(field, numbered));
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| below(field, numbered)).collect()),
        DataType::List(item) => DataType::List(below(item, numbered)),
        DataType::Map(entries, sorted) => DataType::Map(below(entries, numbered), *sorted),
        leaf @ (DataType::Utf8 | DataType::Binary) => match numbered.next() {
            Some(true) => DataType::Dictionary(Box::new(DataType::UInt32), Box::new(leaf.clone())),
            _ => leaf.clone(),
        },
        leaf => {
            numbered.next();
            leaf.clone()
        }
    };
    field.clone().with_data_type(data_type)
}

/// What a row takes in memory in the widest column: the text of its values, or a number for each.
fn row_bytes(metadata: &ParquetMetaData) -> u64 {
    /// Of an item beside its text: an offset or a number, a level or two.
    const ITEM: u64 = 8;
    let schema = metadata.file_metadata().schema_descr();
    let mut most = 1;
    for group in metadata.row_groups() {
        let mut bytes: HashMap<usize, u64> = HashMap::new();
        for (leaf, chunk) in group.columns().iter().enumerate() {
            let items = u64::try_from(chunk.num_values()).unwrap_or(0);
            let text = u64::try_from(chunk.uncompressed_size()).unwrap_or(0);
            *bytes.entry(schema.get_column_root_idx(leaf)).or_default() += text + items * ITEM;
        }
        let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
        most = most.max(bytes.into_values().max().unwrap_or(0).div_ceil(rows));
    }
    most
}

/// The rows of a column, in portions of any size.
pub(crate) struct Cursor {
    reader: ParquetRecordBatchReader,
    /// What the columns are to be, which segments of before may not have.
    types: Vec<DataType>,
    current: Option<RecordBatch>,
}

impl Cursor {
    /// Takes the next `rows` rows.
    pub(crate) fn take(&mut self, rows: usize) -> Result<RecordBatch, ParquetError> {
        let mut parts: Vec<RecordBatch> = Vec::new();
        let mut missing = rows;
        while missing > 0 {
            let batch = match self.current.take() {
                Some(batch) => batch,
                None => {
                    let ended = || ParquetError::EOF("fewer rows than there should be".into());
                    typed(self.reader.next().ok_or_else(ended)??, &self.types)?
                }
            };
            let taken = missing.min(batch.num_rows());
            if taken < batch.num_rows() {
                self.current = Some(batch.slice(taken, batch.num_rows() - taken));
            }
            missing -= taken;
            parts.push(batch.slice(0, taken));
        }
        match parts.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(ParquetError::General("no rows were asked for".into())),
            [first, ..] => Ok(concat_batches(&first.schema(), &parts)?),
        }
    }

    /// Takes the next `rows` rows of the only column.
    pub(crate) fn column(&mut self, rows: usize) -> Result<ArrayRef, ParquetError> {
        Ok(Arc::clone(self.take(rows)?.column(0)))
    }
}

/// Casts the columns that have another type.
pub(crate) fn typed(batch: RecordBatch, types: &[DataType]) -> Result<RecordBatch, ParquetError> {
    let schema = batch.schema();
    if schema.fields().iter().zip(types).all(|(field, wanted)| field.data_type() == wanted) {
        return Ok(batch);
    }
    let fields = schema.fields().iter().zip(types);
    let fields: Vec<Field> =
        fields.map(|(field, wanted)| field.as_ref().clone().with_data_type(wanted.clone())).collect();
    let columns = batch.columns().iter().zip(types).map(|(column, wanted)| cast(column, wanted));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// A segment file as the Parquet reader takes it.
#[derive(Clone)]
struct Opened {
    file: Arc<dyn SegmentRead>,
    bytes: u64,
}

impl Length for Opened {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for Opened {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BufReader::new(From { file: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        Ok(self.file.read_at(start, length)?)
    }
}

/// A segment file from some place on.
pub(crate) struct From {
    file: Opened,
    at: u64,
}

impl Read for From {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        if length == 0 {
            return Ok(0);
        }
        let bytes = self.file.file.read_at(self.at, length)?;
        into[..length].copy_from_slice(&bytes);
        self.at += length as u64;
        Ok(length)
    }
}

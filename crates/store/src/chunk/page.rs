//! Pages and what is said of them: headers, compression, offsets, bounds.
//!
//! *Layout.* A chunk is its dictionary page, where it has one, and its data pages of the first version, each behind a header in
//! Thrift's compact protocol. Whether a chunk is compressed is tried on its first page.
//!
//! *Source.* <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, Type, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use zstd::bulk::Compressor;

use super::bits::{varint, zigzag};

/// The level that new segments are compressed at.
const LEVEL: i32 = 1;
/// A chunk is compressed where that takes off a sixteenth of its first page.
const WORTH: usize = 16;
/// A page of fewer bytes is not worth a frame.
const TINY: usize = 64;

/// What is kept from one column to the next, so that it is not made anew.
pub(super) struct Scratch {
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    /// The chunk under construction.
    bytes: Vec<u8>,
    /// The page under construction.
    page: Vec<u8>,
}

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let compressor = Compressor::new(LEVEL).map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(Self { compressor, compressed: Vec::new(), bytes: Vec::new(), page: Vec::new() })
    }
}

/// The least and the greatest value of a page, as Parquet writes them.
pub(super) type Bounds = (Vec<u8>, Vec<u8>);

/// A finished chunk and how it is to be appended.
pub(super) struct Finished<'s> {
    pub(super) bytes: Spliced<'s>,
    pub(super) close: ColumnCloseResult,
}

/// A chunk under construction.
pub(super) struct Chunk<'s> {
    compressor: &'s mut Compressor<'static>,
    compressed: &'s mut Vec<u8>,
    bytes: &'s mut Vec<u8>,
    descriptor: ColumnDescPtr,
    compress: Option<bool>,
    uncompressed: usize,
    dictionary: bool,
    first_data: Option<usize>,
    slots: usize,
    rows: usize,
    encodings: Vec<PageEncodingStats>,
    offsets: OffsetIndexBuilder,
    index: Option<ColumnIndexBuilder>,
}

impl<'s> Chunk<'s> {
    /// Begins a chunk; `bounded` where every page will come with bounds or be all null. `compress` where it is known.
    pub(super) fn begin(
        compressor: &'s mut Compressor<'static>,
        buffers: (&'s mut Vec<u8>, &'s mut Vec<u8>),
        descriptor: ColumnDescPtr,
        bounded: bool,
        compress: Option<bool>,
    ) -> Self {
        let (compressed, bytes) = buffers;
        bytes.clear();
        let index = bounded.then(|| ColumnIndexBuilder::new(descriptor.physical_type()));
        Self {
            compressor,
            compressed,
            bytes,
            descriptor,
            compress,
            uncompressed: 0,
            dictionary: false,
            first_data: None,
            slots: 0,
            rows: 0,
            encodings: Vec::new(),
            offsets: OffsetIndexBuilder::new(),
            index,
        }
    }

    /// Compresses `body` where that pays; true where `compressed` holds it.
    fn compress(&mut self, body: &[u8]) -> Result<bool> {
        if self.compress == Some(false) {
            return Ok(false);
        }
        if self.compress.is_none() && body.len() < TINY {
            self.compress = Some(false);
            return Ok(false);
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(body.len()));
        self.compressor.compress_to_buffer(body, self.compressed).map_err(|e| ParquetError::External(Box::new(e)))?;
        let pays = self.compressed.len() + body.len() / WORTH < body.len();
        Ok(*self.compress.get_or_insert(pays))
    }

    fn write(&mut self, body: &[u8], kind: PageType, values: usize, encoding: Encoding) -> Result<(usize, usize)> {
        let compressed = self.compress(body)?;
        let body_len = if compressed { self.compressed.len() } else { body.len() };
        let size = |bytes: usize| {
            i32::try_from(bytes).map_err(|_| ParquetError::General(format!("a page of {bytes} bytes is too large")))
        };
        let (plain, stored, values) = (size(body.len())?, size(body_len)?, size(values)?);
        let begin = self.bytes.len();
        header(kind, (plain, stored), values, encoding, self.bytes);
        let header = self.bytes.len() - begin;
        self.bytes.extend_from_slice(if compressed { self.compressed } else { body });
        self.uncompressed += header + body.len();
        match self.encodings.iter_mut().find(|known| known.page_type == kind && known.encoding == encoding) {
            Some(known) => known.count += 1,
            None => self.encodings.push(PageEncodingStats { page_type: kind, encoding, count: 1 }),
        }
        Ok((begin, self.bytes.len() - begin))
    }

    /// Appends the dictionary page, before any other.
    pub(super) fn dictionary(&mut self, plain: &[u8], entries: usize) -> Result<()> {
        self.dictionary = true;
        self.write(plain, PageType::DICTIONARY_PAGE, entries, Encoding::PLAIN).map(drop)
    }

    /// Appends a data page.
    pub(super) fn data(
        &mut self,
        body: &[u8],
        encoding: Encoding,
        (slots, rows, nulls): (usize, usize, usize),
        bounds: Option<Bounds>,
    ) -> Result<()> {
        let (begin, size) = self.write(body, PageType::DATA_PAGE, slots, encoding)?;
        self.first_data.get_or_insert(begin);
        self.slots += slots;
        self.rows += rows;
        self.offsets.append_offset_and_size(begin as i64, size as i32);
        self.offsets.append_row_count(rows as i64);
        if let Some(index) = &mut self.index {
            match bounds {
                Some((least, greatest)) => index.append(false, least, greatest, nulls as i64),
                None if nulls == slots => index.append(true, Vec::new(), Vec::new(), nulls as i64),
                // What has no bounds, as a page of nothing but NaN, leaves the column without an index.
                None => index.to_invalid(),
            }
        }
        Ok(())
    }

    /// Ends the chunk.
    pub(super) fn finish(self, statistics: Option<Statistics>) -> Result<Finished<'s>> {
        let compression = match self.compress {
            Some(true) => Compression::ZSTD(ZstdLevel::try_new(LEVEL)?),
            _ => Compression::UNCOMPRESSED,
        };
        let mut encodings: Vec<Encoding> = self.encodings.iter().map(|known| known.encoding).collect();
        encodings.push(Encoding::RLE);
        let mut metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_encodings(encodings)
            .set_page_encoding_stats(self.encodings)
            .set_compression(compression)
            .set_total_compressed_size(self.bytes.len() as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_num_values(self.slots as i64)
            .set_data_page_offset(self.first_data.unwrap_or(0) as i64)
            .set_dictionary_page_offset(self.dictionary.then_some(0));
        if let Some(statistics) = statistics {
            metadata = metadata.set_statistics(statistics);
        }
        let column_index = self.index.filter(ColumnIndexBuilder::valid).map(ColumnIndexBuilder::build).transpose()?;
        let close = ColumnCloseResult {
            bytes_written: self.bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index,
            offset_index: Some(self.offsets.build()),
        };
        Ok(Finished { bytes: Spliced(self.bytes), close })
    }
}

impl Scratch {
    /// Begins a chunk and lends what its pages are made in.
    pub(super) fn begin(
        &mut self,
        descriptor: &ColumnDescPtr,
        bounded: bool,
        compress: Option<bool>,
    ) -> (Chunk<'_>, &mut Vec<u8>) {
        let buffers = (&mut self.compressed, &mut self.bytes);
        let chunk = Chunk::begin(&mut self.compressor, buffers, ColumnDescPtr::clone(descriptor), bounded, compress);
        self.page.clear();
        (chunk, &mut self.page)
    }
}

/// Appends a page header: `PageHeader` with its `DataPageHeader` or `DictionaryPageHeader`.
fn header(kind: PageType, (plain, stored): (i32, i32), values: i32, encoding: Encoding, out: &mut Vec<u8>) {
    const I32: u8 = 5;
    const STRUCT: u8 = 12;
    let number = |skip: u8, value: i32, out: &mut Vec<u8>| {
        out.push(skip << 4 | I32);
        varint(zigzag(i64::from(value)), out);
    };
    number(1, kind as i32, out);
    number(1, plain, out);
    number(1, stored, out);
    match kind {
        PageType::DICTIONARY_PAGE => {
            out.push(4 << 4 | STRUCT);
            number(1, values, out);
            number(1, encoding as i32, out);
        }
        _ => {
            out.push(2 << 4 | STRUCT);
            number(1, values, out);
            number(1, encoding as i32, out);
            number(1, Encoding::RLE as i32, out);
            number(1, Encoding::RLE as i32, out);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The bytes of a chunk, for the file to copy.
pub(super) struct Spliced<'s>(&'s [u8]);

impl Length for Spliced<'_> {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl<'s> ChunkReader for Spliced<'s> {
    type T = &'s [u8];

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let start = usize::try_from(start).ok().and_then(|start| self.0.get(start..));
        start.ok_or_else(|| ParquetError::EOF("a chunk ends before its first page".to_owned()))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let bytes = self.get_read(start)?;
        let bytes = bytes.get(..length).ok_or_else(|| ParquetError::EOF("a chunk ends too soon".to_owned()))?;
        Ok(Bytes::copy_from_slice(bytes))
    }
}

/// Returns statistics of a column of `physical` type from bounds as Parquet writes them.
pub(super) fn statistics(physical: Type, bounds: Option<Bounds>, nulls: u64) -> Option<Statistics> {
    let (least, greatest) = bounds.unzip();
    let nulls = Some(nulls);
    let four = |bytes: Vec<u8>| <[u8; 4]>::try_from(bytes).ok();
    let eight = |bytes: Vec<u8>| <[u8; 8]>::try_from(bytes).ok();
    Some(match physical {
        Type::INT32 => {
            let value = |bytes| four(bytes).map(i32::from_le_bytes);
            Statistics::int32(least.and_then(value), greatest.and_then(value), None, nulls, false)
        }
        Type::INT64 => {
            let value = |bytes| eight(bytes).map(i64::from_le_bytes);
            Statistics::int64(least.and_then(value), greatest.and_then(value), None, nulls, false)
        }
        Type::DOUBLE => {
            let value = |bytes| eight(bytes).map(f64::from_le_bytes);
            Statistics::double(least.and_then(value), greatest.and_then(value), None, nulls, false)
        }
        Type::BYTE_ARRAY => Statistics::byte_array(least.map(Into::into), greatest.map(Into::into), None, nulls, false),
        Type::BOOLEAN => Statistics::boolean(None, None, None, nulls, false),
        Type::FIXED_LEN_BYTE_ARRAY => Statistics::fixed_len_byte_array(None, None, None, nulls, false),
        _ => return None,
    })
}

//! Pages and what is said of them: headers, compression, offsets, bounds.
//!
//! *Layout.* A chunk is its dictionary page, where it has one, and its data pages of the first version, each behind a header in
//! Thrift's compact protocol, which has the CRC-32 of the page. Every page is a frame of zstd with a checksum of what is in it, so that
//! readers that look at no CRC meet damage all the same. Whether it pays to compress is tried on the dictionary and on the first data
//! page of a chunk; where it does not, frames hold the bytes as they are.
//!
//! *Source.* <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>, RFC 8878 (frames of zstd).

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, PageType, Type, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder, PageEncodingStats};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use twox_hash::XxHash64;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use super::Effort;
use super::bits::{varint, zigzag};

/// A page of fewer bytes is not worth compressing.
const TINY: usize = 64;

/// What is kept from one column to the next, so that it is not made anew.
pub(super) struct Scratch {
    compressor: Compressor<'static>,
    worth: usize,
    compressed: Vec<u8>,
    /// The chunk under construction.
    bytes: Vec<u8>,
    /// The page under construction.
    page: Vec<u8>,
}

impl Scratch {
    pub(super) fn new(effort: Effort) -> Result<Self> {
        let external = |problem| ParquetError::External(Box::new(problem));
        let mut compressor = Compressor::new(effort.level).map_err(external)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(external)?;
        Ok(Self { compressor, worth: effort.worth, compressed: Vec::new(), bytes: Vec::new(), page: Vec::new() })
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
    worth: usize,
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
    fn begin(
        (compressor, worth): (&'s mut Compressor<'static>, usize),
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
            worth,
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

    /// Fills `compressed` with `body` as a frame, compressed where that pays.
    fn frame(&mut self, body: &[u8], kind: PageType) -> Result<()> {
        self.compressed.clear();
        let known = match kind {
            // A chunk that is all one value may know what is to be done; texts are not what their numbers are.
            PageType::DICTIONARY_PAGE => self.compress.filter(|compress| !compress),
            _ => self.compress,
        };
        let try_it = known.unwrap_or(body.len() >= TINY);
        if try_it {
            self.compressed.reserve(zstd::zstd_safe::compress_bound(body.len()));
            let outcome = self.compressor.compress_to_buffer(body, self.compressed);
            outcome.map_err(|e| ParquetError::External(Box::new(e)))?;
            let pays = known.is_some() || self.compressed.len() + body.len() / self.worth < body.len();
            if kind == PageType::DATA_PAGE {
                self.compress = Some(pays);
            }
            if pays {
                return Ok(());
            }
            self.compressed.clear();
        } else if kind == PageType::DATA_PAGE {
            self.compress = Some(false);
        }
        stored(body, self.compressed);
        Ok(())
    }

    fn write(&mut self, body: &[u8], kind: PageType, values: usize, encoding: Encoding) -> Result<(usize, usize)> {
        self.frame(body, kind)?;
        let size = |bytes: usize| {
            i32::try_from(bytes).map_err(|_| ParquetError::General(format!("a page of {bytes} bytes is too large")))
        };
        let sizes = (size(body.len())?, size(self.compressed.len())?);
        let begin = self.bytes.len();
        header(kind, sizes, crc32fast::hash(self.compressed), size(values)?, encoding, self.bytes);
        let header = self.bytes.len() - begin;
        self.bytes.extend_from_slice(self.compressed);
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
        let mut encodings: Vec<Encoding> = self.encodings.iter().map(|known| known.encoding).collect();
        encodings.push(Encoding::RLE);
        let mut metadata = ColumnChunkMetaData::builder(self.descriptor)
            .set_encodings(encodings)
            .set_page_encoding_stats(self.encodings)
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
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
        let chunk = Chunk::begin(
            (&mut self.compressor, self.worth),
            buffers,
            ColumnDescPtr::clone(descriptor),
            bounded,
            compress,
        );
        self.page.clear();
        (chunk, &mut self.page)
    }
}

/// Appends a page header: `PageHeader` with its `DataPageHeader` or `DictionaryPageHeader`.
fn header(kind: PageType, (plain, stored): (i32, i32), crc: u32, values: i32, encoding: Encoding, out: &mut Vec<u8>) {
    const I32: u8 = 5;
    const STRUCT: u8 = 12;
    let number = |skip: u8, value: i32, out: &mut Vec<u8>| {
        out.push(skip << 4 | I32);
        varint(zigzag(i64::from(value)), out);
    };
    number(1, kind as i32, out);
    number(1, plain, out);
    number(1, stored, out);
    number(1, crc as i32, out);
    match kind {
        PageType::DICTIONARY_PAGE => {
            out.push(3 << 4 | STRUCT);
            number(1, values, out);
            number(1, encoding as i32, out);
        }
        _ => {
            out.push(1 << 4 | STRUCT);
            number(1, values, out);
            number(1, encoding as i32, out);
            number(1, Encoding::RLE as i32, out);
            number(1, Encoding::RLE as i32, out);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Appends a frame of zstd that holds `body` as it is.
fn stored(body: &[u8], out: &mut Vec<u8>) {
    const MAGIC: u32 = 0xFD2F_B528;
    /// One segment, with a checksum; then the length of what is in it, in one byte or in four.
    const DESCRIPTOR: u8 = 1 << 5 | 1 << 2;
    const FOUR: u8 = 2 << 6;
    const BLOCK: usize = 128 << 10;
    out.reserve(body.len() + body.len() / BLOCK * 3 + 16);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    match u8::try_from(body.len()) {
        Ok(length) => out.extend_from_slice(&[DESCRIPTOR, length]),
        Err(_) => {
            out.push(DESCRIPTOR | FOUR);
            out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        }
    }
    let mut rest = body;
    loop {
        let (block, behind) = rest.split_at(rest.len().min(BLOCK));
        // Whether it is the last, that it is stored as it is, its length.
        let header = u32::from(behind.is_empty()) | (block.len() as u32) << 3;
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    out.extend_from_slice(&(XxHash64::oneshot(0, body) as u32).to_le_bytes());
}

/// The bytes of a chunk, for the file to copy.
pub(super) struct Spliced<'s>(&'s [u8]);

impl Spliced<'_> {
    /// Returns a copy.
    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.0)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_worth_compressing_is_a_frame_that_zstd_reads_and_checks() {
        for length in [0, 1, 63, 255, 256, 70_000, 128 << 10, (128 << 10) + 1, 400_000] {
            let body: Vec<u8> = (0..length).map(|at: u32| (at.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect();
            let mut frame = Vec::new();
            stored(&body, &mut frame);
            assert_eq!(zstd::bulk::decompress(&frame, body.len()).expect("a frame"), body, "{length} bytes");
            if let Some(byte) = frame.iter_mut().rev().nth(4) {
                *byte ^= 1;
                assert!(zstd::bulk::decompress(&frame, body.len()).is_err(), "{length} bytes, one of them damaged");
            }
        }
    }
}

//! A segment as the Parquet decoder reads it: ranges of its bytes, and its footer.
//!
//! *Invariants.* A footer that is kept belongs to the file of its path: segments never change, and paths are never used again.
//!
//! *Cost.* A system call for each range, on the thread that decodes: handing a read to another thread and waiting for it takes
//! longer than copying it from the page cache, where most of it is.

use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileMetrics;
use datafusion::datasource::physical_plan::parquet::CachedParquetMetaData;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use futures::FutureExt;
use futures::future::BoxFuture;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use plimsoll_store::{SegmentRead, Snapshot};

use super::repeated;

/// Reads one segment.
pub(crate) struct SegmentReader {
    file: PartitionedFile,
    snapshot: Snapshot,
    opened: OnceLock<Arc<dyn SegmentRead>>,
    footers: Arc<FileMetadataCache>,
    footer_bytes: usize,
    metrics: ParquetFileMetrics,
}

impl SegmentReader {
    pub(super) fn new(
        file: PartitionedFile,
        snapshot: Snapshot,
        footers: Arc<FileMetadataCache>,
        footer_bytes: usize,
        metrics: ParquetFileMetrics,
    ) -> Self {
        Self { file, snapshot, opened: OnceLock::new(), footers, footer_bytes, metrics }
    }

    /// Returns the file, opened once.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn opened(&self) -> io::Result<&Arc<dyn SegmentRead>> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let file = &self.file.object_meta;
        let opened = self.snapshot.open(file.location.as_ref(), file.size)?;
        Ok(self.opened.get_or_init(|| opened))
    }

    /// Returns its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.object_meta.size
    }

    /// Returns where it is counted what is read.
    pub(crate) fn metrics(&self) -> &ParquetFileMetrics {
        &self.metrics
    }

    fn range(&self, range: &Range<u64>) -> Result<Bytes> {
        let external = |error: io::Error| ParquetError::External(Box::new(error));
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|_| ParquetError::General("a range is longer than memory".to_owned()))?;
        self.metrics.bytes_scanned.add(length);
        self.opened().map_err(external)?.read_at(range.start, length).map_err(external)
    }

    /// Returns the footer with its page index, read once and kept.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) async fn footer(&mut self) -> Result<Arc<ParquetMetaData>> {
        let meta = self.file.object_meta.clone();
        if let Some(kept) = self.footers.get(&meta.location)
            && kept.is_valid_for(&meta)
            && let Some(kept) = kept.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>()
        {
            return Ok(Arc::clone(kept.parquet_metadata()));
        }
        let read = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(self.footer_bytes))
            .load_and_finish(&mut *self, meta.size)
            .await?;
        let footer = Arc::new(repeated::as_dictionaries(read)?);
        let kept = CachedParquetMetaData::new(Arc::clone(&footer));
        self.footers.put(&meta.location.clone(), CachedFileMetadataEntry::new(meta, Arc::new(kept)));
        Ok(footer)
    }
}

impl AsyncFileReader for SegmentReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        std::future::ready(self.range(&range)).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        std::future::ready(ranges.iter().map(|range| self.range(range)).collect()).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        self.footer().boxed()
    }
}

impl Drop for SegmentReader {
    fn drop(&mut self) {
        self.metrics.scan_efficiency_ratio.add_part(self.metrics.bytes_scanned.value());
        self.metrics.scan_efficiency_ratio.set_total(usize::try_from(self.file.object_meta.size).unwrap_or(usize::MAX));
    }
}

//! Which segments a query has opened, and which of them is damaged when reading fails.
//!
//! What a decoder says about bytes does not say where they came from. So each opening is noted, and after a failure the
//! segments opened are read through once more, latest first, until one of them fails by itself.
//!
//! *Cost.* A lock and a path for each opening of a segment; nothing for its rows.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use object_store::ObjectStore;
use parking_lot::Mutex;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_reader::AsyncFileReader;
use plimsoll_catalog::SegmentRecord;

use super::attributes::Promoted;

/// Bytes read from the end of a segment at once: footers are smaller than this.
pub(super) const FOOTER_BYTES: usize = 64 << 10;

/// Opens the segments that one query reads, and notes them.
pub(crate) struct Reads {
    inner: CachedParquetFileReaderFactory,
    opened: Mutex<Vec<PartitionedFile>>,
}

impl Reads {
    /// Makes the reader of a query that reads from `files`.
    pub(crate) fn new(files: Arc<dyn ObjectStore>, metadata_cache: Arc<FileMetadataCache>) -> Arc<Self> {
        let inner = CachedParquetFileReaderFactory::new(files, metadata_cache);
        Arc::new(Self { inner, opened: Mutex::default() })
    }

    /// Returns which of `keys` have a column of their own in a segment; its footer is read once and kept.
    pub(super) async fn promoted(&self, segment: &SegmentRecord, keys: &[String]) -> Result<Promoted> {
        let file = PartitionedFile::new(segment.path.clone(), segment.bytes);
        let mut reader = self.create_reader(0, file, Some(FOOTER_BYTES), &ExecutionPlanMetricsSet::new())?;
        let metadata = reader.get_metadata(None).await?;
        Ok(Promoted::of(metadata.file_metadata().schema_descr(), keys))
    }

    /// Returns the path of the first damaged segment, and what is wrong with it.
    pub(crate) async fn damaged(&self) -> Option<(String, DataFusionError)> {
        let mut opened = self.opened.lock().clone();
        opened.reverse();
        let mut seen = HashSet::new();
        opened.retain(|file| seen.insert(file.object_meta.location.clone()));
        for file in opened {
            let path = file.object_meta.location.to_string();
            if let Err(error) = self.read(file).await {
                return Some((path, error));
            }
        }
        None
    }

    /// Reads a segment through.
    async fn read(&self, file: PartitionedFile) -> Result<()> {
        let reader: Box<dyn AsyncFileReader> =
            self.inner.create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?;
        let mut rows = ParquetRecordBatchStreamBuilder::new(reader).await?.build()?;
        while let Some(batch) = rows.next().await {
            batch?;
        }
        Ok(())
    }
}

impl ParquetFileReaderFactory for Reads {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        self.opened.lock().push(file.clone());
        self.inner.create_reader(partition, file, metadata_size_hint, metrics)
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("opened", &self.opened.lock().len()).finish_non_exhaustive()
    }
}

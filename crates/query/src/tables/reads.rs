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
use datafusion::datasource::physical_plan::parquet::ParquetAccessPlan;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::DataFusionError;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::StreamExt;
use parking_lot::Mutex;
use parquet::arrow::ParquetRecordBatchStreamBuilder;
use parquet::arrow::async_reader::AsyncFileReader;
use plimsoll_catalog::SegmentRecord;
use plimsoll_store::Snapshot;

use super::attributes::Promoted;
use super::lookups::{self, Lookups};
use super::segment_reader::SegmentReader;
use crate::error::QueryError;

/// Bytes read from the end of a segment at once: footers are smaller than this.
pub(super) const FOOTER_BYTES: usize = 64 << 10;

/// Rows of a segment from which on it is worth to share it out among threads.
const CUT_ROWS: u64 = 100_000;

/// Opens the segments that one query reads, and notes them.
pub(crate) struct Reads {
    snapshot: Snapshot,
    footers: Arc<FileMetadataCache>,
    opened: Mutex<Vec<PartitionedFile>>,
    /// Set where the query answers without the segments that cannot be read.
    verified: Option<Arc<Verified>>,
    left_out: Mutex<Vec<String>>,
}

/// Segments that were read through once and found whole; they never change.
#[derive(Debug, Default)]
pub(crate) struct Verified(Mutex<HashSet<String>>);

/// Paths that are remembered as whole.
const VERIFIED_MAX: usize = 100_000;

impl Reads {
    /// Makes the reader of a query over `snapshot`, which keeps `footers`; with `verified`, of one that does without what cannot
    /// be read.
    pub(crate) fn new(
        snapshot: Snapshot,
        footers: Arc<FileMetadataCache>,
        verified: Option<Arc<Verified>>,
    ) -> Arc<Self> {
        Arc::new(Self { snapshot, footers, opened: Mutex::default(), verified, left_out: Mutex::default() })
    }

    /// Returns the paths of the segments that were left out, in order.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let mut paths = self.left_out.lock().clone();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Takes it that rows of `missing` are needed and cannot be had: leaves them out where that is wanted.
    ///
    /// # Errors
    /// It is not, and there is one.
    pub(crate) fn without(&self, missing: &[SegmentRecord]) -> Result<(), QueryError> {
        match missing.first() {
            None => Ok(()),
            Some(_) if self.verified.is_some() => {
                self.left_out.lock().extend(missing.iter().map(|segment| segment.path.clone()));
                Ok(())
            }
            Some(first) => Err(QueryError::missing(&first.path)),
        }
    }

    /// Keeps the segments that can be read, where the query does without the others; keeps all where it does not.
    ///
    /// *Cost.* Where it does, each segment is read through once in the life of the engine.
    pub(crate) async fn readable(&self, segments: Vec<SegmentRecord>) -> Vec<SegmentRecord> {
        let Some(verified) = &self.verified else { return segments };
        let mut kept = Vec::with_capacity(segments.len());
        for segment in segments {
            let path = segment.path.clone();
            if verified.0.lock().contains(&path) {
                kept.push(segment);
                continue;
            }
            match self.read(PartitionedFile::new(path.clone(), segment.bytes)).await {
                Ok(()) => {
                    let mut known = verified.0.lock();
                    if known.len() >= VERIFIED_MAX {
                        known.clear();
                    }
                    known.insert(path);
                    kept.push(segment);
                }
                Err(_) => self.left_out.lock().push(path),
            }
        }
        kept
    }

    /// Returns which of `keys` have a column of their own in a segment; its footer is read once and kept.
    pub(super) async fn promoted(&self, segment: &SegmentRecord, keys: &[String]) -> Result<Promoted> {
        let file = PartitionedFile::new(segment.path.clone(), segment.bytes);
        let mut reader = self.reader(0, file, &ExecutionPlanMetricsSet::new());
        let named = |problem| QueryError::damaged(&segment.path, &DataFusionError::from(problem));
        let metadata = reader.get_metadata(None).await.map_err(named)?;
        Ok(Promoted::of(metadata.file_metadata().schema_descr(), keys))
    }

    /// Returns how the row groups of a segment that may hold rows are shared out: those that `lookups` leave, or all of them where
    /// `cut`; an empty list is the whole segment at once, and `None` is none of it.
    pub(super) async fn plans(
        &self,
        segment: &SegmentRecord,
        lookups: &Lookups,
        cut: bool,
        threads: usize,
    ) -> Result<Option<Vec<ParquetAccessPlan>>> {
        if lookups.is_empty() && (!cut || threads < 2 || segment.rows < CUT_ROWS) {
            return Ok(Some(Vec::new()));
        }
        let file = PartitionedFile::new(segment.path.clone(), segment.bytes);
        let mut reader = self.open(file, &ExecutionPlanMetricsSet::new());
        let named = |problem| QueryError::damaged(&segment.path, &problem);
        let footer = reader.footer().await.map_err(|problem| named(DataFusionError::from(problem)))?;
        let count = footer.num_row_groups();
        if lookups.is_empty() {
            let all: Vec<usize> = (0..count).collect();
            return Ok(Some(if count < 2 { Vec::new() } else { lookups::plans(&all, count, threads) }));
        }
        let groups = reader
            .opened()
            .and_then(|file| lookups.groups(file.as_ref(), &footer))
            .map_err(|problem| named(DataFusionError::IoError(problem)))?;
        let plans = lookups::plans(&groups, count, threads);
        Ok(if plans.is_empty() { None } else { Some(plans) })
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

    /// Opens a segment to be read in parts, and notes it.
    pub(crate) fn open(&self, file: PartitionedFile, metrics: &ExecutionPlanMetricsSet) -> SegmentReader {
        self.opened.lock().push(file.clone());
        self.reader(0, file, metrics)
    }

    fn reader(&self, partition: usize, file: PartitionedFile, metrics: &ExecutionPlanMetricsSet) -> SegmentReader {
        let metrics = ParquetFileMetrics::new(partition, file.object_meta.location.as_ref(), metrics);
        SegmentReader::new(file, self.snapshot.clone(), Arc::clone(&self.footers), FOOTER_BYTES, metrics)
    }

    /// Reads a segment through: all that has a checksum, and then all rows.
    async fn read(&self, file: PartitionedFile) -> Result<()> {
        // As large as a segment may be: not on a thread that others wait for.
        let (snapshot, path, bytes) =
            (self.snapshot.clone(), file.object_meta.location.to_string(), file.object_meta.size);
        tokio::task::spawn_blocking(move || snapshot.check(&path, bytes))
            .await
            .map_err(|ended| DataFusionError::External(Box::new(ended)))??;
        let reader = self.reader(0, file, &ExecutionPlanMetricsSet::new());
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
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        self.opened.lock().push(file.clone());
        Ok(Box::new(self.reader(partition, file, metrics)))
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("opened", &self.opened.lock().len()).finish_non_exhaustive()
    }
}

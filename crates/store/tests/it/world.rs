//! A store with its surroundings: catalog, clock, a fold that counts, files that fail when told to.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray, UInt32Array, UInt64Array,
    new_empty_array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Int64Type, TimestampNanosecondType, UInt64Type};
use bytes::Bytes;
use object_store::ObjectStore;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plimsoll_catalog::{Catalog, SqliteCatalog};
use plimsoll_model::{SequenceNumber, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_store::{
    Clock, Fold, LocalFiles, Published, SegmentFile, SegmentFiles, SegmentRead, Snapshot, Store, StoreOptions,
};

use crate::rows::{Multiset, count, nth};

/// Everything that outlives one run of the store.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) options: StoreOptions,
    pub(crate) now: Arc<AtomicU64>,
    pub(crate) files: Arc<Moody>,
    pub(crate) trimmed: Arc<AtomicU64>,
    /// How many catalogs were forgotten.
    pub(crate) forgotten: u32,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("segments");
        let options = StoreOptions {
            root: root.clone(),
            tail_bytes_flush: usize::MAX,
            encoder_bytes: usize::MAX,
            encoders: 2,
            tail_age_flush: Duration::from_secs(1_000_000),
            retention: Duration::from_secs(100_000_000),
            retention_rules: Vec::new(),
            disk_bytes_max: u64::MAX,
            disk_reserve_bytes: 0,
        };
        Self {
            directory,
            options,
            now: Arc::new(AtomicU64::new(1_700_000_000_000_000_000)),
            files: Arc::new(Moody::new(root)),
            trimmed: Arc::default(),
            forgotten: 0,
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.options.root
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }

    pub(crate) async fn catalog(&self) -> Arc<dyn Catalog> {
        let name = format!("catalog-{}.sqlite", self.forgotten);
        Arc::new(SqliteCatalog::open(self.directory.path().join(name)).await.expect("the catalog opens"))
    }

    pub(crate) async fn open(&self) -> Store {
        let catalog = self.catalog().await;
        self.open_with(catalog).await
    }

    pub(crate) async fn open_with(&self, catalog: Arc<dyn Catalog>) -> Store {
        let files = Arc::clone(&self.files) as Arc<dyn SegmentFiles>;
        let trimmed = Arc::clone(&self.trimmed);
        let trim = Box::new(move |at: SequenceNumber| trimmed.store(at.0, Ordering::SeqCst));
        Store::open_with(self.options.clone(), files, catalog, Box::<Counting>::default(), trim, self.clock())
            .await
            .expect("the store opens")
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.now);
        Arc::new(move || UnixNanos(now.load(Ordering::SeqCst)))
    }

    /// Reads everything that a snapshot shows of a table.
    pub(crate) fn rows(&self, snapshot: &Snapshot, table: Table) -> Multiset {
        let mut rows = Multiset::new();
        snapshot.tail(table).iter().for_each(|batch| count(&mut rows, batch));
        for segment in snapshot.segments(table) {
            self.segment(&segment.path).iter().for_each(|batch| count(&mut rows, batch));
        }
        rows
    }

    /// Reads a segment's rows, and holds the columns of attribute keys against the map that they are copies of.
    pub(crate) fn segment(&self, path: &str) -> Vec<RecordBatch> {
        let file = std::fs::File::open(self.root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").build().expect("readable");
        reader.map(|batch| stored(&batch.expect("readable"))).collect()
    }

    /// Requests counted by the fold, over tail and segments.
    pub(crate) fn requests(&self, snapshot: &Snapshot) -> u64 {
        let segments = snapshot.segments(Table::Operations);
        let stored = segments.iter().flat_map(|segment| self.segment(&segment.path));
        snapshot.tail(Table::Operations).into_iter().chain(stored).map(|batch| requests(&batch)).sum()
    }
}

/// Returns the columns of the table, after a look at those behind them.
fn stored(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let copies = |at: &usize| schema.field(*at).name().starts_with("attributes.");
    let (copies, own): (Vec<usize>, Vec<usize>) = (0..schema.fields().len()).partition(copies);
    for at in copies {
        let key = &schema.field(at).name()["attributes.".len()..];
        let texts = arrow::compute::cast(batch.column(at), &DataType::Utf8).expect("integers and text are text");
        assert_eq!(texts.as_string::<i32>(), &first(batch, key), "`{key}`");
    }
    batch.project(&own).expect("the columns are there")
}

/// The text of the first entry of `key` in each row's attributes.
pub(crate) fn first(batch: &RecordBatch, key: &str) -> StringArray {
    let map = batch.column_by_name("attributes").expect("a column").as_map();
    let row = |row: usize| -> Option<String> {
        let entries = map.value(row);
        let keys = arrow::compute::cast(entries.column(0), &DataType::Utf8).expect("keys are text");
        let (keys, values) = (keys.as_string::<i32>(), entries.column(1).as_string::<i32>());
        let at = (0..entries.len()).find(|at| keys.value(*at) == key)?;
        values.is_valid(at).then(|| values.value(at).to_owned())
    };
    (0..map.len()).map(row).collect()
}

/// Publishes frames `from..to`, a few at a time.
pub(crate) fn publish(store: &Store, from: u64, to: u64) {
    let frames: Vec<u64> = (from..to).collect();
    for group in frames.chunks(3) {
        store.publish(group.iter().map(|sequence| nth(*sequence)).collect());
    }
}

/// The rows of frames `1..to` of a table.
pub(crate) fn expected(table: Table, to: u64) -> Multiset {
    let mut rows = Multiset::new();
    for sequence in 1..to {
        let frame = nth(sequence);
        if frame.signal.table() == table {
            count(&mut rows, &frame.batch);
        }
    }
    rows
}

/// The number of rows in frames `1..to`.
pub(crate) fn expected_requests(to: u64) -> u64 {
    (1..to).map(|sequence| nth(sequence).batch.num_rows() as u64).sum()
}

fn requests(batch: &RecordBatch) -> u64 {
    let column = batch.column_by_name("requests").expect("a column").as_primitive::<UInt64Type>();
    column.values().iter().sum()
}

/// Makes one row of `operations` a frame, with its rows as requests.
#[derive(Default)]
pub(crate) struct Counting {
    frames: Vec<(u64, u64)>,
    last: u64,
}

impl Counting {
    fn rows(&self, table: Table) -> Option<RecordBatch> {
        if self.frames.is_empty() {
            return None;
        }
        let rows = self.frames.len();
        let columns = table.schema().fields().iter().map(|field| -> ArrayRef {
            if field.is_nullable() {
                return new_null_array(field.data_type(), rows);
            }
            match (field.name().as_str(), field.data_type()) {
                ("requests", _) => Arc::new(UInt64Array::from_iter_values(self.frames.iter().map(|f| f.1))),
                (_, DataType::Timestamp(..)) => {
                    let times = self.frames.iter().map(|frame| crate::rows::BASE + frame.0 as i64);
                    Arc::new(PrimitiveArray::<TimestampNanosecondType>::from_iter_values(times).with_timezone("UTC"))
                }
                (name, DataType::Utf8) => Arc::new(StringArray::from_iter_values((0..rows).map(|_| name))),
                (_, DataType::UInt32) => Arc::new(UInt32Array::from(vec![0; rows])),
                (_, DataType::UInt64) => Arc::new(UInt64Array::from(vec![0; rows])),
                (_, DataType::Int64) => Arc::new(PrimitiveArray::<Int64Type>::from(vec![0; rows])),
                (_, DataType::List(item)) => Arc::new(ListArray::new(
                    Arc::clone(item),
                    OffsetBuffer::from_lengths(vec![0; rows]),
                    new_empty_array(item.data_type()),
                    None,
                )),
                (name, other) => panic!("`{name}` has a type that is not made yet: {other}"),
            }
        });
        Some(RecordBatch::try_new(Arc::clone(table.schema()), columns.collect()).expect("columns fit"))
    }
}

impl Fold for Counting {
    fn fold(&mut self, rows: &Published) {
        assert!(rows.sequence.0 > self.last, "frames come once and in order");
        self.last = rows.sequence.0;
        self.frames.push((rows.sequence.0, rows.batch.num_rows() as u64));
    }

    fn pending(&self) -> Vec<(Table, RecordBatch)> {
        let of = |table| Some((table, self.rows(table)?));
        [Table::Operations, Table::Signals].into_iter().filter_map(of).collect()
    }

    fn take(&mut self) -> Vec<(Table, RecordBatch)> {
        let rows = self.pending();
        self.frames.clear();
        rows
    }
}

/// Local files that fail at a chosen step, and lie about free space.
pub(crate) struct Moody {
    files: LocalFiles,
    /// Steps left until every further one fails; negative means never.
    steps: Arc<AtomicI64>,
    /// The failure is a full disk.
    pub(crate) full: Arc<AtomicBool>,
    pub(crate) free: AtomicU64,
    /// Opening a segment panics.
    pub(crate) mad: AtomicBool,
}

impl Moody {
    fn new(root: PathBuf) -> Self {
        Self {
            files: LocalFiles::new(root).expect("a directory"),
            steps: Arc::new(AtomicI64::new(-1)),
            full: Arc::default(),
            free: AtomicU64::new(u64::MAX),
            mad: AtomicBool::new(false),
        }
    }

    /// Lets `steps` calls succeed and fails every one after.
    pub(crate) fn fail_after(&self, steps: i64) {
        self.steps.store(steps, Ordering::SeqCst);
    }

    pub(crate) fn behave(&self) {
        self.fail_after(-1);
        self.full.store(false, Ordering::SeqCst);
    }
}

fn step(steps: &AtomicI64, full: &AtomicBool) -> io::Result<()> {
    if full.load(Ordering::SeqCst) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    match steps.load(Ordering::SeqCst) {
        left if left < 0 => Ok(()),
        0 => Err(io::Error::other("told to fail")),
        left => {
            steps.store(left - 1, Ordering::SeqCst);
            Ok(())
        }
    }
}

impl SegmentFiles for Moody {
    fn create(&self, path: &str) -> io::Result<Box<dyn SegmentFile>> {
        step(&self.steps, &self.full)?;
        let file = self.files.create(path)?;
        Ok(Box::new(MoodyFile { file, steps: Arc::clone(&self.steps), full: Arc::clone(&self.full) }))
    }

    fn read(&self, path: &str) -> io::Result<Bytes> {
        self.files.read(path)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn SegmentRead>> {
        assert!(!self.mad.load(Ordering::SeqCst), "told to panic");
        self.files.open(path)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        step(&self.steps, &self.full)?;
        self.files.remove(path)
    }

    fn recover(&self) -> io::Result<Vec<(String, u64)>> {
        self.files.recover()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }

    fn reader(&self) -> Arc<dyn ObjectStore> {
        self.files.reader()
    }
}

struct MoodyFile {
    file: Box<dyn SegmentFile>,
    steps: Arc<AtomicI64>,
    full: Arc<AtomicBool>,
}

impl Write for MoodyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step(&self.steps, &self.full)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl SegmentFile for MoodyFile {
    fn commit(self: Box<Self>) -> io::Result<u64> {
        step(&self.steps, &self.full)?;
        let bytes = self.file.commit()?;
        // The file is there; its writer hears that it is not.
        step(&self.steps, &self.full)?;
        Ok(bytes)
    }
}

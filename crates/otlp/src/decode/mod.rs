//! Export requests off the wire, pushed into Arrow builders in one pass.
//!
//! *Rules.* A request whose bytes are not well-formed is refused whole. A well-formed record that cannot be stored (ids of
//! the wrong length, times past 2262) is left out and counted, and the others are taken. Unknown fields are skipped. Where a
//! field that may occur once occurs again, the last counts; parts of a `Resource`, an `InstrumentationScope`, a `Status` or
//! a histogram's `Buckets` are merged as protobuf has it.
//!
//! *Cost.* Every byte is read once and copied once; no allocation per record: columns are made as large as requests before
//! this one say ([`sizes`]), and grow where it differs.

mod attributes;
mod builder;
mod check;
mod columns;
mod convention;
mod exemplars;
mod heads;
mod ids;
mod keys;
mod logs;
mod metrics;
mod points;
mod remembered;
mod shared;
mod sizes;
mod span_parts;
mod spans;
mod taking;
mod walk;

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampNanosecondArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use plimsoll_model::UnixNanos;

use crate::Signal;
use crate::nested::{slot_bytes, utc};
use crate::proto::{logs_request, metrics_request, trace_request};
use crate::wire::Reader;

pub use builder::{Pushed, RowBuilder};
use columns::NotUtf8;
use taking::Leave;
use walk::Open;

/// The longest request that is read.
pub const REQUEST_BYTES_MAX: usize = 256 << 20;

/// The most rows that one request may become, events, links and exemplars counted.
///
/// An empty record is two bytes on the wire and two hundred and more in memory: without this, a request of the largest size could
/// become gigabytes. Exporters send thousands.
pub const REQUEST_ROWS_MAX: usize = 1 << 18;

/// The most that the records of one request may hold together of what is smaller than they are: attributes, counts and bounds of buckets,
/// quantiles.
///
/// A count of a bucket is one byte on the wire, eight in memory and four dozen while it is encoded.
pub const REQUEST_PARTS_MAX: usize = 1 << 21;

/// The most parts that a resource, a scope or the data of a metric may come in, and the most metadata that a metric may have.
///
/// They are noted until the message that they are in has ended, for thirty-two bytes where an empty one has two on the wire. Encoders write one
/// part; protobuf lets them write more.
pub const MESSAGE_PARTS_MAX: usize = 1 << 12;

/// How much text of metrics a request may give its rows, as a multiple of its size, beside that, and at all.
///
/// A metric's name, description, unit and metadata stand once on the wire, and readers see them in every row of its points: without
/// this, a name of a mebibyte over a million points of two bytes would become a tebibyte.
const REPEATED_MAX: (usize, usize, usize) = (16, 1 << 20, 64 << 20);

/// What one export request became.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Which signal the request carried.
    pub signal: Signal,
    /// The accepted records, in the stored schema of [`Signal::table`]; may have no rows.
    pub batch: RecordBatch,
    /// Records left out, and why: what `partial_success` says.
    pub rejected: Rejected,
}

/// Records of a request that were left out while the others were taken, or taken without something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rejected {
    /// How many were left out.
    pub count: u64,
    /// How many were taken without an id that cannot be stored.
    pub without_id: u64,
    /// Why the first of them was left out, or else what the first was taken without; empty where there are none.
    pub reason: String,
}

impl Rejected {
    fn add(&mut self, reason: String) {
        if self.count == 0 {
            self.reason = reason;
        }
        self.count += 1;
    }

    /// Counts one that is taken without an id.
    #[cold]
    fn without_id(&mut self, reason: String) {
        if self.count + self.without_id == 0 {
            self.reason = reason;
        }
        self.without_id += 1;
    }
}

/// Why a whole request was refused: its bytes are not the message they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {message} at byte {offset}: {problem}", if *.is_too_large { "too large" } else { "malformed" })]
pub struct DecodeError {
    /// The message being read, for instance `Span`.
    pub message: &'static str,
    /// Offset into the request.
    pub offset: usize,
    /// What is wrong, in words.
    pub problem: String,
    /// Well-formed as far as it was read, and more than is taken at once.
    pub is_too_large: bool,
    /// The same, and no more than may be taken at all: see [`decode_within`].
    pub is_beyond: bool,
}

/// Decodes one protobuf export request, as it came off the wire, into rows.
///
/// Reading the same bytes with the same `received` always gives the same rows, so that a replayed request becomes what
/// it was.
///
/// # Errors
/// The bytes are not a well-formed request. Nothing of it may be acknowledged.
pub fn decode(signal: Signal, request: &[u8], received: UnixNanos) -> std::result::Result<Decoded, DecodeError> {
    decode_within(signal, request, received, usize::MAX)
}

/// The same, unless the rows turn out to take more than about `bytes`.
///
/// # Errors
/// As [`decode`]; and [`DecodeError::is_beyond`] as soon as the rows are known to take more.
pub fn decode_within(
    signal: Signal,
    request: &[u8],
    received: UnixNanos,
    bytes: usize,
) -> std::result::Result<Decoded, DecodeError> {
    let reader = request_reader(signal, request)?;
    let most = Most::within(signal, bytes);
    let (columns, rejected) = match signal {
        Signal::Traces => alone::<spans::Spans>(reader, received, most),
        Signal::Logs => alone::<logs::Logs>(reader, received, most),
        Signal::Metrics => alone::<metrics::Metrics>(reader, received, most),
    }
    .map_err(|error| *error)?;
    let batch = RecordBatch::try_new(signal.table().schema().clone(), columns)
        .expect("the columns are built in the order and of the types of the schema");
    Ok(Decoded { signal, batch, rejected })
}

/// Reads a request into columns of its own.
fn alone<R: walk::Records>(
    request: Reader<'_>,
    received: UnixNanos,
    most: Most,
) -> crate::wire::Result<(Vec<ArrayRef>, Rejected)> {
    let mut open = Open::<R>::default();
    let rejected = open.read_alone(request, received.as_i64(), most)?;
    let columns = open.finish(Leave::Nothing).map_err(|NotUtf8| not_text(request))?;
    Ok((columns, rejected))
}

fn request_reader(signal: Signal, request: &[u8]) -> std::result::Result<Reader<'_>, DecodeError> {
    let message = match signal {
        Signal::Traces => &trace_request::MESSAGE,
        Signal::Logs => &logs_request::MESSAGE,
        Signal::Metrics => &metrics_request::MESSAGE,
    };
    let reader = Reader::new(request, message);
    if request.len() > REQUEST_BYTES_MAX {
        let problem =
            format!("the request has {} bytes, more than the {REQUEST_BYTES_MAX} that are read", request.len());
        return Err(*reader.too_large(problem));
    }
    Ok(reader)
}

/// Finds the string of a request that is not UTF-8.
#[cold]
fn not_text(request: Reader<'_>) -> Box<DecodeError> {
    match check::check(request) {
        Err(error) => error,
        Ok(()) => request.error(0, "a string is not valid UTF-8".to_owned()),
    }
}

/// What a column's slots of one row take together, by signal.
static ROW_BYTES: LazyLock<[usize; Signal::ALL.len()]> = LazyLock::new(|| {
    Signal::ALL.map(|signal| {
        let fields = signal.table().schema().fields().iter();
        // A byte where a value may be null.
        fields.map(|field| slot_bytes(field.data_type()) + usize::from(field.is_nullable())).sum()
    })
});

/// What an attribute or a number in a list takes beside its text.
const PART_BYTES: usize = 8;

/// How much a request may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    rows: usize,
    parts: usize,
}

impl Default for Most {
    fn default() -> Self {
        Self { rows: REQUEST_ROWS_MAX, parts: REQUEST_PARTS_MAX }
    }
}

impl Most {
    /// As much as takes no more than about `bytes`, within what any request may become.
    fn within(signal: Signal, bytes: usize) -> Self {
        let Self { rows, parts } = Self::default();
        Self { rows: rows.min(bytes / ROW_BYTES[signal as usize]), parts: parts.min(bytes / PART_BYTES) }
    }

    /// The same behind what others became that share the columns.
    fn behind(self, rows: usize, parts: usize) -> Self {
        let most = Self::default();
        Self { rows: most.rows.min(self.rows + rows), parts: most.parts.min(self.parts + parts) }
    }
}

/// Refuses a request that holds too many records, as soon as it is known.
#[inline(always)]
fn check_rows(reader: &Reader<'_>, rows: usize, most: Most) -> crate::wire::Result<()> {
    if rows <= most.rows {
        return Ok(());
    }
    Err(too_many(reader, rows, most.rows, REQUEST_ROWS_MAX, "records"))
}

/// Refuses a request whose records hold too much, as soon as it is known.
#[inline(always)]
fn check_parts(reader: &Reader<'_>, parts: usize, most: Most) -> crate::wire::Result<()> {
    if parts <= most.parts {
        return Ok(());
    }
    Err(too_many(reader, parts, most.parts, REQUEST_PARTS_MAX, "attributes, buckets and quantiles"))
}

#[cold]
fn too_many(reader: &Reader<'_>, count: usize, most: usize, of_all: usize, what: &str) -> Box<DecodeError> {
    let mut error = reader.too_large(format!("the request holds more than {most} {what}; send smaller batches"));
    error.is_beyond = count <= of_all;
    error
}

/// Refuses a request whose text would take too much once it stands in every row that it is of.
fn check_repeated(reader: &Reader<'_>, request: usize, repeated: usize) -> crate::wire::Result<()> {
    let (times, beside, at_all) = REPEATED_MAX;
    let most = request.saturating_mul(times).saturating_add(beside).min(at_all);
    if repeated <= most {
        return Ok(());
    }
    let problem = format!(
        "the names, descriptions, units and metadata of the metrics would take {repeated} bytes on all their points, more than the \
         {most} that a request of {request} bytes may become; shorten them or send fewer points in a request"
    );
    Err(reader.too_large(problem))
}

/// The instant as a timestamp column has it, or `None` where it is past 2262.
#[inline(always)]
fn stored_time(nanos: u64) -> Option<i64> {
    i64::try_from(nanos).ok()
}

fn too_late(field: &str, nanos: u64) -> String {
    format!("`{field}` is {nanos}, which is past the year 2262; times are nanoseconds since 1970")
}

fn timestamps(values: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::new(ScalarBuffer::from(values), None).with_timezone(utc()))
}

fn int64s(values: Vec<i64>) -> ArrayRef {
    Arc::new(Int64Array::new(ScalarBuffer::from(values), None))
}

fn uint32s(values: Vec<u32>) -> ArrayRef {
    Arc::new(UInt32Array::new(ScalarBuffer::from(values), None))
}

//! One set of columns for many requests: what makes a batch of hundreds of rows of dozens of small requests.
//!
//! *Why.* A table has some forty columns, and making them, weighing them, putting them behind one another and freeing them costs the
//! same for one row as for a thousand. Small requests pay more for columns than for records, unless they share them.
//!
//! *Invariants.*
//! - The rows are those that [`decode`](super::decode) makes of each request alone, in the order of the requests.
//! - A request that fails, and one in the midst of which the decoder panics, leaves nothing behind: no row, no name, no resource.
//! - Text is checked request by request, so that one that is not UTF-8 fails the request that it is in and no other.
//!
//! *Cost.* Beside what its records cost: a mark, a check of what text there is, and a look-up of each resource and scope. Taking the
//! rows copies every column once, as large as it has to be; the room stays, so that columns do not grow anew.

use arrow::array::RecordBatch;
use plimsoll_model::UnixNanos;

use super::columns::NotUtf8;
use super::logs::Logs;
use super::metrics::Metrics;
use super::spans::Spans;
use super::taking::Leave;
use super::walk::{Mark, Open, Records};
use super::{DecodeError, Most, PART_BYTES, ROW_BYTES, Rejected, not_text, request_reader};
use crate::Signal;
use crate::wire::{Reader, Result};

/// Room that stays once rows are taken, where nothing else was said.
const ROOM_BYTES: usize = 512 << 10;

/// Of the room, one part in so many is for what is remembered of resources from batch to batch.
const REMEMBERED: usize = 4;

/// Columns of one signal that requests are decoded into one after another, until they are taken as one batch.
pub struct RowBuilder {
    signal: Signal,
    columns: Columns,
    row_bytes: usize,
    /// Bytes of the requests that the rows are of, and of the text that they have copies of.
    bytes: usize,
    room_bytes: usize,
}

/// What a request became in a [`RowBuilder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its rows, behind those of the requests before it.
    pub rows: usize,
    /// About how many bytes they take: see [`RowBuilder::bytes`].
    pub bytes: usize,
    /// Records left out of it.
    pub rejected: Rejected,
}

enum Columns {
    Spans(Box<Open<Spans>>),
    Logs(Box<Open<Logs>>),
    Metrics(Box<Open<Metrics>>),
}

/// Runs an expression for whichever columns these are.
macro_rules! each {
    ($columns:expr, $open:ident => $work:expr) => {
        match $columns {
            Columns::Spans($open) => $work,
            Columns::Logs($open) => $work,
            Columns::Metrics($open) => $work,
        }
    };
}

impl Columns {
    /// Makes empty columns of which `room_bytes` may stay once rows are taken.
    fn new(signal: Signal, room_bytes: usize) -> Self {
        let remembered = room_bytes / REMEMBERED;
        match signal {
            Signal::Traces => Self::Spans(Box::new(Open::joined(remembered))),
            Signal::Logs => Self::Logs(Box::new(Open::joined(remembered))),
            Signal::Metrics => Self::Metrics(Box::new(Open::joined(remembered))),
        }
    }
}

impl RowBuilder {
    /// Makes empty columns.
    pub fn new(signal: Signal) -> Self {
        let row_bytes = ROW_BYTES[signal as usize];
        Self { signal, columns: Columns::new(signal, ROOM_BYTES), row_bytes, bytes: 0, room_bytes: ROOM_BYTES }
    }

    /// Keeps room of at most `bytes` once rows are taken. For empty columns.
    #[must_use]
    pub fn with_room(self, bytes: usize) -> Self {
        Self { room_bytes: bytes, columns: Columns::new(self.signal, bytes), ..self }
    }

    /// Returns which signal's requests it takes.
    pub fn signal(&self) -> Signal {
        self.signal
    }

    /// Returns how many rows there are.
    pub fn rows(&self) -> usize {
        each!(&self.columns, open => open.rows())
    }

    /// Returns about how many bytes the rows take: what is in a slot of every column, as many bytes of text as were
    /// on the wire, what attributes and lists of numbers take beside that, and what a metric's metadata takes on each of its points.
    pub fn bytes(&self) -> usize {
        self.rows() * self.row_bytes + self.bytes
    }

    /// Decodes one request behind those before it, as [`decode`](super::decode) does.
    ///
    /// # Errors
    /// The bytes are not a well-formed request: nothing of it is left.
    pub fn push(&mut self, request: &[u8], received: UnixNanos) -> std::result::Result<Pushed, DecodeError> {
        self.push_within(request, received, usize::MAX)
    }

    /// The same, unless the rows of this request turn out to take more than about `bytes`, as [`decode_within`](super::decode_within) does.
    ///
    /// # Errors
    /// As [`Self::push`]; and [`DecodeError::is_beyond`] as soon as the rows are known to take more.
    pub fn push_within(
        &mut self,
        request: &[u8],
        received: UnixNanos,
        bytes: usize,
    ) -> std::result::Result<Pushed, DecodeError> {
        let reader = request_reader(self.signal, request)?;
        let most = Most::within(self.signal, bytes);
        let read = each!(&mut self.columns, open => push(open, reader, received, most)).map_err(|error| *error)?;
        let Read { rows, parts, copied, rejected } = read;
        let text = if rows > 0 { request.len() + PART_BYTES * parts + copied } else { 0 };
        self.bytes += text;
        Ok(Pushed { rows, bytes: rows * self.row_bytes + text, rejected })
    }

    /// Takes all rows as one batch in the stored schema, and begins again.
    pub fn take(&mut self) -> RecordBatch {
        // Columns that grow have up to twice what they need.
        let large = 2 * self.bytes() > self.room_bytes - self.room_bytes / REMEMBERED;
        let columns = each!(&mut self.columns, open => open.finish(Leave::Room));
        let columns =
            columns.unwrap_or_else(|NotUtf8| unreachable!("the text of every request was checked as it ended"));
        self.bytes = 0;
        if large {
            self.columns = Columns::new(self.signal, self.room_bytes);
        }
        RecordBatch::try_new(self.signal.table().schema().clone(), columns)
            .expect("the columns are built in the order and of the types of the schema")
    }
}

impl std::fmt::Debug for RowBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowBuilder").field("signal", &self.signal).field("rows", &self.rows()).finish_non_exhaustive()
    }
}

/// What there is of a request that was read.
struct Read {
    rows: usize,
    /// Attributes and items of lists.
    parts: usize,
    /// Bytes of text that the rows have and the request has not.
    copied: usize,
    rejected: Rejected,
}

fn push<R: Records>(open: &mut Open<R>, request: Reader<'_>, received: UnixNanos, most: Most) -> Result<Read> {
    let mark = open.mark();
    let before = (open.rows(), open.parts());
    let most = most.behind(open.rows() + open.nested_rows(), open.parts());
    let mut attempt = Attempt { open, mark, kept: false };
    let copied = attempt.open.read(request, received.as_i64(), most)?;
    let rejected = attempt.open.keep(mark).map_err(|NotUtf8| not_text(request))?;
    attempt.kept = true;
    let (rows, parts) = (attempt.open.rows() - before.0, attempt.open.parts() - before.1);
    Ok(Read { rows, parts, copied, rejected })
}

/// A request being read: cut off again unless it was kept, whatever ended it.
struct Attempt<'a, R: Records> {
    open: &'a mut Open<R>,
    mark: Mark,
    kept: bool,
}

impl<R: Records> Drop for Attempt<'_, R> {
    fn drop(&mut self) {
        if !self.kept {
            self.open.cut(self.mark);
        }
    }
}

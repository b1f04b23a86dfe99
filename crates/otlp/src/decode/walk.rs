//! The levels that all three signals share: request, resource, scope, records.

use arrow::array::ArrayRef;

use super::columns::NotUtf8;
use super::shared::{Resources, Scopes};
use super::sizes::{Learned, Sizes};
use super::taking::{Leave, Taking};
use super::{MESSAGE_PARTS_MAX, Most, Rejected, check_parts, check_rows, timestamps};
use crate::proto::{Message, resource, resource_spans, scope, scope_spans, trace_request};
use crate::value::Room;
use crate::wire::{Reader, Result};

/// The tables' own columns, filled record by record.
///
/// What a request pushed behind the `rows` that were there before it can be checked, kept or cut off.
pub(super) trait Records: Default {
    /// `ResourceSpans` or its like. Its fields have the same numbers in all signals, and so have those below.
    const RESOURCE_LEVEL: &'static Message;
    /// `ScopeSpans` or its like.
    const SCOPE_LEVEL: &'static Message;
    /// `Span` or its like.
    const RECORD: &'static Message;

    /// What requests of this signal become.
    const LEARNED: &'static Learned;

    /// Makes empty columns that many requests are to share.
    fn joined() -> Self {
        Self::default()
    }

    /// Makes room for what is expected.
    fn reserve(&mut self, expected: Sizes);

    /// Returns what there is.
    fn sizes(&self) -> Sizes;

    /// Returns how many rows there are.
    fn rows(&self) -> usize;

    /// Returns how many rows there are in nested lists: events, links, exemplars.
    fn nested_rows(&self) -> usize;

    /// Returns how many attributes there are, and items of lists of numbers.
    fn parts(&self) -> usize;

    /// Reads one record of a request received at this instant.
    fn push<'a>(&mut self, record: Reader<'a>, received: i64, scratch: &mut Scratch<'a>) -> Result<()>;

    /// Takes what was left out.
    fn rejected(&mut self) -> Rejected;

    /// Says whether what the present request pushed is text where it has to be.
    fn is_text(&self, rows: usize) -> bool;

    /// Ends the present request: what it pushed stays.
    fn keep(&mut self);

    /// Drops what the present request pushed.
    fn cut(&mut self, rows: usize);

    /// Appends the columns behind the common ones, in the order of the schema.
    fn finish(&mut self, columns: &mut Vec<ArrayRef>, taking: &mut Taking) -> std::result::Result<(), NotUtf8>;
}

/// Messages that are read when the one that they are in has ended; of each kind [`MESSAGE_PARTS_MAX`] at the most.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    resource: Vec<Reader<'a>>,
    scope: Vec<Reader<'a>>,
    /// Parts of a metric.
    pub(super) metadata: Vec<Reader<'a>>,
    pub(super) data: Vec<Reader<'a>>,
    /// Bytes of the request.
    pub(super) request: usize,
    /// Bytes of the text that it gives every row of its metrics, and of that part which is copied for each: metadata.
    pub(super) repeated: usize,
    pub(super) copied: usize,
    /// What is left for the text of its values.
    pub(super) room: Room,
}

/// Takes one more part of a message that is read when the one that it is in has ended.
#[inline]
pub(super) fn collect<'a>(parts: &mut Vec<Reader<'a>>, part: Reader<'a>) -> Result<()> {
    if parts.len() == MESSAGE_PARTS_MAX {
        let problem = format!("the message that it is in holds more than {MESSAGE_PARTS_MAX} of its kind; send fewer");
        return Err(part.too_large(problem));
    }
    parts.push(part);
    Ok(())
}

/// All columns of a table, filled request by request.
#[derive(Default)]
pub(super) struct Open<R> {
    received: Vec<i64>,
    resources: Resources,
    scopes: Scopes,
    records: R,
}

/// How much there was when a request began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    rows: usize,
    resources: usize,
    scopes: usize,
}

impl<R: Records> Open<R> {
    /// Makes empty columns that many requests are to share, and that remember resources in so many bytes.
    pub(super) fn joined(remembered_bytes: usize) -> Self {
        Self {
            resources: Resources::joined(remembered_bytes),
            scopes: Scopes::joined(),
            records: R::joined(),
            received: Vec::new(),
        }
    }

    /// Returns how many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.records.rows()
    }

    /// Returns how many rows there are in nested lists.
    pub(super) fn nested_rows(&self) -> usize {
        self.records.nested_rows()
    }

    /// Returns what the rows hold that is smaller than they are: see [`Records::parts`].
    pub(super) fn parts(&self) -> usize {
        self.records.parts()
    }

    /// Returns where the next request begins.
    pub(super) fn mark(&self) -> Mark {
        Mark { rows: self.records.rows(), resources: self.resources.len(), scopes: self.scopes.len() }
    }

    /// Pushes a request that has the columns to itself.
    pub(super) fn read_alone(&mut self, request: Reader<'_>, received: i64, most: Most) -> Result<Rejected> {
        let bytes = request.rest().len();
        let expected = R::LEARNED.expect(bytes);
        let (rows, entries) = (expected.rows.min(most.rows), expected.entries.min(most.parts));
        self.records.reserve(Sizes { rows, entries, ..expected });
        self.read(request, received, most)?;
        R::LEARNED.learn(bytes, self.records.sizes());
        Ok(self.records.rejected())
    }

    /// Pushes a request, with which there are to be `most` rows and parts; what there is of one that fails is to be cut off. Returns how many bytes
    /// of text its rows have copies of.
    pub(super) fn read(&mut self, mut request: Reader<'_>, received: i64, most: Most) -> Result<usize> {
        let mut scratch = Scratch { request: request.rest().len(), room: Room::within(most), ..Scratch::default() };
        while let Some(tag) = request.tag()? {
            match tag {
                trace_request::RESOURCES => {
                    self.read_resource(request.message(R::RESOURCE_LEVEL)?, received, &mut scratch)?;
                }
                other => request.skip(other)?,
            }
        }
        self.received.resize(self.records.rows(), received);
        Ok(scratch.copied)
    }

    /// Ends a request that was read: its rows stay, unless they hold what is not text. Returns what was left out of it.
    pub(super) fn keep(&mut self, mark: Mark) -> std::result::Result<Rejected, NotUtf8> {
        // Names and versions of scopes were read as text.
        if !self.records.is_text(mark.rows) || !self.resources.is_text(mark.resources) {
            return Err(NotUtf8);
        }
        let rejected = self.records.rejected();
        if self.rows() > mark.rows {
            self.records.keep();
            self.resources.keep();
        } else {
            // Names and resources that no row has would stay for as long as no other request comes, and nobody counts them.
            self.cut(mark);
        }
        Ok(rejected)
    }

    /// Drops what was pushed since.
    pub(super) fn cut(&mut self, mark: Mark) {
        self.received.truncate(mark.rows);
        self.resources.cut(mark.rows, mark.resources);
        self.scopes.cut(mark.rows, mark.scopes);
        self.records.cut(mark.rows);
    }

    /// Returns all columns in the order of the schema.
    pub(super) fn finish(&mut self, leave: Leave) -> std::result::Result<Vec<ArrayRef>, NotUtf8> {
        let mut columns = Vec::with_capacity(48);
        let mut taking = Taking::new(leave);
        columns.push(timestamps(taking.take(&mut self.received)));
        self.resources.finish(&mut columns, &taking)?;
        self.scopes.finish(&mut columns, &taking)?;
        self.records.finish(&mut columns, &mut taking)?;
        Ok(columns)
    }

    fn read_resource<'a>(&mut self, mut level: Reader<'a>, received: i64, scratch: &mut Scratch<'a>) -> Result<()> {
        loop {
            let from = level.offset();
            let Some(tag) = level.tag()? else { break };
            match tag {
                resource_spans::SCOPES => {
                    self.read_scope(level.message(R::SCOPE_LEVEL)?, received, scratch)?;
                    continue;
                }
                resource_spans::RESOURCE => collect(&mut scratch.resource, level.message(&resource::MESSAGE)?)?,
                resource_spans::SCHEMA_URL => drop(level.text("schemaUrl")?),
                other => level.skip(other)?,
            }
            self.resources.keep_field(level.since(from));
        }
        self.resources.end(self.records.rows(), &mut scratch.resource, &mut scratch.room)
    }

    fn read_scope<'a>(&mut self, mut level: Reader<'a>, received: i64, scratch: &mut Scratch<'a>) -> Result<()> {
        loop {
            let from = level.offset();
            let Some(tag) = level.tag()? else { break };
            match tag {
                scope_spans::RECORDS => {
                    self.records.push(level.message(R::RECORD)?, received, scratch)?;
                    check_rows(&level, self.records.rows() + self.records.nested_rows(), scratch.room.most)?;
                    check_parts(&level, self.records.parts(), scratch.room.most)?;
                    continue;
                }
                scope_spans::SCOPE => collect(&mut scratch.scope, level.message(&scope::MESSAGE)?)?,
                scope_spans::SCHEMA_URL => drop(level.text("schemaUrl")?),
                other => level.skip(other)?,
            }
            self.scopes.keep(level.since(from));
        }
        self.scopes.end(self.records.rows(), &mut scratch.scope)
    }
}

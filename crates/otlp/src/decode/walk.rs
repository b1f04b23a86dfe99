//! The levels that all three signals share: request, resource, scope, records.

use arrow::array::ArrayRef;
use plimsoll_model::UnixNanos;

use super::columns::NotUtf8;
use super::shared::{Resources, Scopes};
use super::sizes::{Learned, Sizes};
use super::{Rejected, check_rows, timestamps};
use crate::proto::{Message, resource, resource_spans, scope, scope_spans, trace_request};
use crate::wire::{Reader, Result};

/// The tables' own columns, filled record by record.
pub(super) trait Records<'a> {
    /// `ResourceSpans` or its like. Its fields have the same numbers in all signals, and so have those below.
    const RESOURCE_LEVEL: &'static Message;
    /// `ScopeSpans` or its like.
    const SCOPE_LEVEL: &'static Message;
    /// `Span` or its like.
    const RECORD: &'static Message;

    /// What requests of this signal become.
    const LEARNED: &'static Learned;

    /// Makes empty columns for a request received at this instant.
    fn new(received: i64) -> Self;

    /// Makes room for what is expected.
    fn reserve(&mut self, expected: Sizes);

    /// Returns what there is.
    fn sizes(&self) -> Sizes;

    /// Returns how many rows there are.
    fn rows(&self) -> usize;

    /// Returns how many rows there are in nested lists: events, links, exemplars.
    fn nested_rows(&self) -> usize;

    /// Reads one record.
    fn push(&mut self, record: Reader<'a>) -> Result<()>;

    /// Appends the columns behind the common ones, in the order of the schema.
    fn finish(self, columns: &mut Vec<ArrayRef>) -> std::result::Result<Rejected, NotUtf8>;
}

type Columns = std::result::Result<Vec<ArrayRef>, NotUtf8>;

/// Reads a request and returns all columns of its table.
pub(super) fn decode<'a, R: Records<'a>>(mut request: Reader<'a>, received: UnixNanos) -> Result<(Columns, Rejected)> {
    let bytes = request.rest().len();
    let mut records = R::new(received.as_i64());
    records.reserve(R::LEARNED.expect(bytes));
    let mut resources = Resources::default();
    let mut scopes = Scopes::default();
    while let Some(tag) = request.tag()? {
        match tag {
            trace_request::RESOURCES => {
                let message = request.message(R::RESOURCE_LEVEL)?;
                read_resource(message, &mut records, &mut resources, &mut scopes)?;
            }
            other => request.skip(other)?,
        }
    }
    let rows = records.rows();
    R::LEARNED.learn(bytes, records.sizes());
    let finish = || {
        let mut columns = vec![timestamps(vec![received.as_i64(); rows])];
        columns.extend(resources.finish()?);
        columns.extend(scopes.finish()?);
        let rejected = records.finish(&mut columns)?;
        Ok((columns, rejected))
    };
    Ok(match finish() {
        Ok((columns, rejected)) => (Ok(columns), rejected),
        Err(NotUtf8) => (Err(NotUtf8), Rejected::default()),
    })
}

fn read_resource<'a, R: Records<'a>>(
    mut level: Reader<'a>,
    records: &mut R,
    resources: &mut Resources<'a>,
    scopes: &mut Scopes<'a>,
) -> Result<()> {
    loop {
        let from = level.offset();
        let Some(tag) = level.tag()? else { break };
        match tag {
            resource_spans::SCOPES => {
                read_scope(level.message(R::SCOPE_LEVEL)?, records, scopes)?;
                continue;
            }
            resource_spans::RESOURCE => resources.part(level.message(&resource::MESSAGE)?),
            resource_spans::SCHEMA_URL => drop(level.text("schemaUrl")?),
            other => level.skip(other)?,
        }
        resources.keep(level.since(from));
    }
    resources.end(records.rows())
}

fn read_scope<'a, R: Records<'a>>(mut level: Reader<'a>, records: &mut R, scopes: &mut Scopes<'a>) -> Result<()> {
    loop {
        let from = level.offset();
        let Some(tag) = level.tag()? else { break };
        match tag {
            scope_spans::RECORDS => {
                records.push(level.message(R::RECORD)?)?;
                check_rows(&level, records.rows() + records.nested_rows())?;
                continue;
            }
            scope_spans::SCOPE => scopes.part(level.message(&scope::MESSAGE)?),
            scope_spans::SCHEMA_URL => drop(level.text("schemaUrl")?),
            other => level.skip(other)?,
        }
        scopes.keep(level.since(from));
    }
    scopes.end(records.rows())
}

//! One part of a flush, step by step: cut, write, commit, swap, trim.
//!
//! *Invariants.* A step that fails leaves every row where readers see it, and the next attempt takes up from there:
//! before the commit the rows are still in the tail and the files are removed; a commit that failed is tried again with the
//! very same change, since it may have happened all the same.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::errors::ParquetError;
use plimsoll_catalog::{SegmentChange, SegmentRecord};
use plimsoll_model::{SegmentId, SequenceNumber};
use plimsoll_otlp::Table;

use crate::chunk::Crew;
use crate::encode::{EncodedSegment, encode_with};
use crate::error::StoreError;
use crate::files::SegmentFile;
use crate::layout::path;
use crate::shared::Shared;
use crate::tail::TailList;
use crate::view::{LiveSegment, View};
use crate::written::Costs;

/// A flush whose files are durable and which the catalog may or may not know.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) change: SegmentChange,
    pub(crate) checkpoint: SequenceNumber,
    /// How many of the batches that the fold gave up are in it.
    taken: usize,
}

/// Numbers segments within this process, so that no two have one id.
pub(crate) type SegmentCount = u32;

/// Names a new segment. Frames and count make it distinct from others sealed in the same millisecond.
pub(crate) fn segment_id(shared: &Shared, table: Table, last: SequenceNumber, count: &mut SegmentCount) -> SegmentId {
    *count = count.wrapping_add(1);
    let entropy = (u128::from(last.0) << 32) | (u128::from(*count & 0x00FF_FFFF) << 8) | table.name().len() as u128;
    SegmentId::new((shared.clock)(), entropy)
}

/// Writes everything up to a cut into files. `None` where there is nothing to do.
pub(crate) fn seal(
    shared: &Shared,
    checkpoint: SequenceNumber,
    crew: &mut Crew,
    costs: &mut Costs,
    count: &mut SegmentCount,
) -> Result<Option<Sealed>, StoreError> {
    let view = shared.view.load_full();
    let taken = view.taken.iter().take_while(|taken| taken.last <= checkpoint).count();
    if checkpoint <= view.checkpoint && taken == 0 {
        return Ok(None);
    }
    let mut parts: Vec<(Table, Vec<&RecordBatch>, SequenceNumber)> = Vec::new();
    let mut bytes = 0;
    for (table, tail) in view.tails() {
        let flushed: Vec<_> = tail.iter().take_while(|batch| batch.rows.last <= checkpoint).collect();
        bytes += flushed.iter().map(|batch| batch.bytes).sum::<u64>();
        if let Some(first) = flushed.first() {
            parts.push((table, flushed.iter().map(|batch| &batch.rows.batch).collect(), first.rows.sequence));
        }
    }
    for table in [Table::Operations, Table::Signals] {
        let rows = view.taken.iter().take(taken).filter(|taken| taken.table == table).map(|taken| &taken.rows);
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            parts.push((table, rows, view.checkpoint.next().min(checkpoint)));
        }
    }
    let mut change = SegmentChange { checkpoint: Some(checkpoint), ..SegmentChange::default() };
    let sealed_at = (shared.clock)();
    let files = format!("{checkpoint}/{}", parts.len());
    let rows = |batches: &[&RecordBatch]| batches.iter().map(|batch| batch.num_rows()).sum();
    let mut progress =
        costs.begin(&shared.written, bytes, parts.iter().map(|(table, batches, _)| (*table, rows(batches))));
    for (table, batches, first) in parts {
        let id = segment_id(shared, table, checkpoint, count);
        let facts = [("plimsoll.flush", files.clone())];
        let written = write_file(shared, table, id, (first, checkpoint), &facts, |facts, out| {
            encode_with(crew, table, &batches, sealed_at, facts, out, &mut |at, rows, took| {
                progress.column(table, at, rows, took);
            })
        });
        match written {
            Ok(record) => change.add.push(record),
            Err(problem) => {
                shared.written.end();
                for written in &change.add {
                    // Best effort: what is left is removed at the next opening.
                    let _ = shared.files.remove(&written.path);
                }
                return Err(problem);
            }
        }
    }
    Ok(Some(Sealed { change, checkpoint, taken }))
}

/// Writes one durable file with what `encode` writes, given the facts that belong into its footer.
pub(crate) fn write_file(
    shared: &Shared,
    table: Table,
    id: SegmentId,
    frames: (SequenceNumber, SequenceNumber),
    facts: &[(&str, String)],
    encode: impl FnOnce(&[(&str, String)], &mut (dyn Write + Send)) -> Result<EncodedSegment, ParquetError>,
) -> Result<SegmentRecord, StoreError> {
    let created_at = (shared.clock)();
    let path = path(table, &id, created_at);
    let failed = |source: io::Error| StoreError::Io { path: path.clone(), source };
    let mut facts = facts.to_vec();
    facts.push(("plimsoll.frames", format!("{}-{}", frames.0, frames.1)));
    facts.push(("plimsoll.sealed_at", created_at.0.to_string()));
    let mut file = shared.files.create(&path).map_err(failed)?;
    let mut out = Output { file: file.as_mut(), failure: None };
    let encoded = match encode(&facts, &mut out) {
        Ok(encoded) => encoded,
        Err(problem) => {
            return Err(match out.failure {
                Some(source) => failed(source),
                None => unreadable(&path, &problem),
            });
        }
    };
    let bytes = file.commit().map_err(failed)?;
    Ok(SegmentRecord {
        id,
        table: table.name().to_owned(),
        path,
        rows: encoded.rows,
        bytes,
        times: encoded.times,
        received_to: encoded.received_to,
        frames,
        created_at,
    })
}

pub(crate) fn unreadable(path: &str, problem: &ParquetError) -> StoreError {
    StoreError::Segment { path: path.to_owned(), problem: problem.to_string() }
}

/// Keeps what the file said, which Parquet would turn into text.
struct Output<'a> {
    file: &'a mut dyn SegmentFile,
    failure: Option<io::Error>,
}

impl Output<'_> {
    fn keep<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|problem| {
            let kind = problem.kind();
            self.failure = Some(problem);
            io::Error::from(kind)
        })
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.file.write(bytes);
        self.keep(outcome)
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = self.file.flush();
        self.keep(outcome)
    }
}

/// Takes the flushed rows out of the tail and shows their segments, in one swap.
pub(crate) fn show(shared: &Shared, sealed: &Sealed) {
    shared.change(|view| {
        for table in Table::ALL {
            let Some(tail) = view.tail_mut(table) else { continue };
            let rest: TailList = tail.iter().filter(|batch| batch.rows.last > sealed.checkpoint).cloned().collect();
            *tail = rest;
        }
        view.taken = Arc::new(view.taken.iter().skip(sealed.taken).cloned().collect());
        view.checkpoint = view.checkpoint.max(sealed.checkpoint);
        apply(shared, view, &sealed.change);
    });
    shared.written.end();
}

/// Adds and removes segments as the catalog did.
pub(crate) fn apply(shared: &Shared, view: &mut View, change: &SegmentChange) {
    let removed: HashSet<&SegmentId> = change.remove.iter().collect();
    for table in Table::ALL {
        let mut segments = view.segments(table).as_ref().clone();
        segments.retain(|segment| {
            let goes = removed.contains(&segment.record.id);
            if goes {
                segment.retire();
            }
            !goes
        });
        let added = change.add.iter().filter(|record| record.table == table.name());
        segments.extend(added.map(|record| LiveSegment::new(record.clone(), Arc::clone(&shared.garbage))));
        segments.sort_by(|a, b| (a.record.frames.0, &a.record.id).cmp(&(b.record.frames.0, &b.record.id)));
        view.set_segments(table, segments);
    }
}

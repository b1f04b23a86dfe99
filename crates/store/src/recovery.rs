//! What opening does about files and catalog that disagree.
//!
//! | found | done |
//! |---|---|
//! | unfinished file | removed: its rows are still in the journal |
//! | file that the catalog does not name | removed: likewise, or it was retired or merged |
//! | segment whose file is missing or cut short | said loudly, left out of queries, kept in the catalog: it counts again once the file is back |
//! | files, and a catalog that is new | taken into it ([`adopt`]) |

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use plimsoll_catalog::{Catalog, SegmentChange, SegmentRecord};
use plimsoll_model::{Interval, SegmentId, SequenceNumber, UnixNanos};
use plimsoll_otlp::Table;

use crate::error::StoreError;
use crate::files::{SegmentFiles, SegmentRead};
use crate::flush::unreadable;
use crate::status::StoreStatus;
use crate::sums::Checked;

/// What is left to work with.
pub(crate) struct Recovered {
    pub(crate) live: Vec<SegmentRecord>,
    pub(crate) missing: Vec<SegmentRecord>,
    pub(crate) checkpoint: SequenceNumber,
    pub(crate) counters: StoreStatus,
}

pub(crate) async fn recover(
    root: &str,
    files: &dyn SegmentFiles,
    catalog: &dyn Catalog,
) -> Result<Recovered, StoreError> {
    let found = files.recover().map_err(|source| StoreError::Io { path: root.to_owned(), source })?;
    let mut counters = StoreStatus::default();
    let mut known = catalog.segments().await?;
    let mut checkpoint = catalog.checkpoint().await?;
    if known.is_empty() && checkpoint == SequenceNumber::ZERO && !found.is_empty() {
        let change = adopt(files, &found)?;
        catalog.commit_segments(change.clone()).await?;
        counters.adopted_segments = change.add.len() as u64;
        tracing::warn!(segments = change.add.len(), "the catalog is new: segments on disk were taken into it");
        checkpoint = change.checkpoint.unwrap_or(checkpoint);
        known = change.add;
    }

    let sizes: HashMap<&str, u64> = found.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
    let named: HashSet<&str> = known.iter().map(|record| record.path.as_str()).collect();
    for (path, _) in &found {
        if !named.contains(path.as_str()) {
            counters.orphan_files += 1;
            if let Err(problem) = files.remove(path) {
                tracing::warn!(path, error = %problem, "file that no segment needs could not be removed");
            }
        }
    }
    let (mut live, mut missing) = (Vec::new(), Vec::new());
    for record in &known {
        let problem = match sizes.get(record.path.as_str()) {
            None => "its file is missing",
            Some(bytes) if *bytes != record.bytes => "its file has another size",
            Some(_) if Table::parse(&record.table).is_none() => "its table is unknown to this release",
            Some(_) => {
                live.push(record.clone());
                continue;
            }
        };
        tracing::error!(
            path = record.path,
            rows = record.rows,
            problem,
            "segment cannot be read; put its file back and restart"
        );
        counters.missing_segments += 1;
        counters.missing_rows += record.rows;
        missing.push(record.clone());
    }
    Ok(Recovered { live, missing, checkpoint, counters })
}

/// Says how a new catalog takes in the segments on disk: their footers hold what it would have known.
///
/// The newest flush may have been interrupted before it was committed. It is left out unless all of its files are there, and
/// its rows come from the journal; so do files that a merge replaced.
fn adopt(files: &dyn SegmentFiles, found: &[(String, u64)]) -> Result<SegmentChange, StoreError> {
    let mut footers = Vec::new();
    for (path, bytes) in found {
        match footer(files, path, *bytes) {
            Ok(footer) => footers.push(footer),
            // Removing it would be worse than stopping: nothing else holds its rows.
            Err(problem) => return Err(problem),
        }
    }
    let replaced: HashSet<String> = footers.iter().flat_map(|footer| footer.replaces.clone()).collect();
    footers.retain(|footer| !replaced.contains(footer.record.id.as_str()));
    if let Some((newest, expected)) = footers.iter().filter_map(|footer| footer.flush).max() {
        let there = footers.iter().filter(|footer| footer.flush == Some((newest, expected))).count();
        // What a merge took in was committed, and its files are gone.
        let merged =
            footers.iter().filter(|footer| footer.flush.is_none()).map(|footer| footer.record.frames.1.0).max();
        if (there as u64) < expected && merged.is_none_or(|last| last < newest) {
            footers.retain(|footer| footer.flush != Some((newest, expected)));
        }
    }
    let checkpoint = footers.iter().map(|footer| footer.record.frames.1).max();
    Ok(SegmentChange { add: footers.into_iter().map(|footer| footer.record).collect(), remove: Vec::new(), checkpoint })
}

struct Footer {
    record: SegmentRecord,
    /// Checkpoint of the flush that wrote it, and how many files that had; merged segments have none.
    flush: Option<(u64, u64)>,
    replaces: Vec<String>,
}

fn footer(files: &dyn SegmentFiles, path: &str, bytes: u64) -> Result<Footer, StoreError> {
    let failed = |source| StoreError::Io { path: path.to_owned(), source };
    let content = files.read(path).map_err(failed)?;
    // The last byte is compared with the whole footer around it.
    let checked = Checked::new(Arc::new(content.clone()), content.len() as u64);
    checked.read_at((content.len() as u64).saturating_sub(1), content.len().min(1)).map_err(failed)?;
    let reader = SerializedFileReader::new(content).map_err(|e| unreadable(path, &e))?;
    let metadata = reader.metadata().file_metadata();
    let facts: HashMap<&str, &str> = metadata
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter_map(|fact| Some((fact.key.as_str(), fact.value.as_deref()?)))
        .collect();
    let pair = |name: &str, separator: char| -> Option<(u64, u64)> {
        let (one, other) = facts.get(name)?.split_once(separator)?;
        Some((one.parse().ok()?, other.parse().ok()?))
    };
    let number = |name: &str| facts.get(name).and_then(|text| text.parse::<u64>().ok());
    let stem = path.rsplit('/').next().and_then(|name| name.strip_suffix(".parquet"));
    let record = (|| {
        let times = pair("plimsoll.times", '-')?;
        let frames = pair("plimsoll.frames", '-')?;
        Some(SegmentRecord {
            id: SegmentId::from_text(stem?),
            table: Table::parse(facts.get("plimsoll.table")?)?.name().to_owned(),
            path: path.to_owned(),
            rows: u64::try_from(metadata.num_rows()).ok()?,
            bytes,
            times: Interval { from: UnixNanos(times.0), to: UnixNanos(times.1) },
            received_to: UnixNanos(number("plimsoll.received_to")?),
            frames: (SequenceNumber(frames.0), SequenceNumber(frames.1)),
            created_at: UnixNanos(number("plimsoll.sealed_at")?),
        })
    })();
    let Some(record) = record else {
        let problem = "its footer is not that of a segment; move the file out of the store".to_owned();
        return Err(StoreError::Segment { path: path.to_owned(), problem });
    };
    let replaces = facts.get("plimsoll.replaces").map(|ids| ids.split(',').map(str::to_owned).collect());
    Ok(Footer { record, flush: pair("plimsoll.flush", '/'), replaces: replaces.unwrap_or_default() })
}

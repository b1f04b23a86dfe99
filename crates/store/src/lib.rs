//! Tail, Parquet segments, compaction, retention and snapshots.
//!
//! Rows are published into the *tail* (Arrow batches in memory, also in the journal) and flushed into *segments* (sorted
//! Parquet files, named by the catalog). Readers take a [`Snapshot`] of both, without a lock.
//!
//! | file | owns |
//! |---|---|
//! | `store` | [`Store`]: opening, publishing, flushing, closing |
//! | `reading` | a whole segment back, without SQL |
//! | `recovery` | what opening does about files and catalog that disagree |
//! | `view` | what readers see: one immutable value, swapped whole; [`Snapshot`] |
//! | `tail` | the batches of a table that are not in segments yet |
//! | `folding` | the thread that folds every published batch, once and in order |
//! | `maintain` | the thread that flushes, coalesces, merges and retires |
//! | `priority` | whose turn it is on a core |
//! | `flush`, `written` | one flush, step by step; how far it is |
//! | `coalesce` | which small batches of the tail become one |
//! | `plan`, `compact`, `merge` | which segments become one; the thread that does it; how |
//! | `order`, `sources` | the order of a merge; its inputs, read column by column |
//! | `retention`, `trim` | what goes, and when; a segment without the rows of some environments |
//! | `promote`, `wanted` | which attribute keys get a column of their own; what queries asked for |
//! | `encode`, `sort`, `layout` | rows to a sorted Parquet file; their order; the properties of each table's files |
//! | `chunk` | columns of rows as column chunks |
//! | `gather`, `dictionary` | rows of many batches into one, with dictionaries interned |
//! | `bloom` | asking the bloom filter of a row group for one value |
//! | `files` | the [`SegmentFiles`] port, and local directories |
//!
//! *Invariants.* A row that was published is in exactly one place of every later view: the tail or one segment. The
//! checkpoint moves in the same catalog transaction that adds the segments, and the journal is trimmed only after that.

mod bloom;
mod chunk;
mod coalesce;
mod compact;
mod dictionary;
mod encode;
mod error;
mod files;
mod flush;
mod fold;
mod folding;
mod gather;
mod layout;
mod maintain;
mod merge;
mod options;
mod order;
mod plan;
mod priority;
mod promote;
mod reading;
mod recovery;
mod retention;
mod shared;
mod sort;
mod sources;
mod status;
mod store;
mod sums;
mod tail;
mod trim;
mod view;
mod wanted;
mod written;

pub use bloom::may_hold;
pub use encode::{EncodedSegment, encode_segment};
pub use error::StoreError;
pub use files::{LocalFiles, SegmentFile, SegmentFiles, SegmentRead};
pub use fold::{Fold, Published};
pub use options::{Clock, StoreOptions};
pub use retention::RetentionRule;
pub use status::StoreStatus;
pub use store::Store;
pub use view::Snapshot;

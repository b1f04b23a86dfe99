//! The batches of one table that are not in segments yet, oldest first.
//!
//! *Layout.* Full chunks of [`CHUNK`] batches behind one pointer, and a last chunk behind another. A copy of the list shares
//! both; appending to a copy copies at most one chunk of pointers, so publishing costs the same however long the tail is.

use std::sync::Arc;

use plimsoll_model::UnixNanos;

use crate::fold::Published;

const CHUNK: usize = 32;

/// Some rows of the tail: as they were published, or several of such that were coalesced, between whose frames others may lie.
#[derive(Debug)]
pub(crate) struct TailBatch {
    pub(crate) rows: Published,
    /// Memory that the rows take.
    pub(crate) bytes: u64,
    /// When the first of them was published.
    pub(crate) at: UnixNanos,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct TailList {
    full: Arc<Vec<Arc<Vec<Arc<TailBatch>>>>>,
    last: Arc<Vec<Arc<TailBatch>>>,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
}

impl TailList {
    pub(crate) fn push(&mut self, batch: Arc<TailBatch>) {
        self.rows += batch.rows.batch.num_rows() as u64;
        self.bytes += batch.bytes;
        self.batches += 1;
        let last = Arc::make_mut(&mut self.last);
        last.push(batch);
        if last.len() == CHUNK {
            Arc::make_mut(&mut self.full).push(std::mem::take(&mut self.last));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<TailBatch>> {
        self.full.iter().flat_map(|chunk| chunk.iter()).chain(self.last.iter())
    }
}

impl FromIterator<Arc<TailBatch>> for TailList {
    fn from_iter<I: IntoIterator<Item = Arc<TailBatch>>>(batches: I) -> Self {
        let mut list = Self::default();
        batches.into_iter().for_each(|batch| list.push(batch));
        list
    }
}

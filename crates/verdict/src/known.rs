//! Of which share of its requests it is known whom they called, and where they failed.
//!
//! Traces close seconds after their requests are counted, and where there is no room for all of them only a share stays whole. What whole traces tell stands
//! for as many as all requests are to those.

use plimsoll_model::signal::OperationCell;

/// For how many requests one stands from which on that is a share of them.
const DRAWN: f64 = 1.5;

/// Requests in buckets of which anything is known, and those of them whose traces are whole.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    requests: u64,
    assembled: u64,
}

impl Known {
    /// Takes the cells of one bucket.
    pub(crate) fn push<'a>(&mut self, cells: impl Iterator<Item = &'a OperationCell>) {
        let here = cells.fold(Self::default(), |sum, cell| Self {
            requests: sum.requests + cell.requests,
            assembled: sum.assembled + cell.assembled,
        });
        if here.assembled > 0 {
            (self.requests, self.assembled) = (self.requests + here.requests, self.assembled + here.assembled);
        }
    }

    /// Returns for how many requests each of them stands; 1 where nothing is known.
    pub(crate) fn each(&self) -> f64 {
        (self.requests as f64 / self.assembled.max(1) as f64).max(1.0)
    }

    /// Says whether it is known of a share only, and not merely not yet.
    pub(crate) fn is_drawn(&self) -> bool {
        self.each() >= DRAWN
    }
}

/// Returns the same of one cell.
pub(crate) fn each(cell: &OperationCell) -> f64 {
    (cell.requests as f64 / cell.assembled.max(1) as f64).max(1.0)
}

//! Of which share of its requests it is known whom they called, and where they failed, where there was no room for all traces.
//!
//! Then an id draws which of them stay whole, whatever is in them: what these tell stands for as many as all requests are to them. Where there was room for all,
//! those that are not whole are so for what they are (open still, or too long), and stand for nothing but themselves.

use plimsoll_model::signal::OperationCell;

use crate::input::JudgeInput;
use crate::quality;

/// For how many requests one stands from which on it is a share of them that is known, and not merely some that are not known yet.
const DRAWN: f64 = 1.5;

/// Says whether there was no room for all traces.
pub(crate) fn is_drawn(input: &JudgeInput) -> bool {
    input.data_quality.iter().any(|word| word == quality::DRAWN_TRACES)
}

/// Returns for how many requests of a cell one stands whose trace is whole.
pub(crate) fn each(cell: &OperationCell, drawn: bool) -> f64 {
    if drawn { (cell.requests as f64 / cell.assembled.max(1) as f64).max(1.0) } else { 1.0 }
}

/// Returns the variance of what `n` tell that were drawn from all, where one stands for `each` of them.
pub(crate) fn variance(n: f64, each: f64) -> f64 {
    each * (each - 1.0) * n
}

/// Requests in buckets of which anything is known, those of them whose traces are whole, and of these the ones in which something failed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    requests: u64,
    assembled: u64,
    failed: u64,
    /// Requests for which those that failed stand.
    stand_for: f64,
}

impl Known {
    /// Takes the cells of one bucket.
    pub(crate) fn push<'a>(&mut self, cells: impl Iterator<Item = &'a OperationCell>) {
        let (mut requests, mut assembled, mut failed) = (0, 0, 0);
        for cell in cells {
            let in_vain = cell.callees.iter().filter(|(party, _)| party.is_unanswered()).map(|(_, time)| time.calls);
            (requests, assembled) = (requests + cell.requests, assembled + cell.assembled);
            failed += cell.blame.values().sum::<u64>() + in_vain.sum::<u64>();
        }
        if assembled > 0 {
            (self.requests, self.assembled) = (self.requests + requests, self.assembled + assembled);
            self.failed += failed;
            self.stand_for += failed as f64 * (requests as f64 / assembled as f64).max(1.0);
        }
    }

    /// Returns for how many requests each of them stands, where anything failed each of those: room runs short just then. 1 where nothing is known,
    /// and where none were `drawn`.
    pub(crate) fn each(&self, drawn: bool) -> f64 {
        match (drawn, self.failed) {
            (false, _) => 1.0,
            (true, 0) => (self.requests as f64 / self.assembled.max(1) as f64).max(1.0),
            (true, failed) => self.stand_for / failed as f64,
        }
    }

    /// Says whether it is known of a share only.
    pub(crate) fn is_share(&self, drawn: bool) -> bool {
        self.each(drawn) >= DRAWN
    }
}

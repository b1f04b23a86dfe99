//! How much was compared with what, over all operations.

use plimsoll_model::Design;

use crate::fold::Fold;

impl Fold {
    /// Requests of the candidate.
    pub(crate) fn requests(&self) -> u64 {
        self.operations.iter().map(|op| op.candidate).sum()
    }

    /// Requests of the candidate that have a control.
    pub(crate) fn paired(&self) -> u64 {
        self.operations.iter().map(|op| op.paired).sum()
    }

    /// Requests of the control, before and since the start.
    pub(crate) fn control_requests(&self) -> u64 {
        self.operations.iter().map(|op| op.before + op.control).sum()
    }

    /// Says whether nothing but metrics tells of it.
    pub(crate) fn only_metrics(&self) -> bool {
        !self.metrics.is_empty() && self.requests() + self.control_requests() == 0
    }

    /// Says whether no requests are known, so that levels of metrics have to show that it is well.
    pub(crate) fn by_levels(&self) -> bool {
        !self.metrics.is_empty() && (self.by_records || self.only_metrics())
    }

    /// Names the comparison that most requests were compared in.
    pub(crate) fn design(&self) -> Design {
        if self.only_metrics() {
            let beside = self.metrics.iter().any(|metric| metric.beside);
            return if beside { Design::Concurrent } else { Design::BeforeAfter };
        }
        let beside: u64 = self.operations.iter().map(|op| op.beside).sum();
        let (paired, since) = (self.paired(), self.operations.iter().map(|op| op.control).sum::<u64>());
        if since > 0 && (paired == 0 || beside * 2 >= paired) {
            Design::Concurrent
        } else if self.requests() > 0 && self.control_requests() == 0 {
            Design::Slo
        } else {
            Design::BeforeAfter
        }
    }
}

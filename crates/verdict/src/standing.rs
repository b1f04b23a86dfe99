//! How one test stands: its evidence so far, and when it crossed which line.

use plimsoll_model::Bucket;

/// The state of one test after the last bucket folded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Standing {
    /// Logarithm of the e-process of "no worse at all", now and at its largest.
    pub(crate) log_e: f64,
    pub(crate) sup: f64,
    /// The logarithm at the last look, and the most that it grew by from one look to the next.
    pub(crate) seen: f64,
    pub(crate) largest_step: f64,
    /// Logarithm of the e-process of "no worse than tolerated"; infinite where the tolerance is held otherwise.
    pub(crate) beyond: f64,
    /// Factor by which evidence is tempered.
    pub(crate) dispersion: f64,
    /// When the lower confidence bound first exceeded the tolerance.
    pub(crate) exceeded_at: Option<Bucket>,
    /// When gate, process and bound had all been reached.
    pub(crate) triggered_at: Option<Bucket>,
    /// When the time after that showed that it lasts.
    pub(crate) confirmed_at: Option<Bucket>,
    /// When what it had shown was forgotten, since it was of what happens without any deploy.
    pub(crate) anew_at: Option<Bucket>,
    /// True where the cause lies with another party.
    pub(crate) elsewhere: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            log_e: 0.0,
            sup: 0.0,
            seen: 0.0,
            largest_step: 0.0,
            beyond: f64::INFINITY,
            dispersion: 1.0,
            exceeded_at: None,
            triggered_at: None,
            confirmed_at: None,
            anew_at: None,
            elsewhere: false,
        }
    }
}

impl Standing {
    /// Takes a new value of the process.
    pub(crate) fn moved(&mut self, log_e: f64) {
        self.log_e = log_e;
        self.sup = self.sup.max(log_e);
    }

    /// Takes note of the value that a look sees.
    pub(crate) fn looked_at(&mut self) {
        self.largest_step = self.largest_step.max(self.log_e - self.seen);
        self.seen = self.log_e;
    }

    /// Says whether no single bucket gave more than half of the evidence: at least two windows show it already.
    pub(crate) fn is_spread(&self) -> bool {
        self.largest_step <= 0.5 * self.log_e
    }

    /// Returns the logarithm of an e-value that may be read at any time: the mean of the present value and of the adjusted
    /// largest one, `sqrt(sup) / 2`.
    ///
    /// The largest value itself is none: whoever picks the moment afterwards has to pay for it (Dawid et al., 2011).
    pub(crate) fn adjusted(&self) -> f64 {
        let (now, once) = (self.log_e, 0.5 * self.sup - std::f64::consts::LN_2);
        let top = now.max(once);
        top + (((now - top).exp() + (once - top).exp()) / 2.0).ln()
    }

    /// Says whether the evidence still stands, rather than having been worn down by what came since.
    pub(crate) fn stands(&self, log_level: f64, log_bound: f64) -> bool {
        self.log_e >= log_level && self.beyond >= log_bound
    }
}

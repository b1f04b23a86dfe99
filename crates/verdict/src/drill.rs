//! What the excess has in common: the value of an attribute, or two values together ([`pairs`]), that most of it falls on.
//!
//! Of the failures beyond what the control would have had, or of the growth of the logarithms of latency, the share that each
//! value explains is set against its share of the requests. A value is named where it explains most of the excess and far more
//! than its traffic would.
//!
//! *Source.* Bhagwan et al., "Adtributor: Revenue Debugging in Advertising Systems" (NSDI 2014).

use plimsoll_model::drill::{AttributeValue, OTHER, Outcome, Values, merge_values};
use plimsoll_model::signal::{LOG_UNIT, OperationCell};
use plimsoll_model::verdict::Common;

use crate::by_zone::ByZone;
use crate::design::Cells;
use crate::pairs;

/// Share of the excess that a value must explain.
pub(crate) const EXPLAINED_MIN: f64 = 0.7;
/// Times its share of the traffic that it must explain.
const LIFT_MIN: f64 = 1.5;

/// Growth of the mean logarithm of latency that there must be to explain any.
const GROWTH_MIN: f64 = 0.01;

/// Attributes that say that a request failed, and not where.
const OUTCOMES: [&str; 2] = ["http.response.status_code", "error.type"];

/// What is summed up of requests: failures, or logarithms of latency.
#[derive(Clone, Copy)]
enum Measured {
    Errors,
    Latency,
}

impl Measured {
    fn of_value(self, outcome: &Outcome) -> f64 {
        match self {
            Self::Errors => outcome.errors as f64,
            Self::Latency => outcome.log_latency_sum as f64 / LOG_UNIT,
        }
    }

    fn of_cell(self, cell: &OperationCell) -> f64 {
        match self {
            Self::Errors => cell.errors as f64,
            Self::Latency => cell.log_latency_sum as f64 / LOG_UNIT,
        }
    }

    /// The excess a request below which there is nothing to explain.
    fn least(self) -> f64 {
        match self {
            Self::Errors => 0.0,
            Self::Latency => GROWTH_MIN,
        }
    }
}

/// An excess, and how it spreads over the values of attributes.
pub(crate) struct Excess<'a> {
    /// What the candidate has beyond what the control would have had.
    pub(crate) amount: f64,
    /// Requests of the candidate.
    pub(crate) requests: f64,
    /// In order of attribute and value.
    pub(crate) values: Vec<Single<'a>>,
}

/// The requests of the candidate that had one value.
pub(crate) struct Single<'a> {
    pub(crate) value: &'a AttributeValue,
    pub(crate) requests: f64,
    pub(crate) sum: f64,
    /// What the control would have had of as many.
    pub(crate) usual: f64,
}

impl Single<'_> {
    /// What is beyond the usual.
    pub(crate) fn own(&self) -> f64 {
        self.sum - self.usual
    }

    pub(crate) fn name(&self) -> String {
        format!("{}={}", self.value.attribute, self.value.value)
    }
}

/// What part of an excess some requests explain, and what part of all requests they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Part {
    pub(crate) explained: f64,
    pub(crate) share: f64,
}

impl Part {
    /// Says whether it explains most of the excess, and far more than its traffic would.
    pub(crate) fn tells(self) -> bool {
        self.explained >= EXPLAINED_MIN && self.explained >= LIFT_MIN * self.share
    }

    /// Of those that explain as much, the one with the least traffic is the most particular.
    pub(crate) fn worth(self) -> f64 {
        self.explained.min(1.0) - 0.5 * self.share
    }

    pub(crate) fn common(self, name: String, and: Option<String>) -> Common {
        Common { name, and, share: self.explained.min(1.0), ..Common::default() }
    }
}

impl Excess<'_> {
    /// Sets what some requests have beyond the usual against the whole.
    pub(crate) fn part(&self, own: f64, requests: f64) -> Part {
        Part { explained: own / self.amount, share: requests / self.requests }
    }

    /// Finds the value that explains most.
    fn best(&self) -> Option<(&Single<'_>, Part)> {
        let parts = self.values.iter().map(|single| (single, self.part(single.own(), single.requests)));
        let told = parts.filter(|(_, part)| part.tells());
        told.max_by(|(a, mine), (b, theirs)| {
            mine.worth().total_cmp(&theirs.worth()).then_with(|| b.name().cmp(&a.name()))
        })
    }
}

/// Finds the value, or the two values together, that failures of the candidate have in common; `by_zone` where the control counts
/// by the candidate's zones.
pub(crate) fn of_errors(candidate: &Cells<'_>, control: &Cells<'_>, by_zone: Option<&ByZone>) -> Option<Common> {
    let (ours, theirs) = (values(candidate), values(control));
    let excess = excess(Measured::Errors, (candidate, &ours), (control, &theirs), by_zone)?;
    let best = excess.best();
    let pair = pairs::of(&excess, best.as_ref().map(|(_, part)| *part), candidate, control);
    pair.or_else(|| best.map(|(single, part)| part.common(single.name(), None)))
}

/// Finds the value that slow requests of the candidate have in common.
pub(crate) fn of_latency(candidate: &Cells<'_>, control: &Cells<'_>) -> Option<Common> {
    let (ours, theirs) = (values(candidate), values(control));
    let excess = excess(Measured::Latency, (candidate, &ours), (control, &theirs), None)?;
    excess.best().map(|(single, part)| part.common(single.name(), None))
}

fn values(cells: &Cells<'_>) -> Values {
    let mut values = Values::new();
    cells.iter().for_each(|(_, _, cell)| merge_values(&mut values, &cell.values));
    values
}

/// Finds what there is to explain, where there is anything.
fn excess<'a>(
    measured: Measured,
    (candidate, values): (&Cells<'_>, &'a Values),
    (control, usual): (&Cells<'_>, &Values),
    by_zone: Option<&ByZone>,
) -> Option<Excess<'a>> {
    let total = |cells: &Cells<'_>| {
        cells
            .iter()
            .fold((0.0, 0.0), |sum, (_, _, cell)| (sum.0 + measured.of_cell(cell), sum.1 + cell.requests as f64))
    };
    let ((sum, requests), (sum_a, requests_a)) = (total(candidate), total(control));
    let plain = if requests_a > 0.0 { sum_a / requests_a } else { 0.0 };
    let rate = by_zone.map_or(plain, |by_zone| by_zone.baseline.value);
    // Of what is counted by other values it is not known which zone it was in.
    let alike = |value: &AttributeValue| {
        let told = by_zone.filter(|by_zone| by_zone.attribute() != value.attribute && plain > 0.0);
        told.map_or(1.0, |_| rate / plain)
    };
    let amount = sum - rate * requests;
    if requests <= 0.0 || amount <= measured.least() * requests {
        return None;
    }
    let tells = |value: &AttributeValue| value.value != OTHER && !OUTCOMES.contains(&value.attribute.as_str());
    let singles = values.iter().filter(|(value, _)| tells(value)).map(|(value, outcome)| {
        let known = usual.get(value).filter(|before| before.requests > 0);
        let usual = |before: &Outcome| alike(value) * measured.of_value(before) / before.requests as f64;
        let before = known.map_or(rate, usual);
        let requests = outcome.requests as f64;
        Single { value, requests, sum: measured.of_value(outcome), usual: before * requests }
    });
    Some(Excess { amount, requests, values: singles.collect() })
}

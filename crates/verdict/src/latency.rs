//! Latency of one operation: how often the candidate is slower than edges fixed by the control beforehand.
//!
//! The edges are quantiles of the control before the start. In the body of the distribution, at p50 and p75, two exact
//! Bernoulli samples are compared ([`crate::two_sample`]); in the tail, at p90, p95 and p99, exceedances are counted
//! ([`crate::e_process`]); the five are averaged. Where both arms serve side by side, half of the evidence is staked on a
//! shift of the whole distribution instead ([`crate::ordered`]); elsewhere that half does as the five do, because what
//! time of day excuses is a ratio at an edge. "Slower than tolerated" shifts the candidate's edge: a growth by the factor
//! `2^(s/16)` moves every observation up by `s` buckets of the histogram, so counting the candidate above `edge + s` against
//! the control above `edge` tests "the growth is at most that factor".
//!
//! Young instances are slow without being worse: where the control has none of the same age, the first
//! [`Tolerances::warm_up_s`] are left out, and a growth confirms nothing until it is clear that it stays
//! ([`crate::settling`]).

use plimsoll_model::Bucket;
use plimsoll_model::signal::{AgeClass, Histogram};

use crate::counts::{Counts, Edges, P95, QUANTILES};
use crate::dispersion::{self, Bursts, Measure, Tempering};
use crate::e_process::{self, Exceedance, Shrinkage, Stratum};
use crate::errors;
use crate::ordered::{self, Ordered};
use crate::rate::{self, RateSums};
use crate::slot::Pair;
use crate::standing::Standing;
use crate::tolerances::Tolerances;
use crate::two_sample::{Aims, TwoSample};

/// Observations from which edges are fixed.
pub(crate) const EDGE_COUNT_MIN: u64 = 100;
/// Edges that count as the body.
const BODY: usize = 2;
const TAIL: usize = QUANTILES.len() - BODY;

/// The test of one operation's latency, once there are edges.
#[derive(Debug, Clone)]
pub(crate) struct LatencyTest {
    pub(crate) standing: Standing,
    pub(crate) edges: Edges,
    /// Candidate above the tolerated growth of the p95 against control above the p95, with nothing excused.
    pub(crate) tolerated: RateSums,
    body: [TwoSample; BODY],
    tail: [Exceedance; TAIL],
    beyond_body: [TwoSample; BODY],
    beyond_tail: [Exceedance; TAIL],
    /// Logarithms of the values at all edges, of any growth and beyond the tolerated.
    values: [[f64; QUANTILES.len()]; 2],
    /// The whole distribution, and the logarithm of the mean over single edges: of any growth, and beyond the tolerated.
    shift: [Ordered; 2],
    edgewise: [f64; 2],
    /// Control's observations above each edge, and all, before the start and since.
    reference: ([f64; QUANTILES.len()], f64),
    tempering: [Tempering; 2],
    before: [Bursts; 2],
    before_mean: f64,
    pub(crate) caution: f64,
    /// True once it was begun anew.
    pub(crate) anew: bool,
}

/// Edges at which dispersion is measured: one for the body, one for the tail.
const MEASURED: [usize; 2] = [0, 2];

impl LatencyTest {
    /// Starts from the buckets before, counted against `edges`; `all` are those with an incident that is left out.
    pub(crate) fn new(edges: Edges, before: &[Counts], all: &[Counts]) -> Self {
        let mut past = Counts::default();
        before.iter().for_each(|counts| past.add(counts));
        let arm = |edge: usize| {
            let buckets = |of: &[Counts]| of.iter().map(|c| (c.above[edge], c.timed)).collect::<Vec<_>>();
            Bursts::outside(&buckets(before), &buckets(all))
        };
        // Where there is no past, what fixed the edges stands for it.
        let reference = if past.timed > 0.0 {
            (past.above, past.timed)
        } else {
            (edges.above.map(|share| share * EDGE_COUNT_MIN as f64), EDGE_COUNT_MIN as f64)
        };
        Self {
            standing: Standing::default(),
            edges,
            tolerated: RateSums::default(),
            body: Default::default(),
            tail: Default::default(),
            beyond_body: Default::default(),
            beyond_tail: Default::default(),
            values: none_yet(),
            shift: Default::default(),
            edgewise: [0.0; 2],
            reference,
            tempering: Default::default(),
            before: MEASURED.map(arm),
            before_mean: past.timed / before.len().max(1) as f64,
            caution: 1.0,
            anew: false,
        }
    }

    /// Takes one stratum.
    pub(crate) fn push(
        &mut self,
        pair: &Pair,
        first: Option<Bucket>,
        shrinkage: &mut Shrinkage,
        tolerances: &Tolerances,
    ) {
        let excused = !pair.same_age
            && pair.age == AgeClass::Cold
            && first.is_some_and(|first| pair.bucket.0 < first.0 + tolerances.warm_up_s / 10);
        let (b, a) = (&pair.candidate, &pair.control);
        if excused || b.timed <= 0.0 || a.timed <= 0.0 {
            return;
        }
        let stratum =
            |hits: f64, edge: usize| errors::stratum(pair, tolerances, (hits, b.timed), (a.above[edge], a.timed));
        let phi = [0, 1].map(|i| {
            let usual = tolerances.dispersion_max;
            let before = self.before[i].measure(usual);
            let expected = dispersion::expected_of_share(before, self.before_mean, a.timed, b.timed, usual);
            let own = self.tempering[i].measure();
            dispersion::joined(expected, Measure::default(), own, dispersion::most(before, usual))
        });
        self.standing.dispersion = phi[0].max(phi[1]);
        for edge in 0..QUANTILES.len() {
            let plain = stratum(b.above[edge], edge);
            let expected = (self.reference.0[edge] + 0.5) / (self.reference.1 + 1.0);
            self.caution = self.caution.max(plain.caution);
            if edge < BODY {
                let eta = 1.0 / (phi[0] * plain.caution);
                // In the body a ratio of shares is no fit measure of drift: half of it stands for as much of the latency.
                let excused = 1.0 + 0.5 * (plain.handicap - 1.0);
                let aims = Aims::of((a.above[edge], a.timed), b.timed, expected, excused);
                self.body[edge].aim(&aims, b.above[edge], eta);
                self.beyond_body[edge].aim(&aims, b.beyond[edge], eta);
                self.values[0][edge] = self.body[edge].value();
                self.values[1][edge] = self.beyond_body[edge].value();
            } else {
                // What is rare tells nothing in most buckets, and then its value is what it was.
                let (tail, beyond) = (&mut self.tail[edge - BODY], &mut self.beyond_tail[edge - BODY]);
                if tail.push_with(&plain, 1.0, phi[1], shrinkage) {
                    self.values[0][edge] = tail.value();
                }
                if beyond.push_with(&stratum(b.beyond[edge], edge), 1.0, phi[1], shrinkage) {
                    self.values[1][edge] = beyond.value();
                }
            }
        }
        self.tolerated.push(&Stratum { handicap: 1.0, ..stratum(b.plain, P95) });
        for (tempering, edge) in self.tempering.iter_mut().zip(MEASURED) {
            tempering.push(&stratum(b.above[edge], edge));
        }
        let tempered = 1.0 / phi[0].max(phi[1]);
        let edgewise = self.values.each_ref().map(|values| e_process::log_mean(values));
        if pair.side_by_side {
            let expected = categories(&self.reference.0, self.reference.1);
            let control = categories(&a.above, a.timed);
            let [plain, beyond] = [&b.above, &b.beyond].map(|above| categories(above, b.timed));
            Ordered::push_both(&mut self.shift, [&plain, &beyond], &control, &expected, tempered);
        } else {
            let grown = [0, 1].map(|i| edgewise[i] - self.edgewise[i]);
            self.shift.iter_mut().zip(grown).for_each(|(shift, grown)| shift.follow(grown));
        }
        self.edgewise = edgewise;
        let both = [0, 1].map(|i| e_process::log_mean(&[edgewise[i], self.shift[i].value()]));
        self.standing.moved(both[0]);
        self.standing.beyond = both[1];
        if self.standing.exceeded_at.is_none() && self.standing.beyond >= (1.0 / tolerances.bound_alpha).ln() {
            self.standing.exceeded_at = Some(pair.bucket);
        }
        if pair.side_by_side {
            self.reference.0.iter_mut().zip(a.above).for_each(|(sum, n)| *sum += n);
            self.reference.1 += a.timed;
        }
    }

    /// Forgets the evidence so far: it was of young instances. A process begun anew at a time fixed beforehand is one, and
    /// has a share of its own in what may be spent.
    pub(crate) fn begin_anew(&mut self) {
        self.anew = true;
        self.standing = Standing { dispersion: self.standing.dispersion, ..Standing::default() };
        self.tolerated = RateSums::default();
        self.body = Default::default();
        self.tail = Default::default();
        self.beyond_body = Default::default();
        self.beyond_tail = Default::default();
        self.values = none_yet();
        self.shift = Default::default();
        self.edgewise = [0.0; 2];
    }

    /// Shares of the control above the edges of the p95 and the p99.
    pub(crate) fn tail_shares(&self) -> [f64; 2] {
        [0, 1].map(|i| self.reference.0[P95 + i] / self.reference.1.max(1.0))
    }

    /// Share of requests above the tolerated growth of the p95 by which the candidate may exceed the control above its p95.
    ///
    /// None as a rule. Where nearly all requests take nearly the same time, hardly any of the control's is above the bucket
    /// of its p95, and nothing could be shown to be fewer: there half of what a p95 leaves above it is the measure.
    pub(crate) fn slack(&self) -> f64 {
        (0.5 * (1.0 - QUANTILES[P95]) - self.edges.above[P95]).max(0.0)
    }

    /// Says whether the upper bound of the growth lies within the tolerance.
    pub(crate) fn shown_well(&self, tolerances: &Tolerances) -> bool {
        let rates = self.tolerated.rates();
        rates.n_b >= tolerances.requests_min as f64
            && rates.difference(self.standing.dispersion * self.caution, tolerances.bound_alpha).1 < self.slack()
    }
}

/// Logarithms of the values at all edges before anything was taken.
fn none_yet() -> [[f64; QUANTILES.len()]; 2] {
    let (body, tail) = (TwoSample::default().value(), Exceedance::default().value());
    [[body, body, tail, tail, tail]; 2]
}

/// Tells the observations between the edges from those above each.
fn categories(above: &[f64; QUANTILES.len()], all: f64) -> ordered::Sample {
    let mut sample = ordered::Sample::default();
    let mut left = all;
    for (n, above) in sample.iter_mut().zip(above) {
        *n = (left - above).max(0.0);
        left = *above;
    }
    sample[QUANTILES.len()] = left;
    sample
}

/// Returns bounds of the growth of the p95, as a factor; each holds at all times with probability `1 - alpha`.
///
/// The p95 of each arm lies between the edges whose exceedances are not shown to be more, or less, than 5 %; the growth lies
/// between the quotients of those.
pub(crate) fn growth(candidate: &Histogram, control: &Histogram, dispersion: f64, alpha: f64) -> [f64; 2] {
    let band = |histogram: &Histogram| -> Option<(f64, f64)> {
        let total = histogram.count();
        let above = |index: i16| {
            let hits = histogram.count_above(index) as f64 / dispersion.max(1.0);
            rate::bounds(hits, total as f64 / dispersion.max(1.0), alpha / 4.0)
        };
        let first = *histogram.0.first_key_value()?.0;
        let last = *histogram.0.last_key_value()?.0;
        let low = (first..=last).find(|index| above(*index).0 <= 0.05).unwrap_or(last);
        let high = (first..=last).find(|index| above(*index).1 < 0.05);
        Some((edge(low - 1), high.map_or(f64::INFINITY, edge)))
    };
    match (band(candidate), band(control)) {
        (Some(b), Some(a)) => [(b.0 / a.1).max(1e-4), (b.1 / a.0).min(1e4)],
        _ => [1e-4, 1e4],
    }
}

fn edge(index: i16) -> f64 {
    Histogram::upper_edge(index)
}

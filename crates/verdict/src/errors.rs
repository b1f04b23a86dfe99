//! Failed requests of one operation, candidate against control.

use plimsoll_model::Bucket;

use crate::closeness::{Closeness, Expected, Nearest};
use crate::dispersion::{self, Bursts, Measure, Tempering};
use crate::e_process::{Exceedance, Shrinkage, Stratum};
use crate::rate::{self, RateSums};
use crate::slot::Pair;
use crate::standing::Standing;
use crate::tolerances::Tolerances;

/// Multiples of the control's rate from which it is the difference that is tested.
const RATIO_MAX: f64 = 20.0;

/// A stratum in little space, for the interval of the effect.
#[derive(Debug, Clone, Copy)]
struct Kept {
    bucket: Bucket,
    counts: [f32; 4],
    caution: f32,
    side_by_side: bool,
}

impl Kept {
    fn stratum(&self) -> Stratum {
        let [bad_b, n_b, bad_a, n_a] = self.counts.map(f64::from);
        Stratum { bucket: self.bucket, bad_b, n_b, bad_a, n_a, handicap: 1.0, caution: f64::from(self.caution) }
    }
}

/// The test of one operation's errors.
#[derive(Debug, Clone)]
pub(crate) struct ErrorTest {
    pub(crate) standing: Standing,
    kept: Vec<Kept>,
    pub(crate) sums: RateSums,
    /// The same as it was, with nothing excused: health is shown by what happened.
    pub(crate) plain: RateSums,
    /// Control's errors and requests, before the start and since.
    past: (f64, f64),
    since: (f64, f64),
    /// For how many times its requests the time before the start counts.
    past_weight: f64,
    gate: Exceedance,
    beyond: Exceedance,
    /// Of "worse by all that is tolerated", which a pass refutes.
    pub(crate) closeness: Closeness,
    tempering: Tempering,
    /// By what evidence was tempered when it was found worse.
    dispersion_found: f64,
    before: Bursts,
    before_mean: f64,
    /// How many failures may come at once for no reason of the deploy's.
    pub(crate) clump: f64,
    caution: f64,
}

impl ErrorTest {
    /// Starts from `(errors, requests)` of the buckets before.
    pub(crate) fn new(before: &[(f64, f64)]) -> Self {
        let past = before.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1));
        Self {
            standing: Standing::default(),
            kept: Vec::new(),
            sums: RateSums::default(),
            plain: RateSums::default(),
            gate: Exceedance::default(),
            beyond: Exceedance::default(),
            closeness: Closeness::default(),
            tempering: Tempering::default(),
            dispersion_found: 1.0,
            before: Bursts::of(before),
            before_mean: past.1 / before.len().max(1) as f64,
            past,
            since: (0.0, 0.0),
            past_weight: 1.0,
            clump: 1.0,
            caution: 1.0,
        }
    }

    /// Starts from those outside of an incident, `all` being those with it.
    pub(crate) fn outside(rest: &[(f64, f64)], all: &[(f64, f64)]) -> Self {
        Self { before: Bursts::outside(rest, all), ..Self::new(rest) }
    }

    /// The control's share of failed requests as well as it is known.
    pub(crate) fn reference(&self) -> f64 {
        let (bad, all) = (self.past.0 + self.since.0, self.past.1 * self.past_weight + self.since.1);
        if all > 0.0 { (bad / all).min(1.0) } else { 0.0 }
    }

    /// The control's share of failed requests that what the candidate did in `from..=to` is held against, where it was found worse
    /// in `found`.
    ///
    /// That is what is known of the control, unless those of its requests contradict it that stood against the candidate: all until
    /// it was found, of which a past with an outage in it is no measure, and side by side those of the same time.
    pub(crate) fn usual(&self, found: Bucket, [from, to]: [Bucket; 2], tolerances: &Tolerances) -> f64 {
        let bounds = |dispersion: f64, counts: &dyn Fn(&Kept) -> bool| {
            let mut sums = RateSums::default();
            self.kept.iter().filter(|kept| counts(kept)).for_each(|kept| sums.push(&kept.stratum()));
            let (rates, phi) = (sums.rates(), dispersion * self.caution);
            rate::bounds(rates.rate_a * rates.n_a / phi, rates.n_a / phi, tolerances.bound_alpha)
        };
        let (_, once) = bounds(self.dispersion_found, &|kept| kept.bucket <= found);
        let beside = |kept: &Kept| kept.side_by_side && kept.bucket >= from && kept.bucket <= to;
        let (low, high) = bounds(self.standing.dispersion, &beside);
        self.reference().min(once).clamp(low, high)
    }

    /// Counts the time before the start for so many times its requests from here on.
    pub(crate) fn weigh_past(&mut self, times: f64) {
        if !(0.95..1.05).contains(&(times / self.past_weight)) && self.standing.triggered_at.is_none() {
            // Shares until then were those of what was sampled, which no tolerance is about.
            self.standing.exceeded_at = None;
            (self.sums, self.plain) = (RateSums::default(), RateSums::default());
            self.closeness = Closeness::default();
        }
        self.past_weight = times;
    }

    /// Forgets the evidence so far: it was of what happens without any deploy. To drop evidence that is above one spends nothing.
    pub(crate) fn begin_anew(&mut self) {
        self.standing = Standing { dispersion: self.standing.dispersion, ..Standing::default() };
        self.sums = RateSums::default();
        self.gate = Exceedance::default();
        self.beyond = Exceedance::default();
    }

    /// All strata so far.
    pub(crate) fn strata(&self) -> Vec<Stratum> {
        self.kept.iter().map(Kept::stratum).collect()
    }

    /// About how much memory it takes beside itself.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.len() * size_of::<Kept>()
    }

    pub(crate) fn tempering(&self) -> &Tempering {
        &self.tempering
    }

    pub(crate) fn caution(&self) -> f64 {
        self.caution
    }

    /// Takes one stratum, and returns it as it was, with nothing excused; `others` is the dispersion of the service's
    /// operations together.
    pub(crate) fn push(&mut self, pair: &Pair, others: Measure, tolerances: &Tolerances) -> Stratum {
        self.push_with(pair, others, &mut Shrinkage::none(), tolerances)
    }

    /// Does the same and keeps what other tests of the stratum can use.
    pub(crate) fn push_with(
        &mut self,
        pair: &Pair,
        others: Measure,
        shrinkage: &mut Shrinkage,
        tolerances: &Tolerances,
    ) -> Stratum {
        let counts = |c: &crate::counts::Counts| (c.errors, c.requests);
        let plain = stratum(pair, tolerances, counts(&pair.candidate), counts(&pair.control));
        let mut s = plain;
        // What time alone would have done to the control.
        s.bad_a = (s.bad_a + pair.excused.failures(self.reference(), s.n_a)).min(s.n_a.max(s.bad_a));
        let (usual, before_mean) = (tolerances.dispersion_max, self.before_mean * self.past_weight);
        let before = self.before.measure(usual);
        let expected = dispersion::expected_of_share(before, before_mean, s.n_a, s.n_b, usual);
        let most = dispersion::most(before, usual);
        let phi = dispersion::joined(expected, others, self.tempering.measure(), most);
        self.standing.dispersion = phi;
        if self.standing.triggered_at.is_none() {
            self.dispersion_found = phi;
        }
        self.clump = phi.max(self.before.incident(usual));
        self.caution = self.caution.max(s.caution);
        if self.gate.push_with(&s, 1.0, phi, shrinkage) {
            self.standing.moved(self.gate.value());
        }
        let reference = self.reference();
        let delta = tolerated(reference, tolerances);
        let by_ratio = reference > 0.0 && delta / reference < RATIO_MAX;
        if !by_ratio {
            self.standing.beyond = f64::INFINITY;
        } else if self.beyond.push(&s, 1.0 + delta / reference, phi) {
            self.standing.beyond = self.beyond.value();
        }
        self.sums.push(&s);
        self.plain.push(&plain);
        if self.standing.exceeded_at.is_none() && s.bad_b > 0.0 {
            let rates = self.sums.rates();
            let worse = rates.rate_b() - rates.rate_a > delta;
            let shown = if by_ratio {
                self.standing.beyond >= (1.0 / tolerances.bound_alpha).ln()
            } else {
                rates.difference(phi * self.caution, tolerances.bound_alpha).0 > delta
            };
            self.standing.exceeded_at = (worse && shown).then_some(s.bucket);
        }
        self.tempering.push(&s);
        if pair.side_by_side {
            self.since = (self.since.0 + s.bad_a, self.since.1 + s.n_a);
        }
        self.kept.push(Kept {
            bucket: s.bucket,
            counts: [s.bad_b, s.n_b, s.bad_a, s.n_a].map(|n| n as f32),
            caution: s.caution as f32,
            side_by_side: pair.side_by_side,
        });
        plain
    }

    /// Takes the same stratum as evidence of health; `expected` is what was known of the control before it.
    pub(crate) fn push_health(
        &mut self,
        s: &Stratum,
        expected: Expected,
        nearest: &mut Nearest,
        tolerances: &Tolerances,
    ) {
        self.closeness.push(s, expected, tolerances.error_points, nearest);
    }

    /// Says whether it is shown that the share of failures grew by less than is tolerated.
    pub(crate) fn shown_well(&self, tolerances: &Tolerances) -> bool {
        let rates = self.plain.rates();
        let shown = || {
            self.closeness.value(self.standing.dispersion) >= (1.0 / tolerances.bound_alpha).ln()
                || rates.difference(self.standing.dispersion * self.caution, tolerances.bound_alpha).1
                    < tolerances.error_points
        };
        rates.n_b >= tolerances.requests_min as f64 && shown()
    }
}

/// Makes a stratum of a pair by counting in both arms.
pub(crate) fn stratum(pair: &Pair, tolerances: &Tolerances, candidate: (f64, f64), control: (f64, f64)) -> Stratum {
    let (drift, caution) =
        if pair.side_by_side { (1.0, 1.0) } else { (tolerances.drift_ratio, tolerances.drift_caution) };
    Stratum {
        bucket: pair.bucket,
        bad_b: candidate.0,
        n_b: candidate.1,
        bad_a: control.0,
        n_a: control.1,
        handicap: drift,
        caution,
    }
}

/// Growth of the share of failed requests that is tolerated at a control's share of `rate`.
pub(crate) fn tolerated(rate: f64, tolerances: &Tolerances) -> f64 {
    tolerances.error_points.min((rate * (tolerances.error_ratio - 1.0)).max(tolerances.error_floor))
}

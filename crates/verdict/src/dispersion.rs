//! How much burstier than chance the counts are: the factor by which evidence is tempered.
//!
//! Neighbouring stretches of time are compared with each other, so that a lasting effect, a slow drift and the time of day
//! leave no trace in the measure, while bursts do. Given the totals of a pair of stretches the first one's count is
//! hypergeometric; the sum of squared deviations over the sum of variances is one where nothing but chance is at work.
//! Stretches of one, three and six buckets are tried, because bursts may outlast a bucket, and the largest is taken; the
//! longer ones, measured on fewer pairs, only as far as they exceed their own uncertainty.
//!
//! *One incident is no burstiness.* An outage of ten seconds within the hour before is one or two pairs, those in which it
//! begins and ends, and hundreds of times chance. Left in, it would divide all evidence against the deploy by as much. So
//! the past is also measured without the two pairs that differ most; where those alone made it burstier than usual the rest
//! counts ([`Bursts`]). What comes in clumps again and again shows without any two of them.
//!
//! *Invariants.* At least one, always. This is a calibration and no theorem: the proof harness keeps it honest.

use crate::e_process::Stratum;

/// What one source of counts says about dispersion.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Measure {
    /// The estimate, at least one.
    pub phi: f64,
    /// Pairs it is worth.
    pub pairs: f64,
}

const STRETCHES: [usize; 3] = [1, 3, 6];
/// Pairs without which the time before shows no unusual dispersion.
const PAIRS_MIN: f64 = 6.0;
/// Pairs that one incident spoils: in one it begins, in one it ends.
const INCIDENT: usize = 2;
/// One over the share of the dispersion that is left without them, at most. Steady bursts leave three quarters, and rarely half.
const LEFT: f64 = 4.0;
/// Pairs of which those are so few that the rest tells what is usual.
const TELLING: usize = 20;

/// Sums of squared deviations, their expectation, and the variance of the sum, over pairs.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    squares: f64,
    expected: f64,
    spread: f64,
}

impl Sums {
    fn add(&mut self, deviation: f64, variance: f64) {
        if variance > 0.0 {
            self.squares += deviation * deviation;
            self.expected += variance;
            self.spread += 2.0 * variance * variance + variance;
        }
    }

    fn compare(&mut self, first: Quad, second: Quad) {
        let odds = |q: &Quad| q.1 / q.3;
        // Where the traffic was shifted between the two, their shares differ without any burst.
        if first.3 <= 0.0 || second.3 <= 0.0 || !(0.67..1.5).contains(&(odds(&first) / odds(&second))) {
            return;
        }
        let (m1, m2) = (first.0 + first.2, second.0 + second.2);
        let (total, hits) = (m1 + m2, first.0 + second.0);
        if total >= 2.0 {
            self.add(first.0 - hits * m1 / total, hits * (total - hits) * m1 * m2 / (total * total * (total - 1.0)));
        }
    }

    fn measure(&self, discount: f64) -> Measure {
        if self.expected <= 0.0 {
            return Measure { phi: 1.0, pairs: 0.0 };
        }
        let error = self.spread.sqrt() / self.expected;
        Measure {
            phi: (self.squares / self.expected - discount * error).max(1.0),
            pairs: 2.0 * self.expected * self.expected / self.spread,
        }
    }
}

/// The dispersion of the conditional share, candidate's bad over all bad, measured stratum by stratum.
#[derive(Debug, Clone, Default)]
pub struct Tempering {
    stretches: [Stretch; STRETCHES.len()],
}

#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    filled: usize,
    current: Quad,
    previous: Option<Quad>,
    sums: Sums,
}

/// `(bad_b, n_b, bad_a, n_a)` of a stretch.
type Quad = (f64, f64, f64, f64);

impl Tempering {
    /// Takes one stratum.
    pub fn push(&mut self, s: &Stratum) {
        for (stretch, length) in self.stretches.iter_mut().zip(STRETCHES) {
            let (bad_b, n_b, bad_a, n_a) = stretch.current;
            stretch.current = (bad_b + s.bad_b, n_b + s.n_b, bad_a + s.bad_a, n_a + s.n_a);
            stretch.filled += 1;
            if stretch.filled < length {
                continue;
            }
            let full = std::mem::take(&mut stretch.current);
            stretch.filled = 0;
            match stretch.previous.take() {
                Some(previous) => stretch.sums.compare(previous, full),
                None => stretch.previous = Some(full),
            }
        }
    }

    /// Returns what was measured so far.
    pub fn measure(&self) -> Measure {
        let mut sums = self.stretches.iter().map(|stretch| stretch.sums);
        over_stretches(|_| sums.next().unwrap_or_default())
    }

    /// Adds what others measured: the dispersion of a whole service, for operations too quiet to show their own.
    pub fn of_all<'a>(parts: impl Iterator<Item = &'a Self>) -> Measure {
        let mut all = [Sums::default(); STRETCHES.len()];
        for part in parts {
            for (sum, stretch) in all.iter_mut().zip(&part.stretches) {
                sum.squares += stretch.sums.squares;
                sum.expected += stretch.sums.expected;
                sum.spread += stretch.sums.spread;
            }
        }
        let mut sums = all.into_iter();
        over_stretches(|_| sums.next().unwrap_or_default())
    }
}

/// Measures the dispersion of one arm, from `(bad, all)` of successive buckets before the deploy.
pub fn of_arm(buckets: &[(f64, f64)]) -> Measure {
    over_stretches(|length| summed(&pairs(buckets, length)))
}

/// Measures the dispersion of counts of which there may be many for each of what they are counted by, from `(count, all)`.
pub fn of_counts(buckets: &[(f64, f64)]) -> Measure {
    // Against far more than they are: what is measured is how they vary, as counts.
    const MORE: f64 = 1e9;
    of_arm(&buckets.iter().map(|(count, all)| (*count, MORE * all)).collect::<Vec<_>>())
}

/// What the time before the deploy shows of one arm's bursts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bursts {
    all: Measure,
    /// The same without the pairs that differ most.
    rest: Measure,
    telling: bool,
    /// What the whole shows with an incident that is left out of both; none where there is none.
    whole: f64,
}

impl Bursts {
    /// Measures it, from `(bad, all)` of successive buckets.
    pub fn of(buckets: &[(f64, f64)]) -> Self {
        let all = of_arm(buckets);
        // A quarter of what little is there is none, so nothing can be an incident.
        if all.phi <= LEFT {
            return Self { all, rest: all, ..Self::default() };
        }
        let rest = over_stretches(|length| {
            let mut pairs = pairs(buckets, length);
            // By what each has beyond chance.
            let excess = |pair: &Pair| pair.0 * pair.0 - pair.1;
            pairs.sort_by(|a, b| excess(b).total_cmp(&excess(a)));
            summed(pairs.get(INCIDENT..).unwrap_or_default())
        });
        Self { all, rest, telling: pairs(buckets, 1).len() >= TELLING, whole: 0.0 }
    }

    /// Measures it from the buckets outside of an incident; `all` are those with it.
    pub fn outside(rest: &[(f64, f64)], all: &[(f64, f64)]) -> Self {
        let whole = if all.len() > rest.len() { of_arm(all).phi } else { 0.0 };
        Self { whole, ..Self::of(rest) }
    }

    /// Says whether one incident alone made it burstier than `usual`: without its pairs less than a quarter of that is left.
    fn is_incident(&self, usual: f64) -> bool {
        self.telling && self.all.phi > usual && LEFT * self.rest.phi < self.all.phi
    }

    /// What is to be expected of the time after.
    pub fn measure(&self, usual: f64) -> Measure {
        if self.is_incident(usual) { self.rest } else { self.all }
    }

    /// How many come at once in the incident that [`Self::measure`] leaves out; one where there is none.
    ///
    /// As much as happened without any deploy is no ground to call one bad before it is seen to last.
    pub fn incident(&self, usual: f64) -> f64 {
        let left_out = if self.whole > usual { self.whole } else { 1.0 };
        if self.is_incident(usual) { self.all.phi.max(left_out) } else { left_out }
    }
}

/// Deviation and variance of the first of two neighbouring stretches.
type Pair = (f64, f64);

/// Pairs of stretches of `length` buckets in which anything was counted.
fn pairs(buckets: &[(f64, f64)], length: usize) -> Vec<Pair> {
    let stretches: Vec<(f64, f64)> =
        buckets.chunks(length).map(|c| c.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1))).collect();
    let told = stretches.chunks_exact(2).filter_map(|pair| {
        let ((b1, n1), (b2, n2)) = (pair[0], pair[1]);
        let (hits, total) = (b1 + b2, n1 + n2);
        let variance = || hits * (total - hits) * n1 * n2 / (total * total * (total - 1.0));
        (total >= 2.0).then(|| (b1 - hits * n1 / total, variance()))
    });
    told.collect()
}

fn summed(pairs: &[Pair]) -> Sums {
    let mut sums = Sums::default();
    pairs.iter().for_each(|(deviation, variance)| sums.add(*deviation, *variance));
    sums
}

/// What one arm's bursts before the deploy let expect of the conditional share.
///
/// An arm whose rate varies from bucket to bucket with relative variance `c` has dispersion `1 + c m` at `m` bad ones a
/// bucket; where both arms vary so, each for itself, their share has `1 + 2 c m_a m_b / (m_a + m_b)`. Beyond `usual` no
/// rate varies: what is counted comes in clumps, and fewer observations do not make those smaller. `before`, `control` and
/// `candidate` are observations a bucket.
pub fn expected_of_share(arm: Measure, before: f64, control: f64, candidate: f64, usual: f64) -> Measure {
    if before <= 0.0 || control + candidate <= 0.0 {
        return Measure { phi: 1.0, pairs: 0.0 };
    }
    let varies = (2.0 * control * candidate / (control + candidate) / before).min(1.0);
    let scale = if most(arm, usual) > usual { 1.0 } else { varies };
    Measure { phi: 1.0 + (arm.phi - 1.0) * scale, pairs: arm.pairs }
}

/// Returns the largest dispersion that is believed: `usual`, so that a deploy that fails in bursts does not hide behind
/// them; more only where the time before it shows that much.
pub fn most(arm: Measure, usual: f64) -> f64 {
    if arm.pairs >= PAIRS_MIN { usual.max(arm.phi) } else { usual }
}

/// Joins what the time before the deploy and the service's other operations say with what the operation's own buckets say,
/// each by what it is worth.
///
/// The former are only stand-ins, so each counts for at most six pairs.
pub fn joined(before: Measure, others: Measure, during: Measure, max: f64) -> f64 {
    let (first, second) = (before.pairs.min(6.0), others.pairs.min(6.0));
    let total = first + second + during.pairs;
    if total <= 0.0 {
        return 1.0;
    }
    ((first * before.phi + second * others.phi + during.pairs * during.phi) / total).clamp(1.0, max.max(1.0))
}

fn over_stretches(mut sums: impl FnMut(usize) -> Sums) -> Measure {
    let mut best = Measure { phi: 1.0, pairs: 0.0 };
    for length in STRETCHES {
        let found = sums(length).measure(if length == 1 { 0.0 } else { 1.0 });
        best.pairs = best.pairs.max(found.pairs);
        best.phi = best.phi.max(found.phi);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_in_clumps_of_four_measure_four() {
        // The same counts, once as they are and once with every event four times over.
        let plain: Vec<(f64, f64)> = (0..400).map(|i| (f64::from((i * 7919 + 13) % 5), 1_000.0)).collect();
        let clumped: Vec<(f64, f64)> = plain.iter().map(|(bad, n)| (bad * 4.0, *n)).collect();
        let ratio = of_arm(&clumped).phi / of_arm(&plain).phi;
        assert!((3.0..5.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_lasting_change_is_not_a_burst() {
        let steady: Vec<(f64, f64)> = (0..100).map(|i| (if i < 50 { 10.0 } else { 50.0 }, 1_000.0)).collect();
        // One pair of the longest stretches straddles it; a lasting measure would be near 17.
        assert!(of_arm(&steady).phi < 2.0);
    }

    #[test]
    fn a_past_in_clumps_is_believed_beyond_the_usual_and_does_not_thin_out() {
        let clumped: Vec<(f64, f64)> = (0..120).map(|i| (100.0 * f64::from((i * 7919 + 13) % 5), 30_000.0)).collect();
        let past = of_arm(&clumped);
        assert!(past.phi > 50.0, "{past:?}");
        let nothing = Tempering::default().measure();
        let halved = expected_of_share(past, 30_000.0, 15_000.0, 15_000.0, 8.0);
        let phi = joined(halved, nothing, nothing, most(past, 8.0));
        assert!((phi - past.phi).abs() < 1e-9, "{phi} {past:?}");
        // Two pairs are no past.
        let short = of_arm(&clumped[..4]);
        assert_eq!(most(short, 8.0), 8.0);
        assert_eq!(joined(past, nothing, nothing, most(short, 8.0)), 8.0);
    }

    #[test]
    fn one_incident_is_left_out_and_what_recurs_is_not() {
        let quiet = |i: usize| (f64::from((i * 7919 + 13) as u32 % 2), 200.0);
        let past = |failing: &dyn Fn(usize) -> bool| -> Bursts {
            let buckets = (0..360).map(|i| if failing(i) { (150.0, 200.0) } else { quiet(i) });
            Bursts::of(&buckets.collect::<Vec<_>>())
        };
        for (from, to) in [(180, 181), (180, 183), (181, 187), (175, 235)] {
            let one = past(&|i| (from..to).contains(&i));
            assert!(one.all.phi > 8.0, "{from} to {to}: {one:?}");
            assert!(one.measure(8.0).phi < 2.0, "{from} to {to}: {one:?}");
            assert_eq!(most(one.measure(8.0), 8.0), 8.0);
            assert_eq!(one.incident(8.0), one.all.phi);
        }
        let recurring = past(&|i| i % 45 == 20);
        assert_eq!(recurring.measure(8.0), recurring.all);
        assert!(most(recurring.measure(8.0), 8.0) > 50.0, "{recurring:?}");
        assert_eq!(recurring.incident(8.0), 1.0);
        // Of a few minutes nobody can tell which it is.
        let short = Bursts::of(&[(0.0, 200.0), (150.0, 200.0), (0.0, 200.0), (1.0, 200.0)]);
        assert_eq!(short.measure(8.0), short.all);
    }

    #[test]
    fn nothing_known_means_no_tempering() {
        let nothing = Tempering::default().measure();
        assert_eq!(joined(of_arm(&[]), nothing, nothing, 8.0), 1.0);
    }
}

//! How much burstier than chance the counts are: the factor by which evidence is tempered.
//!
//! Neighbouring stretches of time are compared with each other, so that a lasting effect, a slow drift and the time of day
//! leave no trace in the measure, while bursts do. Given the totals of a pair of stretches the first one's count is
//! hypergeometric; the sum of squared deviations over the sum of variances is one where nothing but chance is at work.
//! Stretches of one, three and six buckets are tried, because bursts may outlast a bucket, and the largest is taken; the
//! longer ones, measured on fewer pairs, only as far as they exceed their own uncertainty.
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
    over_stretches(|length| {
        let mut sums = Sums::default();
        let stretches: Vec<(f64, f64)> =
            buckets.chunks(length).map(|c| c.iter().fold((0.0, 0.0), |sum, b| (sum.0 + b.0, sum.1 + b.1))).collect();
        for pair in stretches.chunks_exact(2) {
            let ((b1, n1), (b2, n2)) = (pair[0], pair[1]);
            let (hits, total) = (b1 + b2, n1 + n2);
            if total < 2.0 {
                continue;
            }
            sums.add(b1 - hits * n1 / total, hits * (total - hits) * n1 * n2 / (total * total * (total - 1.0)));
        }
        sums
    })
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
    fn nothing_known_means_no_tempering() {
        let nothing = Tempering::default().measure();
        assert_eq!(joined(of_arm(&[]), nothing, nothing, 8.0), 1.0);
    }
}

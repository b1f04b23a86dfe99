//! Falls of traffic at other times of the service's own past, as placebos of the one since the start.
//!
//! At each minute of the past a deploy is imagined, and the minutes after it are held against those before it just as the
//! deploy's are; and those before it against those after, because what rises within the hour also falls. Of the evidence
//! since the start only what exceeds the largest that any placebo ever reached is left: in a steady past that is all of it, and
//! where traffic comes and goes by itself, a fall has to show more than those did. The rank of the fall among them,
//! `(1 + #{placebo >= observed}) / (1 + K)`, is its p-value.
//!
//! Falls of the past raise the dispersion of minutes beyond all measure, so that a service that was down for a few minutes within the
//! hour could lose all its traffic unseen. As placebos stand for them, a third of that is taken back ([`varies`]).
//!
//! *Cost.* Two processes a minute of the past, and as many strata for each minute since the start.

use crate::e_process::Exceedance;

/// Placebos without which nothing is concluded from them.
const PLACEBOS_MIN: usize = 10;
/// Minutes that there must be on both sides.
const BESIDE_MIN: usize = 5;
/// The mean of the lower nine tenths of the squares of standard normal numbers.
const LOWER_MEAN: f64 = 0.623;

/// The test at other times: minutes before the start, the evidence of a fall and of a rise there, and the most of either.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placebos(Vec<(usize, [Exceedance; 2], f64)>);

impl Placebos {
    /// Takes place at each of `minutes` that has some on both sides.
    pub(crate) fn of(minutes: &[(f64, f64)]) -> Self {
        let places = BESIDE_MIN..(minutes.len() + 1).saturating_sub(BESIDE_MIN);
        Self(places.map(|at| (at, <[Exceedance; 2]>::default(), 0.0)).collect())
    }

    /// Says whether there are enough of them to conclude anything.
    pub(crate) fn tell(&self) -> bool {
        self.0.len() >= PLACEBOS_MIN
    }

    /// Takes the next minute since each imagined start; `minutes` come with the nearest to the real one first. Those that have no
    /// minute left on one side stay as they are.
    pub(crate) fn push(
        &mut self,
        minute: usize,
        minutes: &[(f64, f64)],
        mut test: impl FnMut(&mut Exceedance, (f64, f64), (f64, f64)),
    ) {
        for (at, [falls, rises], sup) in &mut self.0 {
            let after = at.checked_sub(minute + 1).and_then(|later| minutes.get(later));
            if let (Some(after), Some(before)) = (after, minutes.get(*at + minute)) {
                test(falls, *before, *after);
                test(rises, *after, *before);
                *sup = sup.max(falls.value()).max(rises.value());
            }
        }
    }

    /// Returns what is left of a logarithm of evidence once the placebos had theirs.
    pub(crate) fn tempered(&self, log_e: f64) -> f64 {
        if log_e <= 0.0 { log_e } else { log_e - self.largest() }
    }

    /// The largest logarithm of evidence that any of them reached; none where they are too few.
    pub(crate) fn largest(&self) -> f64 {
        if self.tell() { self.0.iter().map(|(.., sup)| *sup).fold(0.0, f64::max) } else { 0.0 }
    }

    /// The rank of the evidence among them; `None` where they are too few.
    pub(crate) fn rank(&self, log_e: f64) -> Option<f64> {
        let larger = self.0.iter().filter(|(.., sup)| *sup >= log_e).count();
        self.tell().then(|| (1 + larger) as f64 / (1 + self.0.len()) as f64)
    }
}

/// How much burstier than chance minutes are: the mean, in logarithms, of `dispersion`, which falls have raised, twice, and of what it
/// is between falls.
pub(crate) fn varies(minutes: &[(f64, f64)], dispersion: f64) -> f64 {
    (dispersion * dispersion * dispersion.min(between_falls(minutes))).cbrt()
}

/// How much burstier than chance minutes are next to each other, the tenth of the pairs left out that differ most: those are
/// where traffic fell or rose.
fn between_falls(minutes: &[(f64, f64)]) -> f64 {
    let pairs = minutes.windows(2).map(|pair| (pair[0].0, pair[1].0)).filter(|(one, other)| one + other > 0.0);
    let mut squares: Vec<f64> = pairs.map(|(one, other)| (one - other) * (one - other) / (one + other)).collect();
    squares.sort_by(f64::total_cmp);
    squares.truncate(squares.len() - squares.len() / 10);
    (squares.iter().sum::<f64>() / squares.len().max(1) as f64 / LOWER_MEAN).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_varies_by_one_and_a_fall_leaves_no_trace() {
        let mut dice = 7_u64;
        let mut minutes: Vec<(f64, f64)> = (0..2_000)
            .map(|_| {
                // The sum of a hundred even ones has a variance of a hundred twelfths.
                let sum: u64 = (0..100)
                    .map(|_| {
                        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        dice >> 44
                    })
                    .sum();
                (1_000.0 + (sum as f64 / f64::from(1 << 20) - 50.0) * 12.0_f64.sqrt() * 10.0_f64.sqrt(), 0.0)
            })
            .collect();
        let steady = between_falls(&minutes);
        assert!((0.9..1.15).contains(&steady), "{steady}");
        minutes[900..960].iter_mut().for_each(|minute| minute.0 = 0.0);
        let fell = between_falls(&minutes);
        assert!((0.9..1.15).contains(&fell), "{fell}");
    }
}

//! How far the level of a metric moves from one window to the next, by itself and now.
//!
//! What it moved without any deploy is measured window by window over its past; what it moved since is held against that.
//!
//! *Source.* As [`crate::metrics`].

use crate::settling::{self, Point};

/// Minutes of a window.
pub(crate) const WINDOW: usize = 5;
/// Windows of the past without which its noise is not known.
pub(crate) const WINDOWS_MIN: usize = 4;
/// Prior variance of the effect, in units of the noise's.
const PRIOR: f64 = 30.0;
/// Share of the placebo moves that may be as large.
const PLACEBO_MAX: f64 = 0.02;
/// Share of what is tolerated by which a minute's level is at least uncertain: no fading is quite exponential.
const UNCERTAIN: f64 = 0.15;
/// What is taken to be missing to the whole of a share at least, as a part of it.
const SPARE_MIN: f64 = 0.1;

/// A minute of one arm: its values, and what each of them rests on. Where there is one only, it stands twice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Minute {
    pub(crate) minute: u64,
    pub(crate) readings: [(f64, f64); READINGS],
}

pub(crate) const READINGS: usize = 2;

/// How far one reading moves without any deploy.
pub(crate) struct PastMoves {
    freedom: f64,
    noise: f64,
    floor: f64,
    /// What a window rests on.
    weight: f64,
    placebos: Vec<f64>,
}

/// How far one reading moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    pub(crate) candidate: f64,
    pub(crate) reference: f64,
    /// By how much it is worse, and by how much beyond what is excused.
    pub(crate) grown: f64,
    pub(crate) worse: f64,
    pub(crate) noise: f64,
    /// Moves that tell the noise, and the largest of the past's.
    pub(crate) freedom: f64,
    pub(crate) largest: f64,
    pub(crate) floor: f64,
    pub(crate) log_e: f64,
    pub(crate) placebo: f64,
    pub(crate) unusual: bool,
    /// True where the same hours before excuse some of it.
    pub(crate) seasonal: bool,
}

impl Move {
    /// Returns by how much the move may be another than what was measured, either way: as far as the test tells it from that with evidence
    /// of less than `1 / alpha`, and no less than the series ever moved by itself.
    ///
    /// A band of measured noise: it is no better than the past's moves are an example of those to come.
    pub(crate) fn band(&self, alpha: f64) -> f64 {
        // The evidence of `held`, solved for its quotient.
        let ratio = ((2.0 * (1.0 / alpha).ln() + (1.0 + PRIOR).ln()) / (self.freedom + 1.0)).exp();
        let told = if ratio < 1.0 + PRIOR {
            self.noise * (self.freedom * (ratio - 1.0) / (1.0 - ratio / (1.0 + PRIOR))).sqrt()
        } else {
            f64::INFINITY
        };
        told.max(self.largest)
    }

    /// Says whether the level would stay above half of what is `allowed`, as all minutes since the first show.
    pub(crate) fn stays(&self, minutes: &[Minute], reading: usize, sign: f64, allowed: f64) -> bool {
        let first = minutes.first().map_or(0, |m| m.minute);
        // Its noise is that of a window; a minute has more, and one that rests on less, as the first may, has more than others.
        let variance = self.noise * self.noise * WINDOW as f64;
        let least = (UNCERTAIN * allowed).powi(2);
        let usual = weight(minutes, reading) / minutes.len().max(1) as f64;
        let points = minutes.iter().map(|m| {
            let (value, rests_on) = m.readings[reading];
            Point {
                at_s: 60.0 * (m.minute - first) as f64 + 30.0,
                value: sign * (value - self.reference),
                variance: variance.max(least) * (usual / rests_on.max(1.0)).max(1.0),
            }
        });
        settling::level_remains(&points.collect::<Vec<_>>(), 0.5 * allowed + (self.grown - self.worse))
    }
}

impl PastMoves {
    /// Measures it; `None` where there is too little of the past.
    pub(crate) fn of(before: &[Minute], reading: usize) -> Option<Self> {
        let windows: Vec<f64> = before.rchunks_exact(WINDOW).map(|window| mean(window, reading)).collect();
        let moves: Vec<f64> = windows.windows(2).map(|pair| pair[0] - pair[1]).collect();
        if moves.len() < WINDOWS_MIN {
            return None;
        }
        let usual = windows.iter().sum::<f64>() / windows.len() as f64;
        let freedom = moves.len() as f64;
        // A series that never moved may yet move by a thousandth without meaning anything.
        let floor = (1e-3 * usual.abs()).max(1e-12);
        let pairs = before.windows(2 * WINDOW);
        Some(Self {
            freedom,
            noise: (moves.iter().map(|d| d * d).sum::<f64>() / freedom).sqrt().max(floor),
            floor,
            weight: weight(before, reading) * WINDOW as f64 / before.len() as f64,
            // All moves from one window to the next, whatever minute they begin in.
            placebos: pairs.map(|pair| mean(&pair[WINDOW..], reading) - mean(&pair[..WINDOW], reading)).collect(),
        })
    }

    /// Holds two windows against each other; `excused` says how much of a move from a level, with a noise, the hour alone makes, and
    /// how much others do.
    pub(crate) fn held(
        &self,
        reading: usize,
        window: &[Minute],
        reference: &[Minute],
        sign: f64,
        excused: impl Fn(f64, f64) -> [f64; 2],
    ) -> Move {
        let (candidate, against) = (mean(window, reading), mean(reference, reading));
        // The past's noise is that of two windows of its weight; a mean over less moves more, as the root of it.
        let lighter = |arm: &[Minute]| self.weight / weight(arm, reading);
        let scale = (0.5 * (lighter(window) + lighter(reference))).max(1.0).sqrt();
        let noise = self.noise * scale;
        let [seasonal, by_others] = excused(against, noise);
        let grown = sign * (candidate - against);
        let worse = grown - seasonal - by_others;
        let t = worse.max(0.0) / noise;
        let ratio = (1.0 + t * t / self.freedom) / (1.0 + t * t / (self.freedom * (1.0 + PRIOR)));
        let as_large = self.placebos.iter().filter(|placebo| sign * **placebo >= worse).count() as f64;
        let all = self.placebos.len() as f64;
        Move {
            candidate,
            reference: against,
            grown,
            worse,
            noise,
            freedom: self.freedom,
            largest: scale * self.placebos.iter().map(|placebo| placebo.abs()).fold(0.0, f64::max),
            floor: self.floor,
            log_e: 0.5 * (self.freedom + 1.0) * ratio.ln() - 0.5 * (1.0 + PRIOR).ln(),
            placebo: (1.0 + as_large) / (1.0 + all),
            unusual: as_large <= PLACEBO_MAX * all,
            seasonal: seasonal > 0.0,
        }
    }
}

/// What the tolerated move of a share of `whole` is a part of: what is missing to the whole, a tenth of it at least.
pub(crate) fn spare(reference: f64, whole: f64) -> f64 {
    reference.abs().min((whole - reference).max(SPARE_MIN * whole))
}

fn mean(window: &[Minute], reading: usize) -> f64 {
    window.iter().map(|m| m.readings[reading].0).sum::<f64>() / window.len().max(1) as f64
}

/// Returns what the values of a window rest on.
fn weight(window: &[Minute], reading: usize) -> f64 {
    window.iter().map(|m| m.readings[reading].1).sum::<f64>().max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Orders a request by minute, of about 165 requests but in the first minute, which began late.
    fn minutes(first: f64) -> Vec<Minute> {
        let told = [
            (0.02, first),
            (0.213, 164.0),
            (0.207, 174.0),
            (0.226, 164.0),
            (0.241, 166.0),
            (0.238, 164.0),
            (0.244, 131.0),
        ];
        told.into_iter().zip(0..).map(|(reading, minute)| Minute { minute, readings: [reading; READINGS] }).collect()
    }

    /// What fell from `reference` to `candidate`, beyond doubt.
    fn moved(candidate: f64, reference: f64, noise: f64) -> Move {
        let grown = reference - candidate;
        Move {
            candidate,
            reference,
            grown,
            worse: grown,
            noise,
            freedom: 11.0,
            largest: noise,
            floor: 1e-3,
            log_e: 13.5,
            placebo: 0.02,
            unusual: true,
            seasonal: false,
        }
    }

    #[test]
    fn a_band_holds_the_true_move_of_what_varies_as_it_did_and_is_no_less_than_it_ever_moved() {
        let mut dice = 5_u64;
        let mut chance = || {
            // The sum of twelve even ones has a variance of one.
            let sum: f64 = (0..12)
                .map(|_| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (dice >> 40) as f64 / f64::from(1 << 24)
                })
                .sum();
            sum - 6.0
        };
        let mut missed = 0;
        for _ in 0..400 {
            let minutes: Vec<Minute> =
                (0..90).map(|minute| Minute { minute, readings: [(50.0 + chance(), 10.0); READINGS] }).collect();
            let (before, since) = minutes.split_at(60);
            let past = PastMoves::of(before, 0).expect("an hour");
            // At every look of half an hour; in truth nothing moved.
            let off = since.windows(WINDOW).any(|window| {
                let found = past.held(0, window, &before[60 - WINDOW..], 1.0, |_, _| [0.0; 2]);
                assert!(found.band(0.05) >= past.placebos.iter().map(|by| by.abs()).fold(0.0, f64::max));
                found.grown.abs() > found.band(0.05)
            });
            missed += u32::from(off);
        }
        assert!(missed <= 20, "{missed} of 400");
        // Of a past too short to tell anything is possible.
        assert_eq!(Move { freedom: 1.0, ..moved(2.0, 1.0, 0.1) }.band(0.001), f64::INFINITY);
    }

    #[test]
    fn a_first_minute_of_few_requests_is_not_where_it_settles_from() {
        let lost = moved(0.231, 0.963, 0.031);
        for minutes in [minutes(49.0), minutes(10.0), minutes(164.0)[1..].to_vec()] {
            assert!(lost.stays(&minutes, 0, -1.0, 0.2 * 0.963), "{} requests at first", minutes[0].readings[0].1);
        }
    }

    #[test]
    fn what_fades_does_not_stay() {
        let fading = |minute: u64| 1.0 - 0.8 * (-(minute as f64 + 0.5) / 2.0).exp();
        let minutes: Vec<Minute> =
            (0..7).map(|minute| Minute { minute, readings: [(fading(minute), 165.0); READINGS] }).collect();
        let fades = moved(mean(&minutes[2..], 0), 1.0, 0.01);
        assert!(!fades.stays(&minutes, 0, -1.0, 0.1));
    }
}

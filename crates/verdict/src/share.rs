//! The sample-ratio test: does the candidate get the share of the traffic that its rollout intends?
//!
//! A canary that gets far less than it should loses requests or telemetry, one that gets far more is asked again and again;
//! either way what is compared is not what was meant to be. The marker says the share in percent as its attribute
//! [`WEIGHT`], or several where the rollout goes in steps: between the least and the greatest all is intended. Bucket by bucket,
//! while both serve, the requests of both are held against the share by two e-processes, "too few" and "too many", averaged, and
//! tempered by how much the share varies. Each begins anew wherever it speaks against a mismatch, so that a share that is lost on
//! the way is found; the last minutes together have to show it as well. With the canary it ends: once one of both serves no more, or
//! the deploy is finished.
//!
//! *Invariants.* It stops no deploy and pages nobody: while it stands there is no pass. Therefore it may begin anew, which spends
//! more than one alpha.
//!
//! *Source.* Fabijan et al., "Diagnosing sample ratio mismatch in online controlled experiments" (KDD 2019); Lindon and Malek
//! (NeurIPS 2022) for the sequential form.

use std::collections::VecDeque;

use plimsoll_model::{Bucket, Deploy};

use crate::dispersion::Tempering;
use crate::e_process::{Exceedance, Stratum, log_mean};
use crate::tolerances::Tolerances;

/// The attribute of a marker that says the share in percent.
pub(crate) const WEIGHT: &str = "canary.weight";
/// Times as many or as few that routing by connections, sessions and instances does by itself.
const RATIO: f64 = 1.5;
/// Buckets that have to show it together.
const LATEST: usize = 30;
/// Buckets after the candidate's first in which its share still builds up.
const BUILDS_UP: u64 = 6;

/// The share intended, and the one that is there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share {
    /// The least and the greatest; `None` where the marker says none.
    intended: Option<[f64; 2]>,
    until: Option<Bucket>,
    few: Exceedance,
    many: Exceedance,
    tempering: [Tempering; 2],
    /// Requests of the candidate and of all in the latest buckets.
    latest: VecDeque<(f64, f64)>,
}

impl Share {
    pub(crate) fn of(deploy: &Deploy) -> Self {
        let intended = deploy.attributes.get(WEIGHT).and_then(|text| intended(text));
        Self { intended, until: deploy.finished_at.map(|at| at.bucket()), ..Self::default() }
    }

    /// Takes the requests of the candidate and of all others in a bucket; `first` is the candidate's first where both serve, and
    /// nothing where they do not.
    pub(crate) fn push(&mut self, bucket: Bucket, first: Option<Bucket>, candidate: f64, others: f64) {
        let Some([least, most]) = self.intended else { return };
        let Some(first) = first.filter(|_| self.until.is_none_or(|until| bucket < until)) else {
            // What was not as it should be is over with the canary.
            (self.few, self.many) = (Exceedance::default(), Exceedance::default());
            self.latest.clear();
            return;
        };
        if bucket.0 < first.0 + BUILDS_UP {
            return;
        }
        let stratum = |bad_b: f64, n_b: f64, bad_a: f64, n_a: f64| Stratum {
            bucket,
            bad_b,
            n_b,
            bad_a,
            n_a,
            handicap: 1.0,
            caution: 1.0,
        };
        let few = stratum(others, 1.0 - least, candidate, least);
        let many = stratum(candidate, most, others, 1.0 - most);
        for ((test, s), tempering) in
            [(&mut self.few, few), (&mut self.many, many)].into_iter().zip(&mut self.tempering)
        {
            test.push(&s, RATIO, tempering.measure().phi);
            tempering.push(&s);
            if test.value() < 0.0 {
                *test = Exceedance::default();
            }
        }
        self.latest.push_back((candidate, candidate + others));
        while self.latest.len() > LATEST {
            self.latest.pop_front();
        }
    }

    /// Returns the share that is there and the one intended that is nearest to it, where they differ beyond doubt.
    pub(crate) fn mismatch(&self, tolerances: &Tolerances) -> Option<(f64, f64)> {
        let [least, most] = self.intended?;
        let (few, many) = (self.few.value(), self.many.value());
        if log_mean(&[few, many]) < (1.0 / tolerances.alpha).ln() {
            return None;
        }
        let (own, all) = self.latest.iter().fold((0.0, 0.0), |sum, (own, all)| (sum.0 + own, sum.1 + all));
        let odds = |share: f64| share / (1.0 - share).max(1e-9);
        let (there, few) = (own / f64::max(all, 1.0), few > many);
        let beyond = if few { odds(there) * RATIO < odds(least) } else { odds(there) > RATIO * odds(most) };
        beyond.then_some((there, if few { least } else { most }))
    }
}

/// Reads percentages, separated by commas; `None` where that is not what they are.
fn intended(text: &str) -> Option<[f64; 2]> {
    let shares = text.split(',').map(|part| part.trim().trim_end_matches('%').trim_end().parse::<f64>().ok());
    let shares: Vec<f64> = shares.map(|percent| percent.map(|percent| percent / 100.0)).collect::<Option<_>>()?;
    // At none and at all of it there is nothing to compare.
    let partial: Vec<f64> = shares.into_iter().filter(|share| *share > 0.0 && *share < 1.0).collect();
    let least = partial.iter().copied().min_by(f64::total_cmp)?;
    Some([least, partial.into_iter().max_by(f64::total_cmp)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        assert_eq!(intended("10"), Some([0.1, 0.1]));
        assert_eq!(intended(" 5 %, 25%,50,100"), Some([0.05, 0.5]));
        for text in ["", "ten", "100", "0", "5,some", "NaN", "-5"] {
            assert_eq!(intended(text), None, "{text}");
        }
    }
}

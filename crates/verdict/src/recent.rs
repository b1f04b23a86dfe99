//! What the candidate did of late, bucket by bucket.

use plimsoll_model::Bucket;

use crate::operation::Operation;

/// What is wrong without a control beside, and times its share beside one, from which on it came with the time alone.
const ALONE_MIN: f64 = 5.0;
const ALONE_RATIO: f64 = 3.0;

/// What the candidate did in one bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recent {
    pub(crate) bucket: Bucket,
    pub(crate) requests: f32,
    pub(crate) errors: f32,
    /// Failures of which it is known where they began.
    pub(crate) blamed: f32,
    pub(crate) timed: f32,
    pub(crate) tail: [f32; 2],
    pub(crate) log_mean: f32,
    /// Whether the control served at the same time.
    pub(crate) beside: bool,
}

impl Operation {
    /// Says whether what is wrong, as `of` counts it, came once no control served beside any more: whatever it is then, it is held
    /// against the time before.
    pub(crate) fn went_wrong_alone(&self, of: impl Fn(&Recent) -> (f32, f32)) -> bool {
        let sum = |beside: bool| {
            let those = self.recent.iter().filter(|recent| recent.beside == beside).map(&of);
            those.fold((0.0, 0.0), |sum, (hits, all)| (sum.0 + f64::from(hits), sum.1 + f64::from(all)))
        };
        let ((beside, all_beside), (alone, all_alone)) = (sum(true), sum(false));
        alone >= ALONE_MIN && alone * all_beside > ALONE_RATIO * beside.max(1.0) * all_alone
    }

    /// Sums `(hits, all)` over the candidate's buckets in `from..=to`.
    pub(crate) fn over(&self, from: Bucket, to: Bucket, of: impl Fn(&Recent) -> (f32, f32)) -> (f64, f64) {
        self.recent
            .iter()
            .rev()
            .skip_while(|recent| recent.bucket > to)
            .take_while(|recent| recent.bucket >= from)
            .map(of)
            .fold((0.0, 0.0), |sum, (hits, all)| (sum.0 + f64::from(hits), sum.1 + f64::from(all)))
    }

    /// Returns the largest share that `length` buckets in a row hold of the candidate's failures beyond `usual`, its share of failed
    /// requests; infinite where there are none beyond.
    pub(crate) fn densest(&self, length: u64, usual: f64) -> f64 {
        let more = |recent: &Recent| f64::from(recent.errors) - usual * f64::from(recent.requests);
        let (mut all, mut latest, mut most, mut first) = (0.0, 0.0, 0.0_f64, 0);
        for recent in &self.recent {
            all += more(recent);
            latest += more(recent);
            while self.recent[first].bucket.0 + length <= recent.bucket.0 {
                latest -= more(&self.recent[first]);
                first += 1;
            }
            most = most.max(latest);
        }
        if all > 0.0 { most / all } else { f64::INFINITY }
    }
}

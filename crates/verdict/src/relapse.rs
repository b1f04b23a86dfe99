//! Whether what had recovered goes wrong again.
//!
//! It is over once it is below half of what is tolerated, and it has come back only once chance does not make it exceed that:
//! who hovers about the line is told of once. Of what is new, of restarts and of metrics, whose evidence is never worn down, it
//! takes as much in the time since as it took at first. What served no more, or whose place a later deploy took, does not come back.

use plimsoll_model::Bucket;

use crate::fold::Fold;
use crate::gate::LASTING_REQUESTS;
use crate::input::JudgeInput;
use crate::subject::Subject;

/// Standard deviations of a count that chance does not make.
const BEYOND: f64 = 3.0;

/// Says whether any of `confirmed` is shown anew by the buckets `from..=to`.
pub(crate) fn relapsed(input: &JudgeInput, fold: &Fold, confirmed: &[Subject], from: Bucket, to: Bucket) -> bool {
    input.superseded_at.is_none() && confirmed.iter().any(|subject| is_back(input, fold, *subject, from, to))
}

fn is_back(input: &JudgeInput, fold: &Fold, subject: Subject, from: Bucket, to: Bucket) -> bool {
    let tolerances = &input.tolerances;
    let standing = fold.standing(subject);
    let (excess, requests) = fold.excess(subject, from, to, tolerances);
    if !excess || requests < LASTING_REQUESTS {
        return false;
    }
    match subject {
        Subject::New(id) => fold.novelty.is_back(id, from, to, tolerances),
        Subject::NewLog(id) => fold.logs.is_back(id, from, to, tolerances),
        Subject::Restarts => fold.restarts.is_back(to),
        Subject::Metric(index) => fold.metrics[index].is_back(),
        _ => match fold.told(subject, from, to, tolerances) {
            Some(told) => told.is_beyond(BEYOND, standing.dispersion),
            // Its evidence was worn down as it recovered.
            None => standing.stands(-tolerances.alpha.ln(), (1.0 / tolerances.bound_alpha).ln()),
        },
    }
}

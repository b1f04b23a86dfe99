//! Whether a confirmed regression is over, where what it was held against is gone: its end is watched for longer than the time
//! before a deploy is kept.
//!
//! What was found stays as it was told. It is over once the candidate served nothing while others did, or once its failures
//! are back at what the findings say the control had; where that was no better, because of an outage that the time before had, once
//! they are half of what the findings say. Of other findings only the former is seen.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, SignalKind, Verdict};

use crate::fold::Fold;
use crate::gate::LASTING_REQUESTS;
use crate::input::JudgeInput;

/// Returns the phase of a regression that `former` confirmed and the tests of `fold` show no more.
pub(crate) fn phase(input: &JudgeInput, fold: &Fold, former: &Verdict) -> Phase {
    let silent = former.findings.iter().any(|finding| !finding.symptom && finding.signal == SignalKind::Silence);
    if former.phase != Phase::Confirmed || silent {
        return former.phase;
    }
    let until = input.known_until().bucket();
    let since = Bucket((until.0 + 1).saturating_sub(input.tolerances.recovery_s.div_ceil(10)));
    let version = fold.frame.version.as_str();
    // Requests and failures of late: of all operations, or of one.
    let served = |candidate: bool, operation: &str| -> (u64, u64) {
        let own = input.series.iter().filter(|series| series.key.service == input.deploy.service);
        own.filter(|series| (series.key.version == version) == candidate)
            .filter(|series| operation.is_empty() || series.key.operation == operation)
            .flat_map(|series| &series.cells)
            .filter(|(bucket, _)| *bucket >= since && *bucket <= until)
            .fold((0, 0), |sum, (_, cell)| (sum.0 + cell.requests, sum.1 + cell.errors))
    };
    if served(true, "").0 == 0 {
        return if served(false, "").0 > 0 { Phase::Recovered } else { former.phase };
    }
    let causes = || former.findings.iter().filter(|finding| !finding.symptom);
    let over = causes().all(|finding| {
        let failures = finding.signal == SignalKind::ErrorRate && finding.service == input.deploy.service.service;
        let (requests, errors) = served(true, &finding.operation);
        let (control, found) = (finding.baseline.value + input.tolerances.error_points / 2.0, finding.candidate.value);
        let allowed = if control < found { control } else { found / 2.0 };
        failures && requests as f64 >= LASTING_REQUESTS && errors as f64 <= allowed * requests as f64
    });
    if over && causes().next().is_some() { Phase::Recovered } else { former.phase }
}

//! Verdicts that stand where nothing is judged.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Comparison, Deploy, Design, Recommendation, UnixNanos, Verdict, VerdictKind};

use crate::open::Open;

/// The verdict on a deploy before anybody looked.
pub(crate) fn not_judged_yet(deploy: &Deploy, now: UnixNanos) -> Verdict {
    Verdict {
        deploy_id: deploy.id.clone(),
        verdict: VerdictKind::Inconclusive,
        decided: false,
        recommendation: Recommendation::Hold,
        design: Design::BeforeAfter,
        comparison: Comparison::default(),
        started_at: deploy.started_at,
        decided_at: None,
        time_to_decide_s: None,
        findings: Vec::new(),
        data_quality: Vec::new(),
        phase: Phase::Clear,
        summary: format!("{} {} has not been judged yet", deploy.service.service, deploy.version),
        evaluated_at: now,
        revision: 0,
    }
}

/// An inferred deploy that turned out to be announced: its marker carries the verdict.
pub(crate) fn announced_elsewhere(open: &Open, now: UnixNanos) -> Verdict {
    let deploy = &open.deploy;
    let revision = open.verdict.as_ref().map_or(0, |verdict| verdict.revision) + 1;
    Verdict {
        decided: true,
        decided_at: Some(now),
        data_quality: vec!["announced_elsewhere".to_owned()],
        summary: format!("{} {} is judged under the marker that announced it", deploy.service.service, deploy.version),
        revision,
        ..not_judged_yet(deploy, now)
    }
}

//! Between the model and the messages of `plimsoll.v1`.

use plimsoll_model as model;
use plimsoll_model::UnixNanos;
use prost_types::Timestamp;

use super::v1;

pub(super) fn timestamp(at: UnixNanos) -> Timestamp {
    let seconds = i64::try_from(at.0 / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.0 % 1_000_000_000).unwrap_or(0);
    Timestamp { seconds, nanos }
}

/// Reads a timestamp; `None` where it lies before 1970.
pub(super) fn instant(at: &Timestamp) -> Option<UnixNanos> {
    let seconds = u64::try_from(at.seconds).ok()?;
    let nanos = u64::try_from(at.nanos).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).filter(|n| *n <= UnixNanos::MAX.0).map(UnixNanos)
}

pub(super) fn deploy(deploy: model::Deploy) -> v1::Deploy {
    let text = Option::unwrap_or_default;
    v1::Deploy {
        id: deploy.id.to_string(),
        service: deploy.service.service,
        environment: deploy.service.environment,
        namespace: deploy.service.namespace,
        version: deploy.version,
        kind: deploy_kind(deploy.kind).into(),
        previous_version: text(deploy.previous_version),
        commit: text(deploy.commit),
        repository: text(deploy.repository),
        run_url: text(deploy.run_url),
        actor: text(deploy.actor),
        strategy: text(deploy.strategy),
        artifact: text(deploy.artifact),
        attributes: deploy.attributes.into_iter().collect(),
        started_at: Some(timestamp(deploy.started_at)),
        finished_at: deploy.finished_at.map(timestamp),
        status: match deploy.status {
            model::DeployStatus::Running => v1::DeployStatus::Running,
            model::DeployStatus::Succeeded => v1::DeployStatus::Succeeded,
            model::DeployStatus::Failed => v1::DeployStatus::Failed,
        }
        .into(),
        inferred: deploy.inferred,
        created_at: Some(timestamp(deploy.created_at)),
    }
}

fn deploy_kind(kind: model::DeployKind) -> v1::DeployKind {
    match kind {
        model::DeployKind::Release => v1::DeployKind::Release,
        model::DeployKind::Rollback => v1::DeployKind::Rollback,
        model::DeployKind::Config => v1::DeployKind::Config,
        model::DeployKind::Flag => v1::DeployKind::Flag,
        model::DeployKind::Infra => v1::DeployKind::Infra,
    }
}

/// Returns the name that a marker gives a kind; the number itself where it is unknown, so that the complaint can name it.
pub(super) fn kind_name(kind: i32) -> Option<String> {
    let name = match v1::DeployKind::try_from(kind) {
        Ok(v1::DeployKind::Unspecified) => return None,
        Ok(v1::DeployKind::Release) => "release",
        Ok(v1::DeployKind::Rollback) => "rollback",
        Ok(v1::DeployKind::Config) => "config",
        Ok(v1::DeployKind::Flag) => "flag",
        Ok(v1::DeployKind::Infra) => "infra",
        Err(_) => return Some(kind.to_string()),
    };
    Some(name.to_owned())
}

pub(super) fn verdict(verdict: model::Verdict) -> v1::Verdict {
    v1::Verdict {
        deploy_id: verdict.deploy_id.to_string(),
        verdict: match verdict.verdict {
            model::VerdictKind::Pass => v1::VerdictKind::Pass,
            model::VerdictKind::Regressed => v1::VerdictKind::Regressed,
            model::VerdictKind::Inconclusive => v1::VerdictKind::Inconclusive,
        }
        .into(),
        decided: verdict.decided,
        recommendation: match verdict.recommendation {
            model::Recommendation::Promote => v1::Recommendation::Promote,
            model::Recommendation::Hold => v1::Recommendation::Hold,
            model::Recommendation::Rollback => v1::Recommendation::Rollback,
        }
        .into(),
        design: match verdict.design {
            model::Design::Concurrent => v1::Design::Concurrent,
            model::Design::BeforeAfter => v1::Design::BeforeAfter,
            model::Design::Slo => v1::Design::Slo,
        }
        .into(),
        started_at: Some(timestamp(verdict.started_at)),
        decided_at: verdict.decided_at.map(timestamp),
        time_to_decide_s: verdict.time_to_decide_s,
        findings: verdict.findings.into_iter().map(finding).collect(),
        data_quality: verdict.data_quality,
        summary: verdict.summary,
        revision: verdict.revision,
    }
}

fn finding(finding: model::Finding) -> v1::Finding {
    let sample = |sample: model::Sample| Some(v1::Sample { value: sample.value, n: sample.n });
    v1::Finding {
        id: finding.id.to_string(),
        signal: finding.signal.as_str().to_owned(),
        service: finding.service,
        operation: finding.operation,
        culprit: Some(v1::Culprit {
            service: finding.culprit.service,
            version: finding.culprit.version,
            operation: finding.culprit.operation,
        }),
        baseline: sample(finding.baseline),
        candidate: sample(finding.candidate),
        unit: finding.unit,
        effect: finding.effect,
        interval_low: finding.interval[0],
        interval_high: finding.interval[1],
        e_value: finding.e_value,
        p_value: finding.p_value,
        exemplars: finding.exemplars,
        sql: finding.sql,
        summary: finding.summary,
        symptom: finding.symptom,
    }
}

pub(super) fn event(event: model::RegressionEvent) -> v1::RegressionEvent {
    v1::RegressionEvent {
        id: event.id.to_string(),
        r#type: event.kind.as_str().to_owned(),
        subject: event.subject,
        time: Some(timestamp(event.time)),
        deploy: Some(deploy(event.data.deploy)),
        verdict: Some(verdict(event.data.verdict)),
    }
}

//! Past deploys, as JSON lines: as they are announced, or as `GET /api/v1/deploys` lists them.

use std::path::Path;

use plimsoll_model::{Deploy, ServiceKey, UnixNanos};
use plimsoll_watch::NewDeploy;
use serde_json::Value;

use crate::object::Object;

/// One past deploy.
#[derive(Debug, Clone)]
pub(crate) enum Past {
    /// As a pipeline announces it: it gets an id here.
    Announced(Box<NewDeploy>),
    /// As it was recorded: it keeps its id, and so do its findings.
    Recorded(Box<Deploy>),
}

impl Past {
    /// Returns the service deployed.
    pub(crate) fn service(&self) -> ServiceKey {
        match self {
            Self::Recorded(deploy) => deploy.service.clone(),
            Self::Announced(marker) => ServiceKey {
                environment: marker.environment.clone(),
                namespace: marker.namespace.clone().unwrap_or_default(),
                service: marker.service.clone(),
            },
        }
    }
}

/// Reads all of them, earliest first.
///
/// # Errors
/// Every line that makes no sense, with its number.
pub(super) fn read(path: &Path) -> Result<Vec<(UnixNanos, Past)>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let mut deploys = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match parse(line) {
            Ok(deploy) => deploys.push(deploy),
            Err(problem) => problems.push(format!("`{}` line {}: {problem}", path.display(), number + 1)),
        }
    }
    if deploys.is_empty() && problems.is_empty() {
        problems.push(format!("`{}` holds no deploy", path.display()));
    }
    if !problems.is_empty() {
        return Err(problems.join("\n"));
    }
    deploys.sort_by_key(|(at, _)| *at);
    Ok(deploys)
}

fn parse(line: &str) -> Result<(UnixNanos, Past), String> {
    from_json(serde_json::from_str(line).map_err(|error| error.to_string())?)
}

/// Reads one, with when it started.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn from_json(value: Value) -> Result<(UnixNanos, Past), String> {
    if value.get("id").is_some() {
        let deploy: Deploy = serde_json::from_value(value).map_err(|error| error.to_string())?;
        let mut problems = NewDeploy::of(&deploy).problems(deploy.started_at);
        if deploy.id.as_str().trim().is_empty() {
            problems.insert(0, "`id` is empty: leave it out and the deploy gets one".to_owned());
        }
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        return Ok((deploy.started_at, Past::Recorded(Box::new(deploy))));
    }
    let Object(marker) = serde_json::from_value::<Object<NewDeploy>>(value).map_err(|error| error.to_string())?;
    let at = marker.started_at.as_deref().and_then(UnixNanos::parse_rfc3339);
    let at = at.ok_or("`started_at` is required, as RFC 3339, for instance `2026-01-31T12:00:00Z`")?;
    // It is registered in the midst of judging, when it is too late to say.
    let problems = marker.problems(at);
    if problems.is_empty() { Ok((at, Past::Announced(Box::new(marker)))) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_catalog::conformance::sample_deploy;
    use plimsoll_model::DeployId;
    use serde_json::json;

    #[test]
    fn a_marker_that_could_not_be_registered_is_refused_with_every_reason() {
        let marker = |service: &str, kind: &str| {
            let at = "2026-01-31T12:00:00Z";
            json!({ "service": service, "environment": "prod", "version": "2", "kind": kind, "started_at": at })
        };
        assert!(from_json(marker("cart", "config")).is_ok());
        let problem = from_json(marker("", "party")).expect_err("it has no service");
        assert!(problem.contains("`service` is required") && problem.contains("`kind` is `party`"), "{problem}");
        let problem = from_json(json!(["cart", "prod", "2"])).expect_err("it has no names");
        assert!(problem.contains("expected an object"), "{problem}");
    }

    #[test]
    fn a_deploy_with_an_id_is_checked_as_a_marker_is() {
        let recorded = |id: &str, version: &str| {
            let deploy = Deploy { id: DeployId::from_text(id), version: version.to_owned(), ..sample_deploy(1) };
            serde_json::to_value(deploy).expect("is written")
        };
        let (_, past) = from_json(recorded("dep_1", "2")).expect("as the server lists it");
        assert!(matches!(past, Past::Recorded(deploy) if deploy.id.as_str() == "dep_1"));
        let problem = from_json(recorded(" ", "")).expect_err("it has neither id nor version");
        assert!(problem.contains("`id` is empty") && problem.contains("`version` is required"), "{problem}");
    }
}

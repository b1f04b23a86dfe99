//! What a marker must say, and every complaint about one that does not.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_catalog::CatalogError;
use plimsoll_model::{Deploy, DeployId, DeployKind, DeployStatus, ServiceKey, UnixNanos};
use serde::{Deserialize, Deserializer};

/// Longest text of a field.
const TEXT_BYTES_MAX: usize = 1_024;
/// Most attributes.
const ATTRIBUTES_MAX: usize = 64;
/// How far ahead of the clock a start may lie.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How far behind.
const BEHIND_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A marker as it comes in: nothing is checked yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDeploy {
    /// Required.
    #[serde(default)]
    pub service: String,
    /// Required.
    #[serde(default)]
    pub environment: String,
    /// Required.
    #[serde(default)]
    pub version: String,
    /// `release` where absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// `service.namespace`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The version that it replaces.
    #[serde(default)]
    pub previous_version: Option<String>,
    /// Commit that was built.
    #[serde(default)]
    pub commit: Option<String>,
    /// Repository of the commit.
    #[serde(default)]
    pub repository: Option<String>,
    /// Address of the pipeline run.
    #[serde(default)]
    pub run_url: Option<String>,
    /// Who or what started it.
    #[serde(default)]
    pub actor: Option<String>,
    /// Rollout strategy.
    #[serde(default)]
    pub strategy: Option<String>,
    /// Identity of what runs.
    #[serde(default)]
    pub artifact: Option<String>,
    /// RFC 3339; now where absent.
    #[serde(default)]
    pub started_at: Option<String>,
    /// Anything else worth keeping.
    #[serde(default, deserialize_with = "none_if_null")]
    pub attributes: BTreeMap<String, String>,
}

/// A `null` says no more than an absent field, as in all the others.
fn none_if_null<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl NewDeploy {
    /// Lists what is wrong with it at a moment; nothing where it can be registered then.
    pub fn problems(&self, now: UnixNanos) -> Vec<String> {
        match self.clone().check(now, 0) {
            Ok(_) => Vec::new(),
            Err(RegisterError::Invalid(problems)) => problems,
            Err(error) => vec![error.to_string()],
        }
    }

    /// Makes a marker of a deploy that was recorded, so that the same can be said of it.
    pub fn of(deploy: &Deploy) -> Self {
        let deploy = deploy.clone();
        Self {
            service: deploy.service.service,
            environment: deploy.service.environment,
            namespace: Some(deploy.service.namespace),
            version: deploy.version,
            kind: Some(kind_name(deploy.kind).to_owned()),
            previous_version: deploy.previous_version,
            commit: deploy.commit,
            repository: deploy.repository,
            run_url: deploy.run_url,
            actor: deploy.actor,
            strategy: deploy.strategy,
            artifact: deploy.artifact,
            started_at: Some(deploy.started_at.to_rfc3339()),
            attributes: deploy.attributes,
        }
    }

    /// Checks everything and makes a deploy of it.
    pub(crate) fn check(self, now: UnixNanos, entropy: u128) -> Result<Deploy, RegisterError> {
        let mut problems = Vec::new();
        for (name, value) in
            [("service", &self.service), ("environment", &self.environment), ("version", &self.version)]
        {
            if value.trim().is_empty() {
                problems.push(format!("`{name}` is required"));
            }
        }
        let texts = [
            ("service", Some(&self.service)),
            ("environment", Some(&self.environment)),
            ("version", Some(&self.version)),
            ("namespace", self.namespace.as_ref()),
            ("previous_version", self.previous_version.as_ref()),
            ("commit", self.commit.as_ref()),
            ("repository", self.repository.as_ref()),
            ("run_url", self.run_url.as_ref()),
            ("actor", self.actor.as_ref()),
            ("strategy", self.strategy.as_ref()),
            ("artifact", self.artifact.as_ref()),
        ];
        for (name, value) in texts {
            check_text(name, value.map_or("", String::as_str), &mut problems);
        }
        if self.attributes.len() > ATTRIBUTES_MAX {
            problems
                .push(format!("`attributes` has {} entries, at most {ATTRIBUTES_MAX} are kept", self.attributes.len()));
        }
        for (name, value) in &self.attributes {
            check_text("attributes", name, &mut problems);
            check_text(&format!("attributes.{name}"), value, &mut problems);
        }
        let kind = parse_kind(self.kind.as_deref(), &mut problems);
        let started_at = parse_start(self.started_at.as_deref(), now, &mut problems);
        if !problems.is_empty() {
            return Err(RegisterError::Invalid(problems));
        }
        let kept = |text: Option<String>| text.filter(|text| !text.is_empty());
        Ok(Deploy {
            id: DeployId::new(now, entropy),
            service: ServiceKey {
                environment: self.environment,
                namespace: self.namespace.unwrap_or_default(),
                service: self.service,
            },
            version: self.version,
            kind,
            previous_version: kept(self.previous_version),
            commit: kept(self.commit),
            repository: kept(self.repository),
            run_url: kept(self.run_url),
            actor: kept(self.actor),
            strategy: kept(self.strategy),
            artifact: kept(self.artifact),
            attributes: self.attributes,
            started_at,
            finished_at: None,
            status: DeployStatus::Running,
            inferred: false,
            created_at: now,
        })
    }
}

fn check_text(name: &str, value: &str, problems: &mut Vec<String>) {
    if value.len() > TEXT_BYTES_MAX {
        problems.push(format!("`{name}` is {} bytes long, at most {TEXT_BYTES_MAX} are kept", value.len()));
    }
    if value.chars().any(char::is_control) {
        problems.push(format!("`{name}` holds control characters"));
    }
}

fn parse_kind(text: Option<&str>, problems: &mut Vec<String>) -> DeployKind {
    match text.unwrap_or("release") {
        "release" => DeployKind::Release,
        "rollback" => DeployKind::Rollback,
        "config" => DeployKind::Config,
        "flag" => DeployKind::Flag,
        "infra" => DeployKind::Infra,
        other => {
            problems.push(format!("`kind` is `{other}`: use one of `release`, `rollback`, `config`, `flag`, `infra`"));
            DeployKind::Release
        }
    }
}

fn kind_name(kind: DeployKind) -> &'static str {
    match kind {
        DeployKind::Release => "release",
        DeployKind::Rollback => "rollback",
        DeployKind::Config => "config",
        DeployKind::Flag => "flag",
        DeployKind::Infra => "infra",
    }
}

fn parse_start(text: Option<&str>, now: UnixNanos, problems: &mut Vec<String>) -> UnixNanos {
    let Some(text) = text else { return now };
    let Some(at) = UnixNanos::parse_rfc3339(text) else {
        problems.push(format!("`started_at` is `{text}`: write it as RFC 3339, for instance `2026-01-31T12:00:00Z`"));
        return now;
    };
    if at > now + AHEAD_MAX {
        problems.push(format!("`started_at` is `{text}`, more than a day ahead of the server's clock ({now})"));
    }
    if at < now - BEHIND_MAX {
        problems.push(format!("`started_at` is `{text}`, more than a year behind the server's clock ({now})"));
    }
    at
}

/// Why a marker was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// It makes no sense; every reason is listed.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// It could not be stored.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a deploy was not finished or decided on.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// There is no such deploy.
    #[error("there is no deploy `{0}`")]
    Unknown(DeployId),
    /// What was said makes no sense; every reason is listed.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// It could not be stored.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixNanos = UnixNanos(1_800_000_000_000_000_000);

    #[test]
    fn every_problem_of_a_marker_is_reported_at_once() {
        let marker = NewDeploy {
            service: " ".to_owned(),
            kind: Some("party".to_owned()),
            started_at: Some("yesterday".to_owned()),
            actor: Some("x".repeat(2_000)),
            commit: Some("a\nb".to_owned()),
            ..NewDeploy::default()
        };
        let RegisterError::Invalid(problems) = marker.check(NOW, 0).expect_err("much is wrong") else {
            panic!("invalid")
        };
        for expected in [
            "`service` is required",
            "`environment` is required",
            "`version` is required",
            "`kind` is `party`",
            "`started_at` is `yesterday`",
            "`actor` is 2000 bytes",
            "`commit` holds control characters",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        }
    }

    #[test]
    fn a_start_far_from_the_clock_is_refused_and_a_near_one_is_kept() {
        let marker = |started_at: &str| NewDeploy {
            service: "cart".to_owned(),
            environment: "prod".to_owned(),
            version: "2".to_owned(),
            started_at: Some(started_at.to_owned()),
            ..NewDeploy::default()
        };
        assert!(marker("2099-01-01T00:00:00Z").check(NOW, 0).is_err());
        assert!(marker("1999-01-01T00:00:00Z").check(NOW, 0).is_err());
        let an_hour_ago = (NOW - Duration::from_secs(3_600)).to_rfc3339();
        assert_eq!(marker(&an_hour_ago).check(NOW, 0).expect("valid").started_at, NOW - Duration::from_secs(3_600));
    }
}

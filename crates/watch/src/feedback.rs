//! What humans say of verdicts: kept, counted, and heeded until it expires.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_catalog::CatalogError;
use plimsoll_model::{Answer, DeployId, Feedback, ServiceKey, Suppressed, UnixNanos, VerdictKind};
use serde::Serialize;

use crate::register::FinishError;
use crate::watcher::Watcher;

/// How long `wrong` and `known` silence what they were said of.
const EXPIRES_AFTER: Duration = Duration::from_secs(30 * 86_400);
/// How long they may be told to.
const EXPIRES_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Answers that are looked through.
const FEEDBACK_MAX: u32 = 1_000;
/// How long what was read of a service is taken for what it is; what is said here is seen at once.
const KEPT: Duration = Duration::from_secs(30);
/// Services of which it is kept.
const SERVICES_KEPT: usize = 4_096;

/// How often verdicts were right, as far as anybody said so.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Precision {
    /// Deploys called regressed that were.
    pub right: u64,
    /// Deploys called regressed that were not.
    pub wrong: u64,
    /// Deploys called regressed for what was known.
    pub known: u64,
    /// Share of those called regressed that were, known or not; `None` where nobody said anything.
    pub precision: Option<f64>,
}

/// Lists what is silenced at `now` in verdicts of deploy `of`. What is said of a deploy silences later ones: its own incident goes on until it
/// recovers, and is said to have ended then.
pub(crate) fn suppressed(feedback: &[Feedback], of: &DeployId, now: UnixNanos) -> BTreeSet<Suppressed> {
    let mut found = BTreeSet::new();
    let mut heard = BTreeSet::new();
    // Newest first: of a deploy the latest answer counts.
    for said in feedback.iter().filter(|said| said.deploy_id != *of) {
        let expired = said.expires_at.is_none_or(|at| at <= now);
        if heard.insert(said.deploy_id.clone()) && said.answer != Answer::Right && !expired {
            found.extend(said.suppressed.iter().cloned());
        }
    }
    found
}

impl Watcher {
    /// Returns what was said of a service's verdicts.
    pub(crate) async fn known_feedback(
        &self,
        service: &ServiceKey,
        now: UnixNanos,
    ) -> Result<Arc<[Feedback]>, CatalogError> {
        let fresh = |at: UnixNanos| now.since(at) < KEPT;
        if let Some((at, known)) = self.feedback.lock().get(service)
            && fresh(*at)
        {
            return Ok(Arc::clone(known));
        }
        let known: Arc<[Feedback]> = self.catalog.feedback(Some(service), FEEDBACK_MAX).await?.into();
        let mut kept = self.feedback.lock();
        if kept.len() >= SERVICES_KEPT {
            kept.retain(|_, (at, _)| fresh(*at));
        }
        if kept.len() < SERVICES_KEPT {
            kept.insert(service.clone(), (now, Arc::clone(&known)));
        }
        Ok(known)
    }

    /// Records what a human says of a deploy's verdict. `wrong` and `known` silence its findings on later deploys of the
    /// service until `until`, or for thirty days.
    ///
    /// # Errors
    /// There is no such deploy, nobody said it, `until` is past or more than a year ahead, or the catalog cannot be written.
    pub async fn answer(
        &self,
        id: &DeployId,
        answer: Answer,
        actor: &str,
        reason: &str,
        until: Option<UnixNanos>,
    ) -> Result<Feedback, FinishError> {
        let (mut problems, given_at) = (Vec::new(), (self.clock)());
        if actor.trim().is_empty() {
            problems.push("`actor` is required: say whose answer it is".to_owned());
        }
        if let Some(until) = until {
            if answer == Answer::Right {
                problems.push("`until` goes with `wrong` and `known`: what was right silences nothing".to_owned());
            } else if until <= given_at || until > given_at + EXPIRES_MAX {
                problems.push(format!("`until` is `{until}`: set it within a year from now on ({given_at})"));
            }
        }
        for (name, text, most) in [("actor", actor, 1_024), ("reason", reason, 16_384)] {
            if text.len() > most {
                problems.push(format!("`{name}` is {} bytes long, at most {most} are kept", text.len()));
            }
        }
        if !problems.is_empty() {
            return Err(FinishError::Invalid(problems));
        }
        let deploy = self.catalog.deploy(id).await?.ok_or_else(|| FinishError::Unknown(id.clone()))?;
        let verdict = self.verdict(id).await?;
        let regressed = verdict.as_ref().is_some_and(|verdict| verdict.verdict == VerdictKind::Regressed);
        let found = verdict.iter().flat_map(|verdict| &verdict.findings).filter(|finding| !finding.symptom);
        let silences = answer != Answer::Right;
        let feedback = Feedback {
            deploy_id: id.clone(),
            service: deploy.service,
            answer,
            actor: actor.to_owned(),
            reason: reason.to_owned(),
            regressed,
            suppressed: found.filter(|_| silences).map(Suppressed::of).collect(),
            expires_at: silences.then(|| until.unwrap_or(given_at + EXPIRES_AFTER)),
            given_at,
        };
        self.catalog.insert_feedback(&feedback).await?;
        // Whoever asks from here on reads it anew.
        self.feedback.lock().remove(&feedback.service);
        Ok(feedback)
    }

    /// Returns how often verdicts were right, by the latest answer on each deploy that was called regressed.
    ///
    /// # Errors
    /// The catalog cannot be read.
    pub async fn precision(&self) -> Result<Precision, CatalogError> {
        let mut counts = [0_u64; 3];
        let mut heard = BTreeSet::new();
        for said in self.catalog.feedback(None, 100_000).await? {
            if said.regressed && heard.insert(said.deploy_id.clone()) {
                counts[said.answer as usize] += 1;
            }
        }
        let [right, wrong, known] = counts;
        let all = right + wrong + known;
        let precision = (all > 0).then(|| (right + known) as f64 / all as f64);
        Ok(Precision { right, wrong, known, precision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::SignalKind;

    #[test]
    fn the_latest_answer_counts_until_it_expires() {
        let errors = Suppressed { signal: SignalKind::ErrorRate, operation: "GET /".to_owned() };
        let said = |answer, at: u64| Feedback {
            deploy_id: DeployId::from_text("dep_a"),
            service: ServiceKey::new("prod", "cart"),
            answer,
            actor: "me".to_owned(),
            reason: String::new(),
            regressed: true,
            suppressed: vec![errors.clone()],
            expires_at: Some(UnixNanos::from_secs(at + 100)),
            given_at: UnixNanos::from_secs(at),
        };
        let later =
            |said: &[Feedback], secs| suppressed(said, &DeployId::from_text("dep_b"), UnixNanos::from_secs(secs));
        assert_eq!(later(&[said(Answer::Wrong, 0)], 50), BTreeSet::from([errors.clone()]));
        assert!(later(&[said(Answer::Wrong, 0)], 100).is_empty(), "it has expired");
        assert!(later(&[said(Answer::Right, 9), said(Answer::Wrong, 0)], 50).is_empty(), "it was taken back");
        let itself = suppressed(&[said(Answer::Wrong, 0)], &DeployId::from_text("dep_a"), UnixNanos::from_secs(50));
        assert!(itself.is_empty(), "its own incident goes on until it ends");
    }
}

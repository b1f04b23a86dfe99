//! What is said of a verdict once it is closed: that telemetry of the time it judged came later still.
//!
//! *Invariants.* The answer, its evidence and its numbers stay as they were, and nobody is told by an event: the verdict gets a word and
//! a revision, and what it was judged from says so too, so that it is judged again alike.

use plimsoll_catalog::CatalogError;
use plimsoll_model::{DeployId, Interval, Verdict};
use plimsoll_signals::Belated;
use plimsoll_verdict::Tolerances;

use crate::evidence::amended;
use crate::open::Open;
use crate::watcher::Watcher;

/// What is said.
pub(crate) const LATE_SPANS: &str = "late_spans";

/// So many verdicts at a look: each is read, packed anew and written.
const SAID_AT_ONCE: usize = 16;

/// Says whether a verdict says so already.
fn is_said(verdict: &Verdict) -> bool {
    verdict.data_quality.iter().any(|word| word == LATE_SPANS)
}

/// Adds words to a verdict.
pub(crate) fn with_words(mut verdict: Verdict, words: &[String]) -> Verdict {
    if !words.is_empty() {
        verdict.data_quality.extend_from_slice(words);
        verdict.data_quality.sort();
        verdict.data_quality.dedup();
        verdict.revision += 1;
    }
    verdict
}

/// Says whether what came late bears on a deploy that nothing more is expected of: it is of a version that was compared, and of the
/// time that was judged.
pub(crate) fn bears_on(open: &Open, belated: &Belated, tolerances: &Tolerances) -> bool {
    // As it is stored: that is what is shown.
    let Some(verdict) = open.stored.as_ref().filter(|verdict| open.closed && !is_said(verdict)) else { return false };
    let start = open.deploy.started_at;
    let judged =
        Interval { from: start.bucket().start(), to: verdict.evaluated_at.min(start + tolerances.watch_max()) };
    let compared = open.deploy.version == belated.version || verdict.comparison.versions.contains(&belated.version);
    compared && belated.is_of(judged, verdict.evaluated_at)
}

impl Watcher {
    /// Says of closed verdicts that telemetry of their time came since the last look. One that cannot be stored stays
    /// in line.
    pub(crate) async fn say_belated(&self) -> Result<(), CatalogError> {
        let belated = self.signals.take_belated();
        if !belated.is_empty() {
            let open = self.open.lock();
            let met = belated.iter().flat_map(|of| open.met_by(of, &self.options.tolerances));
            self.belated.lock().extend(met);
        }
        let ids: Vec<DeployId> = self.belated.lock().iter().take(SAID_AT_ONCE).cloned().collect();
        let mut failed = None;
        for id in ids {
            match self.say_so(&id).await {
                Ok(()) => drop(self.belated.lock().remove(&id)),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn say_so(&self, id: &DeployId) -> Result<(), CatalogError> {
        let Some((stored, evidence)) = self.catalog.judged(id).await?.filter(|(stored, _)| !is_said(stored)) else {
            return Ok(());
        };
        let words = [LATE_SPANS.to_owned()];
        let verdict = with_words(stored, &words);
        let evidence = match evidence {
            // It may be megabytes, packed.
            Some(bytes) => {
                let (kept, told) = (bytes.clone(), words.clone());
                Some(tokio::task::spawn_blocking(move || amended(bytes, &told)).await.unwrap_or(kept))
            }
            None => None,
        };
        self.catalog.commit_verdict(&verdict, None, &[], evidence.as_deref()).await?;
        if let Some(slot) = self.open.lock().get_mut(id).filter(|slot| slot.closed) {
            slot.stored = Some(verdict.clone());
            slot.verdict = Some(verdict);
        }
        self.changed.send_modify(|version| *version += 1);
        Ok(())
    }
}

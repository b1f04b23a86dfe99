//! One verdict judged again, from stored rows and what was kept beside the verdict.

use plimsoll_catalog::Catalog;
use plimsoll_model::{DeployId, Verdict};
use plimsoll_signals::{SignalLimits, SignalState};
use plimsoll_store::Store;
use plimsoll_watch::{Evidence, EvidenceError};
use serde::Serialize;
use serde_json::Value;

use super::load::{self, Loaded, Part, Wanted};

/// What judging again gave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Replayed {
    /// True where it is the stored verdict, byte for byte.
    pub(crate) same: bool,
    /// The verdict as it was judged again.
    pub(crate) verdict: Verdict,
    /// The verdict as it is stored.
    pub(crate) stored: Verdict,
    /// Fields in which the two differ.
    pub(crate) differences: Vec<String>,
    /// Rows of `operations` and `signals` that it was judged from.
    pub(crate) rows: u64,
    /// Of them, those of the last minutes that were kept beside the verdict as they were.
    pub(crate) kept_rows: u64,
    /// What may be the reason for differences.
    pub(crate) notes: Vec<String>,
}

/// Why there is nothing to compare.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    /// Nobody judged it yet, or there is no such deploy.
    #[error("no verdict on `{0}` is stored yet")]
    NotJudged(DeployId),
    /// It was stored without.
    #[error("what the verdict on `{id}` was judged from was not kept: {why}")]
    NotKept {
        /// The deploy.
        id: DeployId,
        /// Why not.
        why: String,
    },
    /// Stored rows that bear on it are more than may be held.
    #[error("the verdict on `{id}` cannot be judged again: {missing}")]
    DidNotFit {
        /// The deploy.
        id: DeployId,
        /// What is missing, and what to change.
        missing: String,
    },
    /// It cannot be judged again.
    #[error("the verdict on `{id}` cannot be judged again: {problem}")]
    Failed {
        /// The deploy.
        id: DeployId,
        /// What went wrong.
        problem: String,
    },
    /// See the message.
    #[error(transparent)]
    Catalog(#[from] plimsoll_catalog::CatalogError),
}

/// Judges the stored verdict on a deploy again.
///
/// # Errors
/// There is no verdict, or not what it was judged from.
pub(crate) async fn replay(
    catalog: &dyn Catalog,
    store: &Store,
    limits: SignalLimits,
    id: &DeployId,
) -> Result<Replayed, ReplayError> {
    // In one read: a verdict that is renewed in between was judged from something else.
    let (stored, kept) = catalog.judged(id).await?.ok_or_else(|| ReplayError::NotJudged(id.clone()))?;
    let not_kept = |why: &str| ReplayError::NotKept { id: id.clone(), why: why.to_owned() };
    let kept =
        kept.ok_or_else(|| not_kept("an earlier release stored it, or that was longer ago than `store.retention`"))?;
    let failed = |problem: String| ReplayError::Failed { id: id.clone(), problem };
    // Rows that are only in memory yet are stored rows from here on.
    store.flush().await.map_err(|error| failed(error.to_string()))?;
    let evidence = match Evidence::from_bytes(&kept) {
        Err(EvidenceError::NotKept(why)) => return Err(not_kept(&why)),
        evidence => evidence.map_err(|error| failed(error.to_string()))?,
    };
    let store = store.clone();
    let judged = tokio::task::spawn_blocking(move || judge(&store, limits, &evidence)).await;
    let judged = judged.map_err(|error| failed(error.to_string()))?.map_err(failed)?;
    if let Some(missing) = judged.missing {
        return Err(ReplayError::DidNotFit { id: id.clone(), missing });
    }
    let (verdict, loaded, kept_rows) = (judged.verdict, judged.loaded, judged.kept_rows);
    let differences = differences(&stored, &verdict).map_err(|error| failed(error.to_string()))?;
    let mut notes = Vec::new();
    if loaded.unreadable > 0 {
        notes.push(format!("{} segments could not be read: their rows are missing", loaded.unreadable));
    }
    if !differences.is_empty() {
        notes.push(
            "stored rows have changed since the verdict: requests came more than three minutes late, or retention \
             (`store.retention`) has removed some"
                .to_owned(),
        );
    }
    Ok(Replayed {
        same: differences.is_empty(),
        verdict,
        stored,
        differences,
        rows: loaded.rows + kept_rows,
        kept_rows,
        notes,
    })
}

/// A verdict judged again, with what it was judged from.
struct Again {
    verdict: Verdict,
    loaded: Loaded,
    kept_rows: u64,
    /// Says what did not fit: the verdict is worth nothing then.
    missing: Option<String>,
}

fn judge(store: &Store, limits: SignalLimits, evidence: &Evidence) -> Result<Again, String> {
    let wanted = Wanted {
        tables: load::AGGREGATES,
        environments: evidence.services().map(|service| service.environment.clone()).collect(),
        services: evidence.services().cloned().collect(),
        cells: evidence.needs(),
        history: evidence.needs_history(),
    };
    let mut state = SignalState::new(limits);
    let loaded = load::load(store, &wanted, &mut |part, table, rows| match part {
        Part::Wanted => load::into(&mut state, part, table, rows),
        // What was looked at of others is kept beside the verdict.
        Part::Others => Ok(()),
    })?;
    let verdict = evidence.judge(&mut state).map_err(|error| error.to_string())?;
    Ok(Again { verdict, loaded, kept_rows: evidence.rows() as u64, missing: load::missing(&state) })
}

/// Lists the fields in which two verdicts differ; none where their bytes are the same.
fn differences(one: &Verdict, other: &Verdict) -> Result<Vec<String>, serde_json::Error> {
    if serde_json::to_vec(one)? == serde_json::to_vec(other)? {
        return Ok(Vec::new());
    }
    let (one, other) = (serde_json::to_value(one)?, serde_json::to_value(other)?);
    let mut fields = Vec::new();
    compare(&one, &other, "", &mut fields);
    if fields.is_empty() {
        fields.push("order of fields".to_owned());
    }
    Ok(fields)
}

fn compare(one: &Value, other: &Value, path: &str, fields: &mut Vec<String>) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                let dot = if path.is_empty() { "" } else { "." };
                let null = Value::Null;
                let [one, other] = [one, other].map(|object| object.get(key).unwrap_or(&null));
                compare(one, other, &format!("{path}{dot}{key}"), fields);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                compare(one, other, &format!("{path}[{at}]"), fields);
            }
        }
        _ if one != other => fields.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_differ_are_named_by_their_path() {
        let mut fields = Vec::new();
        let one = json!({ "a": 1, "b": [{ "c": 1 }, { "c": 2 }], "d": [] });
        compare(&one, &json!({ "a": 1, "b": [{ "c": 1 }, { "c": 3 }], "d": [1], "e": 0 }), "", &mut fields);
        assert_eq!(fields, ["b[1].c", "d", "e"]);
    }
}

//! What engineers see of a verdict: the same for the command line, the web page and REST.
//!
//! A verdict holds numbers; this says them in words and draws each finding over time, from the rows of `operations` and
//! `signals` that the numbers came from.
//!
//! | file | owns |
//! |---|---|
//! | `words` | evidence, interval, comparison and data quality in words |
//! | `series` | candidate against control over time, by SQL |

mod series;
mod words;

use plimsoll_catalog::{Catalog, CatalogError};
use plimsoll_model::{Decision, Deploy, Feedback, Finding, FindingId, Verdict};
use plimsoll_query::SqlEngine;
use serde::{Deserialize, Serialize};

pub(crate) use series::Series;
pub(crate) use words::Meaning;

/// Findings that are drawn; those beyond are listed without a series.
const DRAWN_MAX: usize = 16;
/// Answers and decisions that are listed.
const LISTED_MAX: u32 = 100;

/// A verdict with everything that helps to believe it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Explained {
    /// What was deployed.
    pub(crate) deploy: Deploy,
    /// What was concluded.
    pub(crate) verdict: Verdict,
    /// Which comparison was used, and why that one.
    pub(crate) comparison: String,
    /// When it was decided, or when it may be.
    pub(crate) timing: String,
    /// What each word of `data_quality` means.
    pub(crate) data_quality: Vec<Meaning>,
    /// The findings in words, in the order of the verdict's.
    pub(crate) findings: Vec<ExplainedFinding>,
    /// The service as a whole, candidate against control.
    pub(crate) overview: Vec<Series>,
    /// What humans said of the verdict, newest first.
    pub(crate) feedback: Vec<Feedback>,
    /// What was decided, newest first.
    pub(crate) decisions: Vec<Decision>,
}

/// One finding in words.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ExplainedFinding {
    /// Its identifier.
    pub(crate) id: FindingId,
    /// What got worse, as one sentence.
    pub(crate) sentence: String,
    /// Who is to blame.
    pub(crate) culprit: String,
    /// What its e-value says.
    pub(crate) evidence: String,
    /// What its interval says.
    pub(crate) interval: String,
    /// How much of the difference happened within operations, and how much is a change of mix.
    pub(crate) split: Option<String>,
    /// What most of the excess has in common.
    pub(crate) common: Vec<String>,
    /// Candidate against control over time; none where there are no rows to draw it from.
    pub(crate) series: Option<Series>,
}

/// Explains the verdict on a deploy.
///
/// # Errors
/// The catalog cannot be read. Series that cannot be read are left out.
pub(crate) async fn explain(
    catalog: &dyn Catalog,
    engine: &dyn SqlEngine,
    deploy: Deploy,
    verdict: Verdict,
) -> Result<Explained, CatalogError> {
    let mut findings = Vec::with_capacity(verdict.findings.len());
    for (at, finding) in verdict.findings.iter().enumerate() {
        let series = if at < DRAWN_MAX { series::of_finding(engine, &deploy, &verdict, finding).await } else { None };
        findings.push(in_words(finding, series));
    }
    let overview = series::of_service(engine, &deploy, &verdict).await;
    let said = catalog.feedback(Some(&deploy.service), 1_000).await?;
    Ok(Explained {
        comparison: words::comparison(&deploy, &verdict),
        timing: words::timing(&verdict),
        data_quality: words::data_quality(&verdict),
        findings,
        overview,
        feedback: said.into_iter().filter(|said| said.deploy_id == deploy.id).collect(),
        decisions: catalog.decisions(Some(&deploy.id), LISTED_MAX).await?,
        deploy,
        verdict,
    })
}

fn in_words(finding: &Finding, series: Option<Series>) -> ExplainedFinding {
    ExplainedFinding {
        id: finding.id.clone(),
        sentence: finding.sentence(),
        culprit: plimsoll_model::sentence::party(&finding.culprit),
        evidence: words::evidence(finding),
        interval: words::interval(finding),
        split: words::split(finding),
        common: words::common(finding),
        series,
    }
}

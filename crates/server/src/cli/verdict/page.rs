//! A verdict for people: a few lines, the whole, or every reason for it.

use plimsoll_model::sentence::{number, percent};
use plimsoll_model::{Finding, Verdict, VerdictKind};

use super::sparkline;
use crate::cli::output::{self, Tone};
use crate::explain::{Explained, ExplainedFinding, Series};

fn tone(verdict: VerdictKind) -> (Tone, &'static str) {
    match verdict {
        VerdictKind::Pass => (Tone::Good, "pass"),
        VerdictKind::Regressed => (Tone::Bad, "regressed"),
        VerdictKind::Inconclusive => (Tone::Open, "inconclusive"),
    }
}

fn faint(text: &str) -> String {
    output::paint(Tone::Faint, text)
}

/// Prints the verdict and one line or two for each finding; the rest of it is said by `plimsoll verdict explain`.
pub(crate) fn summary(verdict: &Verdict) {
    let (tone, word) = tone(verdict.verdict);
    output::line(&format!("{}  {}", output::paint(tone, word), output::paint(Tone::Strong, &verdict.summary)));
    output::line(&format!("  recommendation  {}", snake(&verdict.recommendation)));
    output::line(&format!("  comparison      {}", snake(&verdict.design).replace('_', "/")));
    if let Some(seconds) = verdict.time_to_decide_s {
        output::line(&format!("  decision in     about {seconds} s at the present traffic"));
    }
    if !verdict.data_quality.is_empty() {
        output::line(&format!("  data quality    {}", verdict.data_quality.join(", ")));
    }
    for finding in &verdict.findings {
        let e_value =
            if finding.e_value < 1e6 { format!("{:.1}", finding.e_value) } else { format!("{:.1e}", finding.e_value) };
        let whose = format!("culprit {}, e-value {e_value}", plimsoll_model::sentence::party(&finding.culprit));
        // The headline is often the sentence of the one finding that there is.
        if verdict.summary.contains(&finding.summary) {
            output::line(&format!("  {}         {whose}", mark(finding)));
        } else {
            output::line(&format!("  {}         {}", mark(finding), finding.summary));
            output::line(&faint(&format!("                  {whose}")));
        }
    }
}

/// Says where the rest of a verdict with findings is said.
pub(super) fn where_it_says_why(verdict: &Verdict) {
    if !verdict.findings.is_empty() {
        output::line(&faint(&format!("  why             plimsoll verdict explain {}", verdict.deploy_id)));
    }
}

fn mark(finding: &Finding) -> String {
    if finding.symptom { faint("symptom") } else { output::paint(Tone::Bad, "finding") }
}

/// Returns the name that JSON has for one of a few.
fn snake(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).map(|value| output::cell(&value)).unwrap_or_default()
}

/// Prints the whole: headline, each finding with its course, and what humans said.
pub(super) fn whole(explained: &Explained) {
    head(explained);
    for (at, (finding, words)) in explained.verdict.findings.iter().zip(&explained.findings).enumerate() {
        output::line(&format!("\n  {} {}  {}", at + 1, mark(finding), output::paint(Tone::Strong, &words.sentence)));
        if let Some(series) = &words.series {
            course(series);
        }
        output::line(&format!("    culprit    {}", words.culprit));
        for common in &words.common {
            output::line(&format!("    where      {common}"));
        }
    }
    if explained.verdict.findings.is_empty() {
        explained.overview.iter().for_each(|series| {
            output::line("");
            course(series);
        });
    }
    tail(explained);
}

/// Prints every reason: of one finding, or of all.
pub(super) fn explained(explained: &Explained, only: Option<usize>) {
    if only.is_none() {
        head(explained);
        output::line(&format!("\n  comparison     {}", explained.comparison));
        if let Some(split) = &explained.verdict.comparison.errors {
            let points = |share: f64| format!("{:+.2} points", share * 100.0);
            output::line(&format!(
                "  failures       {} within operations, {} because their weights changed",
                points(split.within),
                points(split.mix)
            ));
        }
        for quality in &explained.data_quality {
            output::line(&format!("  data quality   {}: {}", quality.word, quality.meaning));
        }
    }
    let all = explained.verdict.findings.iter().zip(&explained.findings).enumerate();
    for (at, (finding, words)) in all.filter(|(at, _)| only.is_none_or(|only| only == *at)) {
        output::line(&format!("\n  {} {}  {}", at + 1, mark(finding), output::paint(Tone::Strong, &words.sentence)));
        reasons(finding, words);
    }
    if only.is_none() && explained.verdict.findings.is_empty() {
        for series in &explained.overview {
            output::line("");
            course(series);
            output::line(&faint(&format!("    sql        {}", series.sql)));
        }
    }
    if only.is_none() {
        tail(explained);
    }
}

fn reasons(finding: &Finding, words: &ExplainedFinding) {
    if let Some(series) = &words.series {
        course(series);
    }
    let row = |name: &str, text: &str| output::line(&format!("    {name:<10} {text}"));
    row("id", finding.id.as_str());
    row(
        "values",
        &format!(
            "{} of {} against {} of {}",
            value(finding.candidate.value, &finding.unit),
            finding.candidate.n,
            value(finding.baseline.value, &finding.unit),
            finding.baseline.n
        ),
    );
    row("evidence", &words.evidence);
    row("effect", &words.interval);
    if let Some(split) = &words.split {
        row("split", split);
    }
    words.common.iter().for_each(|common| row("where", common));
    row("culprit", &words.culprit);
    if finding.symptom {
        row("counts", "no: it shows what the cause does elsewhere, and decides nothing by itself");
    }
    if !finding.exemplars.is_empty() {
        row("traces", &finding.exemplars.join(" "));
    }
    output::line(&faint(&format!("    sql        {}", finding.sql)));
    if let Some(place) = finding.explanation.place.as_ref().filter(|place| !place.sql.is_empty()) {
        output::line(&faint(&format!("    where      {}", place.sql)));
    }
    if let Some(series) = &words.series {
        output::line(&faint(&format!("    over time  {}", series.sql)));
    }
}

fn head(explained: &Explained) {
    let verdict = &explained.verdict;
    let deploy = &explained.deploy;
    let (tone, word) = tone(verdict.verdict);
    output::line(&format!("{}  {}", output::paint(tone, word), output::paint(Tone::Strong, &verdict.summary)));
    let from = deploy.previous_version.as_ref().map_or_else(String::new, |previous| format!(" after {previous}"));
    output::line(&faint(&format!(
        "  {} {}{from} in {}, {} at {}, {}",
        deploy.service.service,
        deploy.version,
        deploy.service.environment,
        if deploy.inferred { "seen" } else { "started" },
        deploy.started_at,
        deploy.id
    )));
    output::line(&format!(
        "  {}; {}; {}",
        output::paint(tone, &snake(&verdict.recommendation)),
        snake(&verdict.design).replace('_', "/"),
        explained.timing
    ));
    if !verdict.data_quality.is_empty() {
        output::line(&faint(&format!("  data quality: {}", verdict.data_quality.join(", "))));
    }
}

fn tail(explained: &Explained) {
    let mut lines = Vec::new();
    for said in &explained.feedback {
        let until = said.expires_at.map_or_else(String::new, |at| format!(", silent until {at}"));
        lines.push(format!("{} called it {} at {}{until}", said.actor, snake(&said.answer), said.given_at));
    }
    for decision in &explained.decisions {
        let reason = if decision.reason.is_empty() { String::new() } else { format!(": {}", decision.reason) };
        lines.push(format!(
            "{} decided {} at {}{reason}",
            decision.actor,
            snake(&decision.decision),
            decision.decided_at
        ));
    }
    if !lines.is_empty() {
        output::line("");
    }
    lines.iter().for_each(|line| output::line(&format!("  {line}")));
}

/// Prints candidate and control over time, on one scale.
fn course(series: &Series) {
    let [candidate, control] = sparkline::pair(&series.candidate, &series.control);
    let last = |points: &[Option<f64>]| {
        points.iter().flatten().next_back().map_or_else(|| "none".to_owned(), |last| value(*last, &series.unit))
    };
    let top = series.candidate.iter().chain(&series.control).flatten().copied().fold(0.0, f64::max);
    let rows =
        [("candidate", candidate, &series.candidate, Tone::Open), ("control", control, &series.control, Tone::Faint)];
    for (name, line, points, tone) in rows {
        output::line(&format!("    {name:<10} {}  {}", output::paint(tone, &line), last(points)));
    }
    output::line(&faint(&format!(
        "    {:<10} {}▲ {}, {} s a bar, at most {}",
        "",
        " ".repeat(series.started.min(series.candidate.len())),
        series.title,
        series.step_s,
        value(top, &series.unit)
    )));
}

/// Writes a value with its unit.
fn value(value: f64, unit: &str) -> String {
    match unit {
        "ratio" => percent(value),
        unit => format!("{} {unit}", number(value)),
    }
}

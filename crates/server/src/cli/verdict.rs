//! `plimsoll verdict`: prints the verdict on a deploy and turns it into an exit code.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use plimsoll_model::{Finding, Verdict, VerdictKind};
use reqwest::Method;

use super::client::Api;
use super::output::{self, Tone};
use super::{ClientArgs, Failure, Outcome, Output};
use crate::config::parse_duration;

#[derive(Debug, Args)]
pub(super) struct VerdictArgs {
    /// The deploy's id, `dep_..`
    deploy: String,
    /// How long to wait for a decision, for instance `10m` [default: do not wait]
    #[arg(long, value_parser = wait)]
    wait: Option<Duration>,
    /// How to print it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
    #[command(flatten)]
    client: ClientArgs,
}

fn wait(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write it as `30s`, `10m` or `1h`".to_owned())
}

/// The longest that one request waits: proxies give up on idle connections after a minute.
const POLL_MAX: Duration = Duration::from_secs(30);

pub(super) async fn run(args: VerdictArgs) -> Outcome {
    let api = Api::new(&args.client)?;
    let deadline = args.wait.map(|wait| tokio::time::Instant::now() + wait);
    let spinner = spinner(args.wait.is_some());
    let verdict = loop {
        let left = deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(tokio::time::Instant::now()));
        let poll = left.min(POLL_MAX);
        let request = api
            .request(Method::GET, &format!("/deploys/{}/verdict?wait={}ms", args.deploy, poll.as_millis()))
            .timeout(poll + Duration::from_secs(30));
        let verdict = match api.json(request).await {
            Ok(verdict) => verdict,
            // A server that restarts is worth waiting for.
            Err(failure) if left > poll && failure.code == ExitCode::from(4) => {
                tokio::time::sleep(Duration::from_secs(1).min(left)).await;
                continue;
            }
            // 1 means regressed: a pipeline must not take a wrong id for that.
            Err(failure) if failure.code == ExitCode::from(1) => return Err(Failure::usage(failure.message)),
            Err(failure) => return Err(failure),
        };
        let verdict: Verdict = serde_json::from_value(verdict)
            .map_err(|error| Failure::failed(format!("the server's answer is not a verdict: {error}")))?;
        spinner.set_message(verdict.summary.clone());
        if verdict.decided || left <= poll {
            break verdict;
        }
    };
    spinner.finish_and_clear();
    let timed_out = args.wait.is_some() && !verdict.decided;
    match args.output {
        Output::Table => show(&verdict),
        _ => output::json(&serde_json::to_value(&verdict).map_err(|error| Failure::failed(error.to_string()))?),
    }
    if timed_out {
        return Err(Failure::unreachable("no decision in the time given; the recommendation until then is hold"));
    }
    Ok(ExitCode::from(match verdict.verdict {
        VerdictKind::Pass => 0,
        VerdictKind::Regressed => 1,
        VerdictKind::Inconclusive => 3,
    }))
}

fn spinner(wanted: bool) -> indicatif::ProgressBar {
    if !wanted {
        return indicatif::ProgressBar::hidden();
    }
    // Draws to standard error, and only on a terminal.
    let spinner = indicatif::ProgressBar::new_spinner().with_message("waiting for the verdict");
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Prints a verdict for people.
pub(crate) fn show(verdict: &Verdict) {
    let (tone, word) = match verdict.verdict {
        VerdictKind::Pass => (Tone::Good, "pass"),
        VerdictKind::Regressed => (Tone::Bad, "regressed"),
        VerdictKind::Inconclusive => (Tone::Open, "inconclusive"),
    };
    let recommendation = format!("{:?}", verdict.recommendation).to_lowercase();
    output::line(&format!("{}  {}", output::paint(tone, word), output::paint(Tone::Strong, &verdict.summary)));
    output::line(&format!("  recommendation  {recommendation}"));
    output::line(&format!(
        "  comparison      {}",
        format!("{:?}", verdict.design).to_lowercase().replace("beforeafter", "before/after")
    ));
    if let Some(seconds) = verdict.time_to_decide_s {
        output::line(&format!("  decision in     about {seconds} s at the present traffic"));
    }
    if !verdict.data_quality.is_empty() {
        output::line(&format!("  data quality    {}", verdict.data_quality.join(", ")));
    }
    for finding in &verdict.findings {
        show_finding(finding);
    }
}

fn show_finding(finding: &Finding) {
    let mark =
        if finding.symptom { output::paint(Tone::Faint, "symptom") } else { output::paint(Tone::Bad, "finding") };
    output::line(&format!("\n  {mark}  {}", finding.summary));
    output::line(&format!(
        "    culprit    {} {} {}",
        finding.culprit.service, finding.culprit.version, finding.culprit.operation
    ));
    output::line(&format!(
        "    evidence   e-value {}, p-value {:.1e}, effect {:.2} [{:.2}, {:.2}]",
        if finding.e_value < 1e6 { format!("{:.1}", finding.e_value) } else { format!("{:.1e}", finding.e_value) },
        finding.p_value,
        finding.effect,
        finding.interval[0],
        finding.interval[1]
    ));
    if !finding.exemplars.is_empty() {
        output::line(&format!("    traces     {}", finding.exemplars.join(" ")));
    }
    output::line(&output::paint(Tone::Faint, &format!("    sql        {}", finding.sql)));
}

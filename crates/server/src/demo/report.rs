//! What the demonstration prints: progress on standard error, the outcome on standard output.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use plimsoll_model::{Deploy, Verdict, VerdictKind};

use super::traffic::Traffic;
use super::{Api, Story};
use crate::cli::output::{self, Tone};
use crate::cli::show_verdict;
use crate::serve::Addresses;

/// Least time between two lines about the same wait.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Progress: a moving line on a terminal, plain lines elsewhere.
pub(super) struct Progress {
    bar: ProgressBar,
    began: std::time::Instant,
}

impl Progress {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        if io::stderr().is_terminal() {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar, began: std::time::Instant::now() }
    }

    pub(super) fn say(&self, text: &str) {
        let line = format!("[{:>4.0} s] {text}", self.began.elapsed().as_secs_f64());
        self.bar.suspend(|| output::line(&line));
    }

    pub(super) fn complain(&self, text: &str) {
        self.bar.suspend(|| output::complain(text));
    }

    /// Lets `time` pass.
    pub(super) async fn wait(&self, what: &str, time: Duration, traffic: &Traffic) {
        let end = tokio::time::Instant::now() + time;
        self.say(&format!("{what} ({} s)", time.as_secs()));
        while tokio::time::Instant::now() < end {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            self.bar.set_message(format!("{what}: {} s to go, {} visits", left.as_secs(), traffic.visits()));
            tokio::time::sleep(Duration::from_millis(500).min(left)).await;
        }
    }

    /// Waits until a deploy is decided, or patience ends, and tells of each change of mind on the way.
    pub(super) async fn follow(
        &self,
        api: &Api,
        deploy: &Deploy,
        patience: Duration,
        traffic: &Traffic,
    ) -> Result<Verdict, String> {
        let end = tokio::time::Instant::now() + patience;
        let mut told = (String::new(), tokio::time::Instant::now());
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            let verdict = api.verdict(deploy, left.min(Duration::from_secs(3))).await?;
            if verdict.decided || left.is_zero() {
                self.say(&format!("  {}", verdict.summary));
                return Ok(verdict);
            }
            if verdict.summary != told.0 && (told.0.is_empty() || told.1.elapsed() >= TELL_EVERY) {
                told = (verdict.summary.clone(), tokio::time::Instant::now());
                self.say(&format!("  {}", told.0));
            }
            self.bar.set_message(format!(
                "judging {} {}: {} visits",
                deploy.service.service,
                deploy.version,
                traffic.visits()
            ));
        }
    }
}

/// Prints the two verdicts, the event and the evidence.
pub(super) async fn print(api: &Api, story: &Story, addresses: &Addresses) {
    let heading = |text: &str| output::line(&format!("\n{}", output::paint(Tone::Strong, text)));
    for (deploy, verdict) in [&story.good, &story.bad] {
        let waited = verdict.decided_at.unwrap_or(verdict.evaluated_at).since(verdict.started_at);
        heading(&format!(
            "{} {} ({}), after {} s",
            deploy.service.service,
            deploy.version,
            deploy.id,
            waited.as_secs()
        ));
        show_verdict(verdict);
    }
    heading("the event that the webhook received, signature checked");
    match &story.event {
        Some(event) => {
            let mut brief = serde_json::to_value(event).unwrap_or_default();
            // The whole event repeats what is printed above.
            brief["data"] = serde_json::json!({ "deploy": { "id": event.data.deploy.id }, "links": event.data.links, "..": "deploy and verdict in full" });
            output::json(&brief);
        }
        None => output::line("none arrived"),
    }
    if let Some(finding) = story.bad.1.findings.iter().find(|finding| !finding.symptom) {
        heading("the evidence, as SQL that anyone can run again");
        output::line(&finding.sql);
        match api.sql(&finding.sql).await {
            Ok(answer) => output::line(&rows(&answer)),
            Err(problem) => output::complain(&problem),
        }
    }
    let verdict = if story.bad.1.verdict == VerdictKind::Regressed { Tone::Good } else { Tone::Bad };
    output::line(&output::paint(
        verdict,
        &format!(
            "\n{} visits; {} {}: {}; {} {}: {}",
            story.visits,
            story.good.0.service.service,
            story.good.0.version,
            word(story.good.1.verdict),
            story.bad.0.service.service,
            story.bad.0.version,
            word(story.bad.1.verdict),
        ),
    ));
    output::line(&format!("verdicts: http://{}/api/v1/deploys/{}/verdict", addresses.api, story.bad.0.id));
}

fn word(verdict: VerdictKind) -> &'static str {
    match verdict {
        VerdictKind::Pass => "pass",
        VerdictKind::Regressed => "regressed",
        VerdictKind::Inconclusive => "inconclusive",
    }
}

fn rows(answer: &serde_json::Value) -> String {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let header: Vec<String> = list(&answer["columns"]).iter().map(|column| output::cell(&column["name"])).collect();
    let rows: Vec<Vec<String>> =
        list(&answer["rows"]).iter().map(|row| list(row).iter().map(output::cell).collect()).collect();
    output::table(&header, &rows)
}

/// Says where to look around.
pub(super) fn invite(addresses: &Addresses) {
    output::line(&format!(
        "\nThe shop stays open; look around, and press Ctrl-C to end.\n  \
         web page    http://{api}/\n  \
         SQL         plimsoll sql --api http://{api} \"SELECT service_name, count(*) FROM spans GROUP BY 1\"\n  \
         interface   http://{api}/api/v1/openapi.json\n  \
         metrics     http://{api}/metrics\n  \
         OTLP        grpc {grpc}, http {http}",
        api = addresses.api,
        grpc = addresses.otlp_grpc,
        http = addresses.otlp_http,
    ));
}

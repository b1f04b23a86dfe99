//! The gate of a pipeline: waits for a verdict, prints it, and answers by its exit code.

use std::process::ExitCode;
use std::time::Duration;

use plimsoll_model::{Verdict, VerdictKind};
use reqwest::Method;
use tokio::time::Instant;

use super::{Format, not_a_verdict, page, path_segment};
use crate::cli::client::Api;
use crate::cli::{ClientArgs, Failure, Outcome, output};

/// The longest that one request waits: proxies give up on idle connections after a minute.
const POLL_MAX: Duration = Duration::from_secs(30);

/// Between an answer that came early, or none, and the next question.
const PAUSE: Duration = Duration::from_secs(1);

/// Whoever has not answered once in so long is not restarting: the address is wrong, or nothing runs there.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn run(client: &ClientArgs, deploy: &str, wait: Option<Duration>, format: Format) -> Outcome {
    let api = Api::new(client)?;
    let deploy = path_segment(deploy)?;
    let began = Instant::now();
    let deadline = wait.map(|wait| began + wait);
    let mut answered = false;
    let spinner = spinner(wait.is_some());
    let (verdict, text) = loop {
        let left = deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        let poll = left.min(POLL_MAX);
        let request = api
            .request(Method::GET, &format!("/deploys/{deploy}/verdict?wait={}ms", poll.as_millis()))
            .timeout(poll + Duration::from_secs(30));
        let asked = Instant::now();
        let (reached, answer) = api.reach(request).await;
        answered |= reached;
        let text = match answer {
            Ok(verdict) => verdict,
            Err(failure) if !answered && began.elapsed() >= FIRST_ANSWER => {
                let waited = FIRST_ANSWER.as_secs();
                return Err(Failure::unreachable(format!("{} (asked for {waited} s, no answer yet)", failure.message)));
            }
            // A server that restarts is worth waiting for.
            Err(failure) if failure.code == ExitCode::from(4) && pause(deadline).await => {
                spinner.set_message("no answer; asking again");
                continue;
            }
            Err(failure) => return Err(not_a_verdict(failure)),
        };
        let verdict: Verdict = serde_json::from_value(text.clone())
            .map_err(|error| Failure::failed(format!("the server's answer is not a verdict: {error}")))?;
        spinner.set_message(verdict.summary.clone());
        if verdict.decided || deadline.is_none_or(|at| Instant::now() >= at) {
            break (verdict, text);
        }
        // A server that is told to stop does not let anybody wait: another takes its place in a moment.
        if asked.elapsed() < poll {
            pause(deadline).await;
        }
    };
    spinner.finish_and_clear();
    let timed_out = wait.is_some() && !verdict.decided;
    match format {
        Format::Table => {
            page::summary(&verdict);
            page::where_it_says_why(&verdict);
        }
        Format::Json => output::json(&text),
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

/// Waits a moment, if there is time for one; says whether there was.
async fn pause(deadline: Option<Instant>) -> bool {
    let now = Instant::now();
    let Some(at) = deadline.filter(|at| *at > now) else { return false };
    tokio::time::sleep_until(at.min(now + PAUSE)).await;
    true
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

//! SIGKILL under load. The short form kills a few times; `PLIMSOLL_KILLS=50` is the long one.

use std::time::Duration;

use plimsoll_loadtest::{Format, KillReport, Printable, Torture};

use crate::stage::{PATIENCE, options};

#[tokio::test(flavor = "multi_thread")]
async fn every_acked_record_is_there_exactly_once_after_kills_at_random_moments() {
    let report = torture(50, false).await;
    let words = report.print(Format::Table);
    assert!(report.acked_requests > u64::from(report.kills), "there was something to lose each time\n{words}");
}

/// Requests above 64 KiB have a batch of their own, and frames of which each is a stretch of the replay.
#[tokio::test(flavor = "multi_thread")]
async fn every_acked_record_of_long_requests_is_there_exactly_once_after_kills_at_random_moments() {
    let report = torture(1_500, false).await;
    let words = report.print(Format::Table);
    assert!(report.acked_records > 1_500 * u64::from(report.kills), "there was something to lose each time\n{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_there_exactly_once_where_requests_are_sent_again_until_they_are_acked() {
    let report = torture(50, true).await;
    let words = report.print(Format::Table);
    assert!(report.repeats > 0, "requests were sent again\n{words}");
    assert_eq!(report.unacked_requests, 0, "in the end each one is acked\n{words}");
}

/// Kills again and again under requests of `batch` records; nothing is lost, in part or there twice.
async fn torture(batch: usize, repeat: bool) -> KillReport {
    let kills = match std::env::var("PLIMSOLL_KILLS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("PLIMSOLL_KILLS is `{text}`, not a number of kills")),
        Err(_) => 3,
    };
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let torture = Torture {
        server: options(dir.path()),
        kills,
        batch,
        writers: 2,
        load_max: Duration::from_millis(1500),
        repeat,
        seed: rand::random(),
        ready_within: PATIENCE,
    };
    let report = torture.run().await.unwrap_or_else(|problem| panic!("{problem}"));
    let words = report.print(Format::Table);
    assert!(report.is_clean(), "\n{words}");
    assert_eq!(report.kills, kills, "\n{words}");
    report
}

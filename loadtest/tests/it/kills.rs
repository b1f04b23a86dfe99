//! SIGKILL under load. The short form kills a few times; `PLIMSOLL_KILLS=50` is the long one.

use std::time::Duration;

use plimsoll_loadtest::{Format, Printable, Torture};

use crate::stage::{PATIENCE, options};

#[tokio::test(flavor = "multi_thread")]
async fn every_acked_record_is_there_exactly_once_after_kills_at_random_moments() {
    let kills = match std::env::var("PLIMSOLL_KILLS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("PLIMSOLL_KILLS is `{text}`, not a number of kills")),
        Err(_) => 3,
    };
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let torture = Torture {
        server: options(dir.path()),
        kills,
        batch: 50,
        writers: 2,
        load_max: Duration::from_millis(1500),
        seed: rand::random(),
        ready_within: PATIENCE,
    };
    let report = torture.run().await.unwrap_or_else(|problem| panic!("{problem}"));
    let words = report.print(Format::Table);
    assert!(report.is_clean(), "\n{words}");
    assert_eq!(report.kills, kills, "\n{words}");
    assert!(report.acked_requests > u64::from(kills), "there was something to lose each time\n{words}");
}

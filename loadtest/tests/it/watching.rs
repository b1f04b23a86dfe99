//! What watching costs a running server, measured in short: `plimsoll-loadtest watching` is the long form.

use std::time::Duration;

use plimsoll_loadtest::{Format, Printable, Watching};

use crate::stage::binary;

#[tokio::test(flavor = "multi_thread")]
async fn deploys_of_all_services_are_looked_at_and_what_is_kept_of_them_is_told() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let watching = Watching {
        binary: binary(),
        work_dir: dir.path().to_owned(),
        services: 3,
        operations: 5,
        rate: 300,
        history: Duration::from_secs(600),
        settle: Duration::from_secs(3),
        duration: Duration::from_secs(24),
        interval: Some(Duration::from_secs(1)),
        server_cpu: None,
        arguments: Vec::new(),
    };
    let watched = watching.run(|_| {}).await.unwrap_or_else(|problem| panic!("{problem}"));
    let words = watched.print(Format::Table);
    assert_eq!((watched.deploys, watched.operations_live), (3, 15), "\n{words}");
    assert!(watched.verified && watched.acked_spans > 600 * 300, "\n{words}");
    assert!(watched.looks >= 3 && watched.look_every_seconds < watched.seconds, "\n{words}");
    assert!(watched.judging_share > 0.0 && watched.watched_cpu_share > 0.0, "\n{words}");
    assert!(watched.sessions_bytes > 0 && watched.rss_max_bytes > 0, "\n{words}");
    assert!(watched.is_right() && watched.events == 0, "\n{words}");
    assert!(std::fs::read_dir(dir.path()).expect("is there").next().is_none(), "the data directory is removed");
}

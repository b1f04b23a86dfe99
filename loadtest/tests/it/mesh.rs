//! A mesh of services through deploys, good and bad: the short form. `plimsoll-loadtest mesh` is the long one.

use std::time::Duration;

use plimsoll_loadtest::{Format, Mesh, Printable, Time};

use crate::stage::binary;

#[tokio::test(flavor = "multi_thread")]
async fn bad_deploys_of_a_mesh_are_called_regressed_with_their_culprit_and_paged_once_and_others_are_not() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mesh = Mesh {
        binary: binary(),
        work_dir: dir.path().to_owned(),
        time: Time::Past,
        phase: Duration::from_secs(720),
        settle: Duration::ZERO,
        only: Vec::new(),
        short: true,
        seeds: vec![1],
        keep: false,
        arguments: Vec::new(),
    };
    let report = mesh.run(|_| {}).await.unwrap_or_else(|problem| panic!("{problem}"));
    let words = report.print(Format::Table);
    assert!(report.totals.bad >= 5 && report.totals.harmless >= 3, "there is something to tell apart\n{words}");
    assert!(report.is_right(), "\n{words}");
    for outcome in &report.outcomes {
        assert!(outcome.right && outcome.culprit_right != Some(false) && outcome.pages_right, "\n{words}");
    }
}

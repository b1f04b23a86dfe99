//! What is told follows from what was known at each look, in the order of the looks.

use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, VerdictKind};

use crate::scene::{START, Scene, marker};

#[tokio::test]
async fn what_is_only_seen_afterwards_is_suspected_at_one_look_and_confirmed_at_the_next() {
    let scene = Scene::new().await;
    scene.traffic("1", -200..200, 500, 5);
    scene.traffic("2", 0..200, 500, 60);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    // The first look comes ten minutes after the start.
    scene.look(60..61).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.phase), (VerdictKind::Inconclusive, Phase::Suspected), "{}", verdict.summary);
    assert_eq!(verdict.revision, 1);
    scene.look(61..62).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.phase), (VerdictKind::Regressed, Phase::Confirmed), "{}", verdict.summary);
    assert!(verdict.decided_at.expect("it is decided") >= Bucket(START + 60).start(), "not before anybody looked");
}

#[tokio::test]
async fn what_nobody_looked_at_until_its_time_was_over_is_still_told() {
    let scene = Scene::new().await;
    scene.traffic("1", -200..400, 500, 5);
    scene.traffic("2", 0..400, 500, 60);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(300..301).await;
    assert!(!scene.verdict(&deploy).await.decided);
    scene.look(301..302).await;
    assert_eq!(scene.verdict(&deploy).await.verdict, VerdictKind::Regressed);
}

#[tokio::test]
async fn the_end_of_a_regression_is_told_though_what_it_was_held_against_is_gone() {
    for (again, errors) in [(0, 0), (500, 5)] {
        let scene = Scene::new().await;
        scene.traffic("1", -200..0, 500, 5);
        scene.traffic("2", 0..1_200, 500, 20);
        // Rolled back, or mended in place.
        scene.traffic("1", 1_200..1_400, if again == 0 { 500 } else { 0 }, 5);
        scene.traffic("2", 1_200..1_400, again, errors);
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..60).await;
        let found = scene.verdict(&deploy).await.findings;
        assert_eq!(scene.verdict(&deploy).await.phase, Phase::Confirmed);
        *scene.script.forgotten.lock().expect("not poisoned") = Bucket(START + 300).start();
        scene.look(1_190..1_200).await;
        assert_eq!(scene.verdict(&deploy).await.phase, Phase::Confirmed);
        scene.look(1_215..1_225).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.phase, Phase::Recovered, "{}", verdict.summary);
        assert_eq!(verdict.findings.len(), found.len(), "what was told stays");
        assert_eq!(scene.events().await, ["detected", "resolved"]);
    }
}

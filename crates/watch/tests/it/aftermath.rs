//! The end of a regression, which is watched for longer than what it was held against is kept, and what comes after it.

use plimsoll_model::Bucket;
use plimsoll_model::verdict::Phase;

use crate::scene::{START, Scene, marker};

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

#[tokio::test]
async fn an_outage_that_the_time_before_had_does_not_end_a_regression_once_that_is_forgotten() {
    let scene = Scene::new().await;
    let outage = |bucket: i64| if (-100..-60).contains(&bucket) { 125 } else { 1 };
    scene.traffic_of("POST /charge", "1", -200..0, 500, outage);
    scene.traffic_of("POST /charge", "2", 0..1_400, 500, |bucket| if bucket < 1_250 { 20 } else { 1 });
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..60).await;
    assert_eq!(scene.verdict(&deploy).await.phase, Phase::Confirmed);
    *scene.script.forgotten.lock().expect("not poisoned") = Bucket(START + 300).start();
    scene.look(1_190..1_250).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!(verdict.phase, Phase::Confirmed, "{}", verdict.summary);
    scene.look(1_250..1_275).await;
    assert_eq!(scene.verdict(&deploy).await.phase, Phase::Recovered);
}

#[tokio::test]
async fn what_had_recovered_and_goes_wrong_again_is_told_again_and_what_hovers_about_the_line_is_not() {
    for (again, expected) in [(100, &["detected", "resolved", "detected"][..]), (7, &["detected", "resolved"])] {
        let scene = Scene::new().await;
        scene.traffic("1", -200..200, 500, 5);
        let errors = |bucket: i64| match bucket {
            6..18 => 100,
            50.. => again - bucket as u64 % 3,
            _ => 5,
        };
        scene.traffic_of("POST /charge", "2", 0..200, 500, errors);
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..48).await;
        assert_eq!(scene.verdict(&deploy).await.phase, Phase::Recovered);
        scene.look(48..100).await;
        assert_eq!(scene.events().await, expected, "{}", scene.verdict(&deploy).await.summary);
        let phase = if again > 50 { Phase::Confirmed } else { Phase::Recovered };
        assert_eq!(scene.verdict(&deploy).await.phase, phase);
    }
}

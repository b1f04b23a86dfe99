//! The end of a regression that is watched for longer than what it was held against is kept.

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

//! A watcher that is started again goes on where the last one stopped.

use plimsoll_model::Deploy;
use plimsoll_model::verdict::Phase;

use crate::scene::{Scene, marker};

/// A deploy of which one operation fails from the start, and another from `late` on.
async fn failing_in_turn(late: i64) -> (Scene, Deploy) {
    let scene = Scene::new().await;
    for operation in ["POST /charge", "POST /refund"] {
        scene.traffic_of(operation, "1", -100..200, 500, |_| 5);
    }
    scene.traffic_of("POST /charge", "2", 0..200, 500, |_| 100);
    scene.traffic_of("POST /refund", "2", 0..200, 500, |bucket| if bucket < late { 5 } else { 400 });
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    (scene, deploy)
}

/// Looks until something holds; says when.
async fn look_until(scene: &Scene, from: u64, mut holds: impl AsyncFnMut() -> bool) -> u64 {
    for bucket in from..from + 60 {
        scene.look(bucket..bucket + 1).await;
        if holds().await {
            return bucket + 1;
        }
    }
    panic!("it did not come to pass within ten minutes");
}

#[tokio::test]
async fn what_waited_to_be_told_when_the_watcher_stopped_is_told_by_the_next_one() {
    // How long the first takes is the judge's affair: the other begins right then.
    let (scene, _) = failing_in_turn(200).await;
    let detected = look_until(&scene, 0, async || scene.events().await == ["detected"]).await;
    let (mut scene, deploy) = failing_in_turn(detected as i64).await;
    scene.look(0..detected).await;
    assert_eq!(scene.events().await, ["detected"]);
    let two = async |scene: &Scene| scene.catalog.verdict(&deploy.id).await.expect("readable").expect("judged");
    let seen = look_until(&scene, detected, async || two(&scene).await.findings.len() > 1).await;
    assert!(seen < detected + 6, "updates keep a distance, and it was found within it");
    assert_eq!(scene.events().await, ["detected"]);
    assert_eq!(two(&scene).await.phase, Phase::Confirmed);
    scene.restart().await;
    scene.look(seen..detected + 12).await;
    assert_eq!(scene.events().await, ["detected", "updated"]);
    scene.restart().await;
    scene.look(detected + 12..detected + 24).await;
    assert_eq!(scene.events().await, ["detected", "updated"]);
}

#[tokio::test]
async fn a_verdict_that_only_an_event_has_stored_comes_with_what_it_was_judged_from() {
    let (scene, _) = failing_in_turn(200).await;
    let detected = look_until(&scene, 0, async || scene.events().await == ["detected"]).await;
    // Numbers are stored every half minute: of three moments to begin, the update falls between two stores at one.
    for late in detected..detected + 3 {
        let (scene, deploy) = failing_in_turn(late as i64).await;
        for bucket in 0..detected + 12 {
            scene.look(bucket..bucket + 1).await;
            let stored = scene.catalog.verdict(&deploy.id).await.expect("readable").is_some();
            let kept = scene.catalog.evidence(&deploy.id).await.expect("readable").is_some();
            assert_eq!(stored, kept, "late by {late}, at {bucket}: {:?}", scene.events().await);
        }
        assert_eq!(scene.events().await, ["detected", "updated"]);
    }
}

#[tokio::test]
async fn a_watcher_that_is_told_to_stop_leaves_the_rest_to_the_next_one() {
    const DEPLOYS: u64 = 40;
    let scene = Scene::new().await;
    scene.traffic("1", -100..200, 500, 5);
    for version in 2..2 + DEPLOYS {
        let version = version.to_string();
        scene.traffic(&version, 0..200, 500, 5);
        scene.watcher.register(marker(&version), None).await.expect("valid");
    }
    scene.turn(12);
    let judged = || scene.watcher.counters().judged;
    let mut changes = scene.watcher.changes();
    scene.watcher.run(async { changes.changed().await.expect("it watches") }).await;
    assert!((1..DEPLOYS / 2).contains(&judged()), "{} of {DEPLOYS} were judged", judged());
    scene.watcher.tick().await;
    assert!(judged() >= DEPLOYS, "{} of {DEPLOYS} are judged in the end", judged());
}

//! What a deploy is compared with is asked to be kept, and where it is gone all the same nothing is made up in its place.

use std::time::Duration;

use plimsoll_model::{Bucket, Design, VerdictKind};

use crate::scene::{START, Scene, marker, service};

#[tokio::test]
async fn what_open_deploys_are_judged_by_is_asked_to_be_kept_until_their_time_is_over() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..400, 500, 1);
    scene.traffic("2", 0..400, 500, 60);
    scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..20).await;
    let kept = || scene.script.kept.lock().expect("not poisoned").clone();
    assert_eq!(kept(), [(service(), Bucket(START).start() - Duration::from_secs(3_600))].into());
    // A confirmed regression is watched for its end long after, which needs no past.
    scene.look(300..301).await;
    assert!(kept().is_empty());
}

#[tokio::test]
async fn an_unchanged_service_whose_past_had_to_go_is_held_and_not_called_failing() {
    let scene = Scene::new().await;
    // It has always failed eight of a hundred.
    scene.traffic("1", -360..0, 100, 8);
    scene.traffic("2", 0..190, 100, 8);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..10).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.design), (VerdictKind::Inconclusive, Design::BeforeAfter));
    assert!(!verdict.data_quality.iter().any(|word| word == "baseline_evicted"), "{:?}", verdict.data_quality);
    *scene.script.forgotten.lock().expect("not poisoned") = Bucket(START).start();
    scene.look(10..185).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.decided), (VerdictKind::Inconclusive, true), "{}", verdict.summary);
    assert!(verdict.data_quality.iter().any(|word| word == "baseline_evicted"), "{:?}", verdict.data_quality);
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn what_is_left_of_the_past_is_compared_with() {
    let scene = Scene::new().await;
    scene.traffic("1", -360..0, 100, 1);
    scene.traffic("2", 0..190, 100, 12);
    *scene.script.forgotten.lock().expect("not poisoned") = Bucket(START - 100).start();
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..30).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.design), (VerdictKind::Regressed, Design::BeforeAfter), "{}", verdict.summary);
    assert!(verdict.data_quality.iter().any(|word| word == "baseline_evicted"), "{:?}", verdict.data_quality);
}

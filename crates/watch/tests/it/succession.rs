//! A later deploy ends the judgement of the one before once it took over, and not because somebody said a word about it.

use std::time::Duration;

use plimsoll_model::{Bucket, DeployStatus, VerdictKind};

use crate::scene::{START, Scene, marker};

#[tokio::test]
async fn a_deploy_that_is_still_to_start_supersedes_nothing() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..0, 500, 1);
    scene.traffic("2", 0..100, 500, 60);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    let mut tonight = marker("3");
    tonight.started_at = Some((Bucket(START).start() + Duration::from_secs(12 * 3_600)).to_rfc3339());
    scene.watcher.register(tonight, None).await.expect("valid");
    scene.look(0..20).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    assert!(!verdict.data_quality.iter().any(|word| word == "superseded"), "{:?}", verdict.data_quality);
}

#[tokio::test]
async fn a_version_that_nobody_announced_supersedes_once_it_serves_as_much() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..0, 500, 1);
    scene.traffic("2", 0..60, 500, 1);
    // Somebody's try from a laptop, and what took over later.
    scene.seen("1", -100);
    scene.seen("dev-laptop", 2);
    scene.traffic("dev-laptop", 2..3, 500, 1);
    scene.seen("3", 20);
    scene.traffic("3", 20..40, 5, 0);
    scene.traffic("3", 40..100, 2_000, 1);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    let superseded = async || scene.verdict(&deploy).await.data_quality.iter().any(|word| word == "superseded");
    scene.look(0..20).await;
    assert_eq!(scene.watcher_deploys().await.len(), 3, "two were inferred");
    assert!(!superseded().await);
    scene.look(20..40).await;
    assert!(!superseded().await, "a few requests take over nothing");
    scene.look(40..70).await;
    assert!(superseded().await);
}

#[tokio::test]
async fn a_version_that_nobody_announced_supersedes_where_the_candidate_stopped() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..0, 500, 1);
    scene.traffic("2", 0..10, 500, 1);
    scene.seen("1", -100);
    scene.seen("3", 5);
    scene.traffic("3", 5..100, 20, 0);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..10).await;
    assert!(!scene.verdict(&deploy).await.data_quality.iter().any(|word| word == "superseded"));
    scene.look(10..40).await;
    let verdict = scene.verdict(&deploy).await;
    assert!(
        verdict.decided && verdict.data_quality.iter().any(|word| word == "superseded"),
        "{:?}",
        verdict.data_quality
    );
}

#[tokio::test]
async fn a_marker_whose_version_did_not_take_over_ends_nothing() {
    for (kind, ends) in [("release", Some(DeployStatus::Failed)), ("release", None), ("flag", None), ("config", None)] {
        let scene = Scene::new().await;
        scene.traffic("1", -100..0, 500, 1);
        scene.traffic_of("POST /charge", "2", 0..180, 500, |bucket| if bucket < 30 { 1 } else { 100 });
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..6).await;
        let mut later = marker("3");
        later.kind = Some(kind.to_owned());
        let (later, _) = scene.watcher.register(later, None).await.expect("valid");
        scene.look(6..12).await;
        if let Some(status) = ends {
            scene.watcher.finish(&later.id, status, None).await.expect("is known");
        }
        scene.look(12..45).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{kind} {ends:?}: {}", verdict.summary);
        // A change that keeps the version is of the one that serves: what that breaks then is told of the change as well.
        let told = scene.events().await;
        assert!(told.iter().all(|event| event == "detected"), "{kind} {ends:?}: {told:?}");
        assert!(told.len() == 1 || (told.len() == 2 && kind != "release"), "{kind} {ends:?}: {told:?}");
    }
}

#[tokio::test]
async fn a_change_under_a_label_of_its_own_is_watched_on_beside_a_canary() {
    for announced in [true, false] {
        let scene = Scene::new().await;
        // A limit that the change set is reached after a while.
        scene.traffic_of("POST /charge", "1", -100..180, 500, |bucket| if bucket < 50 { 1 } else { 50 });
        scene.traffic_of("POST /charge", "2", 6..180, 25, |_| 0);
        scene.seen("1", -100);
        let mut change = marker("limits-7");
        change.kind = Some("config".to_owned());
        let (change, _) = scene.watcher.register(change, None).await.expect("valid");
        scene.look(0..6).await;
        if announced {
            scene.watcher.register(marker("2"), None).await.expect("valid");
        } else {
            scene.seen("2", 6);
        }
        scene.look(6..90).await;
        let verdict = scene.verdict(&change).await;
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{announced}: {}", verdict.summary);
        assert!(!verdict.data_quality.iter().any(|word| word == "superseded"), "{:?}", verdict.data_quality);
    }
}

#[tokio::test]
async fn of_two_canaries_side_by_side_each_is_judged() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..0, 500, 1);
    scene.traffic("1", 0..180, 300, 1);
    scene.traffic_of("POST /charge", "2", 0..180, 100, |bucket| if bucket < 20 { 0 } else { 12 });
    scene.traffic("3", 6..180, 100, 0);
    let (first, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..6).await;
    let (second, _) = scene.watcher.register(marker("3"), None).await.expect("valid");
    scene.look(6..100).await;
    let verdict = scene.verdict(&first).await;
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
    let verdict = scene.verdict(&second).await;
    assert_eq!(verdict.verdict, VerdictKind::Pass, "{}", verdict.summary);
}

#[tokio::test]
async fn a_second_canary_does_not_end_the_first_because_the_latest_requests_are_still_to_come() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..0, 1_000, 20);
    scene.traffic("1", 0..180, 700, 14);
    scene.traffic_of("POST /charge", "2", 0..180, 30, |bucket| if bucket < 50 { 0 } else { 6 });
    // It has a few more at first, as chance has it.
    scene.traffic("3", 30..32, 36, 0);
    scene.traffic("3", 32..180, 30, 0);
    let (first, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look_ahead_of_telemetry(0..30).await;
    scene.watcher.register(marker("3"), None).await.expect("valid");
    scene.look_ahead_of_telemetry(30..120).await;
    let verdict = scene.verdict(&first).await;
    assert!(!verdict.data_quality.iter().any(|word| word == "superseded"), "{:?}", verdict.data_quality);
    assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[tokio::test]
async fn a_minute_without_requests_is_no_leave_where_such_minutes_are_usual() {
    for (every, ends) in [(9, false), (1, true)] {
        let scene = Scene::new().await;
        scene.traffic("1", -200..0, 500, 1);
        // All of a minute and a half at once, until it leaves; and what was announced is not heard of.
        (0..=60 / every).for_each(|i| scene.traffic("2", i * every..i * every + 1, 100, 0));
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..45).await;
        scene.watcher.register(marker("3"), None).await.expect("valid");
        scene.look(45..67).await;
        let says = || async { scene.verdict(&deploy).await.data_quality.iter().any(|word| word == "superseded") };
        assert!(!says().await, "every {every}");
        scene.look(67..69).await;
        assert_eq!(says().await, ends, "every {every}");
        scene.look(69..80).await;
        assert!(says().await, "every {every}");
    }
}

#[tokio::test]
async fn an_announced_version_supersedes_from_its_first_request_where_it_took_over_or_nobody_serves() {
    for comes in [true, false] {
        let scene = Scene::new().await;
        scene.traffic("1", -100..0, 500, 1);
        scene.traffic("2", 0..10, 500, 1);
        if comes {
            // What it breaks is its own.
            scene.traffic("3", 10..100, 500, 300);
        }
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..6).await;
        scene.watcher.register(marker("3"), None).await.expect("valid");
        scene.look(6..10).await;
        let says = |verdict: &plimsoll_model::Verdict| verdict.data_quality.iter().any(|word| word == "superseded");
        assert!(!says(&scene.verdict(&deploy).await), "it serves alone");
        scene.look(10..60).await;
        let verdict = scene.verdict(&deploy).await;
        assert!(verdict.decided && says(&verdict), "comes: {comes}: {:?} {}", verdict.data_quality, verdict.summary);
        assert_ne!(verdict.verdict, VerdictKind::Regressed, "comes: {comes}: {}", verdict.summary);
    }
}

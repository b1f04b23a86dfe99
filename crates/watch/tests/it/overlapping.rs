//! A release, and minutes later a change that keeps the version: what got worse is one's or the other's, and one is told of.

use plimsoll_model::{Deploy, Recommendation, Verdict, VerdictKind};

use crate::scene::{Scene, marker};

/// The bucket in which the change is announced.
const CHANGED: u64 = 42;

/// A version that serves from the start on and fails from bucket `since` on, and what is said of it and of a change of `kind`.
async fn judged(kind: &str, label: &str, since: i64, failures: u64) -> (Scene, [Deploy; 2], [Verdict; 2]) {
    let scene = Scene::new().await;
    scene.traffic("1", -200..0, 500, 1);
    scene.traffic_of("POST /charge", "2", 0..200, 500, |bucket| if bucket < since { 1 } else { failures });
    let (release, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..CHANGED).await;
    let mut change = marker(label);
    change.kind = Some(kind.to_owned());
    let (change, _) = scene.watcher.register(change, None).await.expect("valid");
    scene.look(CHANGED..150).await;
    let verdicts = [scene.verdict(&release).await, scene.verdict(&change).await];
    (scene, [release, change], verdicts)
}

fn says(verdict: &Verdict) -> bool {
    verdict.data_quality.iter().any(|word| word == "other_deploy")
}

#[tokio::test]
async fn what_begins_with_a_change_of_what_had_served_well_is_told_of_the_change_alone() {
    for (kind, label, since) in [
        ("config", "cfg-7", CHANGED),
        ("flag", "new-cart-on", CHANGED),
        ("infra", "node-2026-03", CHANGED + 20),
        ("config", "2", CHANGED),
    ] {
        let (scene, _, [release, change]) = judged(kind, label, since as i64, 40).await;
        assert_ne!(release.verdict, VerdictKind::Regressed, "{kind}: {}", release.summary);
        assert_ne!(release.recommendation, Recommendation::Rollback, "{kind}");
        assert!(says(&release) && !release.data_quality.iter().any(|word| word == "callee_failing"), "{release:?}");
        assert!(release.findings.iter().all(|finding| finding.symptom), "{kind}: {:?}", release.findings);
        let blamed = release.findings.first().map(|finding| finding.culprit.version.as_str());
        assert_eq!(blamed, Some(label), "{kind}: {:?}", release.findings);
        assert_eq!(change.recommendation, Recommendation::Rollback, "{kind}: {}", change.summary);
        assert!(!says(&change), "{kind}: {:?}", change.data_quality);
        assert_eq!(scene.events().await, ["detected"], "{kind}");
    }
}

#[tokio::test]
async fn what_began_before_a_change_is_the_releases() {
    for since in [0, 20, 36, 39] {
        let (scene, _, [release, change]) = judged("config", "cfg-7", since, 40).await;
        assert_eq!(release.recommendation, Recommendation::Rollback, "{since}: {}", release.summary);
        assert!(!says(&release), "{since}: {:?}", release.data_quality);
        assert_ne!(change.recommendation, Recommendation::Rollback, "{since}: {}", change.summary);
        assert_eq!(scene.events().await, ["detected"], "{since}");
    }
}

#[tokio::test]
async fn whatever_began_when_somebody_is_told_once() {
    for since in [38, 40, 41, 43] {
        for failures in [6, 100] {
            let (scene, _, verdicts) = judged("config", "cfg-7", since, failures).await;
            let blamed = verdicts.iter().filter(|verdict| verdict.recommendation == Recommendation::Rollback).count();
            assert!(blamed >= 1, "{since} {failures}: {} and {}", verdicts[0].summary, verdicts[1].summary);
            assert_eq!(scene.events().await, ["detected"], "{since} {failures}");
        }
    }
}

#[tokio::test]
async fn what_a_change_is_left_and_does_not_tell_is_told_of_the_release() {
    // It came so soon that there is next to nothing to hold it against.
    let scene = Scene::new().await;
    scene.traffic("1", -200..0, 500, 1);
    scene.traffic_of("POST /charge", "2", 0..200, 500, |bucket| if bucket < 8 { 0 } else { 6 });
    let (release, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..8).await;
    let mut change = marker("cfg-7");
    change.kind = Some("config".to_owned());
    let (change, _) = scene.watcher.register(change, None).await.expect("valid");
    scene.look(8..120).await;
    let verdicts = [scene.verdict(&release).await, scene.verdict(&change).await];
    let blamed = verdicts.iter().filter(|verdict| verdict.recommendation == Recommendation::Rollback).count();
    assert!(blamed >= 1, "{} and {}", verdicts[0].summary, verdicts[1].summary);
    assert_eq!(scene.events().await, ["detected"]);
}

#[tokio::test]
async fn what_else_goes_wrong_with_the_change_is_told_though_the_release_was() {
    let scene = Scene::new().await;
    for operation in ["POST /charge", "GET /list"] {
        scene.traffic_of(operation, "1", -200..0, 300, |_| 1);
    }
    scene.traffic_of("POST /charge", "2", 0..200, 300, |_| 30);
    scene.traffic_of("GET /list", "2", 0..200, 300, |bucket| if bucket < 44 { 1 } else { 30 });
    let (release, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..CHANGED).await;
    let mut change = marker("cfg-7");
    change.kind = Some("config".to_owned());
    let (change, _) = scene.watcher.register(change, None).await.expect("valid");
    scene.look(CHANGED..120).await;
    assert_eq!(scene.events().await, ["detected", "detected"]);
    let own = |verdict: Verdict| -> Vec<String> {
        verdict.findings.into_iter().filter(|finding| !finding.symptom).map(|finding| finding.operation).collect()
    };
    assert_eq!(own(scene.verdict(&release).await), ["POST /charge"]);
    assert_eq!(own(scene.verdict(&change).await), ["GET /list"]);
}

//! A version that never comes: missed once its deploy took longer than those before it.

use plimsoll_catalog::VersionRecord;
use plimsoll_model::{Bucket, DeployStatus, SignalKind, VerdictKind};
use plimsoll_watch::{Evidence, NewDeploy};

use crate::scene::{START, Scene, marker};

/// A scene in which version 1 serves throughout and some versions before it came so many buckets after their deploys.
async fn scene(took: &[i64]) -> Scene {
    let scene = Scene::new().await;
    scene.traffic("1", -300..200, 200, 0);
    scene.seen("0", -8_000);
    for (number, took) in took.iter().enumerate() {
        let (version, at) = (format!("1.{number}"), -7_000 + 1_000 * number as i64);
        let started_at = Bucket(START.checked_add_signed(at).expect("in range")).start();
        let marker = NewDeploy { started_at: Some(started_at.to_rfc3339()), ..marker(&version) };
        let (deploy, _) = scene.watcher.register(marker, None).await.expect("valid");
        scene.watcher.finish(&deploy.id, DeployStatus::Succeeded, None).await.expect("is known");
        scene.seen(&version, at + took);
    }
    scene.look(0..1).await;
    scene
}

#[tokio::test]
async fn a_version_that_never_comes_is_missed_once_deploys_before_it_would_have_come() {
    let silent_at = async |took: &[i64]| {
        let scene = scene(took).await;
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        for bucket in 1..180 {
            scene.look(bucket..bucket + 1).await;
            let verdict = scene.verdict(&deploy).await;
            if verdict.verdict == VerdictKind::Regressed {
                assert_eq!(verdict.findings[0].signal, SignalKind::Silence, "{}", verdict.summary);
                let kept = scene.catalog.evidence(&deploy.id).await.expect("readable").expect("is kept");
                let kept = format!("{:?}", Evidence::from_bytes(&kept).expect("is read"));
                assert!(kept.contains("first_request_ns: Some("), "what it was judged by is kept");
                return Some(bucket);
            }
        }
        None
    };
    // Twice the longest, and five minutes.
    let quick = silent_at(&[1, 3, 2]).await.expect("it is missed");
    assert!((36..50).contains(&quick), "at {quick}");
    let slow = silent_at(&[1, 40, 2]).await.expect("it is missed");
    assert!((110..130).contains(&slow), "at {slow}");
    assert_eq!(silent_at(&[1, 3]).await, None, "two deploys tell too little");
    assert_eq!(silent_at(&[0, 0, 0, 0]).await, None, "what is marked as it comes tells nothing");
}

#[tokio::test]
async fn a_change_that_brings_no_version_is_not_late_by_the_measure_of_those_that_do() {
    let scene = scene(&[1, 3, 2]).await;
    let flag = NewDeploy { kind: Some("flag".to_owned()), ..marker("1+new-cart") };
    let (deploy, _) = scene.watcher.register(flag, None).await.expect("valid");
    scene.look(1..180).await;
    let verdict = scene.verdict(&deploy).await;
    assert_ne!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
}

#[tokio::test]
async fn deploys_that_failed_and_versions_that_nobody_announced_tell_nothing_of_the_next() {
    let scene = scene(&[]).await;
    for number in 0..4_u64 {
        let at = Bucket(START - 5_000 + 500 * number).start();
        let version = format!("1.{number}");
        let failed = NewDeploy { started_at: Some(at.to_rfc3339()), ..marker(&version) };
        let (deploy, _) = scene.watcher.register(failed, None).await.expect("valid");
        scene.watcher.finish(&deploy.id, DeployStatus::Failed, Some(at)).await.expect("is known");
        scene.seen(&version, -4_990 + 500 * number as i64);
        scene.seen(&format!("unannounced-{number}"), -4_800 + 500 * number as i64);
    }
    scene.look(0..1).await;
    let versions: Vec<VersionRecord> = scene.catalog.versions(&scene.service).await.expect("readable");
    assert_eq!(versions.len(), 9, "{versions:?}");
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(1..180).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!(verdict.verdict, VerdictKind::Inconclusive, "{}", verdict.summary);
}

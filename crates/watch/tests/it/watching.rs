//! From a marker, or the lack of one, to verdicts and events.

use plimsoll_catalog::DeployFilter;
use plimsoll_model::aggregates::{HistoryCell, HistorySeries, Vitals, VitalsSeries};
use plimsoll_model::verdict::Phase;
use plimsoll_model::{Bucket, DeployId, Design, ServiceKey, VerdictKind};
use plimsoll_watch::NewDeploy;

use crate::scene::{KEPT, START, Scene, marker, service};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn a_good_deploy_passes_without_an_event() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..100, 500, 1);
    scene.traffic("2", 0..100, 500, 1);
    let (deploy, created) = scene.watcher.register(marker("2"), None).await.expect("valid");
    assert!(created);
    scene.look(0..40).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.decided), (VerdictKind::Pass, true), "{}", verdict.summary);
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn a_bad_deploy_is_detected_once_even_across_a_restart_and_resolved_by_its_rollback() {
    let mut scene = Scene::new().await;
    scene.traffic("1", -100..200, 500, 5);
    scene.traffic("2", 0..40, 500, 60);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..10).await;
    assert_eq!(scene.verdict(&deploy).await.phase, Phase::Confirmed);
    scene.restart().await;
    scene.look(10..38).await;
    assert_eq!(scene.events().await, ["detected"]);
    let mut rollback = marker("1");
    rollback.kind = Some("rollback".to_owned());
    scene.watcher.register(rollback, None).await.expect("valid");
    scene.look(38..70).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.phase), (VerdictKind::Regressed, Phase::Recovered), "{}", verdict.summary);
    assert_eq!(scene.events().await, ["detected", "resolved"]);
}

#[tokio::test]
async fn what_a_verdict_was_judged_from_goes_when_it_was_kept_long_enough_and_the_verdict_stays() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..200, 500, 1);
    scene.traffic("2", 0..200, 500, 1);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..190).await;
    let kept = async || scene.catalog.evidence(&deploy.id).await.expect("readable").is_some();
    assert!(kept().await);
    let long = KEPT.as_secs() / 10;
    scene.look(long - 1..long).await;
    assert!(kept().await);
    // The next time that anything is removed is an hour later.
    scene.look(long + 360..long + 361).await;
    assert!(!kept().await);
    assert_eq!(scene.verdict(&deploy).await.verdict, VerdictKind::Pass);
}

#[tokio::test]
async fn ten_requests_a_minute_hold_and_end_inconclusive() {
    let scene = Scene::new().await;
    scene.traffic("1", -300..0, 2, 0);
    scene.traffic("2", 0..200, 2, 0);
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..30).await;
    assert!(!scene.verdict(&deploy).await.decided);
    scene.look(178..182).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.decided), (VerdictKind::Inconclusive, true));
    assert!(scene.events().await.is_empty());
}

#[tokio::test]
async fn a_new_version_is_a_deploy_and_one_that_comes_back_is_not() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..100, 500, 1);
    scene.seen("1", -100);
    scene.look(0..1).await;
    let all = || async { scene.watcher_deploys().await };
    assert!(all().await.is_empty(), "the first version of a service is its first sight");
    scene.seen("2", 1);
    scene.look(1..2).await;
    let found = all().await;
    assert_eq!(found.len(), 1);
    assert!(found[0].inferred);
    assert_eq!(found[0].previous_version.as_deref(), Some("1"));
    assert_eq!(found[0].id, DeployId::inferred("prod", "", "payment", "2"));
    scene.seen("1", 3);
    scene.look(3..4).await;
    assert_eq!(all().await.len(), 1, "scaling up a known version is no deploy");
}

#[tokio::test]
async fn a_service_with_a_version_for_every_pod_does_not_flood() {
    let scene = Scene::new().await;
    scene.seen("0", -100);
    (1..40).for_each(|i| scene.seen(&format!("pod-{i}"), i));
    scene.look(40..41).await;
    assert!(scene.watcher_deploys().await.len() <= 5);
    assert!(scene.watcher.counters().churned_versions > 0);
}

#[tokio::test]
async fn a_marker_that_comes_late_takes_over_the_inferred_deploy_and_nobody_is_paged_again() {
    let mut scene = Scene::new().await;
    scene.traffic("1", -100..100, 500, 5);
    scene.traffic("2", 1..100, 500, 60);
    scene.seen("1", -100);
    scene.look(0..1).await;
    scene.seen("2", 1);
    scene.look(1..15).await;
    let inferred = scene.watcher_deploys().await.remove(0);
    assert_eq!(scene.events().await, ["detected"]);
    let mut late = marker("2");
    late.actor = Some("ci".to_owned());
    let (announced, created) = scene.watcher.register(late, Some("key")).await.expect("valid");
    assert!(created && !announced.inferred);
    assert_eq!((&announced.id, announced.started_at), (&inferred.id, inferred.started_at));
    scene.look(15..20).await;
    scene.restart().await;
    scene.look(20..25).await;
    assert_eq!(scene.verdict(&announced).await.verdict, VerdictKind::Regressed);
    assert_eq!(scene.events().await, ["detected"], "one shipment, one page");
    assert_eq!(scene.watcher_deploys().await.len(), 1);
    let (again, created) = scene.watcher.register(marker("2"), Some("key")).await.expect("valid");
    assert_eq!((again.id, created), (announced.id, false));
}

#[tokio::test]
async fn the_same_version_posted_twice_is_one_deploy_unless_another_run_ships_it() {
    let mut scene = Scene::new().await;
    scene.traffic("1", -100..200, 500, 5);
    scene.traffic("2", 0..40, 500, 60);
    let by = |run: &str| NewDeploy { run_url: Some(run.to_owned()), ..marker("2") };
    let (first, _) = scene.watcher.register(by("https://ci/1"), None).await.expect("valid");
    let (second, created) = scene.watcher.register(marker("2"), None).await.expect("valid");
    assert_eq!((&second.id, created), (&first.id, false));
    let (other, created) = scene.watcher.register(by("https://ci/2"), None).await.expect("valid");
    assert!(created && other.id != first.id);
    scene.look(0..15).await;
    for deploy in [&first, &other] {
        assert_eq!(scene.verdict(deploy).await.verdict, VerdictKind::Regressed);
    }
    assert_eq!(scene.events().await, ["detected"], "one shipment, one page");
    scene.restart().await;
    scene.look(15..38).await;
    let rollback = NewDeploy { kind: Some("rollback".to_owned()), ..marker("1") };
    scene.watcher.register(rollback, None).await.expect("valid");
    scene.look(38..70).await;
    for deploy in [&first, &other] {
        assert_eq!(scene.verdict(deploy).await.phase, Phase::Recovered);
    }
    assert_eq!(scene.events().await, ["detected", "resolved"], "and one end, though two are recovered");
}

#[tokio::test]
async fn a_deploy_marked_after_the_fact_began_when_its_version_was_first_seen() {
    let scene = Scene::new().await;
    scene.seen("1", -100);
    (0..6).for_each(|i| scene.seen(&format!("x{i}"), 1));
    scene.look(0..3).await;
    // Too many versions at once: no deploy was inferred from the last of them.
    let known = scene.catalog.versions(&service()).await.expect("readable");
    let seen = known.iter().find(|version| version.version == "x5").expect("it was seen").first_seen;
    scene.look(20..21).await;
    let (late, _) = scene.watcher.register(marker("x5"), None).await.expect("valid");
    assert_eq!(late.started_at, seen);
    let told =
        NewDeploy { started_at: Some((seen + MINUTE).to_rfc3339()), run_url: Some("r".to_owned()), ..marker("x4") };
    let (told, _) = scene.watcher.register(told, None).await.expect("valid");
    assert!(told.started_at <= seen + MINUTE);
    scene.look(21..22).await;
    for deploy in [&late, &told] {
        let words = scene.verdict(deploy).await.data_quality;
        assert!(words.contains(&"marked_late".to_owned()), "{words:?}");
    }
    let (rollback, _) = scene
        .watcher
        .register(NewDeploy { kind: Some("rollback".to_owned()), ..marker("1") }, None)
        .await
        .expect("valid");
    assert!(rollback.started_at > seen + MINUTE, "a return to a known version begins now");
}

#[tokio::test]
async fn a_deploy_that_is_still_to_come_is_not_judged_before_it_starts() {
    let scene = Scene::new().await;
    scene.traffic("1", -100..100, 500, 5);
    scene.look(0..1).await;
    let start = plimsoll_model::Bucket(crate::scene::START + 20).start();
    let (deploy, _) = scene
        .watcher
        .register(NewDeploy { started_at: Some(start.to_rfc3339()), ..marker("2") }, None)
        .await
        .expect("valid");
    scene.look(1..10).await;
    assert_eq!(scene.verdict(&deploy).await.revision, 0);
    scene.look(21..23).await;
    let verdict = scene.verdict(&deploy).await;
    assert!(verdict.revision > 0);
    assert!(verdict.data_quality.contains(&"marked_ahead".to_owned()), "{:?}", verdict.data_quality);
}

#[tokio::test]
async fn a_service_never_seen_is_said_to_have_no_traffic() {
    let scene = Scene::new().await;
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..2).await;
    let verdict = scene.verdict(&deploy).await;
    assert_eq!((verdict.verdict, verdict.decided), (VerdictKind::Inconclusive, false));
    assert!(verdict.data_quality.contains(&"no_candidate_traffic".to_owned()), "{:?}", verdict.data_quality);
}

#[tokio::test]
async fn ten_thousand_deploys_at_once_are_judged_in_turn_and_say_so_and_a_look_stays_bounded() {
    // Twelve looks a minute at 64 deploys each.
    const DEPLOYS: u64 = 10_000;
    let scene = Scene::new().await;
    scene.traffic("1", -100..200, 500, 5);
    scene.traffic("2", 0..200, 500, 60);
    let (bad, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(0..4).await;
    let mut made = Vec::new();
    for number in 0..DEPLOYS {
        let marker = NewDeploy { service: format!("service-{number}"), ..marker("2") };
        made.push(scene.watcher.register(marker, None).await.expect("valid").0);
    }
    const LOOKS: u64 = 20;
    for look in 4..4 + LOOKS {
        let before = scene.watcher.counters().judged;
        scene.look(look..look + 1).await;
        assert!(scene.watcher.counters().judged - before <= 64, "a look stays bounded");
    }
    // Those who came first are judged first, but for the turns that what is suspected took.
    for deploy in &made[..(LOOKS * 60) as usize] {
        let verdict = scene.verdict(deploy).await;
        assert!(verdict.revision > 0, "nobody is left out");
        assert!(verdict.data_quality.contains(&"many_deploys".to_owned()), "{:?}", verdict.data_quality);
    }
    // What was bad before them is found beside them, and nothing else is.
    let verdict = scene.verdict(&bad).await;
    assert_eq!((verdict.verdict, verdict.phase), (VerdictKind::Regressed, Phase::Confirmed), "{}", verdict.summary);
    assert_eq!(scene.events().await, ["detected"]);
}

#[tokio::test]
async fn the_same_idempotency_key_registers_once() {
    let scene = Scene::new().await;
    let (first, created) = scene.watcher.register(marker("2"), Some("key")).await.expect("valid");
    let (second, again) = scene.watcher.register(marker("2"), Some("key")).await.expect("valid");
    assert!(created && !again);
    assert_eq!(first.id, second.id);
}

#[tokio::test]
async fn a_deploy_whose_sender_left_early_is_watched_once_it_is_sent_again() {
    let (scene, other) = (Scene::new().await, Scene::new().await);
    let (recorded, _) = other.watcher.register(marker("2"), None).await.expect("valid");
    scene.catalog.insert_deploy(&recorded, Some("key")).await.expect("writable");
    scene.look(0..1).await;
    assert_eq!(scene.verdict(&recorded).await.revision, 0, "nobody watches it");
    scene.watcher.register(marker("2"), Some("key")).await.expect("valid");
    scene.look(1..2).await;
    assert_eq!(scene.verdict(&recorded).await.revision, 1);
}

impl Scene {
    pub(crate) async fn watcher_deploys(&self) -> Vec<plimsoll_model::Deploy> {
        let filter = DeployFilter { service: Some(service().service), ..DeployFilter::default() };
        self.catalog.deploys(&filter).await.expect("readable")
    }
}

/// A scene whose telemetry names a namespace.
async fn in_namespace(namespace: &str) -> Scene {
    let mut scene = Scene::new().await;
    scene.service.namespace = namespace.to_owned();
    scene
}

#[tokio::test]
async fn a_marker_without_a_namespace_means_the_one_that_its_service_has() {
    let mut scene = in_namespace("shop").await;
    scene.seen("1", -100);
    scene.look(0..1).await;
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    assert_eq!(deploy.service, scene.service);
    let mut explicit = marker("3");
    explicit.namespace = Some(String::new());
    let (deploy, _) = scene.watcher.register(explicit, None).await.expect("valid");
    assert_eq!(deploy.service.namespace, "", "what is said is kept");

    scene.service.namespace = "other".to_owned();
    scene.seen("1", -50);
    scene.look(1..2).await;
    let (deploy, _) = scene.watcher.register(marker("4"), None).await.expect("valid");
    assert_eq!(deploy.service.namespace, "", "of two neither is guessed");
}

#[tokio::test]
async fn a_marker_that_comes_before_its_telemetry_takes_its_namespace_and_is_judged() {
    let scene = in_namespace("shop").await;
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    assert_eq!(deploy.service.namespace, "");
    scene.look(0..2).await;
    assert!(scene.verdict(&deploy).await.data_quality.contains(&"no_candidate_traffic".to_owned()));
    scene.traffic("1", -100..60, 500, 5);
    scene.traffic("2", 0..60, 500, 60);
    scene.seen("1", -100);
    scene.seen("2", 2);
    scene.look(2..30).await;
    let placed = scene.catalog.deploy(&deploy.id).await.expect("readable").expect("it exists");
    assert_eq!(placed.service, scene.service);
    assert_eq!(scene.verdict(&deploy).await.phase, Phase::Confirmed);
    assert_eq!(scene.watcher_deploys().await.len(), 1, "none is inferred beside it");
}

#[tokio::test]
async fn a_service_that_is_only_known_elsewhere_is_said_to_be() {
    let scene = in_namespace("").await;
    scene.seen("1", -100);
    scene.look(0..1).await;
    let mut staging = marker("2");
    staging.environment = "staging".to_owned();
    let (deploy, _) = scene.watcher.register(staging, None).await.expect("valid");
    scene.look(1..2).await;
    let words = scene.verdict(&deploy).await.data_quality;
    assert!(words.contains(&"seen_elsewhere".to_owned()), "{words:?}");
    let summary = scene.verdict(&deploy).await.summary;
    assert!(summary.contains("no telemetry names it in `staging` as its marker does"), "{summary}");
    let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
    scene.look(2..3).await;
    let words = scene.verdict(&deploy).await.data_quality;
    assert!(!words.contains(&"seen_elsewhere".to_owned()), "{words:?}");
}

#[tokio::test]
async fn a_service_is_held_to_its_own_tolerances() {
    for (name, expected) in [("payment", true), ("lenient", false)] {
        let mut scene = Scene::new().await;
        scene.service.service = name.to_owned();
        scene.traffic("1", -100..60, 500, 5);
        scene.traffic("2", 0..60, 500, 60);
        let marker = NewDeploy { service: name.to_owned(), ..marker("2") };
        let (deploy, _) = scene.watcher.register(marker, None).await.expect("valid");
        scene.look(0..40).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.verdict == VerdictKind::Regressed, expected, "{name}: {}", verdict.summary);
    }
}

#[tokio::test]
async fn an_outage_of_services_that_nobody_touched_is_not_the_deploys_unless_they_were_deployed_as_well() {
    for (deployed, straggling, expected) in [(false, false, false), (false, true, false), (true, false, true)] {
        let scene = Scene::new().await;
        scene.traffic("1", -100..0, 500, 5);
        if straggling {
            // What is left of the former version still answers a request now and then.
            (20..60).for_each(|bucket| scene.traffic("1", bucket..bucket + 1, 1, 0));
        }
        scene.traffic("2", 0..60, 500, 60);
        let others: Vec<VitalsSeries> = ["ads", "mail", "search"]
            .map(|name| VitalsSeries {
                service: ServiceKey::new("prod", name),
                until: None,
                cells: (START - 100..START + 60)
                    .map(|bucket| {
                        let errors = if bucket < START { 2 } else { 24 };
                        (Bucket(bucket), Vitals { requests: 200, errors, log_latency_sum: 0 })
                    })
                    .collect(),
            })
            .to_vec();
        scene.script.unrelated.lock().expect("not poisoned").clone_from(&others);
        for other in others.iter().filter(|_| deployed) {
            let marker = NewDeploy { service: other.service.service.clone(), ..marker("9") };
            scene.watcher.register(marker, None).await.expect("valid");
        }
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..40).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.verdict == VerdictKind::Regressed, expected, "deployed {deployed}: {}", verdict.summary);
    }
}

#[tokio::test]
async fn the_day_before_excuses_what_it_always_does_and_not_what_a_deploy_did_then() {
    for changed in [false, true] {
        let scene = Scene::new().await;
        scene.traffic("1", -180..0, 500, 5);
        scene.traffic("2", 0..100, 500, 15);
        let cells = (0..180_u64).map(|minute| {
            let second = START * 10 - 86_400 - 3_600 + 60 * minute;
            let errors = if minute < 60 { 30 } else { 90 };
            let log = (40e6_f64.ln() * 3_000.0 * plimsoll_model::signal::LOG_UNIT) as i64;
            let cell = HistoryCell { requests: 3_000, errors, log_latency_sum: log, ..HistoryCell::default() };
            (plimsoll_model::UnixNanos::from_secs(second), cell)
        });
        let (operation, kind) = ("POST /charge".to_owned(), plimsoll_model::signal::OperationKind::Server);
        let history = HistorySeries { operation, kind, width_s: 60, cells: cells.collect() };
        scene.script.history.lock().expect("not poisoned").push(history);
        if changed {
            // Yesterday at this time the version came that serves until today.
            scene.seen("1", 1 - 8_640);
        }
        let (deploy, _) = scene.watcher.register(marker("2"), None).await.expect("valid");
        scene.look(0..60).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.verdict == VerdictKind::Regressed, changed, "{}", verdict.summary);
    }
}

#[tokio::test]
async fn a_deploy_that_is_told_of_late_did_not_follow_a_version_that_came_after_it() {
    let scene = Scene::new().await;
    scene.seen("1", -100);
    scene.look(0..1).await;
    scene.seen("3", 60);
    scene.look(60..62).await;
    let started_at = Some(Bucket(START + 30).start().to_rfc3339());
    let (deploy, _) = scene.watcher.register(NewDeploy { started_at, ..marker("2") }, None).await.expect("valid");
    assert_eq!(deploy.previous_version.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_canary_that_was_taken_back_is_not_what_the_next_one_replaces() {
    for told in [true, false] {
        let scene = Scene::new().await;
        scene.traffic("1", -300..200, 500, 1);
        scene.seen("1", -300);
        scene.look(0..1).await;
        // Met last, and gone for forty seconds.
        scene.traffic("2", 40..96, 100, 20);
        scene.seen("2", 40);
        scene.look(40..41).await;
        scene.traffic("3", 100..200, 100, 20);
        let deploy = if told {
            scene.look(100..101).await;
            scene.watcher.register(marker("3"), None).await.expect("valid").0
        } else {
            scene.seen("3", 100);
            scene.look(100..101).await;
            let mut deploys = scene.watcher_deploys().await;
            deploys.retain(|deploy| deploy.version == "3");
            deploys.remove(0)
        };
        assert_eq!(deploy.previous_version.as_deref(), Some("1"), "told: {told}");
        scene.look(101..140).await;
        let verdict = scene.verdict(&deploy).await;
        assert_eq!(verdict.verdict, VerdictKind::Regressed, "{}", verdict.summary);
        assert_eq!(
            (verdict.design, verdict.comparison.versions.as_slice()),
            (Design::Concurrent, &["1".to_owned()][..])
        );
    }
}

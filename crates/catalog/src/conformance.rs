//! What every implementation of the port is held to.
//!
//! [`check`] panics with what went wrong, as an assertion does; it is for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::event::EventKind;
use plimsoll_model::verdict::Phase;
use plimsoll_model::{
    Answer, Decision, DecisionKind, Deploy, DeployId, DeployKind, DeployStatus, Design, Feedback, Interval,
    Recommendation, RegressionEvent, SegmentId, SequenceNumber, ServiceKey, UnixNanos, Verdict, VerdictKind,
};

use crate::{
    Catalog, CatalogError, DeliveryOutcome, DeliveryState, DeployFilter, Inserted, SegmentChange, SegmentRecord,
    VerdictFilter, VersionSeen,
};

/// Runs every case, each against an empty catalog that `fresh` gives.
///
/// # Panics
/// The catalog does not do what the port says, or answers with an error.
pub async fn check<F>(mut fresh: F)
where
    F: AsyncFnMut() -> Arc<dyn Catalog>,
{
    let outcomes = [
        ("segments", segments(fresh().await).await),
        ("deploys", deploys(fresh().await).await),
        ("deploys listed", deploys_listed(fresh().await).await),
        ("verdicts", verdicts(fresh().await).await),
        ("decisions", decisions(fresh().await).await),
        ("feedback", feedback(fresh().await).await),
        ("versions", versions(fresh().await).await),
        ("outbox", outbox(fresh().await).await),
        ("outbox order", outbox_order(fresh().await).await),
        ("events of a deploy", events_of_a_deploy(fresh().await).await),
        ("concurrency", concurrency(fresh().await).await),
    ];
    for (case, outcome) in outcomes {
        outcome.unwrap_or_else(|problem| panic!("{case}: {problem}"));
    }
}

/// Builds a segment record; `number` makes it distinct.
pub fn sample_segment(number: u64) -> SegmentRecord {
    let at = UnixNanos::from_secs(1_700_000_000 + number);
    let id = SegmentId::new(at, u128::from(number));
    SegmentRecord {
        table: "spans".to_owned(),
        path: format!("spans/2023-11-14/{id}.parquet"),
        id,
        rows: 10 * number,
        bytes: 1_000 * number,
        times: Interval { from: at, to: at + Duration::from_secs(1) },
        received_to: at + Duration::from_secs(2),
        frames: (SequenceNumber(number), SequenceNumber(number)),
        created_at: at + Duration::from_secs(3),
    }
}

/// Builds a deploy; `number` makes it distinct and later.
pub fn sample_deploy(number: u64) -> Deploy {
    let at = UnixNanos::from_secs(1_700_000_000 + number);
    Deploy {
        id: DeployId::new(at, u128::from(number)),
        service: ServiceKey { environment: "prod".into(), namespace: "shop".into(), service: "checkout".into() },
        version: format!("1.{number}.0"),
        kind: DeployKind::Release,
        previous_version: None,
        commit: Some("0a1b2c".into()),
        repository: None,
        run_url: None,
        actor: Some("pipeline".into()),
        strategy: None,
        artifact: None,
        attributes: BTreeMap::from([("ticket".to_owned(), "é \"quoted\"".to_owned())]),
        started_at: at,
        finished_at: None,
        status: DeployStatus::Running,
        inferred: false,
        created_at: at,
    }
}

/// Builds a verdict on `deploy`.
pub fn sample_verdict(deploy: &Deploy, phase: Phase, revision: u64) -> Verdict {
    let regressed = matches!(phase, Phase::Suspected | Phase::Confirmed);
    Verdict {
        deploy_id: deploy.id.clone(),
        verdict: if regressed { VerdictKind::Regressed } else { VerdictKind::Pass },
        decided: !regressed,
        recommendation: if regressed { Recommendation::Rollback } else { Recommendation::Promote },
        design: Design::Concurrent,
        comparison: Default::default(),
        started_at: deploy.started_at,
        decided_at: None,
        time_to_decide_s: None,
        findings: Vec::new(),
        data_quality: Vec::new(),
        phase,
        summary: "said in one sentence".to_owned(),
        evaluated_at: deploy.started_at + Duration::from_secs(10 * revision),
        revision,
    }
}

type Outcome = Result<(), CatalogError>;

async fn segments(catalog: Arc<dyn Catalog>) -> Outcome {
    assert_eq!(catalog.checkpoint().await?, SequenceNumber::ZERO, "a new catalog starts before the first frame");
    assert!(catalog.segments().await?.is_empty());
    let (first, second, merged) = (sample_segment(1), sample_segment(2), sample_segment(3));
    let change = SegmentChange {
        add: vec![second.clone(), first.clone()],
        remove: Vec::new(),
        checkpoint: Some(SequenceNumber(7)),
    };
    catalog.commit_segments(change.clone()).await?;
    assert_eq!(catalog.segments().await?, [first.clone(), second.clone()], "oldest first, every field kept");
    catalog.commit_segments(change).await?;
    assert_eq!(catalog.segments().await?.len(), 2, "the same change again changes nothing");

    let swap = SegmentChange { add: vec![merged.clone()], remove: vec![first.id.clone(), second.id], checkpoint: None };
    catalog.commit_segments(swap).await?;
    assert_eq!(catalog.segments().await?, std::slice::from_ref(&merged));
    assert_eq!(catalog.checkpoint().await?, SequenceNumber(7), "no checkpoint leaves it where it is");
    let back =
        SegmentChange { checkpoint: Some(SequenceNumber(3)), remove: vec![first.id], ..SegmentChange::default() };
    catalog.commit_segments(back).await?;
    assert_eq!(catalog.checkpoint().await?, SequenceNumber(7), "the checkpoint never moves back");

    // One half of a change cannot be kept: nothing of it may be.
    let clash = SegmentRecord { id: SegmentId::from_text("seg_other"), ..merged.clone() };
    let change =
        SegmentChange { add: vec![sample_segment(4), clash], remove: Vec::new(), checkpoint: Some(SequenceNumber(9)) };
    assert!(catalog.commit_segments(change).await.is_err(), "two segments cannot be one file");
    assert_eq!(catalog.segments().await?, [merged]);
    assert_eq!(catalog.checkpoint().await?, SequenceNumber(7));
    Ok(())
}

async fn deploys(catalog: Arc<dyn Catalog>) -> Outcome {
    let deploy = sample_deploy(1);
    assert_eq!(catalog.deploy(&deploy.id).await?, None);
    assert_eq!(catalog.insert_deploy(&deploy, Some("key")).await?, Inserted::Created);
    assert_eq!(catalog.deploy(&deploy.id).await?.as_ref(), Some(&deploy), "every field comes back");
    let existing = Inserted::Existing(Box::new(deploy.clone()));
    assert_eq!(catalog.insert_deploy(&sample_deploy(2), Some("key")).await?, existing, "same key, first deploy");
    let changed = Deploy { version: "9".into(), ..deploy.clone() };
    assert_eq!(catalog.insert_deploy(&changed, None).await?, existing, "same id, first deploy");
    assert_eq!(catalog.insert_deploy(&changed, Some("other")).await?, existing);
    assert_eq!(catalog.insert_deploy(&sample_deploy(2), None).await?, Inserted::Created);
    assert_eq!(catalog.insert_deploy(&sample_deploy(3), None).await?, Inserted::Created, "no key is not a key");

    let inferred = Deploy { inferred: true, ..sample_deploy(4) };
    assert_eq!(catalog.insert_deploy(&inferred, None).await?, Inserted::Created);
    let marker = Deploy { inferred: false, actor: Some("ci".into()), ..inferred.clone() };
    assert_eq!(catalog.adopt_deploy(&marker, Some("adopting")).await?, Inserted::Created);
    assert_eq!(catalog.deploy(&inferred.id).await?.as_ref(), Some(&marker), "the marker is in its place");
    let there = Inserted::Existing(Box::new(marker.clone()));
    let late = Deploy { actor: Some("late".into()), ..marker.clone() };
    assert_eq!(catalog.adopt_deploy(&late, None).await?, there, "a marker is not replaced");
    assert_eq!(catalog.insert_deploy(&sample_deploy(5), Some("adopting")).await?, there, "its key is known");
    assert_eq!(catalog.adopt_deploy(&sample_deploy(6), None).await?, Inserted::Created, "nothing to replace");

    let at = UnixNanos::from_secs(1_700_000_100);
    let finished = catalog.finish_deploy(&deploy.id, DeployStatus::Succeeded, at).await?;
    let expected = Deploy { status: DeployStatus::Succeeded, finished_at: Some(at), ..deploy.clone() };
    assert_eq!(finished.as_ref(), Some(&expected));
    assert_eq!(catalog.deploy(&deploy.id).await?, Some(expected));
    let nobody = DeployId::from_text("dep_nobody");
    assert_eq!(catalog.finish_deploy(&nobody, DeployStatus::Failed, at).await?, None);
    Ok(())
}

async fn deploys_listed(catalog: Arc<dyn Catalog>) -> Outcome {
    for number in 1..=120 {
        let mut deploy = sample_deploy(number);
        if number % 2 == 0 {
            deploy.service.service = "cart".into();
        }
        if number % 3 == 0 {
            deploy.service.environment = "staging".into();
        }
        catalog.insert_deploy(&deploy, None).await?;
    }
    let starts = |listed: Vec<Deploy>| -> Vec<u64> {
        listed.iter().map(|d| d.started_at.0 / 1_000_000_000 - 1_700_000_000).collect()
    };
    let all = starts(catalog.deploys(&DeployFilter::default()).await?);
    assert_eq!(all, (21..=120).rev().collect::<Vec<_>>(), "newest first, one hundred unless told");
    let filter = DeployFilter {
        service: Some("cart".into()),
        namespace: Some("shop".into()),
        environment: Some("prod".into()),
        since: Some(UnixNanos::from_secs(1_700_000_100)),
        limit: 3,
        version: None,
    };
    assert_eq!(starts(catalog.deploys(&filter).await?), [118, 116, 112]);
    let one = DeployFilter { version: Some("1.5.0".into()), ..DeployFilter::default() };
    assert_eq!(starts(catalog.deploys(&one).await?), [5]);
    let none = DeployFilter { namespace: Some(String::new()), ..DeployFilter::default() };
    assert!(catalog.deploys(&none).await?.is_empty(), "an empty namespace is a namespace");
    Ok(())
}

async fn verdicts(catalog: Arc<dyn Catalog>) -> Outcome {
    let phases = [Phase::Clear, Phase::Suspected, Phase::Confirmed, Phase::Recovered];
    let deploys: Vec<Deploy> = (1..=4).map(sample_deploy).collect();
    for (deploy, phase) in deploys.iter().zip(phases) {
        catalog.insert_deploy(deploy, None).await?;
        catalog.commit_verdict(&sample_verdict(deploy, phase, 1), None, &[], None).await?;
    }
    assert_eq!(catalog.verdict(&deploys[0].id).await?, Some(sample_verdict(&deploys[0], Phase::Clear, 1)));
    assert_eq!(catalog.verdict(&DeployId::from_text("dep_nobody")).await?, None);
    let listed = async |filter: VerdictFilter| -> Result<Vec<DeployId>, CatalogError> {
        Ok(catalog.verdicts(&filter).await?.into_iter().map(|v| v.deploy_id).collect())
    };
    let ids = |numbers: &[usize]| -> Vec<DeployId> { numbers.iter().map(|n| deploys[*n].id.clone()).collect() };
    let any = VerdictFilter::default();
    assert_eq!(listed(any.clone()).await?, ids(&[3, 2, 1, 0]), "newest first");
    assert_eq!(listed(VerdictFilter { open_regression: Some(true), ..any.clone() }).await?, ids(&[2, 1]));
    assert_eq!(listed(VerdictFilter { open_regression: Some(false), ..any.clone() }).await?, ids(&[3, 0]));
    assert_eq!(listed(VerdictFilter { decided: Some(true), ..any.clone() }).await?, ids(&[3, 0]));
    assert_eq!(listed(VerdictFilter { decided: Some(false), limit: 1, ..any.clone() }).await?, ids(&[2]));
    let since = Some(deploys[2].started_at);
    assert_eq!(listed(VerdictFilter { since, ..any }).await?, ids(&[3, 2]));

    let second = sample_verdict(&deploys[2], Phase::Recovered, 2);
    catalog.commit_verdict(&second, None, &[], Some(&[1, 2, 3])).await?;
    assert_eq!(catalog.evidence(&second.deploy_id).await?, Some(vec![1, 2, 3]), "evidence comes back as it was kept");
    let judged = Some((second.clone(), Some(vec![1, 2, 3])));
    assert_eq!(catalog.judged(&second.deploy_id).await?, judged, "both of one moment");
    catalog.commit_verdict(&second, None, &[], None).await?;
    assert_eq!(catalog.judged(&second.deploy_id).await?, Some((second.clone(), None)));
    assert_eq!(catalog.evidence(&second.deploy_id).await?, None, "that of a former verdict is not kept");
    assert_eq!(catalog.verdict(&deploys[2].id).await?, Some(second), "the latest takes the place of the former");
    let open = catalog.verdicts(&VerdictFilter { open_regression: Some(true), ..VerdictFilter::default() }).await?;
    assert_eq!(open.len(), 1);

    for deploy in &deploys {
        catalog.commit_verdict(&sample_verdict(deploy, Phase::Clear, 3), None, &[], Some(&[7])).await?;
    }
    let before = deploys[3].started_at;
    assert_eq!(catalog.remove_evidence(before, 2).await?, 2, "no more at once than is asked for");
    assert_eq!(catalog.remove_evidence(before, 2).await?, 1);
    assert_eq!(catalog.remove_evidence(before, 2).await?, 0);
    assert_eq!(catalog.evidence(&deploys[2].id).await?, None, "what has been kept long enough goes");
    assert_eq!(catalog.evidence(&deploys[3].id).await?, Some(vec![7]));
    assert_eq!(catalog.verdict(&deploys[2].id).await?.map(|verdict| verdict.revision), Some(3), "its verdict stays");
    Ok(())
}

async fn feedback(catalog: Arc<dyn Catalog>) -> Outcome {
    let said = |deploy: &str, service: &str, answer, at| Feedback {
        deploy_id: DeployId::from_text(deploy),
        service: ServiceKey::new("prod", service),
        answer,
        actor: "release captain".to_owned(),
        reason: String::new(),
        regressed: true,
        suppressed: Vec::new(),
        expires_at: None,
        given_at: UnixNanos::from_secs(at),
    };
    let wrong = said("dep_a", "cart", Answer::Wrong, 10);
    let right = said("dep_b", "cart", Answer::Right, 30);
    let other = said("dep_c", "stock", Answer::Known, 20);
    for kept in [&wrong, &right, &other, &wrong] {
        catalog.insert_feedback(kept).await?;
    }
    assert_eq!(catalog.feedback(None, 0).await?, [right.clone(), other, wrong.clone()], "once each, newest first");
    assert_eq!(catalog.feedback(Some(&wrong.service), 10).await?, [right, wrong]);
    assert_eq!(catalog.feedback(Some(&ServiceKey::new("test", "cart")), 10).await?, []);
    Ok(())
}

async fn decisions(catalog: Arc<dyn Catalog>) -> Outcome {
    let decision = |deploy: &str, kind, at| Decision {
        deploy_id: DeployId::from_text(deploy),
        decision: kind,
        actor: "release captain".to_owned(),
        reason: String::new(),
        decided_at: UnixNanos::from_secs(at),
    };
    let hold = decision("dep_a", DecisionKind::Hold, 10);
    let accept = decision("dep_a", DecisionKind::AcceptRisk, 30);
    let other = decision("dep_b", DecisionKind::Rollback, 20);
    for kept in [&hold, &accept, &other, &hold] {
        catalog.insert_decision(kept).await?;
    }
    assert_eq!(catalog.decisions(None, 0).await?, [accept.clone(), other, hold.clone()], "once each, newest first");
    assert_eq!(catalog.decisions(Some(&hold.deploy_id), 10).await?, [accept.clone(), hold]);
    assert_eq!(catalog.decisions(None, 1).await?, [accept]);
    Ok(())
}

async fn versions(catalog: Arc<dyn Catalog>) -> Outcome {
    let at = UnixNanos::from_secs;
    let service = ServiceKey::new("prod", "cart");
    assert_eq!(catalog.observe_version(&service, "1", at(10)).await?, VersionSeen::FirstOfService);
    assert_eq!(catalog.observe_version(&service, "2", at(20)).await?, VersionSeen::FirstOfVersion);
    assert_eq!(catalog.observe_version(&service, "1", at(30)).await?, VersionSeen::Before(at(10)));
    assert_eq!(catalog.observe_version(&service, "1", at(5)).await?, VersionSeen::Before(at(30)));
    assert_eq!(
        catalog.observe_version(&service, "1", at(40)).await?,
        VersionSeen::Before(at(30)),
        "late news is old news"
    );
    let staging = ServiceKey::new("staging", "cart");
    assert_eq!(catalog.observe_version(&staging, "2", at(50)).await?, VersionSeen::FirstOfService);
    let listed: Vec<_> =
        catalog.versions(&service).await?.into_iter().map(|v| (v.version, v.first_seen, v.last_seen)).collect();
    assert_eq!(listed, [("1".to_owned(), at(5), at(40)), ("2".to_owned(), at(20), at(20))]);
    let shop = ServiceKey { namespace: "shop".to_owned(), ..service.clone() };
    catalog.observe_version(&shop, "9", at(60)).await?;
    catalog.observe_version(&ServiceKey::new("prod", "stock"), "9", at(60)).await?;
    assert_eq!(catalog.places("cart").await?, [service, shop, staging], "each place once, whatever the versions");
    assert_eq!(catalog.places("nobody").await?, []);
    Ok(())
}

fn event(deploy: &Deploy, verdict: &Verdict, kind: EventKind) -> RegressionEvent {
    RegressionEvent::announce(kind, deploy.clone(), verdict.clone(), "http://127.0.0.1:4319")
}

async fn outbox(catalog: Arc<dyn Catalog>) -> Outcome {
    let deploy = sample_deploy(1);
    let verdict = sample_verdict(&deploy, Phase::Confirmed, 1);
    let detected = event(&deploy, &verdict, EventKind::Detected);
    let sinks = ["ops".to_owned(), "chat".to_owned()];
    for _ in 0..2 {
        catalog.commit_verdict(&verdict, Some(&detected), &sinks, None).await?;
    }
    assert_eq!(catalog.events_since_detected(&deploy.id).await?, std::slice::from_ref(&detected));
    assert_eq!(catalog.events_since_detected(&DeployId::from_text("dep_nobody")).await?, []);
    // The same event with another body is still the same event.
    let mut altered = detected.clone();
    altered.source = "/other".to_owned();
    catalog.commit_verdict(&verdict, Some(&altered), &sinks, None).await?;
    assert_eq!(catalog.deliveries(None, 0).await?.len(), 2, "one event is queued once for each sink");

    let (now, lease) = (UnixNanos::from_secs(1_600_000_000), Duration::from_secs(30));
    let leased = catalog.lease_deliveries(now, lease, 10).await?;
    assert_eq!(leased.iter().map(|d| d.sink.as_str()).collect::<Vec<_>>(), ["ops", "chat"]);
    let body: RegressionEvent = serde_json::from_str(&leased[0].body).expect("the body is the event");
    assert_eq!(body, detected, "the body is the one that was queued first");
    assert_eq!(leased[0].event_id, detected.id);
    assert_eq!(leased[0].deploy_id, deploy.id);
    assert_eq!(leased[0].kind, EventKind::Detected.as_str());
    assert_eq!((leased[0].attempts, leased[0].state), (0, DeliveryState::Pending));
    assert_eq!(leased[0].queued_at, detected.time);
    assert!(catalog.lease_deliveries(now, lease, 10).await?.is_empty(), "leased ones are hidden");
    assert_eq!(
        catalog.lease_deliveries(now + lease, lease, 1).await?.len(),
        1,
        "until the lease ends, and up to the limit"
    );

    let later = now + Duration::from_secs(300);
    let retry = DeliveryOutcome::Retry { due_at: later, error: "connection refused".to_owned() };
    catalog.settle_delivery(&detected.id, "ops", &retry).await?;
    let delivered = DeliveryOutcome::Delivered { at: now };
    catalog.settle_delivery(&detected.id, "chat", &delivered).await?;
    let gone = DeliveryOutcome::Failed { error: "too late".to_owned() };
    catalog.settle_delivery(&detected.id, "chat", &gone).await?;
    assert!(catalog.lease_deliveries(now + lease * 4, lease, 10).await?.is_empty());
    let due = catalog.lease_deliveries(later, lease, 10).await?;
    assert_eq!(due.len(), 1);
    assert_eq!((due[0].sink.as_str(), due[0].attempts, due[0].last_error.as_str()), ("ops", 1, "connection refused"));
    catalog.settle_delivery(&detected.id, "ops", &DeliveryOutcome::Failed { error: "410 gone".to_owned() }).await?;
    assert!(catalog.lease_deliveries(UnixNanos::MAX, lease, 10).await?.is_empty());

    let listed = catalog.deliveries(Some(&deploy.id), 0).await?;
    let states: Vec<_> = listed.iter().map(|d| (d.sink.as_str(), d.state, d.attempts, d.last_error.as_str())).collect();
    assert_eq!(
        states,
        [("chat", DeliveryState::Delivered, 1, ""), ("ops", DeliveryState::Failed, 2, "410 gone")],
        "newest first; what was delivered stays delivered"
    );
    catalog.commit_verdict(&verdict, Some(&detected), &sinks, None).await?;
    assert!(catalog.lease_deliveries(UnixNanos::MAX, lease, 10).await?.is_empty(), "settled is not queued again");
    assert!(catalog.deliveries(Some(&DeployId::from_text("dep_nobody")), 0).await?.is_empty());
    Ok(())
}

async fn outbox_order(catalog: Arc<dyn Catalog>) -> Outcome {
    let (first, second) = (sample_deploy(1), sample_deploy(2));
    let sinks = ["ops".to_owned()];
    let mut queued = Vec::new();
    for (deploy, phase, revision, kind) in [
        (&first, Phase::Confirmed, 1, EventKind::Detected),
        (&first, Phase::Recovered, 2, EventKind::Resolved),
        (&second, Phase::Confirmed, 1, EventKind::Detected),
    ] {
        let verdict = sample_verdict(deploy, phase, revision);
        let event = event(deploy, &verdict, kind);
        catalog.commit_verdict(&verdict, Some(&event), &sinks, None).await?;
        queued.push(event.id);
    }
    let ids = |leased: Vec<crate::Delivery>| leased.into_iter().map(|d| d.event_id).collect::<Vec<_>>();
    let (now, lease) = (UnixNanos::from_secs(1_800_000_000), Duration::from_secs(30));
    let begun = [queued[0].clone(), queued[2].clone()];
    assert_eq!(
        ids(catalog.lease_deliveries(now, lease, 10).await?),
        begun,
        "in the order in which they were queued, and the end is not taken along with its beginning"
    );
    let retry = DeliveryOutcome::Retry { due_at: now + lease * 3, error: "503".to_owned() };
    catalog.settle_delivery(&queued[0], "ops", &retry).await?;
    let due = ids(catalog.lease_deliveries(now + lease, lease, 10).await?);
    assert_eq!(due, [queued[2].clone()], "the end waits for the beginning, another deploy does not");
    assert_eq!(ids(catalog.lease_deliveries(now + lease * 3, lease, 10).await?), begun, "however late it gets");
    let delivered = DeliveryOutcome::Delivered { at: now + lease * 3 };
    catalog.settle_delivery(&queued[0], "ops", &delivered).await?;
    let end = ids(catalog.lease_deliveries(now + lease * 3, lease, 10).await?);
    assert_eq!(end, [queued[1].clone()], "once it has arrived the end follows");
    Ok(())
}

async fn events_of_a_deploy(catalog: Arc<dyn Catalog>) -> Outcome {
    let (deploy, other) = (sample_deploy(1), sample_deploy(2));
    let mut queued = Vec::new();
    for (deploy, revision, kind) in [
        (&deploy, 1, EventKind::Detected),
        (&deploy, 2, EventKind::Resolved),
        (&deploy, 3, EventKind::Detected),
        (&other, 4, EventKind::Detected),
        (&deploy, 5, EventKind::Updated),
        (&deploy, 6, EventKind::Updated),
    ] {
        let at = UnixNanos::from_secs(1_800_000_000 + revision * 60);
        let verdict = Verdict { evaluated_at: at, ..sample_verdict(deploy, Phase::Confirmed, revision) };
        let event = event(deploy, &verdict, kind);
        // Nobody needs to hear of an event for it to have been one.
        catalog.commit_verdict(&verdict, Some(&event), &[], None).await?;
        queued.push(event);
    }
    let [_, _, again, elsewhere, update, last] = <[_; 6]>::try_from(queued).expect("as many as were queued");
    let found = catalog.events_since_detected(&deploy.id).await?;
    assert_eq!(found, [again, update, last], "from the last beginning on, oldest first");
    assert_eq!(catalog.events_since_detected(&other.id).await?, [elsewhere]);
    Ok(())
}

async fn concurrency(catalog: Arc<dyn Catalog>) -> Outcome {
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let catalog = Arc::clone(&catalog);
            tokio::spawn(async move {
                let inserted = catalog.insert_deploy(&sample_deploy(number), Some("one key")).await?;
                let service = ServiceKey::new("prod", "cart");
                let seen = catalog.observe_version(&service, "1", UnixNanos::from_secs(number)).await?;
                Ok::<_, CatalogError>((inserted == Inserted::Created, seen == VersionSeen::FirstOfService))
            })
        })
        .collect();
    let (mut created, mut first) = (0, 0);
    for task in tasks {
        let (was_created, was_first) = task.await.expect("the task runs to its end")?;
        created += usize::from(was_created);
        first += usize::from(was_first);
    }
    assert_eq!((created, first), (1, 1), "of many at once exactly one is the first");
    assert_eq!(catalog.deploys(&DeployFilter::default()).await?.len(), 1);
    Ok(())
}

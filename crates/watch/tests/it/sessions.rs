//! What is kept of deploys between looks stays within its bound, and says the same with and without room.

use plimsoll_model::VerdictKind;
use plimsoll_model::verdict::Phase;

use crate::telemetry::World;

const SERVICES: [&str; 3] = ["cart", "payment", "shipping"];

/// An answer, and how often it changed.
type Answer = (VerdictKind, bool, Phase, u64);

/// Ten minutes of three services that are deployed at the same moment, looked at every ten seconds: what is answered for each, and what
/// was kept after every look.
async fn watched(world: &World) -> (Vec<Answer>, Vec<u64>) {
    for service in SERVICES {
        for second in -600..0 {
            world.send(service, "1", second, second, 10, |_| false);
        }
    }
    let mut deploys = Vec::new();
    for service in SERVICES {
        deploys.push(world.deploy(service, "2").await);
    }
    let (mut told, mut kept) = (Vec::new(), Vec::new());
    for look in 1..=60 {
        for service in SERVICES {
            for second in 10 * (look - 1)..10 * look {
                world.send(service, "2", second, second, 10, |_| false);
            }
        }
        for deploy in &deploys {
            let verdict = world.look(10 * look.unsigned_abs() + 5, deploy).await;
            told.push((verdict.verdict, verdict.decided, verdict.phase, verdict.revision));
        }
        kept.push(world.watcher.counters().sessions_bytes);
    }
    (told, kept)
}

#[tokio::test]
async fn what_is_kept_between_looks_stays_within_its_bound_and_without_room_the_same_is_answered() {
    let roomy = World::within(usize::MAX).await;
    let (told, kept) = watched(&roomy).await;
    let most = kept.iter().copied().max().expect("looked at");
    assert!(told.iter().any(|answer| answer.0 == VerdictKind::Pass), "{told:?}");
    assert!(most > 0 && roomy.watcher.counters().sessions_without_room == 0);

    // Two of three find room.
    let bound = most * 3 / 4;
    let narrow = World::within(usize::try_from(bound).expect("fits")).await;
    let (narrowly, kept) = watched(&narrow).await;
    assert!(kept.iter().all(|bytes| *bytes <= bound), "{kept:?} of {bound}");
    assert!(kept.iter().any(|bytes| *bytes > most / 2), "those that have room keep it: {kept:?} of {bound}");
    assert!(narrow.watcher.counters().sessions_without_room > 0);
    assert_eq!(narrowly, told);

    let none = World::within(0).await;
    let (afresh, kept) = watched(&none).await;
    assert!(kept.iter().all(|bytes| *bytes == 0));
    assert_eq!(afresh, told);
}

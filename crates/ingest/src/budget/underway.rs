//! Bodies that are announced or grow as they come: what one leaves to others, and who goes on where all of them wait.

use super::tests::{never, peer};
use super::*;

/// Has a body grow by `more` as it comes, and announce `announced`, in line behind those that are there.
async fn comes(
    budget: &Arc<Budget>,
    mut held: Reservation,
    more: usize,
    announced: usize,
) -> tokio::task::JoinHandle<Option<Reservation>> {
    let before = budget.state.lock().announced.len();
    let comes = tokio::spawn(async move { held.grow_underway(more, announced, 0, never()).await.then_some(held) });
    while budget.state.lock().announced.len() == before && !comes.is_finished() {
        tokio::task::yield_now().await;
    }
    comes
}

/// Has two bodies of 5 bytes grow as they come, each by as many bytes as it says, and announce so many.
fn both_underway(budget: &Arc<Budget>, grows: [(usize, usize); 2]) -> [Reservation; 2] {
    let mut held = [0, 1].map(|number| budget.try_reserve(peer(number), 5).expect("there is room"));
    for (held, (more, announced)) in held.iter_mut().zip(grows) {
        assert!(held.try_grow_underway(more, announced));
    }
    held
}

#[tokio::test]
async fn bodies_that_grow_as_they_come_wait_for_one_another_and_nobody_for_them() {
    let budget = Budget::new(100);
    let [one, mut two] = both_underway(&budget, [(15, 40), (10, 30)]);
    assert_eq!((budget.used(), budget.state.lock().underway), (35, 70));
    assert!(!two.try_grow_underway(15, 60), "more than three quarters would be on their way");
    let two = comes(&budget, two, 15, 60).await;
    assert!(!two.is_finished());
    assert!(budget.try_reserve(peer(2), 50).is_some(), "what has announced nothing waits for nobody");
    drop(one);
    let two = two.await.expect("does not panic").expect("its turn came");
    assert_eq!((two.bytes, two.underway), (30, 50));
    drop(two);
    assert_eq!((budget.used(), budget.state.lock().underway), (0, 0));
}

#[tokio::test]
async fn of_bodies_that_all_wait_to_grow_as_they_come_one_goes_on() {
    let budget = Budget::new(100);
    let [one, two] = both_underway(&budget, [(15, 40), (10, 30)]);
    let two = comes(&budget, two, 15, 60).await;
    assert!(!two.is_finished(), "the other is on its way");
    let one = comes(&budget, one, 20, 80).await;
    let one = one.await.expect("does not panic").expect("it holds most");
    assert!(!two.is_finished(), "one at a time");
    drop(one);
    assert_eq!(two.await.expect("does not panic").expect("and then the other").bytes, 30);
}

#[tokio::test]
async fn a_body_that_grows_as_it_comes_goes_before_those_that_have_not_begun() {
    let budget = Budget::new(100);
    let _slow = budget.try_reserve_announced(peer(0), 5, 30).expect("there is room");
    let mut begun = budget.try_reserve(peer(1), 5).expect("there is room");
    assert!(begun.try_grow_underway(5, 20));
    let line = Arc::clone(&budget);
    let _new = tokio::spawn(async move { line.reserve_announced(peer(2), 5, 50, 5, never()).await });
    while budget.state.lock().announced.is_empty() {
        tokio::task::yield_now().await;
    }
    let begun = comes(&budget, begun, 10, 40).await;
    assert_eq!(begun.await.expect("does not panic").expect("there is room for it").bytes, 20);
}

#[tokio::test]
async fn whoever_announces_all_leaves_a_third_of_what_may_be_on_its_way_to_others() {
    let budget = Budget::new(100);
    let giant = budget.try_reserve_announced(peer(0), 10, 1_000).expect("there is room");
    assert!(budget.try_reserve_announced(peer(1), 10, 1_000).is_none(), "one at a time");
    let ordinary = budget.try_reserve_announced(peer(1), 5, 20).expect("it may send beside it");
    assert!(budget.try_reserve_announced(peer(2), 5, 10).is_none(), "three quarters together");
    drop(giant);
    let mut silent = budget.try_reserve(peer(0), 10).expect("there is room");
    assert!(silent.try_grow_underway(20, 60), "it counts half");
    assert!(silent.try_grow_underway(20, 100), "and no more than that");
    assert!(budget.try_reserve_announced(peer(2), 1, 1).is_some());
    drop((silent, ordinary));
    assert_eq!((budget.used(), budget.state.lock().underway), (0, 0));
}

#[tokio::test]
async fn a_body_that_waits_for_memory_that_others_hold_is_in_the_way_of_nobody_who_announces_nothing() {
    let budget = Budget::new(100);
    let [running, mut grows] = [30, 10].map(|bytes| budget.try_reserve(peer(bytes), bytes).expect("there is room"));
    assert!(grows.try_grow_underway(20, 60));
    let grows = comes(&budget, grows, 60, 180).await;
    // They take turns with it: it is the second that the line is theirs no more.
    let small = [1, 2].map(|number| {
        let line = Arc::clone(&budget);
        tokio::spawn(async move { line.reserve(peer(number), 5, 5, never()).await })
    });
    for small in small {
        let served = tokio::time::timeout(std::time::Duration::from_secs(5), small).await.expect("it waits for nobody");
        drop(served.expect("does not panic").expect("as much is free"));
    }
    assert!(!grows.is_finished());
    drop(running);
    assert_eq!(grows.await.expect("does not panic").expect("its turn came").bytes, 90);
}

#[tokio::test]
async fn of_bodies_that_grow_as_they_come_in_a_ring_one_is_passed_beyond_what_is_free() {
    let budget = Budget::new(100);
    let [one, two] = both_underway(&budget, [(45, 100), (10, 20)]);
    let two = comes(&budget, two, 20, 60).await;
    assert!(!two.is_finished(), "the other is on its way");
    let goes_on = tokio::time::timeout(std::time::Duration::from_secs(5), comes(&budget, one, 50, 200).await);
    let one = goes_on.await.expect("nothing else would come free").expect("does not panic").expect("it holds most");
    assert_eq!(budget.used(), 115);
    assert!(!two.is_finished(), "one at a time");
    drop(one);
    assert_eq!(two.await.expect("does not panic").expect("and then the other").bytes, 35);
}

#[tokio::test]
async fn bodies_that_all_wait_to_grow_as_they_come_wait_for_none_that_needs_more_than_is_free() {
    let budget = Budget::new(100);
    let [one, two] = both_underway(&budget, [(45, 100), (10, 20)]);
    assert!(!budget.state.lock().announced_next, "it is the turn of one that has not begun");
    let line = Arc::clone(&budget);
    let arrives = tokio::spawn(async move { line.reserve(peer(2), 60, 60, never()).await });
    while budget.state.lock().arriving.is_empty() {
        tokio::task::yield_now().await;
    }
    let two = comes(&budget, two, 20, 60).await;
    assert!(!two.is_finished(), "the other is on its way");
    let goes_on = tokio::time::timeout(std::time::Duration::from_secs(5), comes(&budget, one, 30, 200).await);
    let one = goes_on.await.expect("as much is free").expect("does not panic").expect("it holds most");
    assert_eq!(budget.used(), 95);
    drop(one);
    let arrives = arrives.await.expect("does not panic").expect("there is room");
    drop((arrives, two.await.expect("does not panic").expect("and then the other")));
    assert_eq!((budget.used(), budget.state.lock().underway), (0, 0));
}

//! Who is granted what, in which order, and who is refused at once.

use std::time::Duration;

use super::*;

pub(super) fn peer(number: usize) -> Peer {
    Peer { number, stream_bytes: 100, unread_max: 800, quiet: false }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn what_is_dropped_comes_back() {
    let budget = Budget::new(100);
    let first = budget.reserve(peer(0), 60, 60, soon()).await.expect("there is room");
    assert_eq!(budget.used(), 60);
    assert!(budget.try_reserve(peer(0), 41).is_none());
    drop(first);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_wait_ends_at_its_deadline_and_leaves_nothing_behind() {
    let budget = Budget::new(100);
    let held = budget.try_reserve(peer(0), 100).expect("there is room");
    assert!(budget.reserve(peer(0), 1, 1, Instant::now() + Duration::from_millis(20)).await.is_none());
    drop(held);
    assert_eq!(budget.used(), 0);
    assert!(budget.try_reserve(peer(0), 100).is_some());
}

#[tokio::test]
async fn nobody_overtakes_the_one_in_front_and_growth_comes_first() {
    let budget = Budget::new(100);
    let mut held = budget.try_reserve(peer(0), 90).expect("there is room");
    let line = Arc::clone(&budget);
    let large = tokio::spawn(async move { line.reserve(peer(0), 80, 80, soon()).await });
    while budget.state.lock().arriving.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(budget.try_reserve(peer(0), 5).is_none(), "ten bytes are free, but someone waits");
    assert!(held.grow(10, 0, soon()).await, "what was begun is finished first");
    drop(held);
    let large = large.await.expect("does not panic").expect("its turn came");
    assert_eq!(budget.used(), 80);
    drop(large);
}

#[tokio::test]
async fn one_that_gives_up_lets_those_behind_it_through() {
    let budget = Budget::new(100);
    let _held = budget.try_reserve(peer(0), 90).expect("there is room");
    let line = Arc::clone(&budget);
    let large = tokio::spawn(async move {
        line.reserve(peer(0), 80, 80, Instant::now() + Duration::from_millis(20)).await.is_some()
    });
    while budget.state.lock().arriving.is_empty() {
        tokio::task::yield_now().await;
    }
    let small = budget.reserve(peer(0), 5, 5, soon()).await;
    assert!(small.is_some(), "the large one gave up, nothing was given back, five bytes are free");
    assert!(!large.await.expect("does not panic"));
}

#[tokio::test]
async fn a_need_above_the_capacity_runs_alone() {
    let budget = Budget::new(100);
    let giant = budget.reserve(peer(0), 1_000, 1_000, soon()).await.expect("it can have everything");
    assert_eq!(budget.used(), 100);
    assert!(budget.try_reserve(peer(0), 1).is_none());
    drop(giant);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn settling_above_what_was_taken_holds_others_back() {
    let budget = Budget::new(100);
    let mut one = budget.try_reserve(peer(0), 10).expect("there is room");
    one.settle(150);
    assert_eq!(budget.used(), 150);
    assert!(budget.try_reserve(peer(0), 1).is_none());
    one.settle(99);
    assert!(budget.try_reserve(peer(0), 1).is_some());
}

#[tokio::test]
async fn a_thousand_tasks_that_wait_and_vanish_leak_nothing() {
    let budget = Budget::new(64);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1_000_usize {
        let budget = Arc::clone(&budget);
        tasks.spawn(async move {
            let deadline = Instant::now() + Duration::from_millis((n % 7) as u64);
            if let Some(mut taken) = budget.reserve(peer(0), n % 65, 0, deadline).await {
                tokio::task::yield_now().await;
                taken.grow(n % 3, 0, deadline).await;
                taken.settle(n % 40);
                tokio::task::yield_now().await;
            }
        });
        if n % 5 == 0 {
            tasks.abort_all();
        }
    }
    while tasks.join_next().await.is_some() {}
    assert_eq!(budget.used(), 0);
    assert!(budget.try_reserve(peer(0), 64).is_some());
}

#[tokio::test]
async fn connections_that_wait_take_turns() {
    let budget = Budget::new(100);
    let held = budget.try_reserve(peer(0), 100).expect("there is room");
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    let mut wait = |connection, expected| {
        let (budget, served) = (Arc::clone(&budget), Arc::clone(&served));
        let line = Arc::clone(&budget);
        tasks.spawn(async move {
            let taken = budget.reserve(peer(connection), 100, 100, soon()).await.expect("its turn comes");
            served.lock().push(connection);
            tokio::task::yield_now().await;
            drop(taken);
        });
        async move {
            while line.state.lock().arriving.len() < expected {
                tokio::task::yield_now().await;
            }
        }
    };
    // A flood, then two that want little.
    for n in 1..=4 {
        wait(1, n).await;
    }
    wait(2, 5).await;
    wait(3, 6).await;
    drop(held);
    while tasks.join_next().await.is_some() {}
    assert_eq!(*served.lock(), [1, 2, 3, 1, 1, 1]);
}

#[tokio::test]
async fn who_announces_much_waits_for_others_that_do_and_not_in_the_way_of_small_requests() {
    let budget = Budget::new(100);
    let mut first = budget.try_reserve_announced(peer(0), 40, 60).expect("there is room");
    assert!(budget.try_reserve_announced(peer(1), 10, 30).is_none(), "75 may be on their way");
    let line = Arc::clone(&budget);
    let second = tokio::spawn(async move { line.reserve_announced(peer(1), 30, 60, 60, soon()).await });
    while budget.state.lock().announced.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(budget.is_crowded());
    assert!(budget.try_reserve_announced(peer(2), 10, 10).is_none(), "nobody overtakes within the line");
    let small = budget.try_reserve(peer(3), 50).expect("it announces nothing, and there is room");
    first.arrived();
    assert!(!second.is_finished());
    drop(small);
    let second = second.await.expect("does not panic").expect("its turn came");
    assert_eq!(budget.used(), 70);
    drop((first, second));
    assert!(!budget.is_crowded());
    assert_eq!((budget.used(), budget.state.lock().underway), (0, 0));
}

#[tokio::test]
async fn where_small_and_announced_requests_wait_they_take_turns() {
    let budget = Budget::new(100);
    let held = budget.try_reserve(peer(0), 100).expect("there is room");
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (line, served) = (Arc::clone(&budget), Arc::clone(&served));
        let announced = if n < 3 { 10 } else { 0 };
        tasks.spawn(async move {
            let taken = line.reserve_announced(peer(n), 100, announced, 0, soon()).await.expect("its turn comes");
            served.lock().push(announced > 0);
            tokio::task::yield_now().await;
            drop(taken);
        });
        let waits = |state: &State| state.announced.len() + state.arriving.len() > n;
        while !waits(&budget.state.lock()) {
            tokio::task::yield_now().await;
        }
    }
    drop(held);
    while tasks.join_next().await.is_some() {}
    assert_eq!(*served.lock(), [false, true, false, true, false, true]);
}

#[tokio::test]
async fn an_announcement_that_nobody_waits_for_any_more_leaves_nothing_behind() {
    let budget = Budget::new(100);
    let first = budget.try_reserve_announced(peer(0), 10, 60).expect("there is room");
    let line = Arc::clone(&budget);
    let gone = tokio::spawn(async move { line.reserve_announced(peer(1), 10, 60, 0, soon()).await });
    while budget.state.lock().announced.is_empty() {
        tokio::task::yield_now().await;
    }
    gone.abort();
    assert!(gone.await.expect_err("was aborted").is_cancelled());
    assert!(budget.try_reserve_announced(peer(2), 10, 10).is_some(), "it stands in front of nobody");
    drop(first);
    assert_eq!((budget.used(), budget.state.lock().underway), (0, 0));
}

#[tokio::test]
async fn a_request_grows_past_what_is_withheld_once_nobody_else_holds_any() {
    let budget = Budget::new(100);
    budget.withhold(75);
    let mut alone = budget.try_reserve(peer(0), 20).expect("free");
    assert!(alone.try_grow(10), "it holds what it would wait for");
    let other = budget.try_reserve(peer(1), 10);
    assert!(other.is_none(), "there is none left for others");
    drop(alone);
    let (mut one, other) =
        (budget.try_reserve(peer(0), 10).expect("free"), budget.try_reserve(peer(1), 10).expect("free"));
    assert!(!one.try_grow(50), "others hold some");
    drop(other);
    assert!(one.try_grow(50));
    drop(one);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_is_withheld_is_missed_and_never_all_of_it() {
    let budget = Budget::new(100);
    let held = budget.try_reserve(peer(0), 60).expect("there is room");
    budget.withhold(70);
    assert_eq!((budget.used(), budget.withheld()), (60, 70));
    assert!(budget.try_reserve(peer(1), 1).is_none());
    drop(held);
    let line = Arc::clone(&budget);
    let giant = tokio::spawn(async move { line.reserve(peer(2), 100, 100, soon()).await.map(|taken| taken.bytes) });
    assert_eq!(giant.await.expect("does not panic"), Some(30), "all that there is");
    budget.withhold(1_000);
    assert_eq!(budget.withheld(), 75);
    assert!(budget.try_reserve(peer(1), 25).is_some());
    budget.withhold(0);
    assert_eq!((budget.used(), budget.withheld()), (0, 0));
    assert!(budget.try_reserve(peer(1), 100).is_some());
}

#[tokio::test]
async fn a_connection_with_its_window_full_of_requests_that_wait_is_refused_the_next_at_once() {
    let budget = Budget::new(100);
    let narrow = Peer { number: 1, stream_bytes: 100, unread_max: 150, quiet: false };
    let held = budget.try_reserve(narrow, 100).expect("there is room");
    let line = Arc::clone(&budget);
    let waits = tokio::spawn(async move { line.reserve(narrow, 10, 1_000, soon()).await.is_some() });
    while budget.state.lock().arriving.is_empty() {
        tokio::task::yield_now().await;
    }
    let never = Instant::now() + Duration::from_secs(3_600);
    assert!(budget.reserve(narrow, 10, 51, never).await.is_none(), "and not once its time is up");
    let line = Arc::clone(&budget);
    let small = tokio::spawn(async move { line.reserve(narrow, 10, 50, soon()).await.is_some() });
    while budget.state.lock().arriving.len() < 2 {
        tokio::task::yield_now().await;
    }
    drop(held);
    assert!(small.await.expect("does not panic"), "one that leaves some of the window may wait");
    assert!(waits.await.expect("does not panic"), "the one that waits is served");
}

/// Has `held` grow by `more`, in line behind those that are there.
async fn grows(
    budget: &Arc<Budget>,
    mut held: Reservation,
    more: usize,
    deadline: Instant,
) -> tokio::task::JoinHandle<Option<Reservation>> {
    let before = budget.state.lock().growing.len();
    let grows = tokio::spawn(async move { held.grow(more, 0, deadline).await.then_some(held) });
    while budget.state.lock().growing.len() == before && !grows.is_finished() {
        tokio::task::yield_now().await;
    }
    grows
}

pub(super) fn never() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

#[tokio::test]
async fn of_requests_that_all_hold_a_part_and_want_more_one_is_passed_in_front() {
    let budget = Budget::new(100);
    let [first, second] = [0, 1].map(|number| budget.try_reserve(peer(number), 50).expect("there is room"));
    let first = grows(&budget, first, 40, never()).await;
    assert!(!first.is_finished());
    let second = grows(&budget, second, 30, never()).await;
    let second = second.await.expect("does not panic").expect("it needs less beyond what is free");
    assert_eq!(budget.used(), 130);
    assert!(!first.is_finished(), "one at a time");
    drop(second);
    drop(first.await.expect("does not panic").expect("and the other goes on"));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_ring_that_is_left_behind_is_broken_at_once() {
    let budget = Budget::new(100);
    let [first, second, last] = [0, 1, 2].map(|number| budget.try_reserve(peer(number), 20).expect("there is room"));
    let large = grows(&budget, first, 80, never()).await;
    let small = grows(&budget, second, 50, never()).await;
    // It waits for neither of them, and leaves two that wait for each other.
    drop(last);
    drop(small.await.expect("does not panic").expect("there is room for the one"));
    let large = large.await.expect("does not panic").expect("and then for the other");
    assert_eq!(large.bytes, 100);
}

#[tokio::test]
async fn what_was_begun_in_a_ring_is_finished_before_the_next_is_passed() {
    let budget = Budget::new(100);
    let [one, two, three] = [30, 20, 20].map(|bytes| budget.try_reserve(peer(bytes), bytes).expect("there is room"));
    let two = grows(&budget, two, 60, never()).await;
    let three = grows(&budget, three, 60, never()).await;
    let one = grows(&budget, one, 50, never()).await;
    let one = one.await.expect("does not panic").expect("it holds most");
    assert_eq!(budget.used(), 120);
    let one = grows(&budget, one, 20, never()).await;
    let one = one.await.expect("does not panic").expect("it still does");
    assert_eq!(budget.used(), 140);
    assert!(!two.is_finished() && !three.is_finished());
    drop(one);
    drop(two.await.expect("does not panic").expect("its turn came"));
    drop(three.await.expect("does not panic").expect("its turn came"));
}

#[tokio::test]
async fn a_ring_that_nobody_may_be_passed_out_of_waits_until_one_gives_up() {
    let budget = Budget::new(100);
    let [one, two] = [0, 1].map(|number| budget.try_reserve(peer(number), 50).expect("there is room"));
    budget.withhold(20);
    let short = Instant::now() + Duration::from_millis(50);
    let gives_up = grows(&budget, one, 40, short).await;
    let goes_on = grows(&budget, two, 40, never()).await;
    assert!(gives_up.await.expect("does not panic").is_none());
    assert!(Instant::now() >= short, "not before its time is up");
    assert!(goes_on.await.expect("does not panic").is_some());
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn small_bodies_that_each_inflate_to_nearly_all_are_served_one_by_one() {
    let budget = Budget::new(100);
    let never = never();
    let mut tasks = tokio::task::JoinSet::new();
    let served = Arc::new(Mutex::new(Vec::new()));
    for number in 0..8 {
        let mut held = budget.try_reserve(peer(number), 1).expect("there is room");
        let served = Arc::clone(&served);
        tasks.spawn(async move {
            assert!(held.grow(95, 0, never).await, "its turn comes");
            tokio::task::yield_now().await;
            // It turns out larger, while all others wait.
            assert!(held.grow(3, 0, never).await, "and what was begun is finished");
            served.lock().push(number);
        });
    }
    while let Some(one) = tasks.join_next().await {
        one.expect("does not panic");
    }
    assert_eq!(served.lock().len(), 8);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn what_is_granted_beyond_what_is_free_is_no_more_than_those_hold_who_wait() {
    let budget = Budget::new(100);
    let never = Instant::now() + Duration::from_secs(3_600);
    let mut waits = budget.try_reserve(peer(0), 12).expect("there is room");
    let running = budget.try_reserve(peer(1), 10).expect("there is room");
    let large = tokio::spawn(async move { waits.grow(88, 0, never).await.then_some(waits) });
    while budget.state.lock().growing.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(running);
    let large = large.await.expect("does not panic").expect("its turn came");
    assert_eq!(large.bytes, 100);
    drop(large);
    let (mut one, other) = (
        budget.try_reserve(peer(0), 13).expect("there is room"),
        budget.try_reserve(peer(1), 13).expect("there is room"),
    );
    assert!(!one.try_grow(87), "the other runs, and gives back what it holds");
    drop(other);
    assert!(one.try_grow(87));
}

#[tokio::test]
async fn a_small_request_of_a_quiet_connection_passes_those_who_wait_for_more_than_is_free() {
    let budget = Budget::new(1_000);
    let running = budget.try_reserve(peer(0), 300).expect("there is room");
    let large = budget.try_reserve(peer(1), 500).expect("there is room");
    let large = grows(&budget, large, 400, never()).await;
    let quiet = Peer { quiet: true, ..peer(2) };
    let small = budget.try_reserve(quiet, 1_000 / 64).expect("it passes");
    assert!(budget.try_reserve(quiet, 1_000 / 64 + 1).is_none(), "that is not small");
    assert!(budget.try_reserve(peer(3), 1).is_none(), "who is not quiet waits");
    drop(running);
    assert_eq!(large.await.expect("does not panic").expect("its turn came").bytes, 900);
    drop(small);
}

#[tokio::test]
async fn a_ring_is_broken_beside_small_requests_that_may_come_without_end() {
    let budget = Budget::new(1_000);
    let [one, two] = [0, 1].map(|number| budget.try_reserve(peer(number), 480).expect("there is room"));
    let _small = budget.try_reserve(Peer { quiet: true, ..peer(2) }, 15).expect("there is room");
    let one = grows(&budget, one, 400, never()).await;
    let two = grows(&budget, two, 300, never()).await;
    drop(two.await.expect("does not panic").expect("it needs less"));
    drop(one.await.expect("does not panic").expect("and the other goes on"));
}

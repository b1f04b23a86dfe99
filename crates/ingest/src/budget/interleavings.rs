//! Requests that reserve, arrive, grow, are decoded and end in any order: that they all come to their end, and how much they hold meanwhile.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::turnstile::Turnstile;

const CAPACITY: usize = 1_000;

/// Nobody drives the clock: who waits is never late.
const NEVER: Duration = Duration::from_secs(3_600);

#[derive(Debug, Clone)]
struct Request {
    peer: usize,
    body: usize,
    announced: bool,
    /// In how many steps it grows as it comes: it doubles, by no more than an eighth of the budget.
    steps: usize,
    /// What it grows by once its body is there.
    grows: Vec<usize>,
    rows: Rows,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, Default)]
struct Rows {
    bytes: usize,
    /// What it is taken to become where it swells.
    expected: usize,
}

/// What all requests share.
struct World {
    budget: Arc<Budget>,
    turns: Arc<Turnstile>,
    swelling: Arc<Turnstile>,
    steps: AtomicUsize,
    /// Rows that nothing covers, of those that swell.
    bare: AtomicUsize,
}

impl World {
    async fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }

    /// Decodes a request and has its rows covered.
    async fn decode(&self, peer: Peer, rows: Rows, held: &mut Reservation, deadline: Instant) -> bool {
        let turn = self.turns.turn(peer).await;
        self.step().await;
        if rows.bytes <= 2 * held.bytes() {
            return held.cover(rows.bytes, deadline).await;
        }
        drop(turn);
        let _turn = self.swelling.turn(peer).await;
        let expected = rows.expected.max(held.bytes());
        if !held.cover(expected, deadline).await {
            return false;
        }
        let bare = rows.bytes.saturating_sub(expected);
        self.bare.fetch_add(bare, Ordering::Relaxed);
        self.step().await;
        let covered = held.cover(rows.bytes, deadline).await;
        self.bare.fetch_sub(bare, Ordering::Relaxed);
        covered
    }
}

/// One on its way; true where it was never refused.
type Running = Pin<Box<dyn Future<Output = bool>>>;

fn run(world: &Arc<World>, request: Request) -> Running {
    let world = Arc::clone(world);
    Box::pin(async move {
        let peer = Peer { number: request.peer, stream_bytes: 0, unread_max: 0, quiet: request.peer == 0 };
        let deadline = Instant::now() + NEVER;
        let announced = if request.announced { Budget::announces(request.body, !request.grows.is_empty()) } else { 0 };
        let Some(mut held) = world.budget.reserve_announced(peer, request.body, announced, 0, deadline).await else {
            return false;
        };
        let mut room = request.body;
        for _ in 0..request.steps {
            world.step().await;
            room += room.min(CAPACITY / 8);
            let more = room.saturating_sub(held.bytes());
            if more > 0 && !held.grow_underway(more, Budget::announces(room, true), 0, deadline).await {
                return false;
            }
        }
        for more in request.grows {
            world.step().await;
            if !held.grow(more, 0, deadline).await {
                return false;
            }
            held.arrived();
        }
        if request.rows.bytes > 0 && !world.decode(peer, request.rows, &mut held, deadline).await {
            return false;
        }
        world.step().await;
        true
    })
}

/// What came of running requests in one order.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    most_held: u64,
    most_bare: usize,
    refused: usize,
    /// Had to be sent away: everybody waited.
    sent_away: usize,
}

/// Requests on their way, each polled when it is told to be.
struct Race {
    world: Arc<World>,
    running: Vec<Running>,
    outcome: Outcome,
}

impl Race {
    /// Returns whether anything came of it.
    fn poll(&mut self, n: usize) -> bool {
        let before = self.world.steps.load(Ordering::Relaxed);
        let polled = self.running[n].as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(taken) = polled {
            self.outcome.refused += usize::from(!taken);
            drop(self.running.swap_remove(n));
        }
        self.outcome.most_held = self.outcome.most_held.max(self.world.budget.used());
        self.outcome.most_bare = self.outcome.most_bare.max(self.world.bare.load(Ordering::Relaxed));
        polled.is_ready() || self.world.steps.load(Ordering::Relaxed) != before
    }
}

/// Runs all of them to their end, those of `order` a step at a time and then everybody.
fn run_all(requests: &[Request], order: &[usize]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("builds");
    let _entered = runtime.enter();
    let world = Arc::new(World {
        budget: Budget::new(CAPACITY),
        turns: Turnstile::new(2),
        swelling: Turnstile::new(1),
        steps: AtomicUsize::new(0),
        bare: AtomicUsize::new(0),
    });
    let running = requests.iter().map(|request| run(&world, request.clone())).collect();
    let outcome = Outcome { most_held: 0, most_bare: 0, refused: 0, sent_away: 0 };
    let mut race = Race { world, running, outcome };
    for n in order {
        if race.running.is_empty() {
            break;
        }
        race.poll(n % race.running.len());
    }
    while !race.running.is_empty() {
        // Who lets others go first is polled twice for a step.
        let moved = (0..3).any(|_| (0..race.running.len()).rev().filter(|n| race.poll(*n)).count() > 0);
        if !moved {
            race.outcome.sent_away += 1;
            drop(race.running.remove(0));
        }
    }
    let state = race.world.budget.state.lock();
    assert_eq!((state.free, state.underway, state.excess), (CAPACITY as i64, 0, 0), "all is given back");
    assert!(
        state.over.is_empty() && state.growing.is_empty() && state.arriving.is_empty() && state.announced.is_empty()
    );
    race.outcome
}

fn plain() -> impl Strategy<Value = Request> {
    (0..6_usize, 1..400_usize, any::<bool>()).prop_map(|(peer, body, announced)| Request {
        peer,
        body,
        announced,
        steps: 0,
        grows: Vec::new(),
        rows: Rows::default(),
    })
}

/// What announces its size, and becomes anything, as it said.
fn compressed() -> impl Strategy<Value = Request> {
    (0..6_usize, 20..400_usize, 0..2_000_usize).prop_map(|(peer, body, more)| Request {
        peer,
        body,
        announced: true,
        steps: 0,
        grows: vec![more],
        rows: Rows::default(),
    })
}

fn small() -> impl Strategy<Value = Request> {
    (0..6_usize, 1..20_usize, 0..100_usize).prop_map(|(peer, body, more)| Request {
        peer,
        body,
        announced: false,
        steps: 0,
        grows: vec![more],
        rows: Rows::default(),
    })
}

/// What nobody knows the size of, and grows again and again.
fn unannounced() -> impl Strategy<Value = Request> {
    (0..6_usize, 1..200_usize, prop::collection::vec(0..1_500_usize, 0..5)).prop_map(|(peer, body, grows)| Request {
        peer,
        body,
        announced: false,
        steps: 0,
        grows,
        rows: Rows::default(),
    })
}

/// What announces nothing, grows as it comes, and becomes anything once it is there.
fn uploads() -> impl Strategy<Value = Request> {
    (0..6_usize, 1..20_usize, 0..6_usize, 0..1_000_usize).prop_map(|(peer, body, steps, more)| Request {
        peer,
        body,
        announced: false,
        steps,
        grows: vec![more],
        rows: Rows::default(),
    })
}

/// The same, of a third of the budget up to all of it.
fn large_uploads() -> impl Strategy<Value = Request> {
    (0..6_usize, 16..20_usize, 5..10_usize, 0..1_000_usize).prop_map(|(peer, body, steps, more)| Request {
        peer,
        body,
        announced: false,
        steps,
        grows: vec![more],
        rows: Rows::default(),
    })
}

/// What is decoded, and becomes anything.
fn swelling() -> impl Strategy<Value = Request> {
    let rows = (1..4_000_usize, 1..4_000_usize).prop_map(|(bytes, expected)| Rows { bytes, expected });
    let request = prop_oneof![compressed(), uploads(), small(), plain()];
    (request, rows).prop_map(|(request, rows)| Request { rows, ..request })
}

fn order() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..1_000_usize, 0..200)
}

#[test]
fn compressed_bodies_that_come_at_the_same_moment_are_all_served() {
    // Of those that have not grown, six hold three eighths.
    let one = Request { peer: 0, body: 60, announced: true, steps: 0, grows: vec![900], rows: Rows::default() };
    let requests: Vec<_> = (0..20).map(|peer| Request { peer, ..one.clone() }).collect();
    let outcome = run_all(&requests, &[]);
    assert_eq!((outcome.refused, outcome.sent_away), (0, 0));
    assert!(outcome.most_held <= 960 + 6 * 60, "{outcome:?}");
}

#[test]
fn silent_bodies_of_most_of_the_budget_that_come_at_the_same_moment_are_all_served() {
    let one = Request { peer: 0, body: 16, announced: false, steps: 8, grows: vec![900], rows: Rows::default() };
    let requests: Vec<_> = (0..4).map(|peer| Request { peer, ..one.clone() }).collect();
    let outcome = run_all(&requests, &[]);
    assert_eq!((outcome.refused, outcome.sent_away), (0, 0));
    assert!(outcome.most_held <= CAPACITY as u64 / 2 * 3, "{outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn requests_that_grow_as_they_announced_are_all_served_in_any_order_within_half_as_much_again(
        requests in prop::collection::vec(prop_oneof![compressed(), uploads(), large_uploads(), small(), plain()], 1..30),
        order in order(),
    ) {
        let outcome = run_all(&requests, &order);
        prop_assert_eq!((outcome.refused, outcome.sent_away), (0, 0));
        prop_assert!(outcome.most_held <= CAPACITY as u64 / 2 * 3, "{:?}", outcome);
    }

    #[test]
    fn whatever_grows_holds_no_more_than_half_as_much_again_and_goes_on_once_one_gives_up(
        requests in prop::collection::vec(prop_oneof![compressed(), uploads(), large_uploads(), small(), plain(), unannounced(), unannounced()], 1..30),
        order in order(),
    ) {
        let outcome = run_all(&requests, &order);
        prop_assert_eq!(outcome.refused, 0);
        prop_assert!(outcome.most_held <= CAPACITY as u64 / 2 * 3, "{:?}", outcome);
    }

    #[test]
    fn what_swells_is_taken_in_any_order_and_is_over_one_at_a_time(
        requests in prop::collection::vec(prop_oneof![swelling(), swelling(), compressed(), small(), plain()], 1..30),
        order in order(),
    ) {
        let outcome = run_all(&requests, &order);
        prop_assert_eq!((outcome.refused, outcome.sent_away), (0, 0));
        let largest = requests.iter().map(|request| request.rows.bytes.max(request.rows.expected)).max().unwrap_or(0);
        prop_assert!(outcome.most_bare <= largest, "{:?}", outcome);
        prop_assert!(outcome.most_held <= (CAPACITY / 2 * 3 + largest) as u64, "{:?}", outcome);
    }
}

//! A request on its way, piece by piece.

use std::future::poll_fn;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::Poll;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::body::Gather;
use crate::sink::SinkLoad;

const PEER: Peer = Peer { number: 0, stream_bytes: 1 << 20, unread_max: 8 << 20, quiet: false };

fn pipeline(bytes: usize) -> Arc<Pipeline> {
    pipeline_with(bytes, Shares::new(), Duration::from_secs(20))
}

fn pipeline_with(bytes: usize, shares: Shares, park: Duration) -> Arc<Pipeline> {
    Arc::new(plain(bytes, shares, park))
}

fn plain(bytes: usize, shares: Shares, park: Duration) -> Pipeline {
    let shares = Arc::new(shares);
    Pipeline {
        seats: Seats::new(1, Arc::clone(&shares)),
        shares,
        counters: Arc::new(Counters::default()),
        gate: Arc::new(Gate::new()),
        budget: Budget::new(bytes),
        lanes: Arc::new(Lanes::new(1, 1)),
        joined: Arc::new(Joined::new(1, crate::joined::Limits { requests: 8, bytes: 1 << 20 })),
        clock: Arc::new(|| UnixNanos(0)),
        limits: Limits {
            request_bytes_max: bytes,
            requests_max: 1_000,
            inline_bytes_max: 0,
            joined_bytes_max: 0,
            park,
            body_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(20),
            body_grace: Duration::from_secs(20),
            ahead_bytes: bytes,
        },
        expansion: Expansion::new(),
        fingerprints: Fingerprints::off(),
        hurry: CancellationToken::new(),
        inline: Turnstile::new(1),
        large: Turnstile::new(1),
        swelling: Turnstile::new(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_whose_client_left_keeps_its_turn_and_its_bytes_until_it_is_done() {
    let pipeline = pipeline(100);
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let (finish, may_finish) = mpsc::channel::<()>();
    let request = tokio::spawn({
        let pipeline = Arc::clone(&pipeline);
        async move {
            let mut reservation = pipeline.reserve(PEER, 60, 0, 60).await?;
            let work = move || {
                let _ = begun.send(());
                let _ = may_finish.recv();
                Ok(())
            };
            pipeline.compute(1, &mut reservation, work).await
        }
    });
    has_begun.await.expect("the work begins");
    request.abort();
    assert!(request.await.expect_err("was aborted").is_cancelled());
    assert_eq!(pipeline.budget.used(), 60, "the work still holds its memory");
    assert_eq!(pipeline.large.free(), 0, "and its thread");

    finish.send(()).expect("the work waits");
    let _turn = pipeline.large.turn(PEER).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    assert!(pipeline.budget.reserve(PEER, 100, 100, deadline).await.is_some(), "and so do its bytes");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("writes to memory");
    encoder.finish().expect("writes to memory")
}

#[tokio::test]
async fn a_body_that_is_inflated_is_reserved_for_as_long_as_it_is_held() {
    let pipeline = pipeline(1 << 20);
    let body = Bytes::from(gzip(&[7; 5_000]));
    let mut reservation = pipeline.reserve(PEER, body.len(), 0, body.len()).await.expect("there is room");
    let mut made = 0;
    let inflated = pipeline.inflate(Signal::Logs, body.clone(), Encoding::Gzip, &mut reservation, &mut made).await;
    let inflated = inflated.expect("inflates").len();
    assert_eq!((inflated, made), (5_000, 5_000));
    let held = pipeline.expansion.needed(Signal::Logs, inflated) + body.len();
    assert_eq!(pipeline.budget.used(), held as u64);
}

#[tokio::test]
async fn a_large_body_of_which_little_comes_has_its_turn_among_large_ones() {
    let mut pipeline = pipeline(1 << 20);
    Arc::get_mut(&mut pipeline).expect("is new").limits.inline_bytes_max = 1_000;
    let body = Bytes::from(gzip(b"").repeat(1_000));
    assert!(Encoding::Gzip.guess(&body) <= 1_000, "by its last member nothing comes of it");
    let mut reservation = pipeline.reserve(PEER, body.len(), 0, body.len()).await.expect("there is room");
    let turn = pipeline.large.turn(PEER).await;
    let mut made = 0;
    let inflated = pipeline.inflate(Signal::Logs, body, Encoding::Gzip, &mut reservation, &mut made);
    tokio::pin!(inflated);
    assert!(poll_fn(|cx| Poll::Ready(inflated.as_mut().poll(cx).is_pending())).await, "waits for its turn");
    drop(turn);
    assert!(inflated.await.expect("inflates").is_empty());
}

#[tokio::test]
async fn what_comes_to_nothing_counts_as_much_as_what_is_stored() {
    let zeros = gzip(&[0; 200_000]);
    let mut damaged = zeros.clone();
    *damaged.last_mut().expect("a length at its end") ^= 1;
    let too_large = gzip(&[0; 2 << 20]);
    for (body, came_of_it) in
        [(zeros, 200_000), (damaged, 200_000), (too_large, 1 << 20), (gzip(b"").repeat(20_000), 0)]
    {
        let second = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&second);
        let shares = Shares::with_clock(move || told.load(Ordering::Relaxed));
        let pipeline = pipeline_with(1 << 20, shares, Duration::from_secs(20));
        let (other, flood) = (Seat::alone(&pipeline.shares), Seat::alone(&pipeline.shares));
        second.store(5, Ordering::Relaxed);
        let arrival = Arrival { signal: Signal::Logs, protocol: Protocol::HttpProtobuf, peer: PEER, seat: &flood };
        let sent = body.len();
        let mut gather = Gather::begin(&pipeline, arrival, Some(sent), true).await.expect("there is room");
        gather.push(Bytes::from(body)).await.expect("there is room");
        // So much that one who sent a quarter of it and less is quiet, and one who sent more is not.
        pipeline.shares.add(&other.share, 2 * sent);
        assert!(!pipeline.shares.is_quiet(&flood.share), "{sent} bytes came");
        let (body, reservation) = gather.finish().await.expect("there is room");
        let refused = pipeline.take(arrival, Received { body, encoding: Encoding::Gzip, reservation }).await.is_err();
        assert_eq!(refused, came_of_it > 0, "zeros are no message, and nothing is an empty one");
        pipeline.shares.add(&other.share, came_of_it);
        assert!(!pipeline.shares.is_quiet(&flood.share), "{sent} bytes came and {came_of_it} came of them");
    }
}

#[tokio::test]
async fn while_the_tail_fills_a_flood_is_held_up_and_a_quiet_connection_is_not() {
    let second = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&second);
    let pipeline =
        pipeline_with(1 << 20, Shares::with_clock(move || told.load(Ordering::Relaxed)), Duration::from_millis(20));
    let (flood, quiet) = (Seat::alone(&pipeline.shares), Seat::alone(&pipeline.shares));
    second.store(2, Ordering::Relaxed);
    pipeline.shares.add(&flood.share, 1_000_000);
    pipeline.shares.add(&quiet.share, 1_000);
    let arrival = |seat| Arrival { signal: Signal::Logs, protocol: Protocol::Grpc, peer: PEER, seat };
    let paced = || pipeline.counters.paced_ns.get();
    let fill = |bytes| {
        let load = SinkLoad { tail_bytes: bytes, unwritten_bytes: bytes, disk_full: false };
        pipeline.gate.load(load, 1_600)
    };
    pipeline.gate.replayed();
    fill(1_200);
    pipeline.gate.pace_at(Duration::from_millis(3));
    assert!(pipeline.admit(arrival(&quiet)).await.expect("is let in").peer.quiet);
    assert_eq!(paced(), 0);
    assert!(!pipeline.admit(arrival(&flood)).await.expect("is let in").peer.quiet);
    assert_eq!(paced(), 3_000_000, "the flood has the whole pace");

    // The last part of the tail is for the quiet.
    fill(1_550);
    assert!(pipeline.admit(arrival(&quiet)).await.is_ok());
    let refused = pipeline.admit(arrival(&flood)).await.expect_err("it waited for room in vain");
    assert_eq!(refused.reason, Reason::Tail);
    assert_eq!(pipeline.counters.parked_total.get(), 1);
    // And beyond it there is room for what is let in already, and for them.
    fill(2_000);
    assert!(pipeline.admit(arrival(&quiet)).await.is_ok());
    fill(2_001);
    assert_eq!(pipeline.admit(arrival(&quiet)).await.expect_err("full is full").reason, Reason::Tail);
}

/// Tells by its count whether anybody still holds the bytes.
struct Watched(Vec<u8>, #[expect(dead_code, reason = "is there to be counted")] Arc<()>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test]
async fn only_the_body_that_the_journal_takes_outlives_the_decoding() {
    let record = r#"{"body":{"stringValue":"one of many words, and then some more of them"}}"#;
    let records = vec![record; 20].join(",");
    let json = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{records}]}}]}}]}}"#);
    let protobuf = plimsoll_otlp::json_to_protobuf(Signal::Logs, json.as_bytes()).expect("is OTLP");
    for (protocol, plain, kept) in
        [(Protocol::HttpJson, json.into_bytes(), false), (Protocol::HttpProtobuf, protobuf, true)]
    {
        let (pipeline, holders) = (pipeline(1 << 20), Arc::new(()));
        let wire = gzip(&plain);
        let body = Bytes::from_owner(Watched(wire.clone(), Arc::clone(&holders)));
        let reservation = pipeline.reserve(PEER, body.len(), 0, body.len()).await.expect("there is room");
        let request = tokio::spawn({
            let pipeline = Arc::clone(&pipeline);
            async move {
                let seat = Seat::alone(&pipeline.shares);
                let arrival = Arrival { signal: Signal::Logs, protocol, peer: PEER, seat: &seat };
                pipeline.take(arrival, Received { body, encoding: Encoding::Gzip, reservation }).await
            }
        });
        let lanes = Arc::clone(&pipeline.lanes);
        assert!(tokio::task::spawn_blocking(move || lanes.wait()).await.expect("waits"));
        let mut group = Vec::new();
        pipeline.lanes.drain(&mut group, |_| false);
        let entry = group.pop().and_then(|mut bundle| bundle.entries.pop()).expect("was queued");
        assert_eq!(Arc::strong_count(&holders), if kept { 2 } else { 1 }, "{protocol:?}");
        assert_eq!(entry.request == wire, kept, "{protocol:?}");
        entry.waiting.answer(Ok(()));
        assert!(request.await.expect("ends").is_ok());
    }
}

/// A request of empty log records: two bytes on the wire, two hundred and more in memory.
fn swelling(bytes: usize) -> Bytes {
    let (mut level, mut request) = (Vec::new(), Vec::new());
    prost::encoding::bytes::encode(2, &b"\x12\x00".repeat(bytes / 2), &mut level);
    prost::encoding::bytes::encode(1, &level, &mut request);
    request.into()
}

/// Takes a request that was let in when nobody knew what it becomes.
async fn take(pipeline: &Pipeline, body: Bytes, reservation: Reservation) -> Result<Rejected, Refusal> {
    let seat = Seat::alone(&pipeline.shares);
    let arrival =
        Arrival { signal: Signal::Logs, protocol: Protocol::HttpProtobuf, peer: reservation.peer(), seat: &seat };
    pipeline.take(arrival, Received { body, encoding: Encoding::Identity, reservation }).await
}

/// Commits until `requests` are answered; returns the most that was reserved meanwhile.
fn commit(pipeline: &Pipeline, requests: usize) -> u64 {
    let (mut spare, mut group, mut answered, mut most) = (pipeline.joined.spare(), Vec::new(), 0, 0);
    while answered < requests {
        assert!(pipeline.lanes.wait_or(|| pipeline.joined.waits()), "is not closed");
        pipeline.joined.take(&mut spare, usize::MAX, &mut group);
        pipeline.lanes.drain(&mut group, |_| false);
        most = most.max(pipeline.budget.used());
        for bundle in group.drain(..) {
            drop(bundle.batch);
            answered += bundle.entries.len();
            bundle.entries.into_iter().for_each(|entry| entry.waiting.answer(Ok(())));
        }
    }
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_requests_that_swell_no_more_rows_are_held_than_one_is_over_by_and_all_are_taken_in_the_end() {
    const REQUESTS: usize = 16;
    const TURNS: usize = 8;
    let body = swelling(64 << 10);
    let rows = plimsoll_otlp::decode(Signal::Logs, &body, UnixNanos(0)).expect("decodes").batch;
    let one = rows.get_array_memory_size() as u64;
    assert!(one > 30 * body.len() as u64, "{one} bytes");
    let (inline, joined) = (1 << 20, 1 << 20);
    for (what, inline_bytes_max, joined_bytes_max, quiet) in [
        ("on the threads that read", inline, 0, false),
        ("on quiet connections", inline, 0, true),
        ("on other threads", 0, 0, false),
        ("where columns are shared", inline, joined, false),
        ("where columns are shared, on quiet connections", inline, joined, true),
    ] {
        let mut pipeline = plain(4 << 20, Shares::new(), Duration::from_secs(60));
        pipeline.limits = Limits { inline_bytes_max, joined_bytes_max, ..pipeline.limits };
        pipeline.lanes = Arc::new(Lanes::new(1, REQUESTS));
        (pipeline.inline, pipeline.large) = (Turnstile::new(TURNS), Turnstile::new(TURNS));
        let pipeline = Arc::new(pipeline);
        let expected = pipeline.expansion.needed(Signal::Logs, body.len());
        let reservations: Vec<_> = (0..REQUESTS)
            .map(|_| pipeline.budget.try_reserve(Peer { quiet, ..PEER }, expected).expect("all are let in"))
            .collect();
        let calls: Vec<_> = reservations
            .into_iter()
            .map(|reservation| {
                let (pipeline, body) = (Arc::clone(&pipeline), body.clone());
                tokio::spawn(async move { take(&pipeline, body, reservation).await })
            })
            .collect();
        // Of the two that do not wait one may still find out that it swells.
        let nobody_holds = || (pipeline.inline.free(), pipeline.large.free()) == (TURNS, TURNS);
        let waits = async {
            while pipeline.swelling.waiting() < REQUESTS - 2 || !nobody_holds() {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waits).await;
        waited.unwrap_or_else(|_| panic!("{what}: nobody who waits holds rows, or what others need"));
        let limit = (4 << 20) + one;
        assert!(pipeline.budget.used() <= limit, "{what}: {} of {one} each", pipeline.budget.used());
        let committing = Arc::clone(&pipeline);
        let most = tokio::task::spawn_blocking(move || commit(&committing, REQUESTS)).await.expect("commits");
        assert!(most <= limit, "{what}: {most} of {one} each");
        for call in calls {
            assert!(call.await.expect("does not panic").is_ok(), "{what}");
        }
        let turns = (pipeline.inline.free(), pipeline.large.free(), pipeline.swelling.free());
        assert_eq!((pipeline.budget.used(), turns), (0, (TURNS, TURNS, 1)), "{what}");
    }
}

#[tokio::test]
async fn who_waits_too_long_to_swell_is_refused_and_leaves_nothing_behind() {
    let pipeline = pipeline_with(1 << 20, Shares::new(), Duration::from_millis(20));
    let body = swelling(64 << 10);
    let turn = pipeline.swelling.turn(PEER).await;
    let reservation = pipeline.reserve(PEER, 200 << 10, 0, body.len()).await.expect("there is room");
    let refused = take(&pipeline, body, reservation).await.expect_err("another one swells");
    assert_eq!(refused.reason, Reason::InFlight);
    drop(turn);
    let free = (pipeline.inline.free(), pipeline.large.free(), pipeline.swelling.free());
    assert_eq!((pipeline.budget.used(), free), (0, (1, 1, 1)));
}

#[tokio::test]
async fn a_request_that_swells_beyond_all_there_is_goes_through_alone() {
    let pipeline = pipeline(300 << 10);
    let body = swelling(64 << 10);
    let reservation = pipeline.reserve(PEER, 200 << 10, 0, body.len()).await.expect("there is room");
    let committing = Arc::clone(&pipeline);
    let committed = tokio::task::spawn_blocking(move || commit(&committing, 1));
    assert!(take(&pipeline, body, reservation).await.is_ok());
    assert!(committed.await.expect("commits") > 1 << 20);
}

#[tokio::test]
async fn a_request_that_swells_asks_the_tail_again() {
    let pipeline = pipeline_with(1 << 20, Shares::new(), Duration::from_millis(20));
    pipeline.gate.replayed();
    pipeline.gate.load(SinkLoad { tail_bytes: 2, unwritten_bytes: 2, disk_full: false }, 1);
    let body = swelling(64 << 10);
    let reservation = pipeline.reserve(PEER, 200 << 10, 0, body.len()).await.expect("there is room");
    let refused = take(&pipeline, body, reservation).await.expect_err("the tail is full");
    assert_eq!(refused.reason, Reason::Tail);
    let plain = swelling(1 << 10);
    let reservation = pipeline.reserve(PEER, 512 << 10, 0, plain.len()).await.expect("there is room");
    let committing = Arc::clone(&pipeline);
    let committed = tokio::task::spawn_blocking(move || commit(&committing, 1));
    assert!(take(&pipeline, plain, reservation).await.is_ok(), "what is as large as expected was let in already");
    committed.await.expect("commits");
    assert_eq!((pipeline.budget.used(), pipeline.large.free()), (0, 1));
}

//! What is counted beside the operations themselves: attribute values, weights, arms, actions, presence, paths, the past.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use plimsoll_model::UnixNanos;
use plimsoll_model::drill::AttributeValue;
use plimsoll_model::signal::{AgeClass, WEIGHT_UNIT};
use plimsoll_otlp::Table;
use plimsoll_signals::{OTHER, SignalLimits, SignalState};

use crate::build::{CLIENT, SERVER, always, key, send, span, state, text, total};

#[test]
fn sampled_requests_count_by_their_weight_and_the_service_is_said_to_be_sampled() {
    let mut state = state();
    let mut spans = vec![
        span("a", SERVER, "x", 1, 0, 0, 1),
        span("a", SERVER, "x", 2, 0, 0, 1).failed(),
        span("b", SERVER, "x", 3, 0, 0, 1),
    ];
    spans[1].trace_state = "vendor=1,ot=rv:01;th:c";
    send(&mut state, 100, &spans);
    let cell = total(&state, "a", "x");
    assert_eq!((cell.requests, cell.weighted_requests, cell.weighted_errors), (2, 5 * WEIGHT_UNIT, 4 * WEIGHT_UNIT));
    assert_eq!(state.data_quality(&key("a")), ["sampled_spans"]);
    assert!(state.data_quality(&key("b")).is_empty());
}

#[test]
fn values_of_allow_listed_attributes_are_counted_by_outcome() {
    let mut state = state();
    let spans: Vec<_> = (1..=40_u64)
        .map(|i| {
            let region = if i % 4 == 0 { "eu" } else { "us" };
            let mut sent = span("a", SERVER, "x", i, 0, 0, 10)
                .trace(u128::from(i))
                .with("region", text(region))
                .with("user.id", text(&i.to_string()))
                .with("http.response.status_code", Value::IntValue(if i % 8 == 0 { 500 } else { 200 }));
            sent.resource.push(("host.name", format!("h{}", i % 2)));
            sent
        })
        .collect();
    send(&mut state, 100, &spans);
    let values = total(&state, "a", "x").values;
    let of = |attribute: &str, value: &str| {
        let key = AttributeValue { attribute: attribute.to_owned(), value: value.to_owned() };
        values.get(&key).map(|outcome| (outcome.requests, outcome.errors))
    };
    assert_eq!((of("region", "eu"), of("region", "us")), (Some((10, 5)), Some((30, 0))));
    assert_eq!((of("http.response.status_code", "500"), of("host.name", "h1")), (Some((5, 5)), Some((20, 0))));
    assert!(values.keys().all(|key| key.attribute != "user.id"));
}

#[test]
fn a_bomb_of_attribute_values_takes_no_room_from_the_operations() {
    let limits = SignalLimits { values_max: 100, ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    let spans: Vec<_> = (1..=5_000_u64)
        .map(|i| span("a", SERVER, "x", i, 0, 0, 10).trace(u128::from(i)).with("tenant", text(&format!("t{i}"))))
        .collect();
    send(&mut state, 100, &spans);
    send(&mut state, 100, &[span("a", SERVER, "y", 1, 0, 0, 1).trace(9_999)]);
    let cell = total(&state, "a", "x");
    assert!(cell.values.len() <= 14, "{}", cell.values.len());
    assert_eq!(cell.values.values().map(|outcome| outcome.requests).sum::<u64>(), 5_000);
    assert!(cell.values.keys().any(|value| value.value == OTHER));
    assert_eq!(total(&state, "a", "y").requests, 1);
}

#[test]
fn feature_flags_split_requests_into_arms_however_they_are_told() {
    let mut state = state();
    let flag = |variant: &'static str| {
        ("feature_flag.evaluation", vec![("feature_flag.key", "new-cart"), ("feature_flag.result.variant", variant)])
    };
    let mut on = span("a", SERVER, "x", 1, 0, 0, 1).failed();
    on.events.push(flag("on"));
    let mut off = span("a", SERVER, "x", 2, 0, 0, 1);
    off.events.push(flag("off"));
    let by_attribute = span("a", SERVER, "x", 3, 0, 0, 1)
        .with("feature_flag.key", text("new-cart"))
        .with("feature_flag.variant", text("on"));
    send(&mut state, 100, &[on, off, by_attribute, span("a", SERVER, "x", 4, 0, 0, 1)]);
    let arms: Vec<_> = state
        .aggregates(&key("a"), always())
        .arms
        .into_iter()
        .map(|arm| (arm.flag, arm.variant, arm.series.cells[0].1.requests, arm.series.cells[0].1.errors))
        .collect();
    let expected = |variant: &str, requests, errors| ("new-cart".to_owned(), variant.to_owned(), requests, errors);
    assert_eq!(arms, [expected("off", 1, 0), expected("on", 2, 1)]);
    assert_eq!(total(&state, "a", "x").requests, 4, "arms are another cut of the same requests");
}

#[test]
fn a_flag_with_a_variant_for_every_user_is_bounded() {
    let mut state = state();
    let names: Vec<String> = (0..500).map(|i| format!("user-{i}")).collect();
    let spans: Vec<_> = (1_u64..)
        .zip(&names)
        .map(|(i, name)| {
            span("a", SERVER, "x", i, 0, 0, 1)
                .with("feature_flag.key", text("f"))
                .with("feature_flag.result.variant", text(name))
        })
        .collect();
    send(&mut state, 100, &spans);
    let arms = state.aggregates(&key("a"), always()).arms;
    assert!(arms.len() <= 9 && arms.iter().any(|arm| arm.variant == OTHER), "{}", arms.len());
}

#[test]
fn configured_events_are_user_actions_and_others_are_not() {
    let limits = SignalLimits { actions: vec!["checkout_done".to_owned()], ..SignalLimits::default() };
    let mut state = SignalState::new(limits);
    let mut done = span("a", CLIENT, "x", 1, 0, 0, 1);
    done.events = vec![("checkout_done", Vec::new()), ("cache_hit", Vec::new())];
    let mut failed = span("a", SERVER, "x", 2, 0, 0, 1).failed();
    failed.events = vec![("checkout_done", Vec::new())];
    send(&mut state, 100, &[done, failed]);
    let actions = state.aggregates(&key("a"), always()).actions;
    assert_eq!(actions.len(), 1);
    assert_eq!(
        (actions[0].action.as_str(), actions[0].cells[0].1.count, actions[0].cells[0].1.failed),
        ("checkout_done", 2, 1)
    );
}

#[test]
fn presence_tells_instances_and_restarts() {
    let mut state = state();
    let mut spans = Vec::new();
    for (i, (instance, began)) in
        [("p", "2023-11-14T22:13:20Z"), ("q", "2023-11-14T22:13:20Z"), ("p", "2023-11-14T22:13:30Z")]
            .into_iter()
            .enumerate()
    {
        let mut sent = span("a", SERVER, "x", i as u64 + 1, 0, 15_000, 15_001);
        sent.instance = instance;
        sent.resource.push(("process.creation.time", began.to_owned()));
        spans.push(sent);
    }
    send(&mut state, 20_000, &spans);
    send(&mut state, 20_000, &spans);
    let presence = state.aggregates(&key("a"), always()).presence;
    assert_eq!(presence.len(), 1);
    let cells: Vec<_> =
        presence[0].cells.iter().map(|(_, c)| (c.spans, c.instances.count(), c.starts.count())).collect();
    assert_eq!(cells, [(0, 0, 2), (6, 2, 1)], "two started at once and one again ten seconds later");
}

/// `front` 1 or 2 calls `cart` 1 or 2; only front 1 on cart 2 fails.
fn mesh(state: &mut SignalState) {
    let mut spans = Vec::new();
    for trace in 1..=40_u128 {
        let (front, cart) = (if trace % 2 == 0 { "2" } else { "1" }, if trace % 4 < 2 { "2" } else { "1" });
        let mut all = vec![
            span("front", SERVER, "GET /", 1, 0, 0, 100),
            span("front", CLIENT, "call", 2, 1, 10, 90),
            span("cart", SERVER, "add", 3, 2, 15, 85),
        ];
        all[0].version = front.to_owned();
        all[1].version = front.to_owned();
        all[2].version = cart.to_owned();
        all[0].failed = front == "1" && cart == "2";
        spans.extend(all.into_iter().map(|sent| sent.trace(trace)));
    }
    send(state, 200, &spans);
    state.close_traces();
}

#[test]
fn traces_are_counted_by_the_versions_that_took_part() {
    let mut state = state();
    mesh(&mut state);
    for service in ["front", "cart"] {
        let paths = state.aggregates(&key(service), always()).paths;
        let told: Vec<_> = paths
            .iter()
            .map(|path| {
                let versions: Vec<&str> = path.path.iter().map(|who| who.version.as_str()).collect();
                (path.operation.as_str(), versions.join(" "), path.cells[0].1.traces, path.cells[0].1.failed)
            })
            .collect();
        // Participants are in order of their names: cart, then front.
        let expected = |versions: &str, failed| ("GET /", versions.to_owned(), 10, failed);
        assert_eq!(told, [expected("1 1", 0), expected("1 2", 0), expected("2 1", 10), expected("2 2", 0)]);
    }
}

#[test]
fn a_path_tells_which_services_failed_and_whether_the_top_did_too() {
    let mut state = state();
    let mut all = vec![
        span("front", SERVER, "GET /", 1, 0, 0, 100),
        span("front", CLIENT, "call", 2, 1, 10, 90),
        span("cart", SERVER, "add", 3, 2, 15, 85),
        span("cart", SERVER, "add", 4, 2, 15, 85),
    ];
    // Two attempts of one trace count once.
    all[2].failed = true;
    all[3].failed = true;
    let mut shown = all.clone();
    shown[0].failed = true;
    shown.pop();
    all.extend(shown.into_iter().map(|sent| sent.trace(2)));
    send(&mut state, 200, &all);
    state.close_traces();
    let mut restarted = SignalState::new(SignalLimits::default());
    for (table, batch) in state.take_rows() {
        restarted.load(table, &batch).expect("own rows");
    }
    for state in [&state, &restarted] {
        let paths = state.aggregates(&key("cart"), always()).paths;
        let cell = &paths[0].cells[0].1;
        assert_eq!((cell.traces, cell.failed), (2, 1));
        assert_eq!(cell.failed_within, [("cart".to_owned(), 2), ("front".to_owned(), 1)].into());
        assert_eq!(cell.failed_both, [("cart".to_owned(), 1), ("front".to_owned(), 1)].into());
    }
}

#[test]
fn a_container_that_starts_again_in_its_pod_is_seen_by_what_its_resource_tells() {
    const POD: &str = "2023-11-14T22:13:20Z";
    // Seconds, instance id and what else the resource says; and how many starts there were after the first minutes.
    type Resource = (&'static str, &'static [(&'static str, &'static str)]);
    let starts = |resources: &[Resource]| -> u64 {
        let mut state = state();
        // Somebody else has been there for long.
        send(&mut state, 1_000, &[span("b", SERVER, "x", 1, 0, 0, 1)]);
        for (i, (instance, told)) in resources.iter().enumerate() {
            let at = 120_000 + 20_000 * i as u64;
            let mut sent = span("a", SERVER, "x", i as u64 + 1, 0, at, at + 1);
            sent.instance = instance;
            sent.resource.push(("k8s.pod.start_time", POD.to_owned()));
            sent.resource.push(("k8s.pod.uid", "pod".to_owned()));
            sent.resource.extend(told.iter().map(|(key, value)| (*key, (*value).to_owned())));
            send(&mut state, at + 100, &[sent]);
        }
        let presence = state.aggregates(&key("a"), always()).presence;
        let late = presence
            .iter()
            .flat_map(|series| &series.cells)
            .filter(|(b, _)| b.start().0 >= crate::build::T0 + 100_000 * crate::build::MS);
        late.map(|(_, cell)| cell.starts.count()).sum()
    };
    let same: Resource = ("pod-1", &[]);
    assert_eq!(starts(&[same, same, same, same]), 0, "nothing tells of it");
    for key in ["k8s.container.restart_count", "container.id", "process.pid"] {
        let mut told: Vec<Resource> = match key {
            "k8s.container.restart_count" => vec![
                ("pod-1", &[("k8s.container.restart_count", "0")]),
                ("pod-1", &[("k8s.container.restart_count", "0")]),
                ("pod-1", &[("k8s.container.restart_count", "1")]),
                ("pod-1", &[("k8s.container.restart_count", "2")]),
            ],
            "container.id" => vec![
                ("pod-1", &[("container.id", "aa")]),
                ("pod-1", &[("container.id", "bb")]),
                ("pod-1", &[("container.id", "bb")]),
                ("pod-1", &[("container.id", "cc")]),
            ],
            _ => vec![
                ("pod-1", &[("process.pid", "7")]),
                ("pod-1", &[("process.pid", "9")]),
                ("pod-1", &[("process.pid", "12")]),
            ],
        };
        // The former values must have been silent for a while.
        let last = *told.last().expect("some");
        told.extend([last; 6]);
        assert_eq!(starts(&told), 2, "{key}");
    }
    // The SDK makes an id for each process.
    assert_eq!(starts(&[("id-1", &[]), ("id-2", &[]), ("id-2", &[]), ("id-3", &[])]), 2);
}

/// Starts of one pod, older than everything, whose requests tell `process.pid`: when they were received and when they began,
/// in milliseconds, and the number. And whether any of them was taken for a young one.
fn starts_by_pid(told: impl IntoIterator<Item = (u64, u64, u64)>) -> (u64, bool) {
    let mut state = state();
    send(&mut state, 1_000, &[span("b", SERVER, "x", 1, 0, 0, 1)]);
    for (i, (received, at, pid)) in told.into_iter().enumerate() {
        let mut sent = span("a", SERVER, "x", i as u64 + 1, 0, 120_000 + at, 120_000 + at + 1);
        sent.instance = "pod-1";
        sent.resource.push(("k8s.pod.start_time", "2023-11-14T22:00:00Z".to_owned()));
        sent.resource.push(("process.pid", pid.to_string()));
        send(&mut state, 120_000 + received, &[sent]);
    }
    let presence = state.aggregates(&key("a"), always()).presence;
    let late = presence
        .iter()
        .flat_map(|series| &series.cells)
        .filter(|(b, _)| b.start().0 >= crate::build::T0 + 100_000 * crate::build::MS);
    let young = state.series(&key("a"), always()).iter().any(|series| series.key.age != AgeClass::Warm);
    (late.map(|(_, cell)| cell.starts.count()).sum(), young)
}

#[test]
fn workers_that_share_an_instance_id_are_no_restarts_however_many_and_however_they_take_turns() {
    let told = |at: u64, pid: u64| (at + 10, at, pid);
    for workers in [2, 3, 5, 8, 50] {
        for every_ms in [10_000, 60_000] {
            let turns = (0..10 * workers).map(|i| told(i * every_ms / workers, 20 + i % workers));
            assert_eq!(starts_by_pid(turns), (0, false), "{workers} in turn, each every {every_ms} ms");
        }
        if workers < 4 {
            continue;
        }
        for seed in 0..8_u64 {
            let mut random = seed;
            let seldom = (0..100).map(|i| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                told(10_000 * i, 20 + (random >> 33) % workers)
            });
            assert_eq!(starts_by_pid(seldom), (0, false), "one of {workers} now and then, {seed}");
        }
    }
    // More than are remembered.
    assert_eq!(starts_by_pid((0..1_000).map(|i| told(i * 50, 20 + i % 200))), (0, false));
    // Nobody can tell a first round that rises and takes long from a process that starts again; of the next ones anybody can.
    let rounds = |rounds: u64| starts_by_pid((0..100 * rounds).map(|i| told(i * 1_500, 20 + i % 100))).0;
    assert_eq!(rounds(1), rounds(6));
}

#[test]
fn a_process_that_starts_again_and_again_is_seen_once_those_before_it_stay_silent() {
    for every_s in [10, 25, 40] {
        let looping = (0..80).map(|i| (5_000 * i + 10, 5_000 * i, 20 + 3 * (5 * i / every_s)));
        let (starts, young) = starts_by_pid(looping);
        assert_eq!(starts, (395 - 90) / every_s, "every {every_s} s");
        assert!(young, "the last start that is known of tells the age");
    }
    // One that was long on its way is not one that came back.
    let late = [(10, 0, 7), (30_010, 30_000, 9), (35_000, 29_000, 7), (60_010, 60_000, 9), (150_000, 149_990, 9)];
    assert_eq!(starts_by_pid(late), (1, true));
    let back = [(10, 0, 7), (30_010, 30_000, 9), (35_000, 34_000, 7), (60_010, 60_000, 9), (150_000, 149_990, 9)];
    assert_eq!(starts_by_pid(back), (0, false));
}

#[test]
fn everything_comes_back_from_stored_rows_and_replay_gives_the_same_bytes() {
    let build = || {
        let mut state = SignalState::new(SignalLimits { actions: vec!["done".to_owned()], ..SignalLimits::default() });
        mesh(&mut state);
        let mut sent = span("cart", SERVER, "add", 9, 0, 300, 400)
            .with("feature_flag.key", text("f"))
            .with("feature_flag.result.variant", text("on"))
            .with("region", text("eu"));
        sent.events.push(("done", Vec::new()));
        sent.trace_state = "ot=th:8";
        send(&mut state, 500, &[sent]);
        crate::build::log(&mut state, 600, "cart", None, ("", "", ""));
        state.close_traces();
        state
    };
    let mut state = build();
    let rows = state.take_rows();
    assert_eq!(rows, build().take_rows());
    assert!(state.pending_rows().is_empty());
    let mut restarted = SignalState::new(SignalLimits::default());
    for (table, batch) in rows.iter().rev() {
        restarted.load(*table, batch).expect("own rows");
    }
    for service in ["front", "cart"] {
        let (before, after) =
            (state.aggregates(&key(service), always()), restarted.aggregates(&key(service), always()));
        assert_eq!(before, after);
        assert!(!before.presence.is_empty() && !before.history.is_empty() && !before.paths.is_empty());
    }
    let cart = restarted.aggregates(&key("cart"), always());
    assert_eq!((cart.logs.len(), cart.arms.len(), cart.actions.len()), (1, 1, 1));

    let mut past = SignalState::new(SignalLimits::default());
    let signals = rows.iter().find(|(table, _)| *table == Table::Signals).expect("there are some");
    past.load_history(&signals.1, UnixNanos::MAX).expect("own rows");
    let only = past.aggregates(&key("cart"), always());
    assert_eq!(only.history, cart.history);
    assert!(only.presence.is_empty() && only.logs.is_empty());
}

#[test]
fn the_past_is_kept_by_minute_and_by_ten_minutes_whatever_the_version() {
    let mut state = state();
    for (i, second) in [0_u64, 45, 700].into_iter().enumerate() {
        let mut sent = span("a", SERVER, "x", i as u64 + 1, 0, second * 1_000, second * 1_000 + 5);
        sent.version = second.to_string();
        send(&mut state, second * 1_000 + 10, &[sent]);
        state.take_rows();
    }
    let history = state.aggregates(&key("a"), always()).history;
    let requests: Vec<(u32, Vec<u64>)> =
        history.iter().map(|s| (s.width_s, s.cells.iter().map(|(_, c)| c.requests).collect())).collect();
    assert_eq!(requests, [(60, vec![1, 1, 1]), (600, vec![2, 1])]);
    assert_eq!(history[1].cells[0].0.0 % 600_000_000_000, 0);
    assert!(history[1].cells[0].0 < UnixNanos(crate::build::T0));
}

#[test]
fn services_of_one_name_in_two_namespaces_are_two() {
    let mut state = state();
    let within = |mut sent: crate::build::Sent, namespace: &str| {
        sent.resource.push(("service.namespace", namespace.to_owned()));
        sent
    };
    let spans = [
        within(span("front", SERVER, "GET /", 1, 0, 0, 100).failed(), "shop"),
        within(span("front", CLIENT, "call", 2, 1, 10, 90).failed(), "shop"),
        within(span("cart", SERVER, "add", 3, 2, 15, 85).failed(), "shop"),
        within(span("cart", SERVER, "add", 4, 0, 15, 85).trace(8), "bank"),
    ];
    send(&mut state, 200, &spans);
    state.close_traces();
    let service =
        |namespace: &str, name: &str| plimsoll_model::ServiceKey { namespace: namespace.to_owned(), ..key(name) };
    assert_eq!(state.callers_of(&service("shop", "cart")), [service("shop", "front")]);
    assert!(state.callers_of(&service("bank", "cart")).is_empty());
    assert!(state.related(&service("bank", "cart")).is_empty());
    let front = state.series(&service("shop", "front"), always());
    let blamed: Vec<_> = front[0].cells[0].1.blame.keys().map(|party| (&*party.namespace, &*party.service)).collect();
    assert_eq!(blamed, [("shop", "cart")]);
}

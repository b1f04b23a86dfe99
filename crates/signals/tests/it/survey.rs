//! What stored rows tell beside cells.

use std::collections::BTreeSet;

use arrow::array::RecordBatch;
use plimsoll_model::{Interval, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_signals::SignalState;

use crate::build::{CLIENT, MS, SERVER, T0, always, key, log, send, span, state};

/// front -> cart -> stock; kiosk -> stock; sixty services that nobody calls and that call nobody.
fn rows() -> Vec<(Table, RecordBatch)> {
    let mut state = state();
    let mut spans = vec![
        span("front", SERVER, "GET /", 1, 0, 0, 90),
        span("front", CLIENT, "cart", 2, 1, 10, 80),
        span("cart", SERVER, "GET /cart", 3, 2, 15, 75),
        span("cart", CLIENT, "stock", 4, 3, 20, 60),
        span("stock", SERVER, "GET /stock", 5, 4, 25, 55),
        span("kiosk", SERVER, "POST /buy", 10, 0, 0, 50).trace(8),
        span("stock", SERVER, "GET /stock", 11, 10, 5, 40).trace(8),
    ];
    let names: Vec<&'static str> = (0..60).map(|i| &*Box::leak(format!("alone-{i:02}").into_boxed_str())).collect();
    spans.extend(names.iter().zip(100..).map(|(name, id)| span(name, SERVER, "x", id, 0, 0, 5).trace(u128::from(id))));
    send(&mut state, 1_000, &spans);
    log(&mut state, 50, "cart", None, ("Declined", "card 1", "at shop.Cart.pay(Cart.java:7)"));
    state.close_traces();
    state.take_rows()
}

fn of(rows: &[(Table, RecordBatch)], table: Table) -> &RecordBatch {
    &rows.iter().find(|(of, _)| *of == table).expect("there are some").1
}

fn names(services: &BTreeSet<ServiceKey>) -> Vec<&str> {
    services.iter().map(|service| service.service.as_str()).collect()
}

#[test]
fn what_bears_on_a_deploy_is_what_it_touches_and_a_few_that_it_does_not() {
    let rows = rows();
    let mut edges = SignalState::new(plimsoll_signals::SignalLimits::default());
    let serving = edges.load_edges(of(&rows, Table::Operations)).expect("own rows");
    assert_eq!(serving.len(), 64);
    assert_eq!(edges.size().rolling_cells, 0, "no cell was made");
    let bearing = edges.bearing(&key("cart"), &serving, 0);
    let close: Vec<&str> = names(&bearing).into_iter().filter(|name| !name.starts_with("alone")).collect();
    assert_eq!(close, ["cart", "front", "kiosk", "stock"], "the kiosk shares the stock, and tells how that serves it");
    assert_eq!(bearing.len(), 4 + 32);

    // What is judged from is the same as with everything at hand.
    let mut whole = SignalState::new(plimsoll_signals::SignalLimits::default());
    rows.iter().for_each(|(table, batch)| whole.load(*table, batch).expect("own rows"));
    let untouched = |state: &SignalState| state.unrelated(&key("cart"), &|_| None, always());
    let told: BTreeSet<ServiceKey> = untouched(&whole).into_iter().map(|series| series.service).collect();
    assert!(told.is_subset(&bearing) && told.len() == 32);
    assert_eq!(edges.related(&key("cart")), whole.related(&key("cart")));
}

#[test]
fn what_was_seen_is_known_without_its_cells() {
    let rows = rows();
    let mut state = SignalState::new(plimsoll_signals::SignalLimits::default());
    state.load_exceptions(of(&rows, Table::Operations)).expect("own rows");
    state.load_templates(of(&rows, Table::Signals)).expect("own rows");
    assert_eq!((state.size().rolling_cells, state.size().side_cells), (0, 0));
    assert_eq!(state.known_fingerprints(&key("cart"), UnixNanos::MAX, &BTreeSet::new()).len(), 1);
    assert!(state.known_fingerprints(&key("front"), UnixNanos::MAX, &BTreeSet::new()).is_empty());
}

#[test]
fn when_anybody_was_heard_is_known_without_its_cells() {
    let mut sent = state();
    let at = |second: u64| UnixNanos(T0 + 1_000 * second * MS);
    for second in (0..900).step_by(10).filter(|second| !(300..500).contains(second)) {
        log(&mut sent, 1_000 * second, "host", None, ("Declined", "card 1", "at shop.Cart.pay(Cart.java:7)"));
    }
    sent.close_traces();
    let rows = sent.take_rows();
    let mut state = SignalState::new(plimsoll_signals::SignalLimits::default());
    rows.iter()
        .filter(|(table, _)| *table == Table::Signals)
        .for_each(|(_, batch)| state.load_heard(batch).expect("own rows"));
    assert_eq!((state.size().rolling_cells, state.size().side_cells), (0, 0));
    let within = Interval { from: at(0), to: at(900) };
    assert_eq!(state.gaps(within), sent.gaps(within));
    assert_eq!(state.gaps(within).len(), 1, "{:?}", state.gaps(within));
}

#[test]
fn who_else_calls_the_same_callee_tells_whether_it_is_reached() {
    let mut state = state();
    // A request of the cart, and two of the kiosk of which one finds nobody in the stock; the front calls the cart.
    let to_stock = |id: u64, up: u64| {
        span("kiosk", CLIENT, "stock", id, up, 10, 45).with("peer.service", crate::build::text("stock"))
    };
    let reached = [
        span("kiosk", SERVER, "POST /buy", 11, 0, 0, 50),
        to_stock(12, 11),
        span("stock", SERVER, "GET /stock", 13, 12, 15, 40),
    ];
    let alone = [span("kiosk", SERVER, "POST /buy", 31, 0, 0, 50), to_stock(32, 31)];
    let chain = [
        span("front", SERVER, "GET /", 41, 0, 0, 90),
        span("cart", SERVER, "GET /cart", 42, 41, 5, 80),
        span("stock", SERVER, "GET /stock", 43, 42, 15, 75),
    ];
    send(&mut state, 1_000, &reached.map(|sent| sent.trace(1)));
    send(&mut state, 1_000, &alone.map(|sent| sent.failed().trace(3)));
    send(&mut state, 1_000, &chain.map(|sent| sent.trace(4)));
    state.close_traces();
    let told = state.witnesses(&key("cart"), always());
    assert!(told.iter().all(|series| series.target == "stock"), "{told:?}");
    let cells = told.iter().flat_map(|series| &series.cells).map(|(_, served)| served);
    assert_eq!(cells.fold((0, 0), |sum, one| (sum.0 + one.answered, sum.1 + one.unanswered)), (1, 1));
    assert!(state.witnesses(&key("front"), always()).is_empty(), "nobody else calls the cart");
}

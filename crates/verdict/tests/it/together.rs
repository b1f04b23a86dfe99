//! What failures have in common: one value, two together, or nothing.

use plimsoll_model::drill::{AttributeValue, Draw, Draws};
use plimsoll_model::signal::OperationCell;
use plimsoll_model::verdict::Common;
use plimsoll_model::{Finding, SignalKind};
use plimsoll_verdict::judge;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::simulation::{Scenario, simulate};

/// One request: its values, in order of their attributes.
#[derive(Clone, Copy)]
struct Request {
    platform: &'static str,
    cluster: &'static str,
    region: &'static str,
    tenant: &'static str,
}

impl Request {
    /// A cluster for each region; platforms as they come, more of one of them where there is a `lean`.
    fn any(rng: &mut ChaCha8Rng, lean: f64) -> Self {
        let (region, cluster) = if rng.random_bool(0.5) { ("eu", "c1") } else { ("us", "c2") };
        let platform = if rng.random_bool(lean) { "ios" } else { ["android", "web"][rng.random_range(0..2)] };
        let tenant = ["red", "green", "blue", "white", "black"][rng.random_range(0..5)];
        Self { platform, cluster, region, tenant }
    }

    fn values(self) -> [(&'static str, &'static str); 4] {
        [
            ("client.platform", self.platform),
            ("k8s.cluster.name", self.cluster),
            ("region", self.region),
            ("tenant", self.tenant),
        ]
    }
}

/// Counts requests as the fold does.
fn count(cell: &mut OperationCell, requests: impl Iterator<Item = (Request, bool)>, rng: &mut ChaCha8Rng) {
    let (mut failed, mut good) = (Vec::new(), Vec::new());
    cell.errors = 0;
    for (request, bad) in requests {
        cell.errors += u64::from(bad);
        for (attribute, value) in request.values() {
            let at = AttributeValue { attribute: attribute.to_owned(), value: value.to_owned() };
            let outcome = cell.values.entry(at).or_default();
            outcome.requests += 1;
            outcome.errors += u64::from(bad);
        }
        let number = rng.random::<u64>() >> 16;
        if bad || number < 1 << 44 {
            let values = request.values().map(|(attribute, value)| (attribute.into(), value.into())).to_vec();
            if bad { &mut failed } else { &mut good }.push(Draw { number, values });
        }
    }
    for (mut draws, into, max) in
        [(failed, &mut cell.failed_draws, Draws::FAILED_MAX), (good, &mut cell.good_draws, Draws::GOOD_MAX)]
    {
        draws.sort_unstable_by_key(|draw| draw.number);
        draws.truncate(max);
        into.0 = draws;
    }
}

/// What there is beside which requests fail.
#[derive(Clone, Copy)]
struct Setting {
    seed: u64,
    /// Requests a second.
    rate: f64,
    /// Share of the requests that come from `ios`.
    lean: f64,
    /// False for rows of builds that drew none.
    draws: bool,
}

const USUAL: Setting = Setting { seed: 61, rate: 100.0, lean: 0.5, draws: true };

/// Judges a candidate that fails 30 % of the requests that `breaks` says, beside the 0.5 % that always fail.
fn place(setting: Setting, breaks: impl Fn(Request) -> bool) -> Option<Common> {
    judged(setting, breaks).expect("requests fail").explanation.place
}

/// The finding of that, if there is one yet.
fn judged(setting: Setting, breaks: impl Fn(Request) -> bool) -> Option<Finding> {
    let scenario = Scenario { rate: setting.rate, share: 0.5, before_s: 600, after_s: 300, ..Scenario::default() };
    let mut input = simulate(&scenario, setting.seed);
    let mut rng = ChaCha8Rng::seed_from_u64(setting.seed);
    for series in &mut input.series {
        let candidate = series.key.version == "2";
        for (_, cell) in &mut series.cells {
            let requests: Vec<(Request, bool)> = (0..cell.requests)
                .map(|_| {
                    let request = Request::any(&mut rng, setting.lean);
                    let broken = candidate && breaks(request);
                    (request, rng.random_bool(if broken { 0.305 } else { 0.005 }))
                })
                .collect();
            count(cell, requests.into_iter(), &mut rng);
            if !setting.draws {
                (cell.failed_draws, cell.good_draws) = Default::default();
            }
        }
    }
    let verdict = judge(&input);
    let found = verdict.findings.into_iter().find(|finding| finding.signal == SignalKind::ErrorRate)?;
    let said = found.explanation.place.as_ref().map(Common::conditions);
    assert_eq!(found.summary.contains(" when "), said.is_some(), "{}", found.summary);
    assert!(said.is_none_or(|said| found.summary.contains(&said)), "{}", found.summary);
    Some(found)
}

fn names(place: &Option<Common>) -> Option<(&str, Option<&str>)> {
    place.as_ref().map(|place| (place.name.as_str(), place.and.as_deref()))
}

#[test]
fn a_fault_of_two_values_together_is_told_as_both_with_the_share_that_they_explain() {
    let found = place(USUAL, |request| request.platform == "ios" && request.tenant == "red");
    assert_eq!(names(&found), Some(("client.platform=ios", Some("tenant=red"))));
    let share = found.expect("was found").share;
    assert!((0.85..=1.0).contains(&share), "{share}");
}

#[test]
fn a_fault_of_one_value_is_told_as_one_whatever_it_comes_with() {
    for lean in [0.2, 0.5, 0.8, 0.95] {
        let found = place(Setting { lean, ..USUAL }, |request| request.tenant == "red");
        assert_eq!(names(&found), Some(("tenant=red", None)), "{lean}");
    }
    let found = place(USUAL, |request| request.platform == "ios");
    assert_eq!(names(&found), Some(("client.platform=ios", None)));
}

#[test]
fn of_two_values_that_always_come_together_the_first_by_name_is_told() {
    let found = place(USUAL, |request| request.region == "eu");
    assert_eq!(names(&found), Some(("k8s.cluster.name=c1", None)));
    // Beside a third the same one is told of the two.
    let found = place(USUAL, |request| request.region == "eu" && request.platform == "ios");
    assert_eq!(names(&found), Some(("client.platform=ios", Some("k8s.cluster.name=c1"))));
}

#[test]
fn a_value_that_most_of_the_other_have_adds_nothing() {
    // Nine of ten of the tenant's requests come from there: what it has beside them is too little to be worth a word.
    let found = place(Setting { lean: 0.9, ..USUAL }, |request| request.platform == "ios" && request.tenant == "red");
    assert_eq!(names(&found), Some(("tenant=red", None)));
}

#[test]
fn failures_that_are_everywhere_have_nothing_in_common() {
    assert_eq!(names(&place(USUAL, |_| true)), None);
}

#[test]
fn what_chance_brings_together_is_no_pair() {
    // A few failures at a time, of one tenant: now and then most of them come from one region, or one platform.
    let told = |pair: bool| {
        let found = (0..60).filter_map(|seed| {
            let setting = Setting { seed, rate: 16.0, ..USUAL };
            judged(setting, |request| request.tenant == "red" && (!pair || request.platform == "ios"))
        });
        let places: Vec<Option<Common>> = found.map(|found| found.explanation.place).collect();
        let of_two = places.iter().flatten().filter(|place| place.and.is_some()).count();
        (of_two, places.len())
    };
    let (chance, fault) = (told(false), told(true));
    assert!(chance.0 <= 1 && chance.1 >= 50, "{chance:?}");
    assert!(2 * fault.0 >= fault.1 && fault.1 >= 30, "{fault:?}");
}

#[test]
fn rows_of_builds_that_drew_no_requests_tell_single_values_as_before() {
    let found =
        place(Setting { draws: false, ..USUAL }, |request| request.platform == "ios" && request.tenant == "red");
    assert_eq!(names(&found), Some(("tenant=red", None)));
}

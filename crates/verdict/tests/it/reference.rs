//! The numerical core against values computed with SciPy (`tests/reference/bounds.py`); relative tolerance 1e-6.

use plimsoll_model::Bucket;
use plimsoll_verdict::e_process::{self, Stratum};
use plimsoll_verdict::rate;
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("../reference/bounds.json")).expect("the fixture is JSON")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().expect("a number")
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-6 * theirs.abs().max(1e-6)
}

#[test]
fn bounds_of_a_rate_agree_with_scipy() {
    for case in reference()["bounds"].as_array().expect("a list") {
        let (low, high) = rate::bounds(number(case, "bad"), number(case, "n"), number(case, "alpha"));
        assert!(close(low, number(case, "low")), "{case}: {low}");
        assert!(close(high, number(case, "high")), "{case}: {high}");
    }
}

#[test]
fn looking_at_any_time_costs_width_but_not_much() {
    for case in reference()["clopper_pearson"].as_array().expect("a list") {
        let (_, high) = rate::bounds(number(case, "bad"), number(case, "n"), 0.05);
        let fixed = number(case, "high");
        assert!(high > fixed && high < 3.0 * fixed, "{case}: {high}");
    }
}

#[test]
fn the_e_process_agrees_with_binomial_likelihoods() {
    for case in reference()["e_process"].as_array().expect("a list") {
        let strata: Vec<Stratum> = case["strata"]
            .as_array()
            .expect("a list")
            .iter()
            .enumerate()
            .map(|(i, s)| {
                let at = |index: usize| s[index].as_f64().expect("a number");
                Stratum {
                    bucket: Bucket(i as u64),
                    bad_b: at(0),
                    n_b: at(1),
                    bad_a: at(2),
                    n_a: at(3),
                    handicap: 1.0,
                    caution: 1.0,
                }
            })
            .collect();
        let path = e_process::run(&strata, number(case, "null_ratio"), 1.0 / number(case, "eta"));
        assert!(close(path.last(), number(case, "log_e")), "{case}: {}", path.last());
    }
}

//! The list of findings: of what it names hardly any is chance.

use plimsoll_model::Bucket;
use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_verdict::JudgeInput;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, Poisson};

use crate::simulation::{START, deploy, looked_at, service};

/// The share of the findings that may be false on average.
const LEVEL: f64 = 0.05;
const OPERATIONS: usize = 120;
/// Those that the candidate makes worse: the first ones.
const BAD: usize = 2;
const SEEDS: u64 = 40;

/// Many operations side by side, each with a rate of failures of its own.
fn mixture(seed: u64) -> JudgeInput {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut series = Vec::new();
    for operation in 0..OPERATIONS {
        let failing = [0.002, 0.005, 0.01, 0.02][operation % 4];
        for (version, from, mean) in [("1", START - 60, 80.0), ("2", START, 80.0)] {
            let worse = if version == "2" && operation < BAD { 5.0 } else { 1.0 };
            let cells = (from..START + 90).map(|bucket| {
                let requests = Poisson::new(mean).expect("positive").sample(&mut rng) as u64;
                let errors = Binomial::new(requests, failing * worse).expect("a share").sample(&mut rng);
                (Bucket(bucket), OperationCell { requests, errors, assembled: requests, ..OperationCell::default() })
            });
            let cells: Vec<_> = cells.filter(|(_, cell)| cell.requests > 0).collect();
            let key = OperationKey {
                service: service(),
                version: version.to_owned(),
                operation: format!("GET /{operation}"),
                kind: OperationKind::Server,
                age: AgeClass::Warm,
            };
            series.push(OperationSeries { key, cells });
        }
    }
    JudgeInput::new(deploy(Bucket(START).start()), Bucket(START + 90).start(), series)
}

#[test]
fn among_many_operations_few_findings_are_false_at_the_first_moment_at_the_decision_and_at_the_end() {
    let bad = |operation: &str| operation.trim_start_matches("GET /").parse::<usize>().is_ok_and(|at| at < BAD);
    // When something was first listed, when it was decided, and the last look.
    let (mut shares, mut found) = ([0.0; 3], [0; 3]);
    for seed in 0..SEEDS {
        let told = looked_at(&mut mixture(seed), 6);
        let first = told.iter().find(|verdict| !verdict.findings.is_empty());
        let decided = told.iter().find(|verdict| verdict.decided);
        for (at, verdict) in [first, decided, told.last()].into_iter().enumerate() {
            let Some(verdict) = verdict else { continue };
            let (all, true_ones) =
                (verdict.findings.len(), verdict.findings.iter().filter(|finding| bad(&finding.operation)).count());
            shares[at] += (all - true_ones) as f64 / all.max(1) as f64 / SEEDS as f64;
            found[at] += true_ones;
        }
    }
    assert!(shares.iter().all(|share| *share < LEVEL), "{shares:?}");
    // What is bad is listed in the end.
    assert!(found[2] as f64 >= 0.9 * (BAD as u64 * SEEDS) as f64, "{found:?}");
}

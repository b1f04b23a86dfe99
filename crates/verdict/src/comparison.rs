//! What served as control, told in detail.

use std::collections::BTreeSet;

use plimsoll_model::signal::AgeClass;
use plimsoll_model::{Comparison, Design};

use crate::design::Role;
use crate::explain::Strata;
use crate::fold::Fold;

const AGES: [AgeClass; 3] = [AgeClass::Cold, AgeClass::Warming, AgeClass::Warm];

/// Tells it.
pub(crate) fn of(fold: &Fold) -> Comparison {
    let concurrent = fold.design() == Design::Concurrent;
    let control = if concurrent { Role::Control } else { Role::Before };
    let mut strata = Strata::default();
    let mut operations: Vec<_> = fold.operations.iter().collect();
    operations.sort_by_key(|op| (op.name.as_str(), op.kind as u64));
    for op in operations {
        for age in AGES {
            for (arm, role) in [Role::Candidate, control].into_iter().enumerate() {
                let (errors, requests) = op.pooled[role as usize][age as usize];
                strata.add(arm, (op.name.as_str(), op.kind as u64), (0, age), (errors, requests));
            }
        }
    }
    let days: BTreeSet<u32> = fold.drift.days.iter().chain(&fold.metric_days).copied().collect();
    Comparison {
        versions: fold.frame.control_versions.iter().cloned().collect(),
        same_hours_days: if concurrent { Vec::new() } else { days.into_iter().collect() },
        untouched: if concurrent { Vec::new() } else { fold.drift.untouched.clone() },
        errors: strata.split(),
    }
}

//! A change of a feature flag is judged by its arms: the variant that was switched on against the others, side by side.
//!
//! Both arms run in the same instances of the same version at the same time, which makes this the strongest comparison there
//! is. It needs to know which flag and which variant: the deploy's attributes `feature_flag.key` and
//! `feature_flag.result.variant` say so. Without them, or without such arms, the deploy is judged before/after.

use std::collections::BTreeMap;

use plimsoll_model::signal::{OperationCell, OperationKey, OperationSeries};
use plimsoll_model::{Bucket, DeployKind, ServiceAggregates};

use crate::input::JudgeInput;

/// Returns the same question asked of the flag's arms, each as if it were a version.
pub(crate) fn by_arms(input: &JudgeInput) -> Option<JudgeInput> {
    let deploy = &input.deploy;
    let flag = deploy.attributes.get("feature_flag.key").filter(|_| deploy.kind == DeployKind::Flag)?;
    let variant = deploy.attributes.get("feature_flag.result.variant")?;
    let mut merged: BTreeMap<OperationKey, BTreeMap<Bucket, OperationCell>> = BTreeMap::new();
    for arm in input.aggregates.arms.iter().filter(|arm| arm.flag == *flag) {
        let key = OperationKey { version: arm.variant.clone(), ..arm.series.key.clone() };
        let cells = merged.entry(key).or_default();
        for (bucket, cell) in &arm.series.cells {
            cells.entry(*bucket).or_default().merge(cell);
        }
    }
    let is_variant = |key: &OperationKey| key.version == *variant;
    if !merged.keys().any(is_variant) || merged.keys().all(is_variant) {
        return None;
    }
    let mut asked = input.clone();
    asked.deploy.version.clone_from(variant);
    // As versions are: what served before under another name, and serves beside it.
    asked.deploy.kind = DeployKind::Release;
    asked.deploy.previous_version = None;
    asked.flag = Some(flag.clone());
    asked.aggregates = ServiceAggregates::default();
    asked.series =
        merged.into_iter().map(|(key, cells)| OperationSeries { key, cells: cells.into_iter().collect() }).collect();
    Some(asked)
}

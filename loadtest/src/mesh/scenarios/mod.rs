//! The table of scenarios: what is deployed, what it does, and which verdict is right.

mod bad;
mod harmless;

use super::scenario::Scenario;

/// All of them, bad and harmless in turn, so that any number from the front is balanced.
pub(super) fn all() -> Vec<Scenario> {
    let (mut bad, mut harmless) = (bad::all().into_iter(), harmless::all().into_iter());
    let mut found = Vec::new();
    loop {
        let before = found.len();
        found.extend(bad.next());
        found.extend(harmless.next());
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mesh::topology;

    #[test]
    fn there_are_thirty_kinds_of_bad_deploy_and_as_many_harmless_ones() {
        let all = all();
        let bad = all.iter().filter(|scenario| scenario.is_bad()).count();
        assert!(bad >= 30 && all.len() - bad >= 30, "{bad} of {}", all.len());
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len(), "names differ");
        assert!(all.iter().filter(|scenario| scenario.short).count() >= 6);
        for scenario in &all {
            if !scenario.focus.is_empty() {
                topology::operation("gateway", scenario.focus);
            }
            let known = |deploy: &crate::mesh::scenario::Deploy| topology::SERVICES.contains(&deploy.service);
            assert!(scenario.deploys.iter().all(known), "{}", scenario.name);
        }
    }
}

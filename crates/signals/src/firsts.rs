//! Which versions of a service showed something, an exception or a log template, and when each did first.
//!
//! Kept are the [`VERSIONS_MAX`] that were first. What so many versions showed is not asked for by version any more.
//!
//! *Invariants.* It does not depend on the order in which rows come, nor on rows that come twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use plimsoll_model::UnixNanos;
use plimsoll_model::signal::Fingerprint;

use crate::registry::Registry;

/// Versions that are kept of each.
const VERSIONS_MAX: usize = 8;

/// Versions with their first sight, earliest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Firsts(Vec<(UnixNanos, Arc<str>)>);

impl Firsts {
    /// Takes note of a sight; returns the first known of that version.
    pub(crate) fn note(&mut self, version: &Arc<str>, at: UnixNanos) -> UnixNanos {
        if let Some(place) = self.0.iter().position(|(_, known)| known == version) {
            let first = self.0[place].0;
            if at >= first {
                return first;
            }
            self.0.remove(place);
        }
        let place = self.0.partition_point(|(first, known)| (*first, known) < (at, version));
        if place < VERSIONS_MAX {
            self.0.insert(place, (at, Arc::clone(version)));
            self.0.truncate(VERSIONS_MAX);
        }
        at
    }

    /// Takes note of all that the other knows.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (at, version) in &other.0 {
            self.note(version, *at);
        }
    }

    /// The first sight of any version.
    pub(crate) fn first(&self) -> Option<UnixNanos> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The first sight of any version but those; where too many versions showed it to know, of any.
    pub(crate) fn without(&self, versions: &BTreeSet<String>) -> Option<UnixNanos> {
        if self.0.len() >= VERSIONS_MAX {
            return self.first();
        }
        self.0.iter().find(|(_, version)| !versions.contains(version.as_ref())).map(|(at, _)| *at)
    }
}

impl Registry {
    /// Remembers an exception of a service's version.
    pub(crate) fn remember(&mut self, service: u32, version: &Arc<str>, fingerprint: Fingerprint, at: UnixNanos) {
        let max = self.limits.fingerprints_per_service_max;
        let known = &mut self.service[service as usize].fingerprints;
        if known.len() < max || known.contains_key(&fingerprint.0) {
            known.entry(fingerprint.0).or_default().note(version, at);
        } else {
            self.counters.forgotten_fingerprints += 1;
        }
    }

    /// Remembers a log template of a service's version.
    pub(crate) fn remember_template(&mut self, service: u32, version: &Arc<str>, template: u64, at: UnixNanos) {
        let max = self.limits.templates_per_service_max;
        let known = &mut self.service[service as usize].templates;
        if known.len() < max || known.contains_key(&template) {
            known.entry(template).or_default().note(version, at);
        }
    }

    /// The name of a version.
    pub(crate) fn version_name(&self, version: u32) -> Arc<str> {
        Arc::clone(&self.versions.key(version).version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sights: &[(u64, usize)]) -> Firsts {
        let mut firsts = Firsts::default();
        for (at, version) in sights {
            firsts.note(&version.to_string().into(), UnixNanos(*at));
        }
        firsts
    }

    #[test]
    fn the_order_of_sights_does_not_matter() {
        let sights: Vec<(u64, usize)> = (0..40).map(|n| ((n * 17) % 41, n as usize % 12)).collect();
        let back: Vec<(u64, usize)> = sights.iter().rev().copied().collect();
        let (one, other) = (of(&sights), of(&back));
        assert_eq!(one.0, other.0);
        assert_eq!(one.0.len(), VERSIONS_MAX);
        let mut both = of(&sights[..20]);
        both.merge(&of(&sights[20..]));
        assert_eq!(both.0, one.0);
    }

    #[test]
    fn a_version_is_left_out_unless_too_many_showed_it() {
        let left_out = BTreeSet::from(["0".to_owned(), "1".to_owned()]);
        let firsts = of(&[(3, 0), (5, 1), (9, 2), (7, 2)]);
        assert_eq!((firsts.first(), firsts.without(&left_out)), (Some(UnixNanos(3)), Some(UnixNanos(7))));
        assert_eq!(of(&[(3, 0), (5, 1)]).without(&left_out), None);
        let many: Vec<(u64, usize)> = (0..VERSIONS_MAX).map(|n| (n as u64, n)).collect();
        assert_eq!(of(&many).without(&left_out), Some(UnixNanos(0)));
    }
}

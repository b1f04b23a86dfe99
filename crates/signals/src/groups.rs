//! Groups of log templates, kept from question to question.
//!
//! *Invariants.* Groups follow from the set of templates alone: what is kept is only ever what would be computed again.
//!
//! *Cost.* One hash of the numbers of the templates where the set is the one of last time; [`group`] where it is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use plimsoll_model::template::group;
use xxhash_rust::xxh3::Xxh3Default;

use crate::intern::FixedMap;

/// Services whose groups are kept; all are forgotten when there are more.
const SERVICES_MAX: usize = 256;

/// The group of each template of one set, by the template's hash.
pub(crate) type Groups = Arc<HashMap<u64, Arc<str>>>;

/// The groups of the set that each service was last asked about.
#[derive(Default)]
pub(crate) struct KnownGroups(Mutex<FixedMap<u32, (u64, Groups)>>);

impl KnownGroups {
    /// Returns the groups of the templates `ids`, whose text `text` finds.
    pub(crate) fn of<'t>(&self, service: u32, mut ids: Vec<u64>, text: impl Fn(u64) -> Option<&'t str>) -> Groups {
        ids.sort_unstable();
        ids.dedup();
        let mut hash = Xxh3Default::new();
        ids.iter().for_each(|id| hash.update(&id.to_le_bytes()));
        let set = hash.digest();
        // Whoever panicked with it left a map that is whole: every change of it is one call.
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((same, groups)) = known.get(&service)
            && *same == set
        {
            return Arc::clone(groups);
        }
        let mut texts: Vec<(&str, u64)> = ids.iter().filter_map(|id| text(*id).map(|text| (text, *id))).collect();
        texts.sort_unstable();
        texts.dedup_by(|a, b| a.0 == b.0);
        let names: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
        let groups = group(&names);
        let groups: Groups = Arc::new(texts.iter().zip(groups).map(|((_, id), group)| (*id, group.into())).collect());
        if known.len() >= SERVICES_MAX {
            known.clear();
        }
        known.insert(service, (set, Arc::clone(&groups)));
        groups
    }
}

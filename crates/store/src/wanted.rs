//! Attribute keys that queries asked for, the latest first, bounded.

use parking_lot::Mutex;
use plimsoll_otlp::Table;

use crate::promote::BY_QUERY;
use crate::view::slot;

/// Keys by table.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    keys: Mutex<[Vec<String>; Table::ALL.len()]>,
}

impl Wanted {
    /// Puts `key` first; what was asked for longest ago makes room.
    pub(crate) fn note(&self, table: Table, key: &str) {
        let keys = &mut self.keys.lock()[slot(table)];
        match keys.iter().position(|known| known == key) {
            Some(0) => {}
            Some(at) => keys[..=at].rotate_right(1),
            None => {
                keys.truncate(BY_QUERY - 1);
                keys.insert(0, key.to_owned());
            }
        }
    }

    pub(crate) fn keys(&self, table: Table) -> Vec<String> {
        self.keys.lock()[slot(table)].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_last_stays() {
        let wanted = Wanted::default();
        (0..BY_QUERY + 5).for_each(|n| wanted.note(Table::Logs, &format!("k{n}")));
        wanted.note(Table::Logs, "k6");
        let keys = wanted.keys(Table::Logs);
        assert_eq!((keys.len(), keys[0].as_str(), keys[1].as_str()), (BY_QUERY, "k6", "k20"));
        assert!(!keys.contains(&"k0".to_owned()) && wanted.keys(Table::Spans).is_empty());
    }
}

//! The words that verdicts share.

use std::collections::BTreeSet;

use plimsoll_model::Design;
pub(crate) use plimsoll_model::sentence::grouped;

/// Names the control.
pub(crate) fn against(design: Design, versions: &BTreeSet<String>) -> String {
    match (design, versions.first()) {
        (Design::Concurrent, Some(version)) if versions.len() == 1 && !version.is_empty() => format!("on {version}"),
        (Design::Concurrent, _) => "on the other versions".to_owned(),
        (Design::Slo, _) => "that are tolerated".to_owned(),
        _ => "before the deploy".to_owned(),
    }
}

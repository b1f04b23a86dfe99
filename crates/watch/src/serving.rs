//! Which version serves as another one comes: the one that it replaces, unless somebody says otherwise.
//!
//! The catalog knows when versions were met first, and a canary that was taken back a minute ago was met last. So it is requests that
//! tell: of the versions that still had some in the last minute before the start, the one that had most.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_model::{Bucket, Interval, ServiceKey, UnixNanos};

use crate::source::SignalSource;
use crate::watcher::Watcher;

/// How far back requests are counted.
const COUNTED: Duration = Duration::from_secs(120);
/// What had none for so long serves no more.
const SILENT: Duration = Duration::from_secs(60);

/// Returns the version, of those that `counts` allows, that served most as `start` came; `None` where none did.
pub(crate) fn serving_at(
    signals: &(impl SignalSource + ?Sized),
    service: &ServiceKey,
    start: UnixNanos,
    counts: impl Fn(&str) -> bool,
) -> Option<String> {
    let series = signals.series(service, Interval { from: start - COUNTED, to: start });
    let mut served: BTreeMap<String, (u64, Bucket)> = BTreeMap::new();
    for series in series.into_iter().filter(|series| counts(&series.key.version)) {
        let (requests, last) = served.entry(series.key.version).or_insert((0, Bucket(0)));
        for (bucket, cell) in series.cells.iter().filter(|(_, cell)| cell.requests > 0) {
            *requests += cell.requests;
            *last = (*last).max(*bucket);
        }
    }
    let still = served.into_iter().filter(|(_, (_, last))| last.end() > start - SILENT);
    still.max_by_key(|(_, (requests, _))| *requests).map(|(version, _)| version)
}

impl Watcher {
    /// Returns the version other than `new` that served most as it started at `start`; `None` where nothing did.
    pub(crate) fn serving_before(&self, service: &ServiceKey, new: &str, start: UnixNanos) -> Option<String> {
        serving_at(self.signals.as_ref(), service, start, |version| version != new && !version.is_empty())
    }
}

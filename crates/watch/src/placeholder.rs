//! The verdict that stands where another deploy is judged instead.

use plimsoll_model::{UnixNanos, Verdict};
use plimsoll_verdict::unseen;

use crate::open::Open;

/// An inferred deploy that turned out to be announced: its marker carries the verdict.
pub(crate) fn announced_elsewhere(open: &Open, now: UnixNanos) -> Verdict {
    let deploy = &open.deploy;
    let revision = open.verdict.as_ref().map_or(0, |verdict| verdict.revision) + 1;
    Verdict {
        decided: true,
        decided_at: Some(now),
        data_quality: vec!["announced_elsewhere".to_owned()],
        summary: format!("{} {} is judged under the marker that announced it", deploy.service.service, deploy.version),
        revision,
        ..unseen(deploy, now)
    }
}

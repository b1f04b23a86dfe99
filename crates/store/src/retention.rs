//! What goes, and when: rules by table and environment, and the cap on disk space. Pure functions of times and sizes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use plimsoll_catalog::SegmentRecord;
use plimsoll_model::{SegmentId, UnixNanos};
use plimsoll_otlp::Table;

/// How long rows of a table, of an environment, or of one in the other are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// Only rows of this table.
    pub table: Option<Table>,
    /// Only rows of this environment.
    pub environment: Option<String>,
    /// By the time of receipt.
    pub keep: Duration,
}

/// The rules, and what holds where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retention<'a> {
    pub(crate) default: Duration,
    pub(crate) rules: &'a [RetentionRule],
}

/// What becomes of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stays as it is.
    Stay,
    /// All of its rows are too old.
    Go,
    /// The rows of these environments are.
    Lose(Vec<String>),
}

impl Retention<'_> {
    /// Returns how long rows are kept: what a rule says of both table and environment holds before one of the environment, that before
    /// one of the table; of two alike the later.
    pub(crate) fn keep(&self, table: Table, environment: &str) -> Duration {
        let fits = |rule: &&RetentionRule| {
            rule.table.is_none_or(|of| of == table) && rule.environment.as_deref().is_none_or(|of| of == environment)
        };
        let rank = |rule: &&RetentionRule| (rule.environment.is_some(), rule.table.is_some());
        self.rules.iter().filter(fits).max_by_key(rank).map_or(self.default, |rule| rule.keep)
    }

    /// Says what becomes of a segment. Which environments are in it is asked only where it matters; `None` where that cannot be told.
    pub(crate) fn fate(
        &self,
        table: Table,
        age: Duration,
        environments: impl FnOnce() -> Option<BTreeSet<String>>,
    ) -> Fate {
        let named = self.rules.iter().filter_map(|rule| rule.environment.as_deref());
        let keeps: Vec<Duration> = named.map(|environment| self.keep(table, environment)).collect();
        // Any other environment; no environment has a control character for a name.
        let others = self.keep(table, "\u{1}");
        let shortest = keeps.iter().copied().fold(others, Duration::min);
        let longest = keeps.iter().copied().fold(others, Duration::max);
        if age <= shortest {
            return Fate::Stay;
        }
        if age > longest {
            return Fate::Go;
        }
        let Some(environments) = environments() else { return Fate::Stay };
        let (gone, kept): (Vec<String>, Vec<String>) =
            environments.into_iter().partition(|environment| age > self.keep(table, environment));
        match (gone.is_empty(), kept.is_empty()) {
            (true, _) => Fate::Stay,
            (false, true) => Fate::Go,
            (false, false) => Fate::Lose(gone),
        }
    }
}

/// A clock that went ahead by more than this, against what the machine counts, is not believed at once.
const JUMP: Duration = Duration::from_secs(3_600);

/// How long it has to stay there.
const BELIEVED_AFTER: Duration = Duration::from_secs(6 * 3_600);

/// Whether the clock can be believed that rows are as old as it says: one that is set ahead by years would have everything removed
/// within a tick, and putting it right brings nothing back.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    /// What the clock said last that was believed, and when.
    wall: UnixNanos,
    at: Instant,
    doubted: Option<Instant>,
}

impl ClockWatch {
    /// Begins when the clock says `now`. Where it makes even the `newest` rows older than `keep`, the machine was off for long or its
    /// clock is wrong, and nobody can tell which.
    pub(crate) fn new(now: UnixNanos, at: Instant, newest: Option<UnixNanos>, keep: Duration) -> Self {
        let wall = newest.filter(|newest| now.since(*newest) > keep.max(JUMP)).unwrap_or(now);
        Self { wall, at, doubted: None }
    }

    /// Says whether the clock is in doubt when it says `now`.
    pub(crate) fn doubts(&mut self, now: UnixNanos, at: Instant) -> bool {
        let counted = at.saturating_duration_since(self.at);
        if now.since(self.wall) > counted.saturating_add(JUMP) {
            let since = *self.doubted.get_or_insert(at);
            if at.saturating_duration_since(since) < BELIEVED_AFTER {
                return true;
            }
        }
        *self = Self { wall: now, at, doubted: None };
        false
    }
}

/// Names the segments that go so that no more than `bytes_max` are left: the oldest first, telemetry before aggregates.
pub(crate) fn evicted(segments: &[(Table, &SegmentRecord)], bytes_max: u64) -> Vec<SegmentId> {
    let mut left: u64 = segments.iter().map(|(_, record)| record.bytes).sum();
    if left <= bytes_max {
        return Vec::new();
    }
    let aggregate = |table: Table| matches!(table, Table::Operations | Table::Signals);
    let mut order: Vec<(bool, UnixNanos, &SegmentRecord)> =
        segments.iter().map(|(table, record)| (aggregate(*table), record.received_to, *record)).collect();
    order.sort_by(|a, b| (a.0, a.1, &a.2.id).cmp(&(b.0, b.1, &b.2.id)));
    let mut gone = Vec::new();
    for (_, _, record) in order {
        if left <= bytes_max {
            break;
        }
        left -= record.bytes;
        gone.push(record.id.clone());
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_model::{Interval, SequenceNumber};

    const DAY: Duration = Duration::from_secs(86_400);

    fn rule(table: Option<Table>, environment: Option<&str>, days: u32) -> RetentionRule {
        RetentionRule { table, environment: environment.map(str::to_owned), keep: DAY * days }
    }

    #[test]
    fn the_rule_that_says_most_holds() {
        let rules = [
            rule(Some(Table::Logs), None, 3),
            rule(None, Some("staging"), 2),
            rule(Some(Table::Logs), Some("staging"), 1),
        ];
        let retention = Retention { default: DAY * 7, rules: &rules };
        let keep = |table, environment| retention.keep(table, environment).as_secs() / 86_400;
        assert_eq!([keep(Table::Spans, "prod"), keep(Table::Spans, "staging")], [7, 2]);
        assert_eq!([keep(Table::Logs, "prod"), keep(Table::Logs, "staging")], [3, 1]);
    }

    #[test]
    fn environments_are_asked_for_only_where_they_decide() {
        let rules = [rule(None, Some("staging"), 2), rule(None, Some("audit"), 30)];
        let retention = Retention { default: DAY * 7, rules: &rules };
        let unasked = || panic!("nobody needs to look");
        assert_eq!(retention.fate(Table::Spans, DAY, unasked), Fate::Stay);
        assert_eq!(retention.fate(Table::Spans, DAY * 31, unasked), Fate::Go);
        let holds = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>());
        let fate = |days: u32, names: &[&str]| retention.fate(Table::Spans, DAY * days, || holds(names));
        assert_eq!(fate(3, &["prod", "staging"]), Fate::Lose(vec!["staging".to_owned()]));
        assert_eq!(fate(3, &["prod"]), Fate::Stay);
        assert_eq!(fate(3, &["staging"]), Fate::Go);
        assert_eq!(fate(8, &["audit", "prod", "staging"]), Fate::Lose(vec!["prod".to_owned(), "staging".to_owned()]));
        assert_eq!(retention.fate(Table::Spans, DAY * 3, || None), Fate::Stay, "what cannot be told stays");
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_once_it_stayed_there_and_one_that_goes_on_always() {
        let begun = Instant::now();
        let second = |n: u64| (UnixNanos::from_secs(1_000_000 + n), begun + Duration::from_secs(n));
        let mut watch = ClockWatch::new(second(0).0, begun, None, DAY);
        for n in (0..100_000).step_by(10_000) {
            let (now, at) = second(n);
            assert!(!watch.doubts(now, at), "{n}: it goes as the machine counts");
            assert!(!watch.doubts(now - Duration::from_secs(50_000), at), "{n}: nothing is lost where it is set back");
            // Set right again: that looks like a jump for as long as it takes.
            watch = ClockWatch::new(now, at, None, DAY);
        }
        let jumped = |n: u64| (second(n).0 + DAY * 1_000, second(n).1);
        for n in [100_000, 110_000, 121_599] {
            assert!(watch.doubts(jumped(n).0, jumped(n).1), "{n}");
        }
        let mut corrected = ClockWatch { ..watch };
        assert!(!corrected.doubts(second(121_600).0, second(121_600).1), "it was put right");
        assert!(corrected.doubts(jumped(121_601).0, jumped(121_601).1));
        let mut stayed = ClockWatch { doubted: Some(second(100_000).1), ..corrected };
        assert!(!stayed.doubts(jumped(121_601).0, jumped(121_601).1), "it stayed there");
        assert!(!stayed.doubts(jumped(121_700).0, jumped(121_700).1));
    }

    #[test]
    fn a_start_at_which_all_rows_are_too_old_is_in_doubt() {
        let at = Instant::now();
        let newest = Some(UnixNanos::from_secs(1_000_000));
        let doubts = |days: u32| {
            let now = UnixNanos::from_secs(1_000_000) + DAY * days;
            ClockWatch::new(now, at, newest, DAY * 7).doubts(now, at)
        };
        assert_eq!([0, 6, 7, 8, 1_000].map(doubts), [false, false, false, true, true]);
    }

    #[test]
    fn the_oldest_go_first_and_aggregates_last() {
        let record = |number: u64, bytes: u64| SegmentRecord {
            id: SegmentId::new(UnixNanos::from_secs(number), u128::from(number)),
            table: String::new(),
            path: String::new(),
            rows: 1,
            bytes,
            times: Interval { from: UnixNanos(0), to: UnixNanos(1) },
            received_to: UnixNanos::from_secs(number),
            frames: (SequenceNumber(1), SequenceNumber(1)),
            created_at: UnixNanos::from_secs(number),
        };
        let records = [record(1, 10), record(2, 10), record(3, 10), record(4, 10)];
        let tables = [Table::Operations, Table::Logs, Table::Spans, Table::Spans];
        let all: Vec<(Table, &SegmentRecord)> = tables.into_iter().zip(&records).collect();
        let gone = |max: u64| evicted(&all, max).iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>();
        let ids: Vec<String> = records.iter().map(|record| record.id.as_str().to_owned()).collect();
        assert!(gone(40).is_empty());
        assert_eq!(gone(25), [ids[1].clone(), ids[2].clone()]);
        assert_eq!(gone(5), [ids[1].clone(), ids[2].clone(), ids[3].clone(), ids[0].clone()]);
    }
}

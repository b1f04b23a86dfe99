//! What no look at requests tells: logs, version paths, actions, metrics, starts and whom the candidate calls, asked for once a minute
//! while operations are carried on.
//!
//! The same tests as in a look at the whole, over the same time, held against the requests of all operations together. So it costs
//! as much as one operation, however many there are. Nothing is excused and no burst is known: at worst the whole is looked at for
//! nothing. What it finds is never told; it says that the whole has to be looked at.

use std::collections::BTreeMap;

use plimsoll_model::signal::{AgeClass, OperationCell, OperationKey, OperationKind, OperationSeries};
use plimsoll_model::{Bucket, ServiceAggregates, ServiceKey};

use crate::calls::CallCounts;
use crate::design::Frame;
use crate::fold::Fold;
use crate::input::JudgeInput;
use crate::subject::Subject;
use crate::tolerances::Tolerances;

/// Requests of all operations of one service, by version.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served(BTreeMap<String, BTreeMap<Bucket, u64>>);

impl Served {
    /// Adds what `series` say of `service` from bucket `from` on and before `to`.
    pub(crate) fn add(&mut self, service: &ServiceKey, series: &[OperationSeries], from: Bucket, to: Bucket) {
        for series in series.iter().filter(|series| series.key.service == *service) {
            let fresh = series.cells.partition_point(|(bucket, _)| *bucket < from);
            let fresh = series.cells[fresh..].iter().take_while(|(bucket, _)| *bucket < to);
            let mut fresh = fresh.filter(|(_, cell)| cell.requests > 0).peekable();
            if fresh.peek().is_none() {
                continue;
            }
            if !self.0.contains_key(&series.key.version) {
                self.0.insert(series.key.version.clone(), BTreeMap::new());
            }
            let Some(buckets) = self.0.get_mut(&series.key.version) else { continue };
            let Some((next, _)) = fresh.peek().copied() else { continue };
            // Both ascend, and mostly hold the same buckets.
            let mut known = buckets.range_mut(*next..).peekable();
            let mut new = Vec::new();
            for (bucket, cell) in fresh {
                while known.next_if(|(at, _)| **at < *bucket).is_some() {}
                match known.next_if(|(at, _)| **at == *bucket) {
                    Some((_, requests)) => *requests += cell.requests,
                    None => new.push((*bucket, cell.requests)),
                }
            }
            new.into_iter().for_each(|(bucket, requests)| *buckets.entry(bucket).or_default() += requests);
        }
    }

    /// Says whether `series` know of more requests in a bucket from `from` on and before `to`, by a tenth at least, than were added.
    pub(crate) fn is_less(&self, service: &ServiceKey, series: &[OperationSeries], from: Bucket, to: Bucket) -> bool {
        let own = || series.iter().filter(|series| series.key.service == *service);
        (from.0..to.0).map(Bucket).any(|bucket| {
            let of = |series: &OperationSeries| {
                let at = series.cells.binary_search_by_key(&bucket, |(bucket, _)| *bucket);
                at.map_or(0, |at| series.cells[at].1.requests)
            };
            let now: u64 = own().map(of).sum();
            let added: u64 = self.0.values().filter_map(|buckets| buckets.get(&bucket)).sum();
            now > added && 10 * (now - added) > added
        })
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|(version, buckets)| 64 + version.len() + 24 * buckets.len()).sum()
    }

    /// Returns them as if they were of one operation.
    fn series(&self, service: &ServiceKey) -> Vec<OperationSeries> {
        let series = self.0.iter().map(|(version, buckets)| OperationSeries {
            key: OperationKey {
                service: service.clone(),
                version: version.clone(),
                operation: String::new(),
                kind: OperationKind::Server,
                age: AgeClass::Warm,
            },
            cells: buckets
                .iter()
                .map(|(bucket, requests)| (*bucket, OperationCell { requests: *requests, ..OperationCell::default() }))
                .collect(),
        });
        series.collect()
    }
}

/// Says whether an operation of the candidate calls somebody by as much more or less than the control does as is not tolerated, in
/// `series` of late: traces are closed after their requests are folded, so that these are known only now.
pub(crate) fn calls_otherwise(fold: &Fold, series: &[OperationSeries], tolerances: &Tolerances) -> bool {
    let mut lately: BTreeMap<usize, CallCounts> = BTreeMap::new();
    for series in series.iter().filter(|s| s.key.service == fold.frame.service && s.key.version == fold.frame.version) {
        let Some(operation) = fold.find(&series.key) else { continue };
        series.cells.iter().for_each(|(_, cell)| lately.entry(operation).or_default().add(cell));
    }
    lately.iter().any(|(operation, counts)| fold.operations[*operation].calls.differ(counts, tolerances))
}

/// Says whether anything beside requests exceeds what is tolerated, by `aggregates` of the whole time and requests `served`.
pub(crate) fn is_loud(frame: &Frame, served: &Served, aggregates: ServiceAggregates, input: &JudgeInput) -> bool {
    let input = JudgeInput {
        aggregates,
        gaps: input.gaps.clone(),
        suppressed: input.suppressed.clone(),
        tolerances: input.tolerances.clone(),
        ..JudgeInput::new(input.deploy.clone(), input.now, served.series(&frame.service))
    };
    let mut fold = Fold::new(frame.clone(), &input);
    fold.advance(&input);
    let beside = |subject: Subject| match subject {
        Subject::NewLog(_)
        | Subject::LogErrors
        | Subject::LogFlow(_)
        | Subject::Action(_)
        | Subject::Path(_)
        | Subject::Metric(_)
        | Subject::Restarts => true,
        Subject::Errors(_)
        | Subject::Latency(_)
        | Subject::Alone(_)
        | Subject::Calls(..)
        | Subject::New(_)
        | Subject::Throughput
        | Subject::Silence => false,
    };
    fold.subjects().into_iter().any(|(subject, _)| {
        beside(subject) && fold.standing(subject).exceeded_at.is_some() && !fold.is_suppressed(subject)
    })
}

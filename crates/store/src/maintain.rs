//! The thread that flushes, coalesces, merges, retires and removes.
//!
//! It alone takes rows out of the tail and segments out of the view. All of its work is synchronous but for the catalog,
//! which it drives on a runtime of its own, so that nothing of it runs on the callers' threads.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_catalog::{Catalog, SegmentChange, SegmentRecord};
use plimsoll_model::{SegmentId, SequenceNumber};
use plimsoll_otlp::Table;
use tokio::runtime::Runtime;

use crate::chunk::Crew;
use crate::coalesce::coalesce;
use crate::compact::{Compactor, Job};
use crate::error::StoreError;
use crate::flush::{Sealed, SegmentCount, apply, seal, segment_id, show, unreadable};
use crate::layout::FLUSHED;
use crate::merge::{self, Failed};
use crate::plan::{Candidate, plan};
use crate::retention::{ClockWatch, Fate, Retention, evicted};
use crate::shared::{Requests, Shared};
use crate::trim::{self, environments};
use crate::written::Costs;

/// How much of the tail a flush takes, in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// Parts that are full.
    Parts,
    /// All that is folded.
    Folded,
    /// All that was published.
    Everything,
}

/// How often age, space and small batches are looked at.
const TICK: Duration = Duration::from_millis(250);
/// Merging waits for this long after the tail was full: processors have better things to do then.
const CALM: Duration = Duration::from_secs(5);
/// It does not wait where a table has so many segments.
const BACKLOG: usize = 128;
/// A flush that failed is tried again after this long, then twice as long, up to the limit.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// The limit while space is missing: clients come again after two seconds, and only a flush tells that there is space.
const RETRY_FULL: Duration = Duration::from_secs(2);

pub(crate) struct Maintenance {
    pub(crate) shared: Arc<Shared>,
    catalog: Arc<dyn Catalog>,
    runtime: Runtime,
    trim: Box<dyn Fn(SequenceNumber) + Send + Sync>,
    /// Segments whose files are missing; they leave the catalog when they are too old.
    missing: Vec<SegmentRecord>,
    /// Files are durable, the commit has not been confirmed.
    sealed: Option<Sealed>,
    retry: Option<(Instant, Duration)>,
    /// The last flush met a full disk, whatever the system says is free.
    out_of_space: bool,
    /// A merge whose file is durable and whose commit has not been confirmed.
    merged: Option<SegmentChange>,
    /// Segments that could not be read; they are left alone until the next start.
    unreadable: HashSet<SegmentId>,
    segments: SegmentCount,
    /// What the columns of earlier flushes cost.
    costs: Costs,
    /// What segments hold whose age makes that matter.
    environments: HashMap<SegmentId, BTreeSet<String>>,
    /// The next one to trim.
    trims: Vec<trim::Job>,
    compactor: Compactor,
    /// When a flush was last due because the tail was full.
    pressed: Option<Instant>,
    clock: ClockWatch,
}

impl Maintenance {
    pub(crate) fn new(
        shared: Arc<Shared>,
        catalog: Arc<dyn Catalog>,
        runtime: Runtime,
        trim: Box<dyn Fn(SequenceNumber) + Send + Sync>,
        missing: Vec<SegmentRecord>,
    ) -> io::Result<Self> {
        let compactor = Compactor::start(Arc::clone(&shared))?;
        let view = shared.view.load_full();
        let stored = Table::ALL.into_iter().flat_map(|table| view.segments(table).iter());
        let newest = stored.map(|segment| segment.record.received_to).max();
        let clock = ClockWatch::new((shared.clock)(), Instant::now(), newest, shared.options.retention);
        Ok(Self {
            shared,
            catalog,
            runtime,
            trim,
            missing,
            sealed: None,
            retry: None,
            out_of_space: false,
            merged: None,
            unreadable: HashSet::new(),
            segments: 0,
            costs: Costs::default(),
            environments: HashMap::new(),
            trims: Vec::new(),
            compactor,
            pressed: None,
            clock,
        })
    }

    /// The thread's work, until the store is closed or dropped.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _end = End(&shared);
        loop {
            let asked = self.wait();
            if asked.abandon {
                return;
            }
            let flushed = (!asked.flush.is_empty() || asked.close.is_some()).then(|| self.flush(Extent::Everything));
            if flushed.is_none()
                && let Some(extent) = self.due(asked.large)
            {
                // Counted and logged inside; the rows stay in the tail.
                let _ = self.flush(extent);
            }
            if asked.large {
                self.pressed = Some(Instant::now());
            }
            self.tidy(!asked.maintain.is_empty());
            for waiter in asked.flush {
                let answer = match &flushed {
                    Some(Err(problem)) => Err(problem.again()),
                    _ => Ok(self.shared.view.load().checkpoint),
                };
                let _ = waiter.send(answer);
            }
            for waiter in asked.maintain {
                let _ = waiter.send(());
            }
            if let Some(closer) = asked.close {
                self.shared.folding.stop();
                self.settle();
                let _ = closer.send(flushed.unwrap_or(Ok(SequenceNumber::ZERO)).map(|_| ()));
                return;
            }
        }
    }

    fn wait(&self) -> Requests {
        let mut requests = self.shared.requests.lock();
        let asked =
            |r: &Requests| !r.flush.is_empty() || !r.maintain.is_empty() || r.close.is_some() || r.large || r.abandon;
        if !asked(&requests) {
            self.shared.wake.wait_for(&mut requests, TICK);
        }
        std::mem::take(&mut requests)
    }

    /// Says how much is to be flushed because the tail is large or old, or because the disk was full at the last flush, unless a failed flush
    /// is being waited for.
    fn due(&self, large: bool) -> Option<Extent> {
        if self.retry.is_some_and(|(at, _)| Instant::now() < at) {
            return None;
        }
        let (view, options) = (self.shared.view.load(), &self.shared.options);
        let oldest = view.tails().filter_map(|(_, tail)| tail.iter().next().map(|batch| batch.at)).min();
        let old = oldest.is_some_and(|at| (self.shared.clock)().since(at) >= options.tail_age_flush);
        let large = large || view.tail_bytes() >= options.tail_bytes_flush as u64;
        let large = large && self.shared.folding.has_cut();
        match (old || self.out_of_space, large && oldest.is_some() || self.sealed.is_some()) {
            (true, _) => Some(Extent::Folded),
            (false, true) => Some(Extent::Parts),
            (false, false) => None,
        }
    }

    fn flush(&mut self, extent: Extent) -> Result<SequenceNumber, StoreError> {
        let outcome = self.try_flush(extent);
        let mut counters = self.shared.counters.lock();
        match &outcome {
            Ok(_) => {
                self.retry = None;
                self.out_of_space = false;
                counters.last_flush_error.clear();
            }
            Err(problem) => {
                self.out_of_space = problem.is_full();
                // The catalog does not say what it lacks.
                let full = self.out_of_space || counters.disk_full;
                let longest = if full { RETRY_FULL } else { RETRY_LAST };
                let pause = self.retry.map_or(RETRY_FIRST, |(_, pause)| (pause * 2).min(longest));
                self.retry = Some((Instant::now() + pause, pause));
                counters.flush_failures += 1;
                counters.last_flush_error = problem.to_string();
                tracing::error!(error = %problem, retry_ms = pause.as_millis(), "flush failed; the rows stay in memory and in the journal");
            }
        }
        outcome
    }

    #[tracing::instrument(name = "flush", skip_all)]
    fn try_flush(&mut self, extent: Extent) -> Result<SequenceNumber, StoreError> {
        self.finish()?;
        let published = self.shared.view.load().published;
        if extent == Extent::Everything && !self.shared.folding.wait(published) {
            return Err(StoreError::Closed);
        }
        // What is there now, and not what comes meanwhile: others wait for this thread as well.
        let folded = self.shared.folding.folded();
        // For all parts, and no longer.
        let crew = Crew::new(FLUSHED, self.shared.options.encoders);
        let mut crew = crew.map_err(|problem| unreadable("the encoder", &problem))?;
        while let Some(cut) = self.shared.folding.cut(&self.shared, extent != Extent::Parts) {
            self.sealed = seal(&self.shared, cut, &mut crew, &mut self.costs, &mut self.segments)?;
            self.finish()?;
            self.shared.folding.flushed(cut);
            if cut >= folded {
                break;
            }
        }
        Ok(self.shared.view.load().checkpoint)
    }

    /// Commits what is sealed, shows it and lets the journal go.
    fn finish(&mut self) -> Result<(), StoreError> {
        let Some(sealed) = &self.sealed else { return Ok(()) };
        let committed = self.runtime.block_on(self.catalog.commit_segments(sealed.change.clone()));
        // Until it is tried again nothing goes on.
        committed.inspect_err(|_| self.shared.written.end())?;
        show(&self.shared, sealed);
        self.shared.counters.lock().flushes += 1;
        self.sealed = None;
        let checkpoint = self.shared.view.load().checkpoint;
        tracing::debug!(%checkpoint, "flushed");
        (self.trim)(checkpoint);
        Ok(())
    }

    /// Everything but flushing. Nothing here is urgent: what fails is tried again at the next tick.
    fn tidy(&mut self, asked: bool) {
        self.measure();
        // What is sealed ends at a frame that is no cut any more: a batch made across it would stay whole, and be there twice once
        // the commit is confirmed.
        if self.sealed.is_none()
            && let Err(problem) = coalesce(&self.shared)
        {
            tracing::error!(error = %problem, "small batches could not be coalesced");
        }
        // A merge that may or may not have happened comes first: retiring one of its inputs would bring it back.
        if let Err(problem) = self.merge(asked).and_then(|()| self.retire(asked)) {
            tracing::warn!(error = %problem, "segments could not be merged or retired; tried again at the next tick");
        }
        self.sweep();
    }

    fn measure(&self) {
        match self.shared.files.free_bytes() {
            Ok(free) => {
                let full = free < self.shared.options.disk_reserve_bytes || self.out_of_space;
                let mut counters = self.shared.counters.lock();
                if full != counters.disk_full {
                    tracing::warn!(full, free, "disk space");
                }
                counters.disk_full = full;
            }
            Err(problem) => tracing::warn!(error = %problem, "free space of the store cannot be told"),
        }
    }

    /// Commits a merge that has ended and begins another where there is one; where `asked` for, waits for it.
    fn merge(&mut self, asked: bool) -> Result<(), StoreError> {
        if self.merged.is_none()
            && !self.compactor.busy()
            && let Some(job) = self.trims.pop().map(Job::Trim).or_else(|| self.next_merge(asked))
        {
            self.compactor.begin(job);
        }
        if self.merged.is_none() {
            match self.compactor.outcome(asked) {
                Some(Ok(change)) => self.merged = change,
                Some(Err(Failed { damaged, problem })) => {
                    self.unreadable.extend(damaged);
                    self.shared.counters.lock().unreadable_segments = self.unreadable.len() as u64;
                    return Err(problem);
                }
                None => {}
            }
        }
        self.adopt()
    }

    /// Ends what is under way before the store closes. What was merged by then is taken and what it replaces removed, so that the
    /// files hold every row once for whoever reads them without the catalog.
    fn settle(&mut self) {
        self.compactor.interrupt();
        if self.merged.is_none()
            && let Some(Ok(change)) = self.compactor.outcome(true)
        {
            self.merged = change;
        }
        if let Err(problem) = self.adopt() {
            tracing::warn!(error = %problem, "a merge could not be committed; its inputs stay");
        }
        self.sweep();
    }

    /// Commits a merge whose file is written.
    fn adopt(&mut self) -> Result<(), StoreError> {
        let Some(change) = self.merged.take() else { return Ok(()) };
        let view = self.shared.view.load_full();
        let live: HashMap<&SegmentId, u64> = Table::ALL
            .into_iter()
            .flat_map(|table| view.segments(table).iter())
            .map(|segment| (&segment.record.id, segment.record.rows))
            .collect();
        if !change.remove.iter().all(|id| live.contains_key(id)) {
            // An input was retired meanwhile: the output would bring it back.
            self.shared.garbage.lock().extend(change.add.into_iter().map(|record| record.path));
            return Ok(());
        }
        if let Err(problem) = self.runtime.block_on(self.catalog.commit_segments(change.clone())) {
            self.merged = Some(change);
            return Err(problem.into());
        }
        self.shared.change(|view| apply(&self.shared, view, &change));
        let before: u64 = change.remove.iter().filter_map(|id| live.get(id)).sum();
        let after: u64 = change.add.iter().map(|record| record.rows).sum();
        let mut counters = self.shared.counters.lock();
        // Only trimming leaves fewer.
        counters.retired_rows += before - after.min(before);
        counters.merged_segments += if before == after { change.remove.len() as u64 } else { 0 };
        counters.merged_rows += after;
        counters.merged_bytes += change.add.iter().map(|record| record.bytes).sum::<u64>();
        tracing::debug!(inputs = change.remove.len(), rows = after, "segments written again");
        Ok(())
    }

    /// Says what to merge next. While the tail fills faster than by age, only a long backlog is worked on, unless `asked`.
    fn next_merge(&mut self, asked: bool) -> Option<Job> {
        if self.shared.counters.lock().disk_full {
            return None;
        }
        let pressed = !asked && self.pressed.is_some_and(|at| at.elapsed() < CALM);
        let now = (self.shared.clock)();
        let view = self.shared.view.load_full();
        for table in Table::ALL {
            let readable = view.segments(table).iter().map(|segment| &segment.record);
            let records: Vec<&SegmentRecord> =
                readable.filter(|record| !self.unreadable.contains(&record.id)).collect();
            if pressed && records.len() < BACKLOG {
                continue;
            }
            let candidates: Vec<_> = records.iter().map(|record| Candidate::of(record)).collect();
            let Some(run) = plan(&candidates, now) else { continue };
            let inputs: Vec<SegmentRecord> = records[run].iter().map(|record| (*record).clone()).collect();
            let last = inputs.iter().map(|record| record.frames.1).max().unwrap_or_default();
            let id = segment_id(&self.shared, table, last, &mut self.segments);
            let wanted = self.shared.wanted.keys(table);
            return Some(Job::Merge(merge::Job { table, inputs, id, wanted }));
        }
        None
    }

    /// Removes segments whose rows are all too old, has those trimmed of which some are, and removes the oldest where there are too
    /// many bytes. Age counts only where the clock can be believed, or where it is `asked` for.
    fn retire(&mut self, asked: bool) -> Result<(), StoreError> {
        let now = (self.shared.clock)();
        let doubted = self.clock.doubts(now, Instant::now()) && !asked;
        {
            let mut counters = self.shared.counters.lock();
            if doubted && !counters.clock_doubted {
                tracing::warn!(
                    clock = %now,
                    "the clock went ahead, or all rows are older than `store.retention`: none are removed for their age before the clock has stayed there for six hours"
                );
            }
            counters.clock_doubted = doubted;
        }
        let options = &self.shared.options;
        let retention = Retention { default: options.retention, rules: &options.retention_rules };
        let view = self.shared.view.load_full();
        let live = || {
            Table::ALL
                .into_iter()
                .flat_map(|table| view.segments(table).iter().map(move |segment| (table, &segment.record)))
        };
        let mut goes: Vec<&SegmentRecord> = Vec::new();
        for (table, record) in live().filter(|_| !doubted) {
            let age = now.since(record.received_to);
            let known = self.environments.get(&record.id).cloned();
            let mut read = None;
            let environments = || match known {
                Some(known) => Some(known),
                None => {
                    let found = environments(&self.shared, record);
                    let told =
                        found.map_err(|error| tracing::warn!(%error, "environments of a segment cannot be told"));
                    // What cannot be read is not tried again before the next start.
                    read = Some(told.unwrap_or_default());
                    read.clone()
                }
            };
            match retention.fate(table, age, environments) {
                Fate::Stay => {}
                Fate::Go => goes.push(record),
                Fate::Lose(environments) => {
                    let readable = !self.unreadable.contains(&record.id);
                    if readable && self.trims.is_empty() && !self.compactor.busy() {
                        let id = segment_id(&self.shared, table, record.frames.1, &mut self.segments);
                        self.trims.push(trim::Job { table, input: record.clone(), id, environments });
                    }
                }
            }
            if let Some(read) = read {
                self.environments.insert(record.id.clone(), read);
            }
        }
        let old = |record: &&SegmentRecord| {
            let longest = options.retention_rules.iter().map(|rule| rule.keep).fold(options.retention, Duration::max);
            now.since(record.received_to) > longest
        };
        let lost: Vec<&SegmentRecord> = self.missing.iter().filter(|_| !doubted).filter(old).collect();
        let retired: HashSet<&SegmentId> = goes.iter().map(|record| &record.id).collect();
        let left: Vec<(Table, &SegmentRecord)> = live().filter(|(_, record)| !retired.contains(&record.id)).collect();
        let evicted = evicted(&left, options.disk_bytes_max);
        if goes.is_empty() && lost.is_empty() && evicted.is_empty() {
            return Ok(());
        }
        let mut change = SegmentChange {
            remove: goes.iter().chain(&lost).map(|record| record.id.clone()).collect(),
            ..SegmentChange::default()
        };
        change.remove.extend(evicted.iter().cloned());
        self.runtime.block_on(self.catalog.commit_segments(change.clone()))?;
        self.shared.change(|view| apply(&self.shared, view, &change));
        let rows: u64 = goes.iter().map(|record| record.rows).sum();
        let evicted_rows: u64 =
            left.iter().filter(|(_, record)| evicted.contains(&record.id)).map(|(_, record)| record.rows).sum();
        let mut counters = self.shared.counters.lock();
        counters.retired_segments += goes.len() as u64;
        counters.retired_rows += rows;
        counters.evicted_segments += evicted.len() as u64;
        counters.evicted_rows += evicted_rows;
        drop(counters);
        if !goes.is_empty() {
            tracing::info!(segments = goes.len(), rows, "segments older than `store.retention` removed");
        }
        if !evicted.is_empty() {
            tracing::warn!(
                segments = evicted.len(),
                rows = evicted_rows,
                "oldest segments removed to keep to `store.disk_max`"
            );
        }
        self.missing.retain(|record| !change.remove.contains(&record.id));
        change.remove.iter().for_each(|id| drop(self.environments.remove(id)));
        let missing = Arc::new(self.missing.clone());
        self.shared.change(|view| view.missing = missing);
        Ok(())
    }

    /// Removes files that nobody reads any more.
    fn sweep(&self) {
        let paths = std::mem::take(&mut *self.shared.garbage.lock());
        for path in paths {
            if let Err(problem) = self.shared.files.remove(&path) {
                tracing::warn!(path, error = %problem, "file could not be removed; it goes at the next start");
            }
        }
    }
}

/// Answers those who still wait, also where the thread panicked: dropping a sender is an answer.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("maintenance stopped for good: rows are kept in the journal, restart to go on");
        }
        let mut requests = self.0.requests.lock();
        *requests = Requests { ended: true, ..Requests::default() };
        drop(requests);
        self.0.folding.stop();
    }
}

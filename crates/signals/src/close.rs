//! What a trace tells once it is closed: blame, self-time, callees, internal operations and the exceptions that waited.
//!
//! Everything goes into the cell of the bucket in which the request itself ended.

use plimsoll_model::signal::{CalleeTime, Fingerprint, OperationKind};

use crate::assembly::{Assembly, NONE};
use crate::path_counts::PathsAtHand;
use crate::quality::Word;
use crate::registry::{NO_NAME, OTHER_NAME, SeriesKey};
use crate::spans::RequestSpan;
use crate::state::SignalState;
use crate::traces::{ClosedTrace, OpenSpan, OpenTraces, Role, TakenOut};

/// The room that closing takes; made once and used for every trace.
#[derive(Default)]
pub(crate) struct Closing {
    assembly: Assembly,
    paths: PathsAtHand,
    at_hand: TakenOut,
    next: TakenOut,
}

impl SignalState {
    /// Closes the traces whose last arrival is not after `before`.
    pub(crate) fn close_until(&mut self, before: u64) {
        self.close_all(|traces, next| traces.take_idle(before, next), |_| ());
    }

    /// Closes traces until there is room for the others: the longest idle of those that make room, else of all. More of them may come.
    pub(crate) fn make_room(&mut self) {
        let limits = &self.registry.limits;
        let room = [limits.open_spans_max, limits.open_exceptions_max];
        if self.traces.open_spans() <= room[0] && self.traces.open_exceptions() <= room[1] {
            return;
        }
        self.traces.makes_room(self.watermark);
        let take = |traces: &mut OpenTraces, next: &mut TakenOut| traces.take_over(room, next);
        let evicted = self.close_all(take, |trace| (trace.partial, trace.yielded) = (true, true));
        self.registry.counters.traces_evicted += evicted;
    }

    /// Closes all that are taken, each as `mark` leaves it; returns how many.
    fn close_all(&mut self, take: impl Fn(&mut OpenTraces, &mut TakenOut), mark: impl Fn(&mut ClosedTrace)) -> u64 {
        let mut closing = self.closing.take().unwrap_or_default();
        let Closing { assembly, paths, at_hand, next } = &mut *closing;
        let mut count = 0;
        loop {
            // While one is closed, memory brings what was kept of those after it.
            take(&mut self.traces, next);
            for trace in at_hand.traces() {
                mark(trace);
                self.close(assembly, paths, trace);
                self.traces.find_spans(next);
                count += 1;
            }
            while self.traces.find_spans(next) {}
            std::mem::swap(at_hand, next);
            if at_hand.traces().is_empty() {
                break;
            }
        }
        self.closing = Some(closing);
        count
    }

    /// Counts what a trace tells that was taken out.
    fn close(&mut self, assembly: &mut Assembly, paths: &mut PathsAtHand, trace: &mut ClosedTrace) {
        let (registry, traces) = (&self.registry, &self.traces);
        let slots = trace.spans.as_slice();
        assembly.run(
            slots.len(),
            |at| traces.span(slots[at]),
            |version| {
                let service = registry.versions.key(version).service;
                (service, registry.service[service as usize].serves)
            },
        );
        let counters = &mut self.registry.counters;
        counters.duplicate_spans += assembly.duplicates;
        counters.parent_cycles += assembly.cycles;
        if trace.partial {
            counters.traces_partial += 1;
        } else if !trace.spans.is_empty() {
            counters.traces_assembled += 1;
        }

        for at in &assembly.requests {
            let node = &mut assembly.nodes[*at as usize];
            if node.span.role == Role::MayRoot {
                self.count_internal(trace.id, &mut node.span);
            }
        }
        if !trace.partial {
            self.assign(assembly);
            self.count_paths(assembly, paths, trace.id);
            self.judge_quality(assembly);
        }
        if trace.yielded {
            self.say_of_all(assembly, Word::DrawnTraces);
        }
        self.count_waiting(assembly, trace);
    }

    fn count_internal(&mut self, trace: u128, span: &mut OpenSpan) {
        let service = self.registry.versions.key(span.version).service;
        span.what = self.registry.operation_id(service, OperationKind::Internal, span.what);
        span.series = self.registry.series_id(SeriesKey { version: span.version, operation: span.what, age: span.age });
        self.count_request(&RequestSpan {
            version: span.version,
            series: span.series,
            bucket: u64::from(span.bucket),
            start: span.start,
            end: span.end,
            trace,
            span: span.id,
            class: span.failed.then_some(span.class),
            weight: u64::from(span.weight),
            values: &[],
        });
    }

    /// Assigns blame and time.
    fn assign(&mut self, assembly: &Assembly) {
        let (max, other) = (self.registry.limits.entries_per_cell_max, self.registry.other_party);
        let span_of = |at: u32| &assembly.nodes[at as usize].span;
        for &at in &assembly.requests {
            let node = &assembly.nodes[at as usize];
            let OpenSpan { version, series, bucket, failed, .. } = node.span;
            let blamed = failed.then(|| {
                let origin = assembly.origin_of(at);
                let request = assembly.request_of(origin);
                let operation = (request != NONE).then(|| span_of(request).what);
                (self.registry.party_id(span_of(origin).version, operation), request == at)
            });
            let Some(cell) = self.cell_of(series, u64::from(bucket)) else { continue };
            cell.record_self_time(node.self_ns);
            if let Some((party, own)) = blamed {
                cell.error_origins += u64::from(own);
                let recorded = cell.record_blame(party, max, other);
                self.registry.note_edge(version, party, u64::from(bucket), recorded);
                if own && let Some((party, time)) = self.unanswered_of(assembly, at) {
                    let Some(cell) = self.cell_of(series, u64::from(bucket)) else { continue };
                    let recorded = cell.record_callee(party, time, max, other);
                    self.registry.note_edge(version, party, u64::from(bucket), recorded);
                }
            }
        }
        for call in &assembly.calls {
            let OpenSpan { version, what, .. } = *span_of(call.callee);
            let party = self.registry.party_id(version, Some(what));
            let time = CalleeTime { calls: 1, critical_ns: call.critical_ns };
            let OpenSpan { version, series, bucket, .. } = *span_of(call.caller);
            let Some(cell) = self.cell_of(series, u64::from(bucket)) else { continue };
            let recorded = cell.record_callee(party, time, max, other);
            self.registry.note_edge(version, party, u64::from(bucket), recorded);
        }
        for (request, call, critical_ns) in assembly.overcome_calls() {
            let party = self.registry.unanswered_party(span_of(call).what, true);
            let OpenSpan { version, series, bucket, .. } = *span_of(request);
            let Some(cell) = self.cell_of(series, u64::from(bucket)) else { continue };
            let recorded = cell.record_callee(party, CalleeTime { calls: 1, critical_ns }, max, other);
            self.registry.note_edge(version, party, u64::from(bucket), recorded);
        }
    }

    /// Returns whom the call was meant for in which a request's failure began and that nobody answered in time, with what it took.
    fn unanswered_of(&mut self, assembly: &Assembly, request: u32) -> Option<(u32, CalleeTime)> {
        let (call, served, critical_ns) = assembly.unanswered_call(request)?;
        let mut name = assembly.nodes[call as usize].span.what;
        let named = name > NO_NAME;
        if named && served != NONE {
            // Whoever was too late is known.
            let service = self.registry.versions.key(assembly.nodes[served as usize].span.version).service;
            let service = self.registry.services.key(service).service.clone();
            name = self.registry.name_id(&service);
        }
        named.then(|| (self.registry.unanswered_party(name, false), CalleeTime { calls: 1, critical_ns }))
    }

    /// Says a word of each service that has a span in a trace.
    fn say_of_all(&mut self, assembly: &Assembly, word: Word) {
        for version in &assembly.versions {
            let service = self.registry.versions.key(*version).service;
            self.registry.service[service as usize].quality.say(word, self.watermark);
        }
    }

    /// Says of services what their spans in a whole trace showed.
    fn judge_quality(&mut self, assembly: &Assembly) {
        let at = self.watermark;
        for (services, word) in [
            (&assembly.duplicated, Word::DuplicateSpans),
            (&assembly.orphaned, Word::BrokenParents),
            (&assembly.skewed, Word::ClockSkew),
        ] {
            services.iter().for_each(|service| self.registry.service[*service as usize].quality.say(word, at));
        }
    }

    /// Counts exceptions once a request and fingerprint.
    fn count_waiting(&mut self, assembly: &Assembly, trace: &mut ClosedTrace) {
        // Their room goes with them: nothing bounds it any more.
        let mut exceptions = std::mem::take(&mut trace.exceptions);
        if exceptions.is_empty() {
            return;
        }
        // In an order of their own, so that the order of arrival does not show.
        exceptions.sort_unstable_by(|a, b| {
            let key = |e: &crate::traces::OpenException| (!e.counted, e.span, e.fingerprint, e.bucket);
            key(a).cmp(&key(b)).then_with(|| a.seen.message.cmp(&b.seen.message))
        });
        let mut counted: Vec<(u32, u64, Fingerprint)> = Vec::new();
        for waiting in &exceptions {
            let at = assembly.find(waiting.span).unwrap_or(NONE);
            let request = if at == NONE { NONE } else { assembly.request_of(at) };
            let once = (request, if request == NONE { waiting.span } else { 0 }, waiting.fingerprint);
            if counted.contains(&once) {
                continue;
            }
            counted.push(once);
            if waiting.counted {
                continue;
            }
            let (version, operation, age, bucket) = if request == NONE {
                let service = self.registry.versions.key(waiting.version).service;
                (waiting.version, self.service_operation(service), waiting.age, waiting.bucket)
            } else {
                let span = assembly.nodes[request as usize].span;
                (span.version, span.what, span.age, u64::from(span.bucket))
            };
            self.count_exception(version, operation, age, bucket, waiting.fingerprint, &waiting.seen);
        }
    }

    /// Frees the numbers that nothing refers to any more.
    pub(crate) fn collect_garbage(&mut self) {
        let registry = &self.registry;
        let mut series = vec![false; registry.series.span()];
        let mut names = vec![false; registry.names.span().max(2)];
        let mut values = vec![false; registry.values.span().max(1)];
        values[OTHER_NAME as usize] = true;
        self.drill_keys.each().for_each(|(_, name)| names[name as usize] = true);
        self.drill_columns.iter().for_each(|name| names[*name as usize] = true);
        let mut metrics = vec![false; self.metric_names.span()];
        self.sides.metrics.keys().for_each(|key| metrics[key.metric as usize] = true);
        // Names without end would hold their places for days.
        self.sides.forget_metric_past(&metrics);
        let mut parties = vec![false; registry.parties.span()];
        parties[registry.other_party as usize] = true;
        let mut versions = vec![false; registry.versions.span()];
        let mut operations = vec![false; registry.operations.span()];
        names[OTHER_NAME as usize] = true;
        names[NO_NAME as usize] = true;
        let mut keep = |cell: &crate::cell::Cell| {
            let counted = cell.values.0.iter().map(|entry| (entry.attribute, entry.value));
            // Stored rows may have attributes that are not looked for any more.
            for (attribute, value) in counted.chain(cell.drawn()) {
                names[attribute as usize] = true;
                values[value as usize] = true;
            }
            if let Some(rare) = &cell.rare {
                rare.classes.0.iter().for_each(|(class, _)| names[*class as usize] = true);
            }
        };
        self.sides.arms.each_cell(&mut keep);
        self.cells.each_cell(|id, cell| {
            series[id as usize] = true;
            keep(cell);
            cell.callees.iter().for_each(|(party, _)| parties[*party as usize] = true);
            if let Some(rare) = &cell.rare {
                rare.blame.0.iter().for_each(|(party, _)| parties[*party as usize] = true);
            }
        });
        self.traces.each_span(|span| {
            versions[span.version as usize] = true;
            names[span.class as usize] = true;
            match span.role {
                Role::Server | Role::Consumer => operations[span.what as usize] = true,
                _ => names[span.what as usize] = true,
            }
            if span.series != OpenSpan::NONE {
                series[span.series as usize] = true;
            }
        });
        self.belated.versions().for_each(|version| versions[version as usize] = true);
        for (_, key) in registry.series.iter().filter(|(id, _)| series[*id as usize]) {
            versions[key.version as usize] = true;
            operations[key.operation as usize] = true;
        }
        self.traces.each_exception(|waiting| versions[waiting.version as usize] = true);
        self.sides.mark(&mut versions, &mut operations, &mut names);
        self.sides.collect_paths();
        self.resource_values.clear();
        let registry = &self.registry;
        let recent = self.watermark.saturating_sub(registry.limits.retention.as_nanos() as u64);
        for (id, _) in registry.versions.iter() {
            versions[id as usize] |= registry.version[id as usize].last_seen.0 >= recent;
        }
        for (id, key) in registry.operations.iter() {
            if operations[id as usize] {
                names[key.name as usize] = true;
            }
        }
        for (id, key) in registry.parties.iter() {
            if parties[id as usize] {
                key.names().iter().for_each(|name| names[*name as usize] = true);
            }
        }
        self.metric_names.retain(&metrics);
        self.sides.forget_history(&operations);
        self.known_series.clear();
        self.lines.forget();
        let registry = &mut self.registry;
        for service in &mut registry.service {
            service.metrics = 0;
            if service.templates.len() >= registry.limits.templates_per_service_max {
                // Those of which no record is left make room.
                service.templates.retain(|hash, _| self.sides.templates.contains_key(hash));
            }
            service.arms.retain(|(flag, _)| names[*flag as usize]);
            service.arms.iter_mut().for_each(|(_, variants)| variants.retain(|variant| names[*variant as usize]));
        }
        for key in self.sides.metrics.keys() {
            registry.service[registry.versions.key(key.version).service as usize].metrics += 1;
        }
        registry.edges.retain(|(_, party), _| parties[*party as usize]);
        registry.series.retain(&series);
        registry.list_series();
        registry.versions.retain(&versions);
        registry.operations.retain(&operations);
        registry.parties.retain(&parties);
        registry.names.retain(&names);
        registry.values.retain(&values);
        registry.forget_raw_names();
        registry.service.iter_mut().for_each(|service| service.operations = 0);
        for (_, key) in registry.operations.iter() {
            registry.service[key.service as usize].operations += usize::from(key.name > crate::registry::NO_NAME);
        }
        self.instances.retain_versions(&versions);
    }
}

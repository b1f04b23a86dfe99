//! What a trace tells once it is closed: blame, self-time, callees, internal operations and the exceptions that waited.
//!
//! Everything goes into the cell of the bucket in which the request itself ended.

use plimsoll_model::signal::{CalleeTime, Fingerprint, LOG_UNIT, OperationKind};

use crate::assembly::{Assembly, NONE, Node};
use crate::quality::Word;
use crate::registry::OTHER_NAME;
use crate::sides::PathId;
use crate::spans::RequestSpan;
use crate::state::SignalState;
use crate::traces::{ClosedTrace, OpenSpan, Role};

/// Services of one path; of a trace with more it is not said which took part.
const PARTICIPANTS_MAX: usize = 64;

impl SignalState {
    pub(crate) fn close(&mut self, trace: &mut ClosedTrace) {
        let mut assembly = std::mem::take(&mut self.assembly);
        assembly.nodes.clear();
        // Spans of a trace mostly come in runs of one version.
        let mut met = (u32::MAX, 0);
        for (source, span) in trace.spans.iter().enumerate() {
            if met.0 != span.version {
                met = (span.version, self.registry.versions.key(span.version).service);
            }
            let service = met.1;
            assembly.nodes.push(Node {
                id: span.id,
                start: span.start,
                end: span.end,
                parent: span.parent,
                service,
                operation: span.what,
                failed: span.failed,
                serves: matches!(span.role, Role::Server | Role::Consumer),
                consumes: span.role == Role::Consumer,
                calls: span.role == Role::Client,
                may_root: span.role == Role::MayRoot && !self.registry.service[service as usize].serves,
                source: source as u32,
            });
        }
        assembly.run();
        let counters = &mut self.registry.counters;
        counters.duplicate_spans += assembly.duplicates;
        counters.parent_cycles += assembly.cycles;
        if trace.partial {
            counters.traces_partial += 1;
        } else if !trace.spans.is_empty() {
            counters.traces_assembled += 1;
        }

        for &at in &assembly.requests {
            let source = assembly.nodes[at as usize].source as usize;
            if trace.spans[source].role == Role::MayRoot {
                self.count_internal(trace.id, &mut trace.spans[source]);
            }
        }
        if !trace.partial {
            self.assign(&assembly, &trace.spans);
            self.count_paths(&assembly, trace);
            self.judge_quality(&assembly);
        }
        self.count_waiting(&assembly, trace);
        self.assembly = assembly;
    }

    fn count_internal(&mut self, trace: u128, span: &mut OpenSpan) {
        let service = self.registry.versions.key(span.version).service;
        span.what = self.registry.operation_id(service, OperationKind::Internal, span.what);
        self.count_request(&RequestSpan {
            version: span.version,
            operation: span.what,
            age: span.age,
            bucket: u64::from(span.bucket),
            start: span.start,
            end: span.end,
            trace,
            class: span.failed.then_some(span.class),
            weight: u64::from(span.weight),
            values: &[],
        });
    }

    /// Assigns blame and time.
    fn assign(&mut self, assembly: &Assembly, spans: &[OpenSpan]) {
        let max = self.registry.limits.entries_per_cell_max;
        let other = self.registry.other_party();
        let span_of = |at: u32| &spans[assembly.nodes[at as usize].source as usize];
        for &at in &assembly.requests {
            let span = span_of(at);
            let origin = assembly.origin[at as usize];
            let blamed = (origin != NONE).then(|| {
                let request = assembly.request[origin as usize];
                let operation = (request != NONE).then(|| span_of(request).what);
                (self.registry.party_id(span_of(origin).version, operation), request == at)
            });
            let Some(cell) = self.cell(span.version, span.what, span.age, u64::from(span.bucket)) else { continue };
            cell.record_self_time(assembly.self_ns[at as usize]);
            if let Some((party, own)) = blamed {
                cell.error_origins += u64::from(own);
                let recorded = cell.record_blame(party, max, other);
                self.registry.note_edge(span.version, party, u64::from(span.bucket), recorded);
            }
        }
        for call in &assembly.calls {
            let (caller, callee) = (span_of(call.caller), span_of(call.callee));
            let party = self.registry.party_id(callee.version, Some(callee.what));
            let time = CalleeTime { calls: 1, critical_ns: call.critical_ns };
            let Some(cell) = self.cell(caller.version, caller.what, caller.age, u64::from(caller.bucket)) else {
                continue;
            };
            let recorded = cell.record_callee(party, time, max, other);
            self.registry.note_edge(caller.version, party, u64::from(caller.bucket), recorded);
        }
    }

    /// Counts each topmost request by the versions of all services below it.
    fn count_paths(&mut self, assembly: &Assembly, trace: &ClosedTrace) {
        let [first, others @ ..] = trace.spans.as_slice() else { return };
        if others.iter().all(|span| span.version == first.version) {
            return;
        }
        let span_of = |at: u32| &trace.spans[assembly.nodes[at as usize].source as usize];
        let roots = assembly.roots();
        // Of each root the versions below it, so that many requests of one root cost no more than one.
        let mut below: Vec<(u32, u32)> = roots.iter().zip(0..).map(|(root, at)| (*root, span_of(at).version)).collect();
        below.sort_unstable();
        below.dedup();
        // And the services of which a request failed.
        let failed =
            assembly.requests.iter().map(|at| (roots[*at as usize], span_of(*at))).filter(|(_, span)| span.failed);
        let mut failed: Vec<(u32, u32)> =
            failed.map(|(root, span)| (root, self.registry.versions.key(span.version).service)).collect();
        failed.sort_unstable();
        failed.dedup();
        for &at in assembly.requests.iter().filter(|at| assembly.is_topmost(**at)) {
            let root = roots[at as usize];
            let from = below.partition_point(|(other, _)| *other < root);
            let mut versions = std::mem::take(&mut self.path_at_hand);
            versions.clear();
            let mine = below[from..].iter().take_while(|(other, _)| *other == root).take(PARTICIPANTS_MAX + 1);
            versions.extend(mine.map(|(_, version)| *version));
            if versions.len() > 1 {
                let from = failed.partition_point(|(other, _)| *other < root);
                let to = failed.partition_point(|(other, _)| *other <= root);
                self.count_path(&versions, span_of(at), trace.id, &failed[from..to]);
            }
            self.path_at_hand = versions;
        }
    }

    fn count_path(&mut self, versions: &[u32], entry: &OpenSpan, trace: u128, failed: &[(u32, u32)]) {
        let versions = if versions.len() > PARTICIPANTS_MAX { &[] } else { versions };
        let limits = self.side_limits();
        let known = self.sides.path_sets.get(versions).map(|path| PathId { operation: entry.what, path });
        let id = match known.filter(|id| self.sides.paths.contains(id)) {
            Some(id) => id,
            None => {
                let paths = self.sides.paths_of.entry(entry.what).or_default();
                let fits = *paths < self.registry.limits.paths_per_entry_max && self.sides.paths.has_room(limits);
                *paths += usize::from(fits);
                if !fits {
                    self.registry.crowded = true;
                    self.registry.counters.pathless_traces += 1;
                }
                let versions = if fits { versions } else { &[] };
                PathId { operation: entry.what, path: self.sides.path_sets.intern(versions.into()) }
            }
        };
        let Some(cell) = self.sides.paths.cell(&id, u64::from(entry.bucket), limits) else { return };
        let log = (entry.end.saturating_sub(entry.start).max(1) as f64).ln();
        cell.traces += 1;
        cell.log_sum = cell.log_sum.saturating_add((log * LOG_UNIT).round() as i64);
        cell.log_sum_sq = cell.log_sum_sq.saturating_add((log * log * LOG_UNIT).round() as i64);
        if failed.is_empty() {
            return;
        }
        let failures = cell.failures.get_or_insert_default();
        failed.iter().for_each(|(_, service)| failures.within.add(*service, 1));
        if entry.failed {
            cell.failed += 1;
            failed.iter().for_each(|(_, service)| failures.both.add(*service, 1));
            failures.exemplars.offer(trace.to_be_bytes());
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
        if trace.exceptions.is_empty() {
            return;
        }
        // In an order of their own, so that the order of arrival does not show.
        trace.exceptions.sort_unstable_by(|a, b| {
            let key = |e: &crate::traces::OpenException| (!e.counted, e.span, e.fingerprint, e.bucket);
            key(a).cmp(&key(b)).then_with(|| a.seen.message.cmp(&b.seen.message))
        });
        let mut counted: Vec<(u32, u64, Fingerprint)> = Vec::new();
        for waiting in &trace.exceptions {
            let at = assembly.find(waiting.span).unwrap_or(NONE);
            let request = if at == NONE { NONE } else { assembly.request[at as usize] };
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
                let span = &trace.spans[assembly.nodes[request as usize].source as usize];
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
        let mut versions = vec![false; registry.versions.span()];
        let mut operations = vec![false; registry.operations.span()];
        names[OTHER_NAME as usize] = true;
        names[crate::registry::NO_NAME as usize] = true;
        let mut keep = |cell: &crate::cell::Cell| {
            cell.values.0.iter().for_each(|entry| values[entry.value as usize] = true);
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
        for (_, key) in registry.series.iter().filter(|(id, _)| series[*id as usize]) {
            versions[key.version as usize] = true;
            operations[key.operation as usize] = true;
        }
        self.traces.each_span(|span| {
            versions[span.version as usize] = true;
            names[span.class as usize] = true;
            match span.role {
                Role::Server | Role::Consumer => operations[span.what as usize] = true,
                _ => names[span.what as usize] = true,
            }
        });
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

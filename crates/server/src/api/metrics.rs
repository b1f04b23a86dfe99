//! `/metrics`: everything that counts something, as OpenMetrics text, read at the moment of the scrape.

use std::fmt;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use plimsoll_alert::SinkCounters;
use plimsoll_ingest::{Histogram, Protocol, Reason, RequestCounters};
use plimsoll_journal::Journal;
use plimsoll_signals::SignalState;
use plimsoll_watch::Precision;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::ApiState;
use crate::faces::FaceCounters;
use crate::serve::Stages;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) async fn render(State(state): State<ApiState>) -> Response {
    let mut registry = Registry::with_prefix("plimsoll");
    let reasons = state.health.reasons();
    // A catalog that cannot be read has its own counters: the scrape does without what humans said.
    let precision = state.watcher.precision().await.ok();
    let ready = reasons.is_empty();
    registry.register_collector(Box::new(Scrape { stages: state.stages.clone(), ready, precision }));
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            super::Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        }
    }
}

/// One family of counters: its name, what it counts, and where that stands.
type Family<C> = (&'static str, &'static str, fn(&C) -> u64);

const BY_REQUEST: [Family<RequestCounters>; 8] = [
    ("requests", "Export requests that came in", |c| c.requests.get()),
    ("requests_accepted", "Export requests acked", |c| c.accepted.get()),
    (
        "requests_repeated",
        "Export requests acked that were stored before, byte for byte, and were not stored again",
        |c| c.repeated.get(),
    ),
    ("records_accepted", "Records acked: durable and visible", |c| c.records.get()),
    ("records_rejected", "Records left out of acked requests, as partial success says", |c| c.rejected_records.get()),
    ("records_without_id", "Records stored without an id of a wrong length", |c| c.records_without_id.get()),
    ("received_bytes", "Body bytes as they came", |c| c.wire_bytes.get()),
    ("body_bytes", "Body bytes once inflated", |c| c.body_bytes.get()),
];

const BY_FACE: [Family<FaceCounters>; 6] = [
    ("face_connections_accepted", "Connections that were let in", |c| c.accepted.get()),
    ("face_connections_refused", "Connections that were turned away", |c| c.refused.get()),
    ("face_statements", "Statements that clients ran", |c| c.statements.get()),
    ("face_statements_failed", "Statements that ended with an error", |c| c.failed.get()),
    ("face_statements_cancelled", "Statements that ended because their client cancelled them or went away", |c| {
        c.cancelled.get()
    }),
    ("face_rows", "Rows that were sent to clients", |c| c.rows.get()),
];

const BY_SINK: [Family<SinkCounters>; 3] = [
    ("deliveries_delivered", "Regression events accepted by a sink", |c| c.delivered),
    ("deliveries_retried", "Attempts that failed and are tried again", |c| c.retried),
    ("deliveries_failed", "Regression events given up", |c| c.failed),
];

struct Scrape {
    stages: std::sync::Arc<Stages>,
    ready: bool,
    precision: Option<Precision>,
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

/// Lists what the aggregates hold of each sort that is bounded, and the bound.
fn held(state: &SignalState) -> [(&'static str, usize, usize); 11] {
    let (size, limits) = (state.size(), state.limits());
    [
        ("services", size.services, limits.services_max),
        ("versions", size.versions, limits.versions_max),
        ("series", size.series, limits.series_max),
        ("operations_of_one_service", size.operations_of_one, limits.operations_per_service_max),
        ("log_templates_of_one_service", size.templates_of_one, limits.templates_per_service_max),
        ("names", size.names, limits.names_max),
        ("instances", size.instances, limits.instances_max),
        ("pending_cells", size.pending_cells, limits.pending_cells_max),
        ("rolling_cells", size.rolling_cells, limits.rolling_cells_max),
        ("metric_streams", size.streams, limits.streams_max),
        ("open_spans", size.open_spans, limits.open_spans_max),
    ]
}

/// Writes families one after the other.
struct Writer<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
}

impl Writer<'_, '_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        ConstCounter::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn ratio(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        ConstGauge::new(value).encode(self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: f64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let buckets: Vec<(f64, u64)> = histogram
            .buckets()
            .map(|(edge, count)| (edge.map_or(f64::INFINITY, |edge| edge as f64 * unit), count))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        family.encode_histogram::<NoLabelSet>(histogram.sum() as f64 * unit, count, &buckets, None)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer { encoder: &mut encoder };
        writer.gauge("ready", "1 when telemetry is taken, else 0: /readyz says why", u64::from(self.ready))?;
        self.ingest(&mut writer)?;
        self.durability(&mut writer)?;
        self.faces(&mut writer)?;
        self.aggregates(&mut writer)?;
        self.judgement(&mut writer)
    }
}

impl Scrape {
    fn ingest(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let Some(ingest) = self.stages.ingest() else { return Ok(()) };
        let counters = ingest.counters();
        for (name, help, value) in BY_REQUEST {
            let rows = counters.by_request().map(|(signal, protocol, counted)| {
                ([("signal", signal.to_string()), ("protocol", protocol.name().to_owned())], value(counted))
            });
            writer.counters(name, help, rows)?;
        }
        let refused = counters.by_request().flat_map(|(signal, protocol, counted)| {
            // Those that never were refused too: a rate of what appears for the first time is not seen.
            Reason::ALL.into_iter().map(move |reason| {
                let labels = [
                    ("signal", signal.to_string()),
                    ("protocol", protocol.name().to_owned()),
                    ("reason", reason.name().to_owned()),
                ];
                (labels, counted.refused(reason))
            })
        });
        writer.counters("requests_refused", "Export requests refused, and why", refused)?;
        let unserved = Protocol::ALL.into_iter().flat_map(|protocol| {
            // Only these come before it is known what a request is about.
            [Reason::NotFound, Reason::Method, Reason::ContentType].map(|reason| {
                let labels = [("protocol", protocol.name().to_owned()), ("reason", reason.name().to_owned())];
                (labels, counters.unserved(protocol, reason))
            })
        });
        writer.counters("requests_unserved", "Requests that named no signal and were refused, and why", unserved)?;
        writer.histogram("ack_seconds", "From the first look at a request to its ack", &counters.ack_ns, 1e-9)?;
        writer.histogram("group_requests", "Requests made durable together", &counters.group_requests, 1.0)?;
        writer.counter(
            "decode_nanoseconds",
            "Time spent inflating, converting and decoding",
            counters.decode_ns.get(),
        )?;
        writer.counter("commits", "Groups made durable", counters.commits.get())?;
        writer.counter("commit_failures", "Groups that the journal refused", counters.commit_failures.get())?;
        writer.gauge(
            "journal_unavailable",
            "1 while the journal can begin no new log file",
            counters.journal_unavailable.get(),
        )?;
        writer.counter("requests_parked", "Requests that had to wait for room", counters.parked_total.get())?;
        writer.counter(
            "paced_nanoseconds",
            "Time that requests were held up because rows came faster than segments are written",
            counters.paced_ns.get(),
        )?;
        writer.gauge(
            "requests_in_progress",
            "Requests between the first look and the answer",
            counters.in_progress.get(),
        )?;
        writer.gauge("connections", "Open connections of the receivers", counters.connections.get())?;
        writer.counter("connections_accepted", "Connections of the receivers", counters.connections_total.get())?;
        writer.counter(
            "connections_broken",
            "Connections that ended because their client did not speak the protocol",
            counters.connections_broken.get(),
        )?;
        writer.counter(
            "connections_timed_out",
            "Connections that were ended because nothing came, or not fast enough",
            counters.connections_timed_out.get(),
        )?;
        writer.counter(
            "connections_closed_for_others",
            "Connections at no request, or whose client said nothing, that were closed because another one came and no more may be open",
            counters.connections_closed_for_others.get(),
        )?;
        writer.counter("connections_refused", "Connections turned away", counters.connections_refused.get())?;
        writer.counter("replayed_frames", "Frames read again at the last start", counters.replayed_frames.get())?;
        writer.counter(
            "replay_undecodable",
            "Frames read again that could not be decoded: lost because they are damaged",
            counters.replay_undecodable.get(),
        )?;
        let known = &self.stages.fingerprints;
        writer.gauge("fingerprints", "Stored requests that are remembered, to tell repeats", known.len() as u64)?;
        writer.counter(
            "fingerprints_forgotten",
            "Stored requests forgotten within `ingest.retry_window` for lack of room: see `memory.retries`",
            known.forgotten.get(),
        )?;
        writer.counter(
            "fingerprint_save_failures",
            "Times that fingerprints could not be written: repeats may be stored again after a restart",
            known.save_failures.get(),
        )?;
        let status = ingest.status();
        writer.gauge("in_flight_bytes", "Bytes of the in-flight budget that are taken", status.in_flight_bytes)?;
        writer.gauge(
            "withheld_bytes",
            "Kept from requests in flight because memory is short",
            status.withheld_bytes,
        )?;
        writer.gauge("resident_bytes", "Memory of the process, against `memory_limit`", self.stages.resident.now())?;
        writer.gauge("resident_bytes_max", "The most that was seen of it", self.stages.resident.most())?;
        writer.gauge("lanes_queued", "Requests that wait for the committer", status.queued as u64)
    }

    fn durability(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let journal = self.stages.journal.status();
        writer.gauge("journal_bytes", "Size of the journal on disk", journal.bytes)?;
        writer.gauge("journal_files", "Log files of the journal", journal.files)?;
        writer.gauge("journal_poisoned", "1 after a failed sync", u64::from(journal.poisoned))?;
        writer.counter("journal_sync_nanoseconds", "Time spent in fdatasync", journal.sync_ns)?;
        let replayed = self.stages.replayed.get().copied().unwrap_or_default();
        writer.gauge(
            "journal_torn_bytes",
            "Cut off at the last start: writes that never finished",
            replayed.journal.torn_bytes,
        )?;
        writer.gauge(
            "journal_quarantined_bytes",
            "Moved aside at the last start because they are damaged: lost unless recovered by hand",
            replayed.journal.quarantined_bytes,
        )?;
        let store = self.stages.store.status();
        writer.gauge("tail_rows", "Rows that are not in segments yet", store.tail_rows)?;
        writer.gauge("tail_bytes", "Memory they take", store.tail_bytes)?;
        writer.gauge("tail_unwritten_bytes", "The part of it that no flush has written yet", store.unwritten_bytes)?;
        let tables = || {
            store.segments.iter().map(|(table, count, bytes)| ([("table", table.name().to_owned())], *count, *bytes))
        };
        writer.gauges("segments", "Live segments", tables().map(|(labels, count, _)| (labels, count)))?;
        writer.gauges(
            "segment_bytes",
            "Size of the live segments",
            tables().map(|(labels, _, bytes)| (labels, bytes)),
        )?;
        writer.counter("flushes", "Flushes of the tail", store.flushes)?;
        writer.counter("flush_failures", "Flushes that failed and are tried again", store.flush_failures)?;
        writer.counter("retired_rows", "Rows removed by retention", store.retired_rows)?;
        writer.counter("retired_segments", "Segments removed by retention", store.retired_segments)?;
        writer.counter("evicted_rows", "Rows removed because of `store.disk_max`", store.evicted_rows)?;
        writer.counter("evicted_segments", "Segments removed because of `store.disk_max`", store.evicted_segments)?;
        writer.counter("merged_segments", "Segments that became part of larger ones", store.merged_segments)?;
        writer.counter("merged_rows", "Rows written again for that", store.merged_rows)?;
        writer.counter("merged_bytes", "Bytes written for that", store.merged_bytes)?;
        writer.gauge(
            "unreadable_segments",
            "Segments that could not be merged: see the log",
            store.unreadable_segments,
        )?;
        writer.counter(
            "merge_failures",
            "Merges of segments that a defect ended: see the log",
            store.merge_failures,
        )?;
        writer.counter(
            "orphan_files",
            "Files removed at the start because no segment needed them",
            store.orphan_files,
        )?;
        writer.gauge("missing_rows", "Rows lost because their segment is missing or damaged", store.missing_rows)?;
        writer.gauge(
            "clock_doubted",
            "1 while no rows are removed for their age, because the clock went ahead of what the machine counted",
            u64::from(store.clock_doubted),
        )?;
        writer.gauge("disk_full", "1 while less than `store.disk_reserve` is free", u64::from(store.disk_full))?;
        writer.counter(
            "fold_failures",
            "Batches that could not be folded: their rows are stored, and missing from aggregates",
            store.fold_failures,
        )?;
        writer.gauge(
            "fold_lag_frames",
            "Frames published and not folded into aggregates yet",
            store.published.0.saturating_sub(store.folded.0),
        )?;
        writer.gauge(
            "fold_lag_nanoseconds",
            "How long the first batch that is not folded has waited",
            u64::try_from(store.fold_lag.as_nanos()).unwrap_or(u64::MAX),
        )
    }

    fn faces(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let all = self.stages.faces.all();
        let rows = |value: fn(&FaceCounters) -> u64| {
            all.map(|(face, counters)| ([("face", face.to_owned())], value(counters)))
        };
        writer.gauges("face_connections", "Open connections of clients that query", rows(|c| c.open.get()))?;
        BY_FACE.into_iter().try_for_each(|(name, help, value)| writer.counters(name, help, rows(value)))
    }

    fn aggregates(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let (counted, held, kept) = {
            let state = self.stages.aggregates.lock();
            (state.counters(), held(&state), state.traces_kept())
        };
        writer.gauges(
            "aggregates_held",
            "What the aggregates hold of each sort, live operations by version and age (series) among it",
            held.map(|(sort, held, _)| ([("sort", sort)], held as u64)),
        )?;
        writer.gauges(
            "aggregates_limit",
            "How much of each sort they may hold: see docs/signals.md for what becomes of the rest",
            held.map(|(sort, _, limit)| ([("sort", sort)], limit as u64)),
        )?;
        writer.counter("folded_spans", "Spans folded into aggregates", counted.spans)?;
        writer.counter("folded_requests", "Spans counted as requests of an operation", counted.requests)?;
        writer.counter("late_spans", "Spans received more than an hour after they ended", counted.late_spans)?;
        writer.counter(
            "misdated_spans",
            "Spans counted when they were received because their time cannot be",
            counted.misdated_spans,
        )?;
        writer.counter(
            "traces_assembled",
            "Traces that were whole enough to assign blame",
            counted.traces_assembled,
        )?;
        writer.counter("traces_partial", "Traces counted without blame and self-time", counted.traces_partial)?;
        writer.counter("traces_evicted", "Traces closed early for lack of room", counted.traces_evicted)?;
        writer.ratio("traces_kept", "Share of traces that there is room to keep until they are whole", kept)?;
        writer.counter("folded_as_other", "Names counted as `{other}` because there are too many", counted.other)?;
        writer.counter(
            "aggregates_dropped",
            "Requests and exceptions left out of aggregates for lack of room",
            counted.dropped,
        )?;
        writer.counter(
            "aggregates_evicted",
            "Cells that the watcher lost sight of before their time",
            counted.evicted_cells,
        )?;
        writer.counter("folded_logs", "Log records folded into aggregates", counted.logs)?;
        writer.counter("folded_points", "Metric points folded into aggregates", counted.points)?;
        writer.counter(
            "points_left_out",
            "Metric points left out of aggregates: no room for their series, or older than the point before",
            counted.points_left_out,
        )?;
        writer.counter("metric_resets", "Counters and histograms that began anew", counted.resets)?;
        writer.counter("folded_exceptions", "Exceptions counted", counted.exceptions)?;
        writer.counter(
            "exceptions_forgotten",
            "Exceptions not remembered for lack of room: they may count as new again",
            counted.forgotten_fingerprints,
        )?;
        writer.counter("negative_durations", "Spans that end before they start", counted.negative_durations)?;
        writer.counter("duplicate_spans", "Spans that their trace had already", counted.duplicate_spans)?;
        writer.counter(
            "spans_unassembled",
            "Spans left out of assembly because their trace was too large",
            counted.spans_unassembled,
        )?;
        writer.counter("parent_cycles", "Chains of parents that ran in a circle", counted.parent_cycles)?;
        writer.counter(
            "sides_as_other",
            "Log records and flag arms counted as `{other}` because there are too many",
            counted.other_sides,
        )?;
        writer.counter("traces_pathless", "Traces counted without the versions they met", counted.pathless_traces)?;
        writer.counter(
            "instances_untracked",
            "Instances whose age is not followed for lack of room",
            counted.untracked_instances,
        )
    }

    fn judgement(&self, writer: &mut Writer<'_, '_>) -> fmt::Result {
        let watch = self.stages.watcher.counters();
        writer.counter("evaluations", "Judgements of deploys", watch.judged)?;
        writer.counter("evaluation_nanoseconds", "Time spent judging", watch.judge_ns)?;
        writer.counter("evaluation_failures", "Judgements that failed and are tried again", watch.failures)?;
        writer.gauge("deploys_open", "Deploys being judged", watch.open)?;
        writer.gauge("sessions_bytes", "Memory kept of them between looks", watch.sessions_bytes)?;
        writer.counter(
            "sessions_without_room",
            "Looks after which nothing was kept for lack of room, so that the next one is at the whole: see `memory.verdicts`",
            watch.sessions_without_room,
        )?;
        writer.counter("deploys_announced", "Deploys announced", watch.registered)?;
        writer.counter("deploys_inferred", "Deploys inferred", watch.inferred)?;
        writer.counter(
            "versions_churned",
            "New versions not taken for deploys: there were too many",
            watch.churned_versions,
        )?;
        writer.counter("regression_events", "Regression events queued", watch.events)?;
        if let Some(said) = self.precision {
            let answers = [("right", said.right), ("wrong", said.wrong), ("known", said.known)];
            writer.gauges(
                "regressions_answered",
                "Deploys called regressed, by the latest that a human said of it",
                answers.map(|(answer, count)| ([("answer", answer)], count)),
            )?;
            if let Some(precision) = said.precision {
                let help = "Share of the deploys called regressed that were, as far as humans said so";
                writer.ratio("gate_precision_ratio", help, precision)?;
            }
        }
        let sinks = self.stages.sinks();
        let rows = |value: fn(&SinkCounters) -> u64| {
            sinks.iter().map(move |(sink, counters)| ([("sink", sink.clone())], value(counters)))
        };
        writer.gauges(
            "deliveries_pending",
            "Regression events that a sink has not accepted yet",
            rows(|c| c.pending),
        )?;
        writer.gauges(
            "sinks_disabled",
            "1 after a sink said that it wants no more events",
            rows(|c| c.disabled.into()),
        )?;
        BY_SINK.into_iter().try_for_each(|(name, help, value)| writer.counters(name, help, rows(value)))
    }
}

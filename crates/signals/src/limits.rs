//! Every bound of the folded state, and the counters that say when one was met.
//!
//! *Invariants.* Nothing in this crate grows with what senders choose to send beyond what stands here; whatever does not
//! fit is folded into `{other}` or left out, and either is counted.

use std::time::Duration;

/// The name that takes whatever no longer fits under a bound.
pub const OTHER: &str = "{other}";

/// Values of these say where failures share something: place, tenant, machine, caller.
const DRILL_ATTRIBUTES: [&str; 15] = [
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.node.name",
    "host.name",
    "region",
    "zone",
    "tenant",
    "tenant.id",
    "customer.tier",
    "peer.service",
    "client.platform",
    "db.system.name",
    "messaging.destination.name",
    "rpc.method",
];

/// What tells request metrics apart, and nothing that names single things.
const METRIC_ATTRIBUTES: [&str; 18] = [
    "service.version",
    "version",
    "k8s.pod.name",
    "pod",
    "http.route",
    "http.request.method",
    "http.response.status_code",
    "http.method",
    "http.status_code",
    "rpc.method",
    "rpc.grpc.status_code",
    "error.type",
    "db.system.name",
    "messaging.destination.name",
    "state",
    "status",
    "outcome",
    "jvm.memory.type",
];

/// How much the state may hold.
#[derive(Debug, Clone)]
pub struct SignalLimits {
    /// Services; those beyond share the service `{other}`.
    pub services_max: usize,
    /// Versions of all services together; those beyond share the version `{other}` of their service.
    pub versions_max: usize,
    /// Operations of one service; those beyond share its operation `{other}`.
    pub operations_per_service_max: usize,
    /// Combinations of version, operation and age class; those beyond share the operation `{other}`.
    pub series_max: usize,
    /// Distinct normalised names, error classes and parties held at once (of each).
    pub names_max: usize,
    /// Cells folded since the last checkpoint; beyond it, new ones are left out and counted.
    pub pending_cells_max: usize,
    /// Cells kept for the watcher; beyond it the oldest buckets are dropped.
    pub rolling_cells_max: usize,
    /// How far back the watcher can look.
    pub retention: Duration,
    /// Instances whose age is followed; those beyond count as warm.
    pub instances_max: usize,
    /// Exceptions remembered per service, to tell a new one; those beyond are not remembered.
    pub fingerprints_per_service_max: usize,
    /// Error classes, exceptions, blamed parties and callees in one cell (of each); those beyond share `{other}`.
    pub entries_per_cell_max: usize,
    /// Values of allow-listed attributes held at once; those beyond share `{other}`.
    pub values_max: usize,
    /// Attributes of spans and resources whose values are counted by outcome, beside `http.response.status_code`,
    /// `error.type` and `server.address`, which have columns of their own.
    pub drill_attributes: Vec<String>,
    /// Attributes of metric points that are kept apart; others are summed over.
    pub metric_attributes: Vec<String>,
    /// Names of log and span events that are user actions.
    pub actions: Vec<String>,
    /// Series of each other sort of aggregate (logs, metrics, arms, actions, paths, history).
    pub side_series_max: usize,
    /// Cells of each of them.
    pub side_cells_max: usize,
    /// Log templates of one service; those beyond share `{other}`.
    pub templates_per_service_max: usize,
    /// Series of metrics of one service; those beyond are left out.
    pub metrics_per_service_max: usize,
    /// Streams of cumulative metrics that are followed; those beyond are left out.
    pub streams_max: usize,
    /// Paths of versions of one entry; those beyond are counted without a path.
    pub paths_per_entry_max: usize,
    /// Spans of open traces, all together. Where more come within `trace_idle` only a share of the traces is kept until they
    /// are whole, and the others are closed early, the longest idle first.
    pub open_spans_max: usize,
    /// Spans of one trace; a larger trace is counted but not assembled.
    pub spans_per_trace_max: usize,
    /// Exceptions waiting for their trace to close, all together; beyond it the same is done.
    pub open_exceptions_max: usize,
    /// A trace is closed when nothing of it arrived for so long.
    pub trace_idle: Duration,
    /// A trace is closed at the latest so long after its first arrival.
    pub trace_life_max: Duration,
}

impl Default for SignalLimits {
    fn default() -> Self {
        Self {
            services_max: 4_096,
            versions_max: 16_384,
            operations_per_service_max: 1_000,
            series_max: 65_536,
            names_max: 65_536,
            pending_cells_max: 131_072,
            rolling_cells_max: 131_072,
            retention: Duration::from_secs(3 * 3_600),
            instances_max: 65_536,
            fingerprints_per_service_max: 10_000,
            entries_per_cell_max: 32,
            values_max: 32_768,
            drill_attributes: DRILL_ATTRIBUTES.map(str::to_owned).to_vec(),
            metric_attributes: METRIC_ATTRIBUTES.map(str::to_owned).to_vec(),
            actions: Vec::new(),
            side_series_max: 32_768,
            side_cells_max: 131_072,
            templates_per_service_max: 1_000,
            metrics_per_service_max: 1_000,
            streams_max: 65_536,
            paths_per_entry_max: 64,
            open_spans_max: 524_288,
            spans_per_trace_max: 10_000,
            open_exceptions_max: 16_384,
            trace_idle: Duration::from_secs(10),
            trace_life_max: Duration::from_secs(120),
        }
    }
}

/// What was folded, and what did not fit where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignalCounters {
    /// Spans folded.
    pub spans: u64,
    /// Log records looked at.
    pub logs: u64,
    /// Spans counted as requests of an operation.
    pub requests: u64,
    /// Exceptions counted, once a request and fingerprint.
    pub exceptions: u64,
    /// Spans received more than an hour after they ended; they are counted in the bucket in which they ended.
    pub late_spans: u64,
    /// Spans that ended over a day before or ten minutes after they were received; counted in the bucket of receipt.
    pub misdated_spans: u64,
    /// Spans that end before they start; counted as taking no time.
    pub negative_durations: u64,
    /// Traces closed and assembled.
    pub traces_assembled: u64,
    /// Traces closed without blame and self-time: too large, cut short, or a rest of one closed before.
    pub traces_partial: u64,
    /// Traces closed early for lack of room.
    pub traces_evicted: u64,
    /// Spans left out of assembly because their trace was too large.
    pub spans_unassembled: u64,
    /// Spans dropped from assembly because their trace had one with the same id.
    pub duplicate_spans: u64,
    /// Chains of parents that ran in a circle and were cut.
    pub parent_cycles: u64,
    /// Times a service, version, operation, class or party was counted as `{other}`.
    pub other: u64,
    /// Requests and exceptions left out because too many cells await a checkpoint.
    pub dropped: u64,
    /// Cells dropped from what the watcher can see, before their time.
    pub evicted_cells: u64,
    /// Metric points folded.
    pub points: u64,
    /// Metric points left out: of a stream or series for which there was no room, or older than the point before.
    pub points_left_out: u64,
    /// Counters and histograms that began anew.
    pub resets: u64,
    /// Log records and arms counted as `{other}` for lack of room.
    pub other_sides: u64,
    /// Traces counted without a path for lack of room.
    pub pathless_traces: u64,
    /// Instances whose age is not followed for lack of room.
    pub untracked_instances: u64,
    /// Exceptions not remembered for lack of room.
    pub forgotten_fingerprints: u64,
}

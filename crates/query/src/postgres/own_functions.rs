//! The functions of Plimsoll as the catalogue lists them.

/// A function of Plimsoll: kind (`f`, `a`, or `t` for one that stands in `FROM`), name, arguments, result, and what it gives.
pub(super) type Own = (char, &'static str, &'static [(&'static str, &'static str)], &'static str, &'static str);

/// Everything that `docs/sql.md` lists, in the same words.
pub(super) const OWN: &[Own] = &[
    (
        't',
        "spans_around",
        AROUND,
        "record",
        "spans of the deploy's service before and after it, with deploy_phase and deploy_role",
    ),
    (
        't',
        "logs_around",
        AROUND,
        "record",
        "logs of the deploy's service before and after it, with deploy_phase and deploy_role",
    ),
    (
        't',
        "metrics_around",
        AROUND,
        "record",
        "metrics of the deploy's service before and after it, with deploy_phase and deploy_role",
    ),
    ('t', "trace_tree", &[("trace_id", "text")], "record", "the spans of one trace in the order of their tree"),
    ('a', "error_rate", &[("status_code", "text")], "double precision", "the share of rows that failed"),
    (
        'a',
        "error_rate",
        &[("errors", "bigint"), ("requests", "bigint")],
        "double precision",
        "the share of counts that failed",
    ),
    ('a', "rate", GROWING, "double precision", "how fast a cumulative counter grew a second"),
    ('a', "increase", GROWING, "double precision", "by how much a cumulative counter grew"),
    ('a', "histogram_merge", &[("VARIADIC histogram", "\"any\"")], "jsonb", "one histogram of many"),
    (
        'a',
        "merged_quantile",
        &[("VARIADIC histogram_and_q", "\"any\"")],
        "double precision",
        "the quantile of the histograms of many rows merged; its last argument is from 0 to 1",
    ),
    (
        'f',
        "quantile",
        &[("VARIADIC histogram_and_q", "\"any\"")],
        "double precision",
        "the quantile of a histogram; its last argument is from 0 to 1",
    ),
    ('f', "histogram", &[("VARIADIC histogram", "\"any\"")], "jsonb", "one row's histogram as a value that merges"),
    ('f', "histogram_count", &[("VARIADIC histogram", "\"any\"")], "numeric", "the observations of a histogram"),
    (
        'f',
        "latest_deploy",
        &[("service", "text"), ("environment", "text"), ("time", "timestamp with time zone")],
        "text",
        "the id of the deploy that had started last then",
    ),
    (
        'f',
        "latest_deploy",
        &[("service", "text"), ("environment", "text"), ("time", "timestamp with time zone"), ("namespace", "text")],
        "text",
        "the id of the deploy of a namespace that had started last then",
    ),
    ('f', "log_template", &[("body", "text")], "text", "the first line of a text with <*> for what varies"),
    (
        'f',
        "count_above",
        &[("buckets", "integer[]"), ("counts", "numeric[]"), ("index", "integer")],
        "numeric",
        "observations of a latency in buckets above an index",
    ),
    ('f', "bucket_index", &[("ms", "double precision")], "integer", "the bucket of a latency that holds a time"),
    ('f', "attribute", &[("map", "jsonb"), ("key", "text")], "text", "what map[key] means"),
    ('f', "hex_id", &[("bytes", "bytea")], "text", "bytes as hexadecimal text"),
    ('f', "span_kind", &[("kind", "integer")], "text", "a kind of spans as a word"),
    ('f', "span_status", &[("status_code", "integer")], "text", "a status of spans as a word"),
    ('f', "metric_temporality", &[("temporality", "integer")], "text", "a temporality as a word"),
    ('f', "power", POWER, "double precision", "a number raised to the power of another"),
    ('f', "width_bucket", BUCKETS, "bigint", "which of so many buckets of one width a value is in"),
];
/// What the planner writes in the place of other things, and nobody calls.
pub(crate) const WRITTEN: &[&str] = &[
    "service_attributes",
    "operation_attributes",
    "interval_nanos",
    "interval_text",
    "interval_times",
    "text_interval",
    "text_interval_or_null",
    "like_escape",
    "nearest_whole",
    "uuid_text",
    "exact_part",
    "at_time_zone",
    "wall_clock",
    "shown_in_zone",
    "attribute_number",
    "attribute_truth",
    "cast_apart",
];
const POWER: &[(&str, &str)] = &[("base", "double precision"), ("exponent", "double precision")];
const BUCKETS: &[(&str, &str)] =
    &[("value", "double precision"), ("low", "double precision"), ("high", "double precision"), ("count", "bigint")];
const AROUND: &[(&str, &str)] = &[("deploy", "text"), ("before", "interval"), ("after", "interval")];
const GROWING: &[(&str, &str)] =
    &[("value", "double precision"), ("\"time\"", "timestamp with time zone"), ("VARIADIC series", "\"any\"")];

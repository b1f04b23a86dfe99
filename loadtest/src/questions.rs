//! Ten questions that people ask around a deploy, in the words of each engine that answers them.
//!
//! `{start}` and `{end}` are the last hour, `{deployed}` the deploy's moment: nanoseconds since 1970. `{trace}` is a trace
//! id in hexadecimal, `{deploy}` the deploy's id, `{log}` what is looked for in logs.

/// One question in the words of each engine.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// A short name.
    pub name: &'static str,
    /// What it asks.
    pub asks: &'static str,
    pub(crate) plimsoll: &'static str,
    /// Over views `spans` and `logs` of Plimsoll's own segments.
    pub(crate) duckdb: &'static str,
    /// Over `otel_traces` and `otel_logs` as the Collector's ClickHouse exporter makes them.
    pub(crate) clickhouse: &'static str,
    /// A document for Mira's query API, or what of the question that cannot express.
    pub(crate) mira: Result<&'static str, &'static str>,
}

/// Mira gives back records; only its alerts count them.
const NO_GROUPS: Result<&str, &str> = Err("neither counts nor groups");

/// The questions.
pub const QUESTIONS: [Question; 10] = [
    Question {
        name: "trace",
        asks: "one trace by its id",
        plimsoll: "SELECT span_id, parent_span_id, service_name, name, start_time, duration_ns, status_code, attributes \
            FROM spans WHERE trace_id = '{trace}' ORDER BY start_time",
        duckdb: "SELECT hex(span_id), hex(parent_span_id), service_name, name, start_time, duration_ns, status_code, \
            attributes FROM spans WHERE trace_id = unhex('{trace}') ORDER BY start_time",
        clickhouse: "SELECT SpanId, ParentSpanId, ServiceName, SpanName, Timestamp, Duration, StatusCode, SpanAttributes \
            FROM otel_traces WHERE TraceId = '{trace}' ORDER BY Timestamp",
        mira: Ok(
            r#"{"signal":"traces","from":0,"to":{end},"where":[{"field":"trace_id","eq":"{trace}"}],"limit":1000}"#,
        ),
    },
    Question {
        name: "service hour",
        asks: "error rate and p95 by operation of one service, last hour",
        plimsoll: "SELECT name, count(*) AS n, avg(CASE WHEN status_code = 'error' THEN 1.0 ELSE 0.0 END) AS errors, \
            approx_percentile_cont(0.95) WITHIN GROUP (ORDER BY duration_ns) AS p95 FROM spans \
            WHERE service_name = 'checkout' AND start_time >= to_timestamp_nanos({start}) GROUP BY name ORDER BY n DESC",
        duckdb: "SELECT name, count(*) AS n, avg(CASE WHEN status_code = 2 THEN 1.0 ELSE 0.0 END) AS errors, \
            approx_quantile(duration_ns, 0.95) AS p95 FROM spans \
            WHERE service_name = 'checkout' AND start_time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS GROUP BY name ORDER BY n DESC",
        clickhouse: "SELECT SpanName, count() AS n, avg(StatusCode = 'Error') AS errors, \
            quantileTDigest(0.95)(Duration) AS p95 FROM otel_traces \
            WHERE ServiceName = 'checkout' AND Timestamp >= fromUnixTimestamp64Nano({start}) GROUP BY SpanName ORDER BY n DESC",
        mira: NO_GROUPS,
    },
    Question {
        name: "around deploy",
        asks: "half an hour on either side of a deploy, by phase and operation",
        plimsoll: "SELECT deploy_phase, name, count(*) AS n, \
            avg(CASE WHEN status_code = 'error' THEN 1.0 ELSE 0.0 END) AS errors, avg(duration_ns) AS mean \
            FROM spans_around('{deploy}', '30m', '30m') GROUP BY deploy_phase, name ORDER BY deploy_phase, n DESC",
        duckdb: "SELECT CASE WHEN start_time < make_timestamp_ns({deployed})::TIMESTAMPTZ_NS THEN 'before' ELSE 'after' END AS phase, \
            name, count(*) AS n, avg(CASE WHEN status_code = 2 THEN 1.0 ELSE 0.0 END) AS errors, avg(duration_ns) AS mean \
            FROM spans WHERE service_name = 'checkout' AND service_namespace = 'shop' AND environment = 'prod' \
            AND start_time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS AND start_time < make_timestamp_ns({end})::TIMESTAMPTZ_NS \
            GROUP BY phase, name ORDER BY phase, n DESC",
        clickhouse: "SELECT if(Timestamp < fromUnixTimestamp64Nano({deployed}), 'before', 'after') AS phase, SpanName, \
            count() AS n, avg(StatusCode = 'Error') AS errors, avg(Duration) AS mean FROM otel_traces \
            WHERE ServiceName = 'checkout' AND ResourceAttributes['service.namespace'] = 'shop' \
            AND ResourceAttributes['deployment.environment.name'] = 'prod' AND Timestamp >= fromUnixTimestamp64Nano({start}) \
            AND Timestamp < fromUnixTimestamp64Nano({end}) GROUP BY phase, SpanName ORDER BY phase, n DESC",
        mira: NO_GROUPS,
    },
    Question {
        name: "count by service",
        asks: "spans of each service, over everything",
        plimsoll: "SELECT service_name, count(*) AS n FROM spans GROUP BY service_name ORDER BY n DESC, service_name",
        duckdb: "SELECT service_name, count(*) AS n FROM spans GROUP BY service_name ORDER BY n DESC, service_name",
        clickhouse: "SELECT ServiceName, count() AS n FROM otel_traces GROUP BY ServiceName ORDER BY n DESC, ServiceName",
        mira: NO_GROUPS,
    },
    Question {
        name: "log search",
        asks: "a substring in one service's logs, last hour",
        plimsoll: "SELECT time, body FROM logs WHERE service_name = 'checkout' AND time >= to_timestamp_nanos({start}) \
            AND body LIKE '%{log}%' ORDER BY time DESC LIMIT 50",
        duckdb: "SELECT time, body FROM logs WHERE service_name = 'checkout' AND time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS \
            AND body LIKE '%{log}%' ORDER BY time DESC LIMIT 50",
        clickhouse: "SELECT Timestamp, Body FROM otel_logs WHERE ServiceName = 'checkout' \
            AND Timestamp >= fromUnixTimestamp64Nano({start}) AND Body LIKE '%{log}%' ORDER BY Timestamp DESC LIMIT 50",
        mira: Ok(r#"{"signal":"logs","from":{start},"to":{end},"limit":50,
            "where":[{"attr":"service.name","eq":"checkout"},{"field":"body","contains":"{log}"}]}"#),
    },
    Question {
        name: "rare attribute",
        asks: "spans by an attribute that one in two thousand has, over everything",
        plimsoll: "SELECT attributes['shop.coupon'] AS coupon, count(*) AS n FROM spans \
            WHERE attributes['shop.coupon'] IS NOT NULL GROUP BY coupon ORDER BY n DESC, coupon",
        duckdb: "SELECT attributes['shop.coupon'] AS coupon, count(*) AS n FROM spans \
            WHERE attributes['shop.coupon'] IS NOT NULL GROUP BY coupon ORDER BY n DESC, coupon",
        clickhouse: "SELECT SpanAttributes['shop.coupon'] AS coupon, count() AS n FROM otel_traces \
            WHERE mapContains(SpanAttributes, 'shop.coupon') GROUP BY coupon ORDER BY n DESC, coupon",
        mira: NO_GROUPS,
    },
    Question {
        name: "errors by tenant",
        asks: "failed spans of one service by an attribute that all have, last hour",
        plimsoll: "SELECT attributes['shop.tenant'] AS tenant, count(*) AS n FROM spans WHERE service_name = 'checkout' \
            AND status_code = 'error' AND start_time >= to_timestamp_nanos({start}) \
            GROUP BY tenant ORDER BY n DESC, tenant LIMIT 10",
        duckdb: "SELECT attributes['shop.tenant'] AS tenant, count(*) AS n FROM spans WHERE service_name = 'checkout' \
            AND status_code = 2 AND start_time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS GROUP BY tenant ORDER BY n DESC, tenant LIMIT 10",
        clickhouse: "SELECT SpanAttributes['shop.tenant'] AS tenant, count() AS n FROM otel_traces \
            WHERE ServiceName = 'checkout' AND StatusCode = 'Error' AND Timestamp >= fromUnixTimestamp64Nano({start}) \
            GROUP BY tenant ORDER BY n DESC, tenant LIMIT 10",
        mira: NO_GROUPS,
    },
    Question {
        name: "slowest",
        asks: "the twenty slowest spans of the last hour",
        plimsoll: "SELECT trace_id, service_name, name, duration_ns FROM spans WHERE start_time >= to_timestamp_nanos({start}) \
            ORDER BY duration_ns DESC LIMIT 20",
        duckdb: "SELECT hex(trace_id), service_name, name, duration_ns FROM spans \
            WHERE start_time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS ORDER BY duration_ns DESC LIMIT 20",
        clickhouse: "SELECT TraceId, ServiceName, SpanName, Duration FROM otel_traces \
            WHERE Timestamp >= fromUnixTimestamp64Nano({start}) ORDER BY Duration DESC LIMIT 20",
        mira: Err("orders by time only"),
    },
    Question {
        name: "errors by minute",
        asks: "failed spans of every service by minute, last hour",
        plimsoll: "SELECT date_bin(INTERVAL '1 minute', start_time) AS minute, service_name, count(*) AS n FROM spans \
            WHERE start_time >= to_timestamp_nanos({start}) AND status_code = 'error' GROUP BY minute, service_name \
            ORDER BY minute, service_name",
        duckdb: "SELECT date_trunc('minute', start_time::TIMESTAMPTZ) AS minute, service_name, count(*) AS n FROM spans \
            WHERE start_time >= make_timestamp_ns({start})::TIMESTAMPTZ_NS AND status_code = 2 GROUP BY minute, service_name \
            ORDER BY minute, service_name",
        clickhouse: "SELECT toStartOfMinute(Timestamp) AS minute, ServiceName, count() AS n FROM otel_traces \
            WHERE Timestamp >= fromUnixTimestamp64Nano({start}) AND StatusCode = 'Error' GROUP BY minute, ServiceName \
            ORDER BY minute, ServiceName",
        mira: NO_GROUPS,
    },
    Question {
        name: "newest errors",
        asks: "the newest hundred error logs",
        plimsoll: "SELECT time, service_name, body FROM logs WHERE severity_number >= 17 ORDER BY time DESC LIMIT 100",
        duckdb: "SELECT time, service_name, body FROM logs WHERE severity_number >= 17 ORDER BY time DESC LIMIT 100",
        clickhouse: "SELECT Timestamp, ServiceName, Body FROM otel_logs WHERE SeverityNumber >= 17 \
            ORDER BY Timestamp DESC LIMIT 100",
        mira: Ok(r#"{"signal":"logs","from":0,"to":{end},"where":[{"field":"severity_number","gte":17}],"limit":100}"#),
    },
];

/// How DuckDB is told of the segments below `{segments}`.
pub(crate) const DUCKDB_SETUP: [&str; 2] = [
    "CREATE VIEW spans AS SELECT * FROM read_parquet('{segments}/spans/*/*.parquet', union_by_name = true)",
    "CREATE VIEW logs AS SELECT * FROM read_parquet('{segments}/logs/*/*.parquet', union_by_name = true)",
];

/// The tables of the Collector's ClickHouse exporter, filled from the segments below `{segments}`.
pub(crate) const CLICKHOUSE_SETUP: [&str; 6] = [
    "CREATE TABLE IF NOT EXISTS otel_traces (Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), TraceId String CODEC(ZSTD(1)), \
        SpanId String CODEC(ZSTD(1)), ParentSpanId String CODEC(ZSTD(1)), TraceState String CODEC(ZSTD(1)), \
        SpanName LowCardinality(String) CODEC(ZSTD(1)), SpanKind LowCardinality(String) CODEC(ZSTD(1)), \
        ServiceName LowCardinality(String) CODEC(ZSTD(1)), \
        ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), ScopeName String CODEC(ZSTD(1)), \
        ScopeVersion String CODEC(ZSTD(1)), SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), \
        Duration UInt64 CODEC(ZSTD(1)), StatusCode LowCardinality(String) CODEC(ZSTD(1)), \
        StatusMessage String CODEC(ZSTD(1)), \
        INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1, \
        INDEX idx_res_attr_key mapKeys(ResourceAttributes) TYPE bloom_filter(0.01) GRANULARITY 1, \
        INDEX idx_span_attr_key mapKeys(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1, \
        INDEX idx_span_attr_value mapValues(SpanAttributes) TYPE bloom_filter(0.01) GRANULARITY 1, \
        INDEX idx_duration Duration TYPE minmax GRANULARITY 1) \
        ENGINE = MergeTree() PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp)) \
        SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "CREATE TABLE IF NOT EXISTS otel_logs (Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)), \
        TimestampTime DateTime DEFAULT toDateTime(Timestamp), TraceId String CODEC(ZSTD(1)), SpanId String CODEC(ZSTD(1)), \
        TraceFlags UInt8, SeverityText LowCardinality(String) CODEC(ZSTD(1)), SeverityNumber UInt8, \
        ServiceName LowCardinality(String) CODEC(ZSTD(1)), Body String CODEC(ZSTD(1)), \
        ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), ScopeName String CODEC(ZSTD(1)), \
        ScopeVersion LowCardinality(String) CODEC(ZSTD(1)), LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)), \
        INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1, \
        INDEX idx_log_attr_key mapKeys(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1, \
        INDEX idx_log_attr_value mapValues(LogAttributes) TYPE bloom_filter(0.01) GRANULARITY 1, \
        INDEX idx_body Body TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8) \
        ENGINE = MergeTree() PARTITION BY toDate(TimestampTime) PRIMARY KEY (ServiceName, TimestampTime) \
        ORDER BY (ServiceName, TimestampTime, Timestamp) SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1",
    "INSERT INTO otel_traces SELECT start_time, lower(hex(trace_id)), lower(hex(span_id)), \
        lower(hex(ifNull(parent_span_id, ''))), ifNull(trace_state, ''), name, \
        ['Unspecified', 'Internal', 'Server', 'Client', 'Producer', 'Consumer'][kind + 1], service_name, \
        map('service.namespace', service_namespace, 'service.version', service_version, 'deployment.environment.name', \
        environment, 'service.instance.id', service_instance_id), scope_name, scope_version, attributes, \
        toUInt64(duration_ns), ['Unset', 'Ok', 'Error'][ifNull(status_code, 0) + 1], ifNull(status_message, '') \
        FROM file('{segments}/spans/*/*.parquet', Parquet) WHERE (SELECT count() FROM otel_traces) = 0",
    "INSERT INTO otel_logs (Timestamp, TraceId, SpanId, TraceFlags, SeverityText, SeverityNumber, ServiceName, Body, \
        ResourceAttributes, ScopeName, ScopeVersion, LogAttributes) SELECT time, lower(hex(ifNull(trace_id, ''))), \
        lower(hex(ifNull(span_id, ''))), toUInt8(flags), ifNull(severity_text, ''), toUInt8(severity_number), service_name, \
        ifNull(body, ''), map('service.namespace', service_namespace, 'service.version', service_version), scope_name, \
        scope_version, attributes FROM file('{segments}/logs/*/*.parquet', Parquet) \
        WHERE (SELECT count() FROM otel_logs) = 0",
    "OPTIMIZE TABLE otel_traces FINAL",
    "OPTIMIZE TABLE otel_logs FINAL",
];

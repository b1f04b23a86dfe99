//! Where a segment lies and how each table's columns are written. `docs/formats/segments.md` explains it.

use arrow::datatypes::Schema;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use plimsoll_model::{SegmentId, UnixNanos};
use plimsoll_otlp::Table;

use crate::chunk::{Effort, Use};
use crate::encode::EncodedSegment;
use crate::sums;

/// Rows in a row group, at most: what a reader prunes and works on at once.
pub(crate) const ROW_GROUP_ROWS: usize = 131_072;

/// For rows from the tail, which are soon written again.
pub(crate) const FLUSHED: Effort = Effort { level: 1, worth: 4 };
/// For rows of merges, which stay.
pub(crate) const MERGED: Effort = Effort { level: 3, worth: 16 };

/// The format, in every footer.
pub(crate) const FORMAT: &str = "1";

/// Returns the path of a segment: table, day of sealing (UTC), id.
pub(crate) fn path(table: Table, id: &SegmentId, sealed: UnixNanos) -> String {
    let time = sealed.to_rfc3339();
    let day = time.get(..10).unwrap_or("1970-01-01");
    format!("{}/{day}/{id}.parquet", table.name())
}

/// The columns that rows are ordered by.
pub(crate) fn sort_columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Spans => &["service_name", "start_time"],
        Table::Logs => &["service_name", "time"],
        Table::Metrics => &["service_name", "metric_name", "time"],
        Table::Operations => &["service_name", "operation", "bucket_start"],
        Table::Signals => &["service_name", "name", "bucket_start"],
    }
}

/// Times and integers that grow or cluster: the differences are small.
const DELTA: &[&str] = &[
    "received_time",
    "start_time",
    "end_time",
    "time",
    "observed_time",
    "duration_ns",
    "bucket_start",
    "log_latency_sum",
    "log_latency_sum_sq",
    "self_time_ns",
];

/// Ids and measurements: a dictionary of them would be as large as they are.
const PLAIN: &[&str] = &["trace_id", "span_id", "parent_span_id", "value", "sum", "min", "max"];

/// Columns that queries look single values up in, and that no order helps with.
fn looked_up(table: Table) -> &'static [&'static str] {
    match table {
        Table::Spans | Table::Logs => &["trace_id"],
        Table::Metrics | Table::Operations | Table::Signals => &[],
    }
}

/// Text whose bounds prune nothing: whole messages, raw resources, letters.
const UNBOUNDED: &[&str] = &[
    "attribute_types",
    "body",
    "body_type",
    "metadata_types",
    "metric_description",
    "resource",
    "resource_attributes",
    "scope",
    "status_message",
    "trace_state",
];

/// Returns what queries ask of a column of `table`.
pub(crate) fn used(table: Table, column: &str) -> Use {
    Use { bounded: !UNBOUNDED.contains(&column), looked_up: looked_up(table).contains(&column) }
}

/// Returns what the footer of a segment says beside `facts`, and those.
pub(crate) fn footer(table: Table, encoded: &EncodedSegment, facts: &[(&str, String)]) -> Vec<KeyValue> {
    let own = [
        ("plimsoll.format", FORMAT.to_owned()),
        (sums::KEY, sums::BLOCK.to_string()),
        ("plimsoll.table", table.name().to_owned()),
        ("plimsoll.received_to", encoded.received_to.0.to_string()),
        ("plimsoll.times", format!("{}-{}", encoded.times.from.0, encoded.times.to.0)),
    ];
    own.iter().chain(facts).map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())).collect()
}

/// Returns how a segment of `table` with `rows` rows is written. `schema` is that of the table, and columns behind it.
pub(crate) fn properties(table: Table, schema: &Schema, rows: usize, facts: Vec<KeyValue>) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("plimsoll ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd")))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        // Whole chunks by default: bounds of every page only where a filter can use them.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_key_value_metadata(Some(facts));
    for field in schema.fields() {
        let name = field.name().as_str();
        let column = ColumnPath::from(name);
        if field.data_type().is_nested() {
            continue;
        }
        if DELTA.contains(&name) {
            properties = properties
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column.clone(), Encoding::DELTA_BINARY_PACKED);
        }
        if PLAIN.contains(&name) {
            properties = properties.set_column_dictionary_enabled(column.clone(), false);
        }
        if looked_up(table).contains(&name) {
            properties = properties
                .set_column_bloom_filter_fpp(column.clone(), 0.01)
                .set_column_bloom_filter_max_ndv(column.clone(), rows.clamp(1, ROW_GROUP_ROWS) as u64);
        }
        // The bounds of ids and of raw resources prune nothing.
        let bounds = match name {
            "span_id" | "parent_span_id" | "resource" | "scope" | "resource_attributes" | "body" => {
                EnabledStatistics::None
            }
            _ => EnabledStatistics::Page,
        };
        properties = properties.set_column_statistics_enabled(column, bounds);
    }
    let leaf = |name: &str| {
        // Columns before the first nested one are leaves of their own; the sort columns are among them in every table.
        schema.fields().iter().position(|field| field.name() == name)
    };
    let sorting = sort_columns(table).iter().filter_map(|name| leaf(name)).map(|at| SortingColumn {
        column_idx: i32::try_from(at).expect("a schema has few columns"),
        descending: false,
        nulls_first: false,
    });
    properties.set_sorting_columns(Some(sorting.collect())).build()
}

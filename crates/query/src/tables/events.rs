//! What is nested in spans, as tables of its own, and the view `exceptions` over spans and logs.
//!
//! Events and links carry the columns of their span that one filters by: a filter on them, `trace_id` and `span_start_time`
//! included, reaches the stored spans and prunes there. A filter on the event's own `time` does not.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields};
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, Result, UnnestOptions};
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, ident, lit};
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::{event_fields, link_fields};

use super::Tables;
use super::face::{self, Face};
use crate::functions::{attribute, hex};

/// Columns of the resource and the scope that nested tables carry.
const SHARED: &[&str] = &[
    "received_time",
    "service_name",
    "service_namespace",
    "service_version",
    "environment",
    "service_instance_id",
    "resource_attributes",
    "scope_name",
    "scope_version",
];

fn spans(tables: &Tables) -> Result<LogicalPlan> {
    face::plan(Table::Spans, tables.stored(Table::Spans))
}

/// Unnests the list `nested` of spans; its fields come out under the names that `name` gives them.
fn unnested(tables: &Tables, nested: &str, fields: &Fields, name: impl Fn(&str) -> String) -> Result<LogicalPlan> {
    let span = |column: &str, shown: &str| ident(column).alias(shown);
    let mut inner: Vec<Expr> = SHARED.iter().map(|column| ident(*column)).collect();
    inner.extend([
        span("trace_id", "trace_id"),
        span("span_id", "span_id"),
        span("name", "span_name"),
        span("kind", "span_kind"),
        span("start_time", "span_start_time"),
        ident(nested),
    ]);
    let plan = LogicalPlanBuilder::from(spans(tables)?).project(inner)?.unnest_column_with_options(
        Column::from_name(nested),
        UnnestOptions { null_handling: datafusion::common::NullHandling::Drop, ..UnnestOptions::default() },
    )?;
    let mut outer: Vec<Expr> = SHARED.iter().map(|column| ident(*column)).collect();
    outer.extend(["trace_id", "span_id", "span_name", "span_kind", "span_start_time"].map(ident));
    for field in fields {
        let value = ident(nested).field(field.name().as_str());
        let value = if field.data_type() == &DataType::Binary { hex::udf().call(vec![value]) } else { value };
        outer.push(value.alias(name(field.name())));
    }
    plan.project(outer)?.build()
}

fn span_events_plan(tables: &Tables) -> Result<LogicalPlan> {
    unnested(tables, "events", &event_fields(), str::to_owned)
}

/// Builds `span_events`: one row an event.
pub(super) fn span_events(tables: &Tables) -> Result<Arc<dyn TableProvider>> {
    span_events_plan(tables).map(Face::view)
}

/// Builds `span_links`: one row a link; the ids of the span linked to are `linked_trace_id` and `linked_span_id`.
pub(super) fn span_links(tables: &Tables) -> Result<Arc<dyn TableProvider>> {
    unnested(tables, "links", &link_fields(), |field| match field {
        "trace_id" | "span_id" => format!("linked_{field}"),
        other => other.to_owned(),
    })
    .map(Face::view)
}

/// Builds `exceptions`: span events named `exception`, and log records with `exception.type` or `exception.message`.
pub(super) fn exceptions(tables: &Tables) -> Result<Arc<dyn TableProvider>> {
    let of = |key: &str| attribute::udf().call(vec![ident("attributes"), lit(key)]);
    let text = |expr: Expr, name: &str| cast(expr, DataType::Utf8).alias(name);
    let columns = |source: &str| {
        let mut columns = vec![ident("time")];
        columns.extend(
            ["service_name", "service_namespace", "service_version", "environment", "service_instance_id"]
                .map(|column| text(ident(column), column)),
        );
        columns.extend([
            ident("trace_id"),
            ident("span_id"),
            text(of("exception.type"), "exception_type"),
            text(of("exception.message"), "exception_message"),
            text(of("exception.stacktrace"), "exception_stacktrace"),
            ident("attributes"),
            lit(source).alias("source"),
        ]);
        columns
            .extend(["resource_attributes", "scope_name", "scope_version"].map(|column| text(ident(column), column)));
        columns
    };
    let from_spans = LogicalPlanBuilder::from(span_events_plan(tables)?)
        .filter(ident("name").eq(lit("exception")))?
        .project(columns("span"))?
        .build()?;
    let from_logs = LogicalPlanBuilder::from(face::plan(Table::Logs, tables.stored(Table::Logs))?)
        .filter(of("exception.type").is_not_null().or(of("exception.message").is_not_null()))?
        .project(columns("log"))?
        .build()?;
    LogicalPlanBuilder::from(from_spans).union(from_logs)?.build().map(Face::view)
}

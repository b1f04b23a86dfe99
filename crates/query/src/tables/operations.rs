//! `operations_total`: the aggregates with one row for each key. Partial rows of one key, which flushes and late spans leave behind,
//! are added up.
//!
//! A filter on a column of the key reaches the stored rows and prunes there. What is nested (exceptions, callees, blame) stays
//! in `operations`.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::Result;
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, ident};
use plimsoll_otlp::Table;

use super::Tables;
use super::face::{self, Face};
use crate::functions::histogram_merge;

/// Name of the view.
pub(super) const NAME: &str = "operations_total";

/// What a row is about.
const KEY: [&str; 8] = [
    "bucket_start",
    "service_name",
    "service_namespace",
    "service_version",
    "environment",
    "operation",
    "kind",
    "instance_age",
];
const SUMS: [&str; 9] = [
    "requests",
    "errors",
    "weighted_requests",
    "weighted_errors",
    "error_origins",
    "log_latency_sum",
    "log_latency_sum_sq",
    "self_time_ns",
    "assembled",
];
const HISTOGRAMS: [&str; 2] = ["latency", "self_time"];

/// Builds the view.
pub(super) fn operations_total(tables: &Tables) -> Result<Arc<dyn TableProvider>> {
    let [merge, _] = histogram_merge::udafs();
    let merged = |name: &str| merge.call(["buckets", "counts"].map(|part| ident(format!("{name}_{part}"))).to_vec());
    let sums = SUMS.iter().map(|name| sum(ident(*name)).alias(*name));
    let histograms = HISTOGRAMS.iter().map(|name| merged(name).alias(*name));
    let aggregates: Vec<Expr> = sums.chain(histograms).collect();
    let keys: Vec<Expr> = KEY.iter().map(|name| ident(*name)).collect();
    let own = KEY.iter().chain(&SUMS).chain(&HISTOGRAMS).map(|name| ident(*name));
    let shown = own.chain(face::summed(ident("operation")));
    let face = face::plan(Table::Operations, tables.stored(Table::Operations))?;
    LogicalPlanBuilder::from(face).aggregate(keys, aggregates)?.project(shown)?.build().map(Face::view)
}

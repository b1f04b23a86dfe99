//! The face of a stored table: ids as hexadecimal text, enumerations as words, raw wire bytes left out.
//!
//! A face is a logical plan over the stored table, so that the optimiser sees through it: columns that are not asked for are
//! not computed, and filters reach the stored columns.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, Result};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, ident, lit};
use datafusion::physical_plan::ExecutionPlan;
use plimsoll_otlp::Table;

use crate::functions::{hex, identity, names, template};

/// Stored columns that are not shown: the wire bytes of resource and scope.
pub(crate) const HIDDEN: &[&str] = &["resource", "scope"];

/// A plan under a name: a table as it is shown, or a view of others.
#[derive(Debug)]
pub(crate) struct Face {
    schema: SchemaRef,
    plan: LogicalPlan,
    kind: TableType,
}

impl Face {
    /// Makes a table of `plan`.
    pub(crate) fn table(plan: LogicalPlan) -> Arc<dyn TableProvider> {
        Self::of(plan, TableType::Base)
    }

    /// Makes a view of `plan`.
    pub(crate) fn view(plan: LogicalPlan) -> Arc<dyn TableProvider> {
        Self::of(plan, TableType::View)
    }

    fn of(plan: LogicalPlan, kind: TableType) -> Arc<dyn TableProvider> {
        Arc::new(Self { schema: Arc::new(plan.schema().as_arrow().clone()), plan, kind })
    }
}

#[async_trait]
impl TableProvider for Face {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.kind
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut plan = LogicalPlanBuilder::from(self.plan.clone());
        if let Some(filter) = filters.iter().cloned().reduce(Expr::and) {
            plan = plan.filter(filter)?;
        }
        if let Some(projection) = projection {
            plan = plan.project(
                projection.iter().map(|at| Expr::from(Column::from(self.plan.schema().qualified_field(*at)))),
            )?;
        }
        state.create_physical_plan(&plan.limit(0, limit)?.build()?).await
    }
}

/// Returns the face of `table`, read from `stored`.
pub(crate) fn face(table: Table, stored: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    plan(table, stored).map(Face::table)
}

/// Returns the common columns that rows which sum up those of many instances and scopes lack, with what is known of them all.
pub(super) fn summed(operation: Expr) -> [Expr; 5] {
    let [service, request] = identity::udfs();
    let key = ["service_name", "service_namespace", "service_version", "environment"].map(ident);
    [
        lit("").alias("service_instance_id"),
        service.call(key.to_vec()).alias("resource_attributes"),
        lit("").alias("scope_name"),
        lit("").alias("scope_version"),
        request.call(vec![operation]).alias("attributes"),
    ]
}

/// Returns the plan behind it.
pub(crate) fn plan(table: Table, stored: Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    let mut columns = Vec::with_capacity(table.schema().fields().len() + 1);
    for field in table.schema().fields() {
        let name = field.name().as_str();
        if HIDDEN.contains(&name) {
            continue;
        }
        columns.push(match (name, field.data_type()) {
            ("kind", DataType::Int32) => names::KIND.udf().call(vec![ident(name)]).alias(name),
            ("status_code", DataType::Int32) => names::STATUS.udf().call(vec![ident(name)]).alias(name),
            ("temporality", DataType::Int32) => names::TEMPORALITY.udf().call(vec![ident(name)]).alias(name),
            (_, DataType::FixedSizeBinary(_)) => hex::udf().call(vec![ident(name)]).alias(name),
            (_, DataType::List(item)) if matches!(item.data_type(), DataType::FixedSizeBinary(_)) => {
                hex::udf().call(vec![ident(name)]).alias(name)
            }
            _ => ident(name),
        });
    }
    if table == Table::Logs {
        columns.push(template::udf().call(vec![ident("body")]).alias("template"));
    }
    match table {
        Table::Operations => columns.extend(summed(ident("operation"))),
        Table::Signals => columns.extend(summed(lit(""))),
        _ => {}
    }
    // Under another name than the face: a column that is shown as it is stored is still told apart from one that is not.
    LogicalPlanBuilder::scan(format!("{}_stored", table.name()), provider_as_source(stored), None)?
        .project(columns)?
        .build()
}

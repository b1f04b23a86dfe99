//! From text to a plan: the guards, the facts that planning needs, and the tables of one snapshot.
//!
//! *Invariants.* A statement that is described passes the same guards as one that runs, and the schema that it is told is the
//! one its rows will have: both come from the optimised plan.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::memory_pool::MemoryPool;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SQLOptions;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Ast;
use plimsoll_catalog::DeployFilter;
use plimsoll_model::DeployId;
use plimsoll_store::Snapshot;

use crate::engine::Shared;
use crate::error::{QueryError, unknown};
use crate::functions::latest_deploy::DeployIndex;
use crate::guard::{self, Checked};
use crate::guarded;
use crate::headings::Headings;
use crate::implied;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::params::{Given, Placed};
use crate::port::{Description, QueryRequest};
use crate::postgres::PG_CATALOG;
use crate::session::Facts;
use crate::tables::reads::Reads;
use crate::tables::{CATALOG, NAMES, SCHEMA, SYSTEM_NAMES, SYSTEM_SCHEMA, Tables};

/// Deploys that `latest_deploy` looks among: the newest so many.
const DEPLOYS_MAX: u32 = 100_000;

/// Plans the statements of one request.
pub(crate) struct Planning<'a> {
    shared: &'a Shared,
    snapshot: Snapshot,
    reads: Arc<Reads>,
    interrupt: Arc<Interrupt>,
    memory: Option<Arc<dyn MemoryPool>>,
}

/// A plan that is ready to run.
pub(crate) struct Planned {
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) schema: SchemaRef,
    pub(crate) state: SessionState,
}

impl<'a> Planning<'a> {
    /// Takes a snapshot to plan over.
    pub(crate) fn new(
        shared: &'a Shared,
        interrupt: Arc<Interrupt>,
        allow_missing: bool,
        memory: Option<Arc<dyn MemoryPool>>,
    ) -> Self {
        let snapshot = shared.store.snapshot();
        let footers = shared.sessions.runtime().cache_manager.get_file_metadata_cache();
        let verified = allow_missing.then(|| Arc::clone(&shared.verified));
        let reads = Reads::new(snapshot.without_tail(), footers, verified);
        Self { shared, snapshot, reads, interrupt, memory }
    }

    /// Returns what was read so far.
    pub(crate) fn reads(&self) -> &Arc<Reads> {
        &self.reads
    }

    /// Returns the tables that statements see.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::new(Tables {
            snapshot: self.snapshot.clone(),
            catalog: Arc::clone(&self.shared.catalog),
            reads: Arc::clone(&self.reads),
            store: self.shared.store.clone(),
            queries: Arc::clone(&self.shared.queries),
            journal: self.shared.journal.clone(),
        })
    }

    fn invalid(&self, error: &DataFusionError) -> QueryError {
        QueryError::from_planning(error, self.shared.limits.memory_bytes)
    }

    /// Reads from the catalog what functions of the statement need to know before it is planned.
    async fn facts(&self, checked: &Checked, describing: bool) -> Result<Facts, QueryError> {
        let catalog = &self.shared.catalog;
        let unreadable = |error: plimsoll_catalog::CatalogError| QueryError::Unreadable(error.to_string());
        let mut around = HashMap::new();
        for id in &checked.deploys {
            if let Some(deploy) = catalog.deploy(&DeployId::from_text(id.clone())).await.map_err(unreadable)? {
                around.insert(id.clone(), deploy);
            }
        }
        let index = if checked.latest_deploy && !describing {
            let filter = DeployFilter { limit: DEPLOYS_MAX, ..DeployFilter::default() };
            DeployIndex::new(&catalog.deploys(&filter).await.map_err(unreadable)?)
        } else {
            DeployIndex::default()
        };
        Ok(Facts { around: Arc::new(around), index: Arc::new(index), describing })
    }

    /// Parses and plans, as far as the logical plan.
    async fn logical(
        &self,
        sql: &str,
        given: Given<'_>,
        types: &[Option<DataType>],
    ) -> Result<(SessionState, LogicalPlan, Placed, Headings), QueryError> {
        let checked = guard::check(sql, given, types, self.shared.limits.sql_bytes_max)?;
        let describing = matches!(given, Given::Nothing);
        let facts = self.facts(&checked, describing).await?;
        let state = self.shared.sessions.session(
            &self.tables(),
            &facts,
            (&self.interrupt, &self.shared.ingest),
            self.memory.clone(),
        );
        known_tables(&state, &checked.statement)?;
        let plan = match (state.statement_to_plan(checked.statement).await, checked.fallback) {
            (Ok(plan), _) => plan,
            (Err(_), Some(fallback)) => {
                state.create_logical_plan(&fallback).await.map_err(|error| self.invalid(&error))?
            }
            (Err(error), None) => return Err(self.invalid(&error)),
        };
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)
            .map_err(|error| QueryError::Refused(crate::error::tidy(&error.strip_backtrace())))?;
        Ok((state, plan, checked.parameters, checked.headings))
    }

    /// Plans `request` until it only needs to be run.
    pub(crate) async fn plan(&self, request: &QueryRequest) -> Result<Planned, QueryError> {
        let given = Given::Values(&request.params);
        let (state, plan, _, headings) = self.logical(&request.sql, given, &request.types).await?;
        let optimized = state.optimize(&plan).and_then(guarded::guard).map_err(|error| self.invalid(&error))?;
        let schema = headings.apply(Output::new(optimized.schema().as_arrow()).schema());
        let planner = Arc::clone(state.query_planner());
        let plan = planner.create_physical_plan(&optimized, &state).await.map_err(|error| self.invalid(&error))?;
        Ok(Planned { plan, schema, state })
    }

    /// Says what a statement takes and gives.
    pub(crate) async fn describe(&self, sql: &str, types: &[Option<DataType>]) -> Result<Description, QueryError> {
        let (state, plan, placed, headings) = self.logical(sql, Given::Nothing, types).await?;
        let plan = implied::settle(plan).map_err(|error| self.invalid(&error))?;
        let implied = implied::types(&plan)?;
        let items: Vec<DataType> = (0..placed.count)
            .map(|at| {
                let said = types.get(at).cloned().flatten();
                // Each item of a list is cast.
                let cast = || match placed.casts.get(&(at + 1)).cloned() {
                    Some(DataType::List(item)) if placed.lists.contains(&(at + 1)) => Some(item.data_type().clone()),
                    cast => cast,
                };
                let implied = || implied.get(&(at + 1)).cloned();
                match said.or_else(cast).or_else(implied) {
                    None if placed.whole.contains(&(at + 1)) => DataType::Int64,
                    None if placed.signed.contains(&(at + 1)) => DataType::Float64,
                    None => DataType::Utf8,
                    Some(data_type) => crate::output::plain(&data_type),
                }
            })
            .collect();
        let nothing = items
            .iter()
            .enumerate()
            .map(|(at, data_type)| {
                let null = ScalarValue::try_from(data_type).unwrap_or(ScalarValue::Utf8(None));
                ((at + 1).to_string(), null.into())
            })
            .collect();
        let plan = plan
            .replace_params_with_values(&ParamValues::Map(nothing))
            .and_then(|plan| state.optimize(&plan))
            .map_err(|error| self.invalid(&error))?;
        let params = items
            .into_iter()
            .enumerate()
            .map(|(at, item)| match placed.lists.contains(&(at + 1)) {
                true if !matches!(item, DataType::List(_)) => DataType::new_list(item, true),
                _ => item,
            })
            .collect();
        Ok(Description { params, schema: headings.apply(Output::new(plan.schema().as_arrow()).schema()) })
    }
}

/// Refuses tables that do not exist, naming the nearest that does.
fn known_tables(state: &SessionState, statement: &Statement) -> Result<(), QueryError> {
    let references = state.resolve_table_references(statement).map_err(|error| QueryError::from_planning(&error, 0))?;
    let shows = matches!(statement, Statement::Statement(inner) if !matches!(inner.as_ref(), Ast::Query(_)));
    for reference in references {
        let name = reference.table();
        let known = match reference.schema().unwrap_or(SCHEMA) {
            // What the engine is set to is its own: no query reads it, though what is shown is looked for in every table of the catalogue.
            "information_schema" => name != "df_settings" || shows,
            PG_CATALOG => true,
            SCHEMA => NAMES.contains(&name) || guard::TABLE_FUNCTIONS.contains(&name),
            SYSTEM_SCHEMA => SYSTEM_NAMES.contains(&name),
            _ => false,
        };
        if known && reference.catalog().is_none_or(|catalog| catalog == CATALOG) {
            continue;
        }
        let system = SYSTEM_NAMES.map(|name| format!("{SYSTEM_SCHEMA}.{name}"));
        let names: Vec<&str> = NAMES.into_iter().chain(system.iter().map(String::as_str)).collect();
        return Err(QueryError::Invalid(unknown("table", &reference.to_string(), &names)));
    }
    Ok(())
}

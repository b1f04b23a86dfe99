//! The planner's configuration: which functions there are, what may be read, how much memory there is.
//!
//! *Invariants.*
//! - The only object store is that of the query's own snapshot: no other address, and no local path, resolves.
//! - What does not fit into the memory of queries is spilled to a directory of its own, up to a limit; beyond it, or where
//!   there is none, the query fails with an error that names the setting.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::cache::cache_manager::CacheManagerConfig;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::optimizer::{Analyzer, OptimizerRule};
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use plimsoll_otlp::schema::UTC;
use url::Url;

use crate::by_length::ByLength;
use crate::coded::Coded;
use crate::constants::Constants;
use crate::error::QueryError;
use crate::friendly::{FriendlyLists, FriendlyPlanner};
use crate::functions;
use crate::functions::latest_deploy::{self, DeployIndex};
use crate::give_way::{GivesWay, Ingest};
use crate::guard::REFUSED_FUNCTIONS;
use crate::implied::ImpliedPlanner;
use crate::interrupt::{Interrupt, Interruptible, Unhurried};
use crate::late::{LateColumns, PlainComparisons};
use crate::plain_text::PlainText;
use crate::port::{QueryLimits, SpillLimits};
use crate::postgres;
use crate::sound::sound;
use crate::tables::around::{Around, Deploys};
use crate::tables::attribute_columns::AttributeColumns;
use crate::tables::trace::{self, TraceTree};
use crate::tables::{CATALOG, Namespace, SCHEMA, Tables};
use crate::top::TopScans;

/// The address under which a query sees the segments of its snapshot.
pub(crate) const SEGMENTS_URL: &str = "plimsoll://segments";

/// Share of the queries' memory that keeps Parquet footers and page indexes: about half a megabyte for a million rows. What does
/// not fit is parsed again by every query.
const FOOTER_SHARE: usize = 4;
/// The most that is used for them.
const FOOTER_BYTES_MAX: usize = 128 << 20;

/// Rows of a batch: as many as are worth the cost of one, and fewer where memory is short, as a sort that spills holds several
/// batches of each partition at once, and rows may take a kilobyte.
const BATCH_ROWS: RangeInclusive<usize> = 1_024..=8_192;
/// Memory of each thread for each row of a batch.
const ROW_BYTES: usize = 3_400;

/// Share of the queries' memory that a sort keeps free, and the most that it does.
const SORT_SHARE: usize = 32;
const SORT_BYTES_MAX: usize = 10 << 20;

/// What functions of one statement need to know before it is planned.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The deploys that it names.
    pub(crate) around: Deploys,
    /// Every deploy, where it asks for the latest of something.
    pub(crate) index: Arc<DeployIndex>,
    /// True where it is only described: parameters have no values yet.
    pub(crate) describing: bool,
}

/// What every query's session is made from.
pub(crate) struct Sessions {
    state: SessionState,
    runtime: RuntimeEnv,
}

impl Sessions {
    pub(crate) fn new(limits: &QueryLimits) -> std::result::Result<Self, QueryError> {
        let spill = spill(limits.spill.as_ref())?;
        Self::with(limits, spill).map_err(|error| QueryError::from_planning(&error, limits.memory_bytes))
    }

    fn with(limits: &QueryLimits, spill: DiskManagerBuilder) -> Result<Self> {
        let footers = (limits.memory_bytes / FOOTER_SHARE).min(FOOTER_BYTES_MAX);
        let caches = CacheManagerConfig::default()
            .with_metadata_cache_limit(footers)
            .with_list_files_cache_limit(0)
            .with_file_statistics_cache_limit(0);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes.saturating_sub(footers))))
            .with_disk_manager_builder(spill)
            .with_cache_manager(caches)
            .with_object_store_registry(Arc::new(NoStore))
            .build()?;
        let mut config = SessionConfig::new()
            .with_information_schema(true)
            .with_target_partitions(limits.threads.max(1))
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, SCHEMA);
        let rows = limits.memory_bytes.saturating_sub(footers) / limits.threads.max(1) / ROW_BYTES;
        let rows = rows.clamp(*BATCH_ROWS.start(), *BATCH_ROWS.end());
        config = config.with_batch_size(1 << rows.ilog2());
        let options = config.options_mut();
        options.sql_parser.map_string_types_to_utf8view = false;
        // Segments are shared out among threads by their row groups when they are scanned: by ranges of bytes, one thread may get all
        // rows of the service that is asked for.
        options.optimizer.repartition_file_min_size = usize::MAX;
        // What a time with a zone is read as, and what columns are.
        options.execution.time_zone = Some(UTC.to_owned());
        // What a sort keeps free to merge what it spilled: the default is more than a small budget has.
        options.execution.sort_spill_reservation_bytes = (limits.memory_bytes / SORT_SHARE).min(SORT_BYTES_MAX);
        // It tells columns apart by name alone, and a face has columns of the names that are stored: `AttributeColumns` does
        // what it is for.
        options.optimizer.enable_leaf_expression_pushdown = false;
        options.execution.parquet.pushdown_filters = true;
        options.execution.parquet.bloom_filter_on_read = true;
        let mut planners = SessionStateDefaults::default_expr_planners();
        planners.insert(0, Arc::new(ImpliedPlanner));
        planners.insert(1, Arc::new(FriendlyPlanner));
        let mut rules = Analyzer::new().rules;
        rules.insert(0, Arc::new(Constants));
        rules.insert(1, Arc::new(FriendlyLists));
        rules.insert(2, Arc::new(ByLength));
        rules.insert(3, Arc::new(PlainText));
        rules.push(Arc::new(ByLength));
        let mut scalar = SessionStateDefaults::default_scalar_functions();
        scalar.retain(|udf| !REFUSED_FUNCTIONS.contains(&udf.name()) && udf.name() != functions::power::NAME);
        scalar.extend(functions::scalar());
        scalar.extend(postgres::scalar());
        let mut aggregate = SessionStateDefaults::default_aggregate_functions();
        aggregate.extend(functions::aggregate());
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(runtime.clone()))
            .with_expr_planners(planners)
            .with_analyzer_rules(rules)
            .with_optimizer_rule(Arc::new(AttributeColumns))
            .with_optimizer_rule(Arc::new(PlainComparisons))
            .with_optimizer_rule(Arc::new(LateColumns))
            .with_scalar_functions(scalar)
            .with_aggregate_functions(aggregate)
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_table_functions(HashMap::new())
            .with_type_planner(postgres::type_planner())
            .build();
        Ok(Self { state, runtime })
    }

    /// Makes the session of one query.
    pub(crate) fn session(
        &self,
        tables: &Arc<Tables>,
        facts: &Facts,
        (interrupt, ingest): (&Arc<Interrupt>, &Arc<Ingest>),
        memory: Option<Arc<dyn MemoryPool>>,
    ) -> SessionState {
        let runtime = RuntimeEnv {
            memory_pool: memory.unwrap_or_else(|| Arc::clone(&self.runtime.memory_pool)),
            object_store_registry: Arc::new(OneStore(tables.snapshot.object_store())),
            ..self.runtime.clone()
        };
        let look: Arc<dyn OptimizerRule + Send + Sync> = Arc::new(Unhurried(Arc::clone(interrupt)));
        let rules = self.state.optimizers().iter().flat_map(|rule| [Arc::clone(&look), sound(rule)]).collect();
        let mut state = SessionStateBuilder::new_from_existing(self.state.clone())
            .with_optimizer_rules(rules)
            .with_catalog_list(Arc::new(Namespace(Arc::clone(tables))))
            .with_runtime_env(Arc::new(runtime))
            .with_physical_optimizer_rule(Arc::new(TopScans {
                reads: Arc::clone(&tables.reads),
                ingest: Arc::clone(ingest),
            }))
            .with_physical_optimizer_rule(Arc::new(Coded))
            .with_physical_optimizer_rule(Arc::new(GivesWay(Arc::clone(ingest))))
            .with_physical_optimizer_rule(Arc::new(Interruptible(Arc::clone(interrupt))))
            .build();
        for (name, function) in Around::functions(tables, facts) {
            state.register_udtf(name, function);
        }
        // Without it `now()` has no value and fails.
        state.mark_start_execution();
        state.register_udtf(trace::NAME, Arc::new(TraceTree::new(tables, facts.describing)));
        let latest = latest_deploy::udf(Arc::clone(&facts.index));
        // A function of this name is there already, for those who list functions.
        let _ = state.register_udf(latest);
        state
    }

    pub(crate) fn runtime(&self) -> &RuntimeEnv {
        &self.runtime
    }
}

/// Prepares the directory that queries spill to: what an earlier run left there is removed.
fn spill(limits: Option<&SpillLimits>) -> std::result::Result<DiskManagerBuilder, QueryError> {
    let Some(SpillLimits { directory, bytes_max }) = limits else {
        return Ok(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled));
    };
    let prepared = match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(directory),
    };
    prepared.map_err(|error| {
        QueryError::Unreadable(format!(
            "cannot prepare `{}` for spilled rows: {error}; make it writable",
            directory.display()
        ))
    })?;
    let mode = DiskManagerMode::Directories(vec![directory.clone()]);
    Ok(DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(*bytes_max))
}

/// Knows no store.
#[derive(Debug)]
struct NoStore;

impl ObjectStoreRegistry for NoStore {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        exec_err!("`{url}` cannot be read from SQL")
    }
}

/// Knows the store of one snapshot.
#[derive(Debug)]
struct OneStore(Arc<dyn ObjectStore>);

impl ObjectStoreRegistry for OneStore {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if url.scheme() == "plimsoll" { Ok(Arc::clone(&self.0)) } else { exec_err!("`{url}` cannot be read from SQL") }
    }
}

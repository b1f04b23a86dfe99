//! What a scan asks of segments whose columns are alike: which columns are read in which order, and what is computed from them.
//!
//! Filters are tested in stages, those over numbers and dictionaries before those over text and nested values, so that long values
//! are only read of rows that pass the others.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::PagePruningAccessPlanFilter;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::simplifier::PhysicalExprSimplifier;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr_adapter::{DefaultPhysicalExprAdapterFactory, PhysicalExprAdapterFactory};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::expressions::Column;

use super::Asked;

/// Some of the filters, and the columns that they need.
pub(super) struct Stage {
    /// Columns that are read for it: those that it sees and no stage before it has read.
    pub(super) reads: Vec<usize>,
    /// The columns that its filters see.
    pub(super) sees: Vec<usize>,
    pub(super) schema: SchemaRef,
    pub(super) filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Columns that are needed when it is done.
    pub(super) keeps: Vec<usize>,
}

/// Columns are places in the schema of the segments.
pub(super) struct Compiled {
    pub(super) schema: SchemaRef,
    /// What decides the order, as the first stage sees it.
    pub(super) key: Arc<dyn PhysicalExpr>,
    /// The column that it is, where it is one: segments without it have null in all rows.
    pub(super) key_column: Option<usize>,
    pub(super) stages: Vec<Stage>,
    /// The columns that the answer is computed from, as the outputs see them.
    pub(super) shows: Vec<usize>,
    pub(super) shown: SchemaRef,
    pub(super) outputs: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) groups: Option<Arc<PruningPredicate>>,
    pub(super) pages: Option<PagePruningAccessPlanFilter>,
}

/// Says whether reading values of this type costs little: numbers, and text by its number in a dictionary.
fn is_light(data_type: &DataType) -> bool {
    data_type.is_primitive() || matches!(data_type, DataType::Dictionary(..) | DataType::Boolean)
}

impl Compiled {
    /// Fits what is asked to segments of `schema`.
    ///
    /// # Errors
    /// An expression does not fit.
    pub(super) fn new(asked: &Asked, schema: &SchemaRef) -> Result<Self> {
        let adapter = DefaultPhysicalExprAdapterFactory.create(Arc::clone(&asked.table), Arc::clone(schema))?;
        let simplifier = PhysicalExprSimplifier::new(schema);
        let fit = |expr: &Arc<dyn PhysicalExpr>| simplifier.simplify(adapter.rewrite(Arc::clone(expr))?);
        let filters = asked.filters.iter().map(fit).collect::<Result<Vec<_>>>()?;
        let outputs = asked.outputs.iter().map(fit).collect::<Result<Vec<_>>>()?;
        let key = fit(&asked.key)?;
        let key_column = key.downcast_ref::<Column>().map(Column::index);

        let shows: Vec<usize> = outputs.iter().flat_map(columns).collect::<BTreeSet<_>>().into_iter().collect();
        let (light, heavy): (Vec<_>, Vec<_>) = filters
            .iter()
            .cloned()
            .partition(|filter| columns(filter).iter().all(|at| is_light(schema.field(*at).data_type())));
        let mut read = BTreeSet::new();
        let mut stages = Vec::with_capacity(2);
        for (number, filters) in [light, heavy].into_iter().enumerate() {
            // The first stage is there in any case: it finds the places of rows in the order.
            if number > 0 && filters.is_empty() {
                continue;
            }
            let mut sees: BTreeSet<usize> = filters.iter().flat_map(columns).collect();
            if number == 0 {
                sees.extend(columns(&key));
            }
            let reads: Vec<usize> = sees.iter().copied().filter(|column| read.insert(*column)).collect();
            let sees: Vec<usize> = sees.into_iter().collect();
            let narrow = Arc::new(schema.project(&sees)?);
            let filters =
                filters.into_iter().map(|filter| reassign_expr_columns(filter, &narrow)).collect::<Result<Vec<_>>>()?;
            stages.push(Stage { reads, sees, schema: narrow, filters, keeps: Vec::new() });
        }
        let mut needed: BTreeSet<usize> = shows.iter().copied().collect();
        for stage in stages.iter_mut().rev() {
            stage.keeps = needed.iter().copied().collect();
            needed.extend(&stage.sees);
        }

        let key = reassign_expr_columns(key, &stages[0].schema)?;
        let shown = Arc::new(schema.project(&shows)?);
        let outputs =
            outputs.into_iter().map(|output| reassign_expr_columns(output, &shown)).collect::<Result<Vec<_>>>()?;
        let all = datafusion::physical_expr::conjunction_opt(filters);
        let groups = all.clone().and_then(|all| {
            PruningPredicateBuilder::new()
                .with_file_schema(Arc::clone(schema))
                .build(all)
                .filter(|all| !all.always_true())
        });
        let pages = all
            .map(|all| PagePruningAccessPlanFilter::new(&all, Arc::clone(schema)))
            .filter(|pages| pages.filter_number() > 0);
        Ok(Self { schema: Arc::clone(schema), key, key_column, stages, shows, shown, outputs, groups, pages })
    }

    /// Says whether it fits segments of `schema` too.
    pub(super) fn fits(&self, schema: &Schema) -> bool {
        self.schema.as_ref() == schema
    }

    /// Says whether values of the column that decides the order may be absent.
    pub(super) fn key_is_nullable(&self) -> bool {
        self.key_column.is_none_or(|key| self.schema.field(key).is_nullable())
    }
}

fn columns(expr: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    collect_columns(expr).iter().map(Column::index).collect()
}

//! `trace_tree(trace_id)`: the spans of one trace in the order of their tree, with depth, path and self time.
//!
//! The spans are found as `spans WHERE trace_id = ..` finds them; then they are held as a whole, within the memory of queries.

use std::fmt;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt32Array};
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimestampNanosecondType};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Column, Result, exec_err};
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType, ident, lit};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties,
};
use futures::StreamExt;
use futures::stream::{self, select_all};
use plimsoll_otlp::Table;

use super::Tables;
use super::face;
use super::tree::{Node, Place, places};
use crate::error::QueryError;
use crate::functions::hex;

/// Name of the function.
pub(crate) const NAME: &str = "trace_tree";
/// Bytes of an id.
const TRACE_BYTES: usize = 16;
/// An id as it is written.
const EXAMPLE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// Spans of one trace, at most.
const SPANS_MAX: usize = 200_000;

/// What the tree needs of each span.
const NEEDED: [&str; 6] = ["span_id", "parent_span_id", "service_name", "name", "start_time", "end_time"];

static TREE_FIELDS: LazyLock<Vec<FieldRef>> = LazyLock::new(|| {
    vec![
        Arc::new(Field::new("position", DataType::UInt32, false)),
        Arc::new(Field::new("depth", DataType::UInt32, false)),
        Arc::new(Field::new("path", DataType::Utf8, false)),
        Arc::new(Field::new("offset_ns", DataType::Int64, false)),
        Arc::new(Field::new("self_time_ns", DataType::Int64, false)),
        Arc::new(Field::new("children", DataType::UInt32, false)),
        Arc::new(Field::new("problem", DataType::Utf8, true)),
    ]
});

/// The function, for one query.
#[derive(Debug)]
pub(crate) struct TraceTree {
    tables: Arc<Tables>,
    describing: bool,
}

impl TraceTree {
    pub(crate) fn new(tables: &Arc<Tables>, describing: bool) -> Self {
        Self { tables: Arc::clone(tables), describing }
    }
}

impl TableFunctionImpl for TraceTree {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let id = match args.exprs() {
            [Expr::Literal(id, _)] => id.try_as_str().flatten().map(hex::spelled),
            [_] if self.describing => Some(String::new()),
            _ => None,
        };
        let Some(id) = id else {
            let text = format!("`{NAME}` takes the id of a trace, for instance `{NAME}('{EXAMPLE}')`");
            return Err(QueryError::Invalid(text).into());
        };
        if !self.describing && hex::parse(&id, TRACE_BYTES).is_none() {
            let text = format!("`{id}` is no id of a trace: it has 32 hexadecimal digits, for instance `{EXAMPLE}`");
            return Err(QueryError::Invalid(text).into());
        }
        let face = face::plan(Table::Spans, self.tables.stored(Table::Spans))?;
        let spans = LogicalPlanBuilder::from(face).filter(ident("trace_id").eq(lit(id)))?.build()?;
        let fields = TREE_FIELDS.iter().chain(spans.schema().fields()).cloned().collect::<Vec<_>>();
        Ok(Arc::new(TreeTable { schema: Arc::new(Schema::new(fields)), spans }))
    }
}

/// One trace as a table.
#[derive(Debug)]
struct TreeTable {
    schema: SchemaRef,
    spans: LogicalPlan,
}

#[async_trait]
impl TableProvider for TreeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let schema = Arc::new(self.schema.project(&wanted)?);
        let mut read: Vec<&str> = NEEDED.to_vec();
        for field in wanted.iter().filter(|at| **at >= TREE_FIELDS.len()).map(|at| self.schema.field(*at)) {
            if !read.contains(&field.name().as_str()) {
                read.push(field.name());
            }
        }
        let columns = read
            .iter()
            .map(|name| self.spans.schema().index_of_column_by_name(None, name))
            .filter_map(|at| at.map(|at| Expr::from(Column::from(self.spans.schema().qualified_field(at)))));
        let plan = LogicalPlanBuilder::from(self.spans.clone()).project(columns)?.build()?;
        let input = state.create_physical_plan(&plan).await?;
        let sources = wanted
            .iter()
            .map(|at| match at.checked_sub(TREE_FIELDS.len()) {
                None => Source::Tree(*at),
                Some(_) => {
                    let name = self.schema.field(*at).name();
                    Source::Span(read.iter().position(|column| column == name).unwrap_or(0))
                }
            })
            .collect();
        Ok(Arc::new(TreeExec::new(input, schema, sources)))
    }
}

/// Where a column of the answer comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// A place in [`TREE_FIELDS`].
    Tree(usize),
    /// A column of the spans.
    Span(usize),
}

#[derive(Debug)]
struct TreeExec {
    input: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    sources: Arc<Vec<Source>>,
    properties: Arc<PlanProperties>,
}

impl TreeExec {
    fn new(input: Arc<dyn ExecutionPlan>, schema: SchemaRef, sources: Vec<Source>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self { input, schema, sources: Arc::new(sources), properties: Arc::new(properties) }
    }
}

impl DisplayAs for TreeExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceTreeExec")
    }
}

impl ExecutionPlan for TreeExec {
    fn name(&self) -> &str {
        "TraceTreeExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Self::new(input, Arc::clone(&self.schema), self.sources.to_vec())))
    }

    fn execute(&self, _partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let partitions = self.input.properties().output_partitioning().partition_count();
        let inputs = (0..partitions)
            .map(|partition| self.input.execute(partition, Arc::clone(&context)))
            .collect::<Result<Vec<_>>>()?;
        let spans_schema = self.input.schema();
        let (schema, sources) = (Arc::clone(&self.schema), Arc::clone(&self.sources));
        let whole = async move {
            let held = MemoryConsumer::new(NAME).register(context.memory_pool());
            let mut spans = select_all(inputs);
            let (mut batches, mut rows) = (Vec::new(), 0);
            while let Some(batch) = spans.next().await {
                let batch = batch?;
                rows += batch.num_rows();
                if rows > SPANS_MAX {
                    let text = format!(
                        "the trace has more than {SPANS_MAX} spans: read them with `SELECT .. FROM spans WHERE trace_id = ..`"
                    );
                    return Err(QueryError::Exceeded(text).into());
                }
                held.try_grow(batch.get_array_memory_size() * 3)?;
                batches.push(batch);
            }
            let spans = concat_batches(&spans_schema, &batches)?;
            let tree = tree(&spans)?;
            let order = UInt32Array::from_iter_values(tree.iter().map(|place| place.row as u32));
            let columns = sources
                .iter()
                .map(|source| match source {
                    Source::Tree(at) => Ok(column(*at, &tree)),
                    Source::Span(at) => Ok(take(spans.column(*at), &order, None)?),
                })
                .collect::<Result<Vec<_>>>()?;
            let rows = RecordBatchOptions::new().with_row_count(Some(tree.len()));
            Ok(RecordBatch::try_new_with_options(schema, columns, &rows)?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream::once(whole))))
    }
}

fn tree(spans: &RecordBatch) -> Result<Vec<Place>> {
    let text = |at: usize| cast(spans.column(at), &DataType::Utf8);
    let (ids, parents, services, names) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let (ids, parents) = (ids.as_string::<i32>(), parents.as_string::<i32>());
    let (services, names) = (services.as_string::<i32>(), names.as_string::<i32>());
    let times = |at: usize| spans.column(at).as_primitive_opt::<TimestampNanosecondType>();
    let (Some(starts), Some(ends)) = (times(4), times(5)) else { return exec_err!("spans have no times") };
    let nodes: Vec<Node<'_>> = (0..spans.num_rows())
        .map(|row| Node {
            id: ids.value(row),
            parent: parents.is_valid(row).then(|| parents.value(row)),
            service: services.value(row),
            name: names.value(row),
            start: starts.value(row),
            end: ends.value(row),
        })
        .collect();
    Ok(places(&nodes))
}

fn column(at: usize, tree: &[Place]) -> ArrayRef {
    let signed = |value: fn(&Place) -> i64| Arc::new(tree.iter().map(value).collect::<Int64Array>()) as ArrayRef;
    let unsigned = |value: fn(&Place) -> u32| Arc::new(tree.iter().map(value).collect::<UInt32Array>()) as ArrayRef;
    match at {
        0 => Arc::new(UInt32Array::from_iter_values((1_u32..).take(tree.len()))),
        1 => unsigned(|place| place.depth),
        2 => Arc::new(StringArray::from_iter_values(tree.iter().map(|place| place.path.as_str()))),
        3 => signed(|place| place.offset),
        4 => signed(|place| place.self_time),
        5 => unsigned(|place| place.children),
        _ => Arc::new(tree.iter().map(|place| place.problem).collect::<StringArray>()),
    }
}

//! How large a statement becomes when every name in it stands for what it names.
//!
//! *Why.* A name of a `WITH` is planned once for each time it is used, and a filter over a column of a subquery is rewritten in terms of what that
//! column was made of. A few hundred bytes of text can so stand for a plan that fits into no memory, and planning can be neither
//! bounded nor interrupted while it works on it. So what would come of it is counted before.
//!
//! *How.* Bottom up: the tables that a query reads, and for each of its columns how often columns of stored tables occur in it. Columns
//! are told apart by name alone; where two have the same the larger counts. What is counted is never less than what the planner
//! makes, and may be more.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, GroupByWithModifier, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins,
    Visit, Visitor,
};

use crate::error::QueryError;
use crate::walk;

/// Tables that a statement may read, one that is read twice counted twice.
const TABLES_MAX: u64 = 100;
/// What a table counts for beside a query that reads none, such as each of many constants in a `UNION`: it is planned all the same.
const TABLE: u64 = 5;
/// How often what `IN` and `= ANY` ask is planned: where null counts, its rows are counted twice beside.
const ASKED: u64 = 3;
/// Columns of stored tables in one expression.
const TERMS_MAX: u64 = 16_384;
/// What one query may select: as many as a table of Postgres may have.
const COLUMNS_MAX: usize = 1_600;
/// Sets that rows may be grouped by at once.
const GROUPINGS_MAX: u64 = 256;

/// Refuses what becomes too large.
pub(crate) fn check(statement: &Statement) -> Result<(), QueryError> {
    let Statement::Query(query) = statement else { return Ok(()) };
    Expansion { names: Vec::new(), around: Vec::new() }.query(query).map(|_| ())
}

/// What a query, or a part of its `FROM`, gives.
#[derive(Debug, Clone, Default)]
struct Shape {
    /// Each counted as [`TABLE`].
    tables: u64,
    /// Terms in columns that have a name.
    columns: HashMap<String, u64>,
    /// The most terms in any other.
    others: u64,
}

impl Shape {
    fn stored() -> Self {
        Self { tables: TABLE, others: 1, ..Self::default() }
    }

    fn terms(&self, column: &str) -> u64 {
        self.columns.get(column).copied().unwrap_or(self.others)
    }

    fn most(&self) -> u64 {
        self.columns.values().copied().max().unwrap_or(0).max(self.others)
    }

    fn name(&mut self, column: String, terms: u64) {
        let known = self.columns.entry(column).or_default();
        *known = terms.max(*known);
    }

    /// Puts `other` beside it, as a join does.
    fn join(&mut self, other: Self) -> Result<(), QueryError> {
        self.tables = self.tables.saturating_add(other.tables);
        if self.tables > TABLES_MAX * TABLE {
            return Err(QueryError::Refused(format!(
                "the statement reads more than {TABLES_MAX} tables, or has {0} queries, what stands in a `WITH` counted as often as it is named: split it into several",
                TABLES_MAX * TABLE
            )));
        }
        for (column, terms) in other.columns {
            self.name(column, terms);
        }
        self.others = self.others.max(other.others);
        Ok(())
    }
}

struct Expansion {
    /// What the names of each `WITH` around stand for, the innermost last.
    names: Vec<(String, Shape)>,
    /// What the queries around a subquery read, whose columns it may name.
    around: Vec<Shape>,
}

impl Expansion {
    fn query(&mut self, query: &Query) -> Result<Shape, QueryError> {
        let outside = self.names.len();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let mut shape = self.query(&cte.query)?;
            if !cte.alias.columns.is_empty() {
                shape = renamed(&shape);
            }
            self.names.push((cte.alias.name.value.to_lowercase(), shape));
        }
        let mut shape = self.body(&query.body)?;
        let mut inside = Inside { expansion: self, from: &shape, tables: 0, terms: 0, depth: 0, asked: Vec::new() };
        inside.terms(&query.order_by)?;
        let tables = inside.tables;
        shape.join(Shape { tables, ..Shape::default() })?;
        self.names.truncate(outside);
        Ok(shape)
    }

    fn body(&mut self, body: &SetExpr) -> Result<Shape, QueryError> {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                let mut both = self.body(left)?;
                both.join(self.body(right)?)?;
                // By their place, not by their name.
                Ok(renamed(&both))
            }
            _ => Ok(Shape::stored()),
        }
    }

    fn select(&mut self, select: &Select) -> Result<Shape, QueryError> {
        if select.projection.len() > COLUMNS_MAX {
            return Err(QueryError::Refused(format!(
                "the statement selects {} columns, at most {COLUMNS_MAX} are taken: select fewer, or an array of them",
                select.projection.len()
            )));
        }
        groupings(&select.group_by)?;
        let mut from = Shape::default();
        for table in &select.from {
            from.join(self.joined(table)?)?;
        }
        // Wherever it stands, a subquery in an expression is read beside what is in `FROM`, and an expression has terms.
        let mut inside = Inside { expansion: self, from: &from, tables: 0, terms: 0, depth: 0, asked: Vec::new() };
        let mut found = Shape::default();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    let terms = inside.terms(expr)?;
                    match expr {
                        Expr::Identifier(name) => found.name(name.value.to_lowercase(), terms),
                        Expr::CompoundIdentifier(path) => {
                            found.name(path.last().map_or_else(String::new, |name| name.value.to_lowercase()), terms);
                        }
                        _ => found.others = found.others.max(terms),
                    }
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let terms = inside.terms(expr)?;
                    found.name(alias.value.to_lowercase(), terms);
                }
                _ => {
                    for (column, terms) in &from.columns {
                        found.name(column.clone(), *terms);
                    }
                    found.others = found.others.max(from.others);
                }
            }
        }
        let elsewhere = select.selection.iter().chain(&select.having).chain(&select.qualify);
        for expr in elsewhere {
            inside.terms(expr)?;
        }
        for join in select.from.iter().flat_map(|table| &table.joins) {
            inside.terms(&join.join_operator)?;
        }
        inside.terms(&select.group_by)?;
        let beside = inside.tables;
        // One that reads nothing is planned all the same.
        found.tables = from.tables.max(1);
        found.join(Shape { tables: beside, ..Shape::default() })?;
        Ok(found)
    }

    fn joined(&mut self, table: &TableWithJoins) -> Result<Shape, QueryError> {
        let mut shape = self.factor(&table.relation)?;
        for join in &table.joins {
            shape.join(self.factor(&join.relation)?)?;
        }
        Ok(shape)
    }

    fn factor(&mut self, factor: &TableFactor) -> Result<Shape, QueryError> {
        match factor {
            TableFactor::Table { name, args: None, alias, .. } => {
                let known = match name.0.as_slice() {
                    [part] => {
                        let name = part.to_string().trim_matches('"').to_lowercase();
                        self.names.iter().rev().find(|(known, _)| *known == name).map(|(_, shape)| shape.clone())
                    }
                    _ => None,
                };
                let shape = known.unwrap_or_else(Shape::stored);
                Ok(match alias {
                    Some(alias) if !alias.columns.is_empty() => renamed(&shape),
                    _ => shape,
                })
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let shape = self.query(subquery)?;
                Ok(match alias {
                    Some(alias) if !alias.columns.is_empty() => renamed(&shape),
                    _ => shape,
                })
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.joined(table_with_joins),
            _ => Ok(Shape::stored()),
        }
    }
}

/// The same columns under names that are not known.
fn renamed(shape: &Shape) -> Shape {
    Shape { tables: shape.tables, columns: HashMap::new(), others: shape.most() }
}

/// Counts what is in an expression.
struct Inside<'a> {
    expansion: &'a mut Expansion,
    from: &'a Shape,
    tables: u64,
    terms: u64,
    /// Subqueries that are open.
    depth: usize,
    /// Subqueries that are asked whether a value is in them.
    asked: Vec<*const Query>,
}

impl Inside<'_> {
    fn terms(&mut self, within: &impl Visit) -> Result<u64, QueryError> {
        self.terms = 0;
        match walk::visit(within, self) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) if self.terms > TERMS_MAX => Err(QueryError::Refused(format!(
                "an expression comes to more than {TERMS_MAX} terms when columns of subqueries are put in place of their names: compute it in fewer steps"
            ))),
            ControlFlow::Continue(()) => Ok(self.terms.max(1)),
        }
    }
}

impl Visitor for Inside<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        self.depth += 1;
        if self.depth == 1 {
            self.expansion.around.push(self.from.clone());
            let shape = self.expansion.query(query);
            self.expansion.around.pop();
            match shape {
                Ok(shape) => {
                    let times = if self.asked.contains(&std::ptr::from_ref(query)) { ASKED } else { 1 };
                    self.tables = self.tables.saturating_add(shape.tables.saturating_mul(times));
                    self.terms = self.terms.saturating_add(shape.most());
                }
                Err(error) => return ControlFlow::Break(error),
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<QueryError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        match expr {
            Expr::InSubquery { subquery, .. } => self.asked.push(std::ptr::from_ref(subquery.as_ref())),
            Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => {
                if let Expr::Subquery(query) = right.as_ref() {
                    self.asked.push(std::ptr::from_ref(query.as_ref()));
                }
            }
            _ => {}
        }
        let name = match expr {
            Expr::Identifier(name) => Some(name),
            Expr::CompoundIdentifier(path) => path.last(),
            _ => None,
        };
        if let Some(name) = name {
            let column = name.value.to_lowercase();
            let around = self.expansion.around.iter().map(|shape| shape.terms(&column)).max().unwrap_or(0);
            let terms = self.from.columns.get(&column).copied().unwrap_or(self.from.others.max(around));
            self.terms = self.terms.saturating_add(terms);
        }
        ControlFlow::Continue(())
    }
}

/// Refuses rows grouped in too many ways at once.
fn groupings(group_by: &GroupByExpr) -> Result<(), QueryError> {
    let power = |columns: usize| 1_u64.checked_shl(u32::try_from(columns).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
    let (exprs, modifiers) = match group_by {
        GroupByExpr::Expressions(exprs, modifiers) => (exprs.as_slice(), modifiers),
        GroupByExpr::All(modifiers) => (&[][..], modifiers),
    };
    let mut sets = 1_u64;
    for expr in exprs {
        sets = sets.saturating_mul(match expr {
            Expr::Cube(columns) => power(columns.len()),
            Expr::Rollup(columns) => columns.len() as u64 + 1,
            Expr::GroupingSets(columns) => columns.len().max(1) as u64,
            _ => 1,
        });
    }
    for modifier in modifiers {
        sets = sets.saturating_mul(match modifier {
            GroupByWithModifier::Cube => power(exprs.len()),
            GroupByWithModifier::GroupingSets(Expr::GroupingSets(columns)) => columns.len().max(1) as u64,
            _ => exprs.len() as u64 + 1,
        });
    }
    if sets > GROUPINGS_MAX {
        return Err(QueryError::Refused(format!(
            "the statement groups rows in more than {GROUPINGS_MAX} ways at once: name those that are needed by `GROUPING SETS`"
        )));
    }
    Ok(())
}

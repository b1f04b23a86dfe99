//! The first guard: a statement is parsed and only what is on the list of allowed forms goes on.
//!
//! *Invariants.*
//! - One statement, and a `SELECT`, `WITH`, `VALUES`, `EXPLAIN` of one, `SHOW TABLES`, `SHOW COLUMNS` or `DESCRIBE`.
//! - The text is measured before it is parsed: length, nesting and number of operators are bounded, so that no recursion
//!   over it can exhaust the stack ([`crate::measure`]).
//! - What it becomes once every name stands for what it names is bounded too ([`crate::expansion`]).
//! - Functions whose output grows out of proportion to their input, past every memory limit, are refused.
//!
//! The second guard is the planner's own options, which forbid writes and statements again (`engine.rs`).

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, Schema};
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, ObjectName, Query, Select, SetExpr, Statement, TableFactor, Value, Visitor,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::apart;
use crate::clauses;
use crate::clocks;
use crate::dialect;
use crate::error::{QueryError, nearest, tidy};
use crate::escape;
use crate::expansion;
use crate::foreign;
use crate::functions::latest_deploy;
use crate::grammar::Grammar;
use crate::headings::{self, Headings};
use crate::marks;
use crate::measure::measure;
use crate::params::{Given, PARAMETERS_MAX, Parameters, Placed};
use crate::postgres::{self, Adapted};
use crate::quantified;
use crate::sets;
use crate::tables::trace;
use crate::walk;
use crate::wanted;

/// What the parser may recurse.
const RECURSION_MAX: usize = 192;

/// Functions that may stand in `FROM`.
pub(crate) const TABLE_FUNCTIONS: &[&str] = &["spans_around", "logs_around", "metrics_around", "trace_tree"];

/// Functions that make much out of little.
pub(crate) const REFUSED_FUNCTIONS: &[&str] = &[
    "generate_series",
    "range",
    "repeat",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "lpad",
    "rpad",
    "gen_series",
];

/// A statement that may go on to the planner.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The statement, its parameters put in place.
    pub(crate) statement: Parsed,
    /// Deploy ids named by table functions.
    pub(crate) deploys: Vec<String>,
    /// True where it asks for the latest deploy of something.
    pub(crate) latest_deploy: bool,
    /// What its columns are called.
    pub(crate) headings: Headings,
    /// What it has of parameters.
    pub(crate) parameters: Placed,
    /// What to answer where the statement cannot be planned: SQL without rows, for queries of the catalogue that can have none.
    pub(crate) fallback: Option<String>,
}

/// Reads what Postgres writes in its own way.
fn soften(statement: Parsed) -> Parsed {
    match statement {
        Parsed::Statement(inner) => Parsed::Statement(Box::new(postgres::soften(*inner))),
        Parsed::Explain(mut explain) => {
            explain.statement = Box::new(soften(*explain.statement));
            Parsed::Explain(explain)
        }
        other => other,
    }
}

/// Parses `sql`, puts parameters in place and refuses what is not allowed.
///
/// `types` are those that the client gave for the parameters.
pub(crate) fn check(
    sql: &str,
    given: Given<'_>,
    types: &[Option<DataType>],
    sql_bytes_max: usize,
) -> Result<Checked, QueryError> {
    if sql.len() > sql_bytes_max {
        return Err(QueryError::Exceeded(format!(
            "the statement has {} bytes, at most {sql_bytes_max} are taken: shorten it, for instance by joining with a `VALUES` list",
            sql.len()
        )));
    }
    let dialect = Grammar::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|error| QueryError::Invalid(format!("cannot read the statement: {}", tidy(&error.to_string()))))?;
    measure(&tokens)?;
    known_operators(&tokens)?;
    clocks::without_precision(&tokens)?;
    let numbered = marks::numbered(sql, &tokens)?;
    let marks = numbered.as_ref().map(|(_, marks)| *marks);
    let (mut statement, about) = parse(numbered.as_ref().map_or(sql, |(text, _)| text), &dialect)?;
    let headings = Headings::of(&statement, headings::as_written);
    let query = match &mut statement {
        Parsed::Statement(inner) => inner,
        Parsed::Explain(explain) => match explain.statement.as_mut() {
            Parsed::Statement(inner) if matches!(inner.as_ref(), Statement::Query(_)) => inner,
            _ => return Err(refused("only a query can be explained")),
        },
        Parsed::CopyTo(_) => return Err(writes("COPY")),
        Parsed::CreateExternalTable(_) => return Err(writes("CREATE EXTERNAL TABLE")),
        Parsed::Reset(_) => return Err(writes("RESET")),
    };
    clauses::rewrite(query)?;
    match query.as_ref() {
        Statement::Query(_)
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ExplainTable { .. } => {}
        other => {
            let text = other.to_string();
            return Err(writes(text.split_whitespace().next().unwrap_or("this")));
        }
    }
    let parameters = Parameters::new(given, types, marks);
    let parameters = match about {
        // What its rewriting left out takes parameters with it.
        About::Catalogue { .. } => {
            let written = marks.unwrap_or_else(|| highest(&tokens));
            let mut placed = parameters.written(written).place(query.as_mut())?;
            placed.count = placed.count.max(written);
            placed
        }
        About::Telemetry => parameters.place(query.as_mut())?,
    };
    escape::rewrite(query)?;
    sets::rewrite(query)?;
    dialect::settle(query)?;
    foreign::rewrite(query);
    apart::tell(query);
    clocks::settle(query)?;
    dialect::name(query);
    quantified::rewrite(query);
    wanted::mark(query);
    let mut walk = Walk { describing: matches!(given, Given::Nothing), ..Walk::default() };
    if let ControlFlow::Break(error) = walk::visit(query.as_ref(), &mut walk) {
        return Err(error);
    }
    expansion::check(query)?;
    Ok(Checked {
        statement: soften(statement),
        deploys: walk.deploys,
        latest_deploy: walk.latest_deploy,
        headings,
        parameters,
        fallback: match about {
            About::Catalogue { fallback } => fallback,
            About::Telemetry => None,
        },
    })
}

/// Returns the highest number of a parameter.
fn highest(tokens: &[TokenWithSpan]) -> usize {
    let number = |token: &TokenWithSpan| match &token.token {
        Token::Placeholder(name) => name.strip_prefix('$')?.parse().ok().filter(|number| *number <= PARAMETERS_MAX),
        _ => None,
    };
    tokens.iter().filter_map(number).max().unwrap_or(0)
}

/// What a statement asks about.
enum About {
    /// The catalogue, and what to answer where it cannot be planned.
    Catalogue { fallback: Option<String> },
    /// Anything else.
    Telemetry,
}

/// Parses one statement.
fn parse(sql: &str, dialect: &dyn Dialect) -> Result<(Parsed, About), QueryError> {
    if let Adapted::Catalogue(statement) = postgres::adapt(sql) {
        let fallback = postgres::empty_answer(&statement);
        return Ok((Parsed::Statement(statement), About::Catalogue { fallback }));
    }
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(dialect)
        .with_recursion_limit(RECURSION_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| QueryError::from_planning(&error, 0))?;
    let (Some(statement), None) = (statements.pop_front(), statements.pop_front()) else {
        return Err(QueryError::Invalid("give exactly one SQL statement".to_owned()));
    };
    Ok((statement, About::Telemetry))
}

/// Returns what Postgres calls the columns of a statement that was answered with `schema`.
pub(crate) fn postgres_names(sql: &str, schema: &Schema) -> Vec<String> {
    let headings = match parse(sql, &Grammar::default()) {
        Ok((statement, _)) => Headings::of(&statement, headings::as_in_postgres),
        Err(_) => Headings::default(),
    };
    headings.list(schema)
}

fn refused(text: impl Into<String>) -> QueryError {
    QueryError::Refused(text.into())
}

fn writes(keyword: &str) -> QueryError {
    refused(format!(
        "`{}` is not allowed, SQL only reads here: use `SELECT`, `WITH`, `VALUES`, `EXPLAIN`, `SHOW TABLES`, `SHOW COLUMNS` or `DESCRIBE`",
        keyword.to_uppercase()
    ))
}

/// Refuses operators of `jsonb` that would be read as parameters.
fn known_operators(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let pairs = tokens.iter().zip(tokens.iter().skip(1));
    let operator = pairs.map(|(mark, sign)| match (&mark.token, &sign.token) {
        (Token::Placeholder(mark), Token::Pipe) if mark == "?" => Some("?|"),
        (Token::Placeholder(mark), Token::Ampersand) if mark == "?" => Some("?&"),
        _ => None,
    });
    match operator.flatten().next() {
        Some(operator) => Err(QueryError::Invalid(format!(
            "`{operator}` is an operator of `jsonb` that is not known here: whether a key is there says `attributes['key'] IS NOT NULL`"
        ))),
        None => Ok(()),
    }
}

/// Walks everything in a query.
#[derive(Default)]
struct Walk {
    deploys: Vec<String>,
    latest_deploy: bool,
    describing: bool,
    statements: usize,
}

impl Walk {
    fn table_function(&mut self, name: &ObjectName, args: &[FunctionArg]) -> ControlFlow<QueryError> {
        let name = name.to_string().to_lowercase();
        if !TABLE_FUNCTIONS.contains(&name.as_str()) {
            return ControlFlow::Break(if REFUSED_FUNCTIONS.contains(&name.as_str()) {
                refused(format!("`{name}` is not allowed: it can make more rows than memory holds"))
            } else {
                let near = nearest(&name, TABLE_FUNCTIONS).unwrap_or("spans_around");
                QueryError::Invalid(format!("unknown table function `{name}`: did you mean `{near}`?"))
            });
        }
        let first = match args.first() {
            Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => match &value.value {
                Value::SingleQuotedString(text) => Some(text.clone()),
                _ => None,
            },
            _ => None,
        };
        match first {
            Some(id) => {
                if name != trace::NAME {
                    self.deploys.push(id);
                }
                ControlFlow::Continue(())
            }
            // Its place is held until there is a value.
            None if self.describing => ControlFlow::Continue(()),
            None if name == trace::NAME => ControlFlow::Break(QueryError::Invalid(format!(
                "the argument of `{name}` is the id of a trace as text, for instance `{name}('4bf92f3577b34da6a3ce929d0e0e4736')`"
            ))),
            None => ControlFlow::Break(QueryError::Invalid(format!(
                "the first argument of `{name}` is the id of a deploy as text, for instance `{name}('dep_..', '10m', '10m')`"
            ))),
        }
    }
}

impl Visitor for Walk {
    type Break = QueryError;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<QueryError> {
        self.statements += 1;
        if self.statements > 1 && !matches!(statement, Statement::Query(_)) {
            let text = statement.to_string();
            return ControlFlow::Break(writes(text.split_whitespace().next().unwrap_or("this")));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return ControlFlow::Break(refused("`WITH RECURSIVE` is not allowed: it can run without end"));
        }
        if !query.locks.is_empty() {
            return ControlFlow::Break(refused("`FOR UPDATE` and `FOR SHARE` are not allowed: SQL only reads here"));
        }
        if query.settings.is_some() {
            return ControlFlow::Break(refused("`SETTINGS` is not allowed"));
        }
        match query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                let text = query.body.to_string();
                ControlFlow::Break(writes(text.split_whitespace().next().unwrap_or("this")))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        if select.into.is_some() {
            return ControlFlow::Break(writes("SELECT INTO"));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } => self.table_function(name, &args.args),
            TableFactor::Function { name, args, .. } => self.table_function(name, args),
            TableFactor::TableFunction { expr: Expr::Function(function), .. } => {
                self.table_function(&function.name, &[])
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            self.latest_deploy |= name == latest_deploy::NAME;
            if REFUSED_FUNCTIONS.contains(&name.as_str()) {
                return ControlFlow::Break(refused(format!(
                    "`{name}` is not allowed: its output can be larger than memory"
                )));
            }
        }
        ControlFlow::Continue(())
    }
}

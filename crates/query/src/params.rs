//! Parameters: values put into the syntax tree as literals, so that no text is ever pasted into SQL.
//!
//! A client that names the type of a parameter gets exactly that type, in the schema and in the answer: the literal, or its
//! placeholder while a statement is only described, is cast. Text is never cast, so that it means what a literal in its place
//! would: an id in any case, a time, a word for a kind.

use std::ops::ControlFlow;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    Array, CastKind, DataType as SqlType, ExactNumberInfo, Expr, LimitClause, Query, TimezoneInfo, Value as Literal,
    VisitMut, VisitorMut,
};
use plimsoll_model::UnixNanos;
use serde_json::Value;

use crate::error::QueryError;

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// No value.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction; not-a-number and infinities too.
    Float(f64),
    /// A number as its digits say, of any size.
    Number(String),
    /// Text; also how times, ids and words are given.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An instant.
    Time(UnixNanos),
    /// Several of them, none of which is a list: what `= ANY($1)` takes.
    List(Vec<Parameter>),
}

impl Parameter {
    /// Reads parameter `$number` from JSON.
    ///
    /// # Errors
    /// The value is an object, or a list with a list or an object in it.
    pub fn from_json(number: usize, value: &Value) -> Result<Self, QueryError> {
        let scalar = |value: &Value| {
            Ok(match value {
                Value::Null => Self::Null,
                Value::Bool(value) => Self::Boolean(*value),
                Value::Number(value) => Self::Number(value.to_string()),
                Value::String(value) => Self::Text(value.clone()),
                Value::Array(_) | Value::Object(_) => {
                    return Err(QueryError::Invalid(format!(
                        "parameter `${number}` is an object or has one in it, or lists in a list: give text, a number, true, false, \
                         null, or one list of those"
                    )));
                }
            })
        };
        match value {
            Value::Array(items) => items.iter().map(scalar).collect::<Result<_, _>>().map(Self::List),
            other => scalar(other),
        }
    }

    /// Reads all parameters of a JSON list.
    ///
    /// # Errors
    /// Those of [`Self::from_json`].
    pub fn all_from_json(values: &[Value]) -> Result<Vec<Self>, QueryError> {
        values.iter().enumerate().map(|(at, value)| Self::from_json(at + 1, value)).collect()
    }

    /// Returns the bytes that its value takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Number(text) | Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.iter().map(Self::bytes).sum(),
            Self::Null | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) | Self::Time(_) => 16,
        }
    }

    fn literal(&self) -> Expr {
        let value = match self {
            Self::Null => Literal::Null,
            Self::Boolean(value) => Literal::Boolean(*value),
            Self::Integer(value) => Literal::Number(value.to_string(), false),
            Self::Float(value) if value.is_finite() => Literal::Number(format!("{value:e}"), false),
            Self::Float(value) => {
                return cast(
                    Expr::value(Literal::SingleQuotedString(value.to_string())),
                    SqlType::Double(ExactNumberInfo::None),
                );
            }
            Self::Number(digits) => Literal::Number(digits.clone(), false),
            Self::Text(text) => Literal::SingleQuotedString(text.clone()),
            Self::Bytes(bytes) => {
                let mut digits = String::with_capacity(bytes.len() * 2);
                crate::functions::hex::push_hex(&mut digits, bytes);
                Literal::HexStringLiteral(digits)
            }
            Self::Time(at) => {
                let text = Expr::value(Literal::SingleQuotedString(at.to_rfc3339()));
                return cast(text, SqlType::Timestamp(None, TimezoneInfo::None));
            }
            Self::List(items) => {
                return Expr::Array(Array { elem: items.iter().map(Self::literal).collect(), named: true });
            }
        };
        Expr::value(value)
    }
}

fn cast(expr: Expr, data_type: SqlType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// Returns how SQL writes a type that a client gave for a parameter; `None` where the parameter is left as it is.
fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int8 | DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Integer(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => SqlType::BigIntUnsigned(None),
        DataType::Float16 | DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::Double(ExactNumberInfo::None),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => SqlType::Bytea,
        DataType::Date32 | DataType::Date64 => SqlType::Date,
        DataType::Timestamp(
            TimeUnit::Nanosecond | TimeUnit::Microsecond | TimeUnit::Millisecond | TimeUnit::Second,
            _,
        ) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            SqlType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        _ => return None,
    })
}

/// What stands for `$1`, `$2`, .. of a statement.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given<'a> {
    /// The values, to run it.
    Values(&'a [Parameter]),
    /// Nothing: it is only described.
    Nothing,
}

/// Puts parameters in place of `$1`, `$2`, ..
pub(crate) struct Parameters<'a> {
    given: Given<'a>,
    types: &'a [Option<DataType>],
    used: Vec<bool>,
    highest: usize,
    /// Parameters that count rows, which the planner does not say of them.
    whole: Vec<usize>,
    /// Parameters that are lists.
    lists: Vec<usize>,
    /// True between an expression that is a placeholder and its value.
    within: bool,
}

/// What a statement has of parameters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Placed {
    /// How many.
    pub(crate) count: usize,
    /// Which of them stand after `LIMIT` and `OFFSET`.
    pub(crate) whole: Vec<usize>,
    /// Which of them stand for a list, after `ANY` or `ALL`.
    pub(crate) lists: Vec<usize>,
}

impl<'a> Parameters<'a> {
    pub(crate) fn new(given: Given<'a>, types: &'a [Option<DataType>]) -> Self {
        let count = match given {
            Given::Values(values) => values.len(),
            Given::Nothing => 0,
        };
        Self { given, types, used: vec![false; count], highest: 0, whole: Vec::new(), lists: Vec::new(), within: false }
    }

    /// Puts them into `statement` and returns what it has of them.
    pub(crate) fn place(mut self, statement: &mut impl VisitMut) -> Result<Placed, QueryError> {
        if let ControlFlow::Break(error) = statement.visit(&mut self) {
            return Err(error);
        }
        match self.used.iter().position(|used| !used) {
            Some(unused) => Err(QueryError::Invalid(format!(
                "{} parameters were given and `${}` is not in the statement",
                self.used.len(),
                unused + 1
            ))),
            None => Ok(Placed { count: self.highest, whole: self.whole, lists: self.lists }),
        }
    }

    fn expression(&mut self, name: &str) -> Result<Option<Expr>, QueryError> {
        let Some(number) =
            name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).filter(|n| (1..=PARAMETERS_MAX).contains(n))
        else {
            return Err(QueryError::Invalid(format!(
                "`{name}` is not a parameter: parameters are `$1`, `$2`, and so on up to `${PARAMETERS_MAX}`"
            )));
        };
        self.highest = self.highest.max(number);
        let wanted = self.types.get(number - 1).and_then(Option::as_ref).and_then(sql_type);
        Ok(match self.given {
            Given::Nothing => wanted.map(|wanted| cast(Expr::value(Literal::Placeholder(name.to_owned())), wanted)),
            Given::Values(values) => {
                let Some(value) = values.get(number - 1) else {
                    return Err(QueryError::Invalid(format!(
                        "`{name}` has no value: {} parameters were given",
                        values.len()
                    )));
                };
                self.used[number - 1] = true;
                let literal = value.literal();
                Some(match wanted {
                    Some(wanted) if !matches!(value, Parameter::Text(_)) && !natural(value, &wanted) => {
                        cast(literal, wanted)
                    }
                    _ => literal,
                })
            }
        })
    }
}

/// Parameters of one statement.
const PARAMETERS_MAX: usize = 10_000;

/// Says whether the literal of `value` has this type as it stands.
fn natural(value: &Parameter, wanted: &SqlType) -> bool {
    match value {
        Parameter::Boolean(_) => matches!(wanted, SqlType::Boolean),
        Parameter::Integer(_) => matches!(wanted, SqlType::BigInt(_)),
        Parameter::Bytes(_) => matches!(wanted, SqlType::Bytea),
        Parameter::Time(_) => matches!(wanted, SqlType::Timestamp(..)),
        _ => false,
    }
}

impl VisitorMut for Parameters<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<QueryError> {
        let counts = match &query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, .. }) => [limit.as_ref(), offset.as_ref().map(|o| &o.value)],
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => [Some(limit), Some(offset)],
            None => [None, None],
        };
        for count in counts.into_iter().flatten() {
            self.whole.extend(placeholder(count));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        self.within = matches!(expr, Expr::Value(value) if matches!(value.value, Literal::Placeholder(_)));
        if let Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } = expr
            && let Some(number) = placeholder(right)
        {
            self.lists.push(number);
        }
        ControlFlow::Continue(())
    }

    /// Replaced on the way back: what is put in place has a placeholder in it while a statement is described.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let Expr::Value(value) = expr else { return ControlFlow::Continue(()) };
        let Literal::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        match self.expression(&name.clone()) {
            Ok(Some(given)) => *expr = placed(given),
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }

    /// Placeholders that are no expressions of their own.
    fn pre_visit_value(
        &mut self,
        value: &mut datafusion::sql::sqlparser::ast::ValueWithSpan,
    ) -> ControlFlow<QueryError> {
        if std::mem::take(&mut self.within) {
            return ControlFlow::Continue(());
        }
        let Literal::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
        if matches!(self.given, Given::Nothing) {
            return match self.expression(&name.clone()) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            };
        }
        match self.expression(&name.clone()) {
            Ok(Some(Expr::Value(literal))) => {
                value.value = literal.value;
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(QueryError::Invalid(format!("`{name}` cannot stand here: write its value"))),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

/// Returns the number of `$n`, which may stand in brackets and have its type behind it.
fn placeholder(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => placeholder(inner),
        Expr::Value(value) => match &value.value {
            Literal::Placeholder(name) => name.strip_prefix('$')?.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

/// Keeps a cast together where it meets operators.
fn placed(expr: Expr) -> Expr {
    match expr {
        cast @ Expr::Cast { .. } => Expr::Nested(Box::new(cast)),
        other => other,
    }
}

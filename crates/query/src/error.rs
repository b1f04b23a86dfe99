//! Why a query has no answer, in words that say what to change.

use std::time::Duration;

use datafusion::common::{Column, DataFusionError, SchemaError};

use crate::foreign;
use crate::guard::TABLE_FUNCTIONS;

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The statement is not allowed: it writes, reads files, or could run without end.
    #[error("{0}")]
    Refused(String),
    /// The statement makes no sense: syntax, unknown names, types.
    #[error("{0}")]
    Invalid(String),
    /// It took more than it may; the message names the limit and the setting.
    #[error("{0}")]
    Exceeded(String),
    /// Too many queries are waiting: trying again later may help.
    #[error("{0}")]
    Busy(String),
    /// Stored data could not be read.
    #[error("{0}")]
    Unreadable(String),
}

impl QueryError {
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::Exceeded(format!(
            "the query ran longer than {limit:?}: restrict the time range, or raise `query.timeout`"
        ))
    }

    pub(crate) fn unread(limit: Duration) -> Self {
        Self::Exceeded(format!(
            "the query's rows were not fetched as fast as they came, and it ran longer than {limit:?}: fetch them faster, ask for fewer, \
             or raise `query.timeout`"
        ))
    }

    pub(crate) fn too_many_rows(limit: u64) -> Self {
        Self::Exceeded(format!(
            "the answer has more than {limit} rows: aggregate, add `LIMIT`, or raise `query.rows_max`"
        ))
    }

    pub(crate) fn missing(path: &str) -> Self {
        Self::Unreadable(format!(
            "segment `{path}` cannot be read (its file was missing or cut short at the start): put its file back and restart, \
             leave its time range out, or set `allow_missing_segments` for an answer from the others"
        ))
    }

    pub(crate) fn damaged(path: &str, problem: &DataFusionError) -> Self {
        Self::Unreadable(format!(
            "segment `{path}` cannot be read ({}): put its file back and restart, leave its time range out, \
             or set `allow_missing_segments` for an answer from the others",
            tidy(&problem.strip_backtrace())
        ))
    }

    /// Translates an error met while planning: whatever is not about the stored data is about the statement.
    pub(crate) fn from_planning(error: &DataFusionError, memory_bytes: usize) -> Self {
        match Self::from_execution(error, memory_bytes) {
            Self::Unreadable(text) if !reads_data(error.find_root()) && !is_own(error.find_root()) => {
                Self::Invalid(text)
            }
            other => other,
        }
    }

    /// Translates an error met while running.
    pub(crate) fn from_execution(error: &DataFusionError, memory_bytes: usize) -> Self {
        let root = error.find_root();
        // It comes as an error of the disk, and as one of resources.
        if root.to_string().contains("spilling process has exceeded") {
            return Self::Exceeded(
                "queries wrote as much to disk as they may: restrict the time range, group by fewer keys, sort fewer rows, or \
                 raise `query.spill_max`"
                    .to_owned(),
            );
        }
        // A value of a row that a filter cannot take, met while a segment is read: the segment is whole.
        if let Some((_, refused)) = root.to_string().split_once("Error evaluating filter predicate: ") {
            return Self::Invalid(helpful(tidy(&refused_value(refused))));
        }
        if root.to_string().contains("Cannot cast string") {
            return Self::Invalid(helpful(tidy(&root.strip_backtrace())));
        }
        match root {
            DataFusionError::ResourcesExhausted(_) => Self::Exceeded(format!(
                "queries may hold {} MiB together and this one needs more: restrict the time range, group by fewer keys, sort \
                 fewer rows, or raise `memory.query`",
                memory_bytes >> 20
            )),
            DataFusionError::SchemaError(schema, _) => Self::Invalid(schema_message(schema)),
            DataFusionError::SQL(parser, _) => Self::Invalid(tidy(&parser.to_string())),
            DataFusionError::Plan(text) => Self::Invalid(helpful(tidy(text))),
            DataFusionError::NotImplemented(text) => Self::Invalid(match out_of_place(text) {
                Some(help) => help.to_owned(),
                None => format!("not supported: {}", tidy(text)),
            }),
            DataFusionError::External(inner) => match inner.downcast_ref::<Self>() {
                Some(own) => own.clone(),
                None => Self::Unreadable(tidy(&inner.to_string())),
            },
            // What a value cannot be cast to, a division by zero, an overflow: the statement's doing.
            DataFusionError::ArrowError(..) | DataFusionError::Execution(_) if !reads_data(root) => {
                Self::Invalid(helpful(tidy(&root.strip_backtrace())))
            }
            other => Self::Unreadable(helpful(tidy(&other.strip_backtrace()))),
        }
    }
}

impl From<QueryError> for DataFusionError {
    fn from(error: QueryError) -> Self {
        Self::External(Box::new(error))
    }
}

/// Says whether we said it ourselves, from within a plan.
fn is_own(error: &DataFusionError) -> bool {
    matches!(error, DataFusionError::External(inner) if inner.is::<QueryError>())
}

fn reads_data(error: &DataFusionError) -> bool {
    matches!(error, DataFusionError::ObjectStore(_) | DataFusionError::ParquetError(_) | DataFusionError::IoError(_))
        || matches!(error, DataFusionError::ArrowError(inner, _) if matches!(
            inner.as_ref(),
            arrow::error::ArrowError::ParquetError(_) | arrow::error::ArrowError::IoError(..) | arrow::error::ArrowError::ExternalError(_)
        ))
}

fn schema_message(error: &SchemaError) -> String {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let names: Vec<&str> = valid_fields.iter().map(Column::name).collect();
            unknown("column", field.name(), &names)
        }
        SchemaError::AmbiguousReference { field } => {
            format!("column `{}` is in more than one table: write `<table>.{}`", field.name(), field.name())
        }
        SchemaError::DuplicateUnqualifiedField { name } => {
            let name = tidy(name);
            format!(
                "`{name}` is computed twice, with casts that alone tell the two apart: compute one of them in a subquery"
            )
        }
        other => tidy(&other.to_string()),
    }
}

/// Says that `name` is unknown, and which of `known` comes nearest.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {what} `{name}`: did you mean `{near}`?"),
        None => format!("unknown {what} `{name}`"),
    }
}

/// Returns the known name that takes the fewest slips of the pen to get to, where any is near at all.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .iter()
        // Whether it is near depends on how much is alike, which a count of slips does not say of long names.
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), *candidate))
        .filter(|(alike, _)| *alike > 0.7)
        .map(|(alike, candidate)| (strsim::damerau_levenshtein(&name, candidate), alike, candidate))
        .filter(|(slips, _, candidate)| {
            *slips <= (name.len() / 3).max(2) || candidate.contains(&name) || name.contains(candidate)
        })
        .min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(b.2)))
        .map(|(_, _, candidate)| candidate)
}

const TIMES: &str = "write a time like `'2026-01-31T12:00:00Z'`, or `now() - INTERVAL '1 hour'`";

/// What to write instead, by what a message begins with or has in it.
const HELP: &[(&str, &str)] = &[
    ("to interval", LENGTHS),
    ("for temporal operation interval", LENGTHS),
    (
        "cannot coerce arithmetic expression timestamp",
        "add and subtract an interval, for instance `x - INTERVAL '1 hour'`",
    ),
    ("cannot coerce arithmetic expression", "cast one side, for instance `x::double`"),
    (
        "cannot infer common argument type for comparison operation map",
        "compare one of its values, `attributes['key']`",
    ),
    ("for logical boolean operation", "a condition is a comparison, for instance `x > 0` or `x = 'y'`"),
    ("cannot infer common string type", "cast the other side, for instance `x::text`"),
    ("cannot infer common argument type", "cast one side, for instance `x::double` or `x::text`"),
    ("cannot cast string", "`TRY_CAST(x AS ..)` gives null instead"),
    ("error parsing timestamp", TIMES),
    ("in like expression", "cast the other side, for instance `x::text`"),
    ("non-boolean predicate", "compare it with something, for instance `x > 0`"),
    ("not supported for null", "say what it is, for instance `$1::double`"),
    ("unary operator '-' only", "cast it, for instance `x::double`; of a difference of times write `b - a`"),
    ("divide by zero", "write `x / nullif(y, 0)`"),
];

/// What to write beside lengths of time.
const LENGTHS: &str = "a number is no length of time: write `x * INTERVAL '1 second'`, or take the seconds of a length, `extract(epoch FROM x)`";

/// What to write instead of a subquery that was left where the engine has no plan for it, by what it calls it.
const OUT_OF_PLACE: &[(&str, &str)] = &[
    (
        "logical expression Exists(",
        "`EXISTS` stands in `WHERE` and `HAVING`: elsewhere write `(SELECT count(*) FROM ..) > 0`",
    ),
    (
        "logical expression InSubquery(",
        "`IN (SELECT ..)` stands in `WHERE` and `HAVING`: elsewhere write `(SELECT count(*) FROM .. WHERE y = x) > 0`",
    ),
    (
        "logical expression ScalarSubquery(",
        "a subquery for one value compares with the row around it by `=` alone: join with its rows and group, for instance \
         `FROM a LEFT JOIN b ON b.time < a.time GROUP BY a.id`",
    ),
    (
        "Exist/SetComparison subquery can only be used in",
        "`IN`, `EXISTS` and `ANY` over a subquery stand in `WHERE` and `HAVING`: elsewhere write `(SELECT count(*) FROM .. WHERE y = x) > 0`",
    ),
    (
        "orrelated scalar subquery can only be used in",
        "a subquery for one value that refers to the row around it cannot stand here: compute it first, \
         `FROM (SELECT *, (SELECT ..) AS x FROM ..)`",
    ),
    (
        "nsupported CAST from map to text",
        "attributes are no text: `attributes['key']` reads one value, `resource_attributes` is text already",
    ),
    (
        "nsupported CAST from Map",
        "attributes are no text: `attributes['key']` reads one value, `resource_attributes` is text already",
    ),
    (
        "oo many columns! The subquery should only return one column",
        "the subquery gives several columns where one is wanted: name that one in its `SELECT`",
    ),
    (
        "logical expression OuterReferenceColumn(",
        "a subquery in `FROM` does not see the rows beside it: join with `ON`, and number the rows with `row_number() OVER \
         (PARTITION BY .. ORDER BY ..)` for the first of each",
    ),
];

fn out_of_place(text: &str) -> Option<&'static str> {
    OUT_OF_PLACE.iter().find(|(sign, _)| text.contains(sign)).map(|(_, help)| *help)
}

/// Returns what is said in an error that was written out as it lies in memory.
fn refused_value(error: &str) -> String {
    if error.contains("DivideByZero") {
        return "divide by zero error".to_owned();
    }
    let said = error.split_once("(\"").and_then(|(_, rest)| rest.split_once("\")")).map_or(error, |(said, _)| said);
    said.replace("\\\"", "\"").replace("\\'", "'").replace("\\\\", "\\")
}

/// Adds to a tidy message what to write instead.
fn helpful(text: String) -> String {
    if let Some(name) = text.strip_prefix("invalid function '").and_then(|rest| rest.split('\'').next()) {
        let known = crate::functions::names();
        return match (TABLE_FUNCTIONS.contains(&name), known.contains(&name)) {
            (true, _) => format!("`{name}` gives rows: it stands in `FROM`, for instance `SELECT * FROM {name}(..)`"),
            (_, true) => format!("`{name}` is a function over windows: write `{name}(..) OVER (ORDER BY ..)`"),
            _ => unknown("function", name, &known),
        };
    }
    if let Some(name) = text.strip_prefix("table 'plimsoll.public.").and_then(|rest| rest.split('\'').next())
        && TABLE_FUNCTIONS.contains(&name)
    {
        return format!(
            "`{name}` is a function and not a table: it takes arguments, for instance `SELECT * FROM {name}('dep_..', '10m', '10m')`"
        );
    }
    if let Some(help) = out_of_place(&text) {
        return help.to_owned();
    }
    if let Some((_, call)) = text.split_once("no function matches the given name and argument types '")
        && let Some((function, types)) = call.split('\'').next().and_then(|call| call.split_once('('))
    {
        let types = types.trim_end_matches(')');
        let function = foreign::in_postgres(function);
        if function == "bool_and" || function == "bool_or" {
            return format!(
                "`{function}` does not take ({types}): it takes conditions, for instance `{function}(x > 0)`"
            );
        }
        if types.contains("interval") {
            return match types.contains("text") {
                true => format!(
                    "`{function}` does not take ({types}): write the text as an interval, for instance `INTERVAL '1 hour'`"
                ),
                false => format!(
                    "`{function}` does not take ({types}): take the seconds of an interval, for instance `{function}(extract(epoch FROM x))`"
                ),
            };
        }
        if types.contains("timestamp") && types.contains("text") {
            return format!("`{function}` does not take ({types}): cast the text, for instance `x::timestamptz`");
        }
        return format!(
            "`{function}` does not take ({types}): cast the argument, for instance `{function}(x::double)` or `{function}(x::text)`"
        );
    }
    // What an array's function says comes wrapped up in where it was called.
    let text = match text.split_once("ArrowError(").and_then(|(_, inner)| inner.split_once("(\"")) {
        Some((_, inner)) => tidy(inner.split("\")").next().unwrap_or(inner)),
        None => text,
    };
    let lower = text.to_lowercase();
    if lower.contains("must be in group by") {
        return match text.split_once("column \"").and_then(|(_, rest)| rest.split('"').next()) {
            Some(column) => format!(
                "`{column}` is neither in `GROUP BY` nor inside an aggregate: group by it, or take one of its values with `max(..)` or `first_value(..)`"
            ),
            None => text,
        };
    }
    if lower.starts_with("projections require unique expression names") {
        let name = text.split('"').nth(1).map_or("the same", |name| name.rsplit(" AS ").next().unwrap_or(name));
        return format!("two columns are called `{name}`: give each a name of its own with `AS`");
    }
    if lower.contains("cannot infer common argument type") && lower.contains("interval") {
        let help = match lower.contains("text") {
            true => "write text as an interval, for instance `INTERVAL '1 hour'`",
            false => LENGTHS,
        };
        return format!("{text}: {help}");
    }
    if lower.contains("null_aware anti join only supports") {
        return "`NOT IN` a subquery that refers to the outer row is not supported: write `NOT EXISTS (SELECT 1 FROM .. WHERE .. AND y = x)`, and think of null"
            .to_owned();
    }
    if lower.contains("cannot cast date value") && lower.contains("to timestamp") {
        return "a day before 1677 or after 2262 is no time here: compare it with days, and add days as numbers, for instance `x::date + 30`"
            .to_owned();
    }
    if lower.contains("cannot infer common argument type") && lower.contains("timestamp") {
        return format!("{text}: {TIMES}");
    }
    match HELP.iter().find(|(sign, _)| lower.contains(sign)) {
        Some((_, help)) => format!("{text}: {help}"),
        None => text,
    }
}

/// Brings a foreign message into the house's form: one line, lower case, no full stop, no prefix of kinds.
pub(crate) fn tidy(text: &str) -> String {
    const PREFIXES: &[&str] = &[
        "Error during planning: ",
        "Arrow error: ",
        "Execution error: ",
        "sql parser error: ",
        "ParserError(\"",
        "SQL error: ",
        "External error: ",
        "External: ",
        "Internal error: ",
        "Parser error: ",
        "Cast error: ",
        "Parquet error: ",
        "Optimizer rule ",
    ];
    let mut text = text.split("\n\nbacktrace:").next().unwrap_or(text).trim();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix)) {
        text = rest;
    }
    // What came before lists each type that was tried.
    text = text.find("No function matches").map_or(text, |at| &text[at..]);
    text = text.split("This issue was likely caused by a bug").next().unwrap_or(text);
    let text = crate::spelling::in_sql(text);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = line.trim_end_matches(['.', ' ']);
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            let rest: String = line.chars().skip(1).collect();
            format!("{}{rest}", first.to_lowercase())
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_messages_are_brought_into_one_form() {
        assert_eq!(tidy("Error during planning: Column a\n is odd."), "column a is odd");
        assert_eq!(tidy("SQL error: ParserError(\"Expected: end"), "expected: end");
        let wordy =
            "Internal error: sum failed.. This issue was likely caused by a bug. No function matches 'sum(Utf8)'";
        assert_eq!(tidy(wordy), "no function matches 'sum(text)'");
    }

    #[test]
    fn what_a_filter_refused_is_told_in_its_own_words() {
        for (error, said) in [
            ("ArrowError(DivideByZero, Some(\"\"))", "divide by zero error"),
            (
                "ArrowError(CastError(\"Cannot cast string 'x' to Int64\"), Some(\"\"))",
                "Cannot cast string 'x' to Int64",
            ),
            (r#"Execution("`q` takes \"1\"")"#, "`q` takes \"1\""),
            ("something else", "something else"),
        ] {
            assert_eq!(refused_value(error), said);
        }
    }

    #[test]
    fn the_nearest_name_is_offered_only_where_it_is_near() {
        assert_eq!(nearest("servicename", &["service_name", "name"]), Some("service_name"));
        assert_eq!(nearest("zzz", &["service_name", "name"]), None);
        assert_eq!(nearest("nosuch", &["cosh"]), None);
        assert_eq!(nearest("duration", &["duration_ns", "ratio"]), Some("duration_ns"));
        assert_eq!(nearest("srvice_name", &["scope_name", "service_name"]), Some("service_name"));
        assert_eq!(nearest("start_tiem", &["start_time", "status_code"]), Some("start_time"));
    }
}

//! Errors as Postgres says them: a code of five characters, a message, a hint, a position in the statement.
//!
//! The query engine's messages say what is wrong and, behind a colon, what to change: that becomes the hint.

use plimsoll_query::QueryError;

/// An error or a notice, for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// `ERROR`, `FATAL`, `WARNING`.
    pub(super) severity: &'static str,
    /// SQLSTATE.
    pub(super) code: &'static str,
    /// What is wrong.
    pub(super) message: String,
    /// What to change.
    pub(super) hint: Option<String>,
    /// Where in the statement, in characters from one.
    pub(super) position: Option<usize>,
}

impl Problem {
    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "ERROR", code, message: message.into(), hint: None, position: None }
    }

    /// An error that ends the connection.
    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: "FATAL", ..Self::error(code, message) }
    }

    pub(super) fn warning(message: impl Into<String>) -> Self {
        Self { severity: "WARNING", ..Self::error("01000", message) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn cancelled() -> Self {
        Self::error("57014", "canceling statement due to user request")
    }

    /// Translates the engine's error about `sql`.
    pub(super) fn of(error: &QueryError, sql: &str) -> Self {
        let text = error.to_string();
        let code = code(error, &text, sql);
        let (message, hint) = match error {
            // Behind the colon of a parser's message stands the problem itself.
            QueryError::Invalid(_) if code == "42601" => (text.as_str(), None),
            _ => split(&text),
        };
        Self {
            severity: "ERROR",
            code,
            message: message.to_owned(),
            hint: hint.map(str::to_owned),
            position: position(&text, code, sql),
        }
    }
}

fn code(error: &QueryError, text: &str, sql: &str) -> &'static str {
    const WRITES: &[&str] = &[
        "insert", "update", "delete", "create", "drop", "alter", "truncate", "copy", "merge", "grant", "revoke",
        "vacuum", "reindex", "comment", "refresh", "call", "do", "lock",
    ];
    match error {
        QueryError::Refused(_) => {
            let first = sql.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            let writes = WRITES.iter().any(|word| first.eq_ignore_ascii_case(word));
            if writes { "25006" } else { "0A000" }
        }
        QueryError::Invalid(_) => match text {
            _ if text.starts_with("unknown column") => "42703",
            _ if text.starts_with("`$") && text.contains("is used as") => "42P08",
            _ if text.starts_with("unknown table function") => "42883",
            _ if text.starts_with("unknown table") => "42P01",
            _ if text.starts_with("unknown function") || text.contains("invalid function") => "42883",
            _ if text.contains("is in more than one table") => "42702",
            _ if text.starts_with("not supported") => "0A000",
            _ if text.contains("no function matches") || text.contains("cannot coerce") => "42883",
            _ if text.contains("cannot cast") || text.contains("cannot parse") || text.contains("error parsing") => {
                "22P02"
            }
            _ if text.starts_with("text is no length of time") || text.contains("does not take (") => "42883",
            _ if text.contains("is no length of time") => "22007",
            _ if text.contains("raised to a") => "2201F",
            _ if text.contains("than a double can be") => "22003",
            _ if text.starts_with("`width_bucket` takes a number of") || text.contains("two different bounds") => {
                "2201G"
            }
            _ if text.contains("is neither in `GROUP BY`") => "42803",
            _ if text.contains("divide by zero") => "22012",
            _ if text.contains("overflow") => "22003",
            _ if text.contains("expected") || text.starts_with("cannot read the statement") => "42601",
            _ if text.contains("parameter") => "42P02",
            _ => "42000",
        },
        QueryError::Exceeded(_) if text.contains("longer than") => "57014",
        QueryError::Exceeded(_) if text.contains("more than") || text.contains("bytes") => "54000",
        QueryError::Exceeded(_) => "53200",
        QueryError::Busy(_) => "53000",
        QueryError::Unreadable(_) => "58030",
    }
}

/// Splits what is wrong from what to change, at the first colon that is not within backticks.
fn split(text: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '`' => quoted = !quoted,
            ' ' if previous == ':' && !quoted => return (&text[..at - 1], Some(&text[at + 1..])),
            _ => {}
        }
        previous = c;
    }
    (text, None)
}

/// Finds the place that a message is about: the line and column that it names, or the unknown name itself.
fn position(text: &str, code: &str, sql: &str) -> Option<usize> {
    if let Some((line, column)) = line_and_column(text) {
        let before: usize = sql.split_inclusive('\n').take(line.checked_sub(1)?).map(|line| line.chars().count()).sum();
        return Some(before + column);
    }
    if !["42703", "42P01", "42883"].contains(&code) {
        return None;
    }
    let name = text.split('`').nth(1)?.rsplit('.').next()?;
    let lower = sql.to_ascii_lowercase();
    let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let at = lower.match_indices(&name.to_ascii_lowercase()).map(|(at, _)| at).find(|at| {
        let (before, after) = (lower[..*at].chars().next_back(), lower[at + name.len()..].chars().next());
        !word(before) && !word(after)
    })?;
    Some(sql.get(..at)?.chars().count() + 1)
}

fn line_and_column(text: &str) -> Option<(usize, usize)> {
    let number = |after: &str| {
        let digits = after.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok()
    };
    let lower = text.to_ascii_lowercase();
    let line = lower.rfind("line: ")?;
    let column = lower[line..].find("column: ")?;
    Some((number(&lower[line + 6..])?, number(&lower[line + column + 8..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: QueryError, sql: &str) -> (&'static str, String, Option<String>, Option<usize>) {
        let problem = Problem::of(&error, sql);
        (problem.code, problem.message, problem.hint, problem.position)
    }

    #[test]
    fn an_unknown_column_has_its_place_and_the_nearest_as_a_hint() {
        let error = QueryError::Invalid("unknown column `nme`: did you mean `name`?".to_owned());
        let told = of(error, "SELECT name_nme, nme FROM spans");
        assert_eq!(
            told,
            ("42703", "unknown column `nme`".to_owned(), Some("did you mean `name`?".to_owned()), Some(18))
        );
    }

    #[test]
    fn a_syntax_error_has_the_place_that_the_parser_names() {
        let error = QueryError::Invalid("expected: an expression, found: FROM at Line: 2, Column: 3".to_owned());
        let (code, _, hint, position) = of(error, "SELECT\n  FROM spans");
        assert_eq!((code, hint, position), ("42601", None, Some(10)));
    }

    #[test]
    fn what_postgres_has_a_code_for_has_that_code() {
        for (text, wanted) in [
            ("`soon` is no length of time: write one like `1 day 02:30:00`", "22007"),
            ("text is no length of time: cast it, for instance `x::interval`", "42883"),
            ("`sign` does not take (text): cast the argument, for instance `sign(x::double)`", "42883"),
            ("zero raised to a negative power is undefined: leave it out", "2201F"),
            ("10 ^ 400 is larger than a double can be", "22003"),
            ("`width_bucket` takes a number of buckets greater than zero", "2201G"),
            ("`name` is neither in `GROUP BY` nor inside an aggregate: group by it", "42803"),
        ] {
            assert_eq!(Problem::of(&QueryError::Invalid(text.to_owned()), "SELECT 1").code, wanted, "{text}");
        }
    }

    #[test]
    fn limits_name_their_setting_in_the_hint() {
        let error = QueryError::Exceeded(
            "the query ran longer than 30s: restrict the time range, or raise `query.timeout`".to_owned(),
        );
        let (code, message, hint, _) = of(error, "SELECT 1");
        assert_eq!((code, message.as_str()), ("57014", "the query ran longer than 30s"));
        assert_eq!(hint.as_deref(), Some("restrict the time range, or raise `query.timeout`"));
    }

    #[test]
    fn writing_is_told_from_what_is_not_supported() {
        let refused = || QueryError::Refused("`INSERT` is not allowed, SQL only reads here: use `SELECT`".to_owned());
        assert_eq!(of(refused(), " insert into spans values (1)").0, "25006");
        assert_eq!(of(refused(), "WITH RECURSIVE a AS (SELECT 1) SELECT 1").0, "0A000");
    }
}

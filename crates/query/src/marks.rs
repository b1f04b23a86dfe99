//! Parameters written `?`, as JDBC and ODBC write them: numbered from left to right, `$1`, `$2`, .., before the statement is read.
//!
//! Only what the tokenizer takes for a placeholder is one: not what stands in a text, a quoted name, a comment or between dollars. Where a
//! `?` stands between two operands it is an operator of `jsonb`, of which there are none here.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::error::QueryError;

/// Writes the `?` of `sql` as `$1`, `$2`, .. and returns the statement with their number; `None` where it has none.
pub(crate) fn numbered(sql: &str, tokens: &[TokenWithSpan]) -> Result<Option<(String, usize)>, QueryError> {
    let told: Vec<&TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
    let (mut marks, mut dollars) = (Vec::new(), false);
    for (at, token) in told.iter().enumerate() {
        let Token::Placeholder(name) = &token.token else { continue };
        dollars |= name.starts_with('$');
        if !name.starts_with('?') {
            continue;
        }
        if name != "?" {
            return Err(QueryError::Invalid(format!(
                "`{name}` is not a parameter: write `?` for each in order, or `$1`, `$2`, and so on"
            )));
        }
        let before = at.checked_sub(1).and_then(|at| told.get(at)).map(|token| &token.token);
        let after = told.get(at + 1).map(|token| &token.token);
        if before.is_some_and(ends_operand) && after.is_some_and(begins_operand) {
            return Err(QueryError::Invalid(
                "`?` between two values is an operator of `jsonb` that is not known here: whether a key is there says \
                 `attributes['key'] IS NOT NULL`"
                    .to_owned(),
            ));
        }
        marks.push(token.span.start);
    }
    if marks.is_empty() {
        return Ok(None);
    }
    if dollars {
        return Err(QueryError::Invalid("parameters are written `?` or `$1`, not both in one statement".to_owned()));
    }
    Ok(Some((written(sql, &marks), marks.len())))
}

fn ends_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_some() || word.keyword == Keyword::NoKeyword,
        Token::RParen | Token::RBracket | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => {
            true
        }
        _ => false,
    }
}

fn begins_operand(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_some() || word.keyword == Keyword::NoKeyword,
        Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => true,
        _ => false,
    }
}

/// Writes numbers in the places of `marks`, each of which is one character.
fn written(sql: &str, marks: &[Location]) -> String {
    let mut text = String::with_capacity(sql.len() + marks.len() * 4);
    let mut marks = (1..).zip(marks).peekable();
    // As the tokenizer counts them.
    let (mut line, mut column) = (1_u64, 1_u64);
    for char in sql.chars() {
        match marks.next_if(|(_, mark)| (mark.line, mark.column) == (line, column)) {
            Some((number, _)) => {
                text.push('$');
                text.push_str(&number.to_string());
            }
            None => text.push(char),
        }
        (line, column) = if char == '\n' { (line + 1, 1) } else { (line, column + 1) };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn number(sql: &str) -> Result<Option<(String, usize)>, QueryError> {
        numbered(sql, &Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location().expect("it can be tokenized"))
    }

    #[test]
    fn marks_are_numbered_where_they_stand_for_values_and_nowhere_else() {
        for (sql, wanted, count) in [
            ("SELECT ?", "SELECT $1", 1),
            ("SELECT ?, ?::int\nWHERE a = ?", "SELECT $1, $2::int\nWHERE a = $3", 3),
            ("SELECT '?', \"?\", $$?$$, $a$?$a$, 'it''s ?' -- ?\n, ? /* ? /* ? */ ? */", "", 1),
            ("SELECT 'é😀' || ?, e'\\'?' || ?", "SELECT 'é😀' || $1, e'\\'?' || $2", 2),
            ("SELECT a[?] FROM f(?,?) LIMIT ? OFFSET ?", "SELECT a[$1] FROM f($2,$3) LIMIT $4 OFFSET $5", 5),
            ("WHERE a IN (?, ?) AND b BETWEEN ? AND ?", "WHERE a IN ($1, $2) AND b BETWEEN $3 AND $4", 4),
            ("SELECT ?||'x', -?, ? AS \"a\"", "SELECT $1||'x', -$2, $3 AS \"a\"", 3),
            ("SELECT CASE WHEN ? THEN ? ELSE ? END", "SELECT CASE WHEN $1 THEN $2 ELSE $3 END", 3),
        ] {
            let (text, numbered) = number(sql).expect(sql).expect(sql);
            assert_eq!(numbered, count, "{sql}");
            if wanted.is_empty() {
                assert_eq!(text, sql.replace("\n, ?", "\n, $1"));
            } else {
                assert_eq!(text, wanted);
            }
        }
        assert_eq!(number("SELECT '?', $1 -- ?"), Ok(None));
    }

    #[test]
    fn two_ways_to_write_parameters_and_operators_of_jsonb_are_told_apart_in_words() {
        let refused = |sql: &str, word: &str| {
            let error = number(sql).expect_err(sql).to_string();
            assert!(error.contains(word), "{sql}: {error}");
        };
        refused("SELECT ?, $1", "not both");
        refused("SELECT ?1", "`?1` is not a parameter");
        refused("SELECT attributes ? 'k' FROM spans", "IS NOT NULL");
        refused("SELECT (a) ? ? FROM spans", "IS NOT NULL");
    }
}

//! The grammar that statements are read by: the engine's generic one, whose operators bind as they do in Postgres.
//!
//! `x ISNULL` and `x NOTNULL` are tests for null. The generic grammar takes `^` for exclusive or, knows no `#`, and binds `|` looser than `&` and `||` as tight as `*`: `1 | 2 & 4` and
//! `'a' || 1 + 2` come out as something else than what was meant.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Grammar(GenericDialect);

macro_rules! as_generic {
    ($($feature:ident),* $(,)?) => {
        $(fn $feature(&self) -> bool {
            self.0.$feature()
        })*
    };
}

impl Dialect for Grammar {
    // The parser asks for it where a grammar has no method to say what it takes.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, char: char) -> bool {
        self.0.is_delimited_identifier_start(char)
    }

    fn is_identifier_start(&self, char: char) -> bool {
        self.0.is_identifier_start(char)
    }

    fn is_identifier_part(&self, char: char) -> bool {
        self.0.is_identifier_part(char)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        PostgreSqlDialect {}.prec_value(precedence)
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        if null_test(parser).is_some() {
            return Some(Ok(self.prec_value(Precedence::Is)));
        }
        PostgreSqlDialect {}.get_next_precedence(parser)
    }

    fn parse_infix(&self, parser: &mut Parser, left: &Expr, precedence: u8) -> Option<Result<Expr, ParserError>> {
        if let Some(test) = null_test(parser) {
            parser.advance_token();
            return Some(Ok(test(Box::new(left.clone()))));
        }
        let op = match parser.peek_token_ref().token {
            Token::Caret => BinaryOperator::PGExp,
            Token::Sharp => BinaryOperator::PGBitwiseXor,
            _ => return None,
        };
        parser.advance_token();
        Some(parser.parse_subexpr(precedence).map(|right| binary(left.clone(), op, right)))
    }

    as_generic! {
        supports_unicode_string_literal,
        supports_partition_by_after_order_by,
        supports_array_join_syntax,
        supports_group_by_expr,
        supports_group_by_with_modifier,
        supports_left_associative_joins_without_parens,
        supports_connect_by,
        supports_match_recognize,
        supports_pipe_operator,
        supports_start_transaction_modifier,
        supports_window_function_null_treatment_arg,
        supports_dictionary_syntax,
        supports_window_clause_named_window_reference,
        supports_parenthesized_set_variables,
        supports_select_wildcard_except,
        support_map_literal_syntax,
        allow_extract_custom,
        allow_extract_single_quotes,
        supports_extract_comma_syntax,
        supports_create_view_comment_syntax,
        supports_parens_around_table_factor,
        supports_values_as_table_factor,
        supports_create_index_with_clause,
        supports_explain_with_utility_options,
        supports_limit_comma,
        supports_update_order_by,
        supports_from_first_select,
        supports_projection_trailing_commas,
        supports_asc_desc_in_column_definition,
        supports_try_convert,
        supports_bitwise_shift_operators,
        supports_comment_on,
        supports_load_extension,
        supports_named_fn_args_with_assignment_operator,
        supports_struct_literal,
        supports_empty_projections,
        supports_nested_comments,
        supports_multiline_comment_hints,
        supports_user_host_grantee,
        supports_string_escape_constant,
        supports_array_typedef_with_brackets,
        supports_match_against,
        supports_set_names,
        supports_comma_separated_set_assignments,
        supports_filter_during_aggregation,
        supports_select_wildcard_exclude,
        supports_data_type_signed_suffix,
        supports_interval_options,
        supports_quote_delimited_string,
        supports_select_wildcard_replace,
        supports_select_wildcard_ilike,
        supports_select_wildcard_rename,
        supports_optimize_table,
        supports_install,
        supports_detach,
        supports_prewhere,
        supports_with_fill,
        supports_limit_by,
        supports_interpolate,
        supports_settings,
        supports_select_format,
        supports_comment_optimizer_hint,
        supports_constraint_keyword_without_name,
        supports_key_column_option,
        supports_comma_separated_trim,
        supports_cte_without_as,
        supports_select_item_multi_column_alias,
        supports_xml_expressions,
    }
}

/// Returns what `ISNULL` or `NOTNULL` stands for, where one of them comes next.
fn null_test(parser: &Parser) -> Option<fn(Box<Expr>) -> Expr> {
    match &parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("isnull") => {
            Some(Expr::IsNull)
        }
        Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("notnull") => {
            Some(Expr::IsNotNull)
        }
        _ => None,
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

/// Gives a sign back to what it stands before: `-2 ^ 2` is 4 in Postgres, and the parser reads it as `-(2 ^ 2)`.
pub(crate) fn signed(expr: &mut Expr) {
    let Expr::UnaryOp { op: sign @ (UnaryOperator::Minus | UnaryOperator::Plus), expr: inner } = expr else { return };
    if !matches!(inner.as_ref(), Expr::BinaryOp { op: BinaryOperator::PGExp, .. }) {
        return;
    }
    let sign = *sign;
    let mut whole = std::mem::replace(inner.as_mut(), Expr::value(Value::Null));
    let mut first = &mut whole;
    while let Expr::BinaryOp { left, op: BinaryOperator::PGExp, .. } = first {
        first = left.as_mut();
    }
    let base = Box::new(std::mem::replace(first, Expr::value(Value::Null)));
    *first = Expr::UnaryOp { op: sign, expr: base };
    *expr = whole;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(condition: &str) -> String {
        let mut expr = Parser::new(&Grammar::default())
            .try_with_sql(condition)
            .and_then(|mut parser| parser.parse_expr())
            .expect("well formed");
        signed(&mut expr);
        fn bracketed(expr: &Expr) -> String {
            match expr {
                Expr::BinaryOp { left, op, right } => format!("({} {op} {})", bracketed(left), bracketed(right)),
                Expr::UnaryOp { op, expr } => format!("({op}{})", bracketed(expr)),
                other => other.to_string(),
            }
        }
        bracketed(&expr)
    }

    #[test]
    fn operators_bind_as_in_postgres() {
        for (written, meant) in [
            ("2 * 3 ^ 2", "(2 * (3 ^ 2))"),
            ("2 ^ 3 ^ 2", "((2 ^ 3) ^ 2)"),
            ("-2 ^ 2", "((-2) ^ 2)"),
            ("2 ^ -1", "(2 ^ (-1))"),
            ("1 | 2 & 4", "((1 | 2) & 4)"),
            ("1 << 2 + 1", "(1 << (2 + 1))"),
            ("5 # 3 + 1", "(5 # (3 + 1))"),
            ("'a' || 1 + 2", "('a' || (1 + 2))"),
            ("a + 1 ISNULL AND b notnull OR c", "((a + 1 IS NULL AND b IS NOT NULL) OR c)"),
            ("a = b AND NOT c OR d", "(((a = b) AND (NOTc)) OR d)"),
        ] {
            assert_eq!(read(written), meant, "{written}");
        }
    }
}

//! How deep and how long a statement is, by its tokens: bounded before it is parsed, because what recurses over a tree can exhaust the
//! stack, and planning a deep one cannot be interrupted.

use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::error::QueryError;

/// Brackets, `CASE`s and subqueries that may be open at once.
const NESTING_MAX: usize = 48;
/// Operators in one statement: what makes a syntax tree deep rather than wide. Planning takes time that grows with the
/// square of the depth and more, and cannot be interrupted.
const OPERATORS_MAX: usize = 500;
/// Operators in one statement that stand in branches of `CASE` beside others: these make it wide.
const BRANCHED_MAX: usize = 2_000;
/// Words that chain as operators do, whatever the planner makes of them.
const CHAINING: &[&str] = &[
    "and",
    "or",
    "xor",
    "not",
    "union",
    "except",
    "minus",
    "intersect",
    "join",
    "is",
    "isnull",
    "notnull",
    "in",
    "like",
    "ilike",
    "similar",
    "regexp",
    "rlike",
    "glob",
    "match",
    "between",
    "overlaps",
    "div",
    "mod",
    "at",
    "collate",
    "prior",
    "lateral",
    "pivot",
    "unpivot",
];
/// Operators that become calls, each of them of the one before: powers, casts, zones. They are nested as brackets are, with fewer signs.
const CALLS_MAX: usize = NESTING_MAX;
/// Words between which expressions stand beside each other.
const SEPARATING: &[&str] = &[
    "and", "or", "select", "from", "where", "when", "then", "else", "on", "having", "group", "order", "by", "limit",
    "union", "values",
];

/// Operators that are one below the other. Branches of a `CASE` stand beside each other: the one with the most counts.
#[derive(Default)]
struct Chained {
    /// Before each `CASE` that is open: how many there were, and how many its greatest branch has.
    cases: Vec<(usize, usize)>,
    now: usize,
    total: usize,
}

impl Chained {
    fn operator(&mut self) {
        self.now += 1;
        self.total += 1;
    }

    fn word(&mut self, word: &str) {
        let is = |other: &str| word.eq_ignore_ascii_case(other);
        if is("case") {
            self.cases.push((self.now, 0));
            self.now = 0;
        } else if (is("when") || is("else"))
            && let Some((_, greatest)) = self.cases.last_mut()
        {
            *greatest = (*greatest).max(std::mem::take(&mut self.now));
        } else if is("end")
            && let Some((before, greatest)) = self.cases.pop()
        {
            self.now = before + greatest.max(self.now);
        } else if CHAINING.iter().any(|chaining| is(chaining)) {
            self.operator();
        }
    }

    /// Where a `CASE` is never closed, its words may be something else: then nothing is left out.
    fn deepest(&self) -> usize {
        if self.cases.is_empty() { self.now } else { self.total }
    }
}

/// Operators that become calls and stand one behind the other, by level of brackets.
#[derive(Default)]
struct Calls {
    levels: Vec<usize>,
    now: usize,
    most: usize,
}

impl Calls {
    fn call(&mut self) {
        self.now += 1;
        self.most = self.most.max(self.now);
    }

    /// Takes anything that binds less than they do, which begins a chain anew.
    fn other(&mut self) {
        self.now = 0;
    }

    fn open(&mut self) {
        self.levels.push(std::mem::take(&mut self.now));
    }

    fn close(&mut self) {
        self.now = self.levels.pop().unwrap_or(self.now);
    }
}

/// Bounds the depth of the tree that the parser will build.
pub(crate) fn measure(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut open, mut deepest, mut chained, mut calls) = (0_usize, 0, Chained::default(), Calls::default());
    // Behind a dot or `AS` stand names, whatever word they are.
    let mut named = false;
    // Behind an operand a sign is an operator.
    let mut operand = false;
    for token in tokens {
        let (is_name, is_operand) = (named, operand);
        operand = match &token.token {
            Token::Whitespace(_) => operand,
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Placeholder(_) => true,
            token => matches!(token, Token::RParen | Token::RBracket),
        };
        named = match &token.token {
            Token::Whitespace(_) => named,
            Token::Period => true,
            Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case("as"),
            _ => false,
        };
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open += 1;
                calls.open();
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                open = open.saturating_sub(1);
                calls.close();
            }
            Token::Word(word) if word.quote_style.is_none() && !is_name => {
                let is = |other: &str| word.value.eq_ignore_ascii_case(other);
                if is("case") {
                    open += 1;
                } else if is("end") {
                    open = open.saturating_sub(1);
                }
                if is("at") {
                    calls.call();
                } else if SEPARATING.iter().any(|separating| is(separating)) {
                    calls.other();
                }
                chained.word(&word.value);
            }
            Token::Caret | Token::DoubleColon => {
                calls.call();
                chained.operator();
            }
            Token::Comma | Token::SemiColon => calls.other(),
            Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Period
            | Token::Placeholder(_)
            | Token::EOF
            | Token::Word(_) => {}
            Token::Minus | Token::Plus if !is_operand => chained.operator(),
            _ => {
                calls.other();
                chained.operator();
            }
        }
        deepest = deepest.max(open);
    }
    if calls.most > CALLS_MAX {
        return Err(QueryError::Refused(format!(
            "the statement has {} powers, casts or zones one behind the other, at most {CALLS_MAX} are taken: split it with `WITH`",
            calls.most
        )));
    }
    if deepest > NESTING_MAX {
        return Err(QueryError::Refused(format!(
            "the statement is nested {deepest} deep, at most {NESTING_MAX} is taken: split it with `WITH`"
        )));
    }
    for (operators, most) in [(chained.deepest(), OPERATORS_MAX), (chained.total, BRANCHED_MAX)] {
        if operators > most {
            return Err(QueryError::Refused(format!(
                "the statement has {operators} operators, at most {most} are taken: use an `IN` list"
            )));
        }
    }
    Ok(())
}

//! Statements about the session, told from those that the query engine answers.

use super::copy::{CopyOptions, unescaped};
use super::declared;
use super::lexer::{Kind, Token, Tokens};

/// What a statement asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Rows of the query engine.
    Query,
    /// A transaction.
    Begin,
    /// Its end.
    Commit,
    /// Its end.
    Rollback,
    /// A point within it.
    Savepoint,
    /// The end of such a point.
    Release,
    /// Back to such a point.
    RollbackTo,
    /// A setting.
    Set {
        /// Its name.
        name: String,
        /// Its value; `None` is the default.
        value: Option<String>,
    },
    /// The value of a setting, or of all.
    Show(String),
    /// Everything forgotten.
    Discard,
    /// A prepared statement forgotten; `None` is all.
    Deallocate(Option<String>),
    /// A statement kept under a name.
    Prepare {
        /// The name.
        name: String,
        /// The statement.
        sql: String,
        /// Object ids of the types that were declared, or the one that is not known.
        types: Result<Vec<u32>, String>,
    },
    /// A kept statement run.
    Execute {
        /// Its name.
        name: String,
        /// Its parameters, as text; `None` is null.
        values: Vec<Option<String>>,
    },
    /// A cursor.
    Declare {
        /// Its name.
        name: String,
        /// Its query.
        sql: String,
        /// Whether it stays open when its transaction is committed.
        hold: bool,
    },
    /// Rows of a cursor.
    Fetch {
        /// Its name.
        name: String,
        /// How many; `None` is all.
        rows: Option<u64>,
        /// Whether they are passed over instead of sent.
        silent: bool,
    },
    /// A cursor closed; `None` is all.
    Close(Option<String>),
    /// Rows of a query in one piece.
    CopyOut {
        /// The query.
        sql: String,
        /// How they are written, or what is wrong with what was asked for.
        options: Result<CopyOptions, String>,
    },
    /// Nothing: answered with its own name.
    Nothing(&'static str),
    /// Something that Postgres can and this server cannot.
    Unsupported(&'static str),
}

impl Command {
    /// Reads one statement.
    pub(super) fn of(sql: &str) -> Self {
        let tokens: Vec<Token<'_>> = Tokens::new(sql).take(64).collect();
        let Some(Kind::Word(first)) = tokens.first().map(|token| token.kind) else { return Self::Query };
        let rest = &tokens[1..];
        match first.to_ascii_lowercase().as_str() {
            "begin" => Self::Begin,
            "start" if next_is(rest, "transaction") => Self::Begin,
            "commit" | "end" => Self::Commit,
            "abort" => Self::Rollback,
            "rollback" if rest.iter().any(|token| token.is("to")) => Self::RollbackTo,
            "rollback" => Self::Rollback,
            "savepoint" => Self::Savepoint,
            "release" => Self::Release,
            "set" => set(rest),
            "reset" => Self::Set { name: joined(rest), value: None },
            "show" => show(rest),
            "discard" => Self::Discard,
            "deallocate" => {
                let rest = if next_is(rest, "prepare") { &rest[1..] } else { rest };
                Self::Deallocate(name_or_all(rest))
            }
            "prepare" => prepare(sql, rest),
            "execute" => execute(sql, rest),
            "declare" => declare(sql, rest),
            "fetch" => fetch(rest, false),
            "move" => fetch(rest, true),
            "close" => Self::Close(name_or_all(rest)),
            "copy" => copy(sql, rest),
            "listen" => {
                Self::Unsupported("LISTEN: changes are not announced here, `plimsoll.v1` streams regression events")
            }
            "notify" => Self::Unsupported("NOTIFY: nothing is announced here"),
            "unlisten" => Self::Nothing("UNLISTEN"),
            "checkpoint" => Self::Nothing("CHECKPOINT"),
            _ => Self::Query,
        }
    }

    /// Says whether it may run in a transaction that failed.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo)
    }
}

fn next_is(tokens: &[Token<'_>], word: &str) -> bool {
    tokens.first().is_some_and(|token| token.is(word))
}

fn joined(tokens: &[Token<'_>]) -> String {
    let words = tokens.iter().take_while(|token| token.kind != Kind::Sign(';'));
    let parts: Vec<String> = words
        .filter_map(|token| match token.kind {
            Kind::Sign(sign) => Some(sign.to_string()),
            _ => token.value().map(str::to_lowercase),
        })
        .collect();
    match parts.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["time", "zone"] => "timezone".to_owned(),
        ["session", "authorization"] => "session_authorization".to_owned(),
        ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
        _ => parts.concat(),
    }
}

fn name_or_all(tokens: &[Token<'_>]) -> Option<String> {
    match tokens.first()?.kind {
        Kind::Word(word) if word.eq_ignore_ascii_case("all") => None,
        Kind::Word(word) => Some(word.to_ascii_lowercase()),
        Kind::Quoted(name) => Some(name.to_owned()),
        _ => None,
    }
}

fn set(tokens: &[Token<'_>]) -> Command {
    let tokens = if next_is(tokens, "session") && tokens.len() > 1 && !tokens[1].is("authorization")
        || next_is(tokens, "local")
    {
        &tokens[1..]
    } else {
        tokens
    };
    if next_is(tokens, "transaction") || next_is(tokens, "characteristics") {
        return Command::Nothing("SET");
    }
    let (name, value) = match tokens {
        [first, second, rest @ ..] if first.is("time") && second.is("zone") => ("timezone".to_owned(), rest),
        [first, rest @ ..] if first.is("names") => ("client_encoding".to_owned(), rest),
        [first, rest @ ..] if first.is("role") || first.is("constraints") || first.is("session") => {
            let _ = rest;
            return Command::Nothing("SET");
        }
        _ => {
            let assigned = tokens.iter().position(|token| token.kind == Kind::Sign('=') || token.is("to"));
            let Some(at) = assigned else { return Command::Query };
            (joined(&tokens[..at]), &tokens[at + 1..])
        }
    };
    if let [one] = value
        && (one.is("default") || one.is("local"))
    {
        return Command::Set { name, value: None };
    }
    let parts: Vec<String> = value
        .iter()
        .take_while(|token| token.kind != Kind::Sign(';'))
        .filter_map(|token| match token.kind {
            Kind::Sign(',') => Some(", ".to_owned()),
            Kind::Sign(sign) => Some(sign.to_string()),
            _ => token.value().map(str::to_owned),
        })
        .collect();
    Command::Set { name, value: Some(parts.concat()) }
}

fn show(tokens: &[Token<'_>]) -> Command {
    // These are the engine's.
    const TABLES: &[&str] = &["tables", "columns", "databases", "schemas", "functions", "create", "variables"];
    match tokens.first().map(|token| token.kind) {
        Some(Kind::Word(word)) if TABLES.iter().any(|table| word.eq_ignore_ascii_case(table)) => Command::Query,
        Some(_) => Command::Show(joined(tokens)),
        None => Command::Query,
    }
}

/// Returns what follows the first of `words` that stands outside brackets.
fn after<'a>(sql: &'a str, words: &[&str]) -> Option<&'a str> {
    let mut open = 0_usize;
    Tokens::new(sql).find_map(|token| match token.kind {
        Kind::Sign('(') => {
            open += 1;
            None
        }
        Kind::Sign(')') => {
            open = open.saturating_sub(1);
            None
        }
        Kind::Word(_) if open == 0 && words.iter().any(|word| token.is(word)) => Some(sql[token.to..].trim()),
        _ => None,
    })
}

fn prepare(sql: &str, tokens: &[Token<'_>]) -> Command {
    match (name_or_all(tokens), after(sql, &["as"])) {
        (Some(name), Some(inner)) => Command::Prepare {
            name,
            sql: inner.to_owned(),
            types: declared::types(tokens.get(1..).unwrap_or_default()),
        },
        _ => Command::Query,
    }
}

fn execute(sql: &str, tokens: &[Token<'_>]) -> Command {
    let Some(name) = name_or_all(tokens) else { return Command::Query };
    let mut values = Vec::new();
    let mut sign = "";
    // All of them, however many: the tokens that were looked at may be fewer.
    for token in Tokens::new(sql).skip(2) {
        match token.kind {
            Kind::Sign('(' | ')' | ',') => {}
            Kind::Sign('-') => sign = "-",
            Kind::Word(word) if word.eq_ignore_ascii_case("null") => values.push(None),
            Kind::Text(inside) if sign.is_empty() => values.push(Some(unescaped(inside, &sql[token.from..]))),
            Kind::Number(number) => values.push(Some(format!("{}{number}", std::mem::take(&mut sign)))),
            Kind::Word(word) if sign.is_empty() && ["true", "false"].iter().any(|of| word.eq_ignore_ascii_case(of)) => {
                values.push(Some(word.to_ascii_lowercase()));
            }
            _ => return Command::Unsupported("EXECUTE with expressions: give literal values"),
        }
    }
    Command::Execute { name, values }
}

fn declare(sql: &str, tokens: &[Token<'_>]) -> Command {
    match (name_or_all(tokens), after(sql, &["for"])) {
        (Some(name), Some(query)) => {
            let options = tokens.iter().take_while(|token| !token.is("for"));
            let mut pairs = options.clone().zip(options.skip(1));
            let hold = pairs.any(|(first, second)| first.is("with") && second.is("hold"));
            Command::Declare { name, sql: query.to_owned(), hold }
        }
        _ => Command::Query,
    }
}

fn fetch(tokens: &[Token<'_>], silent: bool) -> Command {
    let mut rows = Some(1);
    let mut name = None;
    for token in tokens {
        match token.kind {
            Kind::Number(number) => match number.parse() {
                Ok(number) => rows = Some(number),
                Err(_) => return Command::Unsupported("FETCH of that many rows"),
            },
            Kind::Word(word) if word.eq_ignore_ascii_case("all") => rows = None,
            Kind::Word(word) if ["forward", "next", "from", "in"].iter().any(|w| word.eq_ignore_ascii_case(w)) => {}
            Kind::Word(word)
                if ["backward", "prior", "first", "last", "absolute", "relative"]
                    .iter()
                    .any(|w| word.eq_ignore_ascii_case(w)) =>
            {
                return Command::Unsupported("cursors that go anywhere but forward");
            }
            Kind::Word(word) => name = Some(word.to_ascii_lowercase()),
            Kind::Quoted(quoted) => name = Some(quoted.to_owned()),
            Kind::Sign('-') => return Command::Unsupported("cursors that go anywhere but forward"),
            Kind::Sign(_) | Kind::Text(_) => {}
        }
    }
    match name {
        Some(name) => Command::Fetch { name, rows, silent },
        None => Command::Query,
    }
}

/// `COPY (query) TO STDOUT [WITH] [(FORMAT csv, HEADER)]`, or of a table.
fn copy(sql: &str, tokens: &[Token<'_>]) -> Command {
    const REFUSED: Command =
        Command::Unsupported("this form of COPY: only `COPY (query) TO STDOUT [WITH (FORMAT csv, HEADER)]` is");
    let Some(target) = after(sql, &["to"]) else { return REFUSED };
    let Some(stdout) = Tokens::new(target).next().filter(|token| token.is("stdout")) else { return REFUSED };
    let options = CopyOptions::read(&target[stdout.to..]);
    let inner = match tokens.first().map(|token| token.kind) {
        Some(Kind::Sign('(')) => {
            let from = tokens[0].to;
            let mut open = 1_usize;
            let end = Tokens::new(&sql[from..]).find_map(|token| {
                match token.kind {
                    Kind::Sign('(') => open += 1,
                    Kind::Sign(')') => open -= 1,
                    _ => {}
                }
                (open == 0).then_some(from + token.from)
            });
            let Some(end) = end else { return Command::Query };
            sql[from..end].trim().to_owned()
        }
        Some(_) => {
            let end = Tokens::new(sql).find(|token| token.is("to")).map_or(sql.len(), |token| token.from);
            let table = sql[tokens[0].from..end].trim();
            match table.strip_suffix(')').and_then(|table| table.split_once('(')) {
                Some((table, columns)) => format!("SELECT {columns} FROM {}", table.trim_end()),
                None => format!("SELECT * FROM {table}"),
            }
        }
        None => return Command::Query,
    };
    Command::CopyOut { sql: inner, options }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_the_session_are_told_from_queries() {
        let set =
            |name: &str, value: Option<&str>| Command::Set { name: name.to_owned(), value: value.map(str::to_owned) };
        for (sql, command) in [
            ("BEGIN READ ONLY", Command::Begin),
            ("start transaction isolation level repeatable read", Command::Begin),
            ("ROLLBACK TO SAVEPOINT a", Command::RollbackTo),
            ("SET extra_float_digits = 3", set("extra_float_digits", Some("3"))),
            ("SET SESSION statement_timeout TO '5s'", set("statement_timeout", Some("5s"))),
            ("SET LOCAL search_path = \"$user\", public", set("search_path", Some("$user, public"))),
            ("SET TIME ZONE 'UTC'", set("timezone", Some("UTC"))),
            ("RESET statement_timeout", set("statement_timeout", None)),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", Command::Nothing("SET")),
            ("SHOW transaction isolation level", Command::Show("transaction_isolation".to_owned())),
            ("SHOW TABLES", Command::Query),
            ("DEALLOCATE ALL", Command::Deallocate(None)),
            ("DISCARD ALL", Command::Discard),
            ("SELECT 1", Command::Query),
            ("(SELECT 1)", Command::Query),
            ("/* BEGIN */ EXPLAIN SELECT 1", Command::Query),
            ("INSERT INTO spans VALUES (1)", Command::Query),
        ] {
            assert_eq!(Command::of(sql), command, "{sql}");
        }
    }

    #[test]
    fn cursors_keep_their_query_and_go_forward() {
        let declared = Command::of("DECLARE \"My c\" CURSOR WITH HOLD FOR SELECT name FROM spans");
        assert_eq!(
            declared,
            Command::Declare { name: "My c".into(), sql: "SELECT name FROM spans".into(), hold: true }
        );
        let within = Command::of("DECLARE c NO SCROLL CURSOR FOR SELECT 1");
        assert_eq!(within, Command::Declare { name: "c".into(), sql: "SELECT 1".into(), hold: false });
        let fetch = |rows| Command::Fetch { name: "c".to_owned(), rows, silent: false };
        assert_eq!(Command::of("FETCH FORWARD 100 FROM c"), fetch(Some(100)));
        assert_eq!(Command::of("FETCH ALL IN c"), fetch(None));
        assert_eq!(Command::of("FETCH c"), fetch(Some(1)));
        assert!(matches!(Command::of("FETCH BACKWARD 1 FROM c"), Command::Unsupported(_)));
    }

    #[test]
    fn copies_of_queries_and_tables_become_queries() {
        let copy = |sql: &str, options| Command::CopyOut { sql: sql.to_owned(), options: CopyOptions::read(options) };
        assert_eq!(
            Command::of("COPY (SELECT ')', (1) FROM spans) TO STDOUT WITH (FORMAT csv, HEADER)"),
            copy("SELECT ')', (1) FROM spans", "CSV HEADER")
        );
        assert_eq!(Command::of("copy spans (name, kind) to stdout"), copy("SELECT name, kind FROM spans", ""));
        assert!(matches!(Command::of("COPY (SELECT 1) TO '/tmp/x'"), Command::Unsupported(_)));
        assert!(matches!(Command::of("COPY spans FROM STDIN"), Command::Unsupported(_)));
    }

    #[test]
    fn executed_values_are_read_as_they_are_written() {
        let values = vec![Some("it's".to_owned()), Some("-5".to_owned()), None];
        assert_eq!(Command::of("EXECUTE q('it''s', -5, NULL)"), Command::Execute { name: "q".into(), values });
        let prepared = Command::of("PREPARE q (text, int) AS SELECT $1, $2");
        let (sql, types) = ("SELECT $1, $2".to_owned(), Ok(vec![25, 23]));
        assert_eq!(prepared, Command::Prepare { name: "q".into(), sql, types });
    }
}

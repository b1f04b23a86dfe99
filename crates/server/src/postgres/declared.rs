//! Types that `PREPARE name (bigint, text[]) AS ..` declares, as object ids.

use super::lexer::{Kind, Token};

/// Object ids of a type and of arrays of it, by its names.
const KNOWN: &[(&[&str], u32, u32)] = &[
    (&["boolean", "bool"], 16, 1000),
    (&["bytea"], 17, 1001),
    (&["bigint", "int8"], 20, 1016),
    (&["smallint", "int2"], 21, 1005),
    (&["integer", "int", "int4"], 23, 1007),
    (&["text"], 25, 1009),
    (&["real", "float4"], 700, 1021),
    (&["double precision", "float8", "float", "double"], 701, 1022),
    (&["date"], 1082, 1182),
    (&["time", "time without time zone"], 1083, 1183),
    (&["timestamp", "timestamp without time zone"], 1114, 1115),
    (&["timestamptz", "timestamp with time zone"], 1184, 1185),
    (&["interval"], 1186, 1187),
    (&["numeric", "decimal"], 1700, 1231),
    (&["uuid"], 2950, 2951),
    (&["jsonb"], 3802, 3807),
    (&["json"], 114, 199),
    (&["varchar", "character varying"], 1043, 1015),
    (&["unknown"], 705, 0),
];

/// Reads the types in the brackets that `tokens` begin with, none where there are no brackets; the name of the one that is not known
/// where one is not.
pub(super) fn types(tokens: &[Token<'_>]) -> Result<Vec<u32>, String> {
    let Some(Kind::Sign('(')) = tokens.first().map(|token| token.kind) else { return Ok(Vec::new()) };
    let (mut types, mut words, mut open, mut array) = (Vec::new(), Vec::new(), 1_usize, false);
    for token in &tokens[1..] {
        match token.kind {
            Kind::Sign('(') => open += 1,
            Kind::Sign(')') if open > 1 => open -= 1,
            // The length of a text, the digits of a number.
            _ if open > 1 => {}
            Kind::Sign(sign @ (',' | ')')) => {
                types.push(oid(&words.join(" "), array)?);
                (words, array) = (Vec::new(), false);
                if sign == ')' {
                    break;
                }
            }
            Kind::Sign('[') => array = true,
            Kind::Word(word) | Kind::Quoted(word) => words.push(word.to_ascii_lowercase()),
            _ => {}
        }
    }
    Ok(types)
}

fn oid(name: &str, array: bool) -> Result<u32, String> {
    let known = KNOWN.iter().find(|(names, ..)| names.contains(&name));
    known.map(|(_, one, many)| if array { *many } else { *one }).ok_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::lexer::Tokens;
    use super::*;

    #[test]
    fn declared_types_are_read_in_every_spelling() {
        let read = |text: &str| types(&Tokens::new(text).collect::<Vec<_>>());
        assert_eq!(read("(int, BIGINT[], timestamp with time zone) AS x"), Ok(vec![23, 1016, 1184]));
        assert_eq!(read("(varchar(20), numeric(10, 2), double precision)"), Ok(vec![1043, 1700, 701]));
        assert_eq!(read("AS SELECT (int)"), Ok(Vec::new()));
        assert_eq!(read("(money)"), Err("money".to_owned()));
    }
}

//! Foreign messages in the words of SQL: types and values as a statement would have them.

/// Types without parameters, and what SQL calls them.
const SCALARS: &[(&str, &str)] = &[
    ("Utf8", "text"),
    ("LargeUtf8", "text"),
    ("Utf8View", "text"),
    ("Boolean", "boolean"),
    ("Int8", "tinyint"),
    ("Int16", "smallint"),
    ("Int32", "int"),
    ("Int64", "bigint"),
    ("UInt8", "tinyint unsigned"),
    ("UInt16", "smallint unsigned"),
    ("UInt32", "int unsigned"),
    ("UInt64", "bigint unsigned"),
    ("Float16", "real"),
    ("Float32", "real"),
    ("Float64", "double"),
    ("Binary", "bytea"),
    ("LargeBinary", "bytea"),
    ("BinaryView", "bytea"),
    ("Date32", "date"),
    ("Date64", "date"),
];

/// Types whose parameters no statement writes.
const WITH_PARAMETERS: &[(&str, &str)] = &[
    ("Timestamp", "timestamp"),
    ("TimestampSecond", "timestamp"),
    ("TimestampMillisecond", "timestamp"),
    ("TimestampMicrosecond", "timestamp"),
    ("TimestampNanosecond", "timestamp"),
    ("Time32", "time"),
    ("Time64", "time"),
    ("Duration", "interval"),
    ("Interval", "interval"),
    ("FixedSizeBinary", "bytea"),
    ("Struct", "struct"),
    ("Map", "map"),
];

/// Returns `text` with types and values spelled as SQL spells them: `Utf8View` is `text`, `Int64(1)` is `1`, `Utf8("x")` is `'x'`.
pub(crate) fn in_sql(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let inside = |c: char| c.is_ascii_alphanumeric() || c == '_';
    while let Some(first) = rest.chars().next() {
        let word_ends = rest.find(|c| !inside(c)).unwrap_or(rest.len());
        if word_ends == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, behind) = rest.split_at(word_ends);
        let (spelled, used) = spell(word, behind);
        out.push_str(&spelled);
        rest = &behind[used..];
    }
    out
}

/// Returns how a word and what is in brackets behind it are spelled, and how many bytes of the latter that takes.
fn spell(word: &str, behind: &str) -> (String, usize) {
    let named = |table: &[(&str, &'static str)]| table.iter().find(|(name, _)| *name == word).map(|(_, sql)| *sql);
    let as_it_is = || (word.to_owned(), 0);
    if let Some(sql) = named(SCALARS) {
        return match quoted(behind).or_else(|| bracketed(behind)) {
            Some(value) => (literal(value), value.len() + 2),
            None => (sql.to_owned(), 0),
        };
    }
    let Some(content) = bracketed(behind) else { return as_it_is() };
    let used = content.len() + 2;
    if let Some(sql) = named(WITH_PARAMETERS) {
        return (sql.to_owned(), used);
    }
    match word {
        "Dictionary" => match content.split_once(", ") {
            Some((_, value)) => (in_sql(value), used),
            None => as_it_is(),
        },
        "List" | "LargeList" | "ListView" | "LargeListView" | "FixedSizeList" => {
            let item = content.trim_start_matches("non-null ").split(", field").next().unwrap_or(content);
            (format!("{}[]", in_sql(item)), used)
        }
        "Decimal32" | "Decimal64" | "Decimal128" | "Decimal256" => (format!("decimal({content})"), used),
        _ => as_it_is(),
    }
}

/// Returns the text that stands in quotes in the brackets that `text` begins with, quotes in it included.
fn quoted(text: &str) -> Option<&str> {
    let content = text.strip_prefix("(\"")?;
    content.find("\")").map(|at| &text[1..at + 3])
}

/// Returns what is in the brackets that `text` begins with.
fn bracketed(text: &str) -> Option<&str> {
    let content = text.strip_prefix('(')?;
    let mut open = 1;
    for (at, c) in content.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(&content[..at]);
        }
    }
    None
}

/// Writes a value as a statement would.
fn literal(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) => format!("'{}'", text.replace('\'', "''")),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_values_are_spelled_as_in_sql_and_all_else_stays() {
        for (foreign, sql) in [
            ("cannot coerce Utf8View + Int64", "cannot coerce text + bigint"),
            ("sum(Dictionary(UInt32, Utf8))", "sum(text)"),
            ("Timestamp(ns, \"UTC\") > Int64", "timestamp > bigint"),
            ("only \"count(Int64(1))\" is there", "only \"count(1)\" is there"),
            ("a = Utf8(\"it's (so)\")", "a = 'it''s (so)'"),
            ("List(non-null Utf8, field: 'x')", "text[]"),
            ("Decimal128(20, 0), Map(\"entries\": non-null Struct(\"a\": Utf8), unsorted)", "decimal(20, 0), map"),
            ("MyInt64, Int64_t, Utf8(", "MyInt64, Int64_t, text("),
            ("a list (of things) costs 3 \u{20ac}", "a list (of things) costs 3 \u{20ac}"),
        ] {
            assert_eq!(in_sql(foreign), sql);
        }
    }
}

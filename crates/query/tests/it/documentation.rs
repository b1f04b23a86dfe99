//! `docs/sql.md` lists the columns that there are.

use std::fmt::Write;
use std::path::Path;

use plimsoll_query::{QueryRequest, SqlEngine, type_name};

use crate::fixture::Shop;

const TABLES: &[&str] = &[
    "spans",
    "span_events",
    "span_links",
    "logs",
    "metrics",
    "operations",
    "signals",
    "exceptions",
    "deploys",
    "verdicts",
    "findings",
    "decisions",
];
const BEGIN: &str = "<!-- columns: written by the tests of plimsoll-query -->";
const END: &str = "<!-- end of columns -->";

#[tokio::test]
async fn the_columns_in_the_documentation_are_those_that_exist() {
    let shop = Shop::open().await;
    let mut columns = String::new();
    for table in TABLES {
        let result =
            shop.engine.query(QueryRequest::new(format!("SELECT * FROM {table} LIMIT 0"))).await.expect("runs");
        write!(columns, "\n### `{table}`\n\n| column | type |\n|---|---|\n").expect("memory");
        for field in result.schema.fields() {
            let nullable = if field.is_nullable() { ", may be null" } else { "" };
            writeln!(columns, "| `{}` | {}{nullable} |", field.name(), type_name(field)).expect("memory");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let (head, rest) = page.split_once(BEGIN).expect("the page has the first mark");
    let (listed, tail) = rest.split_once(END).expect("the page has the second mark");
    let expected = format!("\n{columns}\n");
    if std::env::var_os("PLIMSOLL_BLESS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{expected}{END}{tail}")).expect("the page can be written");
        return;
    }
    assert_eq!(listed, expected, "set PLIMSOLL_BLESS=1 and run this test again to write the columns");
}

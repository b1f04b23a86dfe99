//! `docs/sql.md` lists the columns that there are, and its questions have the answers that it gives.
//!
//! `PLIMSOLL_BLESS=1` writes columns and answers instead of comparing.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use plimsoll_otlp::Signal;
use plimsoll_query::{SqlEngine, type_name};

use crate::fixture::{Shop, counters};

const BEGIN: &str = "<!-- columns: written by the tests of plimsoll-query -->";
const END: &str = "<!-- end of columns -->";

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sql.md")
}

fn blessing() -> bool {
    std::env::var_os("PLIMSOLL_BLESS").is_some()
}

/// Both tests may write the page.
static WRITING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn the_columns_in_the_documentation_are_those_that_exist() {
    let shop = Shop::open().await;
    let mut columns = String::new();
    for table in shop.engine.tables().await.expect("lists") {
        let schema = if table.schema == "public" { String::new() } else { format!("{}.", table.schema) };
        write!(columns, "\n### `{schema}{}`\n\n| column | type |\n|---|---|\n", table.name).expect("memory");
        for field in table.columns.fields() {
            let nullable = if field.is_nullable() { ", may be null" } else { "" };
            writeln!(columns, "| `{}` | {}{nullable} |", field.name(), type_name(field)).expect("memory");
        }
    }
    let _alone = WRITING.lock().await;
    let text = std::fs::read_to_string(page()).expect("the page is there");
    let (head, rest) = text.split_once(BEGIN).expect("the page has the first mark");
    let (listed, tail) = rest.split_once(END).expect("the page has the second mark");
    let expected = format!("\n{columns}\n");
    if blessing() {
        std::fs::write(page(), format!("{head}{BEGIN}{expected}{END}{tail}")).expect("the page can be written");
        return;
    }
    assert_eq!(listed, expected, "set PLIMSOLL_BLESS=1 and run this test again to write the columns");
}

#[tokio::test]
async fn every_question_in_the_documentation_has_the_answer_that_it_gives() {
    let mut shop = Shop::open().await;
    let request: ExportMetricsServiceRequest = counters();
    shop.publish(Signal::Metrics, &request);
    let _alone = WRITING.lock().await;
    let text = std::fs::read_to_string(page()).expect("the page is there");
    let mut parts = text.split("```sql\n");
    let mut written = parts.next().expect("a page has a beginning").to_owned();
    let (mut questions, mut problems) = (0, Vec::new());
    for part in parts {
        let (sql, rest) = part.split_once("\n```\n\n```csv\n").expect("a question is followed by its answer");
        let (answer, rest) = rest.split_once("```").expect("an answer ends");
        questions += 1;
        let got = shop.csv_with_header(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error}"));
        if got != answer {
            problems.push(format!("{sql}\n--- the page says\n{answer}--- it is\n{got}"));
        }
        write!(written, "```sql\n{sql}\n```\n\n```csv\n{got}```{rest}").expect("memory");
    }
    if blessing() {
        std::fs::write(page(), written).expect("the page can be written");
        return;
    }
    assert!(questions >= 20, "{questions} questions");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

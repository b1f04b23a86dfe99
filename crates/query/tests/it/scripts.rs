//! Runs the `.slt` scripts in `tests/sql`, over the tail and again over segments.
//!
//! A record is `query` or `error`, then SQL up to `----`, then the expected rows as CSV (or a part of the message), up to an
//! empty line. `PLIMSOLL_BLESS=1` writes what came instead of comparing.

use std::path::Path;

use crate::fixture::Shop;

struct Record {
    kind: String,
    sql: String,
    expected: String,
}

fn parse(script: &str) -> Vec<Record> {
    script
        .split("\n\n")
        .map(|record| record.trim_matches('\n'))
        .filter(|record| !record.is_empty() && !record.lines().all(|line| line.starts_with('#')))
        .map(|record| {
            let body: Vec<&str> = record.lines().skip_while(|line| line.starts_with('#')).collect();
            let at = body.iter().position(|line| *line == "----").expect("a record has `----`");
            let (head, expected) = (body[..at].join("\n"), body[at + 1..].join("\n"));
            let (kind, sql) = head.split_once('\n').expect("a record has SQL");
            Record { kind: kind.to_owned(), sql: sql.to_owned(), expected }
        })
        .collect()
}

async fn run(shop: &Shop, path: &Path, bless: bool) -> Vec<String> {
    let script = std::fs::read_to_string(path).expect("the script can be read");
    let mut blessed = String::new();
    let mut problems = Vec::new();
    for record in parse(&script) {
        let answer = match (record.kind.as_str(), shop.csv(&record.sql).await) {
            ("query", Ok(rows)) => rows.trim_end_matches('\n').to_owned(),
            ("error", Err(error)) => error.to_string(),
            (_, Ok(rows)) => format!("UNEXPECTED ROWS\n{rows}"),
            (_, Err(error)) => format!("UNEXPECTED ERROR\n{error:?}"),
        };
        let fits = match record.kind.as_str() {
            "error" => !record.expected.is_empty() && answer.contains(&record.expected),
            _ => answer == record.expected,
        };
        if !fits {
            problems.push(format!(
                "{}\n{}\n--- expected\n{}\n--- got\n{answer}\n",
                path.display(),
                record.sql,
                record.expected
            ));
        }
        blessed.push_str(&format!("{}\n{}\n----\n{answer}\n\n", record.kind, record.sql));
    }
    if bless {
        std::fs::write(path, blessed.trim_end().to_owned() + "\n").expect("the script can be written");
        return Vec::new();
    }
    problems
}

#[tokio::test]
async fn every_script_gives_what_it_says_from_the_tail_and_from_segments() {
    let bless = std::env::var_os("PLIMSOLL_BLESS").is_some();
    let shop = Shop::open().await;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql");
    let mut scripts: Vec<_> = std::fs::read_dir(directory)
        .expect("the scripts are there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "slt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    let mut problems = Vec::new();
    for script in &scripts {
        problems.extend(run(&shop, script, bless).await);
    }
    shop.store.flush().await.expect("flushes");
    for script in &scripts {
        problems
            .extend(run(&shop, script, false).await.into_iter().map(|problem| format!("after the flush: {problem}")));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

//! The SQLite catalog, through the port and on a real file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_catalog::conformance::{check, sample_deploy, sample_segment, sample_verdict};
use plimsoll_catalog::{Catalog, CatalogError, FORMAT, SegmentChange, SqliteCatalog, SqliteOptions};
use plimsoll_model::event::EventKind;
use plimsoll_model::verdict::Phase;
use plimsoll_model::{RegressionEvent, SequenceNumber};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

const IMPATIENT: SqliteOptions = SqliteOptions { busy_timeout: Duration::from_millis(10), readers: 1, durable: true };

async fn raw(path: &Path) -> SqliteConnection {
    sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .expect("the file opens")
}

async fn open(path: &Path) -> SqliteCatalog {
    SqliteCatalog::open(path).await.expect("the catalog opens")
}

fn change(number: u64) -> SegmentChange {
    SegmentChange { add: vec![sample_segment(number)], remove: Vec::new(), checkpoint: Some(SequenceNumber(number)) }
}

#[tokio::test]
async fn sqlite_does_what_the_port_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut number = 0;
    check(async || {
        number += 1;
        Arc::new(open(&directory.path().join(format!("{number}/catalog.sqlite"))).await) as Arc<dyn Catalog>
    })
    .await;
    assert!(number > 0);
}

#[tokio::test]
async fn what_was_committed_is_there_after_reopening() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data/catalog.sqlite");
    let deploy = sample_deploy(1);
    let verdict = sample_verdict(&deploy, Phase::Confirmed, 1);
    let event = RegressionEvent::announce(EventKind::Detected, deploy.clone(), verdict.clone(), "http://127.0.0.1");
    {
        let catalog = open(&path).await;
        catalog.insert_deploy(&deploy, Some("key")).await.expect("inserted");
        catalog.commit_verdict(&verdict, Some(&event), &["ops".to_owned()], None).await.expect("committed");
        catalog.commit_segments(change(5)).await.expect("committed");
        catalog.close().await.expect("closed");
    }
    let catalog = open(&path).await;
    assert_eq!(catalog.deploy(&deploy.id).await.expect("read"), Some(deploy.clone()));
    assert_eq!(catalog.verdict(&deploy.id).await.expect("read"), Some(verdict));
    assert_eq!(catalog.checkpoint().await.expect("read"), SequenceNumber(5));
    assert_eq!(catalog.segments().await.expect("read"), [sample_segment(5)]);
    assert_eq!(catalog.deliveries(None, 0).await.expect("read")[0].event_id, event.id);
}

#[tokio::test]
async fn a_copy_taken_while_it_is_written_is_some_committed_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    let catalog = open(&path).await;
    for number in 1..=20 {
        catalog.commit_segments(change(number)).await.expect("committed");
        // What a power loss leaves: the file and its write-ahead log, the last frames of which may be torn.
        let log = std::fs::read(directory.path().join("catalog.sqlite-wal")).expect("read");
        for cut in [0, 1, 2_000] {
            let copy = directory.path().join(format!("copy-{number}-{cut}.sqlite"));
            std::fs::copy(&path, &copy).expect("copied");
            let copied_log = directory.path().join(format!("copy-{number}-{cut}.sqlite-wal"));
            std::fs::write(copied_log, &log[..log.len() - cut]).expect("written");
            let found = open(&copy).await;
            let segments = found.segments().await.expect("read");
            let checkpoint = found.checkpoint().await.expect("read");
            assert_eq!(segments.len() as u64, checkpoint.0, "segments and checkpoint move together");
            assert!(
                checkpoint.0 == number || cut > 0 && checkpoint.0 + 1 == number,
                "{checkpoint} after {number}, cut {cut}"
            );
        }
    }
}

#[tokio::test]
async fn a_catalog_of_format_three_is_opened_and_keeps_evidence_from_then_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catalog.db");
    let deploy = sample_deploy(1);
    let verdict = sample_verdict(&deploy, Phase::Confirmed, 1);
    {
        let catalog = open(&path).await;
        catalog.insert_deploy(&deploy, None).await.expect("inserted");
        catalog.commit_verdict(&verdict, None, &[], None).await.expect("committed");
        catalog.close().await.expect("closed");
    }
    let before = "DROP INDEX events_by_deploy; DROP TABLE evidence; PRAGMA user_version = 3";
    sqlx::raw_sql(before).execute(&mut raw(&path).await).await.expect("set");
    let catalog = open(&path).await;
    assert_eq!(catalog.verdict(&deploy.id).await.expect("read"), Some(verdict.clone()));
    assert_eq!(catalog.evidence(&deploy.id).await.expect("read"), None);
    catalog.commit_verdict(&verdict, None, &[], Some(&[7])).await.expect("committed");
    assert_eq!(catalog.evidence(&deploy.id).await.expect("read"), Some(vec![7]));
}

#[tokio::test]
async fn events_of_a_deploy_are_found_by_an_index_also_in_a_catalog_of_format_four() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("catalog.db");
    open(&path).await.close().await.expect("closed");
    let before = "DROP INDEX events_by_deploy; PRAGMA user_version = 4";
    sqlx::raw_sql(before).execute(&mut raw(&path).await).await.expect("set");
    open(&path).await.close().await.expect("closed");
    let plan = "EXPLAIN QUERY PLAN SELECT body FROM events WHERE deploy_id = 'dep_a' AND queued_at >= 1";
    let steps: Vec<(i64, i64, i64, String)> =
        sqlx::query_as(plan).fetch_all(&mut raw(&path).await).await.expect("is explained");
    assert!(steps.iter().any(|(.., step)| step.contains("INDEX events_by_deploy")), "{steps:?}");
}

#[tokio::test]
async fn a_format_of_a_later_release_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    open(&path).await.close().await.expect("closed");
    let mut db = raw(&path).await;
    sqlx::raw_sql("PRAGMA user_version = 99").execute(&mut db).await.expect("set");
    db.close().await.expect("closed");
    let error = SqliteCatalog::open(&path).await.expect_err("too new");
    assert!(matches!(error, CatalogError::TooNew { found: 99, known: FORMAT, .. }), "{error}");
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut raw(&path).await).await.expect("read");
    assert_eq!(version, 99);
}

#[tokio::test]
async fn damage_is_an_error_that_names_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let garbage = directory.path().join("garbage.sqlite");
    std::fs::write(&garbage, vec![0xA5; 10_000]).expect("written");
    let error = SqliteCatalog::open(&garbage).await.expect_err("not a database");
    assert!(matches!(&error, CatalogError::Corrupt { path, .. } if path.ends_with("garbage.sqlite")), "{error}");

    let damaged = directory.path().join("damaged.sqlite");
    let catalog = open(&damaged).await;
    for number in 1..=500 {
        catalog.insert_deploy(&sample_deploy(number), None).await.expect("inserted");
    }
    catalog.close().await.expect("closed");
    let mut bytes = std::fs::read(&damaged).expect("read");
    assert!(bytes.len() > 60_000);
    for byte in &mut bytes[8_192..40_000] {
        *byte = !*byte;
    }
    std::fs::write(&damaged, bytes).expect("written");
    let error = SqliteCatalog::open(&damaged).await.expect_err("damaged");
    assert!(matches!(error, CatalogError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_database_of_another_program_is_not_written_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("theirs.sqlite");
    let mut db = raw(&path).await;
    sqlx::raw_sql("CREATE TABLE theirs (x)").execute(&mut db).await.expect("created");
    db.close().await.expect("closed");
    let error = SqliteCatalog::open(&path).await.expect_err("not ours");
    assert!(error.to_string().contains("another program"), "{error}");
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut raw(&path).await).await.expect("read");
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn unreadable_contents_are_corrupt_rather_than_a_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    let catalog = open(&path).await;
    let deploy = sample_deploy(1);
    catalog.insert_deploy(&deploy, None).await.expect("inserted");
    sqlx::raw_sql("UPDATE deploys SET body = '{\"id\":'").execute(&mut raw(&path).await).await.expect("updated");
    let error = catalog.deploy(&deploy.id).await.expect_err("not JSON");
    assert!(matches!(error, CatalogError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn a_file_held_by_another_connection_is_unavailable_and_works_afterwards() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    let catalog = SqliteCatalog::open_with(&path, IMPATIENT).await.expect("opens");
    let mut other = raw(&path).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("held");
    let error = catalog.commit_segments(change(1)).await.expect_err("locked");
    assert!(matches!(error, CatalogError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("another process holds it"), "{error}");
    assert_eq!(catalog.checkpoint().await.expect("readers do not wait for a writer"), SequenceNumber::ZERO);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.expect("released");
    catalog.commit_segments(change(1)).await.expect("committed after the other is gone");

    sqlx::raw_sql("BEGIN EXCLUSIVE").execute(&mut other).await.expect("held");
    let error = SqliteCatalog::open_with(&path, IMPATIENT).await.expect_err("locked");
    assert!(matches!(error, CatalogError::Unavailable { .. }), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, b"in the way").expect("written");
    let error = SqliteCatalog::open(file.join("catalog.sqlite")).await.expect_err("not a directory");
    assert!(matches!(error, CatalogError::Unavailable { .. }), "{error}");
}

/// A transaction whose future is dropped half way must neither commit nor hold the writer.
#[test]
fn callers_on_several_short_lived_runtimes_share_one_catalog() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let catalog = runtime().block_on(open(&directory.path().join("catalog.sqlite")));
    for number in 1..=10 {
        let runtime = runtime();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = std::future::ready(()) => {}
                done = catalog.commit_segments(change(number)) => done.expect("committed"),
            }
            catalog.commit_segments(change(number)).await.expect("committed");
        });
    }
    assert_eq!(runtime().block_on(catalog.checkpoint()).expect("read"), SequenceNumber(10));
}

#[tokio::test]
async fn a_transaction_that_sqlite_ended_by_itself_does_not_stop_those_after_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("catalog.sqlite");
    let catalog = open(&path).await;
    let mut other = raw(&path).await;
    // What a full disk does: the transaction is gone at once, and there is nothing left to roll back.
    let trigger = "CREATE TRIGGER gives_up BEFORE INSERT ON segments BEGIN SELECT RAISE(ROLLBACK, 'gives up'); END";
    sqlx::raw_sql(trigger).execute(&mut other).await.expect("made");
    for _ in 0..2 {
        let problem = catalog.commit_segments(change(1)).await.expect_err("gives up").to_string();
        assert!(problem.contains("gives up"), "{problem}");
    }
    sqlx::raw_sql("DROP TRIGGER gives_up").execute(&mut other).await.expect("dropped");
    catalog.commit_segments(change(1)).await.expect("there is room again");
    assert_eq!(catalog.checkpoint().await.expect("reads"), SequenceNumber(1));
    assert_eq!(catalog.segments().await.expect("reads").len(), 1);
}

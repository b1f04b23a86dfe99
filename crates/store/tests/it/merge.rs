//! Small segments become large ones behind the readers' backs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{MapBuilder, MapFieldNames, RecordBatch, StringBuilder, StringDictionaryBuilder, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::{Signal, Table};
use plimsoll_store::{Published, Store};

use crate::rows::{Multiset, count, frame};
use crate::world::{World, expected, expected_requests, publish};

const TELEMETRY: [Table; 3] = [Table::Spans, Table::Logs, Table::Metrics];

/// Seals frames `from..to`, three a segment and table.
async fn seal(store: &Store, from: u64, to: u64) {
    for first in (from..to).step_by(9) {
        publish(store, first, (first + 9).min(to));
        store.flush().await.expect("flushed");
    }
}

fn check(world: &World, store: &Store, to: u64, context: &str) {
    let snapshot = store.snapshot();
    for table in TELEMETRY {
        assert_eq!(world.rows(&snapshot, table), expected(table, to), "{context}: {}", table.name());
    }
    assert_eq!(world.requests(&snapshot), expected_requests(to), "{context}");
}

fn segments(store: &Store) -> usize {
    Table::ALL.iter().map(|table| store.snapshot().segments(*table).len()).sum()
}

#[tokio::test]
async fn small_segments_become_few_with_the_same_rows() {
    let world = World::new();
    let store = world.open().await;
    let before = store.snapshot();
    seal(&store, 1, 91).await;
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    assert!(segments(&store) < 4 * 8, "{} segments", segments(&store));
    assert!(store.status().merged_segments >= 4 * 8);
    check(&world, &store, 91, "merged");
    assert_eq!(store.checkpoint(), SequenceNumber(90), "merging moves no checkpoint");
    assert!(TELEMETRY.iter().all(|table| before.segments(*table).is_empty()));
    drop(before);
    store.maintain().await.expect("maintained");
    store.close().await.expect("closed");
    drop(store);
    let store = world.open().await;
    assert_eq!((store.status().orphan_files, store.status().missing_segments), (0, 0));
    check(&world, &store, 91, "reopened");
}

#[tokio::test]
async fn a_merge_that_fails_or_is_cut_short_at_any_step_changes_nothing() {
    let mut merged = 0;
    for steps in 0..14 {
        let mut world = World::new();
        // While the disk counts as full nothing is merged.
        world.options.disk_reserve_bytes = 1;
        world.files.free.store(0, Ordering::SeqCst);
        let store = world.open().await;
        store.maintain().await.expect("maintained");
        seal(&store, 1, 82).await;
        publish(&store, 82, 85);
        store.folded().await;
        world.files.fail_after(steps);
        world.files.free.store(u64::MAX, Ordering::SeqCst);
        store.maintain().await.expect("maintained");
        store.maintain().await.expect("maintained");
        let context = format!("failed after {steps} steps");
        check(&world, &store, 85, &context);
        merged += usize::from(store.status().merged_segments > 0);
        drop(store);
        world.files.behave();
        let store = world.open().await;
        publish(&store, store.checkpoint().0 + 1, 85);
        store.folded().await;
        check(&world, &store, 85, &format!("{context}, reopened"));
    }
    assert!(merged > 0 && merged < 14, "every step of a merge was met, and then some");
}

#[tokio::test]
async fn a_new_catalog_takes_in_merged_segments_once() {
    let mut world = World::new();
    let store = world.open().await;
    seal(&store, 1, 91).await;
    // A reader keeps the files of the merged segments until the end.
    let reader = store.snapshot();
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    assert!(store.status().merged_segments > 0);
    store.close().await.expect("closed");
    drop((store, reader));
    // Another file: the connections to the old one may close a little later, and take its companions with them.
    world.forgotten += 1;
    let store = world.open().await;
    check(&world, &store, 91, "adopted");
    assert_eq!(store.checkpoint(), SequenceNumber(90));
    assert!(store.status().orphan_files > 0, "what was merged is removed");
}

/// Writes a segment of `metrics` anew as builds before wrote it: what points of a metric share is text, and the file has no checksums.
fn age(file: &std::path::Path) {
    let before = std::fs::read(file).map(bytes::Bytes::from).expect("read");
    let reader = ParquetRecordBatchReaderBuilder::try_new(before).expect("a Parquet file");
    let facts = reader.metadata().file_metadata().key_value_metadata().cloned().expect("facts");
    let kept =
        facts.into_iter().filter(|fact| fact.key.starts_with("plimsoll.") && fact.key != "plimsoll.sums").collect();
    let text = |field: &Arc<Field>| match field.name().as_str() {
        "metric_name" | "metric_description" | "unit" | "metric_type" => {
            field.as_ref().clone().with_data_type(DataType::Utf8)
        }
        _ => field.as_ref().clone(),
    };
    let schema = Arc::new(Schema::new(reader.schema().fields().iter().map(text).collect::<Vec<_>>()));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(kept)).build();
    let mut aged = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut aged, Arc::clone(&schema), Some(properties)).expect("a writer");
    for batch in reader.build().expect("readable") {
        let batch = batch.expect("readable");
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()).expect("is text"));
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("columns fit");
        writer.write(&batch).expect("memory takes it");
    }
    writer.close().expect("a footer");
    std::fs::write(file, aged).expect("written");
}

#[tokio::test]
async fn segments_in_which_metrics_are_text_are_merged_with_those_in_which_they_are_numbered() {
    let mut world = World::new();
    let store = world.open().await;
    // While the disk counts as full nothing is merged.
    world.files.free.store(0, Ordering::SeqCst);
    seal(&store, 1, 91).await;
    let metrics = store.snapshot().segments(Table::Metrics).to_vec();
    assert!(metrics.len() > 8, "{} segments", metrics.len());
    store.close().await.expect("closed");
    drop(store);
    metrics.iter().step_by(2).for_each(|record| age(&world.root().join(&record.path)));
    // Another catalog takes the files as they are.
    world.forgotten += 1;
    let store = world.open().await;
    check(&world, &store, 91, "adopted");
    world.files.free.store(u64::MAX, Ordering::SeqCst);
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    let merged = store.snapshot().segments(Table::Metrics).to_vec();
    assert!(merged.len() < metrics.len(), "{} of {}", merged.len(), metrics.len());
    check(&world, &store, 91, "merged");
    for record in merged {
        for batch in world.segment(&record.path) {
            assert_eq!(batch.schema().fields(), Table::Metrics.schema().fields(), "{}", record.path);
        }
    }
}

#[tokio::test]
async fn a_damaged_segment_is_left_alone_and_the_rest_goes_on() {
    let world = World::new();
    let store = world.open().await;
    seal(&store, 1, 46).await;
    let damaged = store.snapshot().segments(Table::Logs)[2].clone();
    let file = world.root().join(&damaged.path);
    let mut bytes = std::fs::read(&file).expect("read");
    let middle = bytes.len() - 20;
    bytes[middle..].fill(0xFF);
    std::fs::write(&file, &bytes).expect("written");
    seal(&store, 46, 91).await;
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    let left = store.snapshot().segments(Table::Logs);
    assert!(left.iter().any(|record| record.id == damaged.id), "it stays, for whoever wants to repair it");
    assert!(left.len() < 10, "its neighbours were merged");
}

#[tokio::test]
async fn a_merge_that_panics_is_counted_and_the_next_ones_go_on() {
    let world = World::new();
    let store = world.open().await;
    world.files.mad.store(true, Ordering::SeqCst);
    seal(&store, 1, 73).await;
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    let failures = store.status().merge_failures;
    assert!(failures > 0);
    assert!(store.ended_threads().is_empty());
    assert_eq!(store.status().merged_segments, 0);
    check(&world, &store, 73, "left as they are");
    world.files.mad.store(false, Ordering::SeqCst);
    seal(&store, 73, 163).await;
    for _ in 0..8 {
        store.maintain().await.expect("maintained");
    }
    assert_eq!(store.status().merge_failures, failures, "the same segments are not tried again");
    assert!(store.status().merged_segments > 0);
    check(&world, &store, 163, "merged");
}

#[tokio::test]
async fn row_groups_of_a_merge_have_as_many_rows_as_the_encoder_has_room_for() {
    let mut world = World::new();
    world.options.encoder_bytes = 256 << 10;
    let store = world.open().await;
    let mut rows = Multiset::new();
    for sequence in 1..=8 {
        let published = frame(sequence, Signal::Logs, 2_000);
        count(&mut rows, &published.batch);
        store.publish(vec![published]);
        store.flush().await.expect("flushed");
    }
    for _ in 0..4 {
        store.maintain().await.expect("maintained");
    }
    let merged = store.snapshot().segments(Table::Logs);
    assert_eq!(merged.len(), 1, "merged into one");
    let file = std::fs::File::open(world.root().join(&merged[0].path)).expect("opened");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let groups = reader.metadata().row_groups();
    assert!(groups.len() > 1, "{} row groups", groups.len());
    for group in groups {
        let most = group.columns().iter().map(|chunk| chunk.uncompressed_size()).max().unwrap_or(0);
        assert!(most < 256 << 10, "a column of {most} bytes");
    }
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), rows);
}

/// `rows` log records, each with ten keys that no other has and one that all have.
fn with_keys_of_their_own(sequence: u64, rows: usize) -> Published {
    let published = frame(sequence, Signal::Logs, rows);
    let schema = published.batch.schema();
    let names = MapFieldNames { entry: "entries".into(), key: "key".into(), value: "value".into() };
    let mut map = MapBuilder::new(Some(names), StringDictionaryBuilder::<UInt32Type>::new(), StringBuilder::new())
        .with_keys_field(Field::new_dictionary("key", DataType::UInt32, DataType::Utf8, false))
        .with_values_field(Field::new("value", DataType::Utf8, true));
    for row in 0..rows {
        for key in 0..10 {
            map.keys().append_value(format!("request.{sequence}.{row}.{key}"));
            map.values().append_value("once");
        }
        map.keys().append_value("tenant");
        map.values().append_value(format!("t{}", row % 5));
        map.append(true).expect("keys and values are even");
    }
    let mut columns = published.batch.columns().to_vec();
    columns[schema.index_of("attributes").expect("a column")] = Arc::new(map.finish());
    columns[schema.index_of("attribute_types").expect("a column")] = new_null_array(&DataType::Utf8, rows);
    Published { batch: RecordBatch::try_new(schema, columns).expect("columns fit"), ..published }
}

#[tokio::test]
async fn hundreds_of_thousands_of_distinct_keys_make_no_columns_and_the_one_that_all_have_does() {
    let world = World::new();
    let store = world.open().await;
    let mut rows = Multiset::new();
    for sequence in 1..=8 {
        let published = with_keys_of_their_own(sequence, 3_000);
        count(&mut rows, &published.batch);
        store.publish(vec![published]);
        store.flush().await.expect("flushed");
    }
    while store.snapshot().segments(Table::Logs).len() > 1 {
        store.maintain().await.expect("maintained");
    }
    let merged = store.snapshot().segments(Table::Logs)[0].clone();
    let file = std::fs::File::open(world.root().join(&merged.path)).expect("it is there");
    let schema = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").schema().clone();
    let columns: Vec<&str> =
        schema.fields().iter().filter_map(|field| field.name().strip_prefix("attributes.")).collect();
    assert_eq!(columns, ["tenant"]);
    assert_eq!(world.rows(&store.snapshot(), Table::Logs), rows);
}

#[tokio::test]
async fn what_queries_ask_for_gets_a_column_however_rare_it_is() {
    let world = World::new();
    let store = world.open().await;
    store.snapshot().want_attribute(Table::Logs, "request.3.1.4");
    for sequence in 1..=8 {
        store.publish(vec![with_keys_of_their_own(sequence, 20)]);
        store.flush().await.expect("flushed");
    }
    while store.snapshot().segments(Table::Logs).len() > 1 {
        store.maintain().await.expect("maintained");
    }
    let merged = store.snapshot().segments(Table::Logs)[0].clone();
    let file = std::fs::File::open(world.root().join(&merged.path)).expect("it is there");
    let schema = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file").schema().clone();
    assert!(schema.index_of("attributes.request.3.1.4").is_ok(), "{schema}");
    assert_eq!(world.segment(&merged.path).iter().map(RecordBatch::num_rows).sum::<usize>(), 160);
}

//! What a segment file looks like, and that it gives back what went in.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plimsoll_model::UnixNanos;
use plimsoll_otlp::Table;
use plimsoll_store::encode_segment;

use crate::rows::{batch, multiset, texts};

fn encode(table: Table, batches: &[RecordBatch]) -> Bytes {
    let mut file = Vec::new();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    encode_segment(table, &batches, UnixNanos(7), &[], &mut file).expect("encodes");
    Bytes::from(file)
}

fn decode(file: &Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a Parquet file");
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().expect("readable").map(|b| b.expect("readable")).collect();
    concat_batches(&schema, &batches).expect("one schema")
}

#[test]
fn every_table_comes_back_with_its_types_and_its_rows() {
    for table in Table::ALL {
        for seed in 0..8 {
            let batches: Vec<RecordBatch> = (0..5).map(|n| batch(table, 50 + n, seed * 10 + n as u64)).collect();
            let read = decode(&encode(table, &batches));
            assert_eq!(read.schema().fields(), table.schema().fields(), "{}", table.name());
            assert_eq!(multiset([&read]), multiset(&batches), "{} seed {seed}", table.name());
        }
    }
}

#[test]
fn rows_are_in_the_order_that_the_footer_declares() {
    for table in Table::ALL {
        let batches: Vec<RecordBatch> = (0..20).map(|seed| batch(table, 30, seed)).collect();
        let file = encode(table, &batches);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a Parquet file");
        let group = reader.metadata().row_group(0);
        let declared: Vec<String> = group
            .sorting_columns()
            .expect("the order is declared")
            .iter()
            .map(|column| group.column(column.column_idx as usize).column_path().string())
            .collect();
        assert_eq!(declared[0], "service_name");
        assert_eq!(declared.last().map(String::as_str), Some(table.time_column()));
        let read = decode(&file);
        // Text is shown with its length in front, which is no part of its order.
        let plain = |text: String| text.split_once(':').map_or(text.clone(), |(_, rest)| rest.to_owned());
        let column = |name: &String| texts(&read, name).into_iter().map(plain).collect();
        let columns: Vec<Vec<String>> = declared.iter().map(column).collect();
        let keys: Vec<Vec<&String>> =
            (0..read.num_rows()).map(|row| columns.iter().map(|c| &c[row]).collect()).collect();
        assert!(keys.is_sorted(), "{}", table.name());
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let batches: Vec<RecordBatch> = (0..4).map(|seed| batch(Table::Spans, 100, seed)).collect();
    assert_eq!(encode(Table::Spans, &batches), encode(Table::Spans, &batches));
}

#[test]
fn trace_ids_have_a_bloom_filter_and_times_have_page_bounds() {
    for table in [Table::Spans, Table::Logs] {
        let file = encode(table, &[batch(table, 500, 1)]);
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
        let group = reader.metadata().row_group(0);
        let column = |name: &str| {
            group.columns().iter().find(|c| c.column_path().string() == name).expect("the column is there")
        };
        assert!(column("trace_id").bloom_filter_offset().is_some(), "{}", table.name());
        assert!(column(table.time_column()).column_index_offset().is_some(), "{}", table.name());
        assert!(column(table.time_column()).statistics().is_some(), "{}", table.name());
        assert!(column("service_name").offset_index_offset().is_some(), "{}", table.name());
    }
}

#[test]
fn rows_of_another_table_and_no_rows_at_all_are_refused() {
    let logs = batch(Table::Logs, 3, 1);
    assert!(encode_segment(Table::Spans, &[&logs], UnixNanos(7), &[], Vec::new()).is_err());
    assert!(encode_segment(Table::Spans, &[], UnixNanos(7), &[], Vec::new()).is_err());
    assert!(encode_segment(Table::Logs, &[&logs.slice(0, 0)], UnixNanos(7), &[], Vec::new()).is_err());
}

#[test]
fn more_rows_than_a_row_group_holds_go_into_several() {
    let batches: Vec<RecordBatch> = (0..7).map(|seed| batch(Table::Operations, 20_000, seed)).collect();
    let file = encode(Table::Operations, &batches);
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).expect("a Parquet file");
    let sizes: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(sizes, [131_072, 140_000 - 131_072]);
    assert_eq!(decode(&file).num_rows(), 140_000);
}

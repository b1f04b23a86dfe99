//! Rows and bytes that an encoder might get wrong: slices, what nulls hide, numbers that are none, values that are many or long, and
//! pages that are damaged.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, PrimitiveArray, RecordBatch, StringArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, Float64Type};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Encoding, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use plimsoll_model::UnixNanos;
use plimsoll_otlp::Table;
use plimsoll_store::encode_segment;

use crate::rows::{batch, multiset};

fn encode(table: Table, batches: &[RecordBatch]) -> Bytes {
    let mut file = Vec::new();
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    encode_segment(table, &batches, UnixNanos(7), &[], &mut file).expect("encodes");
    Bytes::from(file)
}

fn read(file: &Bytes) -> Result<RecordBatch, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone())?;
    let schema = builder.schema().clone();
    let batches = builder.build()?.collect::<Result<Vec<RecordBatch>, _>>()?;
    Ok(concat_batches(&schema, &batches)?)
}

fn metadata(file: &Bytes) -> Arc<ParquetMetaData> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).expect("a Parquet file");
    Arc::clone(builder.metadata())
}

fn check(table: Table, batches: &[RecordBatch], context: &str) -> Bytes {
    let file = encode(table, batches);
    let found = read(&file).expect("readable");
    assert_eq!(multiset([&found]), multiset(batches), "{}: {context}", table.name());
    file
}

/// The batch with some columns made anew.
fn with(batch: &RecordBatch, make: impl Fn(&str, &ArrayRef) -> Option<ArrayRef>) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, array)| make(field.name(), array).unwrap_or_else(|| Arc::clone(array)));
    RecordBatch::try_new(Arc::clone(&schema), columns.collect()).expect("the columns fit")
}

#[test]
fn slices_are_written_as_what_they_show() {
    for table in Table::ALL {
        let whole: Vec<RecordBatch> = (0..4).map(|seed| batch(table, 60, seed)).collect();
        let slices: Vec<RecordBatch> = whole
            .iter()
            .zip([(0, 1), (7, 30), (59, 1), (20, 40)])
            .map(|(b, (from, rows))| b.slice(from, rows))
            .collect();
        check(table, &slices, "slices");
        // Of one batch, so that two parts share their dictionaries and their lists' items.
        check(table, &[whole[0].slice(30, 30), whole[0].slice(0, 20)], "slices of one batch");
    }
}

#[test]
fn what_a_null_hides_is_not_written() {
    /// Nulls in every third row, one after the other below and above all that is shown.
    fn nulls(rows: usize) -> NullBuffer {
        NullBuffer::from_iter((0..rows).map(|row| row % 3 != 0))
    }
    fn text(row: usize) -> String {
        match row % 6 {
            0 => format!("! hidden: {row}"),
            3 => format!("~ hidden: {row}"),
            _ => format!("shown: {row}"),
        }
    }
    fn number(row: usize) -> f64 {
        match row % 6 {
            0 => -1e300,
            3 => 1e300,
            _ => row as f64,
        }
    }
    let (mut texts, mut numbers) = (0, 0);
    for table in Table::ALL {
        let rows = batch(table, 90, 3);
        let schema = rows.schema();
        let hiding = with(&rows, |name, array| {
            if !schema.field_with_name(name).expect("a column").is_nullable() {
                return None;
            }
            Some(match array.data_type() {
                DataType::Utf8 => {
                    let (offsets, values, _) = StringArray::from_iter_values((0..90).map(text)).into_parts();
                    Arc::new(StringArray::new(offsets, values, Some(nulls(90))))
                }
                DataType::Float64 => {
                    let values = (0..90).map(number).collect::<ScalarBuffer<f64>>();
                    Arc::new(Float64Array::new(values, Some(nulls(90))))
                }
                DataType::List(item) => {
                    // Two items a row, of those that there are.
                    let items = array.as_list::<i32>().values();
                    let places = UInt32Array::from_iter_values((0..180).map(|at| at % items.len() as u32));
                    let items = take(items, &places, None).expect("within");
                    let offsets = OffsetBuffer::from_lengths(vec![2; 90]);
                    Arc::new(ListArray::new(Arc::clone(item), offsets, items, Some(nulls(90))))
                }
                _ => return None,
            })
        });
        let file = check(table, &[hiding.clone(), batch(table, 10, 4)], "hidden");
        for (leaf, chunk) in metadata(&file).row_group(0).columns().iter().enumerate() {
            let Some(statistics) = chunk.statistics() else { continue };
            let (Some(least), Some(most)) = (statistics.min_bytes_opt(), statistics.max_bytes_opt()) else { continue };
            let context = format!("leaf {leaf} of {}", table.name());
            match chunk.column_type() {
                Type::BYTE_ARRAY => {
                    assert!(!least.starts_with(b"! hidden") && !most.starts_with(b"~ hidden"), "{context}");
                    texts += u32::from(least.starts_with(b"shown"));
                }
                Type::DOUBLE => {
                    let bound = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
                    assert!(bound(least) > -1e300 && bound(most) < 1e300, "{context}");
                    numbers += 1;
                }
                _ => {}
            }
        }
    }
    assert!(texts > 0 && numbers > 0, "bounds of {texts} leaves of text, {numbers} of numbers");
}

#[test]
fn floats_that_are_no_numbers_come_back_and_bounds_do_without_them() {
    let column = "value";
    let of = |values: &[f64]| {
        let rows = batch(Table::Metrics, values.len(), 9);
        with(&rows, |name, _| (name == column).then(|| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef))
    };
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    for values in [
        vec![nan; 40],
        vec![1.0, nan, -3.5, nan],
        vec![0.0, -0.0, nan, 0.0],
        vec![infinity, -infinity, nan, 1e-300],
        (0..30_000).map(|at| if at < 20_000 { nan } else { f64::from(at) }).collect(),
    ] {
        let file = check(Table::Metrics, &[of(&values)], "NaN");
        let found = read(&file).expect("readable");
        let bits = |array: &PrimitiveArray<Float64Type>| {
            let mut bits: Vec<u64> = array.values().iter().map(|value| value.to_bits()).collect();
            bits.sort_unstable();
            bits
        };
        let found = found.column_by_name(column).expect("a column").as_primitive::<Float64Type>().clone();
        assert_eq!(bits(&found), bits(&Float64Array::from(values.clone())), "to the bit");
        let metadata = metadata(&file);
        let group = metadata.row_group(0);
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column).expect("a column");
        let bound = |bytes: Option<&[u8]>| bytes.map(|b| f64::from_le_bytes(b.try_into().expect("eight bytes")));
        let statistics = chunk.statistics();
        let (least, greatest) = (
            bound(statistics.and_then(|statistics| statistics.min_bytes_opt())),
            bound(statistics.and_then(|statistics| statistics.max_bytes_opt())),
        );
        for value in values.iter().filter(|value| !value.is_nan()) {
            assert!(least.is_none_or(|least| least <= *value) && greatest.is_none_or(|greatest| *value <= greatest));
        }
        assert!(least.is_none_or(|least| !least.is_nan()) && greatest.is_none_or(|greatest| !greatest.is_nan()));
    }
}

#[test]
fn thousands_of_distinct_texts_come_back_whether_they_repeat_or_not() {
    for (rows, distinct) in
        [(4_095, 4_095), (4_096, 4_096), (9_000, 9_000), (20_000, 4_096), (20_000, 5_000), (20_000, 1)]
    {
        let of = |seed: u64| {
            let rows = batch(Table::Logs, rows / 2, seed);
            let count = rows.num_rows();
            with(&rows, |name, array| match (name, array.data_type()) {
                // The long ones differ in the middle only.
                ("severity_text", _) => Some(Arc::new(StringArray::from_iter_values((0..count).map(|row| {
                    let number = (row + seed as usize * count) % distinct;
                    format!("a text of some length, number {number:08}, that ends as all others do")
                })))),
                ("body", DataType::Utf8) => {
                    let number = |row: usize| (row * 7 + seed as usize * count) % distinct;
                    Some(Arc::new(StringArray::from_iter_values((0..count).map(|row| format!("b{}", number(row))))))
                }
                _ => None,
            })
        };
        let file = check(Table::Logs, &[of(0), of(1)], &format!("{distinct} of {rows}"));
        // What is short is not looked at for long; else a quarter has to repeat.
        let repeats = rows < 4_096 || distinct * 4 <= rows * 3;
        let metadata = metadata(&file);
        for column in ["severity_text", "body"] {
            let mut chunks = metadata.row_group(0).columns().iter();
            let chunk = chunks.find(|chunk| chunk.column_path().string() == column).expect("a column");
            let by_number = chunk.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY);
            assert_eq!(
                (chunk.dictionary_page_offset().is_some(), by_number),
                (repeats, repeats),
                "`{column}`, {distinct} of {rows}"
            );
        }
    }
}

#[test]
fn columns_that_are_there_in_the_same_rows_come_back_in_every_row_group() {
    const ROWS: usize = 70_000;
    let there = NullBuffer::from_iter((0..ROWS).map(|row| row % 5 < 2 || row % 7 == 0));
    let of = |seed: u64| {
        let rows = batch(Table::Logs, ROWS, seed);
        with(&rows, |name, _| {
            let text = |row: usize| format!("{name} {}", (row + seed as usize) % 300);
            let text = || StringArray::from_iter_values((0..ROWS).map(text)).into_parts();
            matches!(name, "severity_text" | "body" | "body_type" | "event_name" | "attribute_types").then(|| {
                let (offsets, values, _) = text();
                // One of them is there in other rows.
                let nulls = if name == "body_type" {
                    NullBuffer::from_iter((0..ROWS).map(|row| row % 3 > 0))
                } else {
                    there.clone()
                };
                Arc::new(StringArray::new(offsets, values, Some(nulls))) as ArrayRef
            })
        })
    };
    let file = check(Table::Logs, &[of(0), of(1)], "the same nulls in two row groups");
    assert_eq!(metadata(&file).num_row_groups(), 2);
}

#[test]
fn pages_of_long_values_hold_about_a_mebibyte() {
    let rows = batch(Table::Logs, 1_500, 5);
    // Half of them differ; the others are one.
    let long = |row: usize| format!("{row:08} ").repeat(if row.is_multiple_of(2) { 2_300 } else { 0 });
    let wide = with(&rows, |name, _| {
        (name == "body").then(|| Arc::new(StringArray::from_iter_values((0..1_500).map(long))) as ArrayRef)
    });
    let file = check(Table::Logs, &[wide], "long bodies");
    let metadata = metadata(&file);
    let group = metadata.row_group(0);
    let body = group.columns().iter().position(|chunk| chunk.column_path().string() == "body").expect("a column");
    let index = metadata.offset_index().expect("an index");
    let pages = index[0][body].page_locations().len() as i64;
    let bytes = group.column(body).uncompressed_size();
    assert!(bytes > 15_000_000 && bytes / pages < 1_100_000, "{bytes} bytes in {pages} pages");
}

#[test]
fn a_damaged_page_is_told_and_never_answered_wrongly() {
    for table in [Table::Spans, Table::Metrics] {
        let batches: Vec<RecordBatch> = (0..3).map(|seed| batch(table, 200, seed)).collect();
        let file = encode(table, &batches);
        let expected = multiset(&batches);
        let metadata = metadata(&file);
        let (mut told, mut same) = (0, 0);
        for chunk in metadata.row_group(0).columns() {
            let (from, bytes) = chunk.byte_range();
            // A byte near the end of the chunk and one in its middle: of pages, not of headers.
            for at in [from + bytes - 2, from + bytes - 5, from + bytes / 2] {
                let mut damaged = file.to_vec();
                damaged[at as usize] ^= 0x10;
                match std::panic::catch_unwind(|| read(&Bytes::from(damaged))) {
                    Ok(Ok(found)) => {
                        assert_eq!(multiset([&found]), expected, "byte {at} of `{}`", chunk.column_path());
                        same += 1;
                    }
                    Ok(Err(_)) => told += 1,
                    // The library trusts what a header says of its page.
                    Err(_) => told += 1,
                }
            }
        }
        assert!(told > same * 8, "{told} told, {same} without effect");
    }
}

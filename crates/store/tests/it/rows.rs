//! Rows of the stored tables made of a seed, and rows as text, to compare what went in with what came out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, ListArray, MapArray,
    PrimitiveArray, RecordBatch, StringArray, StructArray, UInt32Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float64Type, Int16Type, Int32Type, Int64Type, TimestampNanosecondType, UInt8Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::{Signal, Table};
use plimsoll_store::Published;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rows as text, with how often each occurs.
pub(crate) type Multiset = BTreeMap<String, usize>;

pub(crate) const BASE: i64 = 1_700_000_000_000_000_000;

/// Makes rows of a table; the same seed makes the same rows.
pub(crate) fn batch(table: Table, rows: usize, seed: u64) -> RecordBatch {
    let mut rng = StdRng::seed_from_u64(seed);
    let resources = rng.random_range(1..4_usize);
    let keys = UInt32Array::from_iter_values((0..rows).map(|_| rng.random_range(0..resources) as u32));
    let columns = table.schema().fields().iter().map(|field| match (field.name().as_str(), field.data_type()) {
        // Columns of the resource share their keys, as those that were decoded do.
        ("service_name", DataType::Dictionary(..)) => {
            let values =
                StringArray::from_iter_values((0..resources).map(|n| format!("service-{}", (seed + n as u64) % 5)));
            Arc::new(DictionaryArray::<UInt32Type>::new(keys.clone(), Arc::new(values))) as ArrayRef
        }
        (_, DataType::Dictionary(_, value)) => {
            let values = array(&mut rng, value, resources, false);
            let valid: Vec<bool> = (0..rows).map(|_| !field.is_nullable() || rng.random_bool(0.7)).collect();
            let nulls = field.is_nullable().then(|| NullBuffer::from(valid));
            let keys = UInt32Array::new(keys.values().clone(), nulls);
            Arc::new(DictionaryArray::<UInt32Type>::new(keys, values)) as ArrayRef
        }
        (_, data_type) => array(&mut rng, data_type, rows, field.is_nullable()),
    });
    RecordBatch::try_new(Arc::clone(table.schema()), columns.collect()).expect("the columns fit the schema")
}

/// Makes the rows of one frame.
pub(crate) fn frame(sequence: u64, signal: Signal, rows: usize) -> Published {
    let number = SequenceNumber(sequence);
    Published { sequence: number, last: number, signal, batch: batch(signal.table(), rows, sequence) }
}

/// The signal of a frame, so that a sequence number alone says what is in it.
pub(crate) fn signal_of(sequence: u64) -> Signal {
    Signal::ALL[(sequence % 3) as usize]
}

/// Makes a frame whose rows depend on its number only.
pub(crate) fn nth(sequence: u64) -> Published {
    frame(sequence, signal_of(sequence), 1 + (sequence as usize * 7) % 12)
}

fn primitive<T: ArrowPrimitiveType>(
    rows: usize,
    nullable: bool,
    rng: &mut StdRng,
    make: impl Fn(&mut StdRng) -> T::Native,
) -> ArrayRef {
    let value = |_| (!nullable || rng.random_bool(0.7)).then(|| make(rng));
    Arc::new((0..rows).map(value).collect::<PrimitiveArray<T>>())
}

fn array(rng: &mut StdRng, data_type: &DataType, rows: usize, nullable: bool) -> ArrayRef {
    let some = |rng: &mut StdRng| !nullable || rng.random_bool(0.7);
    let text = |rng: &mut StdRng| format!("v{}é", rng.random_range(0..50));
    match data_type {
        DataType::Timestamp(..) => {
            let made = (0..rows).map(|_| BASE + rng.random_range(0..3_600_000_000_000_i64));
            Arc::new(PrimitiveArray::<TimestampNanosecondType>::from_iter_values(made).with_timezone("UTC"))
        }
        DataType::UInt8 => primitive::<UInt8Type>(rows, nullable, rng, |r| r.random()),
        DataType::UInt32 => primitive::<UInt32Type>(rows, nullable, rng, |r| r.random()),
        DataType::UInt64 => primitive::<UInt64Type>(rows, nullable, rng, |r| r.random()),
        DataType::Int16 => primitive::<Int16Type>(rows, nullable, rng, |r| r.random()),
        DataType::Int32 => primitive::<Int32Type>(rows, nullable, rng, |r| r.random()),
        DataType::Int64 => primitive::<Int64Type>(rows, nullable, rng, |r| r.random()),
        DataType::Float64 => primitive::<Float64Type>(rows, nullable, rng, |r| r.random_range(-1e9..1e9)),
        DataType::Boolean => Arc::new((0..rows).map(|_| some(rng).then(|| rng.random())).collect::<BooleanArray>()),
        DataType::Utf8 => Arc::new((0..rows).map(|_| some(rng).then(|| text(rng))).collect::<StringArray>()),
        DataType::Binary => {
            Arc::new((0..rows).map(|_| some(rng).then(|| text(rng).into_bytes())).collect::<BinaryArray>())
        }
        DataType::FixedSizeBinary(width) => {
            let value = |_| some(rng).then(|| (0..*width).map(|_| rng.random()).collect::<Vec<u8>>());
            let values: Vec<_> = (0..rows).map(value).collect();
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), *width)
                    .expect("of that width"),
            )
        }
        DataType::Dictionary(_, value) => {
            let values = array(rng, value, 5, false);
            let keys = UInt32Array::from_iter_values((0..rows).map(|_| rng.random_range(0..5)));
            Arc::new(DictionaryArray::<UInt32Type>::new(keys, values))
        }
        DataType::List(item) => {
            let (offsets, nulls) = lengths(rng, rows, nullable);
            let items = array(rng, item.data_type(), *offsets.last().expect("an offset") as usize, item.is_nullable());
            Arc::new(ListArray::new(Arc::clone(item), offsets, items, nulls))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| array(rng, field.data_type(), rows, field.is_nullable())).collect();
            Arc::new(StructArray::try_new_with_length(fields.clone(), columns, None, rows).expect("fields fit"))
        }
        DataType::Map(entries, sorted) => {
            let (offsets, nulls) = lengths(rng, rows, nullable);
            let all = array(rng, entries.data_type(), *offsets.last().expect("an offset") as usize, false);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, all.as_struct().clone(), nulls, *sorted))
        }
        other => panic!("no rows of type {other} are made yet"),
    }
}

fn lengths(rng: &mut StdRng, rows: usize, nullable: bool) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
    let valid: Vec<bool> = (0..rows).map(|_| !nullable || rng.random_bool(0.7)).collect();
    let offsets = OffsetBuffer::from_lengths(valid.iter().map(|v| if *v { rng.random_range(0..4) } else { 0 }));
    (offsets, nullable.then(|| NullBuffer::from(valid)))
}

/// Writes one value, however deep, so that equal values give equal text and others do not.
fn show(array: &dyn Array, at: usize, text: &mut String) {
    if array.is_null(at) {
        text.push('∅');
        return;
    }
    let nested = |items: &dyn Array, text: &mut String| {
        text.push('[');
        for item in 0..items.len() {
            show(items, item, text);
            text.push(',');
        }
        text.push(']');
    };
    match array.data_type() {
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            show(dictionary.values(), dictionary.normalized_keys()[at], text);
        }
        DataType::List(_) => nested(&array.as_list::<i32>().value(at), text),
        DataType::Map(..) => nested(&array.as_map().value(at), text),
        DataType::Struct(_) => {
            for column in array.as_struct().columns() {
                show(column, at, text);
                text.push(';');
            }
        }
        // Arrow shows no zoned time without a table of zones.
        DataType::Timestamp(..) => {
            text.push_str(&array.as_primitive::<TimestampNanosecondType>().value(at).to_string())
        }
        _ => {
            let shown = array_value_to_string(array, at).expect("can be shown");
            text.push_str(&format!("{}:{shown}", shown.len()));
        }
    }
}

/// Adds the rows of a batch, each as the text of all its columns.
pub(crate) fn count(into: &mut Multiset, batch: &RecordBatch) {
    let columns: Vec<Vec<String>> = batch.schema().fields().iter().map(|field| texts(batch, field.name())).collect();
    for row in 0..batch.num_rows() {
        let text: Vec<&str> = columns.iter().map(|column| column[row].as_str()).collect();
        *into.entry(text.join("|")).or_default() += 1;
    }
}

/// Says how many rows a multiset holds.
pub(crate) fn total(rows: &Multiset) -> usize {
    rows.values().sum()
}

/// The rows of many batches.
pub(crate) fn multiset<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Multiset {
    let mut rows = Multiset::new();
    batches.into_iter().for_each(|batch| count(&mut rows, batch));
    rows
}

/// The text of a column, whatever it is.
pub(crate) fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    // Dictionaries are opened once a column rather than once a row.
    let array = batch.column_by_name(column).expect("a column");
    let array = match array.as_any_dictionary_opt() {
        Some(dictionary) => take(dictionary.values(), dictionary.keys(), None).expect("keys fit values"),
        None => Arc::clone(array),
    };
    let text = |row| {
        let mut text = String::new();
        show(&array, row, &mut text);
        text
    };
    (0..batch.num_rows()).map(text).collect()
}

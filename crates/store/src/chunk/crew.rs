//! Encoders that work side by side: each takes the next column, and all are appended in their order.
//!
//! *Invariant.* The file is the same, byte for byte, however many encoders there are.
//!
//! *Cost.* A thread for each encoder but one, for as long as a row group takes, and what comes of a column, as compressed, until those
//! before it are appended. Nothing where there is one.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use bytes::Bytes;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::writer::SerializedRowGroupWriter;
use parquet::schema::types::{ColumnDescPtr, SchemaDescriptor};

use super::{Effort, Encoder, Finished, Places, Slots, Use};

/// Fewer rows are encoded before another thread has begun.
const ROWS_MIN: usize = 4_096;

/// See the module.
pub(crate) struct Crew {
    encoder: Encoder,
    others: Vec<Encoder>,
}

/// A column of all rows.
pub(crate) struct Column<'a> {
    pub(crate) field: &'a Field,
    /// They lie end to end.
    pub(crate) arrays: Vec<ArrayRef>,
    pub(crate) how: Use,
}

/// What a leaf became.
type Leaf = (Bytes, ColumnCloseResult);

impl Crew {
    /// Begins with `encoders`, of which there is one at the least.
    pub(crate) fn new(effort: Effort, encoders: usize) -> Result<Self> {
        let others = (1..encoders).map(|_| Encoder::new(effort)).collect::<Result<_>>()?;
        Ok(Self { encoder: Encoder::new(effort)?, others })
    }

    /// Appends all columns of `rows` to a row group; says `written` for each which it is, and how long it took.
    pub(crate) fn append<W: Write + Send>(
        &mut self,
        group: &mut SerializedRowGroupWriter<'_, W>,
        schema: &SchemaDescriptor,
        rows: &Places<'_>,
        columns: &[Column<'_>],
        written: &mut dyn FnMut(usize, Duration),
    ) -> Result<()> {
        let leaves = leaves(schema, columns.len());
        self.forget();
        if self.others.is_empty() || rows.len() < ROWS_MIN {
            let slots = Slots::rows(rows);
            for (at, column) in columns.iter().enumerate() {
                let begun = Instant::now();
                let mut append = |leaf: Finished<'_>| group.append_column(&leaf.bytes, leaf.close);
                self.encoder.column(leaves[at], column, &slots, &mut append)?;
                written(at, begun.elapsed());
            }
            self.forget();
            return Ok(());
        }
        let next = AtomicUsize::new(0);
        // Relaxed: whoever takes a number is the only one, and nothing else is read because of it.
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < columns.len());
        let encode = |encoder: &mut Encoder, at: usize| {
            let begun = Instant::now();
            let mut kept: Vec<Leaf> = Vec::new();
            let mut keep = |leaf: Finished<'_>| {
                kept.push((leaf.bytes.to_bytes(), leaf.close));
                Ok(())
            };
            let encoded = encoder.column(leaves[at], &columns[at], &Slots::rows(rows), &mut keep);
            (at, encoded.map(|_| kept), begun.elapsed())
        };
        let mut line = InOrder { group, ready: columns.iter().map(|_| None).collect(), turn: 0, written };
        thread::scope(|scope| {
            let (send, encoded) = mpsc::channel();
            for encoder in &mut self.others {
                let (send, take, encode) = (send.clone(), &take, &encode);
                let work = move || {
                    while let Some(at) = take() {
                        if send.send(encode(encoder, at)).is_err() {
                            return;
                        }
                    }
                };
                // Where there is no thread to be had, those that there are do its part.
                if let Err(error) = thread::Builder::new().name("store-encode".to_owned()).spawn_scoped(scope, work) {
                    tracing::debug!(%error, "a column has to wait for another encoder");
                }
            }
            drop(send);
            let mut append = || {
                while let Some(at) = take() {
                    line.come(encode(&mut self.encoder, at))?;
                    encoded.try_iter().try_for_each(|column| line.come(column))?;
                }
                encoded.iter().try_for_each(|column| line.come(column))
            };
            append().inspect_err(|_| next.store(columns.len(), Ordering::Relaxed))
        })?;
        self.forget();
        Ok(())
    }

    /// Begins with other rows.
    fn forget(&mut self) {
        self.encoder.forget();
        self.others.iter_mut().for_each(Encoder::forget);
    }
}

/// Columns that wait for those before them.
struct InOrder<'a, 'g, 'f, W: Write + Send> {
    group: &'a mut SerializedRowGroupWriter<'f, W>,
    ready: Vec<Option<(Vec<Leaf>, Duration)>>,
    turn: usize,
    written: &'g mut dyn FnMut(usize, Duration),
}

impl<W: Write + Send> InOrder<'_, '_, '_, W> {
    /// Takes what became of a column, and appends what has its turn.
    fn come(&mut self, (at, column, took): (usize, Result<Vec<Leaf>>, Duration)) -> Result<()> {
        self.ready[at] = Some((column?, took));
        while let Some((leaves, took)) = self.ready.get_mut(self.turn).and_then(Option::take) {
            for (bytes, close) in leaves {
                self.group.append_column(&bytes, close)?;
            }
            (self.written)(self.turn, took);
            self.turn += 1;
        }
        Ok(())
    }
}

/// Returns the leaves of each of so many columns.
fn leaves(schema: &SchemaDescriptor, columns: usize) -> Vec<&[ColumnDescPtr]> {
    let all = schema.columns();
    let mut rest = 0;
    let of = |column: usize| {
        let from = rest;
        while rest < all.len() && schema.get_column_root_idx(rest) == column {
            rest += 1;
        }
        &all[from..rest]
    };
    (0..columns).map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use arrow::array::{
        Array, BooleanArray, DictionaryArray, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray,
        StringBuilder,
    };
    use arrow::datatypes::{Schema, UInt32Type};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::layout::FLUSHED;

    fn batch(rows: usize) -> RecordBatch {
        let names: DictionaryArray<UInt32Type> = (0..rows).map(|row| ["a", "b", "c"][row % 3]).collect();
        let mut map = MapBuilder::new(
            Some(MapFieldNames { entry: "entries".to_owned(), key: "key".to_owned(), value: "value".to_owned() }),
            StringBuilder::new(),
            StringBuilder::new(),
        );
        for row in 0..rows {
            for item in 0..row % 4 {
                map.keys().append_value(format!("k{item}"));
                map.values().append_value(format!("{}", row * item));
            }
            map.append(true).expect("keys and values are even");
        }
        let columns: [(&str, ArrayRef); 5] = [
            ("number", Arc::new((0..rows).map(|row| (row % 7 > 0).then_some(row as i64 * 31)).collect::<Int64Array>())),
            ("name", Arc::new(names)),
            ("map", Arc::new(map.finish())),
            ("text", Arc::new((0..rows).map(|row| Some(format!("text {row}"))).collect::<StringArray>())),
            ("flag", Arc::new((0..rows).map(|row| Some(row % 5 == 0)).collect::<BooleanArray>())),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, array)| (name, array.clone(), array.is_nullable())),
        )
        .expect("columns are as long as each other")
    }

    fn file(batch: &RecordBatch, encoders: usize) -> (Vec<u8>, Vec<usize>) {
        let schema: Arc<Schema> = batch.schema();
        let mut bytes = Vec::new();
        let mut order = Vec::new();
        let writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), None).expect("a writer");
        let (mut file, _) = writer.into_serialized_writer().expect("a writer");
        let descriptor = file.schema_descr().clone();
        let mut crew = Crew::new(FLUSHED, encoders).expect("encoders");
        let backwards: Vec<u32> = (0..batch.num_rows() as u32).rev().collect();
        for rows in backwards.chunks(10_000) {
            let fields = schema.fields().iter().zip(batch.columns());
            let columns =
                fields.map(|(field, array)| Column { field, arrays: vec![array.clone()], how: Use::default() });
            let columns: Vec<Column<'_>> = columns.collect();
            let mut group = file.next_row_group().expect("a row group");
            let places = Places::Each(Cow::Borrowed(rows));
            crew.append(&mut group, &descriptor, &places, &columns, &mut |at, _| order.push(at)).expect("encodes");
            group.close().expect("all columns are there");
        }
        file.close().expect("a footer");
        (bytes, order)
    }

    #[test]
    fn a_file_is_the_same_however_many_encoders_there_are() {
        let batch = batch(23_000);
        let (alone, order) = file(&batch, 1);
        assert_eq!(order, [[0, 1, 2, 3, 4]; 3].concat());
        for encoders in [2, 3, 8] {
            assert_eq!(file(&batch, encoders), (alone.clone(), order.clone()), "{encoders} encoders");
        }
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(alone)).expect("is Parquet").build();
        let rows: usize = reader.expect("is Parquet").map(|batch| batch.expect("is read").num_rows()).sum();
        assert_eq!(rows, 23_000);
    }

    #[test]
    fn a_column_that_cannot_be_encoded_ends_all_of_them() {
        let batch = batch(9_000);
        let schema = batch.schema();
        let mut bytes = Vec::new();
        let writer = ArrowWriter::try_new(&mut bytes, Arc::clone(&schema), None).expect("a writer");
        let (mut file, _) = writer.into_serialized_writer().expect("a writer");
        let descriptor = file.schema_descr().clone();
        let strict: Vec<Field> =
            schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(false)).collect();
        let columns = strict.iter().zip(batch.columns());
        let columns = columns.map(|(field, array)| Column { field, arrays: vec![array.clone()], how: Use::default() });
        let columns: Vec<Column<'_>> = columns.collect();
        let places: Vec<u32> = (0..9_000).collect();
        let mut group = file.next_row_group().expect("a row group");
        let mut crew = Crew::new(FLUSHED, 3).expect("encoders");
        let outcome = crew.append(&mut group, &descriptor, &Places::Each(Cow::Owned(places)), &columns, &mut |_, _| ());
        let problem = outcome.expect_err("a column that must not holds nulls").to_string();
        assert!(problem.contains("column `number` holds nulls"), "{problem}");
    }
}

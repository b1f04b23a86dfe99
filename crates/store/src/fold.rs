//! What is published, and what every published row is folded into.

use arrow::array::RecordBatch;
use plimsoll_model::SequenceNumber;
use plimsoll_otlp::{Signal, Table};

/// The rows of one frame, or of several that stand together, durable in the journal and ready to be seen.
#[derive(Debug, Clone)]
pub struct Published {
    /// The first frame they came from.
    pub sequence: SequenceNumber,
    /// The last one: nothing else came from those between.
    pub last: SequenceNumber,
    /// Which signal, and so which table.
    pub signal: Signal,
    /// The rows, in the table's stored schema.
    pub batch: RecordBatch,
}

/// Something that every published row is folded into, off the ack path, exactly once and in order of sequence.
///
/// Its rows become the tables `operations` and `signals`: what was folded since the last checkpoint is written in the same transaction
/// as the segments of the rows it came from, so that a crash counts nothing twice and forgets nothing.
pub trait Fold: Send + 'static {
    /// Folds one batch.
    fn fold(&mut self, rows: &Published);

    /// Returns the rows folded since the last checkpoint, in the stored schema of [`Table::Operations`] or
    /// [`Table::Signals`], whichever they are said to be of.
    fn pending(&self) -> Vec<(Table, RecordBatch)>;

    /// Takes those rows: from here on they are the store's to keep.
    fn take(&mut self) -> Vec<(Table, RecordBatch)>;
}

//! Reading a whole segment back, row for row, without SQL.

use std::sync::Arc;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use plimsoll_catalog::SegmentRecord;
use plimsoll_otlp::Table;

use crate::error::StoreError;
use crate::flush::unreadable;
use crate::shared::Shared;
use crate::sources::typed;
use crate::sums;

/// Appends a segment's rows to `batches`.
pub(crate) fn read(shared: &Shared, record: &SegmentRecord, batches: &mut Vec<RecordBatch>) -> Result<(), StoreError> {
    let path = &record.path;
    let failed = |source| StoreError::Io { path: path.clone(), source };
    let content = shared.files.read(path).map_err(failed)?;
    sums::check(Arc::new(content.clone()), content.len() as u64).map_err(failed)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(content).and_then(|builder| builder.build());
    let mut rows = 0;
    for batch in reader.map_err(|e| unreadable(path, &e))? {
        let mut batch = batch.map_err(|e| unreadable(path, &e.into()))?;
        rows += batch.num_rows() as u64;
        if let Some(table) = Table::parse(&record.table) {
            let schema = batch.schema();
            let types = schema.fields().iter().map(|field| {
                let stored = table.schema().field_with_name(field.name());
                stored.unwrap_or(field).data_type().clone()
            });
            batch = typed(batch, &types.collect::<Vec<_>>()).map_err(|e| unreadable(path, &e))?;
        }
        batches.push(batch);
    }
    if rows == record.rows {
        return Ok(());
    }
    let problem = format!("holds {rows} rows, the catalog says {}", record.rows);
    Err(StoreError::Segment { path: path.clone(), problem })
}

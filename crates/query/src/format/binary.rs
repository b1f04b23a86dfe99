//! Arrow IPC streams and Parquet files.

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Encoder;
use crate::error::QueryError;

/// Rows of one row group: what is held in memory before bytes leave.
const ROW_GROUP_ROWS: usize = 32_768;

pub(super) struct Arrow(StreamWriter<Vec<u8>>);

impl Arrow {
    pub(super) fn new(schema: &Schema) -> Result<Self, QueryError> {
        StreamWriter::try_new(Vec::new(), schema).map(Self).map_err(|error| arrow_error(&error))
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

impl Encoder for Arrow {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(self.take())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        self.0.write(rows).map_err(|error| arrow_error(&error))?;
        Ok(self.take())
    }

    fn end(&mut self) -> Result<Vec<u8>, QueryError> {
        self.0.finish().map_err(|error| arrow_error(&error))?;
        Ok(self.take())
    }
}

pub(super) struct Parquet(ArrowWriter<Vec<u8>>);

impl Parquet {
    pub(super) fn new(schema: SchemaRef) -> Result<Self, QueryError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map(Self).map_err(|error| parquet_error(&error))
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.inner_mut())
    }
}

impl Encoder for Parquet {
    fn begin(&mut self) -> Result<Vec<u8>, QueryError> {
        Ok(self.take())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        self.0.write(rows).map_err(|error| parquet_error(&error))?;
        Ok(self.take())
    }

    fn end(&mut self) -> Result<Vec<u8>, QueryError> {
        self.0.finish().map_err(|error| parquet_error(&error))?;
        Ok(self.take())
    }
}

fn arrow_error(error: &ArrowError) -> QueryError {
    QueryError::Invalid(format!("the answer has no Arrow form: {error}; cast the column to text"))
}

fn parquet_error(error: &ParquetError) -> QueryError {
    QueryError::Invalid(format!("the answer has no Parquet form: {error}; cast the column to text"))
}

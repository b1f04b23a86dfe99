//! Log records folded: those that carry an exception.
//!
//! A record with a trace waits for the trace to close and is counted on the request that its span belongs to, once with
//! the span event that says the same. Any other is counted on the service as a whole.

use arrow::array::{Array, RecordBatch};
use plimsoll_model::UnixNanos;

use crate::columns::{self, Attributes, SchemaError};
use crate::exception::exception;
use crate::spans::nanos;
use crate::state::{Resources, SignalState};
use crate::traces::OpenException;

impl SignalState {
    pub(crate) fn fold_logs(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let received = columns::time(batch, "received_time")?;
        let time = columns::time(batch, "time")?;
        let trace_id = columns::id(batch, "trace_id", 16)?;
        let span_id = columns::id(batch, "span_id", 8)?;
        let attributes = Attributes::of("attributes", columns::map(batch, "attributes")?)?;
        let mut resources = Resources::of(batch)?;
        let life = self.registry.limits.trace_life_max.as_nanos() as u64;

        for row in 0..batch.num_rows() {
            let received = nanos(received.value(row));
            self.watermark = self.watermark.max(received);
            self.registry.counters.logs += 1;
            let exception_type = attributes.get(row, "exception.type");
            if exception_type.is_empty() {
                continue;
            }
            let at = nanos(time.value(row));
            let emitter = resources.emitter(self, row, at.min(received), received);
            let bucket = self.bucket_of(emitter.service, at, received);
            let age = Self::age_of(emitter, at);
            let message = attributes.get(row, "exception.message");
            let (fingerprint, seen) = exception(exception_type, message, attributes.get(row, "exception.stacktrace"));
            self.registry.remember(emitter.service, fingerprint, UnixNanos(at.min(received)));
            if trace_id.is_null(row) {
                let operation = self.service_operation(emitter.service);
                self.count_exception(emitter.version, operation, age, bucket, fingerprint, &seen);
                continue;
            }
            let waiting = OpenException {
                span: if span_id.is_null(row) { 0 } else { columns::span_id(span_id.value(row)) },
                version: emitter.version,
                age,
                bucket,
                fingerprint,
                seen,
                counted: false,
            };
            self.traces.push_exception(columns::trace_id(trace_id.value(row)), received, life, waiting);
        }
        Ok(())
    }
}

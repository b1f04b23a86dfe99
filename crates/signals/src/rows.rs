//! Cells as rows of the table `operations`, and back.
//!
//! *Invariants.* Rows come in order of their key, then bucket, and lists within them in order of their entries, so that
//! equal cells give equal bytes. Several rows of one key and bucket add up: reading them is merging them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, Int16Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int16Type, Int64Type, UInt64Type};
use plimsoll_model::drill::{AttributeValue, Draw, Draws, Outcome};
use plimsoll_model::signal::{
    AgeClass, CalleeTime, ExceptionCount, Exemplars, Fingerprint, Histogram, OperationCell, OperationKey,
    OperationKind, Party, WEIGHT_UNIT,
};
use plimsoll_model::{Bucket, ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::{self, UTC};

use crate::columns::{self, SchemaError};

/// One cell, spelt out.
pub type OperationRow = (OperationKey, Bucket, OperationCell);

/// Writes cells as rows, in the order given.
pub fn encode_operations(rows: &[OperationRow]) -> RecordBatch {
    let text =
        |of: fn(&OperationRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(of))) };
    let number = |of: fn(&OperationCell) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| of(&r.2))))
    };
    let signed = |of: fn(&OperationCell) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| of(&r.2))))
    };
    let starts = rows.iter().map(|row| row.1.start().as_i64());
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(starts).with_timezone(UTC)),
        text(|row| &row.0.service.service),
        text(|row| &row.0.service.namespace),
        text(|row| &row.0.version),
        text(|row| &row.0.service.environment),
        text(|row| &row.0.operation),
        text(|row| row.0.kind.as_str()),
        text(|row| row.0.age.as_str()),
        number(|cell| cell.requests),
        number(|cell| cell.errors),
        number(|cell| cell.error_origins),
        signed(|cell| cell.log_latency_sum),
        signed(|cell| cell.log_latency_sum_sq),
    ];
    let histograms: [fn(&OperationCell) -> &Histogram; 2] = [|cell| &cell.latency, |cell| &cell.self_time];
    for of in histograms {
        let lengths = || rows.iter().map(|row| of(&row.2).0.len());
        let entries = || rows.iter().flat_map(|row| &of(&row.2).0);
        arrays.push(list(lengths(), Arc::new(Int16Array::from_iter_values(entries().map(|(index, _)| *index)))));
        arrays.push(list(lengths(), Arc::new(UInt64Array::from_iter_values(entries().map(|(_, count)| *count)))));
    }
    arrays.push(number(|cell| cell.self_time_ns));
    arrays.push(number(|cell| cell.assembled));

    let classes = || rows.iter().flat_map(|row| &row.2.errors_by_class);
    arrays.push(structs(
        rows.iter().map(|row| row.2.errors_by_class.len()),
        schema::error_class_fields(),
        vec![texts(classes().map(|(class, _)| class)), numbers(classes().map(|(_, count)| *count))],
    ));
    let exceptions = || rows.iter().flat_map(|row| &row.2.exceptions);
    arrays.push(structs(
        rows.iter().map(|row| row.2.exceptions.len()),
        schema::exception_fields(),
        vec![
            numbers(exceptions().map(|(fingerprint, _)| fingerprint.0)),
            texts(exceptions().map(|(_, seen)| &seen.exception_type)),
            texts(exceptions().map(|(_, seen)| &seen.message)),
            numbers(exceptions().map(|(_, seen)| seen.count)),
        ],
    ));
    let blame = || rows.iter().flat_map(|row| &row.2.blame);
    arrays.push(structs(
        rows.iter().map(|row| row.2.blame.len()),
        schema::blame_fields(),
        vec![
            texts(blame().map(|(party, _)| &party.service)),
            texts(blame().map(|(party, _)| &party.version)),
            texts(blame().map(|(party, _)| &party.operation)),
            numbers(blame().map(|(_, count)| *count)),
            texts(blame().map(|(party, _)| &party.namespace)),
        ],
    ));
    let callees = || rows.iter().flat_map(|row| &row.2.callees);
    arrays.push(structs(
        rows.iter().map(|row| row.2.callees.len()),
        schema::callee_fields(),
        vec![
            texts(callees().map(|(party, _)| &party.service)),
            texts(callees().map(|(party, _)| &party.version)),
            texts(callees().map(|(party, _)| &party.operation)),
            numbers(callees().map(|(_, time)| time.calls)),
            numbers(callees().map(|(_, time)| time.critical_ns)),
            texts(callees().map(|(party, _)| &party.namespace)),
        ],
    ));
    arrays.push(trace_ids(rows.iter().map(|row| &row.2.failed_exemplars)));
    arrays.push(trace_ids(rows.iter().map(|row| &row.2.slow_exemplars)));
    arrays.push(number(|cell| cell.weighted_requests));
    arrays.push(number(|cell| cell.weighted_errors));
    let values = || rows.iter().flat_map(|row| &row.2.values);
    arrays.push(structs(
        rows.iter().map(|row| row.2.values.len()),
        schema::value_fields(),
        vec![
            texts(values().map(|(value, _)| &value.attribute)),
            texts(values().map(|(value, _)| &value.value)),
            numbers(values().map(|(_, outcome)| outcome.requests)),
            numbers(values().map(|(_, outcome)| outcome.errors)),
            Arc::new(Int64Array::from_iter_values(values().map(|(_, outcome)| outcome.log_latency_sum))),
        ],
    ));
    arrays.push(trace_ids(rows.iter().map(|row| &row.2.good_exemplars)));
    arrays.push(draws(rows.iter().map(|row| &row.2.failed_draws)));
    arrays.push(draws(rows.iter().map(|row| &row.2.good_draws)));
    RecordBatch::try_new(Table::Operations.schema().clone(), arrays)
        .expect("the arrays are built in the schema's order")
}

/// One entry a value of each request drawn.
fn draws<'a>(rows: impl Iterator<Item = &'a Draws> + Clone) -> ArrayRef {
    let each = || {
        rows.clone().flat_map(|draws| &draws.0).flat_map(|draw| draw.values.iter().map(|value| (draw.number, value)))
    };
    structs(
        rows.clone().map(|draws| draws.0.iter().map(|draw| draw.values.len()).sum()),
        schema::draw_fields(),
        vec![
            numbers(each().map(|(number, _)| number)),
            texts(each().map(|(_, (attribute, _))| attribute)),
            texts(each().map(|(_, (_, value))| value)),
        ],
    )
}

/// One list of trace ids a row.
pub(crate) fn trace_ids<'a>(rows: impl Iterator<Item = &'a Exemplars> + Clone) -> ArrayRef {
    let mut ids = FixedSizeBinaryBuilder::new(16);
    for id in rows.clone().flat_map(|exemplars| &exemplars.0) {
        ids.append_value(id).expect("an exemplar has sixteen bytes");
    }
    list(rows.map(|exemplars| exemplars.0.len()), Arc::new(ids.finish()))
}

pub(crate) fn texts<'a, T: AsRef<str> + 'a>(values: impl Iterator<Item = &'a T>) -> ArrayRef {
    // The array wants to know how many: a flattened iterator does not.
    Arc::new(StringArray::from_iter_values(values.collect::<Vec<_>>()))
}

pub(crate) fn numbers(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

pub(crate) fn list(lengths: impl Iterator<Item = usize>, values: ArrayRef) -> ArrayRef {
    let item = Arc::new(Field::new("item", values.data_type().clone(), false));
    Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths), values, None))
}

pub(crate) fn structs(lengths: impl Iterator<Item = usize>, fields: Fields, arrays: Vec<ArrayRef>) -> ArrayRef {
    list(lengths, Arc::new(StructArray::new(fields, arrays, None)))
}

/// Reads rows that [`encode_operations`] wrote.
///
/// # Errors
/// The batch is not in the stored schema, or holds a kind or age that was never written.
pub fn decode_operations(batch: &RecordBatch) -> Result<Vec<OperationRow>, SchemaError> {
    let text = |name: &str| columns::text(batch, name);
    let number = |name: &str| {
        columns::column(batch, name)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| SchemaError::Type(name.to_owned()))
    };
    let bucket = columns::time(batch, "bucket_start")?;
    let (service, namespace) = (text("service_name")?, text("service_namespace")?);
    let (version, environment) = (text("service_version")?, text("environment")?);
    let (operation, kind, age) = (text("operation")?, text("kind")?, text("instance_age")?);
    let (requests, errors, origins) = (number("requests")?, number("errors")?, number("error_origins")?);
    let log_sum = columns::int64(batch, "log_latency_sum")?;
    let log_sum_sq = columns::int64(batch, "log_latency_sum_sq")?;
    let (self_time_ns, assembled) = (number("self_time_ns")?, number("assembled")?);
    let latency = Histograms::of(batch, "latency")?;
    let self_time = Histograms::of(batch, "self_time")?;
    let classes = Entries::of(batch, "errors_by_class")?;
    let exceptions = Entries::of(batch, "exceptions")?;
    let blame = Entries::of(batch, "blame")?;
    let callees = Entries::of(batch, "callees")?;
    let failed = columns::list(batch, "failed_exemplars")?;
    let slow = columns::list(batch, "slow_exemplars")?;
    // Rows written before there were these columns lack them.
    let weighted = columns::optional(batch, "weighted_requests", number)?;
    let weighted_errors = columns::optional(batch, "weighted_errors", number)?;
    let values = columns::optional(batch, "values", |name| Entries::of(batch, name))?;
    let good = columns::optional(batch, "good_exemplars", |name| columns::list(batch, name))?;
    let failed_draws = columns::optional(batch, "failed_draws", |name| Entries::of(batch, name))?;
    let good_draws = columns::optional(batch, "good_draws", |name| Entries::of(batch, name))?;

    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let unknown =
            |column: &str, value: &str| SchemaError::Value { column: column.to_owned(), value: value.to_owned() };
        let key = OperationKey {
            service: ServiceKey {
                environment: environment.value(row).to_owned(),
                namespace: namespace.value(row).to_owned(),
                service: service.value(row).to_owned(),
            },
            version: version.value(row).to_owned(),
            operation: operation.value(row).to_owned(),
            kind: OperationKind::parse(kind.value(row)).ok_or_else(|| unknown("kind", kind.value(row)))?,
            age: AgeClass::parse(age.value(row)).ok_or_else(|| unknown("instance_age", age.value(row)))?,
        };
        let mut cell = OperationCell {
            requests: requests.value(row),
            errors: errors.value(row),
            weighted_requests: weighted
                .filter(|array| array.is_valid(row))
                .map_or_else(|| requests.value(row) * WEIGHT_UNIT, |array| array.value(row)),
            weighted_errors: weighted_errors
                .filter(|array| array.is_valid(row))
                .map_or_else(|| errors.value(row) * WEIGHT_UNIT, |array| array.value(row)),
            error_origins: origins.value(row),
            log_latency_sum: log_sum.value(row),
            log_latency_sum_sq: log_sum_sq.value(row),
            latency: latency.at(row),
            self_time: self_time.at(row),
            self_time_ns: self_time_ns.value(row),
            assembled: assembled.value(row),
            failed_exemplars: exemplars(failed, row)?,
            slow_exemplars: exemplars(slow, row)?,
            good_exemplars: good.map(|list| exemplars(list, row)).transpose()?.unwrap_or_default(),
            failed_draws: failed_draws.as_ref().map(|entries| entries.draws(row)).transpose()?.unwrap_or_default(),
            good_draws: good_draws.as_ref().map(|entries| entries.draws(row)).transpose()?.unwrap_or_default(),
            ..OperationCell::default()
        };
        for at in classes.range(row) {
            cell.errors_by_class.insert(classes.text("class", at)?.to_owned(), classes.number("count", at)?);
        }
        for at in exceptions.range(row) {
            let seen = ExceptionCount {
                exception_type: exceptions.text("type", at)?.to_owned(),
                message: exceptions.text("message", at)?.to_owned(),
                count: exceptions.number("count", at)?,
            };
            cell.exceptions.insert(Fingerprint(exceptions.number("fingerprint", at)?), seen);
        }
        for at in blame.range(row) {
            cell.blame.insert(blame.party(at)?, blame.number("count", at)?);
        }
        for at in callees.range(row) {
            let time =
                CalleeTime { calls: callees.number("calls", at)?, critical_ns: callees.number("critical_ns", at)? };
            cell.callees.insert(callees.party(at)?, time);
        }
        if let Some(values) = &values {
            for at in values.range(row) {
                let value = AttributeValue {
                    attribute: values.text("attribute", at)?.to_owned(),
                    value: values.text("value", at)?.to_owned(),
                };
                let outcome = Outcome {
                    requests: values.number("requests", at)?,
                    errors: values.number("errors", at)?,
                    log_latency_sum: values.signed("log_latency_sum", at)?,
                };
                cell.values.insert(value, outcome);
            }
        }
        let start = UnixNanos(u64::try_from(bucket.value(row)).unwrap_or(0));
        rows.push((key, start.bucket(), cell));
    }
    Ok(rows)
}

pub(crate) struct Histograms<'a> {
    offsets: &'a [i32],
    indices: &'a Int16Array,
    count_offsets: &'a [i32],
    counts: &'a UInt64Array,
}

impl<'a> Histograms<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, prefix: &str) -> Result<Self, SchemaError> {
        let wrong = || SchemaError::Type(format!("{prefix}_buckets"));
        let buckets = columns::list(batch, &format!("{prefix}_buckets"))?;
        let counts = columns::list(batch, &format!("{prefix}_counts"))?;
        Ok(Self {
            offsets: buckets.value_offsets(),
            indices: buckets.values().as_primitive_opt::<Int16Type>().ok_or_else(wrong)?,
            count_offsets: counts.value_offsets(),
            counts: counts.values().as_primitive_opt::<UInt64Type>().ok_or_else(wrong)?,
        })
    }

    pub(crate) fn at(&self, row: usize) -> Histogram {
        let indices = self.offsets[row] as usize..self.offsets[row + 1] as usize;
        let counts = self.count_offsets[row] as usize..self.count_offsets[row + 1] as usize;
        Histogram(indices.zip(counts).map(|(i, c)| (self.indices.value(i), self.counts.value(c))).collect())
    }
}

pub(crate) struct Entries<'a> {
    offsets: &'a [i32],
    values: &'a StructArray,
}

impl<'a> Entries<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Result<Self, SchemaError> {
        let list = columns::list(batch, name)?;
        let values = list.values().as_struct_opt().ok_or_else(|| SchemaError::Type(name.to_owned()))?;
        Ok(Self { offsets: list.value_offsets(), values })
    }

    pub(crate) fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub(crate) fn text(&self, name: &str, at: usize) -> Result<&'a str, SchemaError> {
        let array = columns::field(self.values, name)?.as_string_opt::<i32>();
        Ok(array.ok_or_else(|| SchemaError::Type(name.to_owned()))?.value(at))
    }

    /// Reads the requests drawn of a row.
    fn draws(&self, row: usize) -> Result<Draws, SchemaError> {
        let mut draws = Draws::default();
        for at in self.range(row) {
            let number = self.number("request", at)?;
            let value = (Arc::from(self.text("attribute", at)?), Arc::from(self.text("value", at)?));
            match draws.0.last_mut() {
                Some(draw) if draw.number == number => draw.values.push(value),
                _ => draws.0.push(Draw { number, values: vec![value] }),
            }
        }
        Ok(draws)
    }

    fn signed(&self, name: &str, at: usize) -> Result<i64, SchemaError> {
        let array = columns::field(self.values, name)?.as_primitive_opt::<Int64Type>();
        Ok(array.ok_or_else(|| SchemaError::Type(name.to_owned()))?.value(at))
    }

    pub(crate) fn number(&self, name: &str, at: usize) -> Result<u64, SchemaError> {
        let array = columns::field(self.values, name)?.as_primitive_opt::<UInt64Type>();
        Ok(array.ok_or_else(|| SchemaError::Type(name.to_owned()))?.value(at))
    }

    pub(crate) fn party(&self, at: usize) -> Result<Party, SchemaError> {
        // Rows written before parties had a namespace lack it.
        let namespace = self.values.column_by_name("namespace").and_then(|array| array.as_string_opt::<i32>());
        Ok(Party {
            namespace: namespace.filter(|array| array.is_valid(at)).map_or("", |array| array.value(at)).to_owned(),
            service: self.text("service", at)?.to_owned(),
            version: self.text("version", at)?.to_owned(),
            operation: self.text("operation", at)?.to_owned(),
        })
    }
}

pub(crate) fn exemplars(list: &ListArray, row: usize) -> Result<Exemplars, SchemaError> {
    if list.is_null(row) {
        return Ok(Exemplars::default());
    }
    let values = list.value(row);
    let ids = values.as_fixed_size_binary_opt().filter(|_| values.data_type() == &DataType::FixedSizeBinary(16));
    let ids = ids.ok_or_else(|| SchemaError::Type("exemplars".to_owned()))?;
    let mut exemplars = Exemplars::default();
    ids.iter().flatten().filter_map(|id| id.try_into().ok()).for_each(|id| exemplars.offer(id));
    Ok(exemplars)
}

//! Everything beside operations as rows of the table `signals`, and back.
//!
//! One row form serves every sort; what a sort does not need is empty. *Invariants.* Rows come in order of everything that
//! names them, so that equal cells give equal bytes; several rows of one name and bucket add up.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt32Array, UInt64Array,
};
use arrow::datatypes::{Float64Type, UInt64Type};
use plimsoll_model::aggregates::Participant;
use plimsoll_model::metric::ExactSum;
use plimsoll_model::presence::Distinct;
use plimsoll_model::signal::{Exemplars, Histogram};
use plimsoll_model::{ServiceKey, UnixNanos};
use plimsoll_otlp::Table;
use plimsoll_otlp::schema::{self, UTC};

use crate::columns::{self, SchemaError};
use crate::intern::FixedMap;
use crate::metric_past;
use crate::rows::{Entries, Histograms, exemplars, list, numbers, structs, texts, trace_ids};

/// Which rows are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    All,
    /// History from there on, and everything else.
    HistorySince(UnixNanos),
    /// History up to there, and nothing else.
    HistoryBefore(UnixNanos),
}

/// One row, whatever its sort.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct SignalRow {
    pub(crate) start: UnixNanos,
    pub(crate) width_s: u32,
    pub(crate) service: ServiceKey,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) detail: String,
    pub(crate) variant: String,
    pub(crate) unit: String,
    pub(crate) age: String,
    pub(crate) count: u64,
    pub(crate) errors: u64,
    pub(crate) weighted_count: u64,
    pub(crate) weighted_errors: u64,
    pub(crate) log_sum: i64,
    pub(crate) log_sum_sq: i64,
    pub(crate) spans: u64,
    pub(crate) logs: u64,
    pub(crate) points: u64,
    pub(crate) zeros: u64,
    pub(crate) resets: u64,
    pub(crate) sum: Option<ExactSum>,
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    pub(crate) first: Option<UnixNanos>,
    pub(crate) last: Option<UnixNanos>,
    pub(crate) values: Histogram,
    pub(crate) instances: Distinct,
    pub(crate) starts: Distinct,
    pub(crate) classes: BTreeMap<String, u64>,
    pub(crate) path: Vec<Participant>,
    pub(crate) failed: Exemplars,
    pub(crate) slow: Exemplars,
    pub(crate) good: Exemplars,
}

/// Returns rows in their order: by everything that names them.
///
/// Names are compared once each and rows by the ranks of their names: of many buckets in a row, each has the same few names.
pub(crate) fn ordered(rows: &[SignalRow]) -> Vec<&SignalRow> {
    let texts: [fn(&SignalRow) -> &str; 8] =
        [|r| &r.kind, |r| &r.version, |r| &r.name, |r| &r.role, |r| &r.detail, |r| &r.variant, |r| &r.unit, |r| &r.age];
    let services = ranks(rows, |row| &row.service);
    let mut keyed: Vec<([u32; 9], &SignalRow)> = Vec::with_capacity(rows.len());
    keyed.extend(rows.iter().zip(services).map(|(row, rank)| ([rank, 0, 0, 0, 0, 0, 0, 0, 0], row)));
    for (place, of) in (1..).zip(texts) {
        keyed.iter_mut().zip(ranks(rows, of)).for_each(|((ranks, _), rank)| ranks[place] = rank);
    }
    keyed.sort_unstable_by(|(ranks, row), (other_ranks, other)| {
        let begins = |row: &SignalRow| (row.width_s, row.start);
        ranks.cmp(other_ranks).then_with(|| row.path.cmp(&other.path)).then_with(|| begins(row).cmp(&begins(other)))
    });
    keyed.into_iter().map(|(_, row)| row).collect()
}

/// Returns for each row the rank of its name among all names.
fn ranks<'a, T: Ord + Hash + ?Sized + 'a>(rows: &'a [SignalRow], of: impl Fn(&'a SignalRow) -> &'a T) -> Vec<u32> {
    let mut numbers: FixedMap<&T, u32> = FixedMap::default();
    let mut names: Vec<&T> = Vec::new();
    let mut last: Option<(&T, u32)> = None;
    let mut ranks: Vec<u32> = Vec::with_capacity(rows.len());
    for row in rows {
        let name = of(row);
        // Rows of one name mostly come behind one another.
        let number = match last {
            Some((known, number)) if known == name => number,
            _ => *numbers.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() as u32 - 1
            }),
        };
        last = Some((name, number));
        ranks.push(number);
    }
    let mut order: Vec<u32> = (0..names.len() as u32).collect();
    order.sort_unstable_by_key(|number| names[*number as usize]);
    let mut rank = vec![0; names.len()];
    order.iter().zip(0..).for_each(|(number, at)| rank[*number as usize] = at);
    ranks.iter_mut().for_each(|number| *number = rank[*number as usize]);
    ranks
}

/// Writes rows, in the order given.
pub(crate) fn encode(rows: &[&SignalRow]) -> RecordBatch {
    let each = || rows.iter().copied();
    let text = |of: fn(&SignalRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(each().map(of))) };
    let number = |of: fn(&SignalRow) -> u64| numbers(each().map(of));
    let signed = |of: fn(&SignalRow) -> i64| -> ArrayRef { Arc::new(Int64Array::from_iter_values(each().map(of))) };
    let float = |of: fn(&SignalRow) -> Option<f64>| -> ArrayRef { Arc::new(each().map(of).collect::<Float64Array>()) };
    let moment = |of: fn(&SignalRow) -> Option<UnixNanos>| -> ArrayRef {
        let times = each().map(|row| of(row).map(UnixNanos::as_i64));
        Arc::new(times.collect::<TimestampNanosecondArray>().with_timezone(UTC))
    };
    let mut exact = FixedSizeBinaryBuilder::new(16);
    for row in each() {
        match row.sum {
            Some(sum) => exact.append_value(sum.0.to_be_bytes()).expect("a sum has sixteen bytes"),
            None => exact.append_null(),
        }
    }
    let starts = each().map(|row| row.start.as_i64());
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(TimestampNanosecondArray::from_iter_values(starts).with_timezone(UTC)),
        Arc::new(UInt32Array::from_iter_values(each().map(|row| row.width_s))),
        text(|row| &row.service.service),
        text(|row| &row.service.namespace),
        text(|row| &row.version),
        text(|row| &row.service.environment),
        text(|row| &row.kind),
        text(|row| &row.name),
        text(|row| &row.role),
        text(|row| &row.detail),
        text(|row| &row.variant),
        text(|row| &row.unit),
        text(|row| &row.age),
        number(|row| row.count),
        number(|row| row.errors),
        number(|row| row.weighted_count),
        number(|row| row.weighted_errors),
        signed(|row| row.log_sum),
        signed(|row| row.log_sum_sq),
        number(|row| row.spans),
        number(|row| row.logs),
        number(|row| row.points),
        number(|row| row.zeros),
        number(|row| row.resets),
        float(|row| row.sum.map(ExactSum::value)),
        Arc::new(exact.finish()),
        float(|row| row.min),
        float(|row| row.max),
        moment(|row| row.first),
        moment(|row| row.last),
    ];
    let lengths = || each().map(|row| row.values.0.len());
    let indices = each().flat_map(|row| row.values.0.keys().copied());
    arrays.push(list(lengths(), Arc::new(arrow::array::Int16Array::from_iter_values(indices))));
    arrays.push(list(lengths(), numbers(each().flat_map(|row| row.values.0.values().copied()))));
    for of in [|row: &SignalRow| row.instances.0.clone(), |row: &SignalRow| row.starts.0.clone()] {
        arrays.push(list(each().map(|row| of(row).len()), numbers(each().flat_map(of))));
    }
    arrays.push(structs(
        each().map(|row| row.classes.len()),
        schema::error_class_fields(),
        vec![
            texts(each().flat_map(|row| row.classes.keys())),
            numbers(each().flat_map(|row| row.classes.values().copied())),
        ],
    ));
    let participants = || each().flat_map(|row| &row.path);
    arrays.push(structs(
        each().map(|row| row.path.len()),
        schema::participant_fields(),
        vec![
            texts(participants().map(|who| &who.namespace)),
            texts(participants().map(|who| &who.service)),
            texts(participants().map(|who| &who.version)),
        ],
    ));
    arrays.push(trace_ids(each().map(|row| &row.failed)));
    arrays.push(trace_ids(each().map(|row| &row.slow)));
    arrays.push(trace_ids(each().map(|row| &row.good)));
    RecordBatch::try_new(Table::Signals.schema().clone(), arrays).expect("the arrays are built in the schema's order")
}

/// Reads rows that [`encode`] wrote.
///
/// # Errors
/// The batch is not in the stored schema.
pub(crate) fn decode(batch: &RecordBatch, recall: Recall) -> Result<Vec<SignalRow>, SchemaError> {
    let text = |name: &str| columns::text(batch, name);
    let wrong = |name: &str| SchemaError::Type(name.to_owned());
    let number = |name: &str| columns::column(batch, name)?.as_primitive_opt::<UInt64Type>().ok_or_else(|| wrong(name));
    let float = |name: &str| columns::column(batch, name)?.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong(name));
    let texts = [
        "service_name",
        "service_namespace",
        "service_version",
        "environment",
        "kind",
        "name",
        "role",
        "detail",
        "variant",
        "unit",
        "instance_age",
    ];
    let texts: Vec<&StringArray> = texts.into_iter().map(text).collect::<Result<_, _>>()?;
    let numbers =
        ["count", "errors", "weighted_count", "weighted_errors", "spans", "logs", "points", "zeros", "resets"];
    let numbers: Vec<&UInt64Array> = numbers.into_iter().map(number).collect::<Result<_, _>>()?;
    let bucket = columns::time(batch, "bucket_start")?;
    let width = columns::uint32(batch, "width_s")?;
    let (log_sum, log_sum_sq) =
        (columns::int64(batch, "log_latency_sum")?, columns::int64(batch, "log_latency_sum_sq")?);
    let exact = columns::id(batch, "sum_exact", 16)?;
    let (min, max) = (float("min")?, float("max")?);
    let (first, last) = (columns::time(batch, "first_seen")?, columns::time(batch, "last_seen")?);
    let values = Histograms::of(batch, "value")?;
    let (instances, starts) = (columns::list(batch, "instances")?, columns::list(batch, "starts")?);
    let classes = Entries::of(batch, "errors_by_class")?;
    let path = Entries::of(batch, "path")?;
    let failed = columns::list(batch, "failed_exemplars")?;
    let slow = columns::list(batch, "slow_exemplars")?;
    let good = columns::list(batch, "good_exemplars")?;

    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let start = UnixNanos(u64::try_from(bucket.value(row)).unwrap_or(0));
        let history = matches!(texts[4].value(row), "history" | metric_past::KIND);
        let wanted = match recall {
            Recall::All => true,
            Recall::HistorySince(since) => !history || start >= since,
            Recall::HistoryBefore(before) => history && start < before,
        };
        if !wanted {
            continue;
        }
        let text = |at: usize| texts[at].value(row).to_owned();
        let number = |at: usize| numbers[at].value(row);
        let float = |array: &Float64Array| (!array.is_null(row)).then(|| array.value(row));
        let moment = |array: &TimestampNanosecondArray| {
            (!array.is_null(row)).then(|| UnixNanos(u64::try_from(array.value(row)).unwrap_or(0)))
        };
        let hashes = |list: &arrow::array::ListArray| {
            let values = list.value(row);
            let hashes = values.as_primitive_opt::<UInt64Type>().ok_or_else(|| wrong("instances"))?;
            let mut distinct = Distinct::default();
            hashes.values().iter().for_each(|hash| distinct.offer(*hash));
            Ok::<_, SchemaError>(distinct)
        };
        let sum = (!exact.is_null(row)).then(|| exact.value(row).try_into().map_or(0, i128::from_be_bytes));
        let mut read = SignalRow {
            start,
            width_s: width.value(row),
            service: ServiceKey { environment: text(3), namespace: text(1), service: text(0) },
            version: text(2),
            kind: text(4),
            name: text(5),
            role: text(6),
            detail: text(7),
            variant: text(8),
            unit: text(9),
            age: text(10),
            count: number(0),
            errors: number(1),
            weighted_count: number(2),
            weighted_errors: number(3),
            log_sum: log_sum.value(row),
            log_sum_sq: log_sum_sq.value(row),
            spans: number(4),
            logs: number(5),
            points: number(6),
            zeros: number(7),
            resets: number(8),
            sum: sum.map(ExactSum),
            min: float(min),
            max: float(max),
            first: moment(first),
            last: moment(last),
            values: values.at(row),
            instances: hashes(instances)?,
            starts: hashes(starts)?,
            failed: exemplars(failed, row)?,
            slow: exemplars(slow, row)?,
            good: exemplars(good, row)?,
            ..SignalRow::default()
        };
        for at in classes.range(row) {
            read.classes.insert(classes.text("class", at)?.to_owned(), classes.number("count", at)?);
        }
        for at in path.range(row) {
            read.path.push(Participant {
                namespace: path.text("namespace", at)?.to_owned(),
                service: path.text("service", at)?.to_owned(),
                version: path.text("version", at)?.to_owned(),
            });
        }
        rows.push(read);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows() -> impl Strategy<Value = Vec<SignalRow>> {
        let text = || prop_oneof![Just(String::new()), "[a-c]{1,2}"];
        let party =
            text().prop_map(|service| Participant { namespace: String::new(), service, version: String::new() });
        let texts = proptest::collection::vec(text(), 8);
        let row = (text(), texts, proptest::collection::vec(party, 0..2), 0..2_u32, 0..9_u64);
        let row = row.prop_map(|(service, texts, path, width_s, start)| {
            let [kind, version, name, role, detail, variant, unit, age] =
                texts.try_into().expect("as many as were asked for");
            let service = ServiceKey::new("", &service);
            let start = UnixNanos(start);
            SignalRow {
                start,
                width_s,
                service,
                version,
                kind,
                name,
                role,
                detail,
                variant,
                unit,
                age,
                path,
                ..SignalRow::default()
            }
        });
        proptest::collection::vec(row, 0..40)
    }

    proptest! {
        #[test]
        fn rows_lie_in_order_of_their_names(rows in rows()) {
            let key = |row: &SignalRow| {
                let texts = [&row.kind, &row.version, &row.name, &row.role, &row.detail, &row.variant, &row.unit, &row.age];
                (row.service.clone(), texts.map(String::clone), row.path.clone(), row.width_s, row.start)
            };
            let mut expected: Vec<_> = rows.iter().map(key).collect();
            expected.sort();
            prop_assert_eq!(ordered(&rows).into_iter().map(key).collect::<Vec<_>>(), expected);
        }
    }
}

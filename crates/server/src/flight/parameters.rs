//! Parameters of prepared statements: one row of a batch.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, DurationNanosecondType, Field, Float64Type, Int64Type, IntervalMonthDayNanoType,
    IntervalUnit, Schema, Time64NanosecondType, TimeUnit, TimestampNanosecondType,
};
use arrow::util::display::array_value_to_string;
use plimsoll_query::Parameter;
use tonic::Status;

/// Reads the one row of `batch`; a batch without rows binds nothing.
#[allow(clippy::result_large_err)]
pub(super) fn read(batch: &RecordBatch) -> Result<(Vec<Parameter>, Vec<Option<DataType>>), Status> {
    match batch.num_rows() {
        0 => return Ok((Vec::new(), Vec::new())),
        1 => {}
        rows => return Err(Status::invalid_argument(format!("{rows} rows of parameters: a query takes one"))),
    }
    let mut params = Vec::with_capacity(batch.num_columns());
    let mut types = Vec::with_capacity(batch.num_columns());
    for (at, column) in batch.columns().iter().enumerate() {
        let (param, data_type) = value(column).ok_or_else(|| {
            let data_type = column.data_type();
            Status::invalid_argument(format!("parameter `${}` has the type {data_type}: give it as text", at + 1))
        })?;
        params.push(param);
        types.push(data_type);
    }
    Ok((params, types))
}

/// Reads a value, and the type that the engine is told; text is left open, so that it means what a literal would.
fn value(column: &ArrayRef) -> Option<(Parameter, Option<DataType>)> {
    let data_type = column.data_type();
    if let DataType::Dictionary(_, values) = data_type {
        return value(&cast(column, values).ok()?);
    }
    let text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    let named = (!text).then(|| data_type.clone());
    if column.is_null(0) || data_type == &DataType::Null {
        return Some((Parameter::Null, named));
    }
    let parameter = match data_type {
        DataType::Boolean => Parameter::Boolean(column.as_boolean().value(0)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => {
            Parameter::Integer(cast(column, &DataType::Int64).ok()?.as_primitive::<Int64Type>().value(0))
        }
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => {
            Parameter::Number(array_value_to_string(column, 0).ok()?)
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            Parameter::Float(cast(column, &DataType::Float64).ok()?.as_primitive::<Float64Type>().value(0))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            Parameter::Text(cast(column, &DataType::Utf8).ok()?.as_string::<i32>().value(0).to_owned())
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let bytes = cast(column, &DataType::Binary).ok()?.as_binary::<i32>().value(0).to_vec();
            return Some((Parameter::Bytes(bytes), Some(DataType::Binary)));
        }
        DataType::Timestamp(_, zone) => {
            let nanos = cast(column, &DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())).ok()?;
            let nanos = nanos.is_valid(0).then(|| nanos.as_primitive::<TimestampNanosecondType>().value(0))?;
            Parameter::Time { nanos, zoned: zone.is_some() }
        }
        DataType::Date32 | DataType::Date64 => {
            Parameter::Date(cast(column, &DataType::Date32).ok()?.as_primitive::<Date32Type>().value(0))
        }
        DataType::Time32(_) | DataType::Time64(_) => {
            let nanos = cast(column, &DataType::Time64(TimeUnit::Nanosecond)).ok()?;
            Parameter::Clock(nanos.as_primitive::<Time64NanosecondType>().value(0))
        }
        DataType::Duration(_) => {
            let nanos = cast(column, &DataType::Duration(TimeUnit::Nanosecond)).ok()?;
            let nanos = nanos.is_valid(0).then(|| nanos.as_primitive::<DurationNanosecondType>().value(0))?;
            Parameter::Interval { months: 0, days: 0, nanos }
        }
        DataType::Interval(_) => {
            let lengths = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano)).ok()?;
            let length = lengths.as_primitive::<IntervalMonthDayNanoType>().value(0);
            Parameter::Interval { months: length.months, days: length.days, nanos: length.nanoseconds }
        }
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let items = match data_type {
                DataType::List(_) => column.as_list::<i32>().value(0),
                DataType::LargeList(_) => column.as_list::<i64>().value(0),
                _ => column.as_fixed_size_list().value(0),
            };
            let item = |at| match value(&items.slice(at, 1))?.0 {
                Parameter::List(_) => None,
                item => Some(item),
            };
            return Some((Parameter::List((0..items.len()).map(item).collect::<Option<_>>()?), None));
        }
        _ => return None,
    };
    Some((parameter, named))
}

/// The parameters of a statement as a client is told of them. Times are announced in milliseconds: JDBC's driver counts in those
/// whatever is announced. A client that binds finer ones is understood.
pub(super) fn announced(types: &[DataType]) -> Schema {
    let told = |data_type: &DataType| match data_type {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        other => other.clone(),
    };
    let fields: Vec<Field> =
        (1..).zip(types).map(|(number, of)| Field::new(format!("${number}"), told(of), true)).collect();
    Schema::new(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, ListBuilder, StringArray, StringBuilder, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn batch(columns: Vec<ArrayRef>) -> RecordBatch {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new("p", c.data_type().clone(), true)).collect();
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
    }

    #[test]
    fn values_keep_their_types_and_text_is_left_open() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![7])),
            Arc::new(StringArray::from(vec!["x"])),
            Arc::new(TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC")),
            Arc::new(Int32Array::from(vec![None])),
        ];
        let (params, types) = read(&batch(columns)).expect("one row");
        let wanted = [
            Parameter::Integer(7),
            Parameter::Text("x".to_owned()),
            Parameter::Time { nanos: 1_000, zoned: true },
            Parameter::Null,
        ];
        assert_eq!(params, wanted);
        assert_eq!(types[0], Some(DataType::Int32));
        assert_eq!(types[1], None);
    }

    #[test]
    fn a_list_is_one_parameter_and_a_list_of_lists_is_none() {
        let mut builder = ListBuilder::new(StringBuilder::new());
        builder.append_value([Some("a"), None]);
        let list: ArrayRef = Arc::new(builder.finish());
        let (params, types) = read(&batch(vec![list])).expect("one row");
        assert_eq!(params, [Parameter::List(vec![Parameter::Text("a".to_owned()), Parameter::Null])]);
        assert_eq!(types, [None]);
        let mut nested = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
        nested.values().append_value([Some("a")]);
        nested.append(true);
        assert!(read(&batch(vec![Arc::new(nested.finish())])).is_err());
    }

    #[test]
    fn dates_times_of_day_and_lengths_of_time_are_read() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(arrow::array::Date32Array::from(vec![-1])),
            Arc::new(arrow::array::Time64MicrosecondArray::from(vec![5])),
            Arc::new(arrow::array::DurationMicrosecondArray::from(vec![-7])),
            Arc::new(TimestampMicrosecondArray::from(vec![-1])),
        ];
        let (params, _) = read(&batch(columns)).expect("one row");
        let wanted = [
            Parameter::Date(-1),
            Parameter::Clock(5_000),
            Parameter::Interval { months: 0, days: 0, nanos: -7_000 },
            Parameter::Time { nanos: -1_000, zoned: false },
        ];
        assert_eq!(params, wanted);
        // What nanoseconds do not hold is refused, not wrapped.
        let far: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX / 2]));
        assert!(read(&batch(vec![far])).is_err());
    }

    #[test]
    fn several_rows_are_refused() {
        assert!(read(&batch(vec![Arc::new(Int32Array::from(vec![1, 2]))])).is_err());
    }
}

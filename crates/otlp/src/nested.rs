//! Types of columns that hold other columns, and what such a column holds where that is nothing; made once and shared.
//!
//! *Why shared.* A batch is checked against its schema, and batches are put behind one another, by comparing types. Types that share
//! their fields are compared by one look at a pointer; ones made anew for every batch cost a hundred allocations and a walk through all of them.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, StructArray, new_empty_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};

use crate::schema::{UTC, field, optional, shared_text, timestamp};

static UTC_ZONE: LazyLock<Arc<str>> = LazyLock::new(|| UTC.into());

/// Returns the time zone of every timestamp column.
pub(crate) fn utc() -> Arc<str> {
    Arc::clone(&UTC_ZONE)
}

static ATTRIBUTE_ENTRY: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![Field::new("key", shared_text(), false), Field::new("value", DataType::Utf8, true)])
});

/// The fields of one entry of an attribute map. Names repeat over many entries, values need not.
pub fn attribute_entry() -> Fields {
    ATTRIBUTE_ENTRY.clone()
}

fn entries(entry: Fields) -> FieldRef {
    Arc::new(Field::new("entries", DataType::Struct(entry), false))
}

static ATTRIBUTE_ENTRIES: LazyLock<FieldRef> = LazyLock::new(|| entries(attribute_entry()));

/// Returns the field of the entries of an attribute map.
pub(crate) fn attribute_entries() -> FieldRef {
    Arc::clone(&ATTRIBUTE_ENTRIES)
}

fn none_of(fields: Fields) -> ArrayRef {
    new_empty_array(&DataType::Struct(fields))
}

static NO_ATTRIBUTES: LazyLock<StructArray> = LazyLock::new(|| StructArray::from(none_of(attribute_entry()).to_data()));

/// Returns no entries of attribute maps.
pub(crate) fn no_attributes() -> StructArray {
    NO_ATTRIBUTES.clone()
}

/// An attribute map: names to text, entries in the order of the wire.
pub fn attributes() -> DataType {
    DataType::Map(attribute_entries(), false)
}

/// A map of text to text without dictionaries: an attribute map as clients see it.
pub fn plain_attributes() -> DataType {
    let entry = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)];
    DataType::Map(entries(Fields::from(entry)), false)
}

fn item(of: DataType) -> FieldRef {
    Arc::new(Field::new("item", of, false))
}

static F64_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::Float64));

/// Returns the field of the items of a list of floats.
pub(crate) fn f64_item() -> FieldRef {
    Arc::clone(&F64_ITEM)
}

static U64_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::UInt64));

/// Returns the field of the items of a list of unsigned numbers.
pub(crate) fn u64_item() -> FieldRef {
    Arc::clone(&U64_ITEM)
}

static EVENT: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("time", timestamp()),
        field("name", DataType::Utf8),
        field("attributes", attributes()),
        optional("attribute_types", DataType::Utf8),
        field("dropped_attributes_count", DataType::UInt32),
    ])
});

/// The fields of one span event, in order.
pub fn event_fields() -> Fields {
    EVENT.clone()
}

static EVENT_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::Struct(event_fields())));

/// Returns the field of the items of a list of events.
pub(crate) fn event_item() -> FieldRef {
    Arc::clone(&EVENT_ITEM)
}

static NO_EVENTS: LazyLock<ArrayRef> = LazyLock::new(|| none_of(event_fields()));

/// Returns no events.
pub(crate) fn no_events() -> ArrayRef {
    Arc::clone(&NO_EVENTS)
}

static LINK: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("trace_id", DataType::Binary),
        field("span_id", DataType::Binary),
        optional("trace_state", DataType::Utf8),
        field("flags", DataType::UInt32),
        field("attributes", attributes()),
        optional("attribute_types", DataType::Utf8),
        field("dropped_attributes_count", DataType::UInt32),
    ])
});

/// The fields of one span link, in order. Ids are bytes as they came: a link with a malformed id is kept.
pub fn link_fields() -> Fields {
    LINK.clone()
}

static LINK_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::Struct(link_fields())));

/// Returns the field of the items of a list of links.
pub(crate) fn link_item() -> FieldRef {
    Arc::clone(&LINK_ITEM)
}

static NO_LINKS: LazyLock<ArrayRef> = LazyLock::new(|| none_of(link_fields()));

/// Returns no links.
pub(crate) fn no_links() -> ArrayRef {
    Arc::clone(&NO_LINKS)
}

static EXEMPLAR: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        field("time", timestamp()),
        optional("value", DataType::Float64),
        optional("value_int", DataType::Int64),
        field("trace_id", DataType::Binary),
        field("span_id", DataType::Binary),
        field("filtered_attributes", attributes()),
        optional("filtered_attribute_types", DataType::Utf8),
    ])
});

/// The fields of one exemplar of a metric point, in order.
pub fn exemplar_fields() -> Fields {
    EXEMPLAR.clone()
}

static EXEMPLAR_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::Struct(exemplar_fields())));

/// Returns the field of the items of a list of exemplars.
pub(crate) fn exemplar_item() -> FieldRef {
    Arc::clone(&EXEMPLAR_ITEM)
}

static NO_EXEMPLARS: LazyLock<ArrayRef> = LazyLock::new(|| none_of(exemplar_fields()));

/// Returns no exemplars.
pub(crate) fn no_exemplars() -> ArrayRef {
    Arc::clone(&NO_EXEMPLARS)
}

static QUANTILE: LazyLock<Fields> =
    LazyLock::new(|| Fields::from(vec![field("quantile", DataType::Float64), field("value", DataType::Float64)]));

/// The fields of one quantile of a summary point, in order.
pub fn quantile_fields() -> Fields {
    QUANTILE.clone()
}

static QUANTILE_ITEM: LazyLock<FieldRef> = LazyLock::new(|| item(DataType::Struct(quantile_fields())));

/// Returns the field of the items of a list of quantiles.
pub(crate) fn quantile_item() -> FieldRef {
    Arc::clone(&QUANTILE_ITEM)
}

/// Returns the bytes that a row takes in a column of this type, what is behind its offsets not counted.
pub(crate) fn slot_bytes(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(0),
        // A bit, for which a byte is taken while the column grows.
        DataType::Boolean => 1,
        // Offsets, or keys.
        _ => data_type.primitive_width().unwrap_or(size_of::<u32>()),
    }
}

//! Which Postgres type a column has. The wire and the catalogue agree because both ask here.
//!
//! Unsigned 64-bit integers are `numeric`, because no Postgres integer holds them; maps, structs and lists of either are
//! `jsonb`; lists of anything else are arrays.

use arrow::datatypes::{DataType, Field};

use plimsoll_otlp::schema::UTC;

use crate::functions::{FACE, FACE_JSON};

/// A Postgres type that values leave as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PgType {
    /// `boolean`
    Bool,
    /// `bytea`
    Bytea,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`
    Text,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `interval`
    Interval,
    /// `jsonb`
    Jsonb,
}

impl PgType {
    /// Returns the object ids of the type and of arrays of it.
    fn oids(self) -> (u32, u32) {
        match self {
            Self::Bool => (16, 1000),
            Self::Bytea => (17, 1001),
            Self::Int8 => (20, 1016),
            Self::Int2 => (21, 1005),
            Self::Int4 => (23, 1007),
            Self::Text => (25, 1009),
            Self::Float4 => (700, 1021),
            Self::Float8 => (701, 1022),
            Self::Date => (1082, 1182),
            Self::Time => (1083, 1183),
            Self::Timestamp => (1114, 1115),
            Self::Timestamptz => (1184, 1185),
            Self::Interval => (1186, 1187),
            Self::Numeric => (1700, 1231),
            Self::Jsonb => (3802, 3807),
        }
    }

    /// Returns the bytes of a value; -1 where they vary.
    fn length(self) -> i16 {
        match self {
            Self::Bool => 1,
            Self::Int2 => 2,
            Self::Int4 | Self::Float4 | Self::Date => 4,
            Self::Int8 | Self::Float8 | Self::Time | Self::Timestamp | Self::Timestamptz => 8,
            Self::Interval => 16,
            Self::Bytea | Self::Numeric | Self::Text | Self::Jsonb => -1,
        }
    }

    /// Returns the name that SQL knows the type by.
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Bytea => "bytea",
            Self::Int2 => "smallint",
            Self::Int4 => "integer",
            Self::Int8 => "bigint",
            Self::Float4 => "real",
            Self::Float8 => "double precision",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Date => "date",
            Self::Time => "time without time zone",
            Self::Timestamp => "timestamp without time zone",
            Self::Timestamptz => "timestamp with time zone",
            Self::Interval => "interval",
            Self::Jsonb => "jsonb",
        }
    }

    /// Returns the name in `pg_type`, as `information_schema` shows it for `udt_name`.
    fn short_name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Bytea => "bytea",
            Self::Int2 => "int2",
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Float4 => "float4",
            Self::Float8 => "float8",
            Self::Numeric => "numeric",
            Self::Text => "text",
            Self::Date => "date",
            Self::Time => "time",
            Self::Timestamp => "timestamp",
            Self::Timestamptz => "timestamptz",
            Self::Interval => "interval",
            Self::Jsonb => "jsonb",
        }
    }

    fn of(field: &Field) -> Self {
        if field.metadata().get(FACE).is_some_and(|face| face == FACE_JSON) {
            return Self::Jsonb;
        }
        match field.data_type() {
            DataType::Boolean => Self::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::Int2,
            DataType::Int32 | DataType::UInt16 => Self::Int4,
            DataType::Int64 | DataType::UInt32 => Self::Int8,
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::Numeric,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytea
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            // What a clock shows in some zone has none in Postgres.
            DataType::Timestamp(_, Some(zone)) if zone.as_ref() == UTC => Self::Timestamptz,
            DataType::Timestamp(..) => Self::Timestamp,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::Map(..)
            | DataType::Struct(_)
            | DataType::Union(..)
            | DataType::List(_)
            | DataType::LargeList(_)
            | DataType::ListView(_)
            | DataType::LargeListView(_)
            | DataType::FixedSizeList(..) => Self::Jsonb,
            DataType::Dictionary(_, value) => Self::of(&Field::new("", value.as_ref().clone(), true)),
            DataType::RunEndEncoded(_, values) => Self::of(values),
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
        }
    }
}

/// The type of a column: a type, or an array of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnType {
    /// The type of the values, or of the elements.
    pub element: PgType,
    /// Whether each value is an array.
    pub array: bool,
}

impl ColumnType {
    /// Plain text.
    pub const TEXT: Self = Self { element: PgType::Text, array: false };

    /// Returns the type that values of `data_type` have.
    pub fn of_type(data_type: &DataType) -> Self {
        Self::of(&Field::new("", data_type.clone(), true))
    }

    /// Returns the type that values of `field` leave as.
    pub fn of(field: &Field) -> Self {
        match field.data_type() {
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let element = PgType::of(item);
                match element {
                    PgType::Jsonb => Self { element, array: false },
                    _ => Self { element, array: true },
                }
            }
            _ => Self { element: PgType::of(field), array: false },
        }
    }

    /// Returns the object id, as `pg_type` and row descriptions have it.
    pub fn oid(self) -> u32 {
        let (element, array) = self.element.oids();
        if self.array { array } else { element }
    }

    /// Finds the type with an object id, where values are sent as one of that type.
    pub fn from_oid(oid: u32) -> Option<Self> {
        const ALL: [PgType; 15] = [
            PgType::Bool,
            PgType::Bytea,
            PgType::Int2,
            PgType::Int4,
            PgType::Int8,
            PgType::Float4,
            PgType::Float8,
            PgType::Numeric,
            PgType::Text,
            PgType::Date,
            PgType::Time,
            PgType::Timestamp,
            PgType::Timestamptz,
            PgType::Interval,
            PgType::Jsonb,
        ];
        // What reads as text: "char", name, oid and regclass come as integers.
        match oid {
            18 | 19 | 114 | 705 | 1042 | 1043 | 2950 => return Some(Self { element: PgType::Text, array: false }),
            26 | 2205 | 2206 => return Some(Self { element: PgType::Int8, array: false }),
            1028 => return Some(Self { element: PgType::Int8, array: true }),
            1002 | 1003 | 1014 | 1015 | 2951 => return Some(Self { element: PgType::Text, array: true }),
            _ => {}
        }
        ALL.into_iter().find_map(|element| {
            let (own, array) = element.oids();
            (own == oid || array == oid).then_some(Self { element, array: array == oid })
        })
    }

    /// Returns the bytes of a value; -1 where they vary.
    pub fn length(self) -> i16 {
        if self.array { -1 } else { self.element.length() }
    }

    /// Returns the name that SQL knows the type by: `bigint`, `text[]`.
    pub fn word(self) -> String {
        let name = self.element.name();
        if self.array { format!("{name}[]") } else { name.to_owned() }
    }

    /// Returns the name for `information_schema.columns.data_type`.
    pub(crate) fn name(self) -> &'static str {
        if self.array { "ARRAY" } else { self.element.name() }
    }

    /// Returns the name in `pg_type`.
    pub(crate) fn udt_name(self) -> String {
        let name = self.element.short_name();
        if self.array { format!("_{name}") } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use std::sync::Arc;

    fn of(data_type: DataType) -> ColumnType {
        ColumnType::of(&Field::new("c", data_type, true))
    }

    #[test]
    fn a_type_is_found_again_by_its_object_id() {
        let list = |item| DataType::List(Arc::new(Field::new("item", item, true)));
        for data_type in [
            DataType::Boolean,
            DataType::Int64,
            DataType::UInt64,
            DataType::Float64,
            DataType::Utf8,
            DataType::Binary,
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            list(DataType::Utf8),
            list(DataType::UInt64),
            list(DataType::Struct(vec![Field::new("a", DataType::Utf8, true)].into())),
        ] {
            let column = of(data_type);
            assert_eq!(ColumnType::from_oid(column.oid()), Some(column));
        }
    }

    #[test]
    fn nested_values_are_json_and_plain_lists_are_arrays() {
        let item = Arc::new(Field::new("item", DataType::Float64, true));
        assert_eq!(of(DataType::List(Arc::clone(&item))).oid(), 1022);
        let nested = Arc::new(Field::new("item", DataType::List(item), true));
        assert_eq!(of(DataType::List(nested)).oid(), 3802);
        let json =
            Field::new("r", DataType::Utf8, true).with_metadata([(FACE.to_owned(), FACE_JSON.to_owned())].into());
        assert_eq!(ColumnType::of(&json).oid(), 3802);
    }
}

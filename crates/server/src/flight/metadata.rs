//! What the server says of itself and of keys, which are none.

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::SqlInfo;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{Nullable, Searchable, SqlSupportedTransaction, XdbcDataType};

/// What the server can do.
pub(super) static SQL_INFO: LazyLock<SqlInfoData> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Plimsoll");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "database");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlSelectForUpdateSupported, false);
    info.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    info.append(SqlInfo::SqlBatchUpdatesSupported, false);
    info.append(SqlInfo::SqlSavepointsSupported, false);
    info.append(SqlInfo::SqlNamedParametersSupported, false);
    // Drivers ask for all of these, and fail where one is missing.
    for limit in UNLIMITED {
        info.append(*limit, 0_i64);
    }
    for words in WORDS {
        info.append(*words, &[] as &[&str]);
    }
    for (what, is_so) in YES_OR_NO {
        info.append(*what, *is_so);
    }
    for (what, which) in CHOICES {
        info.append(*what, *which);
    }
    info.append(SqlInfo::SqlProcedureTerm, "function");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.build().expect("each value has the type of its name")
});

/// What has no limit of its own, which is 0.
const UNLIMITED: &[SqlInfo] = &[
    SqlInfo::SqlMaxBinaryLiteralLength,
    SqlInfo::SqlMaxCharLiteralLength,
    SqlInfo::SqlMaxColumnNameLength,
    SqlInfo::SqlMaxColumnsInGroupBy,
    SqlInfo::SqlMaxColumnsInIndex,
    SqlInfo::SqlMaxColumnsInOrderBy,
    SqlInfo::SqlMaxColumnsInSelect,
    SqlInfo::SqlMaxColumnsInTable,
    SqlInfo::SqlMaxConnections,
    SqlInfo::SqlMaxCursorNameLength,
    SqlInfo::SqlMaxIndexLength,
    SqlInfo::SqlDbSchemaNameLength,
    SqlInfo::SqlMaxProcedureNameLength,
    SqlInfo::SqlMaxCatalogNameLength,
    SqlInfo::SqlMaxRowSize,
    SqlInfo::SqlMaxStatementLength,
    SqlInfo::SqlMaxStatements,
    SqlInfo::SqlMaxTableNameLength,
    SqlInfo::SqlMaxTablesInSelect,
    SqlInfo::SqlMaxUsernameLength,
    // Of isolation: each query reads one snapshot, and there are no transactions.
    SqlInfo::SqlDefaultTransactionIsolation,
];

/// Lists of words beyond the standard: functions are in `information_schema.routines`.
const WORDS: &[SqlInfo] = &[
    SqlInfo::SqlKeywords,
    SqlInfo::SqlNumericFunctions,
    SqlInfo::SqlStringFunctions,
    SqlInfo::SqlSystemFunctions,
    SqlInfo::SqlDatetimeFunctions,
];

const YES_OR_NO: &[(SqlInfo, bool)] = &[
    (SqlInfo::SqlAllTablesAreSelectable, true),
    (SqlInfo::SqlSupportsColumnAliasing, true),
    (SqlInfo::SqlNullPlusNullIsNull, true),
    (SqlInfo::SqlSupportsTableCorrelationNames, true),
    (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
    (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
    (SqlInfo::SqlSupportsOrderByUnrelated, true),
    (SqlInfo::SqlSupportsLikeEscapeClause, true),
    (SqlInfo::SqlSupportsNonNullableColumns, true),
    (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
    (SqlInfo::SqlStoredProceduresSupported, false),
    (SqlInfo::SqlMaxRowSizeIncludesBlobs, false),
    (SqlInfo::SqlTransactionsSupported, false),
    (SqlInfo::SqlDataDefinitionCausesTransactionCommit, false),
    (SqlInfo::SqlDataDefinitionsInTransactionsIgnored, true),
    (SqlInfo::SqlLocatorsUpdateCopy, false),
    (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false),
];

/// Choices, and sets of bits, by the numbers of Flight SQL's own enumerations.
const CHOICES: &[(SqlInfo, i32)] = &[
    // Names are folded to lower case, and kept as they are in quotes.
    (SqlInfo::SqlIdentifierCase, 3),
    (SqlInfo::SqlQuotedIdentifierCase, 1),
    // Nulls sort as the greatest.
    (SqlInfo::SqlNullOrdering, 0),
    // Grouping by what is not selected, and beyond what is.
    (SqlInfo::SqlSupportedGroupBy, 0b11),
    // The core grammar.
    (SqlInfo::SqlSupportedGrammar, 0b10),
    (SqlInfo::SqlOuterJoinsSupportLevel, 0b10),
    // Schemas and catalogs stand in queries alone.
    (SqlInfo::SqlSchemasSupportedActions, 0),
    (SqlInfo::SqlCatalogsSupportedActions, 0),
    (SqlInfo::SqlSupportedPositionedCommands, 0),
    (SqlInfo::SqlSupportedSubqueries, 0b1111),
    (SqlInfo::SqlSupportedUnions, 0b11),
    (SqlInfo::SqlSupportedTransactionsIsolationLevels, 0b1),
    // Forward only, and read only.
    (SqlInfo::SqlSupportedResultSetTypes, 0b10),
    (SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, 0b10),
    (SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, 0b10),
    (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, 0),
    (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0),
];

/// The types that columns have.
pub(super) static TYPES: LazyLock<XdbcTypeInfoData> = LazyLock::new(|| {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size) in [
        ("Boolean", XdbcDataType::XdbcBit, 1),
        ("Int64", XdbcDataType::XdbcBigint, 19),
        ("UInt64", XdbcDataType::XdbcNumeric, 20),
        ("Float64", XdbcDataType::XdbcDouble, 53),
        ("Utf8", XdbcDataType::XdbcVarchar, i32::MAX),
        ("Binary", XdbcDataType::XdbcBinary, i32::MAX),
        ("Timestamp", XdbcDataType::XdbcTimestamp, 9),
    ] {
        types.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            column_size: Some(size),
            literal_prefix: (name == "Utf8").then(|| "'".to_owned()),
            literal_suffix: (name == "Utf8").then(|| "'".to_owned()),
            create_params: None,
            nullable: Nullable::NullabilityNullable,
            case_sensitive: true,
            searchable: Searchable::Full,
            unsigned_attribute: Some(name == "UInt64"),
            fixed_prec_scale: false,
            auto_increment: Some(false),
            local_type_name: Some(name.to_owned()),
            minimum_scale: None,
            maximum_scale: None,
            sql_data_type: data_type,
            datetime_subcode: None,
            num_prec_radix: None,
            interval_precision: None,
        });
    }
    types.build().expect("each row has a value of each column")
});

/// Keys of tables: there are none.
pub(super) static PRIMARY_KEYS: LazyLock<RecordBatch> = LazyLock::new(|| {
    empty(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ])
});

/// Keys between tables: there are none.
pub(super) static FOREIGN_KEYS: LazyLock<RecordBatch> = LazyLock::new(|| {
    empty(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        Field::new("update_rule", DataType::UInt8, false),
        Field::new("delete_rule", DataType::UInt8, false),
    ])
});

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

fn empty(fields: Vec<Field>) -> RecordBatch {
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    RecordBatch::new_empty(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_of_itself_can_be_built() {
        assert!(SQL_INFO.record_batch([]).expect("all of it").num_rows() > 10);
        assert_eq!(TYPES.record_batch(None).expect("all of it").num_rows(), 7);
    }
}

//! Rows of the catalogue about the tables that users query.
//!
//! *Cost.* Built when a catalogue query asks for them, once a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::ReaderBuilder;
use datafusion::catalog::CatalogProvider;
use datafusion::common::Result;
use datafusion::logical_expr::TableType;
use serde_json::{Value, json};

use super::ColumnType;
use crate::output::Output;
use crate::tables::{CATALOG, Namespace};

/// Object id of the one role, and its name.
pub(super) const OWNER: (i32, &str) = (10, "plimsoll");
/// Object id of the one database.
pub(super) const DATABASE: i32 = 5;
/// Where ids of our own objects begin, as in Postgres.
const FIRST_OID: i32 = 16_384;
/// Ids set aside for the tables of one schema.
const OIDS_PER_SCHEMA: i32 = 1_000;

/// Schemas that every Postgres has, with their ids.
pub(super) const SYSTEM_SCHEMAS: [(i32, &str); 2] = [(11, "pg_catalog"), (13_000, "information_schema")];

/// A table, as the catalogue sees it.
pub(super) struct Relation {
    oid: i32,
    schema_oid: i32,
    schema: String,
    name: String,
    view: bool,
    columns: SchemaRef,
}

/// Ids and names of the schemas that hold tables.
pub(super) fn schemas(namespace: &Namespace) -> Vec<(i32, String)> {
    let named = |(at, name): (usize, String)| {
        // The id that `public` has everywhere.
        let oid = if name == "public" { 2_200 } else { FIRST_OID - 100 + i32::try_from(at).unwrap_or_default() };
        (oid, name)
    };
    namespace.schema_names().into_iter().enumerate().map(named).collect()
}

/// Lists the tables of every schema, in the order of their ids.
pub(super) async fn list(namespace: &Namespace) -> Result<Vec<Relation>> {
    let mut relations = Vec::new();
    for (schema_at, (schema_oid, schema)) in (0_i32..).zip(schemas(namespace)) {
        let Some(provider) = namespace.schema(&schema) else { continue };
        for (at, name) in (0_i32..).zip(provider.table_names()) {
            let Some(table) = provider.table(&name).await? else { continue };
            relations.push(Relation {
                oid: FIRST_OID + schema_at * OIDS_PER_SCHEMA + at,
                schema_oid,
                schema: schema.clone(),
                name,
                view: table.table_type() == TableType::View,
                // The types that clients are sent.
                columns: Arc::clone(Output::new(&table.schema()).schema()),
            });
        }
    }
    Ok(relations)
}

/// Builds one table of the catalogue; `None` where it is not about relations.
pub(super) fn build(name: &str, namespace: &Namespace, relations: &[Relation]) -> Option<Result<RecordBatch>> {
    let views = || relations.iter().filter(|relation| relation.view);
    Some(match name {
        "pg_namespace" => rows(&namespace_columns(), namespaces(namespace)),
        "pg_class" => rows(&class_columns(), relations.iter().map(class)),
        "pg_attribute" => rows(&attribute_columns(), relations.iter().flat_map(attributes)),
        "pg_tables" => rows(&tables_columns(), relations.iter().filter(|relation| !relation.view).map(table)),
        "pg_views" => rows(&columns(&DataType::Utf8, "schemaname viewname viewowner definition"), views().map(view)),
        "information_schema_views" => rows(&info_views_columns(), views().map(info_view)),
        "information_schema_tables" => rows(&info_tables_columns(), relations.iter().map(info_table)),
        "information_schema_columns" => rows(&info_columns_columns(), relations.iter().flat_map(info_columns)),
        "information_schema_schemata" => rows(&schemata_columns(), schemata(namespace)),
        _ => return None,
    })
}

/// A column of the catalogue.
pub(super) type Column = (&'static str, DataType);

/// Makes columns of one type out of names that are separated by blanks. Rights and options are always lists.
pub(super) fn columns(data_type: &DataType, names: &'static str) -> Vec<Column> {
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let of = |name: &str| name.ends_with("acl") || name.ends_with("options");
    let column = |name: &'static str| (name, if of(name) { list.clone() } else { data_type.clone() });
    names.split_ascii_whitespace().map(column).collect()
}

/// Makes a batch of rows; what a row leaves out is null.
pub(super) fn rows(columns: &[Column], rows: impl IntoIterator<Item = Value>) -> Result<RecordBatch> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let rows: Vec<Value> = rows.into_iter().collect();
    let mut decoder = ReaderBuilder::new(Arc::clone(&schema)).with_batch_size(rows.len().max(1)).build_decoder()?;
    decoder.serialize(&rows)?;
    Ok(decoder.flush()?.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn namespace_columns() -> Vec<Column> {
    let mut all = columns(&DataType::Int32, "oid nspowner");
    all.extend(columns(&DataType::Utf8, "nspname nspacl"));
    all
}

fn every_schema(namespace: &Namespace) -> impl Iterator<Item = (i32, String)> {
    let system = SYSTEM_SCHEMAS.into_iter().map(|(oid, name)| (oid, name.to_owned()));
    schemas(namespace).into_iter().chain(system)
}

fn namespaces(namespace: &Namespace) -> impl Iterator<Item = Value> {
    every_schema(namespace).map(|(oid, name)| json!({"oid": oid, "nspname": name, "nspowner": OWNER.0}))
}

fn class_columns() -> Vec<Column> {
    let mut all = columns(
        &DataType::Int32,
        "oid relnamespace reltype reloftype relowner relam relfilenode reltablespace relpages relallvisible reltoastrelid \
         relrewrite relfrozenxid relminmxid",
    );
    all.extend(columns(&DataType::Utf8, "relname relpersistence relkind relreplident relpartbound relacl reloptions"));
    all.extend(columns(&DataType::Float64, "reltuples"));
    all.extend(columns(&DataType::Int16, "relnatts relchecks"));
    all.extend(columns(
        &DataType::Boolean,
        "relhasindex relisshared relhasrules relhastriggers relhassubclass relrowsecurity relforcerowsecurity relispopulated \
         relispartition relhasoids",
    ));
    all
}

fn class(relation: &Relation) -> Value {
    json!({
        "oid": relation.oid, "relname": relation.name, "relnamespace": relation.schema_oid, "reltype": 0, "reloftype": 0,
        "relowner": OWNER.0, "relam": 2, "relfilenode": relation.oid, "reltablespace": 0, "relpages": 0, "reltuples": -1.0,
        "relallvisible": 0, "reltoastrelid": 0, "relhasindex": false, "relisshared": false, "relpersistence": "p",
        "relkind": if relation.view { "v" } else { "r" }, "relnatts": relation.columns.fields().len(), "relchecks": 0, "relhasrules": false,
        "relhastriggers": false, "relhassubclass": false, "relrowsecurity": false, "relforcerowsecurity": false,
        "relispopulated": true, "relreplident": "n", "relispartition": false, "relrewrite": 0, "relfrozenxid": 0,
        "relminmxid": 0, "relhasoids": false,
    })
}

fn attribute_columns() -> Vec<Column> {
    let mut all = columns(
        &DataType::Int32,
        "attrelid atttypid attstattarget attndims attcacheoff atttypmod attinhcount attcollation",
    );
    all.extend(columns(&DataType::Int16, "attlen attnum"));
    all.extend(columns(
        &DataType::Utf8,
        "attname attalign attstorage attcompression attidentity attgenerated attacl attoptions attfdwoptions attmissingval",
    ));
    all.extend(columns(&DataType::Boolean, "attbyval attnotnull atthasdef atthasmissing attisdropped attislocal"));
    all
}

fn attributes(relation: &Relation) -> impl Iterator<Item = Value> {
    (1..).zip(relation.columns.fields()).map(|(number, field)| {
        let column = ColumnType::of(field);
        json!({
            "attrelid": relation.oid, "attname": field.name(), "atttypid": column.oid(), "attstattarget": -1,
            "attlen": column.length(), "attnum": number, "attndims": i32::from(column.array), "attcacheoff": -1,
            "atttypmod": -1, "attbyval": (1..=8).contains(&column.length()), "attalign": "i", "attstorage": "p",
            "attcompression": "", "attnotnull": !field.is_nullable(), "atthasdef": false, "atthasmissing": false,
            "attidentity": "", "attgenerated": "", "attisdropped": false, "attislocal": true, "attinhcount": 0,
            "attcollation": 0,
        })
    })
}

fn tables_columns() -> Vec<Column> {
    let mut all = columns(&DataType::Utf8, "schemaname tablename tableowner tablespace");
    all.extend(columns(&DataType::Boolean, "hasindexes hasrules hastriggers rowsecurity"));
    all
}

fn table(relation: &Relation) -> Value {
    json!({
        "schemaname": relation.schema, "tablename": relation.name, "tableowner": OWNER.1, "hasindexes": false,
        "hasrules": false, "hastriggers": false, "rowsecurity": false,
    })
}

fn info_tables_columns() -> Vec<Column> {
    columns(
        &DataType::Utf8,
        "table_catalog table_schema table_name table_type self_referencing_column_name reference_generation \
         user_defined_type_catalog user_defined_type_schema user_defined_type_name is_insertable_into is_typed commit_action",
    )
}

fn info_table(relation: &Relation) -> Value {
    json!({
        "table_catalog": CATALOG, "table_schema": relation.schema, "table_name": relation.name, "table_type": if relation.view { "VIEW" } else { "BASE TABLE" },
        "is_insertable_into": "NO", "is_typed": "NO",
    })
}

/// Views are made in the server: there is no statement that defines them.
fn view(relation: &Relation) -> Value {
    json!({"schemaname": relation.schema, "viewname": relation.name, "viewowner": OWNER.1})
}

fn info_views_columns() -> Vec<Column> {
    columns(
        &DataType::Utf8,
        "table_catalog table_schema table_name view_definition check_option is_updatable is_insertable_into \
         is_trigger_updatable is_trigger_deletable is_trigger_insertable_into",
    )
}

fn info_view(relation: &Relation) -> Value {
    json!({
        "table_catalog": CATALOG, "table_schema": relation.schema, "table_name": relation.name, "check_option": "NONE",
        "is_updatable": "NO", "is_insertable_into": "NO", "is_trigger_updatable": "NO", "is_trigger_deletable": "NO",
        "is_trigger_insertable_into": "NO",
    })
}

fn info_columns_columns() -> Vec<Column> {
    let mut all = columns(
        &DataType::Utf8,
        "table_catalog table_schema table_name column_name column_default is_nullable data_type character_set_name \
         collation_name domain_name udt_catalog udt_schema udt_name is_identity identity_generation is_generated \
         generation_expression is_updatable dtd_identifier",
    );
    all.extend(columns(
        &DataType::Int32,
        "ordinal_position character_maximum_length character_octet_length numeric_precision numeric_precision_radix \
         numeric_scale datetime_precision interval_precision",
    ));
    all
}

fn info_columns(relation: &Relation) -> impl Iterator<Item = Value> {
    (1..).zip(relation.columns.fields()).map(|(number, field)| {
        let column = ColumnType::of(field);
        json!({
            "table_catalog": CATALOG, "table_schema": relation.schema, "table_name": relation.name,
            "column_name": field.name(), "ordinal_position": number,
            "is_nullable": if field.is_nullable() { "YES" } else { "NO" }, "data_type": column.name(),
            "udt_catalog": CATALOG, "udt_schema": "pg_catalog", "udt_name": column.udt_name(), "is_identity": "NO",
            "is_generated": "NEVER", "is_updatable": "NO",
        })
    })
}

fn schemata_columns() -> Vec<Column> {
    columns(
        &DataType::Utf8,
        "catalog_name schema_name schema_owner default_character_set_catalog default_character_set_schema \
         default_character_set_name sql_path",
    )
}

fn schemata(namespace: &Namespace) -> impl Iterator<Item = Value> {
    every_schema(namespace)
        .map(|(_, name)| json!({"catalog_name": CATALOG, "schema_name": name, "schema_owner": OWNER.1}))
}

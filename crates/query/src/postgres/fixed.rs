//! Rows of the catalogue that are the same in every installation: types and operators as Postgres has them, one role, one
//! database, settings; and the tables that are empty because nothing here has indexes, keys, triggers or policies.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{DataFusionError, Result};
use datafusion_pg_catalog::pg_catalog::{ArrowTable, PgCatalogStaticTables};
use serde_json::{Value, json};

use super::relations::{Column, DATABASE, OWNER, columns, rows};
use crate::tables::CATALOG;

/// The version of Postgres that clients are told: what they may expect of the protocol and the catalogue.
pub const SERVER_VERSION: &str = "15.0";

/// Tables that this module builds itself.
const OWN: &[&str] = &["pg_settings", "pg_roles", "pg_authid", "pg_user", "pg_database", "pg_tablespace"];

/// Tables without rows whose shape no other place has.
const BARE: &[(&str, &str)] = &[
    ("pg_matviews", "schemaname matviewname matviewowner tablespace hasindexes ispopulated definition"),
    ("pg_indexes", "schemaname tablename indexname tablespace indexdef"),
    ("pg_sequences", "schemaname sequencename sequenceowner data_type start_value min_value max_value last_value"),
    ("pg_stat_activity", "datid datname pid usesysid usename application_name client_addr state query backend_type"),
    ("pg_user_mappings", "umid srvid srvname umuser usename umoptions"),
    ("pg_stat_ssl", "pid ssl version cipher bits client_dn client_serial issuer_dn"),
    ("pg_stat_gssapi", "pid gss_authenticated principal encrypted"),
    ("pg_stat_user_tables", "relid schemaname relname seq_scan seq_tup_read idx_scan n_live_tup n_dead_tup"),
    ("pg_available_extensions", "name default_version installed_version comment"),
    ("pg_timezone_names", "name abbrev utc_offset is_dst"),
    (
        "information_schema_table_constraints",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type \
         is_deferrable initially_deferred enforced",
    ),
    (
        "information_schema_key_column_usage",
        "constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name \
         ordinal_position position_in_unique_constraint",
    ),
    (
        "information_schema_constraint_column_usage",
        "table_catalog table_schema table_name column_name constraint_catalog constraint_schema constraint_name",
    ),
    (
        "information_schema_referential_constraints",
        "constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema \
         unique_constraint_name match_option update_rule delete_rule",
    ),
    (
        "information_schema_sequences",
        "sequence_catalog sequence_schema sequence_name data_type start_value minimum_value maximum_value increment",
    ),
    (
        "information_schema_triggers",
        "trigger_catalog trigger_schema trigger_name event_manipulation event_object_schema event_object_table",
    ),
    ("pg_locks", "locktype database relation page tuple pid mode granted"),
    ("pg_cursors", "name statement is_holdable is_binary is_scrollable creation_time"),
    ("pg_prepared_statements", "name statement prepare_time parameter_types from_sql"),
    ("pg_prepared_xacts", "transaction gid prepared owner database"),
    ("pg_rules", "schemaname tablename rulename definition"),
    ("pg_policies", "schemaname tablename policyname permissive roles cmd qual with_check"),
    ("pg_stats", "schemaname tablename attname inherited null_frac avg_width n_distinct correlation"),
    ("pg_stat_all_tables", "relid schemaname relname seq_scan seq_tup_read idx_scan n_live_tup n_dead_tup"),
    ("pg_stat_user_indexes", "relid indexrelid schemaname relname indexrelname idx_scan"),
    ("pg_stat_database", "datid datname numbackends xact_commit xact_rollback blks_read blks_hit"),
    ("pg_stat_replication", "pid usename application_name client_addr state"),
    ("pg_replication_slots", "slot_name plugin slot_type datoid database active"),
    ("pg_publication_tables", "pubname schemaname tablename"),
    ("pg_group", "groname grosysid grolist"),
    ("pg_timezone_abbrevs", "abbrev utc_offset is_dst"),
    ("information_schema_table_privileges", PRIVILEGES),
    ("information_schema_role_table_grants", PRIVILEGES),
    ("information_schema_column_privileges", PRIVILEGES),
    ("information_schema_usage_privileges", PRIVILEGES),
    ("information_schema_enabled_roles", "role_name"),
    ("information_schema_applicable_roles", "grantee role_name is_grantable"),
    ("information_schema_character_sets", "character_set_catalog character_set_schema character_set_name"),
    ("information_schema_collations", "collation_catalog collation_schema collation_name pad_attribute"),
    ("information_schema_domains", "domain_catalog domain_schema domain_name data_type"),
    ("information_schema_check_constraints", "constraint_catalog constraint_schema constraint_name check_clause"),
    ("information_schema_element_types", "object_catalog object_schema object_name object_type data_type"),
];

/// What `information_schema` says of rights: everything may be read, which nobody was granted.
const PRIVILEGES: &str =
    "grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable with_hierarchy";

/// Takes tables of `PgCatalogStaticTables` by name.
macro_rules! tables_of_postgres {
    (as_they_are: [$($full:ident),* $(,)?], emptied: [$($empty:ident),* $(,)?]) => {
        const AS_THEY_ARE: &[&str] = &[$(stringify!($full)),*];
        const EMPTIED: &[&str] = &[$(stringify!($empty)),*];

        fn table_of_postgres<'a>(tables: &'a PgCatalogStaticTables, name: &str) -> Option<&'a Arc<ArrowTable>> {
            match name {
                $(stringify!($full) => Some(&tables.$full),)*
                $(stringify!($empty) => Some(&tables.$empty),)*
                _ => None,
            }
        }
    };
}

tables_of_postgres! {
    as_they_are: [
        pg_aggregate, pg_am, pg_amop, pg_amproc, pg_cast, pg_collation, pg_conversion, pg_get_keywords, pg_language, pg_opclass, pg_operator,
        pg_opfamily, pg_proc, pg_range, pg_ts_config, pg_ts_dict, pg_ts_parser, pg_ts_template, pg_type,
    ],
    // What they hold describes the installation that they were taken from.
    emptied: [
        pg_attrdef, pg_auth_members, pg_constraint, pg_db_role_setting, pg_default_acl, pg_depend, pg_description, pg_enum,
        pg_event_trigger, pg_extension, pg_foreign_data_wrapper, pg_foreign_server, pg_foreign_table, pg_index, pg_inherits,
        pg_init_privs, pg_largeobject, pg_largeobject_metadata, pg_partitioned_table, pg_policy, pg_publication,
        pg_publication_namespace, pg_publication_rel, pg_replication_origin, pg_rewrite, pg_seclabel, pg_sequence,
        pg_shdepend, pg_shdescription, pg_shseclabel, pg_statistic, pg_statistic_ext, pg_statistic_ext_data,
        pg_subscription, pg_subscription_rel, pg_trigger, pg_user_mapping,
    ]
}

static OF_POSTGRES: LazyLock<std::result::Result<PgCatalogStaticTables, String>> =
    LazyLock::new(|| PgCatalogStaticTables::try_new().map_err(|error| error.to_string()));

/// Says whether a table of the catalogue has no rows, whatever is stored.
pub(super) fn is_empty(name: &str) -> bool {
    EMPTIED.contains(&name) || BARE.iter().any(|(bare, _)| *bare == name)
}

/// Lists the tables of this module.
pub(super) fn names() -> impl Iterator<Item = &'static &'static str> {
    // `pg_proc` is built where functions are known.
    OWN.iter()
        .chain(AS_THEY_ARE.iter().filter(|name| **name != "pg_proc"))
        .chain(EMPTIED)
        .chain(BARE.iter().map(|(name, _)| name))
}

/// Builds a table; `None` where there is none of this name.
pub(super) fn build(name: &str) -> Option<Result<RecordBatch>> {
    if let Some((_, names)) = BARE.iter().find(|(bare, _)| *bare == name) {
        return Some(rows(&columns(&DataType::Utf8, names), []));
    }
    Some(match name {
        "pg_settings" => rows(&settings_columns(), SETTINGS.iter().map(|(name, setting)| setting_row(name, setting))),
        "pg_roles" | "pg_authid" => rows(&roles_columns(), [role()]),
        "pg_user" => rows(&user_columns(), [user()]),
        "pg_database" => rows(&database_columns(), [database()]),
        "pg_tablespace" => {
            rows(&tablespace_columns(), [json!({"oid": 1663, "spcname": "pg_default", "spcowner": OWNER.0})])
        }
        other => return of_postgres(other),
    })
}

/// Builds a table as Postgres has it.
pub(super) fn of_postgres(name: &str) -> Option<Result<RecordBatch>> {
    let tables = match OF_POSTGRES.as_ref() {
        Ok(tables) => tables,
        Err(problem) => return Some(Err(DataFusionError::Internal(problem.clone()))),
    };
    let table = table_of_postgres(tables, name)?;
    let schema = table.schema();
    if is_empty(name) {
        return Some(Ok(RecordBatch::new_empty(schema)));
    }
    let whole = arrow::compute::concat_batches(&schema, table.data()).ok()?;
    Some(Ok(with_lists_of_rights(whole)))
}

/// Makes lists of rights that nobody was granted what they are in Postgres: `array_to_string(typacl, ..)` takes no text.
fn with_lists_of_rights(table: RecordBatch) -> RecordBatch {
    let rights =
        |field: &Field, column: &ArrayRef| field.name().ends_with("acl") && column.null_count() == column.len();
    let list = DataType::new_list(DataType::Utf8, true);
    let both =
        table.schema_ref().fields().iter().zip(table.columns()).map(|(field, column)| match rights(field, column) {
            true => (Arc::new(Field::new(field.name(), list.clone(), true)), new_null_array(&list, column.len())),
            false => (Arc::clone(field), Arc::clone(column)),
        });
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) = both.unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap_or(table)
}

/// Settings that clients ask for.
const SETTINGS: &[(&str, &str)] = &[
    ("server_version", SERVER_VERSION),
    ("server_version_num", "150000"),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("search_path", "\"$user\", public"),
    ("TimeZone", "UTC"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("standard_conforming_strings", "on"),
    ("integer_datetimes", "on"),
    ("is_superuser", "off"),
    ("max_identifier_length", "63"),
    ("max_index_keys", "32"),
    ("default_transaction_read_only", "on"),
    ("transaction_read_only", "on"),
    ("default_transaction_isolation", "read committed"),
    ("transaction_isolation", "read committed"),
    ("lc_collate", "C"),
    ("lc_ctype", "C"),
    ("bytea_output", "hex"),
    ("extra_float_digits", "1"),
    ("jit", "off"),
];

/// Returns the value of a setting that cannot be changed; names are told apart without regard to case.
pub(super) fn setting(name: &str) -> Option<&'static str> {
    SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

fn settings_columns() -> Vec<Column> {
    let mut all = columns(
        &DataType::Utf8,
        "name setting unit category short_desc extra_desc context vartype source min_val max_val boot_val reset_val \
         sourcefile",
    );
    all.push(("enumvals", DataType::Utf8));
    all.push(("sourceline", DataType::Int32));
    all.push(("pending_restart", DataType::Boolean));
    all
}

fn setting_row(name: &str, setting: &str) -> Value {
    json!({
        "name": name, "setting": setting, "category": "Preset Options", "context": "internal", "vartype": "string",
        "source": "default", "boot_val": setting, "reset_val": setting, "pending_restart": false,
    })
}

fn roles_columns() -> Vec<Column> {
    let mut all = columns(&DataType::Utf8, "rolname rolpassword rolvaliduntil rolconfig");
    all.extend(columns(
        &DataType::Boolean,
        "rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolbypassrls",
    ));
    all.extend(columns(&DataType::Int32, "oid rolconnlimit"));
    all
}

fn role() -> Value {
    json!({
        "oid": OWNER.0, "rolname": OWNER.1, "rolsuper": false, "rolinherit": true, "rolcreaterole": false,
        "rolcreatedb": false, "rolcanlogin": true, "rolreplication": false, "rolbypassrls": false, "rolconnlimit": -1,
    })
}

fn user_columns() -> Vec<Column> {
    let mut all = columns(&DataType::Utf8, "usename passwd valuntil useconfig");
    all.extend(columns(&DataType::Boolean, "usecreatedb usesuper userepl usebypassrls"));
    all.extend(columns(&DataType::Int32, "usesysid"));
    all
}

fn user() -> Value {
    json!({
        "usename": OWNER.1, "usesysid": OWNER.0, "usecreatedb": false, "usesuper": false, "userepl": false,
        "usebypassrls": false,
    })
}

fn database_columns() -> Vec<Column> {
    let mut all = columns(
        &DataType::Int32,
        "oid datdba encoding datconnlimit datlastsysoid datfrozenxid datminmxid dattablespace",
    );
    all.extend(columns(
        &DataType::Utf8,
        "datname datlocprovider datcollate datctype daticulocale daticurules datcollversion datacl",
    ));
    all.extend(columns(&DataType::Boolean, "datistemplate datallowconn"));
    all
}

fn database() -> Value {
    json!({
        "oid": DATABASE, "datname": CATALOG, "datdba": OWNER.0, "encoding": 6, "datlocprovider": "c", "datcollate": "C",
        "datctype": "C", "datistemplate": false, "datallowconn": true, "datconnlimit": -1, "datlastsysoid": 0,
        "datfrozenxid": 0, "datminmxid": 0, "dattablespace": 1663,
    })
}

fn tablespace_columns() -> Vec<Column> {
    let mut all = columns(&DataType::Int32, "oid spcowner");
    all.extend(columns(&DataType::Utf8, "spcname spcacl spcoptions"));
    all
}

//! Functions in the catalogue: `pg_proc`, `information_schema.routines` and `parameters`, and what describes one function.
//!
//! Functions of Plimsoll are in the schema `public`, with what they take and give. All others that may be called are in `pg_catalog`: with
//! the rows that Postgres has of them, or, where it has none, with one row that takes and gives anything. Of the functions that Postgres
//! has and this server has not, only those stay that read and write types, which rows of `pg_type` name.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, ListBuilder, RecordBatch, StringBuilder};
use arrow::compute::{cast, concat_batches, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::Result;
use serde_json::{Value, json};

use super::fixed;
use super::own_functions::{OWN, WRITTEN};
use super::relations::{Column, OWNER, rows};
use crate::functions;
use crate::quantified::array_items;
use crate::tables::CATALOG;

/// Where ids of our functions begin; those of tables are below.
const FIRST_OID: i32 = 30_000;
/// Ids of the schemas `public` and `pg_catalog`.
const SCHEMAS: [(i32, &str); 2] = [(2_200, "public"), (11, "pg_catalog")];
/// The type of a value of any type, and of a row.
const ANY: (i32, &str) = (2_276, "\"any\"");
const RECORD: (i32, &str) = (2_249, "record");

/// One row of `pg_proc`, as far as anything is said of it.
#[derive(Debug, Clone)]
struct Routine {
    oid: i32,
    schema: usize,
    name: String,
    kind: char,
    set: bool,
    /// Names, empty where there is none, and types.
    arguments: Vec<(String, String)>,
    result: String,
    about: Option<&'static str>,
}

impl Routine {
    fn arguments(&self) -> String {
        let written: Vec<String> =
            self.arguments.iter().map(|(name, of)| format!("{name} {of}").trim().to_owned()).collect();
        written.join(", ")
    }

    fn result(&self) -> String {
        if self.set { format!("SETOF {}", self.result) } else { self.result.clone() }
    }
}

/// Everything that is said of functions.
struct Routines {
    listed: BTreeMap<i32, Routine>,
    /// Rows of Postgres' own functions.
    of_postgres: Option<RecordBatch>,
}

static ROUTINES: LazyLock<Routines> = LazyLock::new(Routines::new);

impl Routines {
    fn new() -> Self {
        let own = OWN.iter().zip(FIRST_OID..).map(|((kind, name, arguments, result, about), oid)| Routine {
            oid,
            schema: 0,
            name: (*name).to_owned(),
            kind: if *kind == 't' { 'f' } else { *kind },
            set: *kind == 't',
            arguments: arguments.iter().map(|(name, of)| ((*name).to_owned(), (*of).to_owned())).collect(),
            result: (*result).to_owned(),
            about: Some(about),
        });
        let mut listed: BTreeMap<i32, Routine> = own.map(|routine| (routine.oid, routine)).collect();
        let known: HashSet<&str> = OWN.iter().map(|own| own.1).collect();
        let of_ours = super::functions::scalar();
        let callable: HashSet<&str> =
            functions::names().into_iter().chain(of_ours.iter().map(|function| function.name())).collect();
        let mut told: HashSet<String> = HashSet::new();
        let of_postgres = fixed::of_postgres("pg_proc").and_then(Result::ok).and_then(|all| {
            let names = all.column_by_name("proname")?.as_string_opt::<i32>()?;
            let oids = all.column_by_name("oid")?.as_primitive_opt::<Int32Type>()?;
            let results = all.column_by_name("prorettype")?.as_primitive_opt::<Int32Type>()?;
            let kinds = all.column_by_name("prokind")?.as_string_opt::<i32>()?;
            let sets = all.column_by_name("proretset")?.as_boolean_opt()?;
            let taken = all.column_by_name("proargtypes")?.as_string_opt::<i32>()?;
            let types = type_words()?;
            let word = |oid: i32| types.get(&oid).cloned().unwrap_or_else(|| ANY.1.to_owned());
            let mut kept = Vec::with_capacity(all.num_rows());
            for row in 0..all.num_rows() {
                let name = names.value(row);
                let called = callable.contains(name) && !known.contains(name);
                kept.push(called || for_types(name));
                if !kept[row] {
                    continue;
                }
                told.insert(name.to_owned());
                let arguments = taken.value(row).split_ascii_whitespace().filter_map(|oid| oid.parse().ok());
                let routine = Routine {
                    oid: oids.value(row),
                    schema: 1,
                    name: name.to_owned(),
                    kind: kinds.value(row).chars().next().unwrap_or('f'),
                    set: sets.value(row),
                    arguments: arguments.map(|oid| (String::new(), word(oid))).collect(),
                    result: word(results.value(row)),
                    about: None,
                };
                listed.insert(routine.oid, routine);
            }
            filter_record_batch(&all, &kept.into()).ok()
        });
        let mut others: Vec<&str> =
            callable.iter().copied().filter(|name| !known.contains(name) && !told.contains(*name)).collect();
        others.retain(|name| !WRITTEN.contains(name));
        others.sort_unstable();
        let from = FIRST_OID + 1_000;
        listed.extend(others.into_iter().zip(from..).map(|(name, oid)| {
            let routine = Routine {
                oid,
                schema: 1,
                name: name.to_owned(),
                kind: 'f',
                set: false,
                arguments: vec![("VARIADIC".to_owned(), ANY.1.to_owned())],
                result: ANY.1.to_owned(),
                about: None,
            };
            (oid, routine)
        }));
        Self { listed, of_postgres }
    }
}

/// Says whether a function of Postgres reads or writes the values of a type, as rows of `pg_type` say.
fn for_types(name: &str) -> bool {
    ["in", "out", "recv", "send", "typanalyze"].iter().any(|end| name.ends_with(end))
}

/// What SQL calls types, by their object ids.
fn type_words() -> Option<BTreeMap<i32, String>> {
    let types = fixed::of_postgres("pg_type")?.ok()?;
    let names = types.column_by_name("typname")?.as_string_opt::<i32>()?;
    let oids = types.column_by_name("oid")?.as_primitive_opt::<Int32Type>()?;
    let word = |name: &str| match name.strip_prefix('_') {
        Some(item) => format!("{}[]", sql_name(item)),
        None => sql_name(name).to_owned(),
    };
    Some((0..types.num_rows()).map(|row| (oids.value(row), word(names.value(row)))).collect())
}

/// Finds the id of a type by the name that SQL or the catalogue has for it.
pub(super) fn type_named(name: &str) -> Option<i32> {
    static WORDS: LazyLock<BTreeMap<i32, String>> = LazyLock::new(|| type_words().unwrap_or_default());
    let lower = name.trim().to_ascii_lowercase();
    let bare = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    let word = match bare.strip_suffix("[]") {
        Some(item) => format!("{}[]", sql_name(item)),
        None => sql_name(bare).to_owned(),
    };
    WORDS.iter().find(|(_, known)| **known == word).map(|(oid, _)| *oid)
}

fn sql_name(name: &str) -> &str {
    match name {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        "bpchar" => "character",
        "varchar" => "character varying",
        "varbit" => "bit varying",
        "any" | "char" => match name {
            "any" => ANY.1,
            _ => "\"char\"",
        },
        other => other,
    }
}

/// Returns the arguments of a function as they are written.
pub(super) fn arguments(oid: i32) -> Option<String> {
    ROUTINES.listed.get(&oid).map(Routine::arguments)
}

/// Returns what a function gives.
pub(super) fn result(oid: i32) -> Option<String> {
    ROUTINES.listed.get(&oid).map(Routine::result)
}

/// Returns a sentence about a function.
pub(super) fn about(oid: i32) -> Option<String> {
    ROUTINES.listed.get(&oid)?.about.map(str::to_owned)
}

/// Returns what stands in the place of a function's definition.
pub(super) fn definition(oid: i32) -> Option<String> {
    let routine = ROUTINES.listed.get(&oid)?;
    let about = routine.about.map_or_else(String::new, |about| format!(": {about}"));
    Some(format!(
        "-- {}.{}({}) is built into the server{about}\n-- RETURNS {}\n",
        SCHEMAS[routine.schema].1,
        routine.name,
        routine.arguments(),
        routine.result()
    ))
}

/// Builds one table of the catalogue; `None` where it is not about functions.
pub(super) fn build(name: &str) -> Option<Result<RecordBatch>> {
    Some(match name {
        "pg_proc" => pg_proc(),
        "information_schema_routines" => rows(&routines_columns(), ROUTINES.listed.values().map(routine)),
        "information_schema_parameters" => rows(&parameters_columns(), ROUTINES.listed.values().flat_map(parameters)),
        _ => return None,
    })
}

/// The tables that [`build`] knows.
pub(super) const NAMES: &[&str] = &["pg_proc", "information_schema_routines", "information_schema_parameters"];

fn pg_proc() -> Result<RecordBatch> {
    let of_postgres = ROUTINES.of_postgres.as_ref();
    let theirs: HashSet<i32> = of_postgres
        .and_then(|batch| batch.column_by_name("oid"))
        .and_then(|oids| oids.as_primitive_opt::<Int32Type>())
        .map(|oids| oids.values().iter().copied().collect())
        .unwrap_or_default();
    let ours = ROUTINES.listed.values().filter(|routine| !theirs.contains(&routine.oid)).map(proc);
    let added = rows(&proc_columns(), ours)?;
    match of_postgres {
        Some(batch) => {
            let names: Vec<&str> = proc_columns().iter().map(|(name, _)| *name).collect();
            let indices = names.iter().map(|name| batch.schema().index_of(name)).collect::<Result<Vec<_>, _>>()?;
            let columns = batch.project(&indices)?.columns().to_vec();
            let schema = added.schema();
            let brought: Vec<ArrayRef> = columns
                .iter()
                .zip(schema.fields())
                .map(|(column, field)| as_list(column, field.data_type()))
                .collect::<Result<_>>()?;
            let theirs = RecordBatch::try_new(schema, brought)?;
            Ok(concat_batches(&added.schema(), [&added, &theirs])?)
        }
        None => Ok(added),
    }
}

/// Reads lists that are written as text, `{a,b}`, where lists are wanted.
fn as_list(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let (DataType::List(item), Some(texts)) = (wanted, column.as_string_opt::<i32>()) else {
        return Ok(Arc::clone(column));
    };
    let mut lists = ListBuilder::new(StringBuilder::new());
    for text in texts {
        match text.and_then(array_items) {
            Some(items) => lists.append_value(items),
            None => lists.append_null(),
        }
    }
    let lists: ArrayRef = Arc::new(lists.finish());
    Ok(cast(&lists, &DataType::List(Arc::clone(item)))?)
}

fn proc_columns() -> Vec<Column> {
    let mut all = plain(&DataType::Int32, "oid pronamespace proowner prolang provariadic prorettype");
    all.extend(plain(
        &DataType::Utf8,
        "proname prosupport prokind provolatile proparallel proargtypes proargdefaults protrftypes prosrc probin \
         prosqlbody",
    ));
    all.extend(plain(&DataType::new_list(DataType::Utf8, true), "proargmodes proargnames proconfig proacl"));
    all.extend(plain(&DataType::new_list(DataType::Int32, true), "proallargtypes"));
    all.extend(plain(&DataType::Float32, "procost prorows"));
    all.extend(plain(&DataType::Boolean, "prosecdef proleakproof proisstrict proretset"));
    all.extend(plain(&DataType::Int16, "pronargs pronargdefaults"));
    all
}

/// Columns of one type, whatever they are called.
fn plain(data_type: &DataType, names: &'static str) -> Vec<Column> {
    names.split_ascii_whitespace().map(|name| (name, data_type.clone())).collect()
}

fn type_oid(word: &str) -> i32 {
    match word {
        "text" => 25,
        "bigint" => 20,
        "integer" => 23,
        "integer[]" => 1_007,
        "numeric" => 1_700,
        "numeric[]" => 1_231,
        "double precision" => 701,
        "interval" => 1_186,
        "timestamp with time zone" => 1_184,
        "jsonb" => 3_802,
        "bytea" => 17,
        "record" => RECORD.0,
        _ => ANY.0,
    }
}

fn proc(routine: &Routine) -> Value {
    let types: Vec<String> = routine.arguments.iter().map(|(_, of)| type_oid(of).to_string()).collect();
    let names: Vec<&str> = routine
        .arguments
        .iter()
        .map(|(name, _)| name.trim_start_matches("VARIADIC").trim().trim_matches('"'))
        .collect();
    let variadic = routine.arguments.iter().any(|(name, _)| name.starts_with("VARIADIC"));
    json!({
        "oid": routine.oid, "proname": routine.name, "pronamespace": SCHEMAS[routine.schema].0, "proowner": OWNER.0,
        "prolang": 12, "procost": 1.0, "prorows": if routine.set { 1_000.0 } else { 0.0 },
        "provariadic": if variadic { ANY.0 } else { 0 }, "prosupport": "-", "prokind": routine.kind.to_string(),
        "prosecdef": false, "proleakproof": false, "proisstrict": false, "proretset": routine.set, "provolatile": "s",
        "proparallel": "s", "pronargs": routine.arguments.len(), "pronargdefaults": 0,
        "prorettype": type_oid(&routine.result), "proargtypes": types.join(" "),
        "proargnames": names, "prosrc": routine.name,
    })
}

fn routines_columns() -> Vec<Column> {
    plain(
        &DataType::Utf8,
        "specific_catalog specific_schema specific_name routine_catalog routine_schema routine_name routine_type data_type \
         type_udt_catalog type_udt_schema type_udt_name routine_body routine_definition external_language is_deterministic \
         sql_data_access is_null_call security_type description",
    )
}

fn specific(routine: &Routine) -> String {
    format!("{}_{}", routine.name, routine.oid)
}

fn routine(routine: &Routine) -> Value {
    let schema = SCHEMAS[routine.schema].1;
    json!({
        "specific_catalog": CATALOG, "specific_schema": schema, "specific_name": specific(routine),
        "routine_catalog": CATALOG, "routine_schema": schema, "routine_name": routine.name,
        "routine_type": if routine.kind == 'p' { "PROCEDURE" } else { "FUNCTION" }, "data_type": routine.result,
        "type_udt_catalog": CATALOG, "type_udt_schema": "pg_catalog", "routine_body": "EXTERNAL",
        "external_language": "INTERNAL", "is_deterministic": "NO", "sql_data_access": "READS SQL DATA",
        "is_null_call": "NO", "security_type": "INVOKER", "description": routine.about,
    })
}

fn parameters_columns() -> Vec<Column> {
    let mut all = plain(
        &DataType::Utf8,
        "specific_catalog specific_schema specific_name parameter_mode is_result as_locator parameter_name data_type \
         udt_catalog udt_schema udt_name parameter_default",
    );
    all.extend(plain(&DataType::Int32, "ordinal_position"));
    all
}

fn parameters(routine: &Routine) -> impl Iterator<Item = Value> {
    (1..).zip(&routine.arguments).map(move |(number, (name, of))| {
        let name = name.trim_start_matches("VARIADIC").trim().trim_matches('"');
        json!({
            "specific_catalog": CATALOG, "specific_schema": SCHEMAS[routine.schema].1, "specific_name": specific(routine),
            "ordinal_position": number, "parameter_mode": "IN", "is_result": "NO", "as_locator": "NO",
            "parameter_name": if name.is_empty() { Value::Null } else { json!(name) }, "data_type": of,
            "udt_catalog": CATALOG, "udt_schema": "pg_catalog",
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::TABLE_FUNCTIONS;

    #[test]
    fn every_function_of_ours_is_listed_and_nothing_else_is() {
        let scalar = functions::scalar();
        let aggregate = functions::aggregate();
        let there: HashSet<&str> = scalar
            .iter()
            .map(|function| function.name())
            .chain(aggregate.iter().map(|function| function.name()))
            .chain(TABLE_FUNCTIONS.iter().copied())
            .filter(|name| !WRITTEN.contains(name))
            .collect();
        let listed: HashSet<&str> = OWN.iter().map(|own| own.1).collect();
        assert_eq!(listed, there);
    }

    #[test]
    fn a_function_is_described_and_what_cannot_be_called_is_not_listed() {
        let oid = |name: &str| ROUTINES.listed.values().find(|one| one.name == name).map(|one| one.oid);
        let quantile = oid("quantile").expect("it is listed");
        assert_eq!(result(quantile).as_deref(), Some("double precision"));
        assert!(definition(quantile).expect("it has words").contains("built into the server"));
        let around = oid("spans_around").expect("it is listed");
        assert_eq!(arguments(around).as_deref(), Some("deploy text, before interval, after interval"));
        assert_eq!(result(around).as_deref(), Some("SETOF record"));
        assert_eq!(oid("array_in"), Some(750), "types name what reads them");
        assert_eq!(oid("pg_read_file"), None);
        let lower = oid("lower").expect("it is callable");
        assert_eq!(result(lower).as_deref(), Some("text"));
    }
}

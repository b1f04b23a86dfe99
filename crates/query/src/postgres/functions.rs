//! Functions that catalogue queries call. Most have one answer here, whatever they are asked: there is one role, one database,
//! no index and no comment.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion_pg_catalog::pg_catalog as crate_functions;

use super::fixed::{SERVER_VERSION, setting};
use super::relations::OWNER;
use super::{json_object, words};
use crate::tables::{CATALOG, SCHEMA};

/// Functions that answer null.
const UNKNOWN: &[&str] = &[
    "col_description",
    "shobj_description",
    "pg_get_expr",
    "pg_get_function_sqlbody",
    "pg_advisory_unlock_all",
    "pg_get_viewdef",
    "pg_get_indexdef",
    "pg_get_triggerdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_constraintdef",
    "pg_get_partkeydef",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_tablespace_location",
    "pg_partition_ancestors",
    "inet_server_addr",
    "inet_client_addr",
];
const TRUE: &[&str] = &[
    "pg_table_is_visible",
    "pg_type_is_visible",
    "pg_function_is_visible",
    "pg_operator_is_visible",
    "pg_opclass_is_visible",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
];
const FALSE: &[&str] = &[
    "pg_is_in_recovery",
    "pg_relation_is_publishable",
    "pg_is_other_temp_schema",
    "pg_relation_is_updatable",
    "row_security_active",
];
const ZERO: &[&str] = &[
    "pg_relation_size",
    "pg_table_size",
    "pg_indexes_size",
    "pg_total_relation_size",
    "pg_database_size",
    "pg_tablespace_size",
    "pg_stat_get_numscans",
    "pg_my_temp_schema",
    "txid_current",
    "inet_server_port",
];
const RIGHTS: &[&str] = &[
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_function_privilege",
    "has_sequence_privilege",
    "has_tablespace_privilege",
    "pg_has_role",
];

/// Returns every function of this module.
pub(crate) fn scalar() -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<ScalarUDF> = Vec::new();
    let mut constants = |names: &[&'static str], value: ScalarValue| {
        all.extend(names.iter().map(|name| ScalarUDF::from(Constant::new(name, value.clone()))));
    };
    let text = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
    constants(UNKNOWN, ScalarValue::Utf8(None));
    constants(TRUE, ScalarValue::Boolean(Some(true)));
    constants(FALSE, ScalarValue::Boolean(Some(false)));
    constants(ZERO, ScalarValue::Int64(Some(0)));
    constants(&["pg_backend_pid"], ScalarValue::Int64(Some(i64::from(std::process::id()))));
    constants(&["pg_size_pretty"], text("0 bytes"));
    constants(&["pg_get_userbyid", "session_user"], text(OWNER.1));
    constants(&["current_database"], text(CATALOG));
    constants(&["current_schema"], text(SCHEMA));
    constants(&["pg_encoding_to_char", "pg_client_encoding", "getdatabaseencoding"], text("UTF8"));
    constants(&["pg_char_to_encoding"], ScalarValue::Int32(Some(6)));
    let version = format!("PostgreSQL {SERVER_VERSION} (Plimsoll {})", env!("CARGO_PKG_VERSION"));
    constants(&["version"], text(&version));
    all.extend(RIGHTS.iter().map(|name| ScalarUDF::from(Rights { name, signature: any() })));
    all.extend(words::scalar());
    all.extend(json_object::scalar());
    all.extend([
        ScalarUDF::from(CurrentSetting { signature: any() }),
        ScalarUDF::from(SetConfig { signature: any() }),
        crate_functions::create_current_schemas_udf(),
        crate_functions::format_type::create_format_type_udf(),
        crate_functions::quote_ident_udf::create_quote_ident_udf(),
        crate_functions::quote_ident_udf::create_parse_ident_udf(),
        crate_functions::array_bounds_udf::create_array_upper_udf(),
        crate_functions::array_bounds_udf::create_array_lower_udf(),
    ]);
    all.into_iter().map(Arc::new).collect()
}

/// Any number of arguments of any type, none included.
pub(super) fn any() -> Signature {
    Signature::one_of(vec![TypeSignature::VariadicAny, TypeSignature::Nullary], Volatility::Stable)
}

/// A function with one answer.
#[derive(Debug, PartialEq, Eq)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        Self { name, value, signature: any() }
    }
}

impl Hash for Constant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `has_.._privilege(.., 'SELECT')`: everything may be read, nothing written.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Rights {
    name: &'static str,
    signature: Signature,
}

impl ScalarUDFImpl for Rights {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        const READING: &[&str] = &["SELECT", "USAGE", "CONNECT", "EXECUTE", "MEMBER"];
        let Some(last) = args.args.last() else { return exec_err!("`{}` takes the name of a right", self.name) };
        let rights = cast(&last.to_array(args.number_rows)?, &DataType::Utf8)?;
        let may = |text: &str| {
            let text = text.to_ascii_uppercase();
            text.split(',').any(|one| READING.iter().any(|reading| one.trim().starts_with(reading)))
        };
        let answers: BooleanArray = rights.as_string::<i32>().iter().map(|text| text.map(may)).collect();
        Ok(ColumnarValue::Array(Arc::new(answers)))
    }
}

pub(super) fn texts(value: &ColumnarValue, rows: usize) -> Result<ArrayRef> {
    Ok(cast(&value.to_array(rows)?, &DataType::Utf8)?)
}

/// `current_setting(name)`; null where there is no such setting.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.first() else { return exec_err!("`current_setting` takes the name of a setting") };
        let names = texts(first, args.number_rows)?;
        let values: StringArray = names.as_string::<i32>().iter().map(|name| name.and_then(setting)).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}

/// `set_config(name, value, local)`: sets nothing and returns the value, as programs expect that set their search path.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    signature: Signature,
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [_, value, ..] = args.args.as_slice() else { return exec_err!("`set_config` takes a name and a value") };
        Ok(ColumnarValue::Array(texts(value, args.number_rows)?))
    }
}

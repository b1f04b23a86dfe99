//! Functions about types, names and other functions: `pg_typeof`, `format`, `quote_literal`, `pg_get_functiondef` and its kin.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

use super::functions::{any, texts};
use super::{ColumnType, routines};

/// The most that `format` makes of one row.
const FORMAT_BYTES_MAX: usize = 1 << 20;

pub(super) fn scalar() -> Vec<ScalarUDF> {
    let about = |name, answer| ScalarUDF::from(About { name, answer, signature: any() });
    vec![
        about("pg_get_functiondef", Answer::Definition),
        about("pg_get_function_arguments", Answer::Arguments),
        about("pg_get_function_identity_arguments", Answer::Arguments),
        about("pg_get_function_result", Answer::Result),
        about("obj_description", Answer::Description),
        ScalarUDF::from(TypeOf { signature: any() }),
        ScalarUDF::from(TypeNamed { signature: any() }),
        ScalarUDF::from(Format { signature: any() }),
        ScalarUDF::from(QuoteLiteral { signature: any(), nullable: false }),
        ScalarUDF::from(QuoteLiteral { signature: any(), nullable: true }),
    ]
}

/// What is asked about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Definition,
    Arguments,
    Result,
    Description,
}

/// Functions of the object id of a function; `obj_description` takes the catalogue that the id belongs to as well.
#[derive(Debug, PartialEq, Eq, Hash)]
struct About {
    name: &'static str,
    answer: Answer,
    signature: Signature,
}

impl ScalarUDFImpl for About {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(first) = args.args.first() else { return exec_err!("`{}` takes the id of a function", self.name) };
        if self.answer == Answer::Description {
            let of = args.args.get(1).map(|of| texts(of, 1)).transpose()?;
            if !of.is_some_and(|of| of.as_string::<i32>().iter().flatten().any(|of| of == "pg_proc")) {
                return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)));
            }
        }
        let oids = cast(&first.to_array(args.number_rows)?, &DataType::Int32)?;
        let answer = |oid: i32| match self.answer {
            Answer::Definition => routines::definition(oid),
            Answer::Arguments => routines::arguments(oid),
            Answer::Result => routines::result(oid),
            Answer::Description => routines::about(oid),
        };
        let told: StringArray = oids.as_primitive::<Int32Type>().iter().map(|oid| oid.and_then(answer)).collect();
        Ok(ColumnarValue::Array(Arc::new(told)))
    }
}

/// `pg_typeof(value)`: what Postgres calls the type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeOf {
    signature: Signature,
}

impl ScalarUDFImpl for TypeOf {
    fn name(&self) -> &str {
        "pg_typeof"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [field] = args.arg_fields.as_slice() else { return exec_err!("`pg_typeof` takes one value") };
        let word = match field.data_type() {
            DataType::Null => "unknown".to_owned(),
            _ => ColumnType::of(field).word(),
        };
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(word))))
    }
}

/// `to_regtype(name)`: the id of a type, null where there is none of the name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct TypeNamed {
    signature: Signature,
}

impl ScalarUDFImpl for TypeNamed {
    fn name(&self) -> &str {
        "to_regtype"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [name] = args.args.as_slice() else { return exec_err!("`to_regtype` takes the name of a type") };
        let names = texts(name, args.number_rows)?;
        let oids: Int32Array =
            names.as_string::<i32>().iter().map(|name| name.and_then(routines::type_named)).collect();
        Ok(ColumnarValue::Array(Arc::new(oids)))
    }
}

fn literal(text: &str) -> String {
    let quoted = format!("'{}'", text.replace('\'', "''"));
    if quoted.contains('\\') { format!("E{}", quoted.replace('\\', "\\\\")) } else { quoted }
}

fn identifier(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// `quote_literal(value)`, and `quote_nullable(value)`, which writes `NULL` for null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct QuoteLiteral {
    signature: Signature,
    nullable: bool,
}

impl ScalarUDFImpl for QuoteLiteral {
    fn name(&self) -> &str {
        if self.nullable { "quote_nullable" } else { "quote_literal" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return exec_err!("`{}` takes one value", self.name()) };
        let values = texts(value, args.number_rows)?;
        let null = self.nullable.then(|| "NULL".to_owned());
        let quoted = |text: Option<&str>| text.map(literal).or_else(|| null.clone());
        let quoted: StringArray = values.as_string::<i32>().iter().map(quoted).collect();
        Ok(ColumnarValue::Array(Arc::new(quoted)))
    }
}

/// `format(template, ..)` with `%s`, `%I`, `%L`, `%%` and `%n$s`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((template, values)) = args.args.split_first() else {
            return exec_err!("`format` takes a template, for instance `format('%s is %s', name, duration_ns)`");
        };
        let templates = texts(template, args.number_rows)?;
        let values: Vec<ArrayRef> = values.iter().map(|value| texts(value, args.number_rows)).collect::<Result<_>>()?;
        let columns: Vec<&StringArray> = values.iter().map(|values| values.as_string::<i32>()).collect();
        let mut out = StringBuilder::new();
        for (row, template) in templates.as_string::<i32>().iter().enumerate() {
            let cell = |column: usize| columns.get(column).map(|c| c.is_valid(row).then(|| c.value(row)));
            match template {
                Some(template) => match formatted(template, cell) {
                    Ok(text) => out.append_value(text),
                    Err(problem) => return exec_err!("{problem}"),
                },
                None => out.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(out.finish())))
    }
}

/// Fills a template in; `cell` gives the value of an argument, which may be null, where there is one.
fn formatted<'v>(template: &str, cell: impl Fn(usize) -> Option<Option<&'v str>>) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    let (mut rest, mut next) = (template, 0_usize);
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (at, after) = match (after[..digits].parse::<usize>(), after[digits..].strip_prefix('$')) {
            (Ok(number @ 1..), Some(after)) => (Some(number - 1), after),
            _ if digits == 0 => (None, after),
            _ => return Err("`format` takes no widths, and counts its arguments from 1".to_owned()),
        };
        let form = after.chars().next();
        rest = &after[form.map_or(0, char::len_utf8)..];
        if form == Some('%') {
            out.push('%');
            continue;
        }
        let at = at.unwrap_or(next);
        next = at + 1;
        let Some(value) = cell(at) else { return Err("`format` has too few arguments for its template".to_owned()) };
        match (form, value) {
            (Some('s'), value) => out.push_str(value.unwrap_or_default()),
            (Some('I'), Some(value)) => out.push_str(&identifier(value)),
            (Some('I'), None) => return Err("`format` was given null for a name, `%I`".to_owned()),
            (Some('L'), value) => out.push_str(&value.map_or_else(|| "NULL".to_owned(), literal)),
            _ => return Err("`format` knows `%s`, `%I`, `%L` and `%%`".to_owned()),
        }
        if out.len() > FORMAT_BYTES_MAX {
            return Err(format!("`format` makes at most {FORMAT_BYTES_MAX} bytes"));
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_as_postgres_does() {
        let values = [Some("it's"), Some("Some Name"), None];
        let fill = |template: &str| formatted(template, |at| values.get(at).copied());
        assert_eq!(fill("%s, %I and %L: 100%%").as_deref(), Ok("it's, \"Some Name\" and NULL: 100%"));
        assert_eq!(fill("%2$s %1$L").as_deref(), Ok("Some Name 'it''s'"));
        assert_eq!(fill("%3$s|").as_deref(), Ok("|"));
        for wrong in ["%s %s %s %s", "%3$I", "%d", "%", "%5s", "%0$s", "%99999999999999999999$s"] {
            assert!(fill(wrong).is_err(), "{wrong}");
        }
        assert_eq!(literal("a\\b"), "E'a\\\\b'");
    }
}

//! Answers that need no query: `SHOW`.

use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use futures::stream;
use plimsoll_query::QueryResult;

use super::settings::Settings;
use super::sqlstate::Problem;

/// Answers `SHOW name` or `SHOW ALL`.
pub(super) fn show(name: &str, settings: &Settings) -> Result<QueryResult, Problem> {
    if name == "all" {
        let all = settings.all();
        let names = all.iter().map(|(name, _)| *name).collect();
        let values = all.iter().map(|(_, value)| *value).collect();
        return Ok(texts(&["name", "setting", "description"], vec![names, values, vec![""; all.len()]]));
    }
    let value = settings.get(name).ok_or_else(|| {
        Problem::error("42704", format!("there is no setting `{name}`")).hint("`SHOW ALL` lists them")
    })?;
    // Postgres names the column as the setting is written.
    let shown = match name {
        "timezone" => "TimeZone",
        "datestyle" => "DateStyle",
        "intervalstyle" => "IntervalStyle",
        other => other,
    };
    Ok(texts(&[shown], vec![vec![value]]))
}

fn texts(names: &[&str], columns: Vec<Vec<&str>>) -> QueryResult {
    let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|values| Arc::new(StringArray::from(values)) as _).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns of text, equally long");
    QueryResult { schema, rows: stream::once(async { Ok(batch) }).boxed(), missing_segments: Vec::new() }
}

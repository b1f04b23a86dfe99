//! One attribute key with values of several types, and keys that are repeated.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use plimsoll_otlp::Signal;
use plimsoll_query::{Format, QueryRequest};
use serde_json::json;

use crate::fixture::{STARTED, Shop, limits};

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

/// Spans named by number, of which each has another value of `k`.
fn spans() -> ExportTraceServiceRequest {
    let values = [
        vec![Value::IntValue(10)],
        vec![Value::DoubleValue(9.5)],
        vec![text("9")],
        vec![text("ten")],
        vec![Value::BoolValue(true)],
        vec![text("true")],
        vec![Value::BoolValue(false)],
        vec![],
        vec![Value::IntValue(-3), text("again")],
    ];
    let spans = values.into_iter().enumerate().map(|(number, values)| Span {
        trace_id: vec![9; 16],
        span_id: (number as u64 + 1).to_be_bytes().to_vec(),
        name: number.to_string(),
        start_time_unix_nano: STARTED + number as u64,
        end_time_unix_nano: STARTED + number as u64,
        attributes: values.into_iter().map(|value| attribute("k", value)).collect(),
        ..Default::default()
    });
    let resource = vec![attribute("service.name", text("lab")), attribute("r", text("a")), attribute("r", text("b"))];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource, ..Default::default() }),
            scope_spans: vec![ScopeSpans { spans: spans.collect(), ..Default::default() }],
            ..Default::default()
        }],
    }
}

async fn names(shop: &Shop, sql: &str) -> String {
    shop.csv(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}")).replace('\n', " ").trim().to_owned()
}

async fn answers(shop: &Shop) {
    for (what, wanted) in [
        ("WHERE attributes['k'] > 9", "0 1"),
        ("WHERE attributes['k'] = 9", "2"),
        ("WHERE attributes['k'] = 'ten'", "3"),
        ("WHERE attributes['k']", "4 5"),
        ("WHERE NOT attributes['k']", "6"),
        ("WHERE attributes['k'] IS NOT TRUE", "0 1 2 3 6 7 8"),
        ("WHERE attributes['k'] = true", "4 5"),
        ("WHERE attributes['k'] IN (9, 10)", "0 2"),
        ("WHERE attributes['k'] BETWEEN -5 AND 9", "2 8"),
        ("WHERE abs(attributes['k']) = 3", "8"),
        ("WHERE attributes['k'] IS NULL", "7"),
    ] {
        assert_eq!(names(shop, &format!("SELECT name FROM spans {what} ORDER BY name")).await, wanted, "{what}");
    }
    // Numbers by size, then text, then what is absent; the other way round it is the other way round.
    assert_eq!(names(shop, "SELECT name FROM spans ORDER BY attributes['k'], name").await, "8 2 1 0 6 3 4 5 7");
    assert_eq!(
        names(shop, "SELECT name FROM spans ORDER BY attributes['k'] DESC, name DESC").await,
        "7 5 4 3 6 0 1 2 8"
    );
    assert_eq!(
        names(shop, "SELECT name FROM spans ORDER BY attributes['k'] DESC NULLS LAST, name DESC").await,
        "5 4 3 6 0 1 2 8 7"
    );
    assert_eq!(
        names(shop, "SELECT name FROM spans ORDER BY attributes['k'] NULLS FIRST, name").await,
        "7 8 2 1 0 6 3 4 5"
    );
    assert_eq!(names(shop, "SELECT min(attributes['k']), max(attributes['k']) FROM spans").await, "-3,true");
    assert_eq!(names(shop, "SELECT sum(attributes['k']), count(attributes['k']) FROM spans").await, "25.5,8");
}

#[tokio::test]
async fn values_of_several_types_under_one_key_are_each_what_they_are() {
    let mut shop = Shop::empty(limits()).await;
    shop.publish(Signal::Traces, &spans());
    shop.store.folded().await;
    answers(&shop).await;
    shop.store.flush().await.expect("flushes");
    answers(&shop).await;
}

#[tokio::test]
async fn of_a_repeated_key_the_first_value_counts_in_every_text_format() {
    let mut shop = Shop::empty(limits()).await;
    shop.publish(Signal::Traces, &spans());
    shop.store.folded().await;
    let sql = "SELECT attributes, attribute_types, resource_attributes, resource_attributes['r'] AS r FROM spans WHERE name = '8'";
    let bytes = shop.encoded(QueryRequest::new(sql), Format::JsonLines).await.expect("encodes");
    let line = String::from_utf8(bytes).expect("JSON is text");
    assert_eq!(line.matches("\"k\"").count() + line.matches("again").count(), 1, "{line}");
    let row: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(row["attributes"], json!({"k": -3}));
    assert_eq!(row["resource_attributes"], json!({"service.name": "lab", "r": "a"}));
    assert_eq!(row["r"], "a");
    let csv = names(&shop, "SELECT resource_attributes FROM spans WHERE name = '8'").await;
    assert!(!csv.contains("\"\"b\"\""), "{csv}");
}

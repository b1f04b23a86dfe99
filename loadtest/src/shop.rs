//! The made-up shop that generated telemetry is of, and the values that its attributes are made from.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use rand::Rng;

/// Its services.
pub const SERVICES: [&str; 8] =
    ["front-end", "cart", "checkout", "payment", "inventory", "shipping", "recommendation", "currency"];

/// The routes that they serve.
pub const ROUTES: [&str; 6] = [
    "/api/v1/orders/{order_id}",
    "/api/v1/carts/{cart_id}/items",
    "/api/v1/products/{product_id}",
    "/api/v1/payments/authorize",
    "/api/v1/shipments/quote",
    "/api/v1/customers/{customer_id}",
];

/// Makes an attribute that is text.
pub fn text(key: &str, value: impl Into<String>) -> KeyValue {
    KeyValue { key: key.into(), value: said(value), ..Default::default() }
}

/// Makes an attribute that is a whole number.
pub fn number(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..Default::default() }
}

/// Makes the body of a log record.
pub fn said(words: impl Into<String>) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(words.into())) })
}

/// Picks one of several.
pub(crate) fn pick<'a>(rng: &mut impl Rng, from: &[&'a str]) -> &'a str {
    from[rng.random_range(0..from.len())]
}

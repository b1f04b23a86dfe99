//! JSON objects and nothing else: a derived reader also takes a list, by the order of its fields, which nobody means to send.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A value that is written as an object.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(OnlyMap(PhantomData))
    }
}

struct OnlyMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Pair {
        one: u8,
        two: String,
    }

    #[test]
    fn objects_are_read_and_lists_are_not() {
        let read = |text: &str| serde_json::from_str::<Object<Pair>>(text).map(|object| object.0);
        assert_eq!(read(r#"{"one":1,"two":"x"}"#).expect("an object"), Pair { one: 1, two: "x".to_owned() });
        for (text, complaint) in [
            (r#"[1,"x"]"#, "expected an object"),
            ("7", "expected an object"),
            (r#"{"one":1}"#, "missing field `two` at line 1"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }
}

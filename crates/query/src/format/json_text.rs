//! Text that should be JSON, as a part of a larger document: as it is, and as a string where it is none, so that a cell never breaks the
//! document. Of a repeated member the first counts, as everywhere.
//!
//! *Cost.* Read through once, without allocation but for the keys of each object; written anew only where a member is repeated.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::cell::string;

/// Appends `text`.
pub(crate) fn write(text: &str, out: &mut Vec<u8>) {
    match serde_json::from_str::<Repeats>(text) {
        Ok(Repeats(false)) => out.extend_from_slice(text.as_bytes()),
        Ok(Repeats(true)) => match serde_json::from_str::<First>(text) {
            Ok(First(value)) => out.extend_from_slice(value.to_string().as_bytes()),
            Err(_) => string(text, out),
        },
        Err(_) => string(text, out),
    }
}

/// Reads an object, of whose repeated members the first counts.
pub(crate) fn object(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text).ok()? {
        First(Value::Object(members)) => Some(members),
        First(_) => None,
    }
}

/// Whether any object has a member twice.
struct Repeats(bool);

impl<'de> Deserialize<'de> for Repeats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Repeats;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeats, A::Error> {
                let (mut keys, mut repeats) = (Vec::<Key<'de>>::new(), false);
                while let Some((key, Repeats(within))) = map.next_entry::<Key<'de>, Repeats>()? {
                    repeats |= within || keys.contains(&key);
                    keys.push(key);
                }
                Ok(Repeats(repeats))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Repeats, A::Error> {
                let mut repeats = false;
                while let Some(Repeats(within)) = items.next_element()? {
                    repeats |= within;
                }
                Ok(Repeats(repeats))
            }

            fn visit_unit<E>(self) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }

            fn visit_str<E>(self, _: &str) -> Result<Repeats, E> {
                Ok(Repeats(false))
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[derive(Deserialize, PartialEq)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value without what is repeated.
struct First(Value);

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<First, A::Error> {
                let mut members = Map::new();
                while let Some(key) = map.next_key::<String>()? {
                    if members.contains_key(&key) {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let First(value) = map.next_value()?;
                        members.insert(key, value);
                    }
                }
                Ok(First(Value::Object(members)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First, A::Error> {
                let mut array = Vec::new();
                while let Some(First(item)) = items.next_element()? {
                    array.push(item);
                }
                Ok(First(Value::Array(array)))
            }

            fn visit_unit<E>(self) -> Result<First, E> {
                Ok(First(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<First, E> {
                Ok(First(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<First, E> {
                Ok(First(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<First, E> {
                Ok(First(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<First, E> {
                Ok(First(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<First, E> {
                Ok(First(value.into()))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        write(text, &mut out);
        String::from_utf8(out).expect("JSON is text")
    }

    #[test]
    fn json_stays_as_it_is_but_for_repeated_members() {
        for (text, wanted) in [
            (r#"{"b": 1, "a": 18446744073709551615}"#, r#"{"b": 1, "a": 18446744073709551615}"#),
            (r#"[1.50,null,true,"x\n",-3]"#, r#"[1.50,null,true,"x\n",-3]"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":1,"b":2}"#),
            (r#"[{"a":{"x":[{"k":1,"\u006b":2}]}}]"#, r#"[{"a":{"x":[{"k":1}]}}]"#),
            ("no json", r#""no json""#),
            (r#"{"a":1"#, r#""{\"a\":1""#),
        ] {
            assert_eq!(written(text), wanted);
        }
        assert_eq!(object(r#"{"a":1,"a":2}"#).and_then(|object| object.get("a").cloned()), Some(1.into()));
    }
}

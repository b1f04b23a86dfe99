//! Reads settings out of a tree and gathers every problem on the way, so that a configuration is mended in one go.
//!
//! *Invariants.* A setting is looked up in `PLIMSOLL_<PATH>` first (`query.timeout` is `PLIMSOLL_QUERY_TIMEOUT`), then in the file,
//! then in its default. A key that nobody asked for is a problem that names the nearest key that exists.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::nearest::nearest;
use crate::wording::worded;

/// Looks up an environment variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// One section of the tree.
pub(super) struct Section<'a> {
    path: String,
    values: Map<String, Value>,
    known: BTreeSet<String>,
    env: Env<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn root(values: Map<String, Value>, env: Env<'a>) -> Self {
        Self { path: String::new(), values, known: BTreeSet::new(), env }
    }

    /// Opens what stands at `path` in a list.
    pub(super) fn item(path: String, values: Map<String, Value>, env: Env<'a>) -> Self {
        Self { path, values, known: BTreeSet::new(), env }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a part of the tree as it is; the environment cannot override it.
    pub(super) fn take_raw(&mut self, key: &str) -> Option<Value> {
        self.known.insert(key.to_owned());
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// Opens the section `key`; an absent one is empty.
    pub(super) fn section(&mut self, key: &str, problems: &mut Vec<String>) -> Self {
        let path = self.path_of(key);
        let values = match self.take_raw(key) {
            None => Map::new(),
            Some(Value::Object(map)) => map,
            Some(other) => {
                problems.push(format!("`{path}` must be a section of settings, found {}", describe(&other)));
                Map::new()
            }
        };
        Self { path, values, known: BTreeSet::new(), env: self.env }
    }

    /// Takes the scalar `key` through `parse`; `None` where it is not set, or set wrongly (which is then a problem).
    pub(super) fn take<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        problems: &mut Vec<String>,
    ) -> Option<T> {
        let path = self.path_of(key);
        let variable = format!("PLIMSOLL_{}", path.replace('.', "_").to_uppercase());
        let in_file = self.take_raw(key);
        let (text, origin) = match (self.env)(&variable) {
            Some(text) => (text, format!("`{path}` (from `{variable}`)")),
            None => match in_file? {
                Value::String(text) => (text, format!("`{path}`")),
                Value::Number(number) => (number.to_string(), format!("`{path}`")),
                Value::Bool(flag) => (flag.to_string(), format!("`{path}`")),
                other => {
                    problems.push(format!("`{path}` must be {expected}, found {}", describe(&other)));
                    return None;
                }
            },
        };
        let parsed = parse(text.trim());
        if parsed.is_none() {
            problems.push(format!("{origin} must be {expected}, found `{text}`"));
        }
        parsed
    }

    /// Says whether `key` is set to `off`, by `given` or else here, and takes it where it is.
    pub(super) fn is_off(&mut self, key: &str, given: Option<&str>) -> bool {
        let variable = format!("PLIMSOLL_{}", self.path_of(key).replace('.', "_").to_uppercase());
        let from_env = (self.env)(&variable);
        // YAML reads a bare `off` as text or as false.
        let off_here = matches!(self.values.get(key), Some(Value::String(text)) if text.trim() == "off")
            || matches!(self.values.get(key), Some(Value::Bool(false)));
        let said = match given.or(from_env.as_deref()) {
            Some(said) => said.trim() == "off",
            None => off_here,
        };
        if said || off_here {
            self.take_raw(key);
        }
        said
    }

    /// Takes the text `key`.
    pub(super) fn text(&mut self, key: &str, problems: &mut Vec<String>) -> Option<String> {
        self.take(key, "text", |text| Some(text.to_owned()), problems)
    }

    /// Takes the path `key`.
    pub(super) fn path_buf(&mut self, key: &str, default: &str, problems: &mut Vec<String>) -> PathBuf {
        self.take(key, "a path", |text| (!text.is_empty()).then(|| PathBuf::from(text)), problems)
            .unwrap_or_else(|| default.into())
    }

    /// Says which keys were left over.
    pub(super) fn finish(self, problems: &mut Vec<String>) {
        let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
        unknown_keys(&self.path, self.values.keys(), &known, problems);
    }
}

/// Says which of the keys of the part at `path` are none, each with the nearest one that is.
pub(super) fn unknown_keys<'k>(
    path: &str,
    keys: impl IntoIterator<Item = &'k String>,
    known: &[&str],
    problems: &mut Vec<String>,
) {
    let path_of = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    for key in keys.into_iter().filter(|key| !known.contains(&key.as_str())) {
        problems.push(match nearest(key, known) {
            Some(known) => format!("`{}` is not a setting; did you mean `{}`?", path_of(key), path_of(known)),
            None => {
                let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
                format!("`{}` is not a setting; known here: {}", path_of(key), known.join(", "))
            }
        });
    }
}

/// Reads a part that is written as one value, naming each of its unknown keys; `None` where something is wrong with it.
pub(super) fn whole<T: DeserializeOwned>(
    path: &str,
    raw: Value,
    known: &[&str],
    problems: &mut Vec<String>,
) -> Option<T> {
    let before = problems.len();
    if let Value::Object(map) = &raw {
        unknown_keys(path, map.keys(), known, problems);
    }
    if problems.len() > before {
        return None;
    }
    let read: Result<T, _> = serde_path_to_error::deserialize(raw);
    read.map_err(|error| {
        let said = worded(&error.inner().to_string());
        let inside = error.path().to_string();
        // A sentence that begins with what it is about needs no second name before it.
        problems.push(match inside.as_str() {
            "." if said.starts_with("must be") => format!("`{path}` {said}"),
            "." => format!("`{path}`: {said}"),
            inside if said.starts_with("must be") => format!("`{path}.{inside}` {said}"),
            inside => format!("`{path}.{inside}`: {said}"),
        });
    })
    .ok()
}

/// Names the sort of a value.
pub(super) fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a section",
    }
}

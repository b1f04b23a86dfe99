//! The events of spans: exceptions, user actions, and how feature flags were evaluated.

use arrow::array::{AsArray, ListArray, StringArray};
use plimsoll_model::signal::{ExceptionCount, Fingerprint};

use crate::attributes::Attributes;
use crate::columns::{self, SchemaError};
use crate::exception::exception;

/// Takes key or variant of a feature flag out of an attribute of a span.
pub(crate) fn flag_part<'a>(arm: &mut Option<(&'a str, &'a str)>, key: &str, value: &'a str) {
    let arm = arm.get_or_insert(("", ""));
    match key {
        "feature_flag.key" => arm.0 = value,
        "feature_flag.result.variant" | "feature_flag.variant" => arm.1 = value,
        "feature_flag.result.value" if arm.1.is_empty() => arm.1 = value,
        _ => {}
    }
}

/// The events of every span of a batch.
pub(crate) struct Events<'a> {
    offsets: &'a [i32],
    names: &'a StringArray,
    attributes: Attributes<'a>,
}

impl<'a> Events<'a> {
    pub(crate) fn of(list: &'a ListArray) -> Result<Self, SchemaError> {
        let wrong = || SchemaError::Type("events".to_owned());
        let entries = list.values().as_struct_opt().ok_or_else(wrong)?;
        let names = columns::field(entries, "name")?.as_string_opt::<i32>().ok_or_else(wrong)?;
        let attributes = columns::field(entries, "attributes")?.as_map_opt().ok_or_else(wrong)?;
        Ok(Self { offsets: list.value_offsets(), names, attributes: Attributes::of("events", attributes)? })
    }

    /// Says whether no span has any.
    pub(crate) fn none(&self) -> bool {
        self.offsets.first() == self.offsets.last()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self, row: usize) -> bool {
        self.offsets[row] == self.offsets[row + 1]
    }

    pub(crate) fn all(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    pub(crate) fn name(&self, at: usize) -> &'a str {
        self.names.value(at)
    }

    /// Returns key and variant, where the event says how a feature flag was evaluated.
    pub(crate) fn flag(&self, at: usize) -> Option<(&'a str, &'a str)> {
        if !self.names.value(at).starts_with("feature_flag") {
            return None;
        }
        let mut arm = None;
        self.attributes.each(at).for_each(|(key, value)| flag_part(&mut arm, key, value));
        arm
    }

    fn rows(&self, row: usize) -> impl Iterator<Item = usize> {
        (self.offsets[row] as usize..self.offsets[row + 1] as usize).filter(|at| self.names.value(*at) == "exception")
    }

    pub(crate) fn exception_type(&self, row: usize) -> Option<&'a str> {
        self.rows(row).last().map(|at| self.attributes.get(at, "exception.type"))
    }

    pub(crate) fn exceptions(&self, row: usize) -> impl Iterator<Item = (Fingerprint, ExceptionCount)> {
        self.rows(row).map(|at| {
            exception(
                self.attributes.get(at, "exception.type"),
                self.attributes.get(at, "exception.message"),
                self.attributes.get(at, "exception.stacktrace"),
            )
        })
    }
}

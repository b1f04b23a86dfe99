//! The common columns of what is kept about deploys: those of the deploy, and of a finding those of the service that it was made at.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::{DataType, Field};
use plimsoll_model::{Deploy, DeployId};
use plimsoll_otlp::schema::plain_attributes;
use serde::Serialize;

use crate::functions::identity::service_attributes;

/// Deploys by their ids.
pub(super) type Deploys = HashMap<DeployId, Deploy>;

/// What rows have of the deploy that they are about, and findings of the service that they were made at.
pub(super) const COLUMNS: [&str; 9] = [
    "service_name",
    "service_namespace",
    "service_version",
    "environment",
    "service_instance_id",
    "resource_attributes",
    "scope_name",
    "scope_version",
    "attributes",
];

/// The values of those columns; of a deploy that is not known they are empty.
#[derive(Serialize)]
pub(super) struct About<'a> {
    service_name: &'a str,
    service_namespace: &'a str,
    service_version: &'a str,
    environment: &'a str,
    service_instance_id: &'static str,
    pub(super) resource_attributes: String,
    scope_name: &'static str,
    scope_version: &'static str,
    attributes: Cow<'a, BTreeMap<String, String>>,
}

impl<'a> About<'a> {
    pub(super) fn deploy(deploy: Option<&'a Deploy>) -> Self {
        let Some(deploy) = deploy else { return Self::service("", None) };
        Self { service_version: &deploy.version, ..Self::service(&deploy.service.service, Some(deploy)) }.written()
    }

    pub(super) fn finding(service: &'a str, deploy: Option<&'a Deploy>) -> Self {
        match deploy {
            Some(own) if own.service.service == service => Self::deploy(deploy),
            // Another service beside it, of which a deploy knows the environment alone.
            _ => Self { service_namespace: "", ..Self::service(service, deploy) }.written(),
        }
    }

    fn service(service_name: &'a str, deploy: Option<&'a Deploy>) -> Self {
        Self {
            service_name,
            service_namespace: deploy.map_or("", |deploy| &deploy.service.namespace),
            service_version: "",
            environment: deploy.map_or("", |deploy| &deploy.service.environment),
            service_instance_id: "",
            resource_attributes: "{}".to_owned(),
            scope_name: "",
            scope_version: "",
            attributes: deploy.map_or_else(|| Cow::Owned(BTreeMap::new()), |deploy| Cow::Borrowed(&deploy.attributes)),
        }
    }

    fn written(self) -> Self {
        let key = [self.service_name, self.service_namespace, self.service_version, self.environment];
        Self { resource_attributes: service_attributes(key), ..self }
    }
}

/// Returns their fields.
pub(super) fn fields() -> Vec<Field> {
    let field = |name| match name {
        "attributes" => Field::new(name, plain_attributes(), false),
        name => Field::new(name, DataType::Utf8, false),
    };
    COLUMNS.map(field).to_vec()
}

//! Who emits telemetry.
//!
//! *Source.* OpenTelemetry resource conventions: a service is its namespace and name. `deployment.environment.name` is not
//! part of that identity, but staging must never be judged against production, so it is part of Plimsoll's key.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name given to telemetry whose resource carries no `service.name`.
pub const UNKNOWN_SERVICE: &str = "unknown_service";

/// Identity of a service. Absent parts are empty, never a placeholder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ServiceKey {
    /// `deployment.environment.name`, or the older `deployment.environment`.
    pub environment: String,
    /// `service.namespace`.
    #[serde(default)]
    pub namespace: String,
    /// `service.name`.
    pub service: String,
}

impl ServiceKey {
    /// Makes a key of a service without a namespace.
    pub fn new(environment: impl Into<String>, service: impl Into<String>) -> Self {
        Self { environment: environment.into(), namespace: String::new(), service: service.into() }
    }
}

/// Says whether a name as configurations write it, whole or its beginning and `*`, means this one.
pub fn names(written: &str, name: &str) -> bool {
    match written.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == written,
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.environment, self.service)
        } else {
            write!(f, "{}/{}/{}", self.environment, self.namespace, self.service)
        }
    }
}

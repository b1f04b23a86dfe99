//! The regression event that leaves the house.
//!
//! *Source.* CloudEvents 1.0, structured JSON mode.

use serde::{Deserialize, Serialize};

use crate::deploy::Deploy;
use crate::id::EventId;
use crate::time::UnixNanos;
use crate::verdict::Verdict;

/// What happened to the regression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventKind {
    /// First confirmed.
    #[serde(rename = "dev.plimsoll.regression.detected")]
    Detected,
    /// Its findings changed.
    #[serde(rename = "dev.plimsoll.regression.updated")]
    Updated,
    /// It went away.
    #[serde(rename = "dev.plimsoll.regression.resolved")]
    Resolved,
}

impl EventKind {
    /// Returns the CloudEvents `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "dev.plimsoll.regression.detected",
            Self::Updated => "dev.plimsoll.regression.updated",
            Self::Resolved => "dev.plimsoll.regression.resolved",
        }
    }
}

/// Where to read more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// Page for people.
    pub ui: String,
    /// Address for programs.
    pub api: String,
}

/// What the event carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventData {
    /// The deploy judged.
    pub deploy: Deploy,
    /// The verdict at that moment.
    pub verdict: Verdict,
    /// Where to read more.
    pub links: Links,
}

/// One CloudEvent. Serialising the same event twice gives the same bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// Deterministic identifier: the same on every retry and after every restart.
    pub id: EventId,
    /// The instance that speaks, for instance `/plimsoll`.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// `<environment>/<namespace>/<service>/<deploy id>`.
    pub subject: String,
    /// When it happened.
    pub time: UnixNanos,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// Deploy, verdict and links.
    pub data: EventData,
}

impl RegressionEvent {
    /// Builds the event that announces `verdict`. `ui_base` is the address of the web pages, without a trailing slash.
    pub fn announce(kind: EventKind, deploy: Deploy, verdict: Verdict, ui_base: &str) -> Self {
        let key = &deploy.service;
        Self {
            specversion: "1.0".to_owned(),
            id: EventId::derive(&deploy.id, kind.as_str(), verdict.revision),
            source: "/plimsoll".to_owned(),
            kind,
            subject: format!("{}/{}/{}/{}", key.environment, key.namespace, key.service, deploy.id),
            time: verdict.evaluated_at,
            datacontenttype: "application/json".to_owned(),
            data: EventData {
                links: Links {
                    ui: format!("{ui_base}/deploys/{}", deploy.id),
                    api: format!("{ui_base}/api/v1/deploys/{}", deploy.id),
                },
                deploy,
                verdict,
            },
        }
    }
}

//! Log records by template and severity.

use serde::{Deserialize, Serialize};

use crate::signal::Exemplars;
use crate::time::{Bucket, UnixNanos};

/// Severity of a log record, by the ranges of `severity_number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not told.
    #[default]
    Unset,
    /// 1 to 4.
    Trace,
    /// 5 to 8.
    Debug,
    /// 9 to 12.
    Info,
    /// 13 to 16.
    Warn,
    /// 17 to 20.
    Error,
    /// 21 to 24.
    Fatal,
}

impl Level {
    const ALL: [Self; 7] = [Self::Unset, Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// Returns the level of a `severity_number`.
    pub fn of_number(severity: i32) -> Self {
        match severity {
            1..=4 => Self::Trace,
            5..=8 => Self::Debug,
            9..=12 => Self::Info,
            13..=16 => Self::Warn,
            17..=20 => Self::Error,
            21..=24 => Self::Fatal,
            _ => Self::Unset,
        }
    }

    /// Returns the level that a `severity_text` names, where the number is not told.
    pub fn of_text(text: &str) -> Self {
        let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
        match text {
            _ if is(&["trace", "finest", "finer"]) => Self::Trace,
            _ if is(&["debug", "fine"]) => Self::Debug,
            _ if is(&["info", "information", "notice"]) => Self::Info,
            _ if is(&["warn", "warning"]) => Self::Warn,
            _ if is(&["error", "err", "severe"]) => Self::Error,
            _ if is(&["fatal", "critical", "crit", "alert", "emergency", "emerg", "panic"]) => Self::Fatal,
            _ => Self::Unset,
        }
    }

    /// Returns the name used in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }

    /// Reads the name used in SQL.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == text)
    }
}

/// Log records of one template, version and severity in one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogCell {
    /// Records.
    pub count: u64,
    /// Traces of some of them, where they had one.
    pub exemplars: Exemplars,
}

impl LogCell {
    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.exemplars.merge(&other.exemplars);
    }
}

/// One template of one version and severity over time; buckets ascend and none is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSeries {
    /// The version; empty where the service tells none.
    pub version: String,
    /// The message with `<*>` for what varies; `{other}` once a service has too many.
    pub template: String,
    /// Severity.
    pub level: Level,
    /// When the service first logged it, whatever the version, as far back as is known.
    pub first_seen: UnixNanos,
    /// Records, bucket by bucket.
    pub cells: Vec<(Bucket, LogCell)>,
}

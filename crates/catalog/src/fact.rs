//! What was known before a deploy or a version was recorded.

use plimsoll_model::{Deploy, UnixNanos};

/// What recording a deploy did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is new.
    Created,
    /// It, or one with its key, was there already.
    Existing(Box<Deploy>),
}

/// What was known of a version before it was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionSeen {
    /// The service itself was unknown: its first version is not a deploy.
    FirstOfService,
    /// The service was known, this version was not.
    FirstOfVersion,
    /// Known; last seen at that time before now.
    Before(UnixNanos),
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// The version.
    pub version: String,
    /// When it was first seen.
    pub first_seen: UnixNanos,
    /// When it was last seen.
    pub last_seen: UnixNanos,
}

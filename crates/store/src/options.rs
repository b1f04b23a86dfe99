//! What may be set about the store, and its clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_model::UnixNanos;

use crate::retention::RetentionRule;

/// How the store is laid out and how much it may hold.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Directory of the segments.
    pub root: PathBuf,
    /// The tail is flushed when it is this large, in bytes of memory.
    pub tail_bytes_flush: usize,
    /// Rows are encoded so many bytes of memory at a time, and merged likewise: encoding takes about as much again.
    pub encoder_bytes: usize,
    /// Columns of a flush that are encoded at a time; at least one.
    pub encoders: usize,
    /// The tail is flushed when its oldest rows are this old.
    pub tail_age_flush: Duration,
    /// Rows received longer ago than this are removed, by whole segments.
    pub retention: Duration,
    /// What is kept for another time than that.
    pub retention_rules: Vec<RetentionRule>,
    /// Bytes of segments, at most: beyond that the oldest go.
    pub disk_bytes_max: u64,
    /// Free bytes below which the disk counts as full.
    pub disk_reserve_bytes: u64,
}

/// Tells the time; given, so that tests and simulations own it.
pub type Clock = Arc<dyn Fn() -> UnixNanos + Send + Sync>;

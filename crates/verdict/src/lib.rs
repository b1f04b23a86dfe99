//! Statistics, decision and pinpointing: pure functions over aggregates.

//! Outbox delivery: sinks, signing, retry, egress guard.

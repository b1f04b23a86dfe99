//! Batches folded into mergeable aggregates, fingerprints and log templates.

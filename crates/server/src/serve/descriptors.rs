//! What the system lets the process have: open files, and files of some length.
//!
//! *Why.* A journal that cannot open its next file acks nothing, so connections must not have the last descriptor. And the signal that a
//! system sends with "file too large" would end the process, while the error is only a refusal.

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::ServeError;
use crate::config::Config;
use crate::grpc;

/// Files of the journal, the catalog and of segments being written, merged and read; what is called and delivered to.
const RESERVE: u64 = 192;

/// With room for fewer connections than this it is better not to start.
const CONNECTIONS_MIN: u64 = 32;

/// Raises the limit on open files as far as the process may, and lowers `ingest.connections_max` to what that leaves.
///
/// # Errors
/// The limit is too low to serve anybody.
pub(super) fn fit(config: &mut Config) -> Result<(), ServeError> {
    // A handler that does nothing: what is left of the signal is the error.
    if let Err(error) = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) {
        tracing::warn!(%error, "files that grow beyond `ulimit -f` will end the process");
    }
    let Some(limit) = raised() else { return Ok(()) };
    let faces = (super::listener::Limits::default().connections + grpc::CONNECTIONS_MAX) as u64;
    let others = RESERVE + faces + config.postgres.connections_max as u64;
    let connections_max = config.ingest.connections_max;
    let fits = fitted(limit, others, connections_max as u64).ok_or(ServeError::Descriptors {
        limit,
        least: others + CONNECTIONS_MIN,
        postgres: config.postgres.connections_max,
    })?;
    if fits < connections_max as u64 {
        tracing::warn!(
            limit,
            connections_max,
            lowered_to = fits,
            "`ingest.connections_max` is more than the process may have open: raise `ulimit -n` to {}, or set it or `postgres.connections_max` lower",
            others + connections_max as u64
        );
        config.ingest.connections_max = usize::try_from(fits).unwrap_or(connections_max);
    }
    Ok(())
}

/// Returns how many connections of `connections_max` fit beside `others`; `None` where too few do.
fn fitted(limit: u64, others: u64, connections_max: u64) -> Option<u64> {
    let left = limit.saturating_sub(others);
    (left >= CONNECTIONS_MIN.min(connections_max)).then(|| left.min(connections_max))
}

/// Returns how many files the process may have open; `None` where there is no limit.
fn raised() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current?;
    if limit.maximum.is_some_and(|hard| hard <= soft) {
        return Some(soft);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit on open files could not be raised");
            Some(soft)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_others_leave_and_the_least_or_nothing() {
        assert_eq!(fitted(10_000, 800, 1_024), Some(1_024));
        assert_eq!(fitted(1_824, 800, 1_024), Some(1_024));
        assert_eq!(fitted(1_024, 800, 1_024), Some(224));
        assert_eq!(fitted(832, 800, 1_024), Some(32));
        assert_eq!(fitted(831, 800, 1_024), None);
        assert_eq!(fitted(810, 800, 10), Some(10), "fewer than the least where no more are asked for");
        assert_eq!(fitted(256, 800, 10), None);
    }
}

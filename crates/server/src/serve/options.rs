//! What each stage is told: its part of the configuration, in its own words.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_ingest::{Fingerprints, IngestOptions};
use plimsoll_journal::{Journal, LocalJournal};
use plimsoll_otlp::Table;
use plimsoll_query::{GiveWay, JournalFacts, JournalFile, JournalSource, QueryLimits, SpillLimits};
use plimsoll_store::StoreOptions;

use crate::config::{Config, ENCODERS_MAX};

/// How the store is run.
pub(super) fn store(config: &Config) -> StoreOptions {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let encoders = match config.store.encoders {
        0 => (cores / 2).clamp(1, ENCODERS_MAX),
        encoders => encoders,
    };
    StoreOptions {
        root: config.data_dir.join("segments"),
        tail_bytes_flush: usize_of(config.memory.tail / 3),
        // The rows and what one encoder makes of them are half of it each; where there are more, the rows have to be fewer.
        encoder_bytes: usize_of(config.memory.encoder * 2 / (1 + encoders as u64)),
        encoders,
        tail_age_flush: config.store.flush_interval,
        retention: config.store.retention,
        retention_rules: config.store.retention_rules.clone(),
        disk_bytes_max: config.store.disk_max,
        disk_reserve_bytes: config.store.disk_reserve,
    }
}

/// How long what verdicts were judged from is kept: as long as the stored rows beside which it is of use.
pub(super) fn evidence(config: &Config) -> Duration {
    let bears = |table: &Option<Table>| matches!(table, None | Some(Table::Operations | Table::Signals));
    let rules = config.store.retention_rules.iter().filter(|rule| bears(&rule.table));
    rules.map(|rule| rule.keep).fold(config.store.retention, Duration::max)
}

/// What a request takes beside its body, as a round figure on the safe side: beyond so many of them none is begun.
const REQUEST_BYTES: usize = 16 << 10;

/// How receivers are run.
pub(super) fn ingest(config: &Config, fingerprints: Arc<Fingerprints>) -> IngestOptions {
    let defaults = IngestOptions::default();
    let requests = usize_of(config.memory.requests());
    IngestOptions {
        otlp_grpc: config.listen.otlp_grpc,
        otlp_http: config.listen.otlp_http,
        request_bytes_max: usize_of(config.ingest.request_bytes_max),
        in_flight_bytes: requests,
        requests_max: (requests / REQUEST_BYTES).max(config.ingest.connections_max),
        transport_bytes: usize_of(config.memory.transport()),
        tail_bytes_max: usize_of(config.memory.tail),
        lanes: if config.ingest.lanes == 0 { defaults.lanes } else { config.ingest.lanes },
        park: config.ingest.park,
        connections_max: config.ingest.connections_max,
        fingerprints,
        ..defaults
    }
}

/// Says how `plimsoll.journal` is read.
pub(super) fn journal(journal: &Arc<LocalJournal>) -> JournalSource {
    // Whoever still holds a query must not hold the directory: the journal gives it up when it is dropped.
    let journal = Arc::downgrade(journal);
    Arc::new(move || {
        let Some(journal) = journal.upgrade() else {
            return JournalFacts::default();
        };
        let status = journal.status();
        JournalFacts {
            next_frame: status.next.0,
            oldest_frame: status.oldest.0,
            files: journal
                .log_files()
                .into_iter()
                .map(|log| JournalFile {
                    file: log.name,
                    first_frame: log.first.0,
                    end_frame: log.end.0,
                    bytes: log.bytes,
                })
                .collect(),
            poisoned: status.poisoned,
            commits: status.commits,
            sync_ns: status.sync_ns,
        }
    })
}

/// Receivers get nearly all of a core that a query wants too, and a flush nine tenths of one: see the store's priorities.
const QUERY_NICE: i32 = 15;

/// How queries are run.
pub(super) fn query(config: &Config) -> QueryLimits {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    QueryLimits {
        memory_bytes: usize_of(config.memory.query),
        spill: (config.query.spill_max > 0)
            .then(|| SpillLimits { directory: config.data_dir.join("spill"), bytes_max: config.query.spill_max }),
        timeout: config.query.timeout,
        rows_max: config.query.rows_max,
        concurrency: config.query.concurrency,
        threads: if config.query.threads == 0 { cores } else { config.query.threads },
        sql_bytes_max: 1 << 20,
        nice: QUERY_NICE,
        // Requests are held up from half on: queries give way before that.
        give_way: Some(GiveWay { from_bytes: config.memory.tail / 5 * 2, until_bytes: config.memory.tail / 2 }),
    }
}

pub(super) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

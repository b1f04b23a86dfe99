//! The tables, and the steps that bring older formats forward. `docs/formats/catalog.md` explains them.
//!
//! *Invariants.* A step that was released never changes; a new format is a new step. Each step sets `user_version` in its
//! own transaction, so that a crash between steps resumes at the right one.

/// The format that this release writes.
pub const FORMAT: i64 = STEPS.len() as i64;

/// `PLMS`, in the header of every catalog, so that another program's database is not mistaken for one.
pub(super) const APPLICATION_ID: i64 = 0x504C_4D53;

/// Step `n` brings format `n` to format `n + 1`.
pub(super) const STEPS: &[&str] = &[
    "
CREATE TABLE store (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    checkpoint INTEGER NOT NULL
) STRICT;
INSERT INTO store (id, checkpoint) VALUES (1, 0);

CREATE TABLE segments (
    id TEXT PRIMARY KEY,
    table_name TEXT NOT NULL,
    path TEXT NOT NULL UNIQUE,
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    time_from INTEGER NOT NULL,
    time_to INTEGER NOT NULL,
    received_to INTEGER NOT NULL,
    frame_first INTEGER NOT NULL,
    frame_last INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deploys (
    id TEXT PRIMARY KEY,
    idempotency_key TEXT UNIQUE,
    environment TEXT NOT NULL,
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX deploys_newest ON deploys (started_at DESC, id DESC);
CREATE INDEX deploys_by_service ON deploys (service, started_at DESC, id DESC);

CREATE TABLE verdicts (
    deploy_id TEXT PRIMARY KEY,
    phase TEXT NOT NULL,
    decided INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX verdicts_newest ON verdicts (started_at DESC, deploy_id DESC);

CREATE TABLE decisions (
    number INTEGER PRIMARY KEY,
    deploy_id TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (deploy_id, body)
) STRICT;
CREATE INDEX decisions_newest ON decisions (decided_at DESC, number DESC);

CREATE TABLE versions (
    environment TEXT NOT NULL,
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    version TEXT NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    PRIMARY KEY (environment, namespace, service, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    id TEXT PRIMARY KEY,
    deploy_id TEXT NOT NULL REFERENCES verdicts (deploy_id),
    kind TEXT NOT NULL,
    queued_at INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL REFERENCES events (id),
    deploy_id TEXT NOT NULL,
    sink TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    UNIQUE (event_id, sink)
) STRICT;
CREATE INDEX deliveries_pending ON deliveries (sink, deploy_id, number) WHERE state = 'pending';
CREATE INDEX deliveries_by_deploy ON deliveries (deploy_id, number);

PRAGMA application_id = 1347177811;
PRAGMA user_version = 1;
",
    "
CREATE TABLE feedback (
    number INTEGER PRIMARY KEY,
    deploy_id TEXT NOT NULL,
    environment TEXT NOT NULL,
    namespace TEXT NOT NULL,
    service TEXT NOT NULL,
    given_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (deploy_id, body)
) STRICT;
CREATE INDEX feedback_by_service ON feedback (service, namespace, environment, given_at DESC);

PRAGMA user_version = 2;
",
    "
CREATE INDEX versions_by_service ON versions (service, environment, namespace);

PRAGMA user_version = 3;
",
    "
CREATE TABLE evidence (
    deploy_id TEXT PRIMARY KEY REFERENCES verdicts (deploy_id),
    body BLOB NOT NULL
) STRICT;

PRAGMA user_version = 4;
",
    "
CREATE INDEX events_by_deploy ON events (deploy_id, queued_at);

PRAGMA user_version = 5;
",
];

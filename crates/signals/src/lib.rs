//! Stored batches folded into mergeable aggregates: ten-second cells per operation and version, fingerprints of
//! exceptions, blame and self-time from assembled traces.
//!
//! | file | owns |
//! |---|---|
//! | `state` | [`SignalState`]: the whole, and the passing of time |
//! | `spans`, `logs`, `metrics` | batches in |
//! | `span_runs` | what is the same for many spans in a row |
//! | `resources`, `events` | who emitted a row; events of spans |
//! | `lines` | templates of log lines, and their bound |
//! | `points`, `point_columns` | one metric point, whatever its type; the columns it stands in |
//! | `streams` | the last point of each cumulative stream |
//! | `survey` | what stored rows tell beside cells: who calls whom, what was seen before |
//! | `columns`, `attributes` | the columns of a batch, as slices |
//! | `presence` | who was there, and starts of instances |
//! | `drill`, `weight` | values of attributes by outcome; what a sampled span stands for |
//! | `close` | what a closed trace adds; freeing of numbers |
//! | `traces`, `trace_ids`, `blocks` | spans of open traces, within bounds; their ids; room that never moves |
//! | `keeping` | which traces are kept until they are whole where there is no room for all |
//! | `assembly`, `shape` | one trace: requests, origins of failure, critical path; what is kept of each span |
//! | `unanswered` | failed calls that nobody answered |
//! | `path_counts` | requests at the top by the versions below them |
//! | `instances` | ages of instances |
//! | `name` | names of operations |
//! | `exception`, `frame` | fingerprints |
//! | `cell`, `packed`, `cells` | compact cells; the same as few bytes; pending and rolling ones |
//! | `side`, `sides`, `paths` | cells of everything beside operations |
//! | `need` | what goes first where there is no room, and what is said of it |
//! | `metric_past` | metrics of the days before, by ten minutes |
//! | `behind` | how far telemetry is behind its receipt |
//! | `belated` | what came minutes after it happened |
//! | `heard` | when nothing came of anybody |
//! | `groups` | groups of log templates, kept from question to question |
//! | `quality` | words about the telemetry of a service |
//! | `registry`, `intern` | text as numbers, with every cap |
//! | `queries`, `vitals`, `witnesses` | what the watcher asks, of the service, of those unrelated to it, and of who else calls whom it calls |
//! | `checkpoint`, `rows`, `side_rows`, `recall` | rows of the tables `operations` and `signals`, both ways |
//! | `excerpt` | rows of a few services from a bucket on, as bytes |
//! | `limits` | bounds and counters |
//!
//! *Invariants.* No clock, no I/O, no verdict. Adding is all that ever happens to a cell, so any split of the same rows
//! into batches, and any order of them while their traces are open, gives the same cells and the same bytes.
//!
//! What is counted where, and every bound, stands in `docs/signals.md`.

mod assembly;
mod attributes;
mod behind;
mod belated;
mod blocks;
mod cell;
mod cells;
mod checkpoint;
mod close;
mod columns;
mod draws;
mod drill;
mod events;
mod exception;
mod excerpt;
mod fetch;
mod firsts;
mod frame;
mod groups;
mod heard;
mod instances;
mod intern;
mod keeping;
mod limits;
mod lines;
mod logs;
mod metric_past;
mod metrics;
mod name;
mod need;
mod packed;
mod path_counts;
mod paths;
mod point_columns;
mod points;
mod presence;
mod quality;
mod queries;
mod recall;
mod registry;
mod resources;
mod rows;
mod shape;
mod side;
mod side_rows;
mod sides;
mod span_runs;
mod spans;
mod state;
mod streams;
mod survey;
mod trace_ids;
mod traces;
mod unanswered;
mod vitals;
mod weight;
mod witnesses;

pub use belated::Belated;
pub use columns::SchemaError;
pub use exception::exception;
pub use excerpt::{Excerpt, ExcerptError};
pub use limits::{OTHER, SignalCounters, SignalLimits};
pub use queries::{SignalSize, VersionTraffic};
pub use rows::{OperationRow, decode_operations, encode_operations};
pub use state::{SignalState, VersionObservation};

//! Statistics, decision and pinpointing: pure functions over aggregates.
//!
//! [`judge`] takes a deploy and the mergeable aggregates around it and returns a verdict with its evidence. No clock, no
//! I/O, no randomness: the same input gives the same bytes.
//!
//! | file | owns |
//! |---|---|
//! | `design`, `slot` | who is compared with whom, and what stands against what |
//! | `drift`, `seasons`, `metric_seasons`, `untouched`, `load` | what time alone would have changed: same hours before, services not touched, more to do |
//! | [`e_process`], [`two_sample`], [`ordered`] | the sequential tests, of what is rare, of what is not, and of a whole distribution |
//! | [`rate`] | confidence bounds |
//! | [`dispersion`] | how bursty the counts are |
//! | `errors`, `latency`, `alone`, `novelty`, `logs`, `log_flow`, `metrics`, `calls`, `actions`, `flow`, `restarts` | the signals; `settling` for young instances |
//! | `zones`, `by_zone` | what the candidate's zones alone explain; the control by the candidate's zones, for who reads a finding |
//! | `placebo` | falls of traffic at other times of the past |
//! | `share` | whether the candidate gets the share of traffic that is meant for it |
//! | `dating` | whether its version came when the marker says |
//! | `closeness` | the sequential test that a pass must win |
//! | `fold`, `earlier`, `extent`, `operation`, `counts`, `standing` | all tests carried forward bucket by bucket |
//! | `tally`, `memo` | histograms added up, and what was worked out just before |
//! | `subject`, `gate` | what the tests are about, their weights, and the lines that they cross |
//! | `decision` | many tests, one answer |
//! | `boots` | when instances start, and what they say then is no news |
//! | `lately` | what the candidate did of late, where a test keeps nothing but its evidence |
//! | `aftermath`, `relapse` | the end of a regression whose reference is gone; what had recovered and goes wrong again |
//! | [`taken_back`] | versions that were tried and taken back, whose exceptions and messages are not known by them |
//! | [`Session`], `beside` | a judgement that is carried on from look to look, and what it asks beside requests |
//! | `tolerances`, `policy` | what counts as worse, and for which service |
//! | `flag`, `measured`, `records`, `weights` | the arms of a feature flag, as versions; request metrics, as operations; log records, where there is nothing else; sampled spans, by weight |
//! | `drill` | attribute values that the excess has in common |
//! | `paths` | versions of all who took part: callees that answer wrongly, two deploys at once |
//! | `known` | of which share of its requests it is known whom they called |
//! | `culprit`, `unanswered`, `witnesses`, `failing`, `forgone`, `echoes`, `disturbed`, `symptoms` | where the cause lies, callees that are down or fail, and whether they do for others, calls that are not made meanwhile, what is said of all that, minutes that others disturb, and where else it shows |
//! | `overlap` | of two deploys at once whose is what got worse, by when it began |
//! | `surprise` | where to look first, if nothing can be decided |
//! | `findings`, `explain`, `comparison`, `summary`, [`quality`] | what a reader gets to see |
//! | `scopes`, `totals`, `evidence` | which rows are compared, what they add up to, and the queries that say the same |

mod actions;
mod aftermath;
mod alone;
mod beside;
mod boots;
mod by_zone;
mod callers;
mod calls;
mod calm;
mod closeness;
mod comparison;
mod counts;
mod culprit;
mod dating;
mod dealing;
mod decision;
mod design;
pub mod dispersion;
mod disturbed;
mod drift;
mod drill;
mod due;
pub mod e_process;
mod earlier;
mod echoes;
mod errors;
mod evidence;
mod explain;
mod extent;
mod failing;
mod findings;
mod flag;
mod flow;
mod fold;
mod forgone;
mod gate;
mod incident;
mod input;
mod judge;
mod known;
mod lately;
mod latency;
mod load;
mod log_flow;
mod logs;
mod measured;
mod memo;
mod metric_seasons;
mod metrics;
mod moves;
mod novelty;
mod operation;
pub mod ordered;
mod overlap;
mod pairs;
mod paths;
mod placebo;
mod policy;
pub mod quality;
pub mod rate;
mod recent;
mod records;
mod relapse;
mod restarts;
mod scopes;
mod seasons;
mod session;
mod settling;
mod share;
mod slot;
mod standing;
mod subject;
mod summary;
mod surprise;
mod symptoms;
mod taken_back;
mod tally;
mod tolerances;
mod totals;
pub mod two_sample;
mod unanswered;
mod untouched;
mod view;
mod weights;
mod witnesses;
mod zones;

pub use gate::{LARGE_ERRORS, LARGE_RATIO};
pub use input::JudgeInput;
pub use judge::{judge, same_answer, suspicion, unseen};
pub use measured::Measured;
pub use overlap::Overlapping;
pub use policy::{TolerancePolicy, ToleranceRule};
pub use session::Session;
pub use taken_back::taken_back;
pub use tolerances::Tolerances;

//! The `plimsoll` binary: configuration, wiring, faces, command line, shutdown.
//!
//! | module | owns |
//! |---|---|
//! | [`cli`] | the command line: arguments, client commands, exit codes |
//! | [`config`] | what the server can be told, and every complaint about it |
//! | [`serve`] | wiring of the stages, start, drain |
//! | [`api`] | REST, SQL over HTTP, health, metrics, the web page |
//! | [`grpc`] | `plimsoll.v1` |
//! | [`postgres`] | the Postgres protocol |
//! | [`flight`] | Arrow Flight SQL |
//! | [`faces`] | what those count |
//! | [`telemetry`] | Plimsoll's own logs and spans |
//! | `explain` | what engineers see of a verdict |
//! | `stored` | the same engine over what the store holds: replay of a verdict, past deploys |
//! | [`backtest`] | recorded telemetry and past deploys through the same engine |
//! | [`demo`] | a shop, a good deploy, a bad deploy |

pub mod allocator;
pub mod api;
pub mod backtest;
pub mod cli;
pub mod config;
pub mod demo;
mod explain;
pub mod faces;
pub mod flight;
pub mod grpc;
mod nearest;
mod object;
pub mod postgres;
mod prompt;
pub mod serve;
mod stored;
pub mod telemetry;
mod wording;

//! Small transactional facts: segments, deploys, verdicts, decisions, outbox; and the [`Catalog`] port.
//!
//! | file | owns |
//! |---|---|
//! | `port` | the [`Catalog`] trait |
//! | `segment`, `fact`, `filter`, `delivery`, `error` | what goes in and comes out |
//! | `sqlite` | [`SqliteCatalog`], the embedded implementation |
//! | [`conformance`] | what every implementation is held to |

pub mod conformance;
mod delivery;
mod error;
mod fact;
mod filter;
mod port;
mod segment;
mod sqlite;

pub use delivery::{Delivery, DeliveryOutcome, DeliveryState};
pub use error::CatalogError;
pub use fact::{Inserted, VersionRecord, VersionSeen};
pub use filter::{DeployFilter, VerdictFilter};
pub use port::Catalog;
pub use segment::{SegmentChange, SegmentRecord};
pub use sqlite::{FORMAT, SqliteCatalog, SqliteOptions};

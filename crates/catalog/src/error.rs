//! Why the catalog could not answer.

/// Why the catalog could not answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Busy, locked or out of reach: trying again later may help.
    #[error("catalog `{path}` is not available: {problem}")]
    Unavailable {
        /// Where it is.
        path: String,
        /// What it said.
        problem: String,
    },
    /// What it holds makes no sense.
    #[error("catalog `{path}` is damaged: {problem}; move it aside to start from the segments on disk")]
    Corrupt {
        /// Where it is.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// Written by a later release.
    #[error("catalog `{path}` has format {found}, this release reads up to {known}: use the later release")]
    TooNew {
        /// Where it is.
        path: String,
        /// Its format.
        found: i64,
        /// The latest known here.
        known: i64,
    },
}

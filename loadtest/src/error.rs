//! Why a run could not be done: one kind a remedy.

use std::path::PathBuf;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("`{path}`: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a recording is not an OTLP/JSON export request.
    #[error("`{path}` line {line}: {problem}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: u64,
        /// What is wrong with it.
        problem: String,
    },
    /// The receiver cannot be reached.
    #[error("cannot reach `{address}`: {problem}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// The receiver said no and will say so again.
    #[error("the receiver refused a request of {signal}: {problem}")]
    Refused {
        /// What the request carried.
        signal: crate::Signal,
        /// Its words.
        problem: String,
    },
    /// The server could not be started or did not get ready.
    #[error("`{binary}` {problem}; its log:\n{log}")]
    Server {
        /// The program.
        binary: PathBuf,
        /// What went wrong.
        problem: String,
        /// The end of what it wrote.
        log: String,
    },
    /// A query has no answer.
    #[error("{problem} (query: {query})")]
    Sql {
        /// The query.
        query: String,
        /// What the server said.
        problem: String,
    },
    /// An option makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Returns a wrapper for what the system said of `path`.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

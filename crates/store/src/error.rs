//! Why the store could not do what was asked.

use plimsoll_catalog::CatalogError;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory could not be used.
    #[error("store `{path}`: {source}")]
    Io {
        /// Which.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A segment could not be encoded or read.
    #[error("segment `{path}`: {problem}")]
    Segment {
        /// Which.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The catalog could not be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Says whether space on the disk is what was missing, or of what a user or a project may have of it.
    pub(crate) fn is_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Says the same again, to another one who asked.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::Io { path, source } => {
                Self::Io { path: path.clone(), source: std::io::Error::new(source.kind(), source.to_string()) }
            }
            Self::Segment { path, problem } => Self::Segment { path: path.clone(), problem: problem.clone() },
            Self::Catalog(CatalogError::Unavailable { path, problem }) => {
                Self::Catalog(CatalogError::Unavailable { path: path.clone(), problem: problem.clone() })
            }
            Self::Catalog(CatalogError::Corrupt { path, problem }) => {
                Self::Catalog(CatalogError::Corrupt { path: path.clone(), problem: problem.clone() })
            }
            Self::Catalog(CatalogError::TooNew { path, found, known }) => {
                Self::Catalog(CatalogError::TooNew { path: path.clone(), found: *found, known: *known })
            }
            Self::Closed => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk() {
        let is_full = |source| StoreError::Io { path: "segments".to_owned(), source }.is_full();
        assert!(is_full(Error::from(ErrorKind::StorageFull)));
        assert!(is_full(Error::from(ErrorKind::QuotaExceeded)));
        assert!(!is_full(Error::from(ErrorKind::PermissionDenied)));
    }
}

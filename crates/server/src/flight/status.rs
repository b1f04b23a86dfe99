//! Errors of the query engine as gRPC statuses.

use plimsoll_query::QueryError;
use tonic::Status;

/// Translates an error; the words are the engine's.
pub(super) fn of(error: &QueryError) -> Status {
    let text = error.to_string();
    match error {
        QueryError::Refused(_) => Status::permission_denied(text),
        QueryError::Invalid(_) => Status::invalid_argument(text),
        QueryError::Exceeded(_) if text.contains("longer than") => Status::deadline_exceeded(text),
        QueryError::Exceeded(_) => Status::resource_exhausted(text),
        QueryError::Busy(_) => Status::unavailable(text),
        QueryError::Unreadable(_) => Status::internal(text),
    }
}

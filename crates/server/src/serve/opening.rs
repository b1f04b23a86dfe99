//! SQL while the server starts: rows of a journal that is half replayed would be an answer that is short of some, so there is
//! none yet.

use std::sync::Arc;

use arrow::datatypes::DataType;
use plimsoll_query::{Description, QueryError, QueryRequest, QueryResult, SqlEngine, TableEntry};

use crate::api::Health;

/// An engine behind a door that opens once everything acked is visible.
pub(super) struct Opening {
    pub(super) engine: Arc<dyn SqlEngine>,
    pub(super) health: Arc<Health>,
}

#[tonic::async_trait]
impl SqlEngine for Opening {
    async fn query(&self, request: QueryRequest) -> Result<QueryResult, QueryError> {
        match self.health.starting() {
            Some(reason) => Err(QueryError::Busy(format!("{reason}: try again in a moment"))),
            None => self.engine.query(request).await,
        }
    }

    async fn describe(&self, sql: &str, types: &[Option<DataType>]) -> Result<Description, QueryError> {
        self.engine.describe(sql, types).await
    }

    async fn tables(&self) -> Result<Vec<TableEntry>, QueryError> {
        self.engine.tables().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    /// An engine that can be told from the door.
    struct Behind;

    #[tonic::async_trait]
    impl SqlEngine for Behind {
        async fn query(&self, request: QueryRequest) -> Result<QueryResult, QueryError> {
            Err(QueryError::Invalid(request.sql))
        }

        async fn describe(&self, sql: &str, _types: &[Option<DataType>]) -> Result<Description, QueryError> {
            Err(QueryError::Invalid(sql.to_owned()))
        }

        async fn tables(&self) -> Result<Vec<TableEntry>, QueryError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn no_rows_are_counted_before_all_of_them_are_there() {
        let health = Arc::new(Health::default());
        let engine = Opening { engine: Arc::new(Behind), health: health.clone() };
        let ask = || async { engine.query(QueryRequest::new("SELECT 1")).await.map(|_| ()) };
        health.set(Reason::Starting, Some("the server is starting".to_owned()));
        health.set(Reason::Replaying, Some("the journal is being replayed".to_owned()));
        let busy = |text: &str| Err(QueryError::Busy(format!("{text}: try again in a moment")));
        assert_eq!(ask().await, busy("the server is starting"));
        health.set(Reason::Starting, None);
        assert_eq!(ask().await, busy("the journal is being replayed"));
        health.set(Reason::Replaying, None);
        assert_eq!(ask().await, Err(QueryError::Invalid("SELECT 1".to_owned())));
    }
}

//! The schema `pg_catalog`, of one query.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{MemTable, SchemaProvider, TableProvider};
use datafusion::common::Result;
use tokio::sync::OnceCell;

use super::relations::{self, Relation};
use super::{fixed, routines, statement};
use crate::tables::Namespace;

/// Name of the schema.
pub(crate) const PG_CATALOG: &str = "pg_catalog";

/// Tables about tables.
pub(super) const ABOUT_RELATIONS: &[&str] = &[
    "pg_namespace",
    "pg_class",
    "pg_attribute",
    "pg_tables",
    "pg_views",
    "information_schema_tables",
    "information_schema_columns",
    "information_schema_schemata",
    "information_schema_views",
];

/// The schema, for as long as one query runs.
pub(crate) struct PgCatalog {
    namespace: Namespace,
    relations: OnceCell<Vec<Relation>>,
}

impl PgCatalog {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, relations: OnceCell::new() }
    }
}

impl fmt::Debug for PgCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PgCatalog")
    }
}

#[async_trait]
impl SchemaProvider for PgCatalog {
    fn table_names(&self) -> Vec<String> {
        ABOUT_RELATIONS.iter().chain(routines::NAMES).chain(fixed::names()).map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let batch = if ABOUT_RELATIONS.contains(&name) {
            let relations = self.relations.get_or_try_init(|| relations::list(&self.namespace)).await?;
            relations::build(name, &self.namespace, relations)
        } else {
            routines::build(name).or_else(|| fixed::build(name))
        };
        let Some(batch) = batch else { return Ok(None) };
        let batch = batch?;
        Ok(Some(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        statement::is_catalogue_table(name)
    }
}

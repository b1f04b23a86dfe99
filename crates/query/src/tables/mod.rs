//! The tables and views that queries see, built for one snapshot.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use plimsoll_catalog::Catalog;
use plimsoll_otlp::Table;
use plimsoll_store::{Snapshot, Store};

mod about;
pub(crate) mod around;
pub(crate) mod attribute_columns;
mod attributes;
mod events;
pub(crate) mod face;
mod facts;
mod lookups;
mod operations;
pub(crate) mod reads;
mod repeated;
pub(crate) mod segment_reader;
mod stored;
pub(crate) mod system;
mod tail_rows;
pub(crate) mod trace;
mod tree;

use crate::postgres::{PG_CATALOG, PgCatalog};
use facts::{Fact, FactTable};
use reads::Reads;
use system::JournalSource;

use crate::queries::Queries;

/// Name of the catalog.
pub(crate) const CATALOG: &str = "plimsoll";
/// Name of the schema.
pub(crate) const SCHEMA: &str = "public";

/// Every table and view, in the order in which they are documented.
pub(crate) const NAMES: [&str; 13] = [
    "spans",
    "span_events",
    "span_links",
    "logs",
    "metrics",
    "operations",
    operations::NAME,
    "signals",
    "exceptions",
    "deploys",
    "verdicts",
    "findings",
    "decisions",
];

/// Those of them that are made of others.
pub(crate) const VIEWS: [&str; 4] = ["span_events", "span_links", operations::NAME, "exceptions"];

/// Name of the schema in which the server describes itself.
pub(crate) const SYSTEM_SCHEMA: &str = "plimsoll";
/// Its tables.
pub(crate) const SYSTEM_NAMES: [&str; 3] = ["segments", "journal", "queries"];

/// The tables of one query: what they hold does not change while it runs.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) snapshot: Snapshot,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) store: Store,
    pub(crate) queries: Arc<Queries>,
    pub(crate) journal: Option<JournalSource>,
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tables")
    }
}

impl Tables {
    fn stored(&self, table: Table) -> Arc<dyn TableProvider> {
        Arc::new(stored::StoredTable::new(table, self.snapshot.clone(), Arc::clone(&self.reads)))
    }

    /// Builds the table or view called `name`.
    pub(crate) fn build(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(Some(match name {
            "span_events" => events::span_events(self)?,
            "span_links" => events::span_links(self)?,
            operations::NAME => operations::operations_total(self)?,
            "exceptions" => events::exceptions(self)?,
            "deploys" => self.fact(Fact::Deploys),
            "verdicts" => self.fact(Fact::Verdicts),
            "findings" => self.fact(Fact::Findings),
            "decisions" => self.fact(Fact::Decisions),
            other => match Table::parse(other) {
                Some(table) => face::face(table, self.stored(table))?,
                None => return Ok(None),
            },
        }))
    }

    /// Builds the table called `name` of the schema [`SYSTEM_SCHEMA`].
    pub(crate) fn system(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        system::table(name, self)
    }

    fn fact(&self, fact: Fact) -> Arc<dyn TableProvider> {
        Arc::new(FactTable::new(fact, Arc::clone(&self.catalog)))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.build(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        NAMES.contains(&name)
    }
}

/// The schema [`SYSTEM_SCHEMA`].
#[derive(Debug)]
struct SystemTables(Arc<Tables>);

#[async_trait]
impl SchemaProvider for SystemTables {
    fn table_names(&self) -> Vec<String> {
        SYSTEM_NAMES.iter().map(|name| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        Ok(self.0.system(name))
    }

    fn table_exist(&self, name: &str) -> bool {
        SYSTEM_NAMES.contains(&name)
    }
}

/// The one catalog with its two schemas.
#[derive(Debug, Clone)]
pub(crate) struct Namespace(pub(crate) Arc<Tables>);

impl CatalogProvider for Namespace {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned(), SYSTEM_SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        match name {
            SCHEMA => Some(Arc::clone(&self.0) as Arc<dyn SchemaProvider>),
            SYSTEM_SCHEMA => Some(Arc::new(SystemTables(Arc::clone(&self.0)))),
            PG_CATALOG => Some(Arc::new(PgCatalog::new(self.clone()))),
            _ => None,
        }
    }
}

impl CatalogProviderList for Namespace {
    fn register_catalog(&self, _name: String, _catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.to_owned()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        (name == CATALOG).then(|| Arc::new(self.clone()) as Arc<dyn CatalogProvider>)
    }
}

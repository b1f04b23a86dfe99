//! The tables and views that queries see, built for one snapshot.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::Result;
use plimsoll_catalog::Catalog;
use plimsoll_otlp::Table;
use plimsoll_store::Snapshot;

pub(crate) mod around;
pub(crate) mod attributes;
mod events;
pub(crate) mod face;
mod facts;
pub(crate) mod reads;
mod stored;

use facts::{Fact, FactTable};
use reads::Reads;

/// Name of the catalog.
pub(crate) const CATALOG: &str = "plimsoll";
/// Name of the schema.
pub(crate) const SCHEMA: &str = "public";

/// Every table and view, in the order in which they are documented.
pub(crate) const NAMES: [&str; 12] = [
    "spans",
    "span_events",
    "span_links",
    "logs",
    "metrics",
    "operations",
    "signals",
    "exceptions",
    "deploys",
    "verdicts",
    "findings",
    "decisions",
];

/// The tables of one query: what they hold does not change while it runs.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) snapshot: Snapshot,
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) reads: Arc<Reads>,
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

/// The one catalog with the one schema.
#[derive(Debug, Clone)]
pub(crate) struct Namespace(pub(crate) Arc<Tables>);

impl CatalogProvider for Namespace {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.0) as Arc<dyn SchemaProvider>)
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

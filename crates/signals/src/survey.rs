//! What stored rows tell beside cells: who calls whom, and what was seen before.
//!
//! A state that the past is judged from need not hold every service of an environment. What bears on a deploy is the service
//! itself, those that call it or that it calls, and, as control, some that are not connected with it; of the others it
//! matters only whom they call.
//!
//! *Cost.* No histogram is read and no cell is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use plimsoll_model::signal::Fingerprint;
use plimsoll_model::{ServiceKey, UnixNanos};

use crate::cell::Recorded;
use crate::columns::{self, SchemaError};
use crate::lines::template_hash;
use crate::rows::Entries;
use crate::side_rows::{Recall, decode};
use crate::state::SignalState;
use crate::vitals::SERVICES_MAX;

impl SignalState {
    /// Remembers who calls or blames whom by rows of `operations`, and nothing else of them. Returns the services in them.
    ///
    /// # Errors
    /// The batch is not in the stored schema.
    pub fn load_edges(&mut self, batch: &RecordBatch) -> Result<BTreeSet<ServiceKey>, SchemaError> {
        let names = Names::of(batch)?;
        let version = columns::text(batch, "service_version")?;
        let parties = [Entries::of(batch, "blame")?, Entries::of(batch, "callees")?];
        let mut services = BTreeSet::new();
        for row in 0..batch.num_rows() {
            let (service, at) = names.at(row);
            for entries in parties.iter().filter(|entries| !entries.range(row).is_empty()) {
                let (version, _) = self.registry.version_id(&service, version.value(row));
                for entry in entries.range(row) {
                    let party = self.registry.party_of(&entries.party(entry)?);
                    self.registry.note_edge(version, party, at.bucket().0, Recorded::First);
                }
            }
            services.insert(service);
        }
        // Who is called is known by name only once it is known as a service.
        for service in &services {
            self.registry.service_id(service);
        }
        Ok(services)
    }

    /// Takes note by rows of `signals` of the buckets in which anything was heard of anybody, and of nothing else of them.
    ///
    /// # Errors
    /// The batch is not in the stored schema.
    pub fn load_heard(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        for row in decode(batch, Recall::All)? {
            // A start stands in its own bucket, whenever it was told.
            if row.kind == "presence" && row.spans + row.logs + row.points > 0 {
                self.heard.hear(row.start.bucket().0);
            }
        }
        Ok(())
    }

    /// Remembers when exceptions were seen by rows of `operations`, and nothing else of them.
    ///
    /// # Errors
    /// The batch is not in the stored schema.
    pub fn load_exceptions(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        let names = Names::of(batch)?;
        let exceptions = Entries::of(batch, "exceptions")?;
        let version = columns::text(batch, "service_version")?;
        for row in (0..batch.num_rows()).filter(|row| !exceptions.range(*row).is_empty()) {
            let (service, at) = names.at(row);
            let service = self.registry.service_id(&service);
            let version: Arc<str> = version.value(row).into();
            for entry in exceptions.range(row) {
                let fingerprint = exceptions.number("fingerprint", entry)?;
                if fingerprint != 0 {
                    self.registry.remember(service, &version, Fingerprint(fingerprint), at);
                }
            }
        }
        Ok(())
    }

    /// Remembers when log templates were seen by rows of `signals`, and nothing else of them.
    ///
    /// # Errors
    /// The batch is not in the stored schema.
    pub fn load_templates(&mut self, batch: &RecordBatch) -> Result<(), SchemaError> {
        for row in decode(batch, Recall::All)? {
            if row.kind == "log" && row.name != crate::OTHER {
                let service = self.registry.service_id(&row.service);
                let version: Arc<str> = row.version.as_str().into();
                self.registry.remember_template(service, &version, template_hash(&row.name), row.start);
            }
        }
        Ok(())
    }

    /// Returns the services whose cells bear on a deploy of `service`: itself, those that call it or that it calls, those that call the same callees, and of
    /// those `serving` that are not connected with it as many as are ever looked at, and `spare` more.
    pub fn bearing(&self, service: &ServiceKey, serving: &BTreeSet<ServiceKey>, spare: usize) -> BTreeSet<ServiceKey> {
        let kin = self.kin(service);
        let others = serving.iter().filter(|other| other.environment == service.environment && !kin.contains(*other));
        let mut bearing: BTreeSet<ServiceKey> = others.take(SERVICES_MAX + spare).cloned().collect();
        bearing.extend(self.related(service));
        bearing.extend(self.witnesses_of(service));
        bearing.insert(service.clone());
        bearing
    }
}

/// Whose each row of `operations` is, and when it was.
struct Names<'a> {
    service: &'a arrow::array::StringArray,
    namespace: &'a arrow::array::StringArray,
    environment: &'a arrow::array::StringArray,
    start: &'a arrow::array::TimestampNanosecondArray,
}

impl<'a> Names<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, SchemaError> {
        Ok(Self {
            service: columns::text(batch, "service_name")?,
            namespace: columns::text(batch, "service_namespace")?,
            environment: columns::text(batch, "environment")?,
            start: columns::time(batch, "bucket_start")?,
        })
    }

    fn at(&self, row: usize) -> (ServiceKey, UnixNanos) {
        let service = ServiceKey {
            environment: self.environment.value(row).to_owned(),
            namespace: self.namespace.value(row).to_owned(),
            service: self.service.value(row).to_owned(),
        };
        (service, UnixNanos(u64::try_from(self.start.value(row)).unwrap_or(0)))
    }
}

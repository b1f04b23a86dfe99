//! Versions as they arrive, and the deploys inferred from them.

use plimsoll_catalog::{CatalogError, DeployFilter, Inserted, VersionSeen};
use plimsoll_model::ServiceKey;

use crate::infer::{Inference, infer};
use crate::source::VersionObservation;
use crate::watcher::{Watcher, count};

impl Watcher {
    /// Settles every version that arrived; one that cannot be settled now stays first in line.
    pub(crate) async fn infer_deploys(&self) -> Result<(), CatalogError> {
        self.arrivals.lock().extend(self.signals.take_new_versions());
        loop {
            // Taken off the list only once it is settled: the source tells each version once.
            let Some(seen) = self.arrivals.lock().front().cloned() else { return Ok(()) };
            self.settle(&seen).await?;
            self.arrivals.lock().pop_front();
        }
    }

    async fn settle(&self, seen: &VersionObservation) -> Result<(), CatalogError> {
        let new = match self.catalog.observe_version(&seen.service, &seen.version, seen.first_seen).await? {
            VersionSeen::FirstOfVersion => true,
            // Recorded by an attempt that failed after it: the deploy may still be missing, and its id makes it one.
            VersionSeen::Before(at) => at == seen.first_seen,
            VersionSeen::FirstOfService => false,
        };
        self.place(seen).await?;
        if !new {
            return Ok(());
        }
        self.versions.lock().remove(&seen.service);
        let known = self.catalog.versions(&seen.service).await?;
        let filter = DeployFilter {
            service: Some(seen.service.service.clone()),
            namespace: Some(seen.service.namespace.clone()),
            environment: Some(seen.service.environment.clone()),
            version: Some(seen.version.clone()),
            ..DeployFilter::default()
        };
        let announced = self.catalog.deploys(&filter).await?;
        let serving = self.serving_before(&seen.service, &seen.version, seen.first_seen);
        match infer(seen, &known, &announced, serving, (self.clock)()) {
            Inference::Nothing => {}
            // Whether versions come without end is of interest all the same.
            Inference::Deploy(_) if !self.options.infer_deploys => {}
            Inference::Churn => {
                count(&self.counts.churned_versions, 1);
                if self.churning.lock().insert(seen.service.clone(), seen.first_seen).is_none() {
                    tracing::warn!(
                        service = %seen.service,
                        "too many new versions in ten minutes: no deploy is inferred from them; announce deploys, or \
                         make `service.version` the same for all instances of one release"
                    );
                }
            }
            Inference::Deploy(deploy) => {
                if self.catalog.insert_deploy(&deploy, None).await? == Inserted::Created {
                    count(&self.counts.inferred, 1);
                    tracing::info!(service = %deploy.service, version = %deploy.version, deploy = %deploy.id, "deploy inferred");
                    self.open.lock().insert(*deploy, None, false);
                }
            }
        }
        Ok(())
    }

    /// Gives markers that named no namespace, and came before any telemetry of their version, the one that it shows.
    async fn place(&self, seen: &VersionObservation) -> Result<(), CatalogError> {
        if seen.service.namespace.is_empty() {
            return Ok(());
        }
        let nowhere = ServiceKey { namespace: String::new(), ..seen.service.clone() };
        let waiting = self.open.lock().announced_as(&nowhere, &seen.version);
        if waiting.is_empty() || self.catalog.places(&nowhere.service).await?.contains(&nowhere) {
            return Ok(());
        }
        for id in waiting {
            if let Some(deploy) = self.catalog.place_deploy(&id, &seen.service.namespace).await? {
                tracing::info!(service = %deploy.service, deploy = %id, "the marker named no namespace: it is that of its telemetry");
                self.open.lock().place(deploy);
            }
        }
        Ok(())
    }
}

//! Versions as they arrive, and the deploys inferred from them.

use plimsoll_catalog::{CatalogError, DeployFilter, Inserted, VersionSeen};

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
        if !new || !self.options.infer_deploys {
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
        match infer(seen, &known, &announced, (self.clock)()) {
            Inference::Nothing => {}
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
}

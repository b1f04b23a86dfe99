//! `grpc.health.v1` and server reflection, beside the export services.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tower::util::BoxCloneSyncService;

use crate::descriptors;
use crate::gate::Gate;
use crate::grpc::{SERVICES, SideService};

/// Makes the health and reflection services.
pub(crate) fn side_services(reporter: HealthReporter) -> Vec<(&'static str, SideService)> {
    let health = HealthServer::new(HealthService::from_health_reporter(reporter));
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_file_descriptor_set(descriptors::otlp())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "the descriptors are fixed and tested";
    let v1 = described().build_v1().expect(valid);
    let v1alpha = described().build_v1alpha().expect(valid);
    vec![
        ("grpc.health.v1.Health", BoxCloneSyncService::new(health)),
        ("grpc.reflection.v1.ServerReflection", BoxCloneSyncService::new(v1)),
        ("grpc.reflection.v1alpha.ServerReflection", BoxCloneSyncService::new(v1alpha)),
    ]
}

/// Keeps the health statuses in step with the gate, as long as the runtime lives.
pub(crate) async fn follow(gate: &Gate, reporter: HealthReporter) {
    let mut watch = gate.watch();
    loop {
        let ready = watch.borrow_and_update().is_ready();
        report(&reporter, ready).await;
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// Sets the status of every service, and of the server as a whole.
pub(crate) async fn report(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in SERVICES.iter().map(|(_, name)| *name).chain([""]) {
        reporter.set_service_status(name, status).await;
    }
}

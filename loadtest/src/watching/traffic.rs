//! Requests of services with many operations each, drawn from one seed on one line of time.
//!
//! *Invariants.* The same seed and start give the same requests, however they are cut into exports. Services take turns; of one
//! service the n-th operation is asked for 1/n as often as the first; from the deploy on every other request of a service is the
//! second version's.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::shop::text;

/// `deployment.environment.name` of everything.
pub(super) const ENVIRONMENT: &str = "watched";
/// What runs before the deploy, and what comes beside it.
pub(super) const VERSIONS: [&str; 2] = ["1", "2"];

const SECOND: u64 = 1_000_000_000;
const SEED: u64 = 1;
/// Spans in a request at most.
const REQUEST_SPANS: u64 = 4_000;
/// Share of requests that fail.
const ERRORS: f64 = 0.01;
/// Latencies are lognormal.
const MEDIAN_NS: f64 = 50e6;
const SIGMA: f64 = 0.6;

/// The requests of all services.
pub(super) struct Traffic {
    services: usize,
    /// Spans a second.
    rate: u64,
    names: Vec<String>,
    /// By operation: the share of requests that go to it or to one before it.
    shares: Vec<f64>,
    rng: ChaCha8Rng,
    /// Where the line of time begins, in nanoseconds since 1970.
    start: u64,
    made: u64,
    deployed: bool,
    /// By service and operation: whether it was asked for since the deploy.
    live: Vec<bool>,
}

impl Traffic {
    /// Begins at `start`, nanoseconds since 1970, with `rate` spans a second; no argument is zero.
    pub(super) fn new(services: usize, operations: usize, rate: u64, start: u64) -> Self {
        let weights = (1..=operations).map(|rank| 1.0 / rank as f64);
        let all: f64 = weights.clone().sum();
        let shares = weights.scan(0.0, |below, weight| {
            *below += weight / all;
            Some(*below)
        });
        Self {
            services,
            rate,
            names: (0..operations).map(|operation| format!("GET /r{operation}")).collect(),
            shares: shares.collect(),
            rng: ChaCha8Rng::seed_from_u64(SEED),
            start,
            made: 0,
            deployed: false,
            live: vec![false; services * operations],
        }
    }

    /// The name of a service.
    pub(super) fn service(number: usize) -> String {
        format!("service-{number}")
    }

    /// When the next request ends.
    pub(super) fn now(&self) -> u64 {
        self.start + self.made / self.rate * SECOND + self.made % self.rate * SECOND / self.rate
    }

    /// Lets the second version take half of what ends from now on.
    pub(super) fn deploy(&mut self) {
        self.deployed = true;
    }

    /// Spans made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// Operations that were asked for since the deploy.
    pub(super) fn operations_live(&self) -> u64 {
        self.live.iter().filter(|asked| **asked).count() as u64
    }

    /// Makes the next export of what ends before `until`, encoded; `None` where nothing does.
    pub(super) fn export(&mut self, until: u64) -> Option<Vec<u8>> {
        let mut spans: Vec<Vec<Span>> = vec![Vec::new(); self.services * VERSIONS.len()];
        let before = self.made;
        while self.made - before < REQUEST_SPANS && self.now() < until {
            let service = (self.made % self.services as u64) as usize;
            let turn = self.made / self.services as u64;
            let version = usize::from(self.deployed && turn % 2 == 1);
            let span = self.span(service);
            spans[service * VERSIONS.len() + version].push(span);
            self.made += 1;
        }
        let of = spans.into_iter().enumerate().filter(|(_, spans)| !spans.is_empty());
        let resource_spans: Vec<ResourceSpans> = of.map(|(at, spans)| resource_spans(at, spans)).collect();
        (self.made > before).then(|| ExportTraceServiceRequest { resource_spans }.encode_to_vec())
    }

    fn span(&mut self, service: usize) -> Span {
        let drawn: f64 = self.rng.random();
        let operation = self.shares.partition_point(|share| *share < drawn).min(self.names.len() - 1);
        if self.deployed {
            self.live[service * self.names.len() + operation] = true;
        }
        let failed = self.rng.random_bool(ERRORS);
        // Box and Muller: two uniform numbers make one that is normal.
        let (radius, angle) = (1.0 - self.rng.random::<f64>(), self.rng.random::<f64>());
        let normal = (-2.0 * radius.ln()).sqrt() * (angle * std::f64::consts::TAU).cos();
        let latency = (MEDIAN_NS * (SIGMA * normal).exp()) as u64;
        let end = self.now();
        let code = if failed { StatusCode::Error } else { StatusCode::Unset };
        Span {
            trace_id: self.rng.random::<[u8; 16]>().to_vec(),
            span_id: self.rng.random::<[u8; 8]>().to_vec(),
            name: self.names[operation].clone(),
            kind: SpanKind::Server.into(),
            start_time_unix_nano: end.saturating_sub(latency),
            end_time_unix_nano: end,
            status: Some(Status { code: code.into(), message: String::new() }),
            ..Default::default()
        }
    }
}

fn resource_spans(at: usize, spans: Vec<Span>) -> ResourceSpans {
    let (service, version) = (Traffic::service(at / VERSIONS.len()), VERSIONS[at % VERSIONS.len()]);
    let attributes = vec![
        text("service.instance.id", format!("{service}-{version}")),
        text("service.name", service),
        text("service.version", version),
        text("deployment.environment.name", ENVIRONMENT),
    ];
    ResourceSpans {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(export: &[u8]) -> Vec<(String, Span)> {
        let request = ExportTraceServiceRequest::decode(export).expect("was encoded just now");
        let of = |from: ResourceSpans| {
            let who = from.resource.expect("is told").attributes;
            let said = |key: &str| {
                let found = who.iter().find(|attribute| attribute.key == key).expect("is told");
                format!("{:?}", found.value)
            };
            let version = said("service.version");
            from.scope_spans.into_iter().flat_map(|scope| scope.spans).map(move |span| (version.clone(), span))
        };
        request.resource_spans.into_iter().flat_map(of).collect()
    }

    #[test]
    fn every_operation_is_asked_for_and_the_second_version_takes_half_from_its_deploy_on() {
        let start = 1_700_000_000 * SECOND;
        let mut traffic = Traffic::new(2, 5, 1_000, start);
        let before = traffic.export(start + 2 * SECOND).expect("two seconds hold requests");
        assert_eq!((traffic.made(), traffic.now()), (2_000, start + 2 * SECOND));
        assert!(traffic.export(start + 2 * SECOND).is_none());
        let sent = spans(&before);
        assert!(sent.iter().all(|(version, _)| version.contains("\"1\"")));
        assert!(sent.iter().all(|(_, span)| span.start_time_unix_nano < span.end_time_unix_nano));
        let of = |name: &str| sent.iter().filter(|(_, span)| span.name == name).count();
        // 1/n of 60/137.
        assert!((800..950).contains(&of("GET /r0")) && (120..220).contains(&of("GET /r4")), "{}", of("GET /r0"));
        assert_eq!(traffic.operations_live(), 0);
        traffic.deploy();
        let after = spans(&traffic.export(start + 4 * SECOND).expect("so do two more"));
        assert_eq!(after.iter().filter(|(version, _)| version.contains("\"2\"")).count(), 1_000);
        assert_eq!(traffic.operations_live(), 10);
    }

    #[test]
    fn an_export_has_a_bound_and_the_rest_follows() {
        let mut traffic = Traffic::new(3, 1, 7_000, 5);
        let until = 5 + SECOND;
        let exports = std::iter::from_fn(|| traffic.export(until));
        let sizes: Vec<usize> = exports.map(|export| spans(&export).len()).collect();
        assert_eq!(sizes, [REQUEST_SPANS as usize, 3_000]);
    }
}

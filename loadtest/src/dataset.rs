//! A few hours of a made-up shop, for questions: event times are spread out, traces cross services, one service takes the most.
//!
//! *Invariants.* The same seed and request number give the same bytes, and [`Dataset::trace_id`] names the traces that were
//! sent, so that what to ask for is known without asking the server.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::records::Signal;
use crate::shop::{ROUTES, number, pick, said, text};

/// Records of a request.
pub(crate) const BATCH: u64 = 1_000;
/// Spans of a trace.
const TRACE: u64 = 8;
/// Who does the spans of a trace, in their order; `checkout` has three in eight of all.
const HOPS: [&str; 8] = ["front-end", "cart", "checkout", "inventory", "checkout", "payment", "checkout", "shipping"];
/// What is loaded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Dataset {
    /// Spans, a multiple of 1,000.
    pub spans: u64,
    /// Log records, a multiple of 1,000.
    pub logs: u64,
    /// Over how many seconds they happened.
    pub seconds: u64,
    /// When the last of them happened, nanoseconds since 1970.
    pub ends_at: u64,
    /// What all that is random comes from.
    pub seed: u64,
}

impl Dataset {
    /// How many requests there are.
    pub fn requests(&self) -> u64 {
        (self.spans + self.logs) / BATCH
    }

    /// Returns the moment `seconds` before the end.
    pub fn before_end(&self, seconds: u64) -> u64 {
        self.ends_at - seconds * 1_000_000_000
    }

    /// When the version of `checkout` changes.
    pub fn deployed_at(&self) -> u64 {
        self.before_end(1_800)
    }

    /// Names the traces in the order in which they happened.
    pub fn trace_id(&self, number: u64) -> [u8; 16] {
        let mut id = [0; 16];
        ChaCha8Rng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).fill(&mut id);
        id
    }

    /// Returns one encoded request: spans and logs take turns in the order of their times.
    pub fn request(&self, number: u64) -> (Signal, Vec<u8>) {
        let (spans, logs) = (self.spans / BATCH, self.logs / BATCH);
        // Bresenham's line: after `number` requests this many were spans.
        let before = number * spans / (spans + logs);
        let is_spans = (number + 1) * spans / (spans + logs) > before;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(number));
        if is_spans {
            (Signal::Traces, self.spans_request(before, &mut rng))
        } else {
            (Signal::Logs, self.logs_request(number - before, &mut rng))
        }
    }

    /// A moment inside the `at`th of `of` equal parts of the time.
    fn moment(&self, at: u64, of: u64, rng: &mut ChaCha8Rng) -> u64 {
        let part = self.seconds * 1_000_000_000 / of.max(1);
        let begin = self.ends_at - self.seconds * 1_000_000_000;
        begin + at * part + rng.random_range(0..part.max(1))
    }

    fn spans_request(&self, number: u64, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut by_service: Vec<(&str, Vec<Span>)> = Vec::new();
        for trace in number * BATCH / TRACE..(number + 1) * BATCH / TRACE {
            let mut start = self.moment(number, self.spans / BATCH, rng);
            let (id, route) = (self.trace_id(trace), ROUTES[rng.random_range(0..ROUTES.len())]);
            let mut parent = Vec::new();
            let mut duration: u64 = (rng.random_range(1.0_f64..9.0).exp2() * 1e6) as u64 * 4;
            for (hop, service) in HOPS.into_iter().enumerate() {
                let span = span(&id, &parent, hop, route, start, duration, rng);
                parent.clone_from(&span.span_id);
                start += rng.random_range(1_000..duration / 16);
                duration = duration * 3 / 4;
                match by_service.iter_mut().find(|(name, _)| *name == service) {
                    Some((_, spans)) => spans.push(span),
                    None => by_service.push((service, vec![span])),
                }
            }
        }
        let resource_spans = by_service.into_iter().map(|(service, spans)| {
            let at = spans.first().map_or(0, |span| span.start_time_unix_nano);
            let scope = Some(scope(service));
            let scope_spans = vec![ScopeSpans { scope, spans, schema_url: String::new() }];
            ResourceSpans { resource: Some(self.resource(service, at, rng)), scope_spans, schema_url: String::new() }
        });
        ExportTraceServiceRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
    }

    fn logs_request(&self, number: u64, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let parts = self.logs / BATCH;
        let traces = (self.spans / TRACE).max(1);
        let mut by_service: Vec<(&str, Vec<LogRecord>)> = Vec::new();
        for _ in 0..BATCH {
            let service = HOPS[rng.random_range(0..HOPS.len())];
            let time = self.moment(number, parts, rng);
            let near = number * traces / parts.max(1);
            let trace = self.trace_id((near + rng.random_range(0..125)).min(traces - 1));
            let record = log(service, &trace, time, rng);
            match by_service.iter_mut().find(|(name, _)| *name == service) {
                Some((_, records)) => records.push(record),
                None => by_service.push((service, vec![record])),
            }
        }
        let resource_logs = by_service.into_iter().map(|(service, log_records)| {
            let at = log_records.first().map_or(0, |record| record.time_unix_nano);
            let scope = Some(scope(service));
            let scope_logs = vec![ScopeLogs { scope, log_records, schema_url: String::new() }];
            ResourceLogs { resource: Some(self.resource(service, at, rng)), scope_logs, schema_url: String::new() }
        });
        ExportLogsServiceRequest { resource_logs: resource_logs.collect() }.encode_to_vec()
    }

    fn resource(&self, service: &str, at: u64, rng: &mut ChaCha8Rng) -> Resource {
        let version = if service == "checkout" && at >= self.deployed_at() { "2.0.0" } else { "1.4.2" };
        let attributes = vec![
            text("service.name", service),
            text("service.namespace", "shop"),
            text("service.version", version),
            text("service.instance.id", format!("{service}-{}", rng.random_range(0..12))),
            text("deployment.environment.name", "prod"),
            text("telemetry.sdk.language", "go"),
        ];
        Resource { attributes, ..Default::default() }
    }
}

fn scope(service: &str) -> InstrumentationScope {
    InstrumentationScope { name: format!("shop/{service}"), version: "1.4.2".into(), ..Default::default() }
}

fn span(trace: &[u8], parent: &[u8], hop: usize, route: &str, start: u64, duration: u64, rng: &mut ChaCha8Rng) -> Span {
    let failed = rng.random_ratio(1, 100);
    let mut attributes = vec![
        text("http.request.method", pick(rng, &["GET", "POST", "PUT"])),
        text("http.route", route),
        text("url.path", format!("{}/{}", route.split('{').next().unwrap_or(route), rng.random_range(1000..9999))),
        number("http.response.status_code", if failed { 503 } else { 200 }),
        text("server.address", format!("{}.shop.svc", HOPS[hop])),
        number("server.port", 8080),
        text("client.address", format!("10.{}.{}.7", rng.random_range(0..99), rng.random_range(0..255))),
        text("user_agent.original", pick(rng, &["shop-ios/5.2 (17.4)", "shop-android/5.1", "Mozilla/5.0 (X11)"])),
        text("shop.tenant", format!("tenant-{:03}", rng.random_range(0..200))),
        number("shop.items", rng.random_range(1..40)),
    ];
    // One span in two thousand: an attribute that is rare and everywhere.
    if rng.random_ratio(1, 2_000) {
        attributes.push(text("shop.coupon", format!("coupon-{}", rng.random_range(0..12))));
    }
    Span {
        trace_id: trace.to_vec(),
        span_id: rng.random::<[u8; 8]>().to_vec(),
        parent_span_id: parent.to_vec(),
        name: format!("{} {route}", if hop == 0 { "GET" } else { "call" }),
        kind: if hop == 0 { 2 } else { 2 + (hop as i32 & 1) },
        start_time_unix_nano: start,
        end_time_unix_nano: start + duration,
        attributes,
        status: Some(Status { code: if failed { 2 } else { 0 }, message: String::new() }),
        ..Default::default()
    }
}

fn log(service: &str, trace: &[u8], time: u64, rng: &mut ChaCha8Rng) -> LogRecord {
    let order: u32 = rng.random();
    let tenant = rng.random_range(0..200);
    let (severity_number, severity_text) = if rng.random_ratio(1, 50) { (17, "ERROR") } else { (9, "INFO") };
    let body = format!(
        "[{service}] order {order:08x} of tenant-{tenant:03} processed in {} ms: {} items reserved, payment \
         authorized, confirmation queued",
        rng.random_range(1..900),
        rng.random_range(1..20)
    );
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time + 1_000_000,
        severity_number,
        severity_text: severity_text.into(),
        body: said(body),
        attributes: vec![
            text("code.function.name", "OrderService.process"),
            number("code.line.number", rng.random_range(20..400)),
            text("thread.name", format!("worker-{}", rng.random_range(0..16))),
            text("http.route", pick(rng, &ROUTES)),
            text("shop.tenant", format!("tenant-{tenant:03}")),
        ],
        trace_id: trace.to_vec(),
        span_id: rng.random::<[u8; 8]>().to_vec(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_reproducible_and_hold_what_was_asked_for() {
        let set = Dataset { spans: 4_000, logs: 2_000, seconds: 7_200, ends_at: 1_800_000_000_000_000_000, seed: 7 };
        let (mut spans, mut logs, mut times) = (0, 0, Vec::new());
        for number in 0..set.requests() {
            let (signal, body) = set.request(number);
            assert_eq!(body, set.request(number).1);
            if signal == Signal::Logs {
                let request = ExportLogsServiceRequest::decode(body.as_slice()).expect("it was just encoded");
                logs += request.resource_logs.iter().map(|r| r.scope_logs[0].log_records.len()).sum::<usize>();
            } else {
                let request = ExportTraceServiceRequest::decode(body.as_slice()).expect("it was just encoded");
                for resource in &request.resource_spans {
                    spans += resource.scope_spans[0].spans.len();
                    times.extend(resource.scope_spans[0].spans.iter().map(|span| span.start_time_unix_nano));
                }
            }
        }
        assert_eq!((spans, logs), (4_000, 2_000));
        let (first, last) = (times.iter().min().expect("spans"), times.iter().max().expect("spans"));
        assert!(*first >= set.before_end(7_200) && last - first > 7_000_000_000_000, "{first} to {last}");
    }
}
